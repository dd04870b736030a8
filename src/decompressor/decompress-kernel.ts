// decompress_kernel in TypeScript, as the EFI stub calls it: decompresses to a place that is allocated already, puts the segments
// where they run, relocates. Where the kernel goes was decided before; there are no page tables, console or boot_params to mind.

import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import {
  type Extraction,
  type ExtractionStep,
  loadPhysicalAddressOf,
  NO_RELOCATIONS,
  type WrittenRange,
} from './extraction.ts';
import { payloadBytes } from './guest-halt.ts';
import { readKernelFileParts } from './kernel-sections.ts';
import type { PayloadAhead } from './payload-ahead.ts';
import { applyRelocations, placeSegments, readKernelElf, startsWithElf } from './place-kernel.ts';
import { stubHasText } from './stub-text.ts';

/** The guest as it stands at the first instruction of decompress_kernel. */
export interface DecompressionContext {
  readonly image: KernelImage;
  /** Address of the function, for the phases. */
  readonly address: number;
  /** Physical address of the payload. */
  readonly inputAddress: number;
  /** First argument: where the kernel goes. */
  readonly output: number;
  /** Second argument: its virtual address, less __START_KERNEL_map. */
  readonly virtual: number;
  /** Bytes that are allocated at `output`; null where nobody knows. */
  readonly room: number | null;
  readonly memory: PhysicalMemory;
  readonly ahead?: PayloadAhead | null;
}

/**
 * Does what decompress_kernel does, up to its return. Nothing outside `room` is written.
 *
 * @throws BootscopeError `guest-error` where the guest's function would refuse, `stub-memory` where memory ends before the kernel
 */
export async function decompressKernel(context: DecompressionContext): Promise<Extraction> {
  const { image, output, memory, inputAddress } = context;
  const payload = image.payload!;
  const room = payload.outputLength ?? context.room ?? memory.bytesFrom(output);
  if (room <= 0 || !memory.contains(output, room)) {
    throw new BootscopeError(
      'stub-memory',
      `the kernel needs ${hex(room)} bytes at ${hex(output)}, RAM ends at ${hex(memory.end)}`,
    );
  }
  if (context.room !== null && room > context.room) {
    throw new BootscopeError(
      'stub-memory',
      `the kernel needs ${hex(room)} bytes at ${hex(output)}, the stub allocated ${hex(context.room)} there`,
    );
  }
  const length = await decompress(context, memory.view(output, room));
  const bytes = memory.view(output, length);
  if (!startsWithElf(bytes)) {
    throw new BootscopeError('guest-error', 'the stub stops with "Kernel is not a valid ELF file"');
  }
  const address = BigInt(context.address);
  const steps: ExtractionStep[] = [
    {
      name: 'decompressed',
      address,
      summary: `${payload.codec}: ${payload.length} bytes at ${hex(inputAddress)} became ${length} at ${hex(output)}`,
    },
  ];
  const writes: WrittenRange[] = [{ start: output, end: output + length, role: 'decompressed' }];
  const elf = readKernelElf(bytes);
  const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
  const file = readKernelFileParts(
    bytes,
    elf.segments.map(({ paddr, vaddr, memsz }) => ({
      paddr: BigInt(output + paddr - loadPhysicalAddress),
      vaddr,
      memsz: BigInt(memsz),
    })),
  );
  const checkAlignment = stubHasText(image, "Alignment of LOAD segment isn't multiple of 2MB");
  const placed = placeSegments(memory, output, length, elf, loadPhysicalAddress, checkAlignment);
  steps.push({
    name: 'parse_elf',
    address,
    summary: `${placed.length} segments moved to ${placed.map((segment) => hex(segment.address)).join(', ')}`,
  });
  for (const [index, { address: start, filesz }] of placed.entries()) {
    writes.push({ start, end: start + filesz, role: 'segment', segment: index });
  }
  const delta = BigInt(context.virtual - loadPhysicalAddress);
  const relocations = stubHasText(image, 'relocation outside of kernel')
    ? applyRelocations({
        memory,
        output,
        length,
        bits: elf.bits,
        inverse: stubHasText(image, 'inverse 32-bit relocation outside of kernel'),
        map: BigInt(output - loadPhysicalAddress) - elf.virtualOffset,
        delta,
        end: Math.max(...placed.map((segment) => segment.address + segment.memsz)),
      })
    : NO_RELOCATIONS;
  if (relocations.relocations32 + relocations.inverse32 + relocations.relocations64 > 0) {
    steps.push({
      name: 'handle_relocations',
      address,
      summary: `${relocations.relocations32} 32-bit, ${relocations.inverse32} inverse and ${relocations.relocations64} 64-bit relocations`,
    });
  }
  const kernelVirtual = elf.virtualOffset + BigInt(elf.physicalBase);
  const offset = elf.entry - loadPhysicalAddress;
  return {
    output: BigInt(output),
    outputLength: length,
    virtualBase: kernelVirtual + delta,
    returnValue: BigInt(offset),
    entry: BigInt(output + offset),
    segments: placed.map((segment) => ({
      paddr: BigInt(segment.address),
      // The per-CPU segment of x86-64 is linked at 0 and never moves.
      vaddr: segment.vaddr >= kernelVirtual ? segment.vaddr + delta : segment.vaddr,
      filesz: BigInt(segment.filesz),
      memsz: BigInt(segment.memsz),
      flags: segment.flags,
    })),
    file,
    relocations,
    steps,
    writes,
    kaslr: null,
    cr3: null,
    console: '',
    clearsIdt: false,
    notices: [],
  };
}

/** @returns bytes written */
async function decompress(context: DecompressionContext, output: Uint8Array): Promise<number> {
  const { image, inputAddress } = context;
  const payload = image.payload!;
  const input = payloadBytes(context, inputAddress);
  const ahead = context.ahead ?? null;
  const ready = (await ahead?.take(input)) ?? null;
  if (ahead !== null && ready !== null) {
    ahead.moveTo(ready, output.subarray(0, ready.length));
    return ready.length;
  }
  const codec = await codecByName(payload.codec);
  try {
    return (await codec.decompress(input, output)).bytesWritten;
  } catch (error) {
    if (!(error instanceof BootscopeError) || !error.code.startsWith('codec-')) throw error;
    throw new BootscopeError(
      'guest-error',
      `the stub stops with "Failed to decompress kernel": ${error.message} (${payload.codec} payload of ${payload.length} ` +
        `bytes at ${hex(inputAddress)})`,
    );
  }
}
