// sanitize_boot_params: where a loader left the sentinel of boot_params set, the stub (3.8 on) clears what the loader did not mean
// to fill.

import { latin1Text } from '../host/host.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';
import { stubText } from './stub-text.ts';

const SENTINEL = bootParamsOffset('sentinel');

/** What stubs to 5.2 clear: [start, end) in boot_params; `hdr` ends where the setup header does. */
const CLEARED = [
  /** ext_ramdisk_image up to efi_info */
  [bootParamsOffset('ext_ramdisk_image'), bootParamsOffset('efi_info')],
  /** kbd_status up to the setup header, with the sentinel */
  [bootParamsOffset('kbd_status'), bootParamsOffset('hdr')],
  /** behind the setup header up to edd_mbr_sig_buffer; its start is set by the header's size */
  [0x268, bootParamsOffset('edd_mbr_sig_buffer')],
  /** behind e820_table up to eddbuf */
  [0xcd0, bootParamsOffset('eddbuf')],
  /** behind eddbuf */
  [0xeec, 0x1000],
] as const;

/**
 * The fields that stubs from 5.3 on keep, from the table they carry: 32-bit offsets and lengths, screen_info, apm_bios_info and
 * tboot_addr first. Null where there is no such table.
 */
function keptFields(code: string): { start: number; length: number }[] | null {
  const table = code.lastIndexOf(words(0, 0x40, 0x40, 0x14, 0x58, 8));
  if (table < 0) {
    return null;
  }
  const word = (at: number): number =>
    new DataView(Uint8Array.from(code.slice(at, at + 4), (byte) => byte.charCodeAt(0)).buffer).getUint32(
      0,
      true,
    );
  const fields: { start: number; length: number }[] = [];
  for (let at = table; at + 8 <= code.length; at += 8) {
    const start = word(at);
    const length = word(at + 4);
    // What follows the table is no field, or lies over one: the table has no end of its own.
    const overlaps = fields.some(
      (field) => start < field.start + field.length && field.start < start + length,
    );
    if (length === 0 || start + length > BOOT_PARAMS_SIZE || overlaps) {
      break;
    }
    fields.push({ start, length });
  }
  return fields;
}

/** 32-bit words, little endian, as Latin-1. */
function words(...values: readonly number[]): string {
  return latin1Text(new Uint8Array(Uint32Array.from(values).buffer));
}

/** `cmpb $0, sentinel(%reg)` in the stub. */
function looksAtSentinel(code: string): boolean {
  const operand = `${words(SENTINEL)}\0`;
  for (let at = code.indexOf(operand, 2); at >= 0; at = code.indexOf(operand, at + 1)) {
    if (code.charCodeAt(at - 2) === 0x80 && (code.charCodeAt(at - 1) & 0xf8) === 0xb8) {
      return true;
    }
  }
  return false;
}

/**
 * Clears boot_params as this stub would.
 *
 * @param bootParams - its 4096 bytes in guest memory
 * @returns whether anything was cleared
 */
export function sanitizeBootParams(image: KernelImage, bootParams: Uint8Array): boolean {
  if (bootParams[SENTINEL] === 0) {
    return false;
  }
  // The stub's own code and data lie behind the payload.
  const code = stubText(image).at(-1)!;
  const kept = keptFields(code);
  if (kept !== null) {
    const saved = bootParams.slice();
    bootParams.fill(0);
    for (const field of kept) {
      bootParams.set(saved.subarray(field.start, field.start + field.length), field.start);
    }
    return true;
  }
  if (!looksAtSentinel(code)) {
    return false;
  }
  for (const [from, to] of CLEARED) {
    bootParams.fill(0, from, to);
  }
  return true;
}
