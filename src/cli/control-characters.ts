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
  return text.replace(/(?![\n\t])[\p{Cc}\u200b-\u200f\u2028-\u202e\u2066-\u2069]/gu, '?');
}
