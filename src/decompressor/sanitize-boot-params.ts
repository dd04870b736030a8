// sanitize_boot_params: where a loader left the sentinel of boot_params set, the stub (3.8 on) clears what the loader did not mean
// to fill.

import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';

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
function keptFields(code: Buffer): { start: number; length: number }[] | null {
  const head = Buffer.alloc(24);
  for (const [index, value] of [0, 0x40, 0x40, 0x14, 0x58, 8].entries()) {
    head.writeUInt32LE(value, 4 * index);
  }
  const table = code.lastIndexOf(head);
  if (table < 0) {
    return null;
  }
  const fields: { start: number; length: number }[] = [];
  for (let at = table; at + 8 <= code.length; at += 8) {
    const start = code.readUInt32LE(at);
    const length = code.readUInt32LE(at + 4);
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

/** `cmpb $0, sentinel(%reg)` in the stub. */
function looksAtSentinel(code: Buffer): boolean {
  const operand = Buffer.from([SENTINEL & 0xff, SENTINEL >> 8, 0, 0, 0]);
  for (let at = code.indexOf(operand); at >= 0; at = code.indexOf(operand, at + 1)) {
    if (code[at - 2] === 0x80 && (code[at - 1]! & 0xf8) === 0xb8) {
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
  const { protectedModeCode, payload } = image;
  // The stub's own code and data lie behind the payload.
  const start = payload === null ? 0 : payload.offset + payload.length;
  const code = Buffer.from(
    protectedModeCode.buffer,
    protectedModeCode.byteOffset + start,
    protectedModeCode.byteLength - start,
  );
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
