// Puts a boot image together again from what is left of one in memory: the setup header in boot_params, and the
// protected-mode code, where its setup code is gone and only the 32-bit and 64-bit entries can be used; or from all of it.

import { concatBytes } from '../host/host.ts';
import { readSetupHeader, SETUP_HEADER_MAGIC, type SetupHeader } from '../protocol/setup-header.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';

const SECTOR_SIZE = 512;
const MAGIC_OFFSET = 0x202;
const HEADER_OFFSET = 0x1f1;
const HEADER_END_BYTE = 0x201;
const BOOT_FLAG_OFFSET = 0x1fe;
const DEFAULT_SETUP_SECTORS = 4;
/** The protected-mode code of a kernel from before protocol 2.04 that is loaded high may be larger than its 16-bit syssize tells. */
const SYSSIZE_32_BITS = 0x0204;
const LARGEST_OLD_CODE = 0x800000;
const LOADED_HIGH = 0x01;
const LOW_LOAD_ADDRESS = 0x10000;
const HIGH_LOAD_ADDRESS = 0x100000;

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
  const setup = new Uint8Array(setupBytes(header));
  const headerEnd = MAGIC_OFFSET + page[HEADER_END_BYTE]!;
  setup.set(page.subarray(HEADER_OFFSET, headerEnd), HEADER_OFFSET);
  setup.set([0x55, 0xaa], BOOT_FLAG_OFFSET);
  return concatBytes([setup, code.subarray(0, Math.min(systemSize(header), code.length))]);
}

function systemSize(header: SetupHeader): number {
  if (header.protocol >= SYSSIZE_32_BITS) return header.get('syssize') * 16;
  return isLoadedHigh(header) ? LARGEST_OLD_CODE : (header.get('syssize') & 0xffff) * 16;
}

/**
 * @param at - where the boot sector lies that setup follows
 * @returns null where no setup header is there
 */
export function imageFromSetup(memory: PhysicalMemory, at: number): Uint8Array | null {
  const sector = memory.viewUpTo(at, 2 * SECTOR_SIZE);
  if (!holdsSetupHeader(sector)) return null;
  const header = readSetupHeader(sector);
  const setup = memory.viewUpTo(at, setupBytes(header)).slice();
  setup.set([0x55, 0xaa], BOOT_FLAG_OFFSET);
  const start = systemAddress(header);
  const code = memory.viewUpTo(start, memory.bytesFrom(start));
  return concatBytes([setup, code.subarray(0, Math.min(systemSize(header), code.length))]);
}

function setupBytes(header: SetupHeader): number {
  return ((header.get('setup_sects') || DEFAULT_SETUP_SECTORS) + 1) * SECTOR_SIZE;
}

/** Where setup finds the protected-mode code: where its loader said, or where boot.rst has it. */
export function systemAddress(header: SetupHeader): number {
  if (!isLoadedHigh(header)) return LOW_LOAD_ADDRESS;
  return header.get('code32_start') || HIGH_LOAD_ADDRESS;
}

function isLoadedHigh(header: SetupHeader): boolean {
  return header.has('loadflags') && (header.get('loadflags') & LOADED_HIGH) !== 0;
}
