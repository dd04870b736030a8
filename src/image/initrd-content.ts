// Whether the kernel finds anything in an initrd: cpio archives, each perhaps compressed, or a RAM disk of old with a file system
// (init/initramfs.c, init/do_mounts_rd.c).

import { ByteView } from './byte-view.ts';
import { identifyFile } from './identify.ts';
import { isCpio } from './initrd.ts';
import { detectCompression, gunzipStart, pastSkippableFrames } from './unpack.ts';

/** Archives that the kernel unpacks: new ASCII format, without or with checksums. */
const KERNEL_CPIO = ['070701', '070702'] as const;
/** File systems that a RAM disk of old may hold: what it is, by a magic at an offset (init/do_mounts_rd.c). */
const RAM_DISKS: readonly (readonly [offset: number, magic: string])[] = [
  [0, '-rom1fs-'],
  [0, '\x45\x3d\xcd\x28'],
  [512, '\x45\x3d\xcd\x28'],
  [0, 'hsqs'],
  [0x438, '\x53\xef'],
  [0x410, '\x7f\x13'],
  [0x410, '\x8f\x13'],
];

/**
 * Why the kernel finds no initial RAM disk in these bytes, as a clause about them; null where it finds one, or cannot be known to
 * find none: a compressed one other than by gzip is not looked into.
 */
export function initrdProblem(bytes: Uint8Array): string | null {
  // unpack_to_rootfs passes over zeroes.
  let at = 0;
  while (at < bytes.length && bytes[at] === 0) at++;
  if (at === bytes.length) return 'holds nothing but zeroes';
  const view = new ByteView(bytes, 'initrd');
  if (at % 4 === 0 && KERNEL_CPIO.some((magic) => view.startsWith(magic, at))) return null;
  if (RAM_DISKS.some(([offset, magic]) => view.startsWith(magic, offset))) return null;
  if (isCpio(view))
    return 'is a cpio archive of a format that the kernel does not read: cpio -H newc makes the right one';
  const compression = detectCompression(bytes.subarray(at, at + 64));
  if (compression === 'gzip') {
    const start = gunzipStart(bytes.subarray(at));
    const inner = start.length === 0 ? null : initrdProblem(start);
    return inner === null ? null : `is compressed with gzip, and what is in it ${inner}`;
  }
  if (compression === 'lz4-frame')
    return "is compressed in lz4's frame format, which the kernel does not read: lz4 -l makes the one it does";
  if (compression !== null) return null;
  if (pastSkippableFrames(bytes.subarray(at)) > 0)
    return 'begins with a skippable frame, and the kernel looks for the magic of its compression there';
  const text = new TextDecoder('latin1').decode(bytes.subarray(at, at + 256)).trimStart();
  if (/^<(!doctype html|html|\?xml|head|body)/i.test(text)) {
    return `is a page of the web and no cpio archive: it begins with ${JSON.stringify(text.slice(0, 24))}`;
  }
  const { what, kind } = identifyFile(bytes);
  const isUnknown = kind === 'other' && what.startsWith('no kernel');
  const head = [...bytes.subarray(at, at + 4)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return isUnknown
    ? `is neither a cpio archive nor a compressed one: it begins with ${head}`
    : `is ${what} and no cpio archive`;
}
