// INT 10h: modes, cursor, pages, scrolling, fonts, colours and VBE (IBM VGA; VBE 3.0; VESA E-EDID).

import { describe, expect, it } from 'vitest';
import { TestBios } from './test-bios.ts';

const TEXT = 0xb8000;
/** A string of characters, then what follows the screen's left out. */
const say = (bios: TestBios, text: string): void => {
  for (const letter of text) bios.call(0x10, { eax: 0x0e00 | letter.charCodeAt(0) });
};
/** Character and attribute of a cell of page 0. */
const cell = (bios: TestBios, row: number, column: number): number =>
  bios.memory.read16(TEXT + (row * 80 + column) * 2);

describe('modes', () => {
  it.each([
    // Mode, what AL comes back as, columns, bytes a page.
    [0x00, 0x30, 40, 0x800],
    [0x01, 0x30, 40, 0x800],
    [0x02, 0x30, 80, 0x1000],
    [0x03, 0x30, 80, 0x1000],
    [0x07, 0x30, 80, 0x1000],
    [0x04, 0x30, 40, 0],
    [0x06, 0x3f, 80, 0],
    [0x0d, 0x20, 40, 0],
    [0x12, 0x20, 80, 0],
    [0x13, 0x20, 40, 0],
  ])('%i is set, and told', (mode, al, columns, page) => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0501 });
    bios.call(0x10, { eax: 0x0100, ecx: 0x0a0b });
    bios.call(0x10, { eax: 0x0200, edx: 0x0303 });
    bios.call(0x10, { eax: 0x1112 });
    expect(bios.call(0x10, { eax: mode }).eax).toBe(al);
    const { memory } = bios;
    expect({
      mode: memory.read8(0x449),
      columns: memory.read16(0x44a),
      pageSize: memory.read16(0x44c),
      offset: memory.read16(0x44e),
      shape: memory.read16(0x460),
      page: memory.read8(0x462),
      rows: memory.read8(0x484),
      fontHeight: memory.read16(0x485),
    }).toEqual({
      mode,
      columns,
      pageSize: page,
      offset: 0,
      shape: 0x0607,
      page: 0,
      rows: 24,
      fontHeight: 16,
    });
    expect(bios.call(0x10, { eax: 0x0f00, ebx: 0x1234 })).toMatchObject({
      eax: (columns << 8) | mode,
      ebx: 0x34,
    });
  });

  it('of text blank all pages, but where bit 7 says not to, and put the cursors home', () => {
    const bios = new TestBios();
    say(bios, 'x');
    bios.memory.write16(TEXT + 0x7ffe, 0x4178);
    bios.call(0x10, { eax: 0x0200, ebx: 0x0300, edx: 0x0405 });
    bios.call(0x10, { eax: 0x0083 });
    expect([cell(bios, 0, 0), bios.memory.read16(TEXT + 0x7ffe)]).toEqual([0x0778, 0x4178]);
    expect(Array.from({ length: 8 }, (_, page) => bios.memory.read16(0x450 + page * 2))).toEqual(
      new Array(8).fill(0),
    );
    bios.call(0x10, { eax: 0x0003 });
    expect([cell(bios, 0, 0), bios.memory.read16(TEXT + 0x7ffe)]).toEqual([0x0720, 0x0720]);
    expect([bios.vga.startOffset, bios.vga.cursorOffset]).toEqual([0, 0]);
  });

  it('that there are not change nothing', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0055 });
    expect([bios.memory.read8(0x449), bios.memory.read16(0x44a)]).toEqual([3, 80]);
    // Graphics leave what is in text memory.
    say(bios, 'x');
    bios.call(0x10, { eax: 0x0013 });
    expect(cell(bios, 0, 0)).toBe(0x0778);
  });
});

