// Where extract_kernel finds the ACPI root pointer on a PC with a BIOS (5.0 on), and notes it in boot_params.

/** EBDA segment in the BIOS data area; windows and signature after ACPI 6.5, 5.2.5.1. */
const EBDA_SEGMENT = 0x40e;
const EBDA_WINDOW = 1024;
const HIGH_WINDOW = 0xe0000;
const HIGH_WINDOW_SIZE = 0x20000;
const STEP = 16;
const SIGNATURE = Buffer.from('RSD PTR ', 'latin1');

function checksum(ram: Uint8Array, start: number, length: number): number {
  let sum = 0;
  for (let at = start; at < start + length; at++) {
    sum = (sum + ram[at]!) & 0xff;
  }
  return sum;
}

function scan(ram: Uint8Array, start: number, length: number): number {
  for (let at = start; at < start + length && at + 36 <= ram.length; at += STEP) {
    if (!SIGNATURE.equals(ram.subarray(at, at + SIGNATURE.length)) || checksum(ram, at, 20) !== 0) {
      continue;
    }
    if (ram[at + 15]! >= 2 && checksum(ram, at, 36) !== 0) {
      continue;
    }
    return at;
  }
  return 0;
}

/** Physical address of the RSDP that a BIOS left in memory; 0 without one. `ram` is physical memory from address 0. */
export function findRsdp(ram: Uint8Array): number {
  const ebda = (ram[EBDA_SEGMENT]! | (ram[EBDA_SEGMENT + 1]! << 8)) << 4;
  return (ebda > 0x400 ? scan(ram, ebda, EBDA_WINDOW) : 0) || scan(ram, HIGH_WINDOW, HIGH_WINDOW_SIZE);
}
