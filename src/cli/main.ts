// The `bootscope` command: one subcommand a file; errors become one sentence and an exit status here and nowhere else.

import { inspect } from 'node:util';
import { Command, CommanderError } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { BootscopeError } from '../error.ts';
import { print, printError } from './standard-output.ts';

const EXIT_UNUSABLE = 2;

const program = new Command('bootscope')
  .description(
    'Boots a Linux kernel image on an emulated x86 CPU, from the first real-mode instruction\n' +
      'to the jump into the kernel, and shows what lies where in physical memory at each phase.',
  )
  .version(packageJson.version)
  .option('--debug', 'print the stack trace of an error')
  .configureOutput({
    writeOut: print,
    writeErr: printError,
    outputError: (text, write) => {
      const sentence = text
        .replace(/^error: /, '')
        .trim()
        .replace(/\s*\n\s*/g, ' ')
        .replace(/\.$/, '');
      write(`bootscope: ${sentence} (--help lists what there is)\n`);
    },
  })
  .exitOverride()
  .addHelpText(
    'after',
    '\nExit status: 0 the jump into the kernel was reached; 1 the guest stopped before it, or a check\n' +
      'found a difference; 2 the command or its input is unusable.',
  );

/** Each subcommand with its module; only what is asked for is loaded, since loading all takes longer than some boots. */
const COMMANDS: Readonly<Record<string, () => Promise<(program: Command) => void>>> = {
  boot: async () => (await import('./boot.ts')).registerBoot,
  check: async () => (await import('./check.ts')).registerCheck,
  diff: async () => (await import('./diff.ts')).registerDiff,
  events: async () => (await import('./events.ts')).registerEvents,
  extract: async () => (await import('./extract.ts')).registerExtract,
  info: async () => (await import('./info.ts')).registerInfo,
  kaslr: async () => (await import('./kaslr.ts')).registerKaslr,
  layout: async () => (await import('./layout.ts')).registerLayout,
  lint: async () => (await import('./lint.ts')).registerLint,
  record: async () => (await import('./record.ts')).registerRecord,
  report: async () => (await import('./report.ts')).registerReport,
  trace: async () => (await import('./trace.ts')).registerTrace,
  verify: async () => (await import('./verify.ts')).registerVerify,
};

main().catch((error: unknown) => {
  process.exitCode = report(error);
});

async function main(): Promise<void> {
  const asked = COMMANDS[process.argv[2] ?? ''];
  for (const load of asked === undefined ? Object.values(COMMANDS) : [asked]) (await load())(program);
  for (const command of program.commands) {
    command.exitOverride().option('--debug', 'print the stack trace of an error');
  }
  await program.parseAsync(process.argv);
}

function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help and version end with 0; commander has already printed what there is to say.
    return error.exitCode === 0 ? 0 : EXIT_UNUSABLE;
  }
  if (process.argv.includes('--debug')) printError(`${inspect(error)}\n`);
  else if (error instanceof BootscopeError) printError(`bootscope: ${oneLine(error.message)}\n`);
  else printError(`bootscope: ${oneLine(messageOf(error))} (--debug prints where)\n`);
  return EXIT_UNUSABLE;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `internal error: ${error.message}` : String(error);
}

/** A message that quotes a file may bring its line ends and control characters along. */
function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, ' ');
}