describe('cursor and pages', () => {
  it('have a shape and a place of their own', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0100, ecx: 0x0d0e });
    bios.call(0x10, { eax: 0x0200, ebx: 0x0000, edx: 0x0102 });
    bios.call(0x10, { eax: 0x0200, ebx: 0x0200, edx: 0x0304 });
    const where = (page: number) => bios.call(0x10, { eax: 0x0300, ebx: page << 8 });
    expect([where(0).edx, where(2).edx, where(1).edx]).toEqual([0x0102, 0x0304, 0]);
    expect(where(0).ecx).toBe(0x0d0e);
    // The cursor that is seen is that of the page that is shown.
    expect(bios.vga.cursorOffset).toBe(82);
    bios.call(0x10, { eax: 0x0502 });
    expect([bios.vga.startOffset, bios.vga.cursorOffset]).toEqual([2 * 0x800, 2 * 0x800 + 3 * 80 + 4]);
    expect([bios.memory.read8(0x462), bios.memory.read16(0x44e)]).toEqual([2, 0x2000]);
    expect(bios.call(0x10, { eax: 0x0f00 }).ebx).toBe(0x0200);
    say(bios, 'p');
    expect(bios.memory.read16(TEXT + 0x2000 + (3 * 80 + 4) * 2)).toBe(0x0770);
    expect(bios.screen.text).toBe('\n\n\n    p');
  });

  it('count modulo 8', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0200, ebx: 0x0900, edx: 0x0506 });
    expect(bios.call(0x10, { eax: 0x0300, ebx: 0x0100 }).edx).toBe(0x0506);
    bios.call(0x10, { eax: 0x0509 });
    expect(bios.memory.read8(0x462)).toBe(1);
  });
});

describe('characters', () => {
  it('are printed by teletype: control characters act, lines wrap', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0200, edx: 0x004e });
    say(bios, 'ab\x07c\bd\b\b\b\be\r\nf');
    expect(bios.text).toBe('ab\x07c\bd\b\b\b\be\r\nf');
    expect(bios.screen.text.split('\n')).toEqual([`${' '.repeat(78)}ab`, 'e', 'f']);
    expect(bios.call(0x10, { eax: 0x0300 }).edx).toBe(0x0201);
  });

  it('scroll the screen up at its end', () => {
    const bios = new TestBios();
    for (let row = 0; row < 25; row++) {
      bios.call(0x10, { eax: 0x0200, edx: row << 8 });
      bios.call(0x10, { eax: 0x0961 + row, ebx: 0x1e, ecx: 2 });
    }
    bios.call(0x10, { eax: 0x0200, edx: 0x184f });
    say(bios, '!');
    expect([cell(bios, 0, 0), cell(bios, 0, 1), cell(bios, 23, 0)]).toEqual([0x1e62, 0x1e62, 0x1e79]);
    expect([cell(bios, 24, 0), cell(bios, 23, 79) & 0xff]).toEqual([0x0720, 0x21]);
    expect(bios.call(0x10, { eax: 0x0300 }).edx).toBe(0x1800);
  });

  it('are drawn at the cursor, which stays, with an attribute or with what is there', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x0200, edx: 0x054f });
    bios.call(0x10, { eax: 0x0941, ebx: 0x1e, ecx: 2 });
    expect([cell(bios, 5, 78), cell(bios, 5, 79), cell(bios, 6, 0), cell(bios, 6, 1)]).toEqual([
      0x0720, 0x1e41, 0x1e41, 0x0720,
    ]);
    bios.call(0x10, { eax: 0x0a42, ebx: 0x4f, ecx: 1 });
    expect([cell(bios, 5, 79), cell(bios, 6, 0)]).toEqual([0x1e42, 0x1e41]);
    expect(bios.call(0x10, { eax: 0x0300 }).edx).toBe(0x054f);
    expect(bios.call(0x10, { eax: 0x0800 }).eax).toBe(0x1e42);
    // Not beyond the last row.
    bios.call(0x10, { eax: 0x0200, edx: 0x184e });
    bios.call(0x10, { eax: 0x0943, ebx: 0x1e, ecx: 5 });
    expect([cell(bios, 24, 79), bios.memory.read16(TEXT + 4000)]).toEqual([0x1e43, 0x0720]);
    bios.call(0x10, { eax: 0x0944, ebx: 0x1e, ecx: 0 });
    expect(cell(bios, 24, 78)).toBe(0x1e43);
    expect(bios.text).toBe('');
  });

  it('come as strings, with one attribute or each with its own', () => {
    const bios = new TestBios();
    bios.memory.copyIn(0x10600, Uint8Array.of(0x61, 0x1f, 0x62, 0x2f));
    const write = (al: number, count: number) =>
      bios.call(0x10, { eax: 0x1300 | al, ebx: 0x4e, ecx: count, edx: 0x0305, es: 0x1000, ebp: 0x600 });
    write(1, 1);
    expect([cell(bios, 3, 5), cell(bios, 3, 6)]).toEqual([0x4e61, 0x0720]);
    write(3, 2);
    expect([cell(bios, 3, 5), cell(bios, 3, 6)]).toEqual([0x1f61, 0x2f62]);
    expect(bios.call(0x10, { eax: 0x0300 }).edx).toBe(0x0307);
    bios.call(0x10, { eax: 0x0200, edx: 0x0101 });
    write(2, 2);
    expect(bios.call(0x10, { eax: 0x0300 }).edx).toBe(0x0101);
    expect(bios.text).toBe('aabab');
  });
});

