// Counts executed instructions: whole blocks as they begin, taken back where one is left before its end.

import { ENTRY_SIZE, REPEATS, STATE, STATE_SIZE, TABLE_MASK } from './block-counter.ts';
import type { BlockDecoder, DecodedBlock } from './cpu.ts';
import type { Pointer, Transport } from './transport.ts';

const TWO_32 = 2 ** 32;
/** The state is read and written as 32-bit words: these are their numbers. */
const TOTAL = STATE.total / 4;
const ADDRESS = STATE.address / 4;
const SIZE = STATE.size / 4;
const COUNTED = STATE.counted / 4;
const REPEAT_END = STATE.repeatEnd / 4;
const TABLE = STATE.table / 4;

/**
 * What the hook in `block-counter.ts` counts, at the grain of instructions. The block of the state is the one that runs,
 * or ran last; `counted` of its instructions are in the total.
 */
export class InstructionCounter {
  readonly #transport: Transport;
  readonly #state: Pointer;
  readonly #ram: () => Uint8Array;
  readonly #decode: BlockDecoder;
  readonly #known = new Map<number, { readonly size: number; readonly block: DecodedBlock }>();
  #words: Uint32Array;
  /** The block, by the total at its beginning, that port instructions were last looked for in, and how many were found. */
  #portBlock = -1;
  #portsFound = 0;

  /** @param state - `STATE_SIZE` bytes that the hook counts in */
  constructor(transport: Transport, state: Pointer, ram: () => Uint8Array, decode: BlockDecoder) {
    this.#transport = transport;
    this.#state = state;
    this.#ram = ram;
    this.#decode = decode;
    this.#words = this.#view();
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

  /** Counts instructions that the host did. */
  add(count: number): void {
    add(this.#fields(), count);
  }

  /** Between runs: counts on from `total`. */
  reset(total: number): void {
    const fields = this.#fields();
    fields[TOTAL] = total;
    fields[TOTAL + 1] = total / TWO_32;
    fields[COUNTED] = 0;
    setRepeatEnd(fields, 0);
  }

  /** For the hook: a block that is not in its table. */
  missed(address: number, size: number): void {
    const block = this.#decode(address, size);
    this.#known.set(address, { size, block });
    const count = block.starts.length;
    const end = address + size;
    const fields = this.#fields();
    add(fields, count);
    fields[COUNTED] = count;
    setRepeatEnd(fields, block.repeats ? end : 0);

    const ram = this.#ram();
    if (address < 8 || end + 8 > ram.length) return;
    const low = word(ram, address);
    const high = word(ram, address + 4);
    const entry = TABLE + (address & TABLE_MASK) * (ENTRY_SIZE / 4);
    fields[entry] = address;
    fields[entry + 1] = size | ((block.repeats ? count | REPEATS : count) << 16);
    fields[entry + 2] = ((low << 7) | (high >>> 25)) ^ word(ram, end - 8);
    fields[entry + 3] = ((high << 7) | (low >>> 25)) ^ word(ram, end - 4);
  }

  /** The running block, null where it is unknown: its translation is older than the counter. */
  #block(): DecodedBlock | null {
    const known = this.#known.get(this.#address());
    return known === undefined || known.size !== this.#fields()[SIZE] ? null : known.block;
  }

  #address(): number {
    const fields = this.#fields();
    return fields[ADDRESS]! + fields[ADDRESS + 1]! * TWO_32;
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
    if (counted === 0) return this.total - 1;
    const index = this.#index(address);
    return index === null ? this.total : this.total - counted + index;
  }

  /**
   * The block was left before its instruction at `address`.
   * @param done - the host has done what that instruction does
   */
  leftBefore(address: number, done: boolean): void {
    const fields = this.#fields();
    // In the middle of a repeated one, which goes on or has been done.
    if (fields[COUNTED] === 0 && !done) return;
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

  /** Address of the instruction that accesses a port now, asked for once at each access; null where it is unknown. */
  portInstruction(): number | null {
    const counted = this.#fields()[COUNTED]!;
    if (counted === 0) return this.#address();
    const beginning = this.total - counted;
    if (this.#portBlock !== beginning) {
      this.#portBlock = beginning;
      this.#portsFound = 0;
    }
    const offset = this.#block()?.ports[this.#portsFound++];
    return offset === undefined ? null : this.#address() + offset;
  }
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

/** 32 bits, little-endian. */
function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
