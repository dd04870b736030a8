// Boot options in a text of their own, for one of several boots of a command: `--b-options "--memory 1G"`.

import { Command, CommanderError } from 'commander';
import { BootscopeError } from '../error.ts';
import { addBootOptions, type BootFlags } from './boot-options.ts';

/** Only what the text really says, so that it goes over the shared options and no default does. */
export function parseOwnOptions(text: string, option: string): Partial<BootFlags> {
  const parser = addBootOptions(new Command(option), { without: ['fromState'] })
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  try {
    parser.parse(splitWords(text, option), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new BootscopeError('cli-option', `${option}: ${error.message.replace(/^error: |\\.$/g, '')}`);
  }
  if (parser.args.length > 0) {
    throw new BootscopeError('cli-option', `${option}: \`${parser.args[0]}\` is no boot option`);
  }
  return Object.fromEntries(
    Object.entries(parser.opts()).filter(([name]) => parser.getOptionValueSource(name) === 'cli'),
  ) as Partial<BootFlags>;
}

/** Words parted by spaces; single or double quotes hold spaces, a backslash any character. */
function splitWords(text: string, option: string): string[] {
  const words: string[] = [];
  const pattern = /\s*((?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+)/gy;
  let end = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    end = pattern.lastIndex;
    words.push(
      match[1]!.replace(/\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/g, (_, escaped, double, single) =>
        escaped !== undefined ? String(escaped) : (single ?? String(double).replace(/\\(.)/g, '$1')),
      ),
    );
  }
  if (text.slice(end).trim() !== '') {
    throw new BootscopeError('cli-option', `${option}: a quote in \`${text}\` is not closed`);
  }
  return words;
}
