// INT 13h: floppies, hard disks, CDs and what a CD stands for (INCITS 347; El Torito 1.0; Phoenix, "Enhanced Disk Drive Specification").

import { describe, expect, it } from 'vitest';
import { diskOfBytes } from '../../image/disk-image.ts';
import { CD_SECTOR, iso } from '../test-cd.ts';
import { type BiosResult, TestBios } from './test-bios.ts';

const MIB = 2 ** 20;
const BUFFER = 0x20000;
const PACKET = 0x10800;
/** Where 48h, 4Bh put what they tell, in DS:SI. */
const AT = { ds: 0x1000, esi: 0x600 } as const;
const TOLD = 0x10600;

/** Sectors that begin with their numbers. */
function numbered(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 4 <= size; at += 512) view.setUint32(at, at / 512, true);
  return bytes;
}

const hardDisk = (size = 4 * MIB) => ({ disks: [diskOfBytes('disk.img', numbered(size))] });

/** Functions by CHS; the buffer at 2000:0000. */
function chs(
  bios: TestBios,
  ah: number,
  drive: number,
  [cylinder, head, sector]: readonly number[],
  count = 1,
) {
  const ecx = ((cylinder! & 0xff) << 8) | ((cylinder! >> 2) & 0xc0) | sector!;
  return bios.call(0x13, { eax: (ah << 8) | count, ecx, edx: (head! << 8) | drive, es: BUFFER >> 4 });
}

/** Functions with a packet. */
function extended(
  bios: TestBios,
  ah: number,
  drive: number,
  sector: number,
  count: number,
  size = 16,
): BiosResult {
  const { memory } = bios;
  memory.write16(PACKET, size);
  memory.write16(PACKET + 2, count);
  memory.write16(PACKET + 4, 0x10);
  memory.write16(PACKET + 6, (BUFFER >> 4) - 1);
  memory.write64(PACKET + 8, BigInt(sector));
  return bios.call(0x13, { eax: ah << 8, edx: drive, ds: 0x1000, esi: 0x800 });
}

const [OK, BAD, PROTECTED, NOT_FOUND, CHANGED, BOUNDARY] = [0, 1, 3, 4, 6, 9];
const statusOf = ({ eax, carry }: BiosResult): readonly [number, boolean] => [eax >>> 8, carry];

describe('a floppy', () => {
  const make = () => new TestBios({ floppy: numbered(1_474_560) });

  it('is read, written and verified by CHS', () => {
    const bios = make();
    expect(chs(bios, 2, 0, [1, 1, 18], 2)).toMatchObject({
      ...{ eax: 2, carry: false, result: 'sectors 71 to 72 (no file system), 0x20000..0x20400' },
    });
    expect([bios.memory.read32(BUFFER), bios.memory.read32(BUFFER + 512)]).toEqual([71, 72]);
    bios.memory.fill(BUFFER, 512, 0x5a);
    expect(chs(bios, 3, 0, [0, 0, 3]).eax).toBe(1);
    bios.memory.fill(BUFFER, 1024, 0);
    chs(bios, 2, 0, [0, 0, 3], 2);
    expect([bios.memory.read8(BUFFER + 511), bios.memory.read32(BUFFER + 512)]).toEqual([0x5a, 3]);
    bios.memory.fill(BUFFER, 512, 0);
    expect(chs(bios, 4, 0, [0, 0, 3])).toMatchObject({ eax: 1, carry: false });
    expect(bios.memory.read8(BUFFER)).toBe(0);
    expect(bios.controller.motorOn).toBe(true);
  });

  it('ends with its last sector, and a transfer with 64 KiB', () => {
    const bios = make();
    const last = chs(bios, 2, 0, [79, 1, 18], 3);
    expect([last.eax, last.carry]).toEqual([(NOT_FOUND << 8) | 1, true]);
    expect(bios.memory.read8(0x441)).toBe(NOT_FOUND);
    const across = bios.call(0x13, { eax: 0x0202, ecx: 1, ebx: 0xfe00, es: 0x1000 });
    expect([across.eax, across.carry]).toEqual([BOUNDARY << 8, true]);
    const within = bios.call(0x13, { eax: 0x0201, ecx: 1, ebx: 0xfe00, es: 0x1000 });
    expect([within.eax, within.carry]).toEqual([1, false]);
  });

  it('says what it is, what happened last, and that nobody changed it', () => {
    const bios = make();
    expect(bios.call(0x13, { eax: 0x0800 })).toMatchObject({
      ...{ eax: 0, ebx: 4, ecx: 0x4f12, edx: 0x0101, es: 0xf000, carry: false },
    });
    expect(bios.call(0x13, { eax: 0x15ff }, true)).toMatchObject({ eax: 0x0100, carry: false });
    expect(bios.call(0x13, { eax: 0x15ff, edx: 1 })).toMatchObject({ eax: 0x0100, carry: true });
    chs(bios, 2, 0, [80, 0, 1]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100 }))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0000 }))).toEqual([OK, false]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100 }))).toEqual([OK, false]);
    expect(statusOf(bios.call(0x13, { eax: 0x1600 }))).toEqual([CHANGED, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100 }))).toEqual([CHANGED, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100, edx: 1 }))).toEqual([BAD, true]);
  });

  it.each([0x05, 0x09, 0x0c, 0x0d, 0x10, 0x11, 0x14, 0x41, 0x42, 0x45, 0x48, 0x4b, 0x4e])(
    'does not do %i',
    (ah) => {
      const bios = make();
      expect(statusOf(bios.call(0x13, { eax: ah << 8 }))).toEqual([BAD, true]);
      expect(bios.notices.texts).toEqual([]);
    },
  );
});

