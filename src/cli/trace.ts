// `bootscope trace IMAGE`: streams every instruction that the boot executes in a span of it, as text or JSON lines.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { INSTRUCTION_CLASSES, type InstructionClass } from '../boot/instruction-decoder.ts';
import { openBoot } from '../boot/session.ts';
import { BootscopeError } from '../error.ts';
import { type MemoryRegion, PHASE_NAMES } from '../trace/boot-trace.ts';
import {
  readKernelNames,
  readKernelSymbols,
  readSetupSymbols,
  readStubSymbols,
} from '../trace/kernel-names.ts';
import { PLACE_HELP, type Place, parsePlace, placeName } from '../trace/place.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples } from './common-options.ts';
import {
  INSTRUCTION_FORMATS,
  type InstructionFormat,
  instructionWriter,
  limitedBatch,
} from './instruction-lines.ts';
import type { LineText } from './line-memory.ts';
import { printError } from './standard-output.ts';
import {
  addCodeSymbolOptions,
  addKernelSymbolFiles,
  type CodeSymbolFlags,
  type KernelSymbolFlags,
} from './symbol-options.ts';

/** Stepping a kernel's boot is slower than running it, which ends by itself; what is no kernel may never end. */
const TIMEOUT_SECONDS = 86_400;

/** Measured with 2.1.4: its translator never comes back from 51 loads in a row that are stepped through. */
const NO_WASM_DECOMPRESSION =
  "the WASM engine cannot step through the guest's own decompression: it hangs at more than 50 instructions without a jump; take the native engine, or leave --decompress emulated out";

interface Flags extends BootFlags, CodeSymbolFlags, KernelSymbolFlags {
  readonly from?: Place;
  readonly to?: Place;
  readonly only?: ReadonlySet<InstructionClass>;
  readonly limit?: number;
  readonly format: InstructionFormat;
  readonly syntax: 'gas' | 'intel';
  readonly operands?: boolean;
  readonly output: string;
  readonly force?: boolean;
}

