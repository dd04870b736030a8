// `bootscope record IMAGE -o ref.json`: writes a boot as a reference that later boots are checked against.

import { dirname, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { boot } from '../boot/boot.ts';
import { recordedOptions } from '../boot/recorded-options.ts';
import { makeReference } from '../report/reference-file.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addOutputOptions } from './common-options.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { withProgress } from './progress.ts';
import { printError } from './standard-output.ts';

interface Flags extends BootFlags {
  readonly output: string;
  readonly ignore?: readonly string[];
  readonly force?: boolean;
}

export function registerRecord(program: Command): void {
  const command = program
    .command('record')
    .description('boot IMAGE and write what happened as a reference for `check`')
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope record vmlinuz --cmdline nokaslr -o ref.json', 'all of a boot'],
    [
      'bootscope record vmlinuz -o ref.json --ignore image segments.sha256',
      'for builds whose code may change',
    ],
  ]);
  addBootOptions(addOutputOptions(command, { what: 'where the reference goes' }), { without: ['fromState'] })
    .option('--ignore <field...>', 'fields that checks against this reference leave out')
    .action(async (path: string | undefined, flags: Flags) => {
      checkOutput(flags.output, flags.force === true);
      const { image, options } = await readBootRequest(path, flags);
      const { trace, close } = await withProgress(`booting ${image.path}`, () => boot(image, options));
      close();
      // A floppy that nothing else is beside is checked as an image is.
      const withoutImage =
        path === undefined && (options.disks.length > 0 || options.cdrom !== null || options.esp !== null);
      const floppy = path === undefined && !withoutImage ? null : (flags.floppy ?? null);
      const recorded = recordedOptions(options, trace.machine.entry, floppy, withoutImage);
      const here = flags.output === '-' ? process.cwd() : dirname(resolve(flags.output));
      const fromHere = (file: string | null | undefined): string | null =>
        file == null ? null : relative(here, resolve(file));
      const files = {
        initrd: fromHere(recorded.initrd),
        floppy: fromHere(recorded.floppy),
        disks: recorded.disks?.map((each) => relative(here, resolve(each))) ?? [],
        cdrom: fromHere(recorded.cdrom),
        esp: fromHere(recorded.esp),
      };
      const reference = makeReference(trace, image, { ...recorded, ...files }, flags.ignore);
      await writeOutput(flags.output, `${JSON.stringify(reference, null, 2)}\n`, flags.force === true);
      if (trace.stopped !== null) {
        printError(`bootscope: no kernel was reached: ${trace.stopped}\n`);
      }
      process.exitCode = trace.kernel === null ? 1 : 0;
    });
}
