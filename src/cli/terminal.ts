// What can be done on standard output: colours and the length of a line.

import { isTerminal } from './standard-output.ts';

/** Columns of a line where the output is no terminal. */
const COLUMNS = 100;
const MAX_COLUMNS = 140;

export const COLOR_CHOICES = ['auto', 'always', 'never'] as const;
export type ColorChoice = (typeof COLOR_CHOICES)[number];

let choice: ColorChoice = 'auto';

/** What `--color` says. */
export function setColor(when: ColorChoice): void {
  choice = when;
}

/** Colours as `--color` says, then FORCE_COLOR, then NO_COLOR (no-color.org), else on a terminal only. */
export function terminal(): { readonly color: boolean; readonly width: number } {
  const columns = isTerminal('stdout') ? process.stdout.columns : undefined;
  return {
    color: choice === 'auto' ? wantsColor(columns !== undefined) : choice === 'always',
    width: Math.min(MAX_COLUMNS, Math.max(80, columns ?? COLUMNS)),
  };
}

function wantsColor(onTerminal: boolean): boolean {
  const { FORCE_COLOR: force, NO_COLOR: none, TERM: kind } = process.env;
  if (force !== undefined) return force !== '0' && force !== 'false';
  if (none !== undefined && none !== '') return false;
  return onTerminal && kind !== 'dumb';
}
