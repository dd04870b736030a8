// What the commands' options and help have in common: options of one meaning, examples, which may be repeated, and how their
// texts become numbers.

import { type Command, InvalidArgumentError, Option } from 'commander';

/** `--help-all` lists the options that are in the boot's group, too, and not in the short help. */
export const SHOW_ALL_OPTIONS: boolean = process.argv.includes('--help-all');

export const BOOT_OPTIONS_HEADING = 'Boot options:';

const repeatableOptions = new WeakSet<Option>();

/** An option that may be given more than once, each time adding to what was given before. */
export function repeatable(option: Option): Option {
  repeatableOptions.add(option);
  return option;
}

/** Two or three ways to use a command, each with what it is for, behind its options in the help. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [line: string, why: string])[],
): Command {
  const lines = examples.map(([line, why]) => `  ${line}\n      ${why}`);
  return command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}

export function isRepeatable(option: Option): boolean {
  return repeatableOptions.has(option);
}

/** @param what - what is printed, as in `print the trace as JSON` */
export function addJsonOption(command: Command, what: string): Command {
  return command.option('--json', `print ${what} as JSON`);
}

/** `-o` and `--force` of a command that writes a file. */
export function addOutputOptions(
  command: Command,
  { required = true, what = 'where it goes' }: { readonly required?: boolean; readonly what?: string } = {},
): Command {
  const output = new Option('-o, --output <file>', `${what}; - for standard output`);
  if (required) output.makeOptionMandatory();
  else output.default('-');
  return command.addOption(output).option('--force', 'write over a file that is there');
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** `512M`, `1G`, `0x20000000` or bytes. */
export function parseSize(text: string): number {
  const match = /^(0x[0-9a-f]+|\d+)([kmgt]?)(?:i?b)?$/i.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('it is a size such as 512M, 1G or 0x20000000.');
  }
  return value;
}

/** `0x1343000` or a decimal number. */
export function parseAddress(text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value) || value >= 2 ** 52) {
    throw new InvalidArgumentError('it is a physical address of at most 52 bits such as 0x1000000.');
  }
  return value;
}

/** A whole number in a range, for `Option.argParser`. @param what - `boots`, in the message */
export function wholeNumber(what: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) {
      throw new InvalidArgumentError(`it is a number of ${what} from ${least} to ${most}.`);
    }
    return value;
  };
}

export function parseSeconds(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value))
    throw new InvalidArgumentError('it is a number of seconds above 0.');
  return value;
}