function placeArgument(text: string): Place {
  try {
    return parsePlace(text);
  } catch (error) {
    if (!(error instanceof BootscopeError)) throw error;
    throw new InvalidArgumentError(`${error.message}.`);
  }
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
  addKernelSymbolFiles(addCodeSymbolOptions(command))
    .addOption(
      new Option(
        '--from <place>',
        `where to begin: ${PLACE_HELP}; by default the first instruction`,
      ).argParser(placeArgument),
    )
    .addOption(
      new Option('--to <place>', "place to stop before; by default the kernel's entry").argParser(
        placeArgument,
      ),
    )
    .addOption(
      new Option('--only <classes>', `only these: ${INSTRUCTION_CLASSES.join(', ')}`).argParser(parseClasses),
    )
    .addOption(new Option('--limit <n>', 'end after so many instructions').argParser(parseLimit))
    .addOption(
      new Option('--format <format>', 'text or JSON lines').choices(INSTRUCTION_FORMATS).default('text'),
    )
    .addOption(new Option('--syntax <syntax>', 'of the disassembly').choices(['gas', 'intel']).default('gas'))
    .option(
      '--operands',
      'with the operands in memory: r, w or rw, bytes, linear address and value, as r4[0x94a60]=0x10',
    )
    .option('-o, --output <file>', 'file to write', '-')
    .option('--force', 'write over a file that is there')
    .action(async (path: string | undefined, flags: Flags) => {
      if (flags.from?.kind === 'phase' && flags.from.phase === 'kernel') {
        throw new BootscopeError(
          'cli-trace',
          '--from kernel leaves nothing to trace: a boot ends at the jump into the kernel',
        );
      }
      const { image, options } = await readBootRequest(path, flags);
      const stubSymbols = await readStubSymbols(flags);
      const setupSymbols = await readSetupSymbols(flags.setupElf);
      const kernelSymbols = await readKernelSymbols(flags);
      const force = flags.force === true;
      const writer = instructionWriter(flags.output, force, flags.format, flags.only !== undefined);
      const { output } = writer;
      const { from, to } = flags;

      using session = await openBoot(image, {
        ...options,
        ...{ hash: false, pageTables: false, shortcuts: options.shortcuts && 'instructions' },
        events: [from, to].some((place) => place?.kind === 'event'),
        timeoutSeconds: options.timeoutSeconds ?? (image.payload === null ? null : TIMEOUT_SECONDS),
      });
      if (options.decompress === 'emulated' && session.machine.cpu.engine === 'wasm') {
        throw new BootscopeError('cli-trace', NO_WASM_DECOMPRESSION);
      }
      let setup: MemoryRegion | null = null;
      /** Of an address in the boot stub, wherever that lies now, or in setup. */
      const nameOf = (address: number): string | null => {
        const offset = address - (session.zo ?? address + 1);
        if (offset >= 0 && offset < image.protectedModeCode.length) {
          return stubSymbols?.name(BigInt(offset)) ?? null;
        }
        if (setupSymbols === null) return null;
        setup ??= session.layout().find(({ role }) => role === 'setup') ?? null;
        const inSetup = setup !== null && setup.start <= address && address < setup.end;
        return inSetup ? setupSymbols.name(BigInt(address) - setup!.start) : null;
      };
      let stop = from === undefined ? session.stop : await session.run({ until: from });
      if (stop.reason === 'ended' && from !== undefined && !output.closed) {
        throw new BootscopeError('cli-trace', `the boot never came to ${placeName(from)} (--from)`);
      }
      let left = flags.limit ?? Number.POSITIVE_INFINITY;
      const full = new AbortController();
      const wrote = (lines: number): void => {
        left -= lines;
        if (left === 0 || output.closed) full.abort();
      };
      const stream = session.stream<LineText>({
        syntax: flags.syntax,
        describe: (instruction) => {
          if (output.closed) full.abort();
          const wanted =
            flags.only === undefined || instruction.classes.some((each) => flags.only!.has(each));
          return wanted ? writer.prefix(instruction, nameOf) : null;
        },
        operands: flags.operands === true,
        executed: (prefix, iterations, changes, details) => {
          if (left === 0) return;
          writer.instruction(prefix, iterations, changes, details);
          wrote(1);
        },
        batch: limitedBatch(writer.batch, () => left, wrote),
      });
      /** Where the kernel begins; its name is only known when the boot has ended. */
      let kernelAt: number | null = null;
      const until = to === undefined ? [...PHASE_NAMES] : [...PHASE_NAMES, to];
      const tell = (): void => {
        const { phase, address } = stop;
        const place = Number(address);
        if (phase === 'kernel') kernelAt = place;
        else {
          const note = phase === 'decompressed' ? 'extract_kernel was done in TypeScript' : null;
          writer.phase(phase!, place, nameOf(place), note);
        }
      };
      if (stop.reason === 'phase') tell();
      for (;;) {
        stop = await session.run({ until, signal: full.signal });
        if (stop.reason !== 'phase' || (to?.kind === 'phase' && to.phase === stop.phase)) break;
        tell();
      }
      stream.finish(Number(stop.address));
      const trace = session.trace();
      if (kernelAt !== null && !output.closed) {
        const names = await readKernelNames(kernelSymbols, image, trace);
        writer.phase('kernel', kernelAt, names?.(BigInt(kernelAt)) ?? null, null);
      }
      output.end();
      if (output.closed) return;
      if (stop.reason === 'ended' && to !== undefined && trace.stopped === null) {
        throw new BootscopeError('cli-trace', `the boot never came to ${placeName(to)} (--to)`);
      }
      if (trace.stopped !== null) printError(`bootscope: no kernel was reached: ${trace.stopped}\n`);
      process.exitCode = trace.stopped === null ? 0 : 1;
    });
}
