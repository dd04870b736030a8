// Colours of a terminal (ECMA-48 SGR), or none.

export type Paint = (text: string, ...codes: readonly number[]) => string;

export const BOLD = 1;
export const DIM = 2;
export const RED = 31;
export const GREEN = 32;
export const YELLOW = 33;
export const MAGENTA = 35;
export const CYAN = 36;
export const GREY = 90;
export const BRIGHT_RED = 91;
export const BRIGHT_BLUE = 94;
export const BRIGHT_MAGENTA = 95;

/** With colours, or with a function that leaves text as it is. */
export function painter(color: boolean): Paint {
  return (text, ...codes) =>
    color && codes.length > 0 && text !== '' ? `\x1b[${codes.join(';')}m${text}\x1b[0m` : text;
}
