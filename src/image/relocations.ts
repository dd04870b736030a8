// Makes the relocation lists of an x86 kernel from the ELF file of its link, which was made with --emit-relocs: what
// arch/x86/tools/relocs does. Each list holds 32-bit virtual addresses in ascending order and is preceded by a 0 word.

import { BootscopeError } from '../error.ts';
import { ByteView } from './byte-view.ts';
import { type ElfFile, EM_386, EM_X86_64, elfSectionBytes, SHF_ALLOC, SHT_NOTE } from './elf.ts';

const SHT_RELA = 4;
const SHT_REL = 9;
const SHN_UNDEF = 0;
const SHN_ABS = 0xfff1;

const R_X86_64_64 = 1;
const R_X86_64_PC32 = 2;
const R_X86_64_PLT32 = 4;
const R_X86_64_32 = 10;
const R_X86_64_32S = 11;
const R_386_32 = 1;

/** Symbols that the linker script gives an absolute value although they move with the kernel. */
const MOVING_ABSOLUTES =
  /^(__init_(begin|end)|__x86_cpu_dev_(start|end)|(__parainstructions|__alt_instructions)(_end)?|(__iommu_table|__apicdrivers|__smp_locks)(_end)?|__(start|stop|end)_.*|_end|__end_of_kernel_reserve|_[se](text|data|rodata|init.*)|jiffies(_64)?|init_per_cpu__.*|.*_end)$/;
/** Symbols in the per-CPU section that do not count as such. */
const NOT_PER_CPU = /^(__init_begin$|__per_cpu_load$|init_per_cpu_)/;

interface Symbol {
  readonly name: string;
  readonly value: bigint;
  readonly section: number;
}

/** Whether the file has what `makeRelocations` needs. */
export function hasRelocations(elf: ElfFile): boolean {
  return elf.sections.some(
    ({ type, info }) =>
      (type === SHT_RELA || type === SHT_REL) && isAllocated(elf, info) && elf.sections[info] !== undefined,
  );
}

function isAllocated(elf: ElfFile, index: number): boolean {
  return ((elf.sections[index]?.flags ?? 0n) & BigInt(SHF_ALLOC)) !== 0n;
}

/**
 * @param lists - how many the stub reads: 1 for i386, 3 (64-bit, inverse 32-bit, 32-bit) before 6.15 and 2 from then on
 * @throws BootscopeError `image-no-relocations` for a file that was linked without them
 */
export function makeRelocations(elf: ElfFile, lists: 1 | 2 | 3): Uint8Array {
  if (!hasRelocations(elf)) {
    throw new BootscopeError(
      'image-no-relocations',
      'the ELF file has no relocations: it was linked without --emit-relocs, or stripped of them',
    );
  }
  if (elf.machine !== EM_386 && elf.machine !== EM_X86_64) {
    throw new BootscopeError('image-no-relocations', `no relocation lists are known for ${elf.machineName}`);
  }
  const found = { words: [] as number[], inverse: [] as number[], quads: [] as number[] };
  const perCpu = elf.sections.findIndex(({ name, address }) => name === '.data..percpu' && address === 0n);
  const symbols = readSymbols(elf);
  const perCpuLoad = perCpu < 0 ? 0n : (symbols.find(({ name }) => name === '__per_cpu_load')?.value ?? 0n);
  for (const section of elf.sections) {
    const target = elf.sections[section.info];
    if ((section.type !== SHT_RELA && section.type !== SHT_REL) || target === undefined) continue;
    if (!isAllocated(elf, section.info) || target.type === SHT_NOTE) continue;
    const bytes = elfSectionBytes(elf, section);
    if (bytes === null) continue;
    const move = section.info === perCpu ? perCpuLoad : 0n;
    collect(elf, bytes, section.type === SHT_RELA, symbols, { move, perCpu }, found);
  }
  const ordered = (words: number[]): number[] => words.sort((a, b) => a - b);
  const parts =
    lists === 1
      ? [found.words]
      : lists === 2
        ? [found.quads, found.words]
        : [found.quads, found.inverse, found.words];
  const words = parts.flatMap((part) => [0, ...ordered(part)]);
  return new Uint8Array(Uint32Array.from(words).buffer);
}

function collect(
  elf: ElfFile,
  bytes: Uint8Array,
  withAddend: boolean,
  symbols: readonly Symbol[],
  { move, perCpu }: { readonly move: bigint; readonly perCpu: number },
  found: { words: number[]; inverse: number[]; quads: number[] },
): void {
  const wide = elf.bits === 64;
  const view = new ByteView(bytes, 'ELF relocations', elf.littleEndian);
  const size = (wide ? 16 : 8) + (withAddend ? (wide ? 8 : 4) : 0);
  for (let at = 0; view.has(at, size); at += size) {
    const offset = (wide ? view.u64(at) : BigInt(view.u32(at))) + move;
    const type = wide ? view.u32(at + 8) : view.u8(at + 4);
    const symbol = symbols[wide ? view.u32(at + 12) : view.u32(at + 4) >>> 8];
    if (symbol === undefined || symbol.section === SHN_UNDEF) continue;
    const address = Number(BigInt.asUintN(32, offset));
    const isPerCpu = perCpu >= 0 && symbol.section === perCpu && !NOT_PER_CPU.test(symbol.name);
    const stays = symbol.section === SHN_ABS && !MOVING_ABSOLUTES.test(symbol.name);
    if (!wide) {
      if (type === R_386_32 && !stays) found.words.push(address);
    } else if (type === R_X86_64_PC32 || type === R_X86_64_PLT32) {
      if (isPerCpu) found.inverse.push(address);
    } else if (type === R_X86_64_32 || type === R_X86_64_32S || type === R_X86_64_64) {
      if (isPerCpu || stays) continue;
      (type === R_X86_64_64 ? found.quads : found.words).push(address);
    }
  }
}

/** All symbols in the order of the table; a section's own has the section's name. */
function readSymbols(elf: ElfFile): Symbol[] {
  const table = elf.sections.find(({ type }) => type === 2);
  const strings = table === undefined ? undefined : elf.sections[table.link];
  const tableBytes = table === undefined ? null : elfSectionBytes(elf, table);
  const stringBytes = strings === undefined ? null : elfSectionBytes(elf, strings);
  if (tableBytes === null || stringBytes === null) return [];
  const wide = elf.bits === 64;
  const view = new ByteView(tableBytes, 'ELF symbol table', elf.littleEndian);
  const names = new ByteView(stringBytes, 'ELF string table');
  const size = wide ? 24 : 16;
  const symbols: Symbol[] = [];
  for (let at = 0; view.has(at, size); at += size) {
    const nameOffset = view.u32(at);
    const section = view.u16(at + (wide ? 6 : 14));
    const name =
      nameOffset === 0
        ? (elf.sections[section]?.name ?? '')
        : names.has(nameOffset, 1)
          ? names.text(nameOffset, 512)
          : '';
    symbols.push({ name, value: wide ? view.u64(at + 8) : BigInt(view.u32(at + 4)), section });
  }
  return symbols;
}

/** How many lists there are, each with its 0 word in front; null for bytes that are no such lists. */
export function countRelocationLists(bytes: Uint8Array): 1 | 2 | 3 | null {
  if (bytes.length < 4 || bytes.length % 4 !== 0) return null;
  const view = new ByteView(bytes, 'relocation lists');
  let count = 0;
  for (let at = 0; at < bytes.length; at += 4) if (view.u32(at) === 0) count++;
  return view.u32(0) === 0 && (count === 1 || count === 2 || count === 3) ? count : null;
}
