// The `bootscope` command: one subcommand a file; errors become one sentence and an exit status here and nowhere else.

import { inspect } from 'node:util';
import { Command, CommanderError, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { COMMAND_GROUPS, COMMANDS, type CommandRow } from './commands.ts';
import { BOOT_OPTIONS_HEADING, isRepeatable, SHOW_ALL_OPTIONS } from './common-options.ts';
import { errorSentence } from './error-sentence.ts';
import { print, printError } from './standard-output.ts';
import { COLOR_CHOICES, type ColorChoice, setColor, terminal } from './terminal.ts';

const EXIT_UNUSABLE = 2;

/** `--help-all` is `--help` with the options that most boots need no thought for. */
const argv = process.argv.map((word) => (word === '--help-all' ? '--help' : word));

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
    getOutHelpWidth: () => terminal().width,
    getErrHelpWidth: () => terminal().width,
    outputError: (text, write) => write(`bootscope: ${sentenceOf(text)} (--help lists what there is)\n`),
  })
  .configureHelp({ groupItems })
  .exitOverride()
  .addHelpCommand(
    new Command('help')
      .argument('[command]')
      .description('list the options of a command')
      .helpGroup(COMMAND_GROUPS.shell),
  )
  .addHelpText(
    'after',
    '\n`bootscope help COMMAND` lists the options of a command, with examples.\n\n' +
      'Exit status: 0 the jump into the kernel was reached; 1 the guest stopped before\n' +
      'it, or a check found a difference; 2 the command or its input is unusable.',
  );

main().catch((error: unknown) => {
  process.exitCode = report(error);
});

async function main(): Promise<void> {
  const [first, second] = argv.slice(2).filter((word) => !word.startsWith('-'));
  const asked = COMMANDS.find(({ name }) => name === (first === 'help' ? second : first));
  for (const row of COMMANDS) {
    // Help that lists commands needs no more than the table.
    if (row === asked) (await row.load())(program);
    else program.command(row.name).description(row.summary);
    finish(program.commands.at(-1)!, row);
  }
  if (first === 'help' && second !== undefined && second !== 'help' && asked === undefined) {
    // As for a command that is asked to run: with the name that is nearly right.
    await program.parseAsync([second], { from: 'user' });
  }
  await program.parseAsync(argv);
}

/** What every command has. */
function finish(command: Command, { group }: CommandRow): void {
  command
    .exitOverride()
    .helpGroup(COMMAND_GROUPS[group])
    .addOption(
      new Option('--color <when>', 'colour the output: always, never, or auto, on a terminal')
        .choices(COLOR_CHOICES)
        .default('auto')
        .hideHelp(!SHOW_ALL_OPTIONS),
    )
    .option('--debug', 'print the stack trace of an error')
    .hook('preAction', () => setColor(command.opts<{ color: ColorChoice }>().color));
  for (const option of command.options) {
    if (option.isBoolean() || option.variadic || isRepeatable(option)) continue;
    let given = 0;
    command.on(`option:${option.name()}`, () => {
      if (++given > 1) command.error(`error: ${option.long} is given twice, and can have one value`);
    });
  }
}

/** A command's own options first, the boot's last. */
function groupItems<T extends Command | Option>(
  all: readonly T[],
  visible: readonly T[],
  groupOf: (item: T) => string,
): Map<string, T[]> {
  const headings = [...new Set([...all, ...visible].map(groupOf))];
  const last = headings.filter((heading) => heading === BOOT_OPTIONS_HEADING);
  const order = [...headings.filter((heading) => heading !== BOOT_OPTIONS_HEADING), ...last];
  return new Map(order.map((heading) => [heading, visible.filter((item) => groupOf(item) === heading)]));
}

/** Commander's message as the rest of a sentence of ours. */
function sentenceOf(text: string): string {
  return text
    .replace(/^error: /, '')
    .trim()
    .replace(/\s*\n\s*/g, ' ')
    .replace(/^option '(?:-\w, )?(--[\w-]+)[^']*' argument ('.*') is invalid\. /, '$1 $2: ')
    .replace(/^command-argument value ('.*') is invalid for argument '(\w+)'\. /, '$2 $1: ')
    .replace(/: Allowed choices are /, ': it is one of ')
    .replace(/\.$/, '');
}

function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help and version end with 0; commander has already printed what there is to say.
    return error.exitCode === 0 ? 0 : EXIT_UNUSABLE;
  }
  if (process.argv.includes('--debug')) printError(`${inspect(error)}\n`);
  else printError(`bootscope: ${errorSentence(error)}\n`);
  return EXIT_UNUSABLE;
}
