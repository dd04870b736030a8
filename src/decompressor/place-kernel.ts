// What the stub does with the decompressed kernel: parse_elf puts its segments where they run, handle_relocations adjusts them.

import { BootscopeError } from '../error.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';

const PT_LOAD = 1;
const TWO_MIB = 0x200000;

/** A PT_LOAD program header; `address` is where parse_elf puts it. All numbers are bytes and physical addresses but `vaddr`. */
export interface PlacedSegment {
  readonly address: number;
  readonly offset: number;
  readonly paddr: number;
  readonly vaddr: bigint;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
  /** `rwx` as in the program header. */
  readonly flags: string;
}

/** The numbers of a kernel's ELF file that placing it needs. */
export interface KernelElf {
  readonly bits: 32 | 64;
  /** e_entry, a physical address in kernels. */
  readonly entry: number;
  readonly segments: readonly Omit<PlacedSegment, 'address'>[];
  /** Lowest p_paddr: where the kernel is linked to lie (LOAD_PHYSICAL_ADDR). */
  readonly physicalBase: number;
  /** p_vaddr - p_paddr of the segment at `physicalBase`: __START_KERNEL_map, or PAGE_OFFSET on i386. */
  readonly virtualOffset: bigint;
  /** Bytes from `physicalBase` to the end of the last segment with its bss: VO__end - VO__text. */
  readonly totalSize: number;
}