describe('scrolling', () => {
  const rows = (bios: TestBios): string =>
    Array.from({ length: 6 }, (_, row) => String.fromCharCode(cell(bios, row, 2) & 0xff)).join('');
  /** Rows of letters, a to y. */
  const make = (): TestBios => {
    const bios = new TestBios();
    for (let row = 0; row < 25; row++) {
      for (let column = 0; column < 80; column++) {
        bios.memory.write16(TEXT + (row * 80 + column) * 2, 0x0761 + row);
      }
    }
    return bios;
  };
  const scroll = (bios: TestBios, ax: number, from: number, to: number) =>
    bios.call(0x10, { eax: ax, ebx: 0x1f00, ecx: from, edx: to });

  it.each([
    ['up by 1', 0x0601, 'abde f'],
    ['up by 2', 0x0602, 'abe  f'],
    ['up by all', 0x0600, 'ab   f'],
    ['up by more than all', 0x0604, 'ab   f'],
    ['down by 1', 0x0701, 'ab cdf'],
    ['down by 2', 0x0702, 'ab  cf'],
    ['down by all', 0x0700, 'ab   f'],
    ['down by as many as there are', 0x0703, 'ab   f'],
  ])('moves a window %s', (_, ax, expected) => {
    const bios = make();
    scroll(bios, ax, 0x0201, 0x0403);
    expect(rows(bios)).toBe(expected);
    // Its neighbours stay.
    for (const row of [2, 3, 4])
      expect([cell(bios, row, 0), cell(bios, row, 4)]).toEqual([0x0761 + row, 0x0761 + row]);
    expect(cell(bios, ax >>> 8 === 7 ? 2 : 4, 3)).toBe(0x1f20);
  });

  it('ends with the screen', () => {
    const bios = make();
    scroll(bios, 0x0601, 0x1700, 0xffff);
    expect([cell(bios, 22, 0), cell(bios, 23, 79), cell(bios, 24, 79)]).toEqual([0x0777, 0x0779, 0x1f20]);
    scroll(bios, 0x0601, 0x3000, 0xffff);
    expect(bios.memory.read16(TEXT + 4000)).toBe(0x0720);
  });

  it('is of the page that is shown', () => {
    const bios = make();
    bios.call(0x10, { eax: 0x0501 });
    scroll(bios, 0x0600, 0, 0x184f);
    expect([rows(bios), bios.memory.read16(TEXT + 0x1000)]).toEqual(['abcdef', 0x1f20]);
  });
});

