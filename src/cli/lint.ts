// `bootscope lint IMAGE`: says what goes wrong by where a loader puts things, and nothing else.

import type { Command } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { toJson } from '../report/json.ts';
import { formatHazards } from '../report/layout-map.ts';
import { HAZARD_SECTIONS } from '../trace/hazard-sections.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { withProgress } from './progress.ts';
import { isTerminal, print } from './standard-output.ts';
import { terminal } from './terminal.ts';
import { printable, printJson, printText } from './text-output.ts';

interface Flags extends BootFlags {
  readonly json?: boolean;
}

/** Adds the subcommand `lint`. */
export function registerLint(program: Command): void {
  const command = program
    .command('lint')
    .description(
      'boot IMAGE and print only the hazards of where things were placed; exit status 1 if there is one',
    )
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    [
      'bootscope lint vmlinuz --initrd initrd.img --initrd-address 0x1343000',
      'will the initrd survive there?',
    ],
    [
      'bootscope lint vmlinuz --entry prot32 --load-address 0x1000000 --memory-map map',
      "a boot loader's choices",
    ],
  ]);
  addBootOptions(command, { without: ['hash'] });
  addJsonOption(command, 'the hazards').action(async (path: string | undefined, flags: Flags) => {
    const { image, options } = await readBootRequest(path, flags);
    const finished = await withProgress(`booting ${image.path}`, () =>
      boot(image, {
        ...options,
        ...{ hash: false, events: false },
      }),
    );
    const { hazards, stopped } = finished.trace;
    finished.close();
    if (flags.json === true) {
      const judged = hazards.map((hazard) => ({ ...hazard, section: HAZARD_SECTIONS[hazard.code] }));
      printJson(toJson({ image: image.path, stopped, hazards: judged }));
    } else if (hazards.length > 0) {
      const { color, width } = terminal();
      print(formatHazards(printable(hazards), color, isTerminal('stdout') ? width : undefined, true));
    } else if (stopped === null) {
      printText(`${image.path}: no hazards\n`);
    }
    if (hazards.length > 0) process.exitCode = 1;
    else if (stopped !== null) {
      throw new BootscopeError(
        'lint-stopped',
        `${image.path}: no hazards were seen, but the kernel was not reached: ${stopped}`,
      );
    }
  });
}