/** Relocations applied, by list. */
export interface RelocationCounts {
  readonly relocations32: number;
  readonly inverse32: number;
  readonly relocations64: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether bytes start like an ELF file. */
export function startsWithElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/**
 * Reads the headers of a decompressed kernel.
 *
 * @throws BootscopeError `kernel-elf` when they do not lie within `bytes` or hold no loadable segment
 */
export function readKernelElf(bytes: Uint8Array): KernelElf {
  const view = viewOf(bytes);
  const bits = bytes[4] === 2 ? 64 : 32;
  const headerSize = bits === 64 ? 64 : 52;
  if (bytes.length < headerSize) {
    throw new BootscopeError(
      'kernel-elf',
      `the decompressed kernel has ${bytes.length} bytes, an ELF header ${headerSize}`,
    );
  }
  const big = (offset: number): number => Number(view.getBigUint64(offset, true));
  const entry = bits === 64 ? big(24) : view.getUint32(24, true);
  const tableOffset = bits === 64 ? big(32) : view.getUint32(28, true);
  const count = view.getUint16(bits === 64 ? 56 : 44, true);
  const entrySize = bits === 64 ? 56 : 32;
  if (tableOffset + count * entrySize > bytes.length) {
    throw new BootscopeError(
      'kernel-elf',
      `the kernel's ${count} program headers at 0x${tableOffset.toString(16)} end behind its ${bytes.length} bytes`,
    );
  }
  const segments: Omit<PlacedSegment, 'address'>[] = [];
  for (let index = 0; index < count; index++) {
    const at = tableOffset + index * entrySize;
    if (view.getUint32(at, true) !== PT_LOAD) {
      continue;
    }
    const flags = view.getUint32(at + (bits === 64 ? 4 : 24), true);
    segments.push({
      offset: bits === 64 ? big(at + 8) : view.getUint32(at + 4, true),
      vaddr: bits === 64 ? view.getBigUint64(at + 16, true) : BigInt(view.getUint32(at + 8, true)),
      paddr: bits === 64 ? big(at + 24) : view.getUint32(at + 12, true),
      filesz: bits === 64 ? big(at + 32) : view.getUint32(at + 16, true),
      memsz: bits === 64 ? big(at + 40) : view.getUint32(at + 20, true),
      align: bits === 64 ? big(at + 48) : view.getUint32(at + 28, true),
      flags: `${flags & 4 ? 'r' : '-'}${flags & 2 ? 'w' : '-'}${flags & 1 ? 'x' : '-'}`,
    });
  }
  const first = segments.reduce<Omit<PlacedSegment, 'address'> | null>(
    (lowest, segment) => (lowest === null || segment.paddr < lowest.paddr ? segment : lowest),
    null,
  );
  if (first === null) {
    throw new BootscopeError('kernel-elf', `none of the kernel's ${count} program headers is loadable`);
  }
  return {
    bits,
    entry,
    segments,
    physicalBase: first.paddr,
    virtualOffset: first.vaddr - BigInt(first.paddr),
    totalSize: Math.max(...segments.map(({ paddr, memsz }) => paddr + memsz)) - first.paddr,
  };
}

/**
 * parse_elf: moves every loadable segment of the ELF file at `output` to `output + p_paddr - loadPhysicalAddress`, in the
 * order of the program headers, as the stub does.
 *
 * @param checkAlignment - whether this stub refuses segments that are not 2 MiB aligned (64-bit, 4.16 on)
 * @throws BootscopeError `kernel-elf` for a segment outside the file, `stub-memory` for one outside RAM, `guest-error` for what the stub itself refuses
 */
export function placeSegments(
  memory: PhysicalMemory,
  output: number,
  length: number,
  elf: KernelElf,
  loadPhysicalAddress: number,
  checkAlignment: boolean,
): PlacedSegment[] {
  return elf.segments.map((segment, index) => {
    if (checkAlignment && segment.align % TWO_MIB !== 0) {
      throw new BootscopeError(
        'guest-error',
        `the stub stops with "Alignment of LOAD segment isn't multiple of 2MB": segment ${index} has 0x${segment.align.toString(16)}`,
      );
    }
    const address = output + segment.paddr - loadPhysicalAddress;
    if (segment.offset + segment.filesz > length) {
      throw new BootscopeError(
        'kernel-elf',
        `segment ${index} of the kernel ends at 0x${(segment.offset + segment.filesz).toString(16)} of 0x${length.toString(16)} bytes`,
      );
    }
    if (!memory.contains(address, segment.filesz)) {
      throw new BootscopeError(
        'stub-memory',
        `segment ${index} of the kernel goes to 0x${address.toString(16)} + 0x${segment.filesz.toString(16)}, RAM ends at 0x${memory.end.toString(16)}`,
      );
    }
    memory.copyWithin(address, output + segment.offset, segment.filesz);
    return { ...segment, address };
  });
}

/** What handle_relocations works on. */
export interface RelocationInput {
  readonly memory: PhysicalMemory;
  /** Where the kernel lies, and the length of what was decompressed there, with the lists at its end. */
  readonly output: number;
  readonly length: number;
  readonly bits: 32 | 64;
  /** Whether a 64-bit kernel has the inverse list between the two others (to 6.14). */
  readonly inverse: boolean;
  /** Added to a list's word it gives the physical address of what changes. */
  readonly map: bigint;
  /** Added to (taken from, in the inverse list) what changes. */
  readonly delta: bigint;
  /** End of the kernel's memory, which no relocation may pass. */
  readonly end: number;
}

/**
 * handle_relocations: reads the lists behind the kernel from their end and changes what they point to by `delta`. Does
 * nothing for a delta of 0, as the stub.
 *
 * @throws BootscopeError `guest-error` for a relocation outside the kernel or a list without an end
 */
export function applyRelocations(input: RelocationInput): RelocationCounts {
  const counts = { relocations32: 0, inverse32: 0, relocations64: 0 };
  if (input.delta === 0n) {
    return counts;
  }
  const { memory } = input;
  // A list's word is a sign-extended virtual address; the sum with map, in the kernel's width, is the physical one.
  const map = Number(BigInt.asIntN(input.bits, input.map));
  const delta = Number(BigInt.asIntN(32, input.delta));
  const start = input.output;
  const last = input.end;
  const outside = (list: string, word: number): never => {
    throw new BootscopeError(
      'guest-error',
      `the stub stops with "${list} relocation outside of kernel!": 0x${(word >>> 0).toString(16)} is not in 0x${start.toString(16)}..0x${last.toString(16)}`,
    );
  };
  // Up to the last number that may change, which begins at `last` at most.
  const size = Math.min(Math.max(input.length, last + 8 - start), memory.bytesFrom(start));
  const view = memory.dataView(start, size);
  let at = input.length - 4;
  const next = (): number => {
    if (at < 0) {
      throw new BootscopeError(
        'guest-error',
        `the relocation lists at the end of the kernel (0x${(start + input.length).toString(16)}) have no end`,
      );
    }
    const word = view.getInt32(at, true);
    at -= 4;
    return word;
  };
  /** Calls `change` with each address of one list. */
  const eachOf = (list: string, change: (address: number) => void): number => {
    let count = 0;
    for (let word = next(); word !== 0; word = next()) {
      const address = input.bits === 64 ? word + map : (word + map) >>> 0;
      if (address < start || address > last) outside(list, word);
      change(address - start);
      count++;
    }
    return count;
  };
  const add32 = (address: number, amount: number): void =>
    view.setInt32(address, view.getInt32(address, true) + amount, true);
  counts.relocations32 = eachOf('32-bit', (address) => add32(address, delta));
  if (input.bits === 32) return counts;
  if (input.inverse) {
    counts.inverse32 = eachOf('inverse 32-bit', (address) => add32(address, -delta));
  }
  counts.relocations64 = eachOf('64-bit', (address) =>
    view.setBigUint64(address, BigInt.asUintN(64, view.getBigUint64(address, true) + input.delta), true),
  );
  return counts;
}
