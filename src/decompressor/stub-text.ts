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

/** Whether the stub holds `text` as a C string of its own: a NUL (or the part's start) before it and one behind. */
export function stubHasString(image: KernelImage, text: string): boolean {
  return stubParts(image).some((part) => {
    for (let at = part.indexOf(text, 0, 'latin1'); at >= 0; at = part.indexOf(text, at + 1, 'latin1')) {
      if (part[at + text.length] === 0 && (at === 0 || part[at - 1] === 0)) {
        return true;
      }
    }
    return false;
  });
}

/** The NUL-terminated strings of the stub that contain `text`, without their NUL. */
export function stubStringsWith(image: KernelImage, text: string): string[] {
  const found: string[] = [];
  for (const part of stubParts(image)) {
    for (let at = part.indexOf(text, 0, 'latin1'); at >= 0; at = part.indexOf(text, at + 1, 'latin1')) {
      const start = part.lastIndexOf(0, at) + 1;
      const end = part.indexOf(0, at);
      if (end >= 0) {
        found.push(part.toString('latin1', start, end));
      }
    }
  }
  return found;
}
