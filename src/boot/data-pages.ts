// While the guest decompresses by itself, what it writes to is mapped without execution: the engine's stores take many times as
// long where code might run. Nobody sees it: the guest's page tables are put back whenever the CPU stands still, whenever the guest
// could find out, and a page that code comes to is let run.

import type { Cpu, EngineWatcher } from '../cpu/cpu.ts';
import { readPagingState } from '../cpu/translate.ts';
import { EFER_NXE } from '../x86/control-registers.ts';
import { pagingMode, type TableMemory } from '../x86/page-tables.ts';

const PAGE = 4096;
const LARGE_PAGE = 0x20_0000;
const ENTRIES = 512;
const ENTRY = 8;
const TABLE_BITS = 9;
/** The level of tables whose entries can map 2 MiB. */
const LARGE_LEVEL = 2;

/** In the lower half of an entry. */
const PRESENT = 1;
const ACCESSED = 0x20;
const DIRTY = 0x40;
const LARGE = 0x80;
const RIGHTS = 7;
const FRAME = 0xffff_f000;
/** Where a large page has the bit that a small one has in the place of LARGE. */
const LARGE_PAT = 0x1000;
/** In the upper half. */
const NO_EXECUTE = 0x8000_0000;
const HIGH_FRAME = 0x000f_ffff;

/** Of an exception: the page was present, and an instruction was fetched from it (Intel SDM 3A 4.7). */
const FETCH_PROTECTED = 0x11;
const PAGE_FAULT = 14;

/** What stands in for large pages that hold both code and data: small ones, in memory that no guest has. */
const SPLIT_ADDRESS = 0xff_fff0_0000;
const MOST_SPLIT = 8;
const TWO_32 = 2 ** 32;

/** An entry of the guest's that is changed while the CPU runs: halves of 32 bits. */
interface Edit {
  readonly address: number;
  /** Of the table that it is in. */
  readonly view: DataView;
  /** In the view. */
  readonly offset: number;
  readonly low: number;
  readonly high: number;
  /** Which table stands in for the large page; null: the entry got the bit against execution, and nothing else. */
  readonly split: number | null;
}

