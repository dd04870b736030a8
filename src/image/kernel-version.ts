// Finds the version a kernel states about itself: the string setup points to, or the banner inside vmlinux.

import { indexOfText, latin1Text } from '../host/host.ts';
import type { SetupHeader } from '../protocol/setup-header.ts';
import { ByteView } from './byte-view.ts';

/** Where a Linux kernel's banner begins; `Linux version 6.1.0 (builder@host) …`. */
const BANNER = 'Linux version ';

/** Whether text of a kernel's own is in these bytes. */
export function hasBanner(bytes: Uint8Array): boolean {
  return indexOfText(bytes, BANNER) >= 0;
}

/** Printable text of at least one character, trimmed; null for anything else. */
function printable(text: string): string | null {
  const trimmed = text.trim();
  return trimmed.length > 0 && /^[\x20-\x7e\xa0-\xff]+$/.test(trimmed) ? trimmed : null;
}

/**
 * The string `kernel_version` points to, `6.1.0-10-amd64 (debian-kernel@…) #1 SMP …`; null where the
 * header has none or the pointer leads elsewhere.
 *
 * @param setup - boot sector and setup
 */
export function readKernelVersion(header: SetupHeader, setup: Uint8Array): string | null {
  const pointer = header.get('kernel_version');
  const view = new ByteView(setup, 'kernel_version');
  if (pointer === 0 || !view.has(pointer + 0x200, 1)) return null;
  return printable(view.text(pointer + 0x200, 512));
}

/**
 * The whole banner, `Linux version 6.1.0 (builder@host) (gcc …) #1 SMP …`; null where there is none.
 * Kernels from 6.1 on hold it twice, once without the build number, which the link replaces.
 */
export function findLinuxBanner(bytes: Uint8Array): string | null {
  const view = new ByteView(bytes, 'banner');
  let first: string | null = null;
  for (let at = indexOfText(bytes, BANNER); at >= 0; at = indexOfText(bytes, BANNER, at + 1)) {
    const line = view.text(at, 1024).split('\n', 1)[0] ?? '';
    // The format string of /proc/version also begins so, with %s where the release is.
    if (!/^Linux version \d/.test(line)) continue;
    const banner = printable(line);
    if (banner !== null && /#\d/.test(banner)) return banner;
    first ??= banner;
  }
  return first;
}

/** The release in a kernel's banner and what follows it; null where there is none. */
export function findKernelVersion(bytes: Uint8Array): string | null {
  return findLinuxBanner(bytes)?.slice(BANNER.length) ?? null;
}

/** A release, who built it where, and the number of the build, as boot stubs hold it without `Linux version`. */
const BARE_VERSION = /\d+\.\d+[\w.+~-]* \([\w.+~-]+@[\w.+~-]+\) #\d[\x20-\x7e]{0,200}/;

/** The version that a boot program's own code states: its banner, or the same words without `Linux version`. */
export function findStatedVersion(bytes: Uint8Array): string | null {
  const text = latin1Text(bytes);
  return findKernelVersion(bytes) ?? BARE_VERSION.exec(text)?.[0]?.trim() ?? null;
}

/** Whether a `kernel_version` string is what a kernel's build writes; other programs put their own name or release there. */
export function isLinuxVersion(version: string): boolean {
  return /^\d+\.\d+.* #\d/.test(version);
}
