// `bootscope trace IMAGE`: streams every instruction that the boot executes in a span of it, as text or JSON lines.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { INSTRUCTION_CLASSES, type InstructionClass } from '../boot/instruction-decoder.ts';
import { InstructionStream } from '../boot/instruction-stream.ts';
import type { BootControl } from '../boot/options.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { PHASE_NAMES, type Phase, type PhaseName } from '../trace/boot-trace.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples } from './common-options.ts';
import { INSTRUCTION_FORMATS, type InstructionFormat, instructionWriter } from './instruction-lines.ts';
import { readKernelNames, readKernelSymbols, readStubSymbols } from './kernel-names.ts';
import { LineOutput } from './line-output.ts';
import { printError } from './standard-output.ts';
import {
  addKernelSymbolFiles,
  addStubSymbolOptions,
  type KernelSymbolFlags,
  type StubSymbolFlags,
} from './symbol-options.ts';

/** Stepping a kernel's boot is slower than running it, which ends by itself; what is no kernel may never end. */
const TIMEOUT_SECONDS = 86_400;

type Place = { readonly phase: PhaseName } | { readonly address: number };

interface Flags extends BootFlags, StubSymbolFlags, KernelSymbolFlags {
  readonly from?: Place;
  readonly to?: Place;
  readonly only?: ReadonlySet<InstructionClass>;
  readonly limit?: number;
  readonly format: InstructionFormat;
  readonly syntax: 'gas' | 'intel';
  readonly output: string;
  readonly force?: boolean;
}

function parsePlace(text: string): Place {
  const phase = PHASE_NAMES.find((name) => name === text);
  if (phase !== undefined) return { phase };
  const address = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(address)) {
    throw new InvalidArgumentError(
      `it is a linear address such as 0x100000, or a phase: ${PHASE_NAMES.join(', ')}.`,
    );
  }
  return { address };
}

function parseClasses(text: string): ReadonlySet<InstructionClass> {
  const classes = text.split(',').map((part) => INSTRUCTION_CLASSES.find((name) => name === part.trim()));
  if (classes.includes(undefined)) {
    throw new InvalidArgumentError(`it is a list of: ${INSTRUCTION_CLASSES.join(', ')}.`);
  }
  return new Set(classes as InstructionClass[]);
}

function parseLimit(text: string): number {
  const limit = /^\d+$/.test(text) ? Number(text) : 0;
  if (!Number.isSafeInteger(limit) || limit === 0) {
    throw new InvalidArgumentError('it is a number of instructions, 1 or more.');
  }
  return limit;
}

function placeName(place: Place): string {
  return 'phase' in place ? place.phase : `${hex(place.address)}`;
}

