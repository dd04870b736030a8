// How a stub does KASLR: told from its messages and its code, generation by generation.

import type { KernelImage } from '../image/kernel-image.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { calledFunctions, type FoundFunction } from '../x86/control-flow.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import type { StubLayout } from './stub.ts';
import { stubHasString, stubHasText, stubMatches, stubText } from './stub-text.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const EFI_MEMMAP_SIZE = bootParamsOffset('efi_memmap_size');
const LOADFLAGS = bootParamsOffset('loadflags');
const E820_ENTRIES = bootParamsOffset('e820_entries');
/** KASLR_FLAG of loadflags. */
export const KASLR_FLAG = 0x02;

/** How a stub does KASLR, read from its messages and code. */
export interface KaslrGeneration {
  /**
   * `physical`: 3.14 to 4.7, one address that the virtual one follows; `separate`: 4.8 on, two draws (on i386 one).
   */
  readonly kind: 'physical' | 'separate';
  /**
   * What of the stub is kept clear of: `parts` (to 4.6) the last part of the input, heap and stack; `whole` (4.7 on) all from
   * the input to the end of the buffer.
   */
  readonly avoids: 'parts' | 'whole';
  /** Kernels to 4.7 with hibernation randomise only with `kaslr` on the command line. */
  readonly optIn: boolean;
  /** Whether KASLR_FLAG is set in loadflags (4.0 on). */
  readonly setsFlag: boolean;
  /** CONFIG_RANDOMIZE_BASE_MAX_OFFSET, which `physical` stubs end below; null where the code shows none: its default. */
  readonly maxOffset: number | null;
  /** Options on the command line that are honoured. */
  readonly memmap: boolean;
  readonly mem: boolean;
  readonly hugePages: boolean;
  /**
   * Whether limits and gaps are counted as since 5.10: a gap of exactly the image's size is a slot, the smallest of several
   * limits counts, of 1 GiB pages the last whole one as well.
   */
  readonly since510: boolean;
  /** Whether the size is rounded up to MIN_KERNEL_ALIGN before slots are counted (64-bit, 5.4 on). */
  readonly roundsSize: boolean;
  /** Whether memory that setup_data of type SETUP_INDIRECT points to is avoided (5.5 on). */
  readonly setupIndirect: boolean;
  /** Whether the memory map of EFI is taken instead of E820's where there is one (4.14 on, with CONFIG_EFI). */
  readonly efiMap: boolean;
  /** Whether memory that EFI calls specific-purpose is left to its drivers (5.5 on, CONFIG_EFI_SOFT_RESERVE). */
  readonly softReserve: boolean;
  /** Whether memory that must be accepted first counts as free (6.5 on, CONFIG_UNACCEPTED_MEMORY). */
  readonly acceptsMemory: boolean;
  /** Whether OUT's operands are mixed up in what should read back the i8254 (to 5.x): 43h goes to port C2h. */
  readonly i8254Swapped: boolean;
  /** Whether a verbose stub says how it was entered before it looks for memory (4.8 to 5.9). */
  readonly reportsEntry: boolean;
  /** What the stub says when no physical slot is left. */
  readonly noRegionWarning: string;
  /** The string that the seed starts with, as it lies in the stub, without its NUL. */
  readonly buildString: string;
}

const NO_REGION_WARNINGS = [
  'Physical KASLR disabled: no suitable memory region!',
  'KASLR disabled: could not find suitable E820 region!',
];

/** One boot asks several times, and looking through the code takes milliseconds. */
const known = new WeakMap<StubLayout, KaslrGeneration | null>();

/**
 * Reads from a stub whether and how it does KASLR. A stub is read once.
 *
 * @returns null for a stub without CONFIG_RANDOMIZE_BASE
 */
export function findKaslr(image: KernelImage, stub: StubLayout): KaslrGeneration | null {
  let generation = known.get(stub);
  if (generation === undefined) {
    generation = readGeneration(image, stub);
    known.set(stub, generation);
  }
  return generation;
}

function readGeneration(image: KernelImage, stub: StubLayout): KaslrGeneration | null {
  const hasNokaslr = stubHasString(image, 'nokaslr');
  const optIn = !hasNokaslr && stubHasString(image, 'kaslr');
  const buildString = findBuildString(image);
  if ((!hasNokaslr && !optIn) || buildString === null) {
    return null;
  }
  // Looked for in the code only where it matters: few boots pass such a map.
  let efiMap: boolean | null = null;
  const separate = stubHasText(image, 'Destination virtual address inappropriately aligned');
  // Linkers let a string end in a longer one that ends alike: mem in efi_fake_mem.
  const memmap = stubHasText(image, 'memmap\0');
  const warns = stubHasText(image, 'KASLR disabled: ');
  const since510 = stubHasText(image, 'Invalid physical address chosen');
  return {
    kind: separate ? 'separate' : 'physical',
    avoids: separate || warns ? 'whole' : 'parts',
    optIn,
    setsFlag: separate || warns || setsKaslrFlag(image),
    maxOffset: separate ? null : findMaxOffset(image, stub),
    memmap,
    mem: memmap && stubHasText(image, 'mem\0'),
    hugePages: stubHasString(image, 'hugepagesz'),
    noRegionWarning: NO_REGION_WARNINGS.find((text) => stubHasText(image, text)) ?? NO_REGION_WARNINGS[0]!,
    setupIndirect: since510 || releaseIsAtLeast(image, 5, 5),
    get efiMap() {
      efiMap ??= readsEfiMap(image, stub);
      return efiMap;
    },
    softReserve: stubHasText(image, 'nosoftreserve'),
    acceptsMemory: stubHasText(image, 'Unknown version of unaccepted memory table'),
    // out %al, $0xc2; in $0x40, %al
    i8254Swapped: stubHasText(image, '\xe6\xc2\xe4\x40'),
    reportsEntry: !since510 && stubHasText(image, 'booted via startup_'),
    since510,
    roundsSize: stub.bits === 64 && roundsToTwoMib(image, stub),
    buildString,
  };
}

