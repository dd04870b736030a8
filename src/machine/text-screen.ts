// The text screen in video memory at 0xB8000: characters, cursor and scrolling, on the state the BDA keeps.

import type { PhysicalMemory } from '../x86/physical-memory.ts';
import {
  BDA_ACTIVE_PAGE,
  BDA_COLUMNS,
  BDA_CURSOR_POSITIONS,
  BDA_PAGE_OFFSET,
  BDA_PAGE_SIZE,
  BDA_ROWS,
  TEXT_MEMORY,
  TEXT_MEMORY_SIZE,
} from './bios/rom.ts';
import type { Vga } from './vga.ts';

export const NORMAL_ATTRIBUTE = 0x07;
const PAGES = 8;

const BELL = 7;
const BACKSPACE = 8;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** A rectangle of character cells; both corners belong to it. */
export interface TextWindow {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

export class TextScreen {
  readonly #memory: PhysicalMemory;
  readonly #vga: Vga;

  constructor(memory: PhysicalMemory, vga: Vga) {
    this.#memory = memory;
    this.#vga = vga;
  }

  get columns(): number {
    return this.#memory.read16(BDA_COLUMNS) || 80;
  }

  get rows(): number {
    return this.#memory.read8(BDA_ROWS) + 1;
  }

  get activePage(): number {
    return this.#memory.read8(BDA_ACTIVE_PAGE) % PAGES;
  }

  /** What the active page shows: a line a row, blanks at the ends of lines and empty last lines cut. */
  get text(): string {
    const lines: string[] = [];
    for (let row = 0; row < this.rows; row++) {
      let line = '';
      for (let column = 0; column < this.columns; column++) {
        const code = this.#memory.read8(this.#cell(this.activePage, row, column));
        line +=
          code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : code === 0 ? ' ' : codePage437(code);
      }
      lines.push(line.trimEnd());
    }
    return lines.join('\n').trimEnd();
  }

  /** Row and column of a page's cursor. */
  cursor(page: number): { readonly row: number; readonly column: number } {
    const position = this.#memory.read16(BDA_CURSOR_POSITIONS + (page % PAGES) * 2);
    return { row: position >>> 8, column: position & 0xff };
  }

  setCursor(page: number, row: number, column: number): void {
    this.#memory.write16(BDA_CURSOR_POSITIONS + (page % PAGES) * 2, (row << 8) | column);
    if (page === this.activePage) {
      const start = this.#memory.read16(BDA_PAGE_OFFSET) / 2;
      this.#vga.cursorOffset = start + row * this.columns + column;
    }
  }

  selectPage(page: number): void {
    const offset = (page % PAGES) * this.#memory.read16(BDA_PAGE_SIZE);
    this.#memory.write8(BDA_ACTIVE_PAGE, page % PAGES);
    this.#memory.write16(BDA_PAGE_OFFSET, offset);
    this.#vga.startOffset = offset / 2;
    const { row, column } = this.cursor(page);
    this.setCursor(page % PAGES, row, column);
  }

  /** Character in the low, attribute in the high byte. */
  readCell(page: number, row: number, column: number): number {
    return this.#memory.read16(this.#cell(page, row, column));
  }

  /** @param attribute - null leaves what is there */
  writeCell(page: number, row: number, column: number, character: number, attribute: number | null): void {
    const address = this.#cell(page, row, column);
    this.#memory.write8(address, character);
    if (attribute !== null) {
      this.#memory.write8(address + 1, attribute);
    }
  }

  /** Writes at the cursor as a teletype does: control characters act, the end of the screen scrolls. */
  teletype(page: number, character: number, attribute: number | null): void {
    let { row, column } = this.cursor(page);
    switch (character) {
      case BELL:
        return;
      case BACKSPACE:
        column = Math.max(0, column - 1);
        break;
      case LINE_FEED:
        row++;
        break;
      case CARRIAGE_RETURN:
        column = 0;
        break;
      default:
        this.writeCell(page, row, column, character, attribute);
        column++;
        if (column >= this.columns) {
          column = 0;
          row++;
        }
    }
    if (row >= this.rows) {
      row = this.rows - 1;
      const whole = { top: 0, left: 0, bottom: row, right: this.columns - 1 };
      this.scroll(page, whole, 1, NORMAL_ATTRIBUTE);
    }
    this.setCursor(page, row, column);
  }

  /**
   * Moves the lines of a window.
   * @param lines - up where positive, down where negative; 0 blanks the window
   * @param attribute - of the blank lines that come in
   */
  scroll(page: number, window: TextWindow, lines: number, attribute: number): void {
    const top = Math.min(window.top, this.rows - 1);
    const bottom = Math.min(window.bottom, this.rows - 1);
    const right = Math.min(window.right, this.columns - 1);
    const height = bottom - top + 1;
    const shift = lines === 0 || Math.abs(lines) > height ? height : lines;
    const order = Array.from({ length: Math.max(height, 0) }, (_, i) => (shift > 0 ? top + i : bottom - i));
    for (const row of order) {
      const from = row + shift;
      for (let column = window.left; column <= right; column++) {
        const inside = from >= top && from <= bottom;
        const cell = inside ? this.readCell(page, from, column) : (attribute << 8) | 0x20;
        this.#memory.write16(this.#cell(page, row, column), cell);
      }
    }
  }

  /** Blanks all pages. */
  clear(): void {
    this.#memory.fill16(TEXT_MEMORY, TEXT_MEMORY_SIZE / 2, (NORMAL_ATTRIBUTE << 8) | 0x20);
  }

  #cell(page: number, row: number, column: number): number {
    const offset = (page % PAGES) * this.#memory.read16(BDA_PAGE_SIZE) + (row * this.columns + column) * 2;
    return TEXT_MEMORY + (offset % TEXT_MEMORY_SIZE);
  }
}

const LINE_DRAWING = '░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀';

/** The few glyphs beyond ASCII that boot programs draw frames with; the rest shows as `?`. */
function codePage437(code: number): string {
  return code >= 0xb0 && code <= 0xdf ? LINE_DRAWING[code - 0xb0]! : '?';
}
