// An initial RAM disk: cpio archives one behind the other, the last one often compressed, microcode for the processor in front
// (Documentation/driver-api/early-userspace/buffer-format.rst, Documentation/arch/x86/microcode.rst).

import { ByteView } from './byte-view.ts';
import { type Compression, detectCompression } from './unpack.ts';

/** One part of an initrd. */
export interface InitrdPart {
  /** Offset in the file. */
  readonly offset: number;
  /** What the archive is compressed with; null for a plain one. */
  readonly compression: Compression | null;
  /** Names in a plain archive, its first ones. */
  readonly names: readonly string[];
  /** Whether it holds microcode, and whose. */
  readonly microcode: readonly string[];
  /** Whether a plain archive of the kernel's format has no end in the file. */
  readonly isCut: boolean;
}

const MICROCODE: Readonly<Record<string, string>> = {
  'kernel/x86/microcode/GenuineIntel.bin': 'Intel',
  'kernel/x86/microcode/AuthenticAMD.bin': 'AMD',
};
const TRAILER = 'TRAILER!!!';
const MOST_PARTS = 16;
const MOST_ENTRIES = 100_000;
const KEPT_NAMES = 8;

/** Whether a cpio archive of any of its formats begins at `at`: new ASCII, with CRC, old ASCII, binary of either order. */
export function isCpio(view: ByteView, at = 0): boolean {
  return ['070701', '070702', '070707', '\xc7\x71', '\x71\xc7'].some((magic) => view.startsWith(magic, at));
}

/** Where the first archive may begin: the kernel passes over zeroes. */
export function firstArchive(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length && bytes[at] === 0) at++;
  return at % 4 === 0 ? at : 0;
}

/** The format that the kernel reads, without or with checksums. */
function isNewAscii(view: ByteView, at: number): boolean {
  return view.startsWith('070701', at) || view.startsWith('070702', at);
}

/** Reads what an initrd is made of; null for a file that does not begin with a cpio archive. */
export function readInitrd(bytes: Uint8Array): InitrdPart[] | null {
  const view = new ByteView(bytes, 'initrd');
  const parts: InitrdPart[] = [];
  let at = firstArchive(bytes);
  if (!isCpio(view, at)) return null;
  while (at < bytes.length && parts.length < MOST_PARTS) {
    if (!isCpio(view, at)) {
      const compression = detectCompression(bytes.subarray(at, at + 64));
      if (compression !== null)
        parts.push({ offset: at, compression, names: [], microcode: [], isCut: false });
      break;
    }
    const { end, names, microcode } = readNewAscii(view, at);
    const isCut = end === null && isNewAscii(view, at);
    parts.push({ offset: at, compression: null, names, microcode, isCut });
    if (end === null) break;
    at = end;
    while (at < bytes.length && bytes[at] === 0) at++;
  }
  return parts;
}

/** Walks an archive of the format the kernel reads; `end` is null where it has no end in the file or is of another format. */
function readNewAscii(
  view: ByteView,
  start: number,
): { end: number | null; names: string[]; microcode: string[] } {
  const names: string[] = [];
  const microcode: string[] = [];
  const align = (offset: number): number => start + Math.ceil((offset - start) / 4) * 4;
  let at = start;
  for (let entry = 0; entry < MOST_ENTRIES; entry++) {
    if (!view.has(at, 110) || !isNewAscii(view, at)) break;
    const [fileSize, nameSize] = [54, 94].map((field) => Number.parseInt(view.text(at + field, 8), 16));
    if (fileSize === undefined || nameSize === undefined || !view.has(at + 110, nameSize)) break;
    const name = view.text(at + 110, nameSize);
    const next = align(align(at + 110 + nameSize) + fileSize);
    if (name === TRAILER) return { end: next, names, microcode };
    if (names.length < KEPT_NAMES) names.push(name);
    const maker = MICROCODE[name];
    if (maker !== undefined) microcode.push(maker);
    if (!(next > at)) break;
    at = next;
  }
  return { end: null, names, microcode };
}

/** `an initrd: a cpio archive with Intel microcode, then one compressed with zstd`. */
export function describeInitrd(parts: readonly InitrdPart[]): string {
  const nouns = parts.map(({ compression, microcode }, index) => {
    const noun = index === 0 ? 'a cpio archive' : 'one';
    if (microcode.length > 0) return `${noun} with ${microcode.join(' and ')} microcode`;
    return compression === null ? noun : `${noun} compressed with ${compression}`;
  });
  return `an initrd (${nouns.join(', then ')})`;
}