export class DataPages implements EngineWatcher {
  readonly #cpu: Cpu;
  readonly #isWorthIt: () => boolean;
  /** Numbers of linear pages that code has run in. */
  readonly #code = new Set<number>();
  /** By what the large page is: its number. */
  readonly #splits = new Map<number, number>();
  /** By the table: the large page that it stands for, as it was put back, and how many pages of code it knows. */
  readonly #made: (
    | { readonly low: number; readonly high: number; readonly codePages: number }
    | undefined
  )[] = [];
  #tables: DataView | null = null;
  #edits: Edit[] = [];
  #isOpen = false;
  /** Code may have been translated anywhere since the last time. */
  #ranFreely = true;
  #cr2 = 0n;

  /** The tables as the CPU uses them now. */
  readonly tables: TableMemory = {
    contains: (address, length) => this.#isSplit(address) || this.#cpu.memory.contains(address, length),
    read32: (address) => this.#cpu.memory.read32(address),
    write32: (address, value) => this.#cpu.memory.write32(address, value),
    read64: (address) =>
      this.#isSplit(address)
        ? this.#splitTables().getBigUint64(address - SPLIT_ADDRESS, true)
        : this.#cpu.memory.read64(address),
    write64: (address, value) => {
      if (this.#isSplit(address)) this.#splitTables().setBigUint64(address - SPLIT_ADDRESS, value, true);
      else this.#cpu.memory.write64(address, value);
    },
  };

  /** @param isWorthIt - whether the CPU is to run more than a few instructions */
  constructor(cpu: Cpu, isWorthIt: () => boolean) {
    this.#cpu = cpu;
    this.#isWorthIt = isWorthIt;
  }

  /** Before the engine runs. */
  before(): void {
    const cpu = this.#cpu;
    const state = readPagingState(cpu);
    const mode = pagingMode(state);
    // A guest that uses the bit itself is left alone.
    const canBe = this.#isWorthIt() && mode.endsWith('level') && (state.efer & EFER_NXE) === 0n;
    if (!canBe || !cpu.setNoExecute(true)) {
      this.#ranFreely = true;
      return;
    }
    // Code that was translated where it is not to run any more would not be noticed to have been written over.
    if (this.#ranFreely) cpu.invalidateAllCode();
    this.#ranFreely = false;
    this.#code.add(Math.floor(Number(cpu.readRegister('rip')) / PAGE));
    this.#edit(Number(state.cr3 & ~0xfffn), mode === '5-level' ? 5 : 4, 0);
    this.#cr2 = cpu.readRegister('cr2');
    // Drops what the engine remembers of the page tables.
    cpu.writeRegister('cr3', state.cr3);
    this.#isOpen = true;
  }

  /** @param base - number of the first linear page that the table maps */
  #edit(table: number, level: number, base: number): void {
    const { memory } = this.#cpu;
    if (!memory.contains(table, PAGE)) return;
    const view = memory.dataView(table, PAGE);
    const pages = 2 ** (TABLE_BITS * (level - 1));
    const withCode = new Set<number>();
    for (const page of this.#code) withCode.add(Math.floor((page - base) / pages));
    for (let index = 0; index < ENTRIES; index++) {
      const low = view.getUint32(index * ENTRY, true);
      if ((low & PRESENT) === 0) continue;
      const high = view.getUint32(index * ENTRY + 4, true);
      const offset = index * ENTRY;
      const address = table + offset;
      if (!withCode.has(index)) {
        this.#edits.push({ ...{ address, view, offset, low, high }, split: null });
        view.setUint32(index * ENTRY + 4, high | NO_EXECUTE, true);
      } else if (level > 1 && (low & LARGE) === 0) {
        const child = (low & FRAME) >>> 0;
        this.#edit((high & HIGH_FRAME) * TWO_32 + child, level - 1, base + index * pages);
      } else if (level === LARGE_LEVEL) {
        const split = this.#split(low, high, base + index * pages);
        if (split === null) continue;
        this.#edits.push({ address, view, offset, low, high, split });
        const at = SPLIT_ADDRESS + split * PAGE;
        view.setUint32(index * ENTRY, ((at % TWO_32) | (low & (RIGHTS | ACCESSED))) >>> 0, true);
        view.setUint32(index * ENTRY + 4, Math.floor(at / TWO_32), true);
      }
    }
  }

  /** Small pages in place of a large one. @returns which table has them; null where there is none left */
  #split(low: number, high: number, first: number): number | null {
    let split = this.#splits.get(first);
    if (split === undefined) {
      if (this.#splits.size === MOST_SPLIT) return null;
      split = this.#splits.size;
      this.#splits.set(first, split);
    }
    // As it was left: it stands for the same page, and has what the guest has marked since.
    const made = this.#made[split];
    if (made?.low === low && made.high === high && made.codePages === this.#code.size) return split;
    const tables = this.#splitTables();
    const flags = (low & 0xfff & ~LARGE) | ((low & LARGE_PAT) !== 0 ? LARGE : 0);
    const frame = low & ~(LARGE_PAGE - 1);
    for (let index = 0; index < ENTRIES; index++) {
      const at = split * PAGE + index * ENTRY;
      tables.setUint32(at, (frame + index * PAGE) | flags, true);
      tables.setUint32(at + 4, this.#code.has(first + index) ? high : high | NO_EXECUTE, true);
    }
    return split;
  }

  #isSplit(address: number): boolean {
    return this.#isOpen && address >= SPLIT_ADDRESS && address < SPLIT_ADDRESS + MOST_SPLIT * PAGE;
  }

  #splitTables(): DataView {
    if (this.#tables === null || this.#tables.buffer.byteLength === 0) {
      const bytes = this.#cpu.mapDevice(SPLIT_ADDRESS, MOST_SPLIT * PAGE);
      this.#tables = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    return this.#tables;
  }

  /** After it has run: the page tables are the guest's again. */
  after(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const edit of this.#edits) this.#putBack(edit);
    this.#edits = [];
    this.#cpu.setNoExecute(false);
  }

  #putBack({ address, low, high, split, ...place }: Edit): void {
    // Where the engine's heap can grow, older views of it are empty then.
    const hasMoved = place.view.buffer.byteLength === 0;
    const view = hasMoved ? this.#cpu.memory.dataView(address, ENTRY) : place.view;
    const offset = hasMoved ? 0 : place.offset;
    const nowLow = view.getUint32(offset, true);
    const nowHigh = view.getUint32(offset + 4, true);
    if (split === null) {
      // The guest may have put something else there.
      const isOurs = nowHigh === (high | NO_EXECUTE) >>> 0 && ((nowLow ^ low) & FRAME) === 0;
      if (isOurs) view.setUint32(offset + 4, high, true);
      return;
    }
    const at = SPLIT_ADDRESS + split * PAGE;
    if (nowHigh !== Math.floor(at / TWO_32) || (nowLow & FRAME) >>> 0 !== at % TWO_32) return;
    let used = nowLow & ACCESSED;
    const tables = this.#splitTables();
    for (let index = 0; index < ENTRIES; index++) {
      used |= tables.getUint32(split * PAGE + index * ENTRY, true) & (ACCESSED | DIRTY);
    }
    view.setUint32(offset, (low | used) >>> 0, true);
    view.setUint32(offset + 4, high, true);
    this.#made[split] = { low: (low | used) >>> 0, high, codePages: this.#code.size };
  }

  /**
   * The CPU has raised an exception.
   * @returns true where it was for our sake: the guest goes on with the same instruction
   */
  onException(vector: number, errorCode: number): boolean {
    if (!this.#isOpen) return false;
    if (vector !== PAGE_FAULT || (errorCode & FETCH_PROTECTED) !== FETCH_PROTECTED) {
      this.giveBack();
      return false;
    }
    const page = Math.floor(Number(this.#cpu.readRegister('cr2')) / PAGE);
    this.#cpu.writeRegister('cr2', this.#cr2);
    const isNew = !this.#code.has(page);
    this.#code.add(page);
    const first = page - (page % ENTRIES);
    const split = this.#splits.get(first);
    const isSplit = isNew && split !== undefined && this.#edits.some((edit) => edit.split === split);
    if (isSplit) {
      const at = split * PAGE + (page - first) * ENTRY + 4;
      const tables = this.#splitTables();
      tables.setUint32(at, tables.getUint32(at, true) & ~NO_EXECUTE, true);
    } else this.giveBack();
    return true;
  }

  /** In a hook, before the guest or somebody else looks: everything is the guest's own up to the next run. */
  giveBack(): void {
    if (!this.#isOpen) return;
    this.after();
    this.#ranFreely = true;
  }
}
