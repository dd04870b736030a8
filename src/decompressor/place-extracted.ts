// The last steps of extract_kernel: parse_elf, handle_relocations, the page tables it leaves behind, and what it returns.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { calledFunctions, callTargets, isLidt, straightRuns } from '../x86/control-flow.ts';
import { CR4_LA57 } from '../x86/control-registers.ts';
import {
  type ExtractedSegment,
  type Extraction,
  flatSegment,
  loadPhysicalAddressOf,
  NO_RELOCATIONS,
} from './extraction.ts';
import type { ExtractionState } from './extraction-state.ts';
import { mapIdentity } from './identity-map.ts';
import { findKaslr } from './kaslr-generation.ts';
import { type KernelFileParts, readKernelFileParts } from './kernel-sections.ts';
import {
  applyRelocations,
  type KernelElf,
  type PlacedSegment,
  placeSegments,
  type RelocationCounts,
  readKernelElf,
  startsWithElf,
} from './place-kernel.ts';
import { stubHasText } from './stub-text.ts';

/** parse_elf, handle_relocations and the way out. */
export function placeExtracted(
  state: ExtractionState,
  output: number,
  chosenVirtual: number | null,
  length: number,
): Extraction {
  const { image, stub, memory, zo } = state.context;
  const payload = image.payload!;
  const address = BigInt(zo + stub.extractKernel);
  state.steps.push({
    name: 'decompressed',
    address,
    summary: `${payload.codec}: ${payload.length} bytes at ${hex(state.passed.inputAddress)} became ${length} at ${hex(output)}`,
  });
  state.writes.push({ start: output, end: output + length, role: 'decompressed' });
  const bytes = memory.view(output, length);
  if (!startsWithElf(bytes)) {
    return flat(state, output, length);
  }
  state.messages.parsingElf();
  const elf = readKernelElf(bytes);
  const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
  checkMapping(state, elf);
  const file = readKernelFileParts(
    bytes,
    elf.segments.map(({ paddr, vaddr, memsz }) => ({
      paddr: BigInt(output + paddr - loadPhysicalAddress),
      vaddr,
      memsz: BigInt(memsz),
    })),
  );
  const placed = guestErrors(state, () =>
    placeSegments(
      memory,
      output,
      length,
      elf,
      loadPhysicalAddress,
      stubHasText(image, "Alignment of LOAD segment isn't multiple of 2MB"),
    ),
  );
  state.steps.push({
    name: 'parse_elf',
    address,
    summary: `${placed.length} segments moved to ${placed.map((segment) => hex(segment.address)).join(', ')}`,
  });
  for (const [index, segment] of placed.entries()) {
    state.writes.push({
      start: segment.address,
      end: segment.address + segment.filesz,
      role: 'segment',
      segment: index,
    });
  }
  const virtual = chosenVirtual ?? loadPhysicalAddress;
  const relocations = relocate(state, output, length, elf, loadPhysicalAddress, virtual, placed);
  const total = relocations.relocations32 + relocations.inverse32 + relocations.relocations64;
  if (total > 0) {
    state.steps.push({
      name: 'handle_relocations',
      address,
      summary: `${relocations.relocations32} 32-bit, ${relocations.inverse32} inverse and ${relocations.relocations64} 64-bit relocations`,
    });
  }
  const offset = elf.entry - loadPhysicalAddress;
  state.messages.done(offset);
  mapTouched(state, output, length, placed);
  const entry = stub.abi.endsWith('rmode-output') ? output + offset : output;
  const virtualShift =
    elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : BigInt(output - loadPhysicalAddress);
  const kernelVirtual = elf.virtualOffset + BigInt(elf.physicalBase);
  return result(state, output, length, {
    virtualBase: kernelVirtual + virtualShift,
    entry,
    segments: placed.map((segment) => ({
      paddr: BigInt(segment.address),
      // The per-CPU segment of x86-64 is linked at 0 and never moves.
      vaddr: segment.vaddr >= kernelVirtual ? segment.vaddr + virtualShift : segment.vaddr,
      filesz: BigInt(segment.filesz),
      memsz: BigInt(segment.memsz),
      flags: segment.flags,
    })),
    file,
    relocations,
  });
}

/** Kernels up to about 2.6.28: the payload is the kernel's memory image itself. */
function flat(state: ExtractionState, output: number, length: number): Extraction {
  const refusal = 'Kernel is not a valid ELF file';
  if (stubHasText(state.context.image, refusal)) {
    const start = [...state.context.memory.viewUpTo(output, 4)]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('');
    state.halt.stop([refusal], `the ${length} bytes at ${hex(output)} start with ${start}`);
  }
  state.messages.done(0);
  return result(state, output, length, {
    virtualBase: BigInt(output),
    entry: output,
    segments: [flatSegment(output, length)],
    file: null,
    relocations: NO_RELOCATIONS,
  });
}

/** i386: kernel memory must lie in the direct mapping, less 128 MiB for vmalloc. */
function checkMapping(state: ExtractionState, elf: KernelElf): void {
  const { stub, zo } = state.context;
  if (stub.bits !== 32) {
    return;
  }
  const heap = zo + (state.details?.heap ?? state.details?.bss?.start ?? 0);
  const limit = Number(BigInt.asUintN(32, -elf.virtualOffset - BigInt(128 << 20) - 1n) & 0x7fffffffn);
  if (heap > limit) {
    state.halt.stop(['Destination address too large'], `the heap at ${hex(heap)} lies above ${hex(limit)}`);
  }
}

