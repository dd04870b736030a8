// `bootscope boot IMAGE`: boots and prints the phases, the kernel's segments and the entry.

import type { Command } from 'commander';
import { openBoot } from '../boot/session.ts';
import { traceToJson } from '../report/json.ts';
import { formatTrace } from '../report/table.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { checkVariablesFile, writeVariablesFile } from './efi-variables-output.ts';
import { isTerminal, printError, printStatus } from './standard-output.ts';
import {
  addKernelSymbolOptions,
  addStubSymbolOptions,
  type KernelSymbolFlags,
  namesOnRequest,
  type StubSymbolFlags,
} from './symbol-options.ts';
import { printJson, printText } from './text-output.ts';

interface Flags extends BootFlags, StubSymbolFlags, KernelSymbolFlags {
  readonly json?: boolean;
  readonly time?: boolean;
  readonly saveEfiVars?: string;
}

export function registerBoot(program: Command): void {
  const command = program
    .command('boot')
    .description('boot IMAGE to the jump into the kernel and print each phase with its addresses')
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    [
      "bootscope boot vmlinuz --cmdline 'nokaslr console=ttyS0' --initrd initrd.img --memory 1G",
      'as a boot loader would',
    ],
    [
      'bootscope boot vmlinuz --kaslr seed:1 --json',
      'with KASLR, as data; the same seed gives the same bytes',
    ],
  ]);
  addStubSymbolOptions(addKernelSymbolOptions(addBootOptions(command)));
  addJsonOption(command, 'the trace')
    .option(
      '--save-efi-vars <file>',
      'write the EFI variables that stay, as the boot has left them: a new file, or one that --efi-vars reads as JSON',
    )
    .option('--time', "also print the host's time at each phase")
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const json = flags.json === true;
      const named = await namesOnRequest(flags);
      // The machine is not closed: the process ends with it.
      const session = await openBoot(image, {
        ...options,
        // What the table does not show need not be computed: half a second on a large kernel and a slow host.
        hash: flags.hash ?? json,
        pageTables: json,
        events: false,
      });
      if (flags.saveEfiVars !== undefined) await checkVariablesFile(flags.saveEfiVars, session.machine);
      if (isTerminal('stderr') && !json) {
        for await (const { phase } of session.phases()) printStatus(`${phase} …`);
        printStatus();
      } else {
        await session.run();
      }
      const trace = await named(session.trace(), image);
      if (flags.saveEfiVars !== undefined) await writeVariablesFile(flags.saveEfiVars, session.machine);
      if (json) printJson(traceToJson(trace));
      else printText(formatTrace(trace, { time: flags.time === true }));
      // Where nobody sees the table, the reason for the exit status still has to be seen.
      if (trace.stopped !== null && (json || !isTerminal('stdout'))) {
        printError(`bootscope: no kernel was reached: ${trace.stopped}\n`);
      }
      process.exitCode = trace.kernel === null ? 1 : 0;
    });
}
