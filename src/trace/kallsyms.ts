// The kernel's own symbol table (CONFIG_KALLSYMS), found by its structure in a kernel without other symbols.
//
// scripts/kallsyms.c writes, each part aligned to a word (to 4 bytes where offsets are self-relative): the number of
// symbols, their names (a length, then bytes that each stand for a token), the offset of each 256th name, 256 tokens of
// text, and the offset of each token. Addresses stand before these parts or, from Linux 6.4 on, behind them: whole words
// before 4.6, then 32-bit offsets from a base that stands with them, in 7.x from where each of them stands.

import { hex } from '../hex.ts';
import { indexOfBytes } from '../host/host.ts';
import type { ElfFile } from '../image/elf.ts';
import { PT_LOAD } from '../image/elf.ts';
import { MAX_OFFSET, plainest, type SymbolNames } from './symbols.ts';

/** Tokens that stand for one digit each; no kernel's names go without digits. */
const DIGIT_TOKENS = new TextEncoder().encode('0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00');
const FIRST_DIGIT = 0x30;
const TOKENS = 256;
const NAMES_PER_MARKER = 256;
/** A name may take two bytes for its length and this many tokens. */
const MAX_NAME = 0x200;
const SEQUENCE_BYTES = 3;
const MIN_SYMBOLS = 100;
const MAX_SYMBOLS = 4_000_000;
const PAGE = 0x1000n;

interface Names {
  readonly count: number;
  /** Offset in the file. */
  readonly start: number;
  readonly tokenTable: number;
  /** Offset in the file of the token index. */
  readonly tokenIndex: number;
  /** Offset of each 256th name from `start`. */
  readonly markers: readonly number[];
  /** Bytes of a word, which all parts are aligned to. */
  readonly word: 4 | 8;
}

export interface KernelSymbol {
  readonly address: bigint;
  readonly name: string;
  /** As `nm` prints it. */
  readonly type: string;
}

/** A kernel's kallsyms; names are expanded when they are asked for. */
export class Kallsyms implements SymbolNames {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #names: Names;
  readonly #addresses: BigUint64Array;

  constructor(bytes: Uint8Array, names: Names, addresses: BigUint64Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#names = names;
    this.#addresses = addresses;
  }

  get size(): number {
    return this.#addresses.length;
  }

