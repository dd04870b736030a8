// What can be done on an output stream: colours and the length of a line.

/** Columns of a line where the output is no terminal. */
const COLUMNS = 100;
const MAX_COLUMNS = 140;

/** Colours on a terminal only, and not where NO_COLOR is set (no-color.org). */
export function terminal(stream: { readonly isTTY?: boolean; readonly columns?: number }): {
  readonly color: boolean;
  readonly width: number;
} {
  const isTerminal = stream.isTTY === true;
  const noColor = process.env['NO_COLOR'];
  return {
    color: isTerminal && (noColor === undefined || noColor === '') && process.env['TERM'] !== 'dumb',
    width: Math.min(MAX_COLUMNS, Math.max(80, (isTerminal ? stream.columns : undefined) ?? COLUMNS)),
  };
}
