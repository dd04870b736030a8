// `bootscope layout IMAGE`: boots and draws the memory map of each phase.

import { type Command, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { type Json, toJson } from '../report/json.ts';
import { formatLayout } from '../report/layout-map.ts';
import { type BootTrace, PHASE_NAMES, type PhaseName } from '../trace/boot-trace.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { withProgress } from './progress.ts';
import { print } from './standard-output.ts';
import {
  addKernelSymbolOptions,
  addStubSymbolOptions,
  type KernelSymbolFlags,
  namesOnRequest,
  type StubSymbolFlags,
} from './symbol-options.ts';
import { terminal } from './terminal.ts';
import { printable, printJson } from './text-output.ts';

interface Flags extends BootFlags, StubSymbolFlags, KernelSymbolFlags {
  readonly phase?: PhaseName;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Adds the subcommand `layout`. */
export function registerLayout(program: Command): void {
  const command = program
    .command('layout')
    .description('boot IMAGE and draw what lies where in physical memory at each phase')
    .argument(...IMAGE_ARGUMENT)
    .addHelpText(
      'after',
      '\nMarks: + the phase adds it, > it has moved, ! bytes of it were overwritten; ~ its bounds are deduced.\n' +
        'Bars: █ contents, ░ room that is kept, × overwritten, ▓ in danger; ┊ memory left out, or another scale.',
    );
  addExamples(command, [
    ['bootscope layout vmlinuz --cmdline nokaslr', 'physical memory, drawn phase by phase'],
    ['bootscope layout vmlinuz --phase decompressed --all', 'one phase, with every region'],
  ]);
  addBootOptions(command, { without: ['hash'] });
  addJsonOption(command, 'each phase with its regions and what was overwritten');
  addKernelSymbolOptions(addStubSymbolOptions(command, { bounds: true }))
    .addOption(new Option('--phase <name>', 'draw this phase alone').choices([...PHASE_NAMES]))
    .option('--all', 'draw every region: also small sections, and what has not changed')
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const named = await namesOnRequest(flags);
      const finished = await withProgress(`booting ${image.path}`, () =>
        boot(image, {
          ...options,
          ...{ hash: false, events: false },
        }),
      );
      finished.close();
      const trace = printable(await named(finished.trace, image));
      const { phase } = flags;
      if (phase !== undefined && !trace.phases.some(({ name }) => name === phase)) {
        const names = trace.phases.map(({ name }) => name).join(', ');
        throw new BootscopeError('cli-phase', `this boot has no phase ${phase}; it has ${names}`);
      }
      if (flags.json === true) {
        printJson(layoutToJson(trace, phase ?? null));
        process.exitCode = trace.kernel === null ? 1 : 0;
        return;
      }
      print(
        formatLayout(trace, {
          ...terminal(),
          all: flags.all === true,
          ...(phase === undefined ? {} : { phase }),
        }),
      );
      process.exitCode = trace.kernel === null ? 1 : 0;
    });
}

/** The part of the trace that says what lies where, in its words. */
function layoutToJson({ image, machine, phases, hazards, stopped }: BootTrace, only: PhaseName | null): Json {
  return toJson({
    image,
    machine,
    phases: phases
      .filter(({ name }) => only === null || name === only)
      .map(({ name, address, mode, regions, overwritten }) => ({
        name,
        address,
        mode,
        regions,
        overwritten,
      })),
    hazards,
    stopped,
  });
}
