// `bootscope completion SHELL`: prints what a shell needs to complete commands, options and their values, made of the commands'
// own tables.

import { Argument, Command } from 'commander';
import { COMMANDS } from './commands.ts';
import { addExamples } from './common-options.ts';
import { print } from './standard-output.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export function registerCompletion(program: Command): void {
  const command = program
    .command('completion')
    .description('print the completions of commands, options and values for a shell')
    .addArgument(new Argument('<shell>', 'the shell they are for').choices(SHELLS));
  addExamples(command, [
    ['source <(bootscope completion bash)', 'in ~/.bashrc; the same with zsh in ~/.zshrc'],
    ['bootscope completion fish > ~/.config/fish/completions/bootscope.fish', 'once'],
  ]);
  command.action(async (shell: Shell) => {
    const commands = await loadCommands();
    print({ bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion }[shell](commands));
  });
}

/** All commands with their options, as one program that is never run. */
export async function loadCommands(): Promise<readonly Command[]> {
  const program = new Command('bootscope');
  for (const { load } of COMMANDS) (await load())(program);
  return program.commands;
}

interface OptionWords {
  readonly flags: readonly string[];
  /** Values to choose from; empty for a file name or free text; null where it takes none. */
  readonly values: readonly string[] | null;
  readonly description: string;
}

/** One sentence without what a shell would take for its own. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[`'"$\\[\]:]/g, '');
}

function optionsOf(command: Command): readonly OptionWords[] {
  return command.options.map(({ short, long, required, optional, argChoices, description }) => ({
    flags: [short, long].filter((flag) => flag != null),
    values: required || optional ? (argChoices ?? []) : null,
    description: oneLine(description),
  }));
}

function bashCompletion(commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const options = optionsOf(command);
    const values = options
      .filter(({ values: choices }) => choices !== null && choices.length > 0)
      .map(
        ({ flags, values: choices }) =>
          `        ${flags.join('|')}) COMPREPLY=($(compgen -W '${choices!.join(' ')}' -- "$word")); return ;;\n`,
      );
    const words = options.flatMap(({ flags }) => flags).join(' ');
    const choose = values.length === 0 ? '' : `      case $before in\n${values.join('')}      esac\n`;
    return `    ${command.name()})\n${choose}      words='${words} --help --help-all' ;;\n`;
  });
  return (
    '_bootscope() {\n' +
    // biome-ignore lint/suspicious/noTemplateCurlyInString: bash's
    "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=''\n" +
    '  if [ "$COMP_CWORD" -eq 1 ]; then\n' +
    `    COMPREPLY=($(compgen -W '${commands.map((command) => command.name()).join(' ')} help' -- "$word"))\n` +
    '    return\n  fi\n' +
    // biome-ignore lint/suspicious/noTemplateCurlyInString: bash's
    '  case ${COMP_WORDS[1]} in\n' +
    `    help) words='${commands.map((command) => command.name()).join(' ')}' ;;\n` +
    `${cases.join('')}  esac\n` +
    '  COMPREPLY=($(compgen -W "$words" -- "$word"))\n' +
    '}\n' +
    'complete -o default -o bashdefault -F _bootscope bootscope\n'
  );
}

function zshCompletion(commands: readonly Command[]): string {
  const names = commands.map((command) => `    '${command.name()}:${oneLine(summaryOf(command))}'\n`);
  const cases = commands.map((command) => {
    const lines = optionsOf(command).flatMap(({ flags, values, description }) =>
      flags.map((flag) => {
        const value =
          values === null ? '' : `:value:${values.length > 0 ? `(${values.join(' ')})` : '_files'}`;
        return `        '${flag}[${description}]${value}'`;
      }),
    );
    return `    ${command.name()})\n      _arguments \\\n${[...lines, "        '*:file:_files'"].join(' \\\n')} ;;\n`;
  });
  return (
    '#compdef bootscope\n_bootscope() {\n  local -a commands=(\n' +
    `${names.join('')}  )\n` +
    '  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n' +
    '  shift words\n  (( CURRENT-- ))\n' +
    // biome-ignore lint/suspicious/noTemplateCurlyInString: zsh's
    '  case ${words[1]} in\n' +
    `${cases.join('')}  esac\n}\n` +
    'if [ "$funcstack[1]" = _bootscope ]; then _bootscope "$@"; else compdef _bootscope bootscope; fi\n'
  );
}

function fishCompletion(commands: readonly Command[]): string {
  let text = '';
  for (const command of commands) {
    text += `complete -c bootscope -n __fish_use_subcommand -f -a ${command.name()} -d '${oneLine(summaryOf(command))}'\n`;
    for (const { flags, values, description } of optionsOf(command)) {
      const words = flags.map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const value = values === null ? '' : values.length > 0 ? ` -x -a '${values.join(' ')}'` : ' -r';
      text += `complete -c bootscope -n '__fish_seen_subcommand_from ${command.name()}' ${words.join(' ')}${value} -d '${description}'\n`;
    }
  }
  return text;
}

function summaryOf(command: Command): string {
  return COMMANDS.find(({ name }) => name === command.name())?.summary ?? '';
}
