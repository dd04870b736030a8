// The BIOS's other interrupts: memory and APM (15h), keys (16h), time (1Ah), serial and parallel ports, and how calls are told.

import { describe, expect, it } from 'vitest';
import { parseKeys } from '../keys.ts';
import { TestBios } from './test-bios.ts';

const SMAP = 0x534d4150;
const status = ({ eax, carry }: { eax: number; carry: boolean }) => [eax >>> 8, carry];

describe('INT 15h', () => {
  it('gives out the map until EBX is 0 again', () => {
    const bios = new TestBios();
    const entries: string[] = [];
    let ebx = 0;
    do {
      const each = bios.call(0x15, { eax: 0xe820, ebx, ecx: 24, edx: SMAP, es: 0x1000, edi: 0x600 });
      expect(each).toMatchObject({ eax: SMAP, ecx: 20, carry: false });
      const { memory } = bios;
      expect(each.result).toContain(`0x${memory.read64(0x10600).toString(16)}..`);
      entries.push(each.result!);
      ({ ebx } = each);
    } while (ebx !== 0);
    expect(entries.slice(0, 2)).toEqual(['0x0..0x9fc00 usable', '0x9fc00..0xa0000 reserved']);
    expect(entries.length).toBeGreaterThan(4);
    const refused = [
      { eax: 0xe820, ebx: 0, ecx: 19, edx: SMAP },
      { eax: 0xe820, ebx: entries.length, ecx: 20, edx: SMAP },
      { eax: 0xe820, ebx: 0, ecx: 20, edx: 0x50414d53 },
    ];
    for (const registers of refused) expect(status(bios.call(0x15, registers))).toEqual([0x86, true]);
  });

  it('tells sizes in KiB and blocks of 64 KiB', () => {
    const bios = new TestBios();
    // 32 MiB, of which QEMU's BIOS keeps 128 KiB.
    expect(bios.call(0x15, { eax: 0xe801 })).toMatchObject({
      ...{ eax: 0x3c00, ebx: 254, ecx: 0x3c00, edx: 254, carry: false },
      result: '15360 KiB, 254 blocks of 64 KiB',
    });
    expect(bios.call(0x15, { eax: 0x8800 })).toMatchObject({ eax: 31 * 1024 - 128, carry: false });
    expect(bios.events.at(-1)!.result).toBe('31616 KiB');
    expect(bios.call(0x12, {})).toMatchObject({ eax: 639, result: '639 KiB' });
    expect(bios.call(0x11, {}).eax).toBe(0x0222);
    expect(new TestBios({ floppy: new Uint8Array(512) }).call(0x11, {}).eax).toBe(0x0223);
  });

  it('switches A20', () => {
    const bios = new TestBios();
    const get = () => bios.call(0x15, { eax: 0x2402 });
    expect(bios.call(0x15, { eax: 0x2401 }, true)).toMatchObject({ eax: 1, carry: false });
    expect([bios.a20, get().eax, get().carry]).toEqual([true, 1, false]);
    expect(bios.call(0x15, { eax: 0x2400 }, true)).toMatchObject({ eax: 0, carry: false });
    expect([bios.a20, get().eax]).toEqual([false, 0]);
    expect(bios.call(0x15, { eax: 0x2403 }, true)).toMatchObject({ eax: 3, ebx: 3, carry: false });
  });

  it('moves blocks, and says from where to where', () => {
    const bios = new TestBios();
    const descriptor = (at: number, base: number): void => {
      bios.memory.write32(at + 2, base & 0xffffff);
      bios.memory.write8(at + 7, base >>> 24);
    };
    const move = (from: number, to: number, words: number) => {
      descriptor(0x10610, from);
      descriptor(0x10618, to);
      return bios.call(0x15, { eax: 0x8700, ecx: words, es: 0x1000, esi: 0x600 });
    };
    bios.memory.copyIn(0x12345, Uint8Array.of(1, 2, 3, 4));
    expect(move(0x12345, 0x1abcdef, 2)).toMatchObject({
      ...{ eax: 0, carry: false, result: '0x12345..0x12349 to 0x1abcdef..0x1abcdf3' },
    });
    expect(bios.bytes(0x1abcdef, 5)).toEqual([1, 2, 3, 4, 0]);
    expect(status(move(0x12345, 0xff000000, 2))).toEqual([2, true]);
    expect(status(move(0xff000000, 0x12345, 2))).toEqual([2, true]);
    expect(bios.events.at(-1)!.result).toBeNull();
  });

  it('is an APM BIOS 1.2', () => {
    const bios = new TestBios();
    const call = (ax: number, more: { ebx?: number; ecx?: number } = {}) =>
      bios.call(0x15, { eax: ax, ...more }, true);
    expect(call(0x5300)).toMatchObject({ eax: 0x0102, ebx: 0x504d, ecx: 3, carry: false });
    for (const ax of [0x5301, 0x5304, 0x5305, 0x5306, 0x5308, 0x530d, 0x530f])
      expect(call(ax)).toMatchObject({ eax: ax, carry: false });
    expect(call(0x5302)).toMatchObject({
      ...{ eax: 0xf000, ebx: 0xc810, ecx: 0xf000, esi: 0xfff0, edi: 0xfff0, carry: false },
    });
    expect(call(0x5303, { ebx: 0xffffffff })).toMatchObject({
      ...{ eax: 0xf000, ebx: 0xc810, ecx: 0xf000, edx: 0xf000, esi: 0xfff0fff0, edi: 0xfff0, carry: false },
    });
    // What both connect to says that it does nothing: mov ah, 86h; stc; retf.
    expect(bios.bytes(0xfc810, 4)).toEqual([0xb4, 0x86, 0xf9, 0xcb]);
    // On line, no battery, and nobody knows the charge.
    expect(call(0x530a)).toMatchObject({ ebx: 0x0104, ecx: 0x80ff, edx: 0xffff, carry: false });
    expect(status(call(0x530b))).toEqual([0x80, true]);
    expect([0x0100, 0x0102, 0x0200].map((ecx) => call(0x530e, { ecx }).eax)).toEqual([
      0x0100, 0x0102, 0x0102,
    ]);
    call(0x5307, { ebx: 1, ecx: 1 });
    call(0x5307, { ebx: 0, ecx: 3 });
    expect(bios.stopped).toBeNull();
    expect(call(0x5307, { ebx: 1, ecx: 3 }).carry).toBe(false);
    expect(bios.stopped).toBe('the guest switched the machine off (INT 15h AX=5307h)');
  });

  it('waits, tells where its tables are, and leaves keys as they are', () => {
    const bios = new TestBios();
    expect(bios.call(0x15, { eax: 0x8600, ecx: 1, edx: 2 }, true).carry).toBe(false);
    expect(bios.clock.nanoseconds).toBe(0x10002 * 1000);
    const table = bios.call(0x15, { eax: 0xc000 }, true);
    expect(table).toMatchObject({ eax: 0, es: 0xf000, carry: false });
    // Bytes that follow, model AT, second PIC, RTC, keyboard intercept.
    expect(bios.bytes(0xf0000 + table.ebx, 7)).toEqual([8, 0, 0xfc, 0, 1, 0x74, 0x40]);
    expect(bios.call(0x15, { eax: 0xc100 }, true)).toMatchObject({ es: 0x9fc0, carry: false });
    expect(bios.call(0x15, { eax: 0x4f1e })).toMatchObject({ eax: 0x4f1e, carry: true });
    for (const eax of [0x9000, 0x9100]) expect(bios.call(0x15, { eax })).toMatchObject({ eax, carry: false });
    expect(bios.notices.texts).toEqual([]);
  });

  it.each([0xe881, 0xe980, 0xec00, 0xc200, 0x7777])('does not have %i', (eax) => {
    expect(status(new TestBios().call(0x15, { eax }))).toEqual([0x86, true]);
  });
});

