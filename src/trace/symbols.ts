// Names of addresses: a sorted table of symbols from a System.map, a vmlinux, or the kernel's own kallsyms.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type ElfFile, readElfSymbols } from '../image/elf.ts';

export interface NamedAddress {
  readonly address: bigint;
  readonly name: string;
}

/** Anything that names addresses. */
export interface SymbolNames {
  /** `startup_64`, `startup_64+0x10`; null for an address that no symbol stands before. */
  name(address: bigint): string | null;
}

/** An address farther behind its symbol than this has no name. */
export const MAX_OFFSET = 0x100_0000n;

/** A file of symbols may hold anything; no compiler makes names of other characters. */
function printable(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, '?');
}

/** Of several names of one address the one with the fewest leading underscores, the first of those. */
export function plainest(names: readonly string[]): string {
  const underscores = (name: string): number => /^_*/.exec(name)![0].length;
  return names.reduce((best, name) => (underscores(name) < underscores(best) ? name : best));
}

/** Symbols by address. */
export class SymbolTable implements SymbolNames {
  readonly #addresses: BigUint64Array;
  readonly #names: readonly string[];

  /** Several symbols may stand at one address: `plainest` chooses. */
  constructor(symbols: readonly NamedAddress[]) {
    const names = new Map<bigint, string[]>();
    for (const { address, name } of symbols) {
      const known = names.get(address);
      if (known === undefined) names.set(address, [name]);
      else known.push(name);
    }
    this.#addresses = BigUint64Array.from(names.keys()).sort();
    this.#names = Array.from(this.#addresses, (address) => printable(plainest(names.get(address)!)));
  }

  get size(): number {
    return this.#names.length;
  }

  name(address: bigint): string | null {
    const at = this.#addresses;
    let [low, high] = [0, at.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (at[middle]! <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0 || address < 0n) return null;
    const offset = address - at[low - 1]!;
    if (offset >= MAX_OFFSET) return null;
    const name = this.#names[low - 1]!;
    return offset === 0n ? name : `${name}+${hex(offset)}`;
  }
}

const STT_NOTYPE = 0;
const STT_OBJECT = 1;
const STT_FUNC = 2;
const SHN_UNDEF = 0;
const SHN_ABS = 0xfff1;

/**
 * The symbols of an ELF file that stand in its sections, functions first.
 * @param base - what their addresses are counted from
 * @throws BootscopeError `symbols-none` for a stripped file
 */
export function readElfSymbolTable(path: string, elf: ElfFile, base = 0n): SymbolTable {
  const symbols = readElfSymbols(elf)
    .filter(
      ({ type, sectionIndex }) =>
        [STT_NOTYPE, STT_OBJECT, STT_FUNC].includes(type) &&
        sectionIndex !== SHN_UNDEF &&
        sectionIndex !== SHN_ABS,
    )
    .sort((a, b) => (b.type === STT_FUNC ? 1 : 0) - (a.type === STT_FUNC ? 1 : 0));
  if (symbols.length === 0)
    throw new BootscopeError('symbols-none', `${path} has no symbols: it is stripped`);
  return new SymbolTable(symbols.map(({ name, value }) => ({ name, address: value - base })));
}

/**
 * A System.map, or the output of `nm`: lines of address, type and name.
 * @throws BootscopeError `symbols-system-map`
 */
export function readSystemMap(path: string, bytes: Uint8Array): SymbolTable {
  const symbols: NamedAddress[] = [];
  for (const [index, line] of new TextDecoder().decode(bytes).split('\n').entries()) {
    if (line.trim() === '') continue;
    const match = /^([0-9a-f]+) (\S) (\S+)/i.exec(line);
    if (match === null) {
      throw new BootscopeError(
        'symbols-system-map',
        `${path}, line ${index + 1}: \`${line.slice(0, 60)}\` is not \`ADDRESS TYPE NAME\``,
      );
    }
    const absolute = match[2] === 'A' || match[2] === 'a';
    if (!absolute) symbols.push({ address: BigInt(`0x${match[1]}`), name: match[3]! });
  }
  if (symbols.length === 0) throw new BootscopeError('symbols-system-map', `${path} names no address`);
  // Distributions put a line with an advice there and the real file into a package of its own.
  if (symbols.length === 1) {
    const text = new TextDecoder().decode(bytes).trim();
    throw new BootscopeError(
      'symbols-system-map',
      `${path} is no System.map but stands for one, it has a single line: \`${text.slice(0, 120)}\``,
    );
  }
  return new SymbolTable(symbols);
}
