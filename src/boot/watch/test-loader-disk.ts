// A boot loader for tests: a boot sector with a list of what to read where, and the code that goes on from there.

const SECTOR = 512;
const MIB = 0x100000;

/** Where the boot sector has its list for INT 13h AH=42h, the words to move above 1 MiB, and the table for INT 15h AH=87h. */
const PACKETS = 0x60;
const MOVED_WORDS = 0x100;
const MOVE = 0x102;
const GDTR = 0x140;
const GDT = 0x148;
/** `xor ax, ax` in all segments, then each packet by INT 13h, then INT 15h AH=87h if there are words to move. */
const READ_ALL = '31c08ed88ec08ed0bc007cbe607cb442cd1383c610803c1074f4be027d8b4cfee304b487cd15';

/**
 * A disk whose boot sector reads each of `reads` to its address and goes on with `code`, in hex. A GDT of flat segments, 10h and
 * 18h, is there for it at 7D48h, and what LGDT takes at 7D40h.
 * @param moved - bytes that go from 10000h to 1 MiB before
 */
export function loaderDisk(
  reads: readonly (readonly [address: number, bytes: Uint8Array])[],
  code: string,
  moved = 0,
): Uint8Array {
  const disk = Buffer.alloc(512 * SECTOR);
  disk.write(READ_ALL, 0, 'hex');
  disk.write(code, READ_ALL.length / 2, 'hex');
  let sector = 1;
  for (const [index, [address, bytes]] of reads.entries()) {
    const at = PACKETS + index * 16;
    const sectors = Math.ceil(bytes.length / SECTOR);
    disk.writeUInt16LE(16, at);
    disk.writeUInt16LE(sectors, at + 2);
    disk.writeUInt16LE(address >> 4, at + 6);
    disk.writeUInt32LE(sector, at + 8);
    disk.set(bytes, sector * SECTOR);
    sector += sectors;
  }
  if (moved > 0) {
    disk.writeUInt16LE(Math.ceil(moved / 2), MOVED_WORDS);
    for (const [at, base] of [
      [MOVE + 0x10, 0x10000],
      [MOVE + 0x18, MIB],
    ] as const) {
      disk.writeUInt16LE(0xffff, at);
      disk.writeUInt32LE(base + 0x9300_0000, at + 2);
    }
  }
  disk.writeUInt16LE(0x1f, GDTR);
  disk.writeUInt32LE(0x7c00 + GDT, GDTR + 2);
  disk.write('ffff0000009acf00ffff00000092cf00', GDT + 0x10, 'hex');
  disk.set([0x55, 0xaa], 510);
  return disk;
}
