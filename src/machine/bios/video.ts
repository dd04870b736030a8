// INT 10h: the video BIOS of a VGA in text mode. Graphics modes can be set and are remembered; nothing draws in them.

import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { TextScreen } from '../text-screen.ts';
import type { Vga } from '../vga.ts';
import {
  BDA_ACTIVE_PAGE,
  BDA_COLUMNS,
  BDA_CURSOR_SHAPE,
  BDA_FONT_HEIGHT,
  BDA_PAGE_OFFSET,
  BDA_PAGE_SIZE,
  BDA_ROWS,
  BDA_VIDEO_MODE,
  ROM_FONT,
  ROM_SEGMENT,
} from './rom.ts';
import { type BiosRegisters, type BiosService, type BiosVector, linear } from './service.ts';
import { vbeServices } from './vbe.ts';

const NO_CLEAR = 0x80;
const SCAN_LINES = 400;
const DISPLAY_VGA_COLOR = 0x08;
/** Columns and bytes a page of the text modes. */
const TEXT_MODES: ReadonlyMap<number, { readonly columns: number; readonly pageSize: number }> = new Map([
  [0, { columns: 40, pageSize: 0x800 }],
  [1, { columns: 40, pageSize: 0x800 }],
  [2, { columns: 80, pageSize: 0x1000 }],
  [3, { columns: 80, pageSize: 0x1000 }],
  [7, { columns: 80, pageSize: 0x1000 }],
]);
const GRAPHICS_MODES: ReadonlySet<number> = new Set([4, 5, 6, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13]);
const GRAPHICS_MODES_40: ReadonlySet<number> = new Set([4, 5, 0x0d, 0x13]);

export interface VideoParts {
  readonly memory: PhysicalMemory;
  readonly screen: TextScreen;
  readonly vga: Vga;
  /** Called with each character printed by teletype or as a string; drawing (AH=09h, 0Ah) is not printing. */
  readonly onCharacter: (code: number) => void;
}

