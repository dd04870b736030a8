// Text from any file, made fit to be shown: without the characters that a terminal would take for commands.

/** JSON with escapes for the characters that a terminal would take for commands or that change the direction of text. */
export function showable(json: string): string {
  return json.replace(
    /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Line ends and tabs are what a text may hold. */
export function withoutControls(text: string): string {
  // Not `\p{Cc}`, whose table takes V8 several milliseconds to make.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g, '?');
}