describe('INT 16h', () => {
  it.each([
    ['', 0x00, 0x01],
    ['extended ', 0x10, 0x11],
  ])('hands out %skeys, and waits for none', (_, read, check) => {
    const bios = new TestBios();
    bios.keys.push(...parseKeys('up,x'));
    expect(bios.call(0x16, { eax: check << 8 })).toMatchObject({ eax: 0x4800, zero: false });
    expect(bios.call(0x16, { eax: check << 8 })).toMatchObject({ eax: 0x4800, zero: false });
    expect([bios.call(0x16, { eax: read << 8 }).eax, bios.call(0x16, { eax: read << 8 }).eax]).toEqual([
      0x4800, 0x78,
    ]);
    expect(bios.call(0x16, { eax: check << 8 })).toMatchObject({ eax: check << 8, zero: true });
    expect(bios.stopped).toBeNull();
    bios.call(0x16, { eax: read << 8 });
    expect(bios.stopped).toBe('the guest waits for a key, and there is nobody to press one');
  });

  it('has a buffer of fifteen keys', () => {
    const bios = new TestBios();
    const store = (key: number) => bios.call(0x16, { eax: 0x0500, ecx: key }).eax;
    expect(Array.from({ length: 16 }, (_, key) => store(key + 1) & 0xff)).toEqual([
      ...new Array(15).fill(0),
      1,
    ]);
    const read = () => bios.call(0x16, { eax: 0 }).eax;
    expect([read(), read()]).toEqual([1, 2]);
    // It is a ring.
    expect([store(100) & 0xff, store(101) & 0xff, store(102) & 0xff]).toEqual([0, 0, 1]);
    const rest = Array.from({ length: 15 }, read);
    expect(rest).toEqual([...Array.from({ length: 13 }, (_, index) => index + 3), 100, 101]);
  });

  it('lets time pass for whoever looks for a key: a little, then ticks, at last no more', () => {
    const bios = new TestBios();
    const look = (times: number): void => {
      for (let time = 0; time < times; time++) bios.call(0x16, { eax: 0x0100 });
    };
    look(64);
    expect(bios.clock.nanoseconds).toBe(64 * 1_000_000);
    const { ticks } = bios.clock;
    look(1);
    expect(bios.clock.ticks).toBe(ticks + 1);
    // A key begins it anew.
    bios.keys.push(...parseKeys('x'));
    look(1);
    bios.call(0x16, { eax: 0 });
    const before = bios.clock.nanoseconds;
    look(1);
    expect(bios.clock.nanoseconds).toBe(before + 1_000_000);
    bios.bios.onEvent = null;
    look(32768 - 1 - 1);
    expect(bios.stopped).toBeNull();
    look(2);
    expect(bios.stopped).toContain('nobody has pressed one for 30 minutes');
  });

  it('tells shift keys and what it can do', () => {
    const bios = new TestBios();
    bios.memory.write16(0x417, 0x1234);
    const call = (eax: number) => bios.call(0x16, { eax });
    expect([call(0x02ff).eax, call(0x12ff).eax]).toEqual([0x0234, 0x1234]);
    expect([call(0x0900).eax, call(0x0a00).ebx, call(0x9200).eax, call(0xa200).eax]).toEqual([
      ...[0x0930, 0x41ab, 0x8000, 0xa200],
    ]);
    call(0x0305);
    expect(bios.notices.texts).toEqual([]);
  });
});