/** Whether the stub does not even look at relocations, as those of 3.19 to 4.7 (64-bit) where KASLR changed nothing. */
function skipsRelocations(state: ExtractionState, output: number): boolean {
  const { image, stub } = state.context;
  const generation = findKaslr(image, stub);
  return (
    stub.bits === 64 &&
    generation?.kind === 'physical' &&
    (generation.avoids === 'whole' || state.passed.runSize !== null) &&
    output === state.passed.output
  );
}

/** i386 kernels move with their physical address, x86-64 kernels with the virtual one that KASLR chooses. */
function relocate(
  state: ExtractionState,
  output: number,
  length: number,
  elf: KernelElf,
  loadPhysicalAddress: number,
  virtual: number,
  placed: readonly PlacedSegment[],
): RelocationCounts {
  const { stub, memory, image } = state.context;
  // Stubs that do not take the return value (jmp *%ebp) relocate by themselves, in assembly, after the call.
  if (stub.exitRegister !== 'rax') {
    return NO_RELOCATIONS;
  }
  const physicalDelta = BigInt(output - loadPhysicalAddress);
  const delta = elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : physicalDelta;
  if (stubHasText(image, 'relocation outside of kernel') && !skipsRelocations(state, output)) {
    state.messages.relocating(delta !== 0n);
  }
  return guestErrors(state, () =>
    applyRelocations({
      memory,
      output,
      length,
      bits: elf.bits,
      inverse: stubHasText(image, 'inverse 32-bit relocation outside of kernel'),
      map: physicalDelta - elf.virtualOffset,
      delta,
      end: Math.max(...placed.map((segment) => segment.address + segment.memsz)),
    }),
  );
}

/** The text of a `guest-error` belongs on the guest's console too. */
function guestErrors<Result>(state: ExtractionState, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof BootscopeError && error.code === 'guest-error') {
      state.messages.halt(/"([^"]*)"/.exec(error.message)?.[1] ?? error.message);
    }
    throw error;
  }
}

/** Leaves the page tables as the guest's own accesses would have. */
function mapTouched(
  state: ExtractionState,
  output: number,
  length: number,
  placed: readonly PlacedSegment[],
): void {
  const { zo, memory, stub } = state.context;
  if (stub.bits !== 64) {
    return;
  }
  try {
    mapIdentity(
      {
        memory,
        cr3: state.cr3 ?? state.context.readRegister('cr3'),
        fiveLevels: (state.context.readRegister('cr4') & CR4_LA57) !== 0n,
        stubStart: zo,
        stubEnd: zo + (state.details?.end ?? 0),
        maps: state.details?.handlesPageFaults ?? false,
      },
      [
        ...state.searched,
        {
          start: state.passed.inputAddress,
          end: state.passed.inputAddress + state.passed.inputLength,
          written: false,
        },
        { start: output, end: output + length, written: true },
        ...placed.map(({ address, filesz }) => ({ start: address, end: address + filesz, written: true })),
      ],
    );
  } catch (error) {
    // The guest can map what it misses by itself, as long as its handler stands.
    if (!(error instanceof BootscopeError)) {
      throw error;
    }
    state.notices.push(`the kernel's memory could not be mapped in the stub's page tables: ${error.message}`);
  }
}

function result(
  state: ExtractionState,
  output: number,
  length: number,
  kernel: {
    readonly virtualBase: bigint;
    readonly entry: number;
    readonly segments: readonly ExtractedSegment[];
    readonly file: KernelFileParts | null;
    readonly relocations: RelocationCounts;
  },
): Extraction {
  return {
    output: BigInt(output),
    outputLength: length,
    virtualBase: kernel.virtualBase,
    returnValue: BigInt(kernel.entry),
    entry: BigInt(kernel.entry),
    segments: kernel.segments,
    file: kernel.file,
    relocations: kernel.relocations,
    steps: state.steps,
    writes: state.writes,
    kaslr: state.kaslr,
    console: state.console.text,
    cr3: state.cr3,
    clearsIdt: clearsIdt(state),
    notices: state.notices,
  };
}

/** Whether extract_kernel takes the stub's IDT away (5.12 on): whether it gets to a LIDT. */
function clearsIdt(state: ExtractionState): boolean {
  const { image, stub } = state.context;
  if (!(state.details?.handlesPageFaults ?? false)) return false;
  const code = image.protectedModeCode;
  for (const { instructions } of calledFunctions(code, stub.extractKernel, stub.bits)) {
    if (instructions.some(isLidt)) return true;
  }
  // Calls behind a jump table, up to where the next function begins.
  const payload = image.payload!;
  const functions = callTargets(code, payload.offset + payload.length, code.length);
  const end = functions.reduce(
    (least, target) => (target > stub.extractKernel ? Math.min(least, target) : least),
    code.length,
  );
  return callTargets(code, stub.extractKernel, end).some((target) =>
    [...straightRuns(code, target, stub.bits)].flat().some(isLidt),
  );
}