describe('what the screen shows', () => {
  it('is text: frames as lines, other signs as question marks', () => {
    const bios = new TestBios();
    const signs = [0xc9, 0xcd, 0xbb, 0xdb, 0xb0, 0xdf, 0x80, 0x7f, 0x00, 0x7e, 0x1f, 0xe0];
    for (const [column, sign] of signs.entries()) bios.memory.write8(TEXT + column * 2, sign);
    expect(bios.screen.text).toBe('╔═╗█░▀?? ~??');
  });
});

describe('fonts', () => {
  it.each([
    [0x1101, 14, 28],
    [0x1111, 14, 28],
    [0x1102, 8, 50],
    [0x1112, 8, 50],
    [0x1104, 16, 25],
    [0x1114, 16, 25],
    [0x1100, 10, 40],
    [0x1110, 10, 40],
  ])('%i of height %i leave room for %i rows', (ax, height, rows) => {
    const bios = new TestBios();
    bios.call(0x10, { eax: ax === 0x1104 || ax === 0x1114 ? 0x1112 : 0x1104 });
    bios.call(0x10, { eax: ax, ebx: height << 8 });
    const pageSize = Math.ceil((rows * 80 * 2) / 256) * 256;
    expect([bios.memory.read8(0x484), bios.memory.read16(0x485), bios.memory.read16(0x44c)]).toEqual([
      ...[rows - 1, height, pageSize],
    ]);
    expect(bios.call(0x10, { eax: 0x1130 })).toMatchObject({
      ecx: height,
      edx: rows - 1,
      es: 0xf000,
      ebp: 0xd000,
    });
  });

  it('of no height change nothing', () => {
    const bios = new TestBios();
    for (const eax of [0x1100, 0x1110, 0x1103]) bios.call(0x10, { eax, ebx: 0 });
    expect([bios.memory.read8(0x484), bios.memory.read16(0x485)]).toEqual([24, 16]);
  });
});

describe('colours', () => {
  it('are set and read one by one and in blocks, six bits each', () => {
    const bios = new TestBios();
    bios.call(0x10, { eax: 0x1010, ebx: 5, ecx: 0x0102, edx: 0xff00 });
    expect(bios.vga.readColor(5)).toEqual([0x3f, 1, 2]);
    expect(bios.call(0x10, { eax: 0x1015, ebx: 5, edx: 0x00aa })).toMatchObject({ edx: 0x3faa, ecx: 0x0102 });
    bios.memory.copyIn(0x10600, Uint8Array.of(1, 2, 3, 4, 5, 6));
    bios.call(0x10, { eax: 0x1012, ebx: 254, ecx: 2, es: 0x1000, edx: 0x600 });
    expect([253, 254, 255].map((index) => bios.vga.readColor(index))).toEqual([
      [0, 0, 0],
      [1, 2, 3],
      [4, 5, 6],
    ]);
    bios.call(0x10, { eax: 0x1017, ebx: 4, ecx: 2, es: 0x1000, edx: 0x700 });
    expect(bios.bytes(0x10700, 7)).toEqual([0, 0, 0, 0x3f, 1, 2, 0]);
  });
});

describe('what kind of display it is', () => {
  it('is a colour VGA', () => {
    const bios = new TestBios();
    expect(bios.call(0x10, { eax: 0x1a00 })).toMatchObject({ eax: 0x1a1a, ebx: 8 });
    expect(bios.call(0x10, { eax: 0x1a01 })).toMatchObject({ eax: 0x1a1a });
    expect(bios.call(0x10, { eax: 0x1200, ebx: 0x10 })).toMatchObject({ ebx: 3, ecx: 9 });
    expect([0x2f, 0x30, 0x36, 0x37].map((ebx) => bios.call(0x10, { eax: 0x1200, ebx }).eax)).toEqual([
      ...[0x1200, 0x1212, 0x1212, 0x1200],
    ]);
    bios.call(0x10, { eax: 0x0b00 });
    bios.call(0x10, { eax: 0x1000 });
    expect(bios.notices.texts).toEqual([]);
    bios.call(0x10, { eax: 0x1c00 });
    expect(bios.notices.texts).toEqual(['INT 10h 1C00 is not provided (called once)']);
  });
});

