// Partition tables: MBR with logical partitions, GPT, and what is none.

import { describe, expect, it } from 'vitest';
import { crc32 } from '../codecs/checksums.ts';
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

/** With 128 entries behind the header at sector 1, and again before that at the end. */
function gptDisk(last = 99n, count = 128): Uint8Array {
  const bytes = disk();
  bytes.set(entry(0, 0xee, 1, 199), 446);
  const view = new DataView(bytes.buffer);
  for (const [header, table] of [
    [1, 2],
    [199, 167],
  ] as const) {
    const at = header * SECTOR;
    bytes.set(Buffer.from('EFI PART'), at);
    view.setUint32(at + 12, 92, true);
    view.setBigUint64(at + 24, BigInt(header), true);
    view.setBigUint64(at + 72, BigInt(table), true);
    view.setUint32(at + 80, count, true);
    view.setUint32(at + 84, 128, true);
    const second = table * SECTOR + 128;
    bytes.set(Buffer.from('28732ac11ff8d211ba4b00a0c93ec93b', 'hex'), second);
    view.setBigUint64(second + 32, 40n, true);
    view.setBigUint64(second + 40, last, true);
    view.setUint32(at + 88, crc32(bytes.subarray(table * SECTOR, (table + 32) * SECTOR)), true);
    view.setUint32(at + 16, crc32(bytes.subarray(at, at + 92)), true);
  }
  return bytes;
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
    expect(read(gptDisk())).toEqual({
      kind: 'gpt',
      problems: [],
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

describe('a damaged disk', () => {
  it('is told of where a partition is not all on it', () => {
    const bytes = disk();
    bytes.set([...entry(0x80, 0x83, 10, 191), ...entry(0, 0x83, 300, 5)], 446);
    expect(read(bytes).problems).toEqual([
      'disk: partition 1 (sectors 10 to 200) ends behind the end of the disk, which has 200 sectors',
      'disk: partition 2 (sectors 300 to 304) begins behind the end of the disk, which has 200 sectors',
    ]);
    expect(read(gptDisk(0xffff_ffff_ffff_fffen)).problems).toHaveLength(1);
  });

  it('has a second GPT', () => {
    const bytes = gptDisk();
    bytes[SECTOR + 16]! ^= 1;
    const { partitions, problems } = read(bytes);
    expect(partitions.map(({ start }) => start)).toEqual([40]);
    expect(problems).toEqual([
      expect.stringMatching(
        /^disk: the GPT \(sector 1\) is damaged: the CRC of its header is 0x[0-9a-f]+, not 0x[0-9a-f]+$/,
      ),
    ]);
  });

  it('has no partitions where both are damaged', () => {
    const bytes = gptDisk();
    bytes[2 * SECTOR] = 1;
    bytes[199 * SECTOR + 12] = 1;
    const { kind, partitions, problems } = read(bytes);
    expect([kind, partitions, problems[1]]).toEqual([
      ...['gpt', [], 'disk: the second GPT (sector 199) is damaged: its header has 1 bytes'],
    ]);
    expect(problems[0]).toMatch(/the CRC of its 128 entries is /);
    expect(read(gptDisk(99n, 0xffff_ffff)).problems[0]).toContain('it has 4294967295 entries of 128 bytes');
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
