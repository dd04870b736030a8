// Counts executed instructions: whole blocks as they begin, taken back where one is left before its end.

import type { PhysicalMemory } from '../x86/physical-memory.ts';
import {
  BLOCKS_PER_LOOK,
  blockCheck,
  ENTRY_SIZE,
  MOST_TOLD,
  NO_STOP,
  REPEATS,
  STATE,
  STATE_SIZE,
  TABLE_MASK,
} from './block-counter.ts';
import type { BlockDecoder, DecodedBlock } from './cpu.ts';
import type { Pointer, Transport } from './transport.ts';

const TWO_32 = 2 ** 32;
/** Bytes at the beginning and at the end of a block that tell it from others. */
const CHECKED = 8;
/** The state is read and written as 32-bit words: these are their numbers. */
const TOTAL = STATE.total / 4;
const ADDRESS = STATE.address / 4;
const SIZE = STATE.size / 4;
const COUNTED = STATE.counted / 4;
const REPEAT_END = STATE.repeatEnd / 4;
const STOP_AT = STATE.stopAt / 4;
const CONTROL = STATE.ctl / 4;
const LOOKS = STATE.looks / 4;
const SPECIAL = STATE.special / 4;
const TABLE = STATE.table / 4;
const TOLD_COUNT = STATE.toldCount / 4;
const TOLD = STATE.told / 4;

/** Linear, `end` inclusive. */
export interface LinearRange {
  readonly begin: bigint;
  readonly end: bigint;
}

interface KnownBlock {
  readonly size: number;
  /** See `blockCheck`; 0 where the code cannot be read. */
  readonly low: number;
  readonly high: number;
  readonly block: DecodedBlock;
}

/** What the counter's owner is asked when a block begins that JavaScript has to know of. */
export interface BlockWatcher {
  /** A block that is new, or whose kind is always told, or any while each is. True: it is left before its first instruction. */
  isLeft(address: number, size: number, block: DecodedBlock): boolean;
  /** The block would go beyond the total that was set. False: it is left before its first instruction; true: there is a new one. */
  reached(address: number, size: number, block: DecodedBlock, instructionsLeft: number): boolean;
  /** Asked every `BLOCKS_PER_LOOK` blocks and iterations of a repeated instruction. True: this one is left before it begins. */
  isTimeUp(address: number): boolean;
  /** It lies where all blocks are told, and nothing else keeps it from running. False: it is left before its first instruction. */
  begins(address: number, size: number): boolean;
}

/**
 * What the hook in `block-counter.ts` counts, at the grain of instructions. The block of the state is the one that runs,
 * or ran last; `counted` of its instructions are in the total.
 */
export class InstructionCounter {
  readonly #transport: Transport;
  readonly #state: Pointer;
  readonly #memory: PhysicalMemory;
  readonly #decode: BlockDecoder;
  readonly #watcher: BlockWatcher;
  readonly #known = new Map<number, KnownBlock>();
  #told: readonly LinearRange[] = [];
  #words: Uint32Array;
  /** See `stopAt` and `tellEach`. */
  #stopAt: number | null = null;
  #tellsEach = false;
  /** The block, by the total at its beginning, that hooked instructions were last looked for in, and how many were found. */
  #hookedBlock = -1;
  readonly #hookedFound = { ports: 0, cpuids: 0 };

  /**
   * @param state - `STATE_SIZE` bytes that the hook counts in
   * @param special - second bytes of opcodes whose blocks are told even where machine code counts
   */
  constructor(
    transport: Transport,
    state: Pointer,
    memory: PhysicalMemory,
    decode: BlockDecoder,
    watcher: BlockWatcher,
    special: readonly number[],
  ) {
    this.#transport = transport;
    this.#state = state;
    this.#memory = memory;
    this.#decode = decode;
    this.#watcher = watcher;
    this.#words = this.#view();
    for (const byte of special) this.#words[SPECIAL + (byte >> 5)]! |= 1 << (byte & 31);
    this.tellAll(false);
  }