describe('INT 1Ah', () => {
  const TICK = 65_536 / 1_193_182;

  it('counts ticks since midnight, which it tells of once', () => {
    const bios = new TestBios();
    bios.clock.advance(0x12345 * TICK * 1e9);
    expect(bios.call(0x1a, { eax: 0x00ff }, true)).toMatchObject({
      eax: 0,
      ecx: 1,
      edx: 0x2345,
      carry: false,
    });
    expect(bios.memory.read32(0x46c)).toBe(0x12345);
    expect(bios.call(0x1a, { eax: 0x0100, ecx: 0x18, edx: 0xaf }, true)).toMatchObject({
      eax: 0,
      carry: false,
    });
    expect(bios.memory.read32(0x46c)).toBe(0x1800af);
    bios.clock.advance(TICK * 1e9);
    expect(bios.call(0x1a, { eax: 0 })).toMatchObject({ eax: 1, ecx: 0, edx: 0 });
    expect(bios.call(0x1a, { eax: 0 })).toMatchObject({ eax: 0 });
    // More than a day begins anew, without a midnight.
    bios.call(0x1a, { eax: 0x0100, ecx: 0x18, edx: 0xb5 });
    expect(bios.call(0x1a, { eax: 0 })).toMatchObject({ eax: 0, ecx: 0, edx: 5 });
  });

  it('tells time and date in BCD, and lets a little time pass', () => {
    const bios = new TestBios();
    bios.clock.advance((45 * 86_400 + 13 * 3600 + 14 * 60 + 15) * 1e9);
    const before = bios.clock.nanoseconds;
    expect(bios.call(0x1a, { eax: 0x0200 }, true)).toMatchObject({ ecx: 0x1314, edx: 0x1500, carry: false });
    expect(bios.call(0x1a, { eax: 0x0400 }, true)).toMatchObject({ ecx: 0x2024, edx: 0x0215, carry: false });
    expect(bios.clock.nanoseconds).toBe(before + 200_000);
    for (const eax of [0x0300, 0x0500])
      expect(bios.call(0x1a, { eax }, true)).toMatchObject({ eax: 0, carry: false });
  });

  it('has neither a PCI BIOS nor a TPM', () => {
    const bios = new TestBios();
    expect(status(bios.call(0x1a, { eax: 0xb101 }))).toEqual([0x81, true]);
    expect(bios.call(0x1a, { eax: 0xbb00 })).toMatchObject({ eax: 0xbb00, carry: true });
    expect(bios.call(0x1a, { eax: 0x0700 })).toMatchObject({ eax: 0x0700, carry: true });
    expect(bios.notices.texts).toEqual(['INT 1Ah 0700 is not provided (called once)']);
  });

  it('counts on at each interrupt of the timer, and ends it', () => {
    const bios = new TestBios();
    bios.clock.advance(5.5 * TICK * 1e9);
    bios.pic.acknowledge(0);
    expect(bios.pic.wouldDeliver(0)).toBe(false);
    bios.call(0x08, {});
    expect([bios.memory.read32(0x46c), bios.pic.wouldDeliver(0), bios.bios.calls]).toEqual([5, true, 0]);
    bios.call(0x1c, {});
    expect(bios.bios.calls).toBe(0);
    bios.call(0x11, {});
    expect(bios.bios.calls).toBe(1);
  });
});

