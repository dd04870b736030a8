// extract_kernel (decompress_kernel before 4.6) in TypeScript: takes its arguments where the stub put them, checks them as the
// function does, decompresses into guest memory, places the segments, relocates, and says where the kernel begins.

import type { Codec, CodecName } from '../codecs/codec.ts';
import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { decompressMoved } from './move-params.ts';
import {
  applyRelocations,
  type KernelElf,
  type PlacedSegment,
  placeSegments,
  type RelocationCounts,
  readKernelElf,
  startsWithElf,
} from './place-kernel.ts';
import type { StubLayout } from './stub.ts';
import { stubHasText } from './stub-text.ts';

/** The registers that arguments come in. */
export type ArgumentRegister = 'rdi' | 'rsi' | 'rdx' | 'rcx' | 'r8' | 'r9' | 'rsp';

/** The guest as it stands at the first instruction of extract_kernel. */
export interface ExtractionContext {
  readonly image: KernelImage;
  readonly stub: StubLayout;
  /** Physical address of the ZO that runs: of its copy where the stub copied itself. */
  readonly zo: number;
  /** Physical memory from address 0. */
  readonly ram: Uint8Array;
  readRegister(name: ArgumentRegister): bigint;
}

/** One thing extract_kernel did, in its order. */
export interface ExtractionStep {
  readonly name: 'decompressed' | 'parse_elf' | 'handle_relocations';
  /** Address of the trapped function. */
  readonly address: bigint;
  /** What happened, for the table of phases. */
  readonly summary: string;
}

/** A segment of the kernel in guest memory. */
export interface ExtractedSegment {
  readonly paddr: bigint;
  readonly vaddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  readonly flags: string;
}

/** A range of physical memory that was written, [start, end). */
export interface WrittenRange {
  readonly start: number;
  readonly end: number;
  readonly what: string;
}

/** What extract_kernel left behind. */
export interface Extraction {
  /** Where the kernel was decompressed to. */
  readonly output: bigint;
  /** Bytes decompressed, with the relocation lists. */
  readonly outputLength: number;
  /** Virtual address of the kernel's first byte; equal to `output` for a flat kernel, whose addresses nobody knows. */
  readonly virtualBase: bigint;
  /** What the function returns in RAX/EAX. */
  readonly returnValue: bigint;
  /** Physical address of the kernel's first instruction. */
  readonly entry: bigint;
  readonly segments: readonly ExtractedSegment[];
  readonly relocations: RelocationCounts;
  readonly steps: readonly ExtractionStep[];
  readonly writes: readonly WrittenRange[];
  readonly notices: readonly string[];
}

/** The arguments of a call, whatever way they came. */
interface Arguments {
  readonly bootParams: number;
  readonly output: number;
  readonly inputAddress: number;
  readonly inputLength: number;
}

/**
 * Does what extract_kernel does, up to its return; the caller then returns to the stub with `returnValue`.
 *
 * @throws BootscopeError `guest-error` where the guest's function would print an error and halt (the message quotes the
 *   kernel's), `stub-arguments` when the arguments do not fit the image, `stub-memory` when RAM is too small for the output
 */
