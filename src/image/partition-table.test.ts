// Partition tables: MBR with logical partitions, GPT, and what is none.

import { describe, expect, it } from 'vitest';
import { checkDisk, diskOfBytes } from './disk-image.ts';
import { readPartitionTable } from './partition-table.ts';

const SECTOR = 512;

function disk(sectors = 200): Uint8Array {
  const bytes = new Uint8Array(sectors * SECTOR);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

function entry(status: number, type: number, start: number, sectors: number): readonly number[] {
  const words = new Uint8Array(Uint32Array.of(start, sectors).buffer);
  return [status, 0, 0, 0, type, 0, 0, 0, ...words];
}

const read = (bytes: Uint8Array) => readPartitionTable(diskOfBytes('disk', bytes));

describe('readPartitionTable', () => {
  it('finds primary and logical partitions', () => {
    const bytes = disk();
    bytes.set([...entry(0x80, 0x83, 10, 20), ...entry(0, 5, 50, 100)], 446);
    bytes.set([...entry(0, 0x83, 2, 8), ...entry(0, 5, 30, 40)], 50 * SECTOR + 446);
    bytes.set([0x55, 0xaa], 50 * SECTOR + 510);
    bytes.set(entry(0, 0x82, 2, 9), 80 * SECTOR + 446);
    const { kind, partitions } = read(bytes);
    expect([kind, partitions.map(({ number, start, sectors }) => [number, start, sectors])]).toEqual([
      'mbr',
      [
        ...[
          [1, 10, 20],
          [2, 50, 100],
        ],
        ...[
          [5, 52, 8],
          [6, 82, 9],
        ],
      ],
    ]);
  });

  it('ends with a chain of logical partitions that goes round', () => {
    const bytes = disk();
    bytes.set(entry(0, 5, 50, 100), 446);
    bytes.set([...entry(0, 0x83, 2, 8), ...entry(0, 5, 0, 100)], 50 * SECTOR + 446);
    expect(read(bytes).partitions).toHaveLength(129);
  });

  it('finds those of a GPT', () => {
    const bytes = disk();
    bytes.set(entry(0, 0xee, 1, 199), 446);
    bytes.set(Buffer.from('EFI PART'), SECTOR);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(SECTOR + 72, 2n, true);
    view.setUint32(SECTOR + 80, 128, true);
    view.setUint32(SECTOR + 84, 128, true);
    bytes.set(Buffer.from('28732ac11ff8d211ba4b00a0c93ec93b', 'hex'), 2 * SECTOR + 128);
    view.setBigUint64(2 * SECTOR + 128 + 32, 40n, true);
    view.setBigUint64(2 * SECTOR + 128 + 40, 99n, true);
    expect(read(bytes)).toEqual({
      kind: 'gpt',
      partitions: [
        {
          ...{ number: 2, start: 40, sectors: 60, active: false },
          type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
          id: '00000000-0000-0000-0000-000000000000',
        },
      ],
    });
  });

  it('finds none where the first sector is that of a file system, or of nothing', () => {
    const fat = disk();
    fat.set(Buffer.from('FAT16'), 0x36);
    fat.set(entry(0x80, 0x61, 0x6f6f, 0x7420), 446);
    expect([read(fat).kind, read(disk()).kind, read(new Uint8Array(600)).kind]).toEqual([
      ...['none', 'none', 'none'],
    ]);
  });
});

describe('checkDisk', () => {
  it.each([
    ['QFI\xfb', 'x.img is a qcow2 image of 1 KiB, and only raw disks are read: qemu-img convert -f qcow2'],
    ['KDMV', 'a VMDK image'],
    ['vhdxfile', 'a VHDX image'],
  ])('says how to make a raw disk of %j', (magic, text) => {
    const bytes = new Uint8Array(1024);
    bytes.set(Buffer.from(magic, 'latin1'));
    expect(() => checkDisk(diskOfBytes('x.img', bytes))).toThrow(text);
  });

  it('refuses what is less than a sector', () => {
    expect(() => checkDisk(diskOfBytes('x.img', new Uint8Array(100)))).toThrow('x.img has 100 bytes');
  });
});
