// The messages a stub can print, looked up in its bytes: the surest sign of which checks its generation makes.

import { latin1Text } from '../host/host.ts';
import type { KernelImage } from '../image/kernel-image.ts';

/** A stub is searched dozens of times in a boot. */
const known = new WeakMap<KernelImage, readonly string[]>();
/**
 * The bytes of the protected-mode code outside the payload as Latin-1, before it and behind it. They are read once: an image's
 * bytes must not change.
 */
export function stubText(image: KernelImage): readonly string[] {
  let parts = known.get(image);
  if (parts === undefined) {
    const { protectedModeCode: code, payload } = image;
    parts =
      payload === null
        ? [latin1Text(code)]
        : [
            latin1Text(code.subarray(0, payload.offset)),
            latin1Text(code.subarray(payload.offset + payload.length)),
          ];
    known.set(image, parts);
  }
  return parts;
}

/** Whether the stub holds `text` (Latin-1), compressed data left out. */
export function stubHasText(image: KernelImage, text: string): boolean {
  return stubText(image).some((part) => part.includes(text));
}

/** Offsets in the protected-mode code of each `text` of the stub with a NUL behind it, be it the end of a longer string. */
export function stubStringOffsets(image: KernelImage, text: string): number[] {
  const { payload } = image;
  return stubText(image).flatMap((part, index) => {
    const base = index === 0 ? 0 : payload!.offset + payload!.length;
    const found: number[] = [];
    for (let at = part.indexOf(`${text}\0`); at >= 0; at = part.indexOf(`${text}\0`, at + 1))
      found.push(base + at);
    return found;
  });
}

/** Offset in the protected-mode code of the last `text` in the stub; -1 where it does not hold it. */
export function stubTextOffset(image: KernelImage, text: string): number {
  const { payload } = image;
  const parts = stubText(image);
  const behind = parts[1]?.lastIndexOf(text) ?? -1;
  return behind >= 0 ? behind + payload!.offset + payload!.length : parts[0]!.lastIndexOf(text);
}

/** Whether the stub holds `text` as a C string of its own: nothing printable before it and a NUL behind. */
export function stubHasString(image: KernelImage, text: string): boolean {
  return stubText(image).some((part) => {
    for (let at = part.indexOf(text); at >= 0; at = part.indexOf(text, at + 1)) {
      const before = at === 0 ? 0 : part.charCodeAt(at - 1);
      if (part.charCodeAt(at + text.length) === 0 && (before < 0x20 || before > 0x7e)) {
        return true;
      }
    }
    return false;
  });
}

/** What `pattern`, which needs the flag g, matches in the stub's bytes taken as Latin-1. */
export function stubMatches(image: KernelImage, pattern: RegExp): string[] {
  return stubText(image).flatMap((part) => part.match(pattern) ?? []);
}
