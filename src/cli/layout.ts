// `bootscope layout IMAGE`: boots and draws the memory map of each phase.

import { type Command, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { readElf } from '../image/elf.ts';
import { readImageFile } from '../image/image-file.ts';
import { formatLayout } from '../report/layout-map.ts';
import { PHASE_NAMES, type PhaseName } from '../trace/boot-trace.ts';
import { nameStubSections } from '../trace/stub-sections.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { print } from './standard-output.ts';
import { terminal } from './terminal.ts';

interface Flags extends BootFlags {
  readonly phase?: PhaseName;
  readonly all?: boolean;
  readonly zoVmlinux?: string;
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
  addBootOptions(command)
    .addOption(new Option('--phase <name>', 'draw this phase alone').choices([...PHASE_NAMES]))
    .option('--zo-vmlinux <file>', "the stub's ELF file, arch/x86/boot/compressed/vmlinux, for exact bounds")
    .option('--all', 'draw every region: also small sections, and what has not changed')
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const finished = await boot(image, { ...options, hash: false, events: false });
      finished.close();
      const trace =
        flags.zoVmlinux === undefined
          ? finished.trace
          : nameStubSections(finished.trace, readElf(await readImageFile(flags.zoVmlinux)));
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