export async function extractKernel(context: ExtractionContext): Promise<Extraction> {
  const { image, stub, zo } = context;
  const payload = image.payload;
  if (payload === null) {
    throw new BootscopeError(
      'stub-payload',
      'the image has no payload that could be decompressed: no codec magic was found in its protected-mode code',
    );
  }
  if (stub.abi === 'moveparams') {
    return decompressMoved(context);
  }
  const passed = readArguments(context, payload.offset, payload.length);
  checkDestination(context, passed);
  const length = await decompressTo(context, passed.inputAddress, passed.output);
  const address = BigInt(zo + stub.extractKernel);
  const steps: ExtractionStep[] = [
    {
      name: 'decompressed',
      address,
      summary: `${payload.codec}: ${payload.length} bytes at ${hex(passed.inputAddress)} became ${length} at ${hex(passed.output)}`,
    },
  ];
  const writes: WrittenRange[] = [
    { start: passed.output, end: passed.output + length, what: 'decompressed kernel' },
  ];
  const bytes = context.ram.subarray(passed.output, passed.output + length);
  if (!startsWithElf(bytes)) {
    return flatKernel(context, passed.output, length, steps, writes);
  }
  return placeElf(context, passed.output, length, readKernelElf(bytes), steps, writes);
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function readArguments(context: ExtractionContext, payloadOffset: number, payloadLength: number): Arguments {
  const { image, stub, zo } = context;
  const register = (name: ArgumentRegister): number => Number(context.readRegister(name));
  // On the stack the return address comes first.
  const stacked = (index: number): number => readUint32(context.ram, register('rsp') + 4 + 4 * index);
  const input = { inputAddress: zo + payloadOffset, inputLength: payloadLength };
  let passed: Arguments;
  switch (stub.abi) {
    case 'rmode-output':
      passed = { bootParams: register('rdi'), output: register('rsi'), ...input };
      break;
    case 'stack-rmode-output':
      passed = { bootParams: stacked(0), output: stacked(1), ...input };
      break;
    case 'rmode-heap-input':
      passed = {
        bootParams: register('rdi'),
        inputAddress: register('rdx'),
        inputLength: register('rcx'),
        output: register('r8'),
      };
      break;
    default:
      passed = {
        bootParams: stacked(0),
        inputAddress: stacked(2),
        inputLength: stacked(3),
        output: stacked(4),
      };
  }
  if (passed.inputAddress !== input.inputAddress) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets input_data ${hex(passed.inputAddress)}, the payload of ${image.path} lies at ${hex(input.inputAddress)}`,
    );
  }
  if (passed.inputLength < payloadLength - 4 || passed.inputLength > payloadLength + 4) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets input_len ${passed.inputLength}, the payload of ${image.path} has ${payloadLength} bytes`,
    );
  }
  if (passed.bootParams + 4096 > context.ram.length) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets boot_params at ${hex(passed.bootParams)}, RAM ends at ${hex(context.ram.length)}`,
    );
  }
  return passed;
}

export function readUint32(ram: Uint8Array, address: number): number {
  if (address < 0 || address + 4 > ram.length) {
    throw new BootscopeError(
      'stub-memory',
      `the stub's stack at ${hex(address)} is outside RAM, which ends at ${hex(ram.length)}`,
    );
  }
  return new DataView(ram.buffer, ram.byteOffset + address, 4).getUint32(0, true);
}

/** Stops as error() of the stub does; `variants` are the kernel's texts of all generations, the stub's own is quoted. */
function guestError(image: KernelImage, variants: readonly string[], detail: string): never {
  const text = variants.find((variant) => stubHasText(image, variant)) ?? variants[0]!;
  throw new BootscopeError('guest-error', `the stub stops with "${text}": ${detail}`);
}

/** The checks of extract_kernel before it decompresses. */
function checkDestination(context: ExtractionContext, passed: Arguments): void {
  const { image, stub } = context;
  const { header } = image;
  // MIN_KERNEL_ALIGN; older stubs check against CONFIG_PHYSICAL_ALIGN, which is kernel_alignment.
  const alignment = header.has('min_alignment')
    ? 2 ** header.get('min_alignment')
    : header.get('kernel_alignment');
  if (alignment > 0 && passed.output % alignment !== 0) {
    guestError(
      image,
      [
        'Destination physical address inappropriately aligned',
        'Destination address inappropriately aligned',
        'Destination address not CONFIG_PHYSICAL_ALIGN aligned',
        'Destination address not 2M aligned',
      ],
      `${hex(passed.output)} is no multiple of ${hex(alignment)}`,
    );
  }
  if (stub.bits === 64 && context.zo > 0x3fffffffffff) {
    guestError(image, ['Destination address too large'], `the heap lies above ${hex(0x3fffffffffff)}`);
  }
  const preferred = header.get('pref_address');
  const fixed = header.has('relocatable_kernel') && header.get('relocatable_kernel') === 0;
  if (fixed && preferred !== 0 && passed.output !== preferred) {
    guestError(
      image,
      ['Wrong destination address'],
      `${hex(passed.output)} is not ${hex(preferred)}, and the kernel cannot be moved`,
    );
  }
}

