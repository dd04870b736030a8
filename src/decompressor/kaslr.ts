// choose_random_location of the boot stub (choose_kernel_location before 4.7) in TypeScript: which physical and virtual
// addresses the kernel can get, and which it gets for given entropy. Pure functions over boot_params and the image's numbers.

import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE, BootParams, bootParamsOffset } from '../protocol/boot-params.ts';
import { E820_RAM } from '../protocol/e820.ts';
import { calledFunctions, type FoundFunction } from '../x86/control-flow.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { hasOption, memparse, simpleStrtoull, splitArguments } from './command-line.ts';
import type { StubLayout } from './stub.ts';
import { stubHasString, stubHasText, stubMatches } from './stub-text.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const E820_ENTRIES = bootParamsOffset('e820_entries');
const LOADFLAGS = bootParamsOffset('loadflags');
const KASLR_FLAG = 0x02;

const SETUP_INDIRECT = 0x80000000;
const MAX_SLOT_AREAS = 100;
const MAX_MEMMAP_REGIONS = 4;

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

/** KERNEL_IMAGE_SIZE with KASLR. */
function kernelImageSize(bits: 32 | 64): number {
  return bits === 64 ? GIB : GIB / 2;
}

/** `orb $KASLR_FLAG, loadflags(%reg)` somewhere in the stub. */
function setsKaslrFlag(image: KernelImage): boolean {
  const code = Buffer.from(image.protectedModeCode);
  const operand = Buffer.from([0x11, 0x02, 0x00, 0x00, KASLR_FLAG]);
  for (let at = code.indexOf(operand); at >= 0; at = code.indexOf(operand, at + 1)) {
    if (code[at - 2] === 0x80 && (code[at - 1]! & 0xf8) === 0x88) {
      return true;
    }
  }
  return false;
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

/** The CPU's and the machine's entropy, in the order the stub asks for it. */
export interface EntropySource {
  /** RDRAND's 64 (on i386 32) bits; null when the CPU has none or it failed ten times. */
  rdrand(): bigint | null;
  /**
   * RDTSC's 64 bits; null when the CPU has no time stamp counter. `announce` is called before it is read: the stub prints then,
   * which takes time.
   */
  rdtsc(announce?: () => void): bigint | null;
  /**
   * Counter 0 of the i8254, 16 bits; only asked when the others gave nothing. `swapped`: the command that latches the count
   * does not reach the timer, so three bytes of the running count are read.
   */
  i8254(swapped: boolean): number;
}

/** All that the choice depends on. Addresses are physical; sizes are bytes. */
export interface KaslrInput {
  readonly bits: 32 | 64;
  readonly generation: KaslrGeneration;
  /** With boot_params, the command line and setup_data in it. */
  readonly memory: PhysicalMemory;
  readonly bootParams: number;
  /** input_data and input_len of the running stub. */
  readonly input: number;
  readonly inputLength: number;
  /** Where the kernel would be decompressed to without KASLR. */
  readonly output: number;
  /** max(output_len, kernel_total_size); this module rounds it as the generation does. */
  readonly outputSize: number;
  readonly loadPhysicalAddress: number;
  /** CONFIG_PHYSICAL_ALIGN: kernel_alignment of the setup header. */
  readonly alignment: number;
  /** Whether the page tables are the stub's own, of startup_32, and not a 64-bit loader's; absent: yes. */
  readonly startedAt32?: boolean;
  /** Heap and stack of the stub, [start, end); only kernels to 4.6 look at it. */
  readonly heapAndStack?: { readonly start: number; readonly end: number };
}

/** Memory that no slot may touch, and why. */
export interface AvoidedRange {
  readonly start: number;
  readonly end: number;
  readonly reason: string;
}

/** A run of slots: `count` addresses from `start` on, `alignment` apart. */
export interface SlotArea {
  readonly start: number;
  readonly count: number;
}

/** Where the kernel could go. */
export interface KaslrSlots {
  /** Null: KASLR is on; else why not, in one clause. */
  readonly disabled: string | null;
  readonly alignment: number;
  /** Size that a slot must hold. */
  readonly imageSize: number;
  /** Lowest address, and the limit that slots end below. */
  readonly minimum: number;
  readonly limit: number;
  readonly areas: readonly SlotArea[];
  readonly physicalSlots: number;
  readonly avoided: readonly AvoidedRange[];
  /** Virtual addresses are `loadPhysicalAddress + n * alignment`, added to the kernel's map; 0 where none are drawn. */
  readonly virtualSlots: number;
  readonly virtualStart: number;
  /** More than four memmap= regions: the memory map is not looked at. */
  readonly tooManyMemmaps: boolean;
  /** What the stub warns of while it reads the command line. */
  readonly warnings: readonly string[];
  /** Whether the search ended early, with as many areas as the stub can note. */
  readonly aborted: boolean;
  /** What this module leaves out and the stub would look at. */
  readonly notices: readonly string[];
}

/** One random number and what it came of. */
export interface KaslrDraw {
  readonly purpose: 'Physical' | 'Virtual';
  readonly seed: bigint;
  readonly rdrand: bigint | null;
  readonly rdtsc: bigint | null;
  readonly i8254: number | null;
  readonly random: bigint;
  readonly slots: number;
  readonly slot: number;
}

/** What was chosen. */
export interface KaslrChoice {
  /** The kernel's physical address: the given output where nothing was chosen. */
  readonly physical: number;
  /** What handle_relocations works with: an address in [0, 1 GiB) counted from __START_KERNEL_map. */
  readonly virtual: number;
  readonly slots: KaslrSlots;
  readonly draws: readonly KaslrDraw[];
  /** What the stub says with warn(), in order. */
  readonly warnings: readonly string[];
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** The command line that boot_params points to, null for a pointer of 0; its address and size with the NUL. */
export function readGuestCommandLine(
  memory: PhysicalMemory,
  bootParams: number,
): { text: string | null; address: number; size: number } {
  const address = new BootParams(memory.view(bootParams, BOOT_PARAMS_SIZE)).commandLine;
  if (address === 0 || !memory.contains(address, 1)) {
    return { text: address === 0 ? null : '', address: 0, size: 0 };
  }
  // COMMAND_LINE_SIZE - 1
  const bytes = memory.viewUpTo(address, 2047);
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, length).toString('latin1');
  return { text, address, size: length + 1 };
}

function stringAtNull(memory: PhysicalMemory): string {
  const bytes = memory.viewUpTo(0, 64);
  const end = bytes.indexOf(0);
  return String.fromCharCode(...bytes.subarray(0, end < 0 ? 64 : end));
}

/** What the memory options of the command line ask for. */
interface MemoryOptions {
  readonly limit: number;
  readonly memmap: readonly AvoidedRange[];
  readonly tooManyMemmaps: boolean;
  readonly gigabytePages: number;
  readonly warnings: readonly string[];
}

/**
 * handle_mem_options (handle_mem_memmap): mem=, memmap=, hugepagesz=1G hugepages=.
 *
 * @param atNull - the string at address 0, which the stub reads for an option that has no value
 */
function readMemoryOptions(
  commandLine: string,
  generation: KaslrGeneration,
  maximum: number,
  bits: 32 | 64,
  atNull: string,
): MemoryOptions {
  let limit = maximum;
  const memmap: AvoidedRange[] = [];
  let tooMany = false;
  let gigabytePages = 0;
  let gigabyteSize = false;
  const warnings: string[] = [];
  const parses = ['memmap=', 'mem=', 'hugepages'].some((text) => commandLine.includes(text));
  const lower = (size: number): void => {
    limit = generation.since510 ? Math.min(limit, size) : size;
  };
  const parseMemmap = (list: string): void => {
    if (memmap.length >= MAX_MEMMAP_REGIONS) {
      return;
    }
    const parts = list.split(',');
    while (parts.length > 0 && memmap.length < MAX_MEMMAP_REGIONS) {
      const text = parts.shift()!;
      const size = memparse(text);
      if (text.startsWith('exactmap') || size.end === 0) {
        // The rest of a list with a part that says nothing about sizes is not looked at.
        return;
      }
      const separator = text[size.end];
      const reserves = separator === '#' || separator === '$' || separator === '!';
      const start = reserves ? Number(memparse(text, size.end + 1).value) : 0;
      const length = separator === '@' ? 0 : Number(size.value);
      if (start === 0) {
        if (length > 0) {
          lower(length);
        }
        continue;
      }
      memmap.push({ start, end: start + length, reason: `memmap=${text}` });
    }
    tooMany ||= memmap.length >= MAX_MEMMAP_REGIONS && parts.length > 0;
  };
  for (const { param, value: given } of generation.memmap && parses ? splitArguments(commandLine) : []) {
    if (given === null && param === '--') {
      if (!generation.since510) {
        warnings.push("Only '--' specified in cmdline");
      }
      break;
    }
    if (given === null && param === 'memmap') continue;
    const value = given ?? atNull;
    if (param === 'memmap') {
      parseMemmap(value);
    } else if (generation.hugePages && bits === 64 && param.includes('hugepages')) {
      if (param === 'hugepagesz') {
        const isGigabyte = Number(memparse(value).value) === GIB;
        if (isGigabyte && gigabyteSize) {
          warnings.push('Repeatedly set hugeTLB page size of 1G!\n');
        }
        gigabyteSize = isGigabyte;
      } else if (param === 'hugepages' && gigabyteSize) {
        gigabytePages = Number(simpleStrtoull(value).value);
      }
    } else if (generation.mem && param === 'mem' && value !== 'nopentium') {
      const size = Number(memparse(value).value);
      if (size === 0) {
        break;
      }
      lower(size);
    }
  }
  return { limit, memmap, tooManyMemmaps: tooMany, gigabytePages, warnings };
}

/** The ranges of mem_avoid, in its order, and then all setup_data. */
function listAvoided(input: KaslrInput, params: BootParams, memmap: readonly AvoidedRange[]): AvoidedRange[] {
  const { memory, bootParams, generation } = input;
  const avoided: AvoidedRange[] = [];
  const add = (start: number, size: number, reason: string): void => {
    // An empty range within a region cuts it all the same.
    if (start > 0) {
      avoided.push({ start, end: start + size, reason });
    }
  };
  if (generation.avoids === 'whole') {
    const end = input.output + params.get('init_size');
    add(input.input, end - input.input, 'compressed kernel and stub (input_data to output + init_size)');
  } else {
    const unsafe = Math.floor(input.outputSize / 4096) + 32768 + 18;
    add(
      input.input + input.inputLength - unsafe,
      unsafe,
      'end of the compressed kernel, unsafe while decompressing',
    );
  }
  const { initrd } = params;
  if (initrd !== null) add(initrd.address, initrd.size, 'initrd');
  const commandLine = readGuestCommandLine(memory, bootParams);
  add(commandLine.address, commandLine.size, 'command line');
  if (generation.avoids === 'whole') {
    add(bootParams, BOOT_PARAMS_SIZE, 'boot_params');
  } else if (input.heapAndStack !== undefined) {
    const { start, end } = input.heapAndStack;
    add(start, end - start, "the stub's heap and stack");
  }
  avoided.push(...memmap);
  const seen = new Set<number>();
  for (let at = params.get('setup_data'); at !== 0 && memory.contains(at, 16); ) {
    if (seen.has(at)) {
      throw new BootscopeError(
        'kaslr-setup-data',
        `the setup_data list of boot_params loops at 0x${at.toString(16)}`,
      );
    }
    seen.add(at);
    const type = memory.read32(at + 8);
    const length = memory.read32(at + 12);
    add(at, 16 + length, `setup_data of type ${type}`);
    // struct setup_indirect behind the header: type, reserved, len, addr.
    if (
      generation.setupIndirect &&
      type === SETUP_INDIRECT &&
      memory.contains(at, 40) &&
      memory.read32(at + 16) !== SETUP_INDIRECT
    ) {
      const size = Number(memory.read64(at + 24));
      add(Number(memory.read64(at + 32)), size, 'memory that setup_data points to');
    }
    at = Number(memory.read64(at));
  }
  return avoided;
}

/** All usable E820 entries of boot_params, in table order. */
function usableMemory(params: BootParams): { start: number; end: number }[] {
  return params.memoryMap
    .filter(({ type }) => type === E820_RAM)
    .map(({ address, size }) => ({ start: Number(address), end: Number(address) + Number(size) }));
}

/** The slots of one generation, collected as the stub collects them. */
class SlotCollector {
  readonly areas: SlotArea[] = [];
  readonly #imageSize: number;
  readonly #alignment: number;
  readonly #since510: boolean;
  #gigabytePages: number;

  constructor(imageSize: number, alignment: number, since510: boolean, gigabytePages: number) {
    this.#imageSize = imageSize;
    this.#alignment = alignment;
    this.#since510 = since510;
    this.#gigabytePages = gigabytePages;
  }

  get full(): boolean {
    return this.areas.length >= MAX_SLOT_AREAS;
  }

  #store(start: number, end: number): void {
    if (!this.full && end - start >= this.#imageSize) {
      this.areas.push({
        start,
        count: 1 + Math.floor((end - start - this.#imageSize) / this.#alignment),
      });
    }
  }

  /** Adds a free range, less the 1 GiB pages that the command line reserves (process_gb_huge_pages). */
  add(start: number, end: number): void {
    const first = alignUp(start, GIB);
    const whole = this.#since510
      ? Math.max(0, Math.floor(end / GIB) - first / GIB)
      : // Until 5.9 the last page counts only when something follows it.
        Math.max(0, Math.ceil((end - first) / GIB) - 1);
    const pages = Math.min(whole, this.#gigabytePages);
    if (pages <= 0) {
      this.#store(start, end);
      return;
    }
    this.#gigabytePages -= pages;
    this.#store(start, first);
    this.#store(first + pages * GIB, end);
  }

  /** __process_mem_region: one range of usable memory, cut at what is avoided. */
  addRegion(
    entryStart: number,
    entryEnd: number,
    minimum: number,
    limit: number,
    avoided: readonly AvoidedRange[],
  ): void {
    const end = Math.min(entryEnd, limit);
    let start = Math.max(entryStart, minimum);
    while (!this.full) {
      start = alignUp(start, this.#alignment);
      if (end - start < this.#imageSize) {
        return;
      }
      let overlap: AvoidedRange | null = null;
      for (const range of avoided) {
        if (range.start < end && range.end > start && (overlap === null || range.start < overlap.start)) {
          overlap = range;
        }
      }
      if (overlap === null) {
        this.add(start, end);
        return;
      }
      const gap = overlap.start - start;
      if (this.#since510 ? gap >= this.#imageSize : gap > this.#imageSize) {
        this.add(start, overlap.start);
      }
      start = overlap.end;
    }
  }

  /** process_e820_entry of 3.14 to 4.7: every aligned address is tried by itself. */
  addEachSlot(
    entryStart: number,
    entryEnd: number,
    minimum: number,
    limit: number,
    avoided: readonly AvoidedRange[],
  ): void {
    const end = Math.min(entryEnd, limit);
    let run: { start: number; count: number } | null = null;
    for (
      let start = alignUp(Math.max(entryStart, minimum), this.#alignment);
      start + this.#imageSize <= end;
      start += this.#alignment
    ) {
      const at = start;
      if (avoided.some((range) => range.start < at + this.#imageSize && range.end > at)) {
        run = null;
      } else if (run === null) {
        run = { start, count: 1 };
        this.areas.push(run);
      } else {
        run.count++;
      }
    }
  }
}

/** All slots that the stub would choose from, without choosing. Reads memory, changes nothing. */
export function findKaslrSlots(input: KaslrInput): KaslrSlots {
  const { generation, bits, alignment } = input;
  const params = new BootParams(input.memory.view(input.bootParams, BOOT_PARAMS_SIZE));
  const commandLine = readGuestCommandLine(input.memory, input.bootParams).text;
  const separate = generation.kind === 'separate';
  const imageSize = generation.roundsSize ? alignUp(input.outputSize, 2 * MIB) : input.outputSize;
  const maximum = generation.maxOffset ?? (!separate || bits === 32 ? kernelImageSize(bits) : 2 ** 46);
  const options = readMemoryOptions(commandLine ?? '', generation, maximum, bits, stringAtNull(input.memory));
  const avoided = listAvoided(input, params, options.memmap);
  const minimum = alignUp(separate ? Math.min(input.output, 512 * MIB) : input.output, alignment);
  const virtualSlots =
    separate && bits === 64
      ? 1 +
        Math.floor(
          (kernelImageSize(bits) -
            input.loadPhysicalAddress -
            alignUp(imageSize, generation.since510 ? 1 : alignment)) /
            alignment,
        )
      : 0;

  let disabled: string | null = null;
  if (generation.optIn && !hasOption(commandLine, 'kaslr')) {
    disabled = 'the command line has no kaslr, which this kernel with hibernation asks for';
  } else if (!generation.optIn && hasOption(commandLine, 'nokaslr')) {
    disabled =
      commandLine === null
        ? 'cmd_line_ptr is 0, which the stub takes for nokaslr'
        : 'nokaslr is on the command line';
  }
  const collector = new SlotCollector(imageSize, alignment, generation.since510, options.gigabytePages);
  const limit = Math.min(options.limit, maximum);
  let aborted = false;
  if (!options.tooManyMemmaps && minimum + imageSize <= limit) {
    for (const { start, end } of usableMemory(params)) {
      if (separate) {
        collector.addRegion(start, end, minimum, limit, avoided);
      } else {
        collector.addEachSlot(start, end, minimum, limit, avoided);
      }
      aborted = separate && collector.full;
      if (aborted) break;
    }
  }
  return {
    disabled,
    alignment,
    imageSize,
    minimum,
    limit,
    areas: collector.areas,
    physicalSlots: collector.areas.reduce((sum, area) => sum + area.count, 0),
    avoided,
    virtualSlots,
    virtualStart: input.loadPhysicalAddress,
    tooManyMemmaps: options.tooManyMemmaps,
    warnings: options.warnings,
    aborted,
    notices:
      params.get('efi_loader_signature') === 0
        ? []
        : ['boot_params has an EFI memory map, which the kernel prefers; the slots here are of the E820 map'],
  };
}

/** The address of the `slot`th of all physical slots. */
export function physicalSlot(slots: KaslrSlots, slot: number): number {
  let rest = slot;
  for (const area of slots.areas) {
    if (rest < area.count) {
      return area.start + rest * slots.alignment;
    }
    rest -= area.count;
  }
  throw new BootscopeError(
    'kaslr-slot',
    `there is no physical slot ${slot}, there are ${slots.physicalSlots}`,
  );
}

const MASK64 = (1n << 64n) - 1n;
const MASK32 = (1n << 32n) - 1n;

/** rotate_xor: folds whole words into a hash, rotating it right by 7 before each. */
function rotateXor64(hash: bigint, bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let result = hash;
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    result = (((result << 57n) & MASK64) | (result >> 7n)) ^ view.getBigUint64(at, true);
  }
  return result;
}

function rotateXor32(hash: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let result = hash;
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    result = ((result << 25) | (result >>> 7)) ^ view.getInt32(at, true);
  }
  return result >>> 0;
}

/**
 * get_boot_seed: the start of every random number, from the build's string and boot_params as they are.
 *
 * @param bootParams - its 4096 bytes
 */
export function bootSeed(buildString: string, bootParams: Uint8Array, bits: 32 | 64): bigint {
  const build = Buffer.from(`${buildString}\0`, 'latin1');
  return bits === 64
    ? rotateXor64(rotateXor64(0n, build), bootParams)
    : BigInt(rotateXor32(rotateXor32(0, build), bootParams));
}

/** The seed of `input`'s draws, as boot_params is then: with KASLR_FLAG. Reads memory, changes nothing. */
export function kaslrSeed(input: KaslrInput): bigint {
  const bootParams = input.memory.copyOut(input.bootParams, BOOT_PARAMS_SIZE);
  if (input.generation.setsFlag) {
    bootParams[LOADFLAGS] = bootParams[LOADFLAGS]! | KASLR_FLAG;
  }
  return bootSeed(input.generation.buildString, bootParams, input.bits);
}

/** The last step of kaslr_get_random_long: both halves of a product, added up. */
export function mixRandom(value: bigint, bits: 32 | 64): bigint {
  if (bits === 64) {
    const product = (value & MASK64) * 0x5d6008cbf3848dd3n;
    return ((product & MASK64) + (product >> 64n)) & MASK64;
  }
  const product = (value & MASK32) * 0x3f39e593n;
  return ((product & MASK32) + (product >> 32n)) & MASK32;
}

/** kaslr_get_random_long: asks the sources in the stub's order. */
function drawRandom(
  seed: bigint,
  bits: 32 | 64,
  entropy: EntropySource,
  i8254Swapped: boolean,
): Pick<KaslrDraw, 'seed' | 'rdrand' | 'rdtsc' | 'i8254' | 'random'> {
  const rdrand = entropy.rdrand();
  const rdtsc = entropy.rdtsc();
  const i8254 = rdrand === null && rdtsc === null ? entropy.i8254(i8254Swapped) : null;
  const mixed = seed ^ (rdrand ?? 0n) ^ (rdtsc ?? 0n) ^ BigInt(i8254 ?? 0);
  return { seed, rdrand, rdtsc, i8254, random: mixRandom(mixed, bits) };
}

/**
 * One boot's draws over slots and a seed that are known already: the fast way to many. A stub that prints between its two draws
 * has another seed for the second; `chooseRandomLocation` minds that, this does not.
 *
 * @returns null for an address that is not drawn
 */
export function drawLocation(
  slots: KaslrSlots,
  seed: bigint,
  input: KaslrInput,
  entropy: EntropySource,
): { readonly physical: number | null; readonly virtual: number | null } {
  const { bits, generation } = input;
  const draw = (count: number): number =>
    Number(drawRandom(seed, bits, entropy, generation.i8254Swapped).random % BigInt(count));
  const physical = slots.physicalSlots > 0 ? physicalSlot(slots, draw(slots.physicalSlots)) : null;
  const virtual =
    generation.kind === 'separate' && slots.virtualSlots > 0
      ? slots.virtualStart + draw(slots.virtualSlots) * slots.alignment
      : null;
  return { physical, virtual };
}

/** What `chooseRandomLocation` calls while it works, so that what is printed counts in the next seed as in the guest. */
export interface KaslrOutput {
  /** warn(): printed always. */
  warn(text: string): void;
  /** debug_putstr: printed by stubs with CONFIG_X86_VERBOSE_BOOTUP. */
  debug(text: string): void;
}

/**
 * choose_random_location: sets KASLR_FLAG in boot_params, finds the slots and draws.
 *
 * @param entropy - asked in the stub's order and exactly as often
 */
export function chooseRandomLocation(
  input: KaslrInput,
  entropy: EntropySource,
  output: KaslrOutput = { warn: () => {}, debug: () => {} },
): KaslrChoice {
  const { generation, bits, memory, bootParams } = input;
  const warnings: string[] = [];
  const warn = (text: string): void => {
    warnings.push(text);
    output.warn(text);
  };
  const separate = generation.kind === 'separate';
  const unchanged = { physical: input.output, virtual: input.loadPhysicalAddress };
  const planned = findKaslrSlots(input);
  if (planned.disabled !== null) {
    if (generation.avoids === 'whole') {
      warn(
        generation.optIn
          ? "KASLR disabled: 'kaslr' not on cmdline (hibernation selected)."
          : "KASLR disabled: 'nokaslr' on cmdline.",
      );
    } else {
      output.debug(generation.optIn ? 'KASLR disabled by default...\n' : 'KASLR disabled by cmdline...\n');
    }
    return { ...unchanged, slots: planned, draws: [], warnings };
  }
  if (generation.setsFlag) {
    memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) | KASLR_FLAG);
  }
  if (generation.reportsEntry) {
    output.debug(`booted via startup_${input.startedAt32 === false ? 64 : 32}()\n`);
  }
  for (const text of planned.warnings) {
    warn(text);
  }
  if (planned.tooManyMemmaps) {
    output.debug('Aborted memory entries scan (more than 4 memmap= args)!\n');
  }
  if (planned.aborted) {
    output.debug('Aborted e820 scan (slot_areas full)!\n');
  }
  const params = memory.view(bootParams, BOOT_PARAMS_SIZE);
  const draws: KaslrDraw[] = [];
  const draw = (purpose: 'Physical' | 'Virtual', count: number): number => {
    const seed = bootSeed(generation.buildString, params, bits);
    if (separate) output.debug(purpose);
    output.debug(separate ? ' KASLR using' : 'KASLR using');
    const numbers = drawRandom(
      seed,
      bits,
      {
        rdrand: () => {
          const value = entropy.rdrand();
          if (value !== null) {
            output.debug(' RDRAND');
          }
          return value;
        },
        rdtsc: () => entropy.rdtsc(() => output.debug(' RDTSC')),
        i8254: (swapped) => {
          output.debug(' i8254');
          return entropy.i8254(swapped);
        },
      },
      generation.i8254Swapped,
    );
    output.debug('...\n');
    const slot = Number(numbers.random % BigInt(count));
    draws.push({ purpose, ...numbers, slots: count, slot });
    return slot;
  };

  let physical = 0;
  if (planned.physicalSlots > 0) {
    physical = physicalSlot(planned, draw('Physical', planned.physicalSlots));
  }
  if (!separate) {
    if (physical === 0 && generation.avoids === 'whole') {
      warn(generation.noRegionWarning);
    } else if (physical === 0) {
      output.debug('KASLR could not find suitable E820 region...\n');
    }
    if (physical < input.output) {
      return { ...unchanged, slots: planned, draws, warnings };
    }
    // One offset for both: the kernel's map moves with its physical address.
    return {
      physical,
      virtual: physical === input.output ? input.loadPhysicalAddress : physical,
      slots: planned,
      draws,
      warnings,
    };
  }
  if (physical === 0) {
    const looked = !planned.tooManyMemmaps && planned.minimum + planned.imageSize <= planned.limit;
    if (generation.since510 && looked) {
      warn('Invalid physical address chosen!\n');
    }
    warn(generation.noRegionWarning);
  }
  const virtual =
    bits === 64 && planned.virtualSlots > 0
      ? planned.virtualStart + draw('Virtual', planned.virtualSlots) * planned.alignment
      : physical;
  return { physical: physical === 0 ? input.output : physical, virtual, slots: planned, draws, warnings };
}