  #view(): Uint32Array {
    const { buffer, byteOffset } = this.#transport.view(this.#state, STATE_SIZE);
    return new Uint32Array(buffer, byteOffset, STATE_SIZE / 4);
  }

  /** Where the engine's heap can grow, older views of it are empty then. */
  #fields(): Uint32Array {
    if (this.#words.length === 0) this.#words = this.#view();
    return this.#words;
  }

  /** Instructions of all blocks that began, less those that are known not to have run. */
  get total(): number {
    const fields = this.#fields();
    return fields[TOTAL]! + fields[TOTAL + 1]! * TWO_32;
  }

  /** Between runs: instructions before the one that is next, which may be in the middle of its repetitions. */
  get standing(): number {
    return this.#fields()[COUNTED] === 0 && this.#isRepeating() ? this.total - 1 : this.total;
  }

  /** Counts instructions that the host did. */
  add(count: number): void {
    add(this.#fields(), count);
  }

  /** Between runs, in no block: counts on from `total`. */
  reset(total: number): void {
    const fields = this.#fields();
    fields[TOTAL] = total;
    fields[TOTAL + 1] = total / TWO_32;
    fields[COUNTED] = 0;
    setRepeatEnd(fields, 0);
  }

  /** The total that no block may go beyond without `reached` being called; null: none. */
  set stopAt(total: number | null) {
    this.#stopAt = total;
    this.#setStop();
  }

  /** Whether the watcher is told of each block that begins; at once, also while the library runs. */
  tellEach(each: boolean): void {
    this.#tellsEach = each;
    this.#setStop();
  }

  #setStop(): void {
    // No block goes beyond nothing without a call.
    const value = this.#tellsEach ? 0n : this.#stopAt === null ? NO_STOP : BigInt(this.#stopAt);
    this.#fields().set(words(value), STOP_AT);
  }

  /** Where each block is told, each time that it begins; between runs. Instead of what was given before. */
  tell(ranges: readonly LinearRange[]): void {
    const isNew = ranges.some((range) => !this.#told.includes(range));
    this.#told = ranges;
    const fields = this.#fields();
    fields[TOLD_COUNT] = Math.min(ranges.length, MOST_TOLD);
    for (const [index, { begin, end }] of ranges.slice(0, MOST_TOLD).entries()) {
      fields.set([...words(begin), ...words(end - begin)], TOLD + index * 4);
    }
    if (!isNew) return;
    for (let entry = TABLE; entry < TABLE + (TABLE_MASK + 1) * (ENTRY_SIZE / 4); entry += ENTRY_SIZE / 4) {
      if (fields[entry] !== 0 && this.#isTold(fields[entry]!)) fields[entry] = 0;
    }
  }

  /** Whether every new block is decoded here, not counted by machine code with the library's help. */
  tellAll(all: boolean): void {
    const control = all || this.#told.length > MOST_TOLD ? 0n : this.#transport.controlFunction;
    this.#fields().set(words(control), CONTROL);
  }

  /** The clock is looked at before the next block, or iteration. */
  lookSoon(): void {
    this.#fields()[LOOKS] = 1;
  }

  /** For the hook: a block that is not in its table, or goes beyond `stopAt`, or before which the clock is to be looked at. */
  missed(address: number, size: number): void {
    const fields = this.#fields();
    if (fields[LOOKS] === 0) {
      fields[LOOKS] = BLOCKS_PER_LOOK;
      const iterates =
        this.#isRepeating() && fields[REPEAT_END]! + fields[REPEAT_END + 1]! * TWO_32 === address + size;
      fields[COUNTED] = 0;
      if (!iterates) setRepeatEnd(fields, 0);
      if (this.#watcher.isTimeUp(address) || iterates) return;
    }
    const block = this.#blockAt(address, size);
    // Another block has begun, and nothing of it is counted yet.
    fields[COUNTED] = 0;
    setRepeatEnd(fields, 0);
    if (this.#watcher.isLeft(address, size, block)) return;
    const count = block.starts.length;
    for (let left = this.#left; left !== null && count > left; left = this.#left) {
      if (!this.#watcher.reached(address, size, block, left)) return;
    }
    const isTold = this.#isTold(address);
    if (isTold && !this.#watcher.begins(address, size)) return;
    const end = address + size;
    add(fields, count);
    fields[COUNTED] = count;
    setRepeatEnd(fields, block.repeats ? end : 0);
    const check = isTold ? null : this.#check(address, end);
    if (check === null) return;
    const entry = TABLE + (address & TABLE_MASK) * (ENTRY_SIZE / 4);
    fields[entry] = address;
    fields[entry + 1] = size | ((block.repeats ? count | REPEATS : count) << 16);
    fields[entry + 2] = check.low;
    fields[entry + 3] = check.high;
  }

  get #left(): number | null {
    return this.#stopAt === null ? null : this.#stopAt - this.total;
  }

  #isTold(address: number): boolean {
    const linear = BigInt(address);
    return this.#told.some(({ begin, end }) => begin <= linear && linear <= end);
  }

  /** Null where the hook does not look a block up. */
  #check(address: number, end: number): ReturnType<typeof blockCheck> | null {
    const first = Math.min(address, end - CHECKED);
    const length = Math.max(address + CHECKED, end) - first;
    if (address < CHECKED || end + CHECKED > this.#memory.blocks[0]!.end) return null;
    return blockCheck(this.#memory.dataView(first, length), address - first, end - first);
  }

  #blockAt(address: number, size: number): DecodedBlock {
    const end = address + size;
    const { low, high } = this.#check(address, end) ?? { low: 0, high: 0 };
    const known = this.#known.get(address);
    if (known?.size === size && known.low === low && known.high === high) return known.block;
    const block = this.#decode(address, size);
    this.#known.set(address, { size, low, high, block });
    return block;
  }

  /** The running block, null before the first. */
  #block(): DecodedBlock | null {
    const size = this.#fields()[SIZE]!;
    return size === 0 ? null : this.#blockAt(this.#address(), size);
  }

  #address(): number {
    const fields = this.#fields();
    return fields[ADDRESS]! + fields[ADDRESS + 1]! * TWO_32;
  }

  /** Where the block lies that runs, or ran last: [start, end). */
  get range(): { readonly start: number; readonly end: number } {
    const start = this.#address();
    return { start, end: start + this.#fields()[SIZE]! };
  }

  /** How many instructions of the running block come before the one at `address`; null where it is not one of them. */
  #index(address: number): number | null {
    const index = this.#block()?.starts.indexOf(address - this.#address()) ?? -1;
    return index < 0 ? null : index;
  }

  /** Instructions executed before the one at `address` of the running block. */
  before(address: number): number {
    const counted = this.#fields()[COUNTED]!;
    // A repeated one that iterates was counted when it began.
    if (counted === 0) return this.#isRepeating() ? this.total - 1 : this.total;
    const index = this.#index(address);
    return index === null ? this.total : this.total - counted + index;
  }

  #isRepeating(): boolean {
    const fields = this.#fields();
    return fields[REPEAT_END] !== 0 || fields[REPEAT_END + 1] !== 0;
  }

  /**
   * The block was left before its instruction at `address`.
   * @param done - the host has done what that instruction does
   */
  leftBefore(address: number, done: boolean): void {
    const fields = this.#fields();
    // In the middle of a repeated one, which goes on or has been done.
    if (fields[COUNTED] === 0 && !done && this.#isRepeating()) return;
    if (fields[COUNTED] !== 0) add(fields, this.before(address) + (done ? 1 : 0) - this.total);
    fields[COUNTED] = 0;
    setRepeatEnd(fields, 0);
  }

  /** The instruction at `address` raised an exception: it counts, those behind it do not. */
  faulted(address: number): void {
    const fields = this.#fields();
    if (fields[COUNTED] !== 0 && this.#index(address) !== null)
      add(fields, this.before(address) + 1 - this.total);
    setRepeatEnd(fields, 0);
  }

  /** Address of the instruction that the library calls a hook for now, asked for once at each call; null where it is unknown. */
  hookedInstruction(kind: 'ports' | 'cpuids'): number | null {
    const counted = this.#fields()[COUNTED]!;
    if (counted === 0) return this.#address();
    const beginning = this.total - counted;
    if (this.#hookedBlock !== beginning) {
      this.#hookedBlock = beginning;
      Object.assign(this.#hookedFound, { ports: 0, cpuids: 0 });
    }
    const offset = this.#block()?.[kind]?.[this.#hookedFound[kind]++];
    return offset === undefined ? null : this.#address() + offset;
  }
}

/** The two halves of 64 bits. */
function words(value: bigint): [number, number] {
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}

function add(fields: Uint32Array, change: number): void {
  const low = fields[TOTAL]! + change;
  fields[TOTAL] = low;
  if (low >= TWO_32) fields[TOTAL + 1]!++;
  else if (low < 0) fields[TOTAL + 1]!--;
}

/** What begins next and ends here is one more iteration of what ran before; 0: nothing is. */
function setRepeatEnd(fields: Uint32Array, end: number): void {
  fields[REPEAT_END] = end;
  fields[REPEAT_END + 1] = end / TWO_32;
}