/** The services of INT 10h. An unknown function changes nothing, as on a real VGA. */
export function videoVector(parts: VideoParts): BiosVector {
  const { memory, screen, vga, onCharacter } = parts;

  function setTextGeometry(mode: number): void {
    const text = TEXT_MODES.get(mode);
    memory.write8(BDA_VIDEO_MODE, mode);
    memory.write16(BDA_COLUMNS, text?.columns ?? (GRAPHICS_MODES_40.has(mode) ? 40 : 80));
    memory.write16(BDA_PAGE_SIZE, text?.pageSize ?? 0);
    memory.write16(BDA_PAGE_OFFSET, 0);
    memory.write8(BDA_ACTIVE_PAGE, 0);
    memory.write8(BDA_ROWS, 24);
    memory.write16(BDA_FONT_HEIGHT, 16);
    memory.write16(BDA_CURSOR_SHAPE, 0x0607);
  }

  function setMode(registers: BiosRegisters): void {
    const mode = registers.al & 0x7f;
    const clear = !(registers.al & NO_CLEAR);
    if (TEXT_MODES.has(mode)) {
      setTextGeometry(mode);
      if (clear) {
        screen.clear();
      }
      for (let page = 7; page >= 0; page--) {
        screen.setCursor(page, 0, 0);
      }
      screen.selectPage(0);
    } else if (GRAPHICS_MODES.has(mode)) {
      setTextGeometry(mode);
    }
    registers.al = mode > 7 ? 0x20 : mode === 6 ? 0x3f : 0x30;
  }

  /** Loads a font: the height decides how many rows fit into 400 lines. */
  function setFontHeight(height: number): void {
    memory.write8(BDA_ROWS, Math.floor(SCAN_LINES / height) - 1);
    memory.write16(BDA_FONT_HEIGHT, height);
    memory.write16(BDA_PAGE_SIZE, Math.ceil(((memory.read8(BDA_ROWS) + 1) * screen.columns * 2) / 256) * 256);
  }

  function writeRepeated(registers: BiosRegisters, attribute: number | null): void {
    const page = registers.bh;
    let { row, column } = screen.cursor(page);
    for (let left = registers.cx; left > 0 && row < screen.rows; left--) {
      screen.writeCell(page, row, column, registers.al, attribute);
      column++;
      if (column >= screen.columns) {
        column = 0;
        row++;
      }
    }
  }

  function writeString(registers: BiosRegisters): void {
    const [updateCursor, withAttributes] = [(registers.al & 1) !== 0, (registers.al & 2) !== 0];
    const page = registers.bh;
    const before = screen.cursor(page);
    let address = linear(registers.es, registers.bp);
    screen.setCursor(page, registers.dh, registers.dl);
    for (let left = registers.cx; left > 0; left--) {
      const character = memory.read8(address++);
      const attribute = withAttributes ? memory.read8(address++) : registers.bl;
      screen.teletype(page, character, attribute);
      onCharacter(character);
    }
    if (!updateCursor) {
      screen.setCursor(page, before.row, before.column);
    }
  }

  function scroll(registers: BiosRegisters, direction: 1 | -1): void {
    const window = { top: registers.ch, left: registers.cl, bottom: registers.dh, right: registers.dl };
    screen.scroll(screen.activePage, window, direction * registers.al, registers.bh);
  }

  function readColor(r: BiosRegisters): void {
    const [red, green, blue] = vga.readColor(r.bl);
    r.dh = red;
    r.cx = (green << 8) | blue;
  }

  function writeColors(r: BiosRegisters): void {
    let address = linear(r.es, r.dx);
    for (let index = r.bx; index < r.bx + r.cx; index++, address += 3) {
      vga.writeColor(index, [memory.read8(address), memory.read8(address + 1), memory.read8(address + 2)]);
    }
  }

  function readColors(r: BiosRegisters): void {
    const colors = Array.from({ length: r.cx }, (_, i) => vga.readColor(r.bx + i));
    memory.copyIn(linear(r.es, r.dx), Uint8Array.from(colors.flat()));
  }

  const byAh: readonly (readonly [number, BiosService])[] = [
    [0x00, { name: 'set video mode', run: setMode }],
    [0x01, { name: 'set cursor shape', run: (r) => memory.write16(BDA_CURSOR_SHAPE, r.cx) }],
    [0x02, { name: 'set cursor position', run: (r) => screen.setCursor(r.bh, r.dh, r.dl) }],
    [
      0x03,
      {
        name: 'get cursor position and shape',
        run: (r) => {
          const { row, column } = screen.cursor(r.bh);
          r.dx = (row << 8) | column;
          r.cx = memory.read16(BDA_CURSOR_SHAPE);
        },
      },
    ],
    [0x05, { name: 'select display page', run: (r) => screen.selectPage(r.al) }],
    [0x06, { name: 'scroll up', run: (r) => scroll(r, 1) }],
    [0x07, { name: 'scroll down', run: (r) => scroll(r, -1) }],
    [
      0x08,
      {
        name: 'read character and attribute',
        run: (r) => {
          const { row, column } = screen.cursor(r.bh);
          r.ax = screen.readCell(r.bh, row, column);
        },
      },
    ],
    [0x09, { name: 'write character and attribute', run: (r) => writeRepeated(r, r.bl) }],
    [0x0a, { name: 'write character', run: (r) => writeRepeated(r, null) }],
    [0x0b, { name: 'set palette or border', run: () => {} }],
    [
      0x0e,
      {
        name: 'teletype output',
        run: (r) => {
          screen.teletype(screen.activePage, r.al, null);
          onCharacter(r.al);
        },
      },
    ],
    [
      0x0f,
      {
        name: 'get video mode',
        run: (r) => {
          r.al = memory.read8(BDA_VIDEO_MODE);
          r.ah = memory.read16(BDA_COLUMNS);
          r.bh = screen.activePage;
        },
      },
    ],
    [0x10, { name: 'palette registers', run: () => {} }],
    [0x13, { name: 'write string', run: writeString }],
    [
      0x12,
      {
        name: 'alternate select',
        run: (r) => {
          if (r.bl === 0x10) {
            r.bx = 0x0003; // colour, 256 KiB
            r.cx = 0x0009;
          } else if (r.bl >= 0x30 && r.bl <= 0x36) {
            r.al = 0x12;
          }
        },
      },
    ],
  ];

  const byAx: readonly (readonly [number, BiosService])[] = [
    [0x1100, { name: 'load user font', run: (r) => (r.bh > 0 ? setFontHeight(r.bh) : undefined) }],
    [0x1110, { name: 'load user font', run: (r) => (r.bh > 0 ? setFontHeight(r.bh) : undefined) }],
    [0x1101, { name: 'load 8x14 font', run: () => setFontHeight(14) }],
    [0x1111, { name: 'load 8x14 font', run: () => setFontHeight(14) }],
    [0x1102, { name: 'load 8x8 font', run: () => setFontHeight(8) }],
    [0x1112, { name: 'load 8x8 font', run: () => setFontHeight(8) }],
    [0x1103, { name: 'select font block', run: () => {} }],
    [0x1104, { name: 'load 8x16 font', run: () => setFontHeight(16) }],
    [0x1114, { name: 'load 8x16 font', run: () => setFontHeight(16) }],
    [
      0x1130,
      {
        name: 'get font information',
        returnsSegment: true,
        run: (r) => {
          r.cx = memory.read16(BDA_FONT_HEIGHT);
          r.dl = memory.read8(BDA_ROWS);
          r.es = ROM_SEGMENT;
          r.bp = ROM_FONT;
        },
      },
    ],
    [0x1010, { name: 'set DAC register', run: (r) => vga.writeColor(r.bl, [r.dh, r.ch, r.cl]) }],
    [0x1012, { name: 'set DAC registers', run: writeColors }],
    [0x1015, { name: 'read DAC register', run: readColor }],
    [0x1017, { name: 'read DAC registers', run: readColors }],
    [
      0x1a00,
      {
        name: 'get display combination',
        run: (r) => {
          r.al = 0x1a;
          r.bx = DISPLAY_VGA_COLOR;
        },
      },
    ],
    [
      0x1a01,
      {
        name: 'set display combination',
        run: (r) => {
          r.al = 0x1a;
        },
      },
    ],
    ...vbeServices(memory, (mode) => setTextGeometry(mode)),
  ];
  return { vector: 0x10, byAx: new Map(byAx), byAh: new Map(byAh) };
}
