// decompress_kernel, which the EFI stub calls by itself from 6.6 on (and in stable kernels that took it over): found by structure.

import type { KernelImage } from '../image/kernel-image.ts';
import { type PeFile, readPe } from '../image/pe.ts';
import { calledFunctions, type FoundFunction } from '../x86/control-flow.ts';
import { findStub } from './find-stub.ts';

const LEA = 0x8d;
/** efi_pe_entry calls efi_stub_entry, which calls it; compilers inline some of what lies between. */
const MAXIMUM_CALLS = 2;

/** Offsets in the protected-mode code. */
export interface DecompressKernel {
  /** decompress_kernel(out, virt_addr, error). */
  readonly offset: number;
  /** What the PE header names as the entry. */
  readonly entry: number;
}

/** Offset in the file of what is loaded at an RVA; null outside all sections and headers. */
export function fileOffsetOf(pe: PeFile, address: number): number | null {
  const section = pe.sections.find(
    ({ virtualAddress, fileSize }) => address >= virtualAddress && address < virtualAddress + fileSize,
  );
  if (section !== undefined) return address - section.virtualAddress + section.fileOffset;
  return address < pe.sizeOfHeaders ? address : null;
}

/** RVA of an offset in the file; null for bytes that are not loaded. */
export function addressOf(pe: PeFile, offset: number): number | null {
  const section = pe.sections.find(
    ({ fileOffset, fileSize }) => offset >= fileOffset && offset < fileOffset + fileSize,
  );
  if (section !== undefined) return offset - section.fileOffset + section.virtualAddress;
  return offset < pe.sizeOfHeaders ? offset : null;
}

/**
 * The one function that both extract_kernel and the code behind the PE entry call and that takes the address of input_data, which is
 * where the payload begins. Null in stubs that leave decompressing to startup_64.
 */
export function findDecompressKernel(image: KernelImage): DecompressKernel | null {
  const pe = readPe(image.bytes);
  const stub = findStub(image);
  if (pe === null || stub === null || stub.bits !== 64 || image.payload === null) return null;
  const entryInFile = fileOffsetOf(pe, pe.entryPoint);
  if (entryInFile === null || entryInFile < image.setupSize) return null;
  const entry = entryInFile - image.setupSize;
  const code = image.protectedModeCode;
  const payload = image.payload.offset;
  const ofExtractKernel = new Set(
    [...calledFunctions(code, stub.extractKernel, 64)].flatMap(({ calls }) => calls),
  );
  const candidates = new Set<number>();
  for (const { offset, instructions } of nearFunctions(code, entry)) {
    if (offset === entry || !ofExtractKernel.has(offset)) continue;
    const takesInput = instructions.some(
      ({ opcode, direct, next, displacement }) => opcode === LEA && direct && next + displacement === payload,
    );
    if (takesInput) candidates.add(offset);
  }
  const [offset, ...others] = candidates;
  return offset === undefined || others.length > 0 ? null : { offset, entry };
}

/** The functions at most `MAXIMUM_CALLS` direct calls away. */
function* nearFunctions(code: Uint8Array, entry: number): Generator<FoundFunction> {
  const distances = new Map([[entry, 0]]);
  for (const found of calledFunctions(code, entry, 64)) {
    const distance = distances.get(found.offset)!;
    if (distance > MAXIMUM_CALLS) return;
    for (const call of found.calls) if (!distances.has(call)) distances.set(call, distance + 1);
    yield found;
  }
}