/** Compares the release in the version string; where there is none, the kernel counts as older. */
function releaseIsAtLeast(image: KernelImage, major: number, minor: number): boolean {
  const match = /^(\d+)\.(\d+)/.exec(image.kernelVersion ?? '');
  const release = match === null ? [0, 0] : [Number(match[1]), Number(match[2])];
  return release[0]! > major || (release[0] === major && release[1]! >= minor);
}

/** Whether extract_kernel itself adds 2 MiB - 1 to something, as rounding up does; checking an alignment only tests. */
function roundsToTwoMib(image: KernelImage, stub: StubLayout): boolean {
  const ROUND = 2 * MIB - 1;
  let at = stub.extractKernel;
  for (let count = 0; count < 300; count++) {
    const instruction = decodeInstruction(image.protectedModeCode, at, 64);
    if (instruction === null) {
      return false;
    }
    const adds =
      (instruction.opcode === 0x8d && instruction.displacement === ROUND) ||
      (instruction.opcode === 0x05 && instruction.immediate === ROUND) ||
      (instruction.opcode === 0x81 && instruction.reg % 8 === 0 && instruction.immediate === ROUND);
    if (adds) {
      return true;
    }
    at = instruction.next;
  }
  return false;
}

/**
 * CONFIG_RANDOMIZE_BASE_MAX_OFFSET: what the function that reads e820_entries of boot_params, or one it calls, compares
 * addresses with.
 *
 * @returns null where there is no such number, or more than one
 */
function findMaxOffset(image: KernelImage, stub: StubLayout): number | null {
  const alignment = image.header.get('kernel_alignment') || 2 * MIB;
  const lowest = image.header.get('pref_address');
  const limitsOf = ({ instructions }: FoundFunction): number[] =>
    instructions
      .filter(
        ({ opcode, reg }) =>
          opcode === 0x3d || (opcode === 0x81 && reg % 8 === 7) || (opcode >= 0xb8 && opcode <= 0xbf),
      )
      .map(({ immediate }) => {
        // A compiler makes `>= limit` of `> limit - 1`.
        const limit = alignUp(immediate >>> 0, alignment);
        return limit - (immediate >>> 0) <= 1 ? limit : 0;
      })
      .filter((limit) => limit > lowest && limit <= kernelImageSize(stub.bits));
  const functions = [...calledFunctions(image.protectedModeCode, stub.extractKernel, stub.bits)];
  const limits = new Set(
    functions
      .filter(({ instructions }) =>
        instructions.some(({ mod, displacement }) => mod === 2 && displacement === E820_ENTRIES),
      )
      .flatMap((reader) => [
        reader,
        ...functions.filter(({ offset }) => reader.calls.includes(offset) && offset !== reader.offset),
      ])
      .flatMap(limitsOf),
  );
  const [only] = limits;
  return limits.size === 1 ? only! : null;
}

/** Whether extract_kernel, or what it calls, reads efi_memmap_size of boot_params. */
function readsEfiMap(image: KernelImage, stub: StubLayout): boolean {
  for (const { instructions } of calledFunctions(image.protectedModeCode, stub.extractKernel, stub.bits)) {
    if (instructions.some(({ mod, displacement }) => mod === 2 && displacement === EFI_MEMMAP_SIZE))
      return true;
  }
  return false;
}

/** KERNEL_IMAGE_SIZE with KASLR. */
export function kernelImageSize(bits: 32 | 64): number {
  return bits === 64 ? GIB : GIB / 2;
}

/** `orb $KASLR_FLAG, loadflags(%reg)` somewhere in the stub. */
function setsKaslrFlag(image: KernelImage): boolean {
  const operand = String.fromCharCode(LOADFLAGS & 0xff, LOADFLAGS >> 8, 0, 0, KASLR_FLAG);
  return stubText(image).some((part) => {
    for (let at = part.indexOf(operand, 2); at >= 0; at = part.indexOf(operand, at + 1)) {
      if (part.charCodeAt(at - 2) === 0x80 && (part.charCodeAt(at - 1) & 0xf8) === 0x88) return true;
    }
    return false;
  });
}

/** What is printable runs to the string's NUL. */
const BUILD_STRING = /\d+\.\d[!-~]* \([!-~]*@[!-(*-~]*\) \([ -~]*\) #[ -~]*/g;

/** `release (builder@host) (compiler) version`: the stub's build_str. */
function findBuildString(image: KernelImage): string | null {
  const release = image.kernelVersion?.split(' ')[0];
  const found = stubMatches(image, BUILD_STRING).filter(
    (text) => release === undefined || text.startsWith(`${release} `),
  );
  return new Set(found).size === 1 ? found[0]! : null;
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