/** What the kernel's decompressors print for a stream they cannot read, by codec; the first that the stub has is quoted. */
const CORRUPT: Readonly<Record<CodecName, readonly string[]>> = {
  gzip: ['uncompression error', 'invalid compressed format (err=1)', 'crc error'],
  bzip2: ['Data integrity error when decompressing.', 'Compressed file ends unexpectedly', 'bunzip error'],
  lzma: ['LZMA data is corrupt', 'decoder error', 'unexpected EOF'],
  xz: ['XZ-compressed data is corrupt'],
  lzo: ['Compressed data violation', 'file corrupted', 'invalid header'],
  lz4: ['Decoding failed', 'data corrupted', 'invalid header'],
  zstd: ['ZSTD-compressed data is corrupt'],
};

/**
 * Decompresses the payload that lies at `inputAddress` of guest memory to `output`.
 *
 * @returns bytes written
 */
async function decompressTo(
  context: ExtractionContext,
  inputAddress: number,
  output: number,
): Promise<number> {
  const { image, ram } = context;
  const payload = image.payload!;
  const room = payload.outputLength ?? ram.length - output;
  if (output < 0 || output + room > ram.length || room <= 0) {
    throw new BootscopeError(
      'stub-memory',
      `the kernel needs 0x${room.toString(16)} bytes at ${hex(output)}, RAM ends at ${hex(ram.length)} (--memory gives more)`,
    );
  }
  return decompressInto(
    image,
    payloadBytes(context, inputAddress),
    ram.subarray(output, output + room),
    inputAddress,
  );
}

/** The payload as it lies in guest memory: the image's own bytes while they are equal, so that nothing need be copied. */
export function payloadBytes(context: ExtractionContext, inputAddress: number): Uint8Array {
  const { image, ram } = context;
  const payload = image.payload!;
  const original = image.protectedModeCode.subarray(payload.offset, payload.offset + payload.length);
  const inGuest = ram.subarray(inputAddress, inputAddress + payload.length);
  return Buffer.compare(original, inGuest) === 0 ? original : inGuest.slice();
}

/** @throws BootscopeError `guest-error` with the message the kernel would print */
export async function decompressInto(
  image: KernelImage,
  input: Uint8Array,
  output: Uint8Array,
  inputAddress: number,
): Promise<number> {
  const { codec: name } = image.payload!;
  const codec: Codec = await codecByName(name);
  try {
    return (await codec.decompress(input, output)).bytesWritten;
  } catch (error) {
    if (error instanceof BootscopeError && error.code.startsWith('codec-')) {
      guestError(
        image,
        CORRUPT[name],
        `${error.message} (${name} payload of ${input.length} bytes at ${hex(inputAddress)})`,
      );
    }
    throw error;
  }
}

/** Kernels up to about 2.6.28: the payload is the kernel's memory image itself. */
function flatKernel(
  context: ExtractionContext,
  output: number,
  length: number,
  steps: readonly ExtractionStep[],
  writes: readonly WrittenRange[],
): Extraction {
  const refusal = 'Kernel is not a valid ELF file';
  if (stubHasText(context.image, refusal)) {
    guestError(
      context.image,
      [refusal],
      `the ${length} bytes at ${hex(output)} start with ${Buffer.from(context.ram.subarray(output, output + 4)).toString('hex')}`,
    );
  }
  return {
    output: BigInt(output),
    outputLength: length,
    virtualBase: BigInt(output),
    returnValue: BigInt(output),
    entry: BigInt(output),
    segments: [flatSegment(output, length)],
    relocations: { relocations32: 0, inverse32: 0, relocations64: 0 },
    steps,
    writes,
    notices: [],
  };
}

/** A flat kernel as one segment. */
export function flatSegment(address: number, length: number): ExtractedSegment {
  return {
    paddr: BigInt(address),
    vaddr: BigInt(address),
    filesz: BigInt(length),
    memsz: BigInt(length),
    flags: 'rwx',
  };
}