describe('the small interrupts', () => {
  it('send to the first serial port; others time out', () => {
    const bios = new TestBios();
    expect(bios.call(0x14, { eax: 0x0141 }).eax).toBe(0x6041);
    expect(bios.sent).toBe('A');
    for (const ah of [0, 3]) expect(bios.call(0x14, { eax: ah << 8 }).eax).toBe(0x60b0);
    expect(bios.call(0x14, { eax: 0x0200 }).eax).toBe(0xe000);
    for (const ah of [0, 1, 2, 3])
      expect(bios.call(0x14, { eax: (ah << 8) | 0x42, edx: 1 }).eax).toBe(0x8042);
    expect(bios.sent).toBe('A');
  });

  it('have no printer', () => {
    const bios = new TestBios();
    for (const ah of [0, 1, 2]) expect(bios.call(0x17, { eax: ah << 8 }).eax).toBe(0x0100);
    expect(bios.notices.texts).toEqual([]);
  });

  it('boot what is next, or end', () => {
    const bios = new TestBios();
    bios.nextDrive = 0x81;
    expect(bios.call(0x18, { es: 5 })).toMatchObject({
      edx: 0x81,
      es: 0,
      result: 'the next device is booted, drive 0x81',
    });
    expect(bios.stopped).toBeNull();
    bios.nextDrive = null;
    bios.call(0x18, {});
    expect(bios.stopped).toBe('the guest called INT 18h: it found nothing to boot');
    bios.call(0x19, {});
    expect(bios.stopped).toBe('the guest called INT 19h: it gave up and asks for another boot');
  });
});

describe('a call', () => {
  it('is told by its function, with the registers that it used', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0e41, ebx: 7 });
    expect(bios.events.at(-1)).toEqual({
      ...{ kind: 'bios', vector: 0x10, input: { eax: 0x0e41 }, output: {}, carry: false, result: null },
      text: 'INT 10h 0E: teletype output',
    });
    bios.call(0x15, { eax: 0x2402 });
    expect(bios.events.at(-1)).toMatchObject({ text: 'INT 15h 2402: get A20 status', output: { eax: 0 } });
    bios.call(0x15, { eax: 0x1234, ecx: 9 });
    expect(bios.events.at(-1)).toMatchObject({ text: 'INT 15h 1234: not provided', carry: true });
    bios.call(0x60, { eax: 0x1234 });
    expect(bios.events.at(-1)!.text).toBe('INT 60h: not provided');
    expect(bios.notices.texts).toEqual([
      'INT 15h 1234 is not provided (called once)',
      'INT 60h is not provided (called once)',
    ]);
    expect([bios.bios.lastAx, bios.bios.calls]).toEqual([0x1234, 4]);
  });

  it('that returns a segment is known beforehand', () => {
    const { bios } = new TestBios();
    expect([
      bios.returnsSegment(0x15, 0xc000),
      bios.returnsSegment(0x15, 0x8800),
      bios.returnsSegment(0x10, 0x1130),
      bios.returnsSegment(0x18, 0),
      bios.returnsSegment(0x60, 0),
    ]).toEqual([true, false, true, true, false]);
  });

  it('changes only the parts of registers that it sets', () => {
    const bios = new TestBios();
    const full = { eax: 0x11110200, ebx: 0x22222222, ecx: 0x33333333, edx: 0x44444444, esi: 0x55555555 };
    bios.memory.write8(0x417, 0x99);
    expect(bios.call(0x16, full)).toMatchObject({ ...full, eax: 0x11110299 });
    expect(bios.call(0x15, { ...full, eax: 0x11112403 })).toMatchObject({
      ...full,
      eax: 0x11110003,
      ebx: 0x22220003,
    });
    // CF stays for services that do not set it.
    expect(bios.call(0x16, full, true).carry).toBe(true);
  });
});