describe('a hard disk', () => {
  it('is read, written and verified by CHS', () => {
    const bios = new TestBios(hardDisk());
    expect(chs(bios, 2, 0x80, [0, 1, 2], 3)).toMatchObject({
      ...{ eax: 3, carry: false, result: 'sectors 64 to 66 (no file system), 0x20000..0x20600' },
    });
    expect([0, 512, 1024].map((at) => bios.memory.read32(BUFFER + at))).toEqual([64, 65, 66]);
    bios.memory.fill(BUFFER, 512, 0x5a);
    expect(chs(bios, 3, 0x80, [0, 0, 9])).toMatchObject({ eax: 1, carry: false });
    bios.memory.fill(BUFFER, 512, 0);
    expect(chs(bios, 4, 0x80, [0, 0, 9])).toMatchObject({
      eax: 1,
      carry: false,
      result: 'sectors 8 to 8 (no file system)',
    });
    expect(bios.memory.read8(BUFFER)).toBe(0);
    chs(bios, 2, 0x80, [0, 0, 9]);
    expect(bios.memory.read8(BUFFER + 511)).toBe(0x5a);
  });

  it.each([
    ['head 16', [0, 16, 1], 1],
    ['sector 0', [0, 0, 0], 1],
    ['sector 64', [0, 0, 64], 1],
    ['cylinder 8', [8, 0, 1], 1],
    ['no sectors', [0, 0, 1], 0],
    ['129 sectors', [0, 0, 1], 129],
  ])('does not read %s', (_, where, count) => {
    const bios = new TestBios(hardDisk());
    expect(statusOf(chs(bios, 2, 0x80, where, count))).toEqual([BAD, true]);
    expect([bios.memory.read8(0x474), bios.memory.read32(BUFFER)]).toEqual([BAD, 0]);
  });

  it('reads 128 sectors at once, and counts cylinders in ten bits', () => {
    const bios = new TestBios(hardDisk());
    expect(chs(bios, 2, 0x80, [0, 0, 1], 128).eax).toBe(128);
    const large = new TestBios({
      disks: [{ path: 'large.img', size: 500 * MIB, read: (offset, target) => target.fill(offset >> 20) }],
    });
    chs(large, 2, 0x80, [0x215, 0, 1]);
    expect(large.memory.read8(BUFFER)).toBe(((0x215 * 16 * 63 * 512) >> 20) & 0xff);
  });

  it('is read by LBA with a packet', () => {
    const bios = new TestBios(hardDisk());
    expect(extended(bios, 0x42, 0x80, 8190, 2)).toMatchObject({
      ...{ eax: 0, carry: false, result: 'sectors 8190 to 8191 (no file system), 0x20000..0x20400' },
    });
    expect([bios.memory.read32(BUFFER), bios.memory.read32(BUFFER + 512)]).toEqual([8190, 8191]);
    expect(statusOf(extended(bios, 0x42, 0x80, 0, 1, 15))).toEqual([BAD, true]);
    bios.memory.fill(BUFFER, 512, 0);
    expect(statusOf(extended(bios, 0x42, 0x80, 5, 0))).toEqual([OK, false]);
    expect(bios.memory.read32(BUFFER)).toBe(0);
    bios.memory.fill(BUFFER, 512, 0x5a);
    expect(statusOf(extended(bios, 0x43, 0x80, 5, 1))).toEqual([OK, false]);
    bios.memory.fill(BUFFER, 512, 0);
    for (const ah of [0x44, 0x47])
      expect(extended(bios, ah, 0x80, 5, 1)).toMatchObject({
        carry: false,
        result: 'sectors 5 to 5 (no file system)',
      });
    expect(bios.memory.read8(BUFFER)).toBe(0);
    extended(bios, 0x42, 0x80, 5, 1);
    expect(bios.memory.read8(BUFFER)).toBe(0x5a);
  });

  it('ends with its last sector, and tells what was asked for behind it', () => {
    const bios = new TestBios(hardDisk());
    expect(statusOf(extended(bios, 0x42, 0x80, 8191, 3))).toEqual([NOT_FOUND, true]);
    // The packet says how many were read.
    expect([bios.memory.read16(PACKET + 2), bios.memory.read32(BUFFER)]).toEqual([1, 8191]);
    expect(extended(bios, 0x42, 0x80, 8192, 1)).toMatchObject({
      ...{ eax: BAD << 8, carry: true, result: 'sector 8192 is not on the disk, which has 8192' },
    });
    expect(bios.drives.doubtful.texts(new Set())).toEqual([
      'the loader has asked for sectors 8191 to 8193 of disk.img, which has 8192',
    ]);
    // A geometry that promises more than there is.
    const partial = new TestBios(hardDisk(1000 * 512));
    expect(partial.drives.drive(0x80)!.geometry).toEqual({ cylinders: 2, heads: 16, sectorsPerTrack: 63 });
    const past = chs(partial, 2, 0x80, [1, 0, 1], 2);
    expect([past.eax, past.result]).toEqual([
      NOT_FOUND << 8,
      'sector 1008 is not on the disk, which has 1000',
    ]);
    expect(partial.memory.read32(BUFFER)).toBe(0);
    expect(chs(partial, 2, 0x80, [0, 15, 55], 1)).toMatchObject({ eax: 1, carry: false });
    expect(chs(partial, 4, 0x80, [0, 15, 55], 2)).toMatchObject({
      eax: NOT_FOUND << 8,
      result: 'sectors 999 to 999 (no file system)',
    });
  });

  it('is not moved to or from where there is no memory', () => {
    // 65,535 sectors are 32 MiB, as all of the memory is.
    const bios = new TestBios(hardDisk(33 * MIB));
    for (const ah of [0x42, 0x43]) {
      expect(statusOf(extended(bios, ah, 0x80, 0, 0xffff))).toEqual([BAD, true]);
      expect(bios.memory.read32(BUFFER + 512)).toBe(0);
    }
    expect(statusOf(extended(bios, 0x44, 0x80, 0, 0xffff))).toEqual([OK, false]);
  });

  it('tells its geometry but for the last cylinder, and its kind', () => {
    const bios = new TestBios({ disks: [...hardDisk(40 * MIB).disks, diskOfBytes('b.img', numbered(MIB))] });
    expect(bios.call(0x13, { eax: 0x0877, edx: 0x80 })).toMatchObject({
      ...{ eax: 0, ecx: (79 << 8) | 63, edx: 0x0f02, carry: false },
    });
    // 80 of 81 cylinders of 16 by 63.
    const sectors = 80 * 16 * 63;
    expect(bios.call(0x13, { eax: 0x1500, edx: 0x80 })).toMatchObject({
      ...{ eax: 0x0300, ecx: sectors >>> 16, edx: sectors & 0xffff, carry: false },
    });
    const large = new TestBios({ disks: [{ path: 'l', size: 500 * MIB, read: () => {} }] });
    // 1015 cylinders: two bits of the last one's number stand above the sectors.
    expect(large.call(0x13, { eax: 0x0800, edx: 0x80 }).ecx).toBe(
      ((1013 & 0xff) << 8) | ((1013 >> 2) & 0xc0) | 63,
    );
    expect(bios.memory.read8(0x475)).toBe(2);
  });

  it('has the extensions of EDD 3.0', () => {
    const bios = new TestBios(hardDisk());
    expect(bios.call(0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x80 })).toMatchObject({
      ...{ eax: 0x3000, ebx: 0xaa55, ecx: 7, carry: false },
    });
    expect(statusOf(bios.call(0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x81 }))).toEqual([BAD, true]);
    for (const ah of [0x00, 0x05, 0x09, 0x0c, 0x0d, 0x10, 0x11, 0x14, 0x45, 0x49, 0x4e])
      expect(statusOf(bios.call(0x13, { eax: ah << 8, edx: 0x80 }))).toEqual([OK, false]);
    expect(statusOf(bios.call(0x13, { eax: 0x4600, edx: 0x80 }))).toEqual([0xb2, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100, edx: 0x80 }))).toEqual([0xb2, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0100, edx: 0x81 }))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x7700, edx: 0x80 }))).toEqual([BAD, true]);
    expect(bios.notices.texts).toEqual(['INT 13h 7700 is not provided (called once)']);
  });

  const parametersOf = (bios: TestBios, drive: number, room: number) => {
    bios.memory.fill(TOLD, 80, 0xee);
    bios.memory.write16(TOLD, room);
    const result = bios.call(0x13, { eax: 0x4800, edx: drive, ...AT });
    return { status: statusOf(result), bytes: bios.memory.copyOut(TOLD, 80) };
  };
  const words = (bytes: Uint8Array, ...offsets: readonly number[]): readonly number[] => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return offsets.map((at) => view.getUint32(at, true));
  };

  it.each([
    [26, 26],
    [29, 26],
    [30, 30],
    [65, 30],
    [66, 30],
    [74, 30],
  ])('tells its parameters in %i bytes', (room, size) => {
    const { status, bytes } = parametersOf(new TestBios(hardDisk(40 * MIB)), 0x80, room);
    expect(status).toEqual([OK, false]);
    const view = new DataView(bytes.buffer);
    expect([view.getUint16(0, true), view.getUint16(2, true)]).toEqual([size, 2]);
    expect(words(bytes, 4, 8, 12, 16, 20)).toEqual([81, 16, 63, 81_920, 0]);
    expect(view.getUint16(24, true)).toBe(512);
    if (size === 30) expect(words(bytes, 26)).toEqual([0xffffffff]);
    expect(bytes.subarray(Math.max(room < 66 ? size : room, size)).every((byte) => byte === 0xee)).toBe(true);
  });

  it.each([
    [66, 0x80, 0, 0],
    [74, 0x81, 0, 1],
    [74, 0x82, 1, 0],
    [66, 0x83, 1, 1],
  ])('tells in %i bytes where it is plugged in: drive %i', (room, drive, channel, unit) => {
    const disks = ['a', 'b', 'c', 'd'].map((name) => diskOfBytes(name, numbered(MIB)));
    const { bytes } = parametersOf(new TestBios({ disks }), drive, room);
    const view = new DataView(bytes.buffer);
    // The key, the length from there on, "PCI " and "ATA", the bus, the device.
    expect([view.getUint16(30, true), bytes[32]]).toEqual([0xbedd, room - 30]);
    expect([...bytes.subarray(33, 36)]).toEqual([0, 0, 0]);
    expect(new TextDecoder().decode(bytes.subarray(36, 48))).toBe('PCI ATA     ');
    expect([...bytes.subarray(48, 57)]).toEqual([0, 1, 1, channel, 0, 0, 0, 0, unit]);
    expect(bytes.subarray(30, room).reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0);
    expect(bytes[room]).toBe(0xee);
  });

  it('says nothing where there is no room, and no geometry that is too large', () => {
    expect(parametersOf(new TestBios(hardDisk()), 0x80, 25).status).toEqual([BAD, true]);
    const huge = new TestBios({
      disks: [{ path: 'huge', size: 16383 * 16 * 63 * 512 + 512, read: () => {} }],
    });
    const { bytes } = parametersOf(huge, 0x80, 30);
    expect([bytes[2], ...words(bytes, 4, 8, 12, 16)]).toEqual([0, 16383, 16, 63, 16383 * 16 * 63 + 1]);
    const exact = new TestBios({ disks: [{ path: 'exact', size: 16383 * 16 * 63 * 512, read: () => {} }] });
    expect(parametersOf(exact, 0x80, 30).bytes[2]).toBe(2);
  });
});