describe('VBE', () => {
  const AT = 0x10600;
  const buffer = { es: 0x1000, edi: 0x600 };

  it('tells of a controller with 16 MiB, of 512 bytes only where VBE 2 is asked for', () => {
    const bios = new TestBios();
    bios.memory.fill(AT, 512, 0xee);
    expect(bios.call(0x10, { eax: 0x4f00, ...buffer }).eax).toBe(0x004f);
    const { memory } = bios;
    const far = (at: number): number => memory.read16(at + 2) * 16 + memory.read16(at);
    expect([memory.read16(AT + 4), memory.read32(AT + 10), memory.read16(AT + 18)]).toEqual([0x300, 1, 256]);
    expect([memory.read8(AT + 255), memory.read8(AT + 256)]).toEqual([0, 0xee]);
    const modes: number[] = [];
    for (let at = far(AT + 14); memory.read16(at) !== 0xffff; at += 2) modes.push(memory.read16(at));
    expect(modes).toEqual(modes.toSorted((a, b) => a - b));
    expect(modes).toEqual(expect.arrayContaining([0x101, 0x103, 0x105, 0x111, 0x112, 0x118]));
    const name = memory.copyOut(far(AT + 6), 4);
    expect([...name].every((code) => code > 0x20 && code < 0x7f)).toBe(true);
    memory.copyIn(AT, new TextEncoder().encode('VBE2'));
    bios.call(0x10, { eax: 0x4f00, ...buffer });
    expect([memory.read8(AT + 256), memory.read8(AT + 511)]).toEqual([0, 0]);
    for (const field of [0x16, 0x1a, 0x1e]) expect(far(AT + field)).toBe(far(AT + 6));
  });

  it.each([
    // Mode, size, bits, memory model, images behind the first, bytes a line, masks and positions.
    [0x101, 640, 480, 8, 4, 53, 640, [0, 0, 0, 0, 0, 0, 0, 0]],
    [0x110, 640, 480, 15, 6, 26, 1280, [5, 10, 5, 5, 5, 0, 1, 15]],
    [0x114, 800, 600, 16, 6, 16, 1600, [5, 11, 6, 5, 5, 0, 0, 0]],
    [0x118, 1024, 768, 24, 6, 6, 3072, [8, 16, 8, 8, 8, 0, 0, 0]],
    [0x144, 1024, 768, 32, 6, 4, 4096, [8, 16, 8, 8, 8, 0, 8, 24]],
  ])('describes mode %i of %i by %i in %i bits', (mode, width, height, bits, model, images, line, masks) => {
    const bios = new TestBios();
    bios.memory.fill(AT, 257, 0xee);
    const { eax, result } = bios.call(0x10, { eax: 0x4f01, ecx: mode | 0x4000, ...buffer });
    expect([eax, result]).toEqual([0x004f, `${width}x${height}, ${bits} bits`]);
    const { memory } = bios;
    // ModeInfoBlock: supported, colour, graphics, with a linear frame buffer; 64 KiB windows at A000h.
    expect(memory.read16(AT) & 0x99).toBe(0x99);
    expect([2, 3].map((at) => memory.read8(AT + at))).toEqual([7, 0]);
    expect([4, 6, 8, 16, 18, 20].map((at) => memory.read16(AT + at))).toEqual([
      64,
      64,
      0xa000,
      line,
      width,
      height,
    ]);
    expect(bios.bytes(AT + 22, 9)).toEqual([8, 16, 1, bits, 1, model, 0, images, 1]);
    expect(bios.bytes(AT + 31, 8)).toEqual(masks);
    expect([memory.read8(AT + 39), memory.read16(AT + 50)]).toEqual([bits === 32 ? 2 : 0, line]);
    expect(memory.read32(AT + 40) % 0x100000).toBe(0);
    expect(bios.bytes(AT + 52, 2)).toEqual([images, images]);
    expect(bios.bytes(AT + 54, 8)).toEqual(masks);
    expect([memory.read8(AT + 255), memory.read8(AT + 256)]).toEqual([0, 0xee]);
  });

  it('sets modes, and tells which is set', () => {
    const bios = new TestBios();
    const set = (ebx: number) => bios.call(0x10, { eax: 0x4f02, ebx }).eax;
    const get = () => bios.call(0x10, { eax: 0x4f03 });
    expect(get()).toMatchObject({ eax: 0x004f, ebx: 3 });
    expect([set(0xc118), get().ebx]).toEqual([0x004f, 0xc118]);
    expect([set(0x1ff), get().ebx]).toEqual([0x014f, 0xc118]);
    expect([set(0x0013), get().ebx, bios.memory.read8(0x449)]).toEqual([0x004f, 0x13, 0x13]);
    expect([set(0x0014), set(0x0003), bios.memory.read8(0x449)]).toEqual([0x014f, 0x004f, 3]);
    expect(bios.call(0x10, { eax: 0x4f01, ecx: 0x1ff, ...buffer }).eax).toBe(0x014f);
    expect(bios.call(0x10, { eax: 0x4f0a }).eax).toBe(0x0100);
  });

  it('hands out what a monitor of 1024 by 768 says of itself', () => {
    const bios = new TestBios();
    expect(bios.call(0x10, { eax: 0x4f15, ebx: 0 })).toMatchObject({ eax: 0x004f, ebx: 0x0103 });
    const read = (ebx: number, edx: number) => bios.call(0x10, { eax: 0x4f15, ebx, edx, ...buffer });
    expect([read(1, 1).eax, read(2, 0).eax]).toEqual([0x014f, 0x014f]);
    expect(bios.bytes(AT, 8)).toEqual(new Array(8).fill(0));
    expect(read(1, 0)).toMatchObject({ eax: 0x004f, result: 'an EDID block' });
    const edid = bios.memory.copyOut(AT, 129);
    // Header, version 1.3, a sum of 0.
    expect([...edid.subarray(0, 8)]).toEqual([0, 255, 255, 255, 255, 255, 255, 0]);
    expect([edid[18], edid[19], edid.subarray(0, 128).reduce((sum, byte) => sum + byte, 0) & 0xff]).toEqual([
      1, 3, 0,
    ]);
    // The year since 1990. The maker's letters are as they are: KASLR's seeds count every byte of boot_params, this block too.
    expect([edid[8], edid[9]]).toEqual([0x0b, 0xf3]);
    expect(edid[17]! + 1990).toBe(2024);
    // The first timing: pixel clock in 10 kHz, active pixels and lines.
    const timing = edid.subarray(54, 72);
    expect([
      timing[0]! | (timing[1]! << 8),
      timing[2]! | ((timing[4]! & 0xf0) << 4),
      timing[5]! | ((timing[7]! & 0xf0) << 4),
    ]).toEqual([6500, 1024, 768]);
    // Established timings at 60 Hz: 640x480, 800x600; 1024x768.
    expect([edid[35], edid[36]]).toEqual([0x21, 0x08]);
    expect([...edid.subarray(38, 54)]).toEqual(new Array(16).fill(1));
    expect([...edid.subarray(72, 77)]).toEqual([0, 0, 0, 0xfc, 0]);
    expect(new TextDecoder().decode(edid.subarray(77, 90))).toBe('Bootscope\n   ');
    expect([edid[93], edid[111]]).toEqual([0x10, 0x10]);
  });
});