/** LOAD_PHYSICAL_ADDR: pref_address where the header has it (protocol 2.10), else where the kernel is linked to lie. */
export function loadPhysicalAddressOf(image: KernelImage, elf: KernelElf): number {
  const preferred = image.header.get('pref_address');
  return preferred !== 0 ? preferred : elf.physicalBase;
}

function placeElf(
  context: ExtractionContext,
  output: number,
  length: number,
  elf: KernelElf,
  steps: ExtractionStep[],
  writes: WrittenRange[],
): Extraction {
  const { image, stub, ram } = context;
  const address = BigInt(context.zo + stub.extractKernel);
  const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
  if (stub.bits === 32) {
    // Kernel memory must lie in the direct mapping, less 128 MiB for vmalloc.
    const limit = Number(BigInt.asUintN(32, -elf.virtualOffset - BigInt(128 << 20) - 1n) & 0x7fffffffn);
    if (context.zo > limit) {
      guestError(
        image,
        ['Destination address too large'],
        `the stub at ${hex(context.zo)} lies above ${hex(limit)}`,
      );
    }
  }
  const alignmentText = "Alignment of LOAD segment isn't multiple of 2MB";
  const placed = placeSegments(
    ram,
    output,
    length,
    elf,
    loadPhysicalAddress,
    stubHasText(image, alignmentText),
  );
  steps.push({
    name: 'parse_elf',
    address,
    summary: `${placed.length} segments moved to ${placed.map((segment) => hex(segment.address)).join(', ')}`,
  });
  for (const [index, segment] of placed.entries()) {
    writes.push({
      start: segment.address,
      end: segment.address + segment.filesz,
      what: `program header ${index}`,
    });
  }
  const virtual = loadPhysicalAddress;
  const relocations = relocate(context, output, length, elf, loadPhysicalAddress, virtual, placed);
  const total = relocations.relocations32 + relocations.inverse32 + relocations.relocations64;
  if (total > 0) {
    steps.push({
      name: 'handle_relocations',
      address,
      summary: `${relocations.relocations32} 32-bit, ${relocations.inverse32} inverse and ${relocations.relocations64} 64-bit relocations`,
    });
  }
  const entry = stub.abi.endsWith('rmode-output') ? output + elf.entry - loadPhysicalAddress : output;
  const virtualShift =
    elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : BigInt(output - loadPhysicalAddress);
  const kernelVirtual = elf.virtualOffset + BigInt(elf.physicalBase);
  return {
    output: BigInt(output),
    outputLength: length,
    virtualBase: kernelVirtual + virtualShift,
    returnValue: BigInt(entry),
    entry: BigInt(entry),
    segments: placed.map((segment) => ({
      paddr: BigInt(segment.address),
      // The per-CPU segment of x86-64 is linked at 0 and never moves.
      vaddr: segment.vaddr >= kernelVirtual ? segment.vaddr + virtualShift : segment.vaddr,
      filesz: BigInt(segment.filesz),
      memsz: BigInt(segment.memsz),
      flags: segment.flags,
    })),
    relocations,
    steps,
    writes,
    notices: [],
  };
}

/** i386 kernels move with their physical address, x86-64 kernels with the virtual one that KASLR chooses. */
function relocate(
  context: ExtractionContext,
  output: number,
  length: number,
  elf: KernelElf,
  loadPhysicalAddress: number,
  virtual: number,
  placed: readonly PlacedSegment[],
): RelocationCounts {
  // Stubs that do not take the return value (jmp *%ebp) relocate by themselves, in assembly, after the call.
  if (context.stub.exitRegister !== 'rax') {
    return { relocations32: 0, inverse32: 0, relocations64: 0 };
  }
  const physicalDelta = BigInt(output - loadPhysicalAddress);
  return applyRelocations({
    ram: context.ram,
    output,
    length,
    bits: elf.bits,
    map: physicalDelta - elf.virtualOffset,
    delta: elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : physicalDelta,
    end: Math.max(...placed.map((segment) => segment.address + segment.memsz)),
  });
}