  /** The symbol by its number; they are sorted by address, absolute ones first. */
  symbol(index: number): KernelSymbol {
    const { start, markers } = this.#names;
    let at = start + markers[Math.floor(index / NAMES_PER_MARKER)]!;
    for (let left = index % NAMES_PER_MARKER; left > 0; left--) at = nextName(this.#bytes, at);
    const text = this.#expand(at);
    return { address: this.#addresses[index]!, type: text.slice(0, 1), name: text.slice(1) };
  }

  #expand(at: number): string {
    const bytes = this.#bytes;
    const long = (bytes[at]! & 0x80) !== 0;
    const first = at + (long ? 2 : 1);
    const end = nextName(bytes, at);
    const { tokenTable, tokenIndex } = this.#names;
    let text = '';
    for (let place = first; place < end; place++) {
      let from = tokenTable + this.#view.getUint16(tokenIndex + bytes[place]! * 2, true);
      while (bytes[from] !== 0) text += String.fromCharCode(bytes[from++]!);
    }
    return text;
  }

  name(address: bigint): string | null {
    const addresses = this.#addresses;
    let [low, high] = [0, addresses.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (addresses[middle]! <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return null;
    const start = addresses[low - 1]!;
    // Before the first function only per-CPU variables and absolute symbols stand.
    if (address - start >= MAX_OFFSET) return null;
    const names: string[] = [];
    for (let index = low - 1; index >= 0 && addresses[index] === start; index--) {
      names.unshift(this.symbol(index).name);
    }
    const offset = address - start;
    const name = plainest(names);
    return offset === 0n ? name : `${name}+${hex(offset)}`;
  }
}

/**
 * Finds the table in a kernel as it is in its ELF file.
 * @returns null where there is none, or none in a known format
 */
export function findKallsyms(elf: ElfFile): Kallsyms | null {
  const word = elf.bits === 64 ? 8 : 4;
  const { bytes } = elf;
  for (
    let digits = indexOfBytes(bytes, DIGIT_TOKENS);
    digits >= 0;
    digits = indexOfBytes(bytes, DIGIT_TOKENS, digits + 1)
  ) {
    const tokens = findTokens(bytes, digits, word);
    const names = tokens === null ? null : findNames(bytes, tokens, word);
    const addresses = names === null ? null : findAddresses(elf, names);
    if (names !== null && addresses !== null) return new Kallsyms(bytes, names, addresses);
  }
  return null;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** From the digits' tokens: where the table of tokens begins and its index stands. */
function findTokens(
  bytes: Uint8Array,
  digits: number,
  word: number,
): Pick<Names, 'tokenTable' | 'tokenIndex'> | null {
  let end = digits;
  for (let token = FIRST_DIGIT; token < TOKENS; token++) {
    const zero = bytes.indexOf(0, end);
    if (zero < 0 || zero - end > MAX_NAME) return null;
    end = zero + 1;
  }
  // Back to the second token; where the first begins only the index tells.
  let second = digits;
  for (let token = FIRST_DIGIT; token > 1; token--) {
    second = bytes.lastIndexOf(0, second - 2) + 1;
    if (second <= 0 || digits - second > FIRST_DIGIT * MAX_NAME) return null;
  }
  const view = viewOf(bytes);
  for (const align of [word, 4]) {
    const tokenIndex = alignUp(end, align);
    if (tokenIndex + TOKENS * 2 > bytes.length) return null;
    const tokenTable = second - view.getUint16(tokenIndex + 2, true);
    let expected = 0;
    let fits = tokenTable > 0;
    for (let token = 0; fits && token < TOKENS; token++) {
      fits = view.getUint16(tokenIndex + token * 2, true) === expected;
      expected = bytes.indexOf(0, tokenTable + expected) + 1 - tokenTable;
    }
    if (fits) return { tokenTable, tokenIndex };
  }
  return null;
}

/** Lengths of 128 and more take two bytes, from Linux 6.1 on; before, there were none. */
function nextName(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if ((first & 0x80) === 0) return at + 1 + first;
  return at + 2 + ((first & 0x7f) | (bytes[at + 1]! << 7));
}

function findNames(
  bytes: Uint8Array,
  tokens: Pick<Names, 'tokenTable' | 'tokenIndex'>,
  word: 4 | 8,
): Names | null {
  for (const { markers, at } of findMarkers(bytes, tokens.tokenTable, word)) {
    const last = markers.at(-1)!;
    const most = NAMES_PER_MARKER * MAX_NAME;
    for (let start = alignUp(Math.max(word, at - last - most), 4); start <= at - last; start += 4) {
      const count = countBefore(bytes, start, word, markers.length);
      if (count !== null && namesFit(bytes, start, count, markers, at)) {
        return { ...tokens, count, start, markers, word };
      }
    }
  }
  return null;
}

interface Markers {
  readonly markers: readonly number[];
  /** Offset of the first in the file. */
  readonly at: number;
}

/** What may be the offsets of names that stand before the tokens; one of them fits the names. */
function* findMarkers(bytes: Uint8Array, end: number, word: 4 | 8): Generator<Markers> {
  // Whole words before Linux 4.20.
  for (const width of word === 8 ? [4, 8] : [4]) {
    const found = markersBefore(bytes, end, width);
    if (found !== null) yield found;
  }
  yield* markersBeforeSequence(bytes, end);
}

/**
 * In Linux 6.2 and 6.3, and 6.1 with backports, the order of the symbols by name, 3 bytes for each, stands between
 * markers and tokens.
 */
function* markersBeforeSequence(bytes: Uint8Array, end: number): Generator<Markers> {
  const view = viewOf(bytes);
  const lowest = Math.max(4, end - MAX_SYMBOLS * SEQUENCE_BYTES);
  for (let at = end - (end % 4) - 8; at >= lowest; at -= 4) {
    if (view.getUint32(at, true) !== 0) continue;
    const markers = [0];
    for (let next = at + 4; next < end - 4; next += 4) {
      const step = view.getUint32(next, true) - markers.at(-1)!;
      if (step < NAMES_PER_MARKER * 2 || step > NAMES_PER_MARKER * MAX_NAME) break;
      markers.push(view.getUint32(next, true));
    }
    // Behind the last marker stand 3 bytes for each symbol; what follows may look like one marker more.
    for (; markers.length > 1; markers.pop()) {
      const left = end - (at + markers.length * 4);
      const most = markers.length * NAMES_PER_MARKER * SEQUENCE_BYTES;
      if (left > most - NAMES_PER_MARKER * SEQUENCE_BYTES && left < most + 16) yield { markers, at };
    }
  }
}

/** The ascending numbers from 0 on that end before `end`. */
function markersBefore(bytes: Uint8Array, end: number, width: number): Markers | null {
  const view = viewOf(bytes);
  const read = (at: number): number =>
    width === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
  let at = end - (end % width) - width;
  // Zeroes between the parts.
  if (read(at) === 0) at -= width;
  const markers: number[] = [];
  let previous = Number.POSITIVE_INFINITY;
  for (; at > width && markers.length < MAX_SYMBOLS / NAMES_PER_MARKER; at -= width) {
    const value = read(at);
    if (value >= previous) return null;
    markers.unshift(value);
    previous = value;
    if (value === 0) return markers.length > 0 ? { markers, at } : null;
  }
  return null;
}

/** The number of symbols, which stands in the word (or its aligned half) before the names. */
function countBefore(bytes: Uint8Array, names: number, word: number, markers: number): number | null {
  const view = viewOf(bytes);
  for (const back of word === 8 ? [8, 4] : [4]) {
    const count = view.getUint32(names - back, true);
    if (count < MIN_SYMBOLS || count > MAX_SYMBOLS) continue;
    if (Math.ceil(count / NAMES_PER_MARKER) === markers) return count;
  }
  return null;
}

function namesFit(
  bytes: Uint8Array,
  start: number,
  count: number,
  markers: readonly number[],
  end: number,
): boolean {
  let at = start;
  for (let index = 0; index < count; index++) {
    if (index % NAMES_PER_MARKER === 0 && at - start !== markers[index / NAMES_PER_MARKER]) return false;
    if (at >= end || bytes[at] === 0) return false;
    at = nextName(bytes, at);
  }
  return at <= end && end - at < 16;
}

/** By each layout there was, the one whose addresses ascend inside the kernel. */
function findAddresses(elf: ElfFile, names: Names): BigUint64Array | null {
  const { word, count, start, tokenIndex } = names;
  const numberAt = start - word;
  const offsetsLength = alignUp(count * 4, word);
  const behind = tokenIndex + TOKENS * 2;
  const before = numberAt - word - offsetsLength;
  return (
    relativeAddresses(elf, names, before, numberAt - word) ??
    relativeAddresses(elf, names, behind, behind + offsetsLength) ??
    selfRelativeAddresses(elf, names, behind) ??
    absoluteAddresses(elf, names, behind) ??
    absoluteAddresses(elf, names, numberAt - count * word)
  );
}

/** Offsets from a base that lies in the kernel. */
function relativeAddresses(
  elf: ElfFile,
  names: Names,
  offsetsAt: number,
  baseAt: number,
): BigUint64Array | null {
  const { word, count } = names;
  if (offsetsAt < 0 || baseAt + word > elf.bytes.length) return null;
  const view = viewOf(elf.bytes);
  const base = word === 8 ? view.getBigUint64(baseAt, true) : BigInt(view.getUint32(baseAt, true));
  if (!isInKernel(elf, base)) return null;
  const plain = collect(elf, count, (index) => base + BigInt(view.getUint32(offsetsAt + index * 4, true)));
  if (plain !== null) return plain;
  // CONFIG_KALLSYMS_ABSOLUTE_PERCPU: what is not negative is an address itself.
  return collect(elf, count, (index) => {
    const offset = view.getInt32(offsetsAt + index * 4, true);
    return offset >= 0 ? BigInt(offset) : base - 1n - BigInt(offset);
  });
}

/** Offsets from where each of them stands. */
function selfRelativeAddresses(elf: ElfFile, names: Names, offsetsAt: number): BigUint64Array | null {
  const { count } = names;
  const header = elf.programHeaders.find(
    ({ type, offset, filesz }) =>
      type === PT_LOAD && BigInt(offsetsAt) >= offset && BigInt(offsetsAt) < offset + filesz,
  );
  if (offsetsAt < 0 || offsetsAt + count * 4 > elf.bytes.length || header === undefined) return null;
  const view = viewOf(elf.bytes);
  const address = header.vaddr + BigInt(offsetsAt) - header.offset;
  return collect(
    elf,
    count,
    (index) => address + BigInt(index * 4) + BigInt(view.getInt32(offsetsAt + index * 4, true)),
  );
}

function absoluteAddresses(elf: ElfFile, names: Names, at: number): BigUint64Array | null {
  const { word, count } = names;
  if (at < 0 || at + count * word > elf.bytes.length) return null;
  const view = viewOf(elf.bytes);
  return collect(elf, count, (index) =>
    word === 8 ? view.getBigUint64(at + index * 8, true) : BigInt(view.getUint32(at + index * 4, true)),
  );
}

/** Null unless the addresses ascend and most of them, from some one on, lie in the kernel. */
function collect(elf: ElfFile, count: number, address: (index: number) => bigint): BigUint64Array | null {
  const addresses = new BigUint64Array(count);
  let previous = 0n;
  for (let index = 0; index < count; index++) {
    const value = address(index);
    if (value < previous) return null;
    addresses[index] = value;
    previous = value;
  }
  return isInKernel(elf, addresses[count >> 1]!) ? addresses : null;
}

function isInKernel(elf: ElfFile, address: bigint): boolean {
  return elf.programHeaders.some(
    ({ type, vaddr, memsz }) =>
      type === PT_LOAD && vaddr >= PAGE && address >= vaddr - PAGE && address <= vaddr + memsz + PAGE,
  );
}