export function registerTrace(program: Command): void {
  const command = program
    .command('trace')
    .description('boot IMAGE and print each instruction that the CPU executes, with the registers it changed')
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope trace vmlinuz --to startup_64 | head', 'from the first real-mode instruction on'],
    [
      'bootscope trace vmlinuz --only calls --zo-vmlinux arch/x86/boot/compressed/vmlinux',
      'calls alone, with names',
    ],
  ]);
  addBootOptions(command, { timeouts: `${TIMEOUT_SECONDS}; 10 without a kernel`, without: ['hash'] });
  addKernelSymbolFiles(addStubSymbolOptions(command))
    .addOption(
      new Option(
        '--from <place>',
        'first phase or linear address; by default the first instruction',
      ).argParser(parsePlace),
    )
    .addOption(
      new Option(
        '--to <place>',
        "phase or linear address to stop before; by default the kernel's entry",
      ).argParser(parsePlace),
    )
    .addOption(
      new Option('--only <classes>', `only these: ${INSTRUCTION_CLASSES.join(', ')}`).argParser(parseClasses),
    )
    .addOption(new Option('--limit <n>', 'end after so many instructions').argParser(parseLimit))
    .addOption(
      new Option('--format <format>', 'text or JSON lines').choices(INSTRUCTION_FORMATS).default('text'),
    )
    .addOption(new Option('--syntax <syntax>', 'of the disassembly').choices(['gas', 'intel']).default('gas'))
    .option('-o, --output <file>', 'file to write', '-')
    .option('--force', 'write over a file that is there')
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const stubSymbols = await readStubSymbols(flags);
      const kernelSymbols = await readKernelSymbols(flags);
      const output = new LineOutput(flags.output, flags.force === true);
      const writer = instructionWriter(output, flags.format, flags.only !== undefined);
      const { from, to } = flags;

      let control: BootControl | null = null;
      let stream: InstructionStream<Uint8Array> | null = null;
      let started = false;
      let ended = false;
      let left = flags.limit ?? Number.POSITIVE_INFINITY;
      /** Where the kernel begins; its name is only known when the boot has ended. */
      let kernelAt: number | null = null;
      /** Of an address in the boot stub, wherever that lies now. */
      const nameInStub = (address: number): string | null => {
        const offset = address - (control?.zo ?? address + 1);
        if (offset < 0 || offset >= image.protectedModeCode.length) return null;
        return stubSymbols?.name(BigInt(offset)) ?? null;
      };
      const start = (): void => {
        started = true;
        stream?.start();
      };
      const end = (): void => {
        ended = true;
        control?.finish();
      };
      const onPhase = (phase: Phase): void => {
        const { name } = phase;
        const place = Number(phase.address);
        stream?.arrive(place);
        if (left === 0) return;
        // The steps of a trapped extract_kernel have its address.
        if (name === 'decompressed') stream?.drop(place);
        if (to !== undefined && 'phase' in to && to.phase === name && (started || from === undefined)) {
          stream?.drop(place);
          end();
          return;
        }
        if (name === 'kernel') stream?.drop(place);
        if (stream !== null && from !== undefined && 'phase' in from && from.phase === name) start();
        if (!started && from !== undefined) return;
        if (name === 'kernel') kernelAt = place;
        else {
          const note = name === 'decompressed' ? 'extract_kernel was done in TypeScript' : null;
          writer.phase(name, place, nameInStub(place), note);
        }
      };
      const onReady = (ready: BootControl): void => {
        control = ready;
        const steps = new InstructionStream<Uint8Array>(ready.machine, {
          syntax: flags.syntax,
          describe: (instruction) => {
            if (output.closed) end();
            const wanted =
              flags.only === undefined || instruction.classes.some((each) => flags.only!.has(each));
            if (!wanted) return null;
            return writer.prefix(instruction, nameInStub);
          },
          executed: (prefix, iterations, changes) => {
            if (left === 0) return;
            writer.instruction(prefix, iterations, changes);
            if (--left === 0 || output.closed) end();
          },
          ...(to !== undefined && 'address' in to ? { end: { address: to.address, reached: end } } : {}),
        });
        stream = steps;
        ready.onResume = () => steps.resumed();
        if (from === undefined || ('phase' in from && from.phase === ready.phase)) start();
        else if ('address' in from) {
          const address = BigInt(from.address);
          const unhook = ready.machine.cpu.hookCode(address, address, () => {
            unhook();
            if (!started) start();
          });
        }
      };

      const { trace } = await boot(image, {
        ...options,
        ...{ hash: false, pageTables: false, fastStrings: false, events: false, countInstructions: false },
        timeoutSeconds: options.timeoutSeconds ?? (image.payload === null ? null : TIMEOUT_SECONDS),
        onPhase,
        onReady,
      });
      (stream as InstructionStream<Uint8Array> | null)?.stop();
      if (kernelAt !== null && !output.closed) {
        const names = await readKernelNames(kernelSymbols, image, trace);
        writer.phase('kernel', kernelAt, names?.(BigInt(kernelAt)) ?? null, null);
      }
      output.end();
      if (output.closed) return;
      if (!started && from !== undefined) {
        throw new BootscopeError('cli-trace', `the boot never came to ${placeName(from)} (--from)`);
      }
      if (!ended && to !== undefined && trace.stopped === null) {
        throw new BootscopeError('cli-trace', `the boot never came to ${placeName(to)} (--to)`);
      }
      if (trace.stopped !== null) printError(`bootscope: no kernel was reached: ${trace.stopped}\n`);
      process.exitCode = trace.stopped === null ? 0 : 1;
    });
}
