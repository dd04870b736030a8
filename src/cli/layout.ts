// `bootscope layout IMAGE`: boots and draws the memory map of each phase.

import { type Command, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { formatLayout } from '../report/layout-map.ts';
import { PHASE_NAMES, type PhaseName } from '../trace/boot-trace.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples } from './common-options.ts';
import { print } from './standard-output.ts';
import {
  addKernelSymbolOptions,
  addStubSymbolOptions,
  type KernelSymbolFlags,
  namesOnRequest,
  type StubSymbolFlags,
} from './symbol-options.ts';
import { terminal } from './terminal.ts';

interface Flags extends BootFlags, StubSymbolFlags, KernelSymbolFlags {
  readonly phase?: PhaseName;
  readonly all?: boolean;
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
  addKernelSymbolOptions(addStubSymbolOptions(command, { bounds: true }))
    .addOption(new Option('--phase <name>', 'draw this phase alone').choices([...PHASE_NAMES]))
    .option('--all', 'draw every region: also small sections, and what has not changed')
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const named = await namesOnRequest(flags);
      const finished = await boot(image, {
        ...options,
        ...{ hash: false, events: false },
      });
      finished.close();
      const trace = await named(finished.trace, image);
      const { phase } = flags;
      if (phase !== undefined && !trace.phases.some(({ name }) => name === phase)) {
        const names = trace.phases.map(({ name }) => name).join(', ');
        throw new BootscopeError('cli-phase', `this boot has no phase ${phase}; it has ${names}`);
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
