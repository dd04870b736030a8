// What can be done on standard output: colours and the length of a line.

import { isTerminal } from './standard-output.ts';

/** Columns of a line where the output is no terminal. */
const COLUMNS = 100;
const MAX_COLUMNS = 140;

/** Colours on a terminal only, and not where NO_COLOR is set (no-color.org). */
export function terminal(): { readonly color: boolean; readonly width: number } {
  const columns = isTerminal('stdout') ? process.stdout.columns : undefined;
  const noColor = process.env['NO_COLOR'];
  return {
    color:
      columns !== undefined && (noColor === undefined || noColor === '') && process.env['TERM'] !== 'dumb',
    width: Math.min(MAX_COLUMNS, Math.max(80, columns ?? COLUMNS)),
  };
}