describe('a CD', () => {
  const cd = (entry: readonly number[]) => {
    const bytes = iso(entry);
    bytes.fill(0x33, 33 * CD_SECTOR, 34 * CD_SECTOR);
    const bios = new TestBios({ cdrom: diskOfBytes('cd.iso', bytes), disks: hardDisk().disks });
    bios.drives.boot(['cdrom']);
    return bios;
  };
  const emulation = (bios: TestBios, al: number, drive: number) => {
    bios.memory.fill(TOLD, 0x20, 0xee);
    return bios.call(0x13, { eax: 0x4b00 | al, edx: drive, ...AT });
  };

  it('without emulation is read in sectors of 2048 bytes, and never written', () => {
    const bios = cd([0x88, 0, 0, 0x10, 0, 0, 4, 0, 30, 0, 0, 0]);
    expect(extended(bios, 0x42, 0xe0, 33, 1)).toMatchObject({ eax: 0, carry: false });
    expect([
      bios.memory.read8(BUFFER),
      bios.memory.read8(BUFFER + 2047),
      bios.memory.read8(BUFFER + 2048),
    ]).toEqual([0x33, 0x33, 0]);
    expect(statusOf(extended(bios, 0x43, 0xe0, 33, 1))).toEqual([PROTECTED, true]);
    expect(statusOf(chs(bios, 2, 0xe0, [0, 0, 1]))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x0800, edx: 0xe0 }))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x1500, edx: 0xe0 }))).toEqual([BAD, true]);
    bios.memory.write16(TOLD, 66);
    bios.call(0x13, { eax: 0x4800, edx: 0xe0, ...AT });
    const { memory } = bios;
    expect([memory.read16(TOLD + 2), memory.read32(TOLD + 4), memory.read16(TOLD + 24)]).toEqual([
      0x74, 0xffffffff, 2048,
    ]);
    expect(memory.read64(TOLD + 16)).toBe(0xffff_ffff_ffff_ffffn);
    // On the second channel.
    expect(bios.bytes(TOLD + 48, 9)).toEqual([0, 1, 1, 1, 0, 0, 0, 0, 0]);
    expect(statusOf(emulation(bios, 1, 0xe0))).toEqual([OK, false]);
    // Size, medium, drive; controller; where the image begins; segment and sectors that were loaded; no CHS.
    expect(bios.bytes(TOLD, 20)).toEqual([
      ...[0x13, 0, 0xe0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 4, 0, 0, 0, 0, 0xee],
    ]);
  });

  it('stands for a floppy until its loader ends that', () => {
    const bios = cd([0x88, 2, 0, 0, 0, 0, 1, 0, 30, 0, 0, 0]);
    expect(bios.call(0x13, { eax: 0x0800, edx: 0 })).toMatchObject({
      ecx: 0x4f12,
      edx: 0x0101,
      carry: false,
    });
    chs(bios, 2, 0, [0, 0, 13]);
    expect(bios.memory.read8(BUFFER)).toBe(0x33);
    expect(statusOf(chs(bios, 3, 0, [0, 0, 1]))).toEqual([PROTECTED, true]);
    // What a floppy has not, this has neither.
    for (const ah of [0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4e])
      expect(statusOf(bios.call(0x13, { eax: ah << 8, edx: 0, ...AT }))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: 0x1500, edx: 0 }))).toEqual([3, false]);
    expect(statusOf(emulation(bios, 2, 0))).toEqual([BAD, true]);
    expect(statusOf(emulation(bios, 1, 0))).toEqual([OK, false]);
    expect(bios.bytes(TOLD, 20)).toEqual([
      ...[0x13, 2, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0xc0, 7, 1, 0, 79, 18, 1, 0xee],
    ]);
    expect(bios.drives.emulatedDrive).toBe(0);
    emulation(bios, 0, 0);
    expect(bios.drives.emulatedDrive).toBeNull();
    expect(statusOf(chs(bios, 2, 0, [0, 0, 1]))).toEqual([BAD, true]);
  });

  it('that was not booted tells nothing', () => {
    const bios = new TestBios(hardDisk());
    expect(statusOf(emulation(bios, 1, 0x80))).toEqual([OK, false]);
    expect(bios.bytes(TOLD, 20)).toEqual([0x13, ...new Array(18).fill(0), 0xee]);
  });
});

describe('a drive that is not there', () => {
  it.each([0x00, 0x01, 0x02, 0x08, 0x41, 0x4b])('fails at %i', (ah) => {
    const bios = new TestBios();
    expect(statusOf(bios.call(0x13, { eax: (ah << 8) | 1, ecx: 1, edx: 0x80 }))).toEqual([BAD, true]);
    expect(statusOf(bios.call(0x13, { eax: (ah << 8) | 1, ecx: 1, edx: 0 }))).toEqual([BAD, true]);
    expect(bios.notices.texts).toEqual([]);
  });
});
