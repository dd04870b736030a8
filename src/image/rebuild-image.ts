// Puts a boot image together again from what is left of one in memory: the setup header in boot_params, and the
// protected-mode code. Its setup code is gone, so that only the 32-bit and 64-bit entries can be used.

import { concatBytes } from '../host/host.ts';
import { readSetupHeader, SETUP_HEADER_MAGIC } from '../protocol/setup-header.ts';

const SECTOR_SIZE = 512;
const MAGIC_OFFSET = 0x202;
const HEADER_OFFSET = 0x1f1;
const HEADER_END_BYTE = 0x201;
const BOOT_FLAG_OFFSET = 0x1fe;
const DEFAULT_SETUP_SECTORS = 4;
/** The protected-mode code of a kernel from before protocol 2.04 may be larger than its 16-bit syssize tells. */
const SYSSIZE_32_BITS = 0x0204;
const LARGEST_OLD_CODE = 0x800000;

/** Whether a boot sector, or boot_params, with a setup header begins at `start`. */
export function holdsSetupHeader(bytes: Uint8Array, start = 0): boolean {
  const at = start + MAGIC_OFFSET;
  if (at + 4 > bytes.length) return false;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) === SETUP_HEADER_MAGIC;
}

/**
 * @param page - boot_params, its first two sectors at least
 * @param code - from the first byte of the protected-mode code on; what is behind its end does no harm
 * @returns boot sector, setup of zeroes and code; null where the page holds no setup header
 */
export function imageFromBootParams(page: Uint8Array, code: Uint8Array): Uint8Array | null {
  if (!holdsSetupHeader(page)) return null;
  const header = readSetupHeader(page);
  const sectors = header.get('setup_sects') || DEFAULT_SETUP_SECTORS;
  const setup = new Uint8Array((sectors + 1) * SECTOR_SIZE);
  const headerEnd = MAGIC_OFFSET + page[HEADER_END_BYTE]!;
  setup.set(page.subarray(HEADER_OFFSET, headerEnd), HEADER_OFFSET);
  setup.set([0x55, 0xaa], BOOT_FLAG_OFFSET);
  const size = header.protocol >= SYSSIZE_32_BITS ? header.get('syssize') * 16 : LARGEST_OLD_CODE;
  return concatBytes([setup, code.subarray(0, Math.min(size, code.length))]);
}
