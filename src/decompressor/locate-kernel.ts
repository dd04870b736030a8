// Where the kernel lies when the guest has decompressed it by itself: deduced from its entry, its ELF headers and what is in
// memory at the jump.

import type { KernelImage } from '../image/kernel-image.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { type Extraction, flatSegment, loadPhysicalAddressOf } from './extraction.ts';
import { type KernelElf, readKernelElf, startsWithElf } from './place-kernel.ts';

/** How much of the first segment is compared to tell two possible places apart, in bytes. */
const COMPARED = 0x1000;

/**
 * @param file - the decompressed payload: ELF file (or flat binary) and relocation lists
 * @param memory - at the jump
 * @param entry - physical address the stub jumped to
 */
export function locateKernel(
  image: KernelImage,
  file: Uint8Array,
  memory: PhysicalMemory,
  entry: number,
): Pick<Extraction, 'output' | 'virtualBase' | 'segments'> {
  if (!startsWithElf(file)) {
    return {
      output: BigInt(entry),
      virtualBase: BigInt(entry),
      segments: [flatSegment(entry, Math.min(file.length, memory.bytesFrom(entry)))],
    };
  }
  const elf = readKernelElf(file);
  const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
  // 6.6 and later jump to e_entry, older stubs to the start of the output.
  const output = [entry - (elf.entry - loadPhysicalAddress), entry]
    .map((place) => ({ place, equal: equalBytes(file, elf, memory, place - loadPhysicalAddress) }))
    .reduce((best, next) => (next.equal > best.equal ? next : best)).place;
  const physicalShift = output - loadPhysicalAddress;
  const virtualShift =
    elf.bits === 32 ? BigInt(physicalShift) : virtualShiftOf(file, elf, memory, physicalShift);
  const kernelVirtual = elf.virtualOffset + BigInt(elf.physicalBase);
  return {
    output: BigInt(output),
    virtualBase: kernelVirtual + virtualShift,
    segments: elf.segments.map((segment) => ({
      paddr: BigInt(segment.paddr + physicalShift),
      vaddr: segment.vaddr >= kernelVirtual ? segment.vaddr + virtualShift : segment.vaddr,
      filesz: BigInt(segment.filesz),
      memsz: BigInt(segment.memsz),
      flags: segment.flags,
    })),
  };
}

/** Bytes of the first segment's start that stand in memory as in the file, when all is moved by `shift`. */
function equalBytes(file: Uint8Array, elf: KernelElf, memory: PhysicalMemory, shift: number): number {
  const segment = elf.segments[0]!;
  let equal = 0;
  const there = memory.viewUpTo(segment.paddr + shift, Math.min(COMPARED, segment.filesz));
  for (let index = 0; index < there.length; index++) {
    if (there[index] === file[segment.offset + index]) equal++;
  }
  return equal;
}

/** By how much the first 32-bit relocation's word has changed; 0 where there are no relocations. */
function virtualShiftOf(
  file: Uint8Array,
  elf: KernelElf,
  memory: PhysicalMemory,
  physicalShift: number,
): bigint {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const relocation = file.length >= 4 ? view.getInt32(file.length - 4, true) : 0;
  if (relocation === 0) return 0n;
  const virtual = BigInt.asUintN(64, BigInt(relocation));
  const segment = elf.segments.find(
    ({ vaddr, filesz }) => virtual >= vaddr && virtual + 4n <= vaddr + BigInt(filesz),
  );
  if (segment === undefined) return 0n;
  const inSegment = Number(virtual - segment.vaddr);
  const address = segment.paddr + physicalShift + inSegment;
  if (!memory.contains(address, 4)) return 0n;
  return BigInt((memory.read32(address) - view.getInt32(segment.offset + inSegment, true)) | 0);
}
