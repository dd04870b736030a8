// The messages a stub can print, looked up in its bytes: the surest sign of which checks its generation makes.

import type { KernelImage } from '../image/kernel-image.ts';

/** The bytes of the protected-mode code outside the payload. */
function stubParts(image: KernelImage): Buffer[] {
  const code = image.protectedModeCode;
  const whole = Buffer.from(code.buffer, code.byteOffset, code.byteLength);
  return image.payload === null
    ? [whole]
    : [whole.subarray(0, image.payload.offset), whole.subarray(image.payload.offset + image.payload.length)];
}

/** Whether the stub holds `text` (Latin-1), compressed data left out. */
export function stubHasText(image: KernelImage, text: string): boolean {
  return stubParts(image).some((part) => part.includes(text, 0, 'latin1'));
}

/** Whether the stub holds `text` as a C string of its own: nothing printable before it and a NUL behind. */
export function stubHasString(image: KernelImage, text: string): boolean {
  return stubParts(image).some((part) => {
    for (let at = part.indexOf(text, 0, 'latin1'); at >= 0; at = part.indexOf(text, at + 1, 'latin1')) {
      const before = part[at - 1] ?? 0;
      if (part[at + text.length] === 0 && (before < 0x20 || before > 0x7e)) {
        return true;
      }
    }
    return false;
  });
}

/** What `pattern`, which needs the flag g, matches in the stub's bytes taken as Latin-1. */
export function stubMatches(image: KernelImage, pattern: RegExp): string[] {
  return stubParts(image).flatMap((part) => part.toString('latin1').match(pattern) ?? []);
}
