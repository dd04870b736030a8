// Where KASLR could put a kernel: the memory that the firmware's map offers, less what must be kept clear, in slots.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { latin1Text } from '../host/host.ts';
import { BOOT_PARAMS_SIZE, BootParams } from '../protocol/boot-params.ts';
import { E820_RAM } from '../protocol/e820.ts';
import {
  EFI_MEMORY_TYPES,
  EFI_PAGE,
  MEMORY_DESCRIPTOR,
  MEMORY_DESCRIPTOR_SIZE,
} from '../protocol/efi-tables.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { hasOption, readGuestCommandLine, splitArguments } from './command-line.ts';
import { type KaslrGeneration, kernelImageSize } from './kaslr-generation.ts';
import { type AvoidedRange, readMemoryOptions } from './kaslr-memory-options.ts';
import { efiBits } from './root-pointer.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SETUP_INDIRECT = 0x80000000;
const MAX_SLOT_AREAS = 100;
/** Attributes of EFI's memory descriptors (UEFI 2.10, 7.2.3): mirrored memory, and what is set aside for a purpose. */
const EFI_MEMORY_MORE_RELIABLE = 0x1_0000n;
const EFI_MEMORY_SP = 0x4_0000n;

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
  /** The map that was looked at. */
  readonly memoryMap: 'e820' | 'EFI';
  /** Bytes of the largest free piece between `minimum` and `limit`, from an aligned address on; 0 for none. */
  readonly largestRoom: number;
  /** Why there is no physical slot, where there is none. */
  readonly notices: readonly string[];
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

function stringAtNull(memory: PhysicalMemory): string {
  const bytes = memory.viewUpTo(0, 64);
  const end = bytes.indexOf(0);
  return latin1Text(bytes.subarray(0, end < 0 ? 64 : end));
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
  // Not as one: an address without a size is avoided, too.
  const high = 2 ** 32;
  add(
    params.get('ramdisk_image') + params.get('ext_ramdisk_image') * high,
    params.get('ramdisk_size') + params.get('ext_ramdisk_size') * high,
    'initrd',
  );
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

/** Memory that slots may lie in, from the map that the stub looks at, in its order. */
interface OfferedMemory {
  readonly source: 'e820' | 'EFI';
  readonly regions: readonly { readonly start: number; readonly end: number }[];
  readonly warnings: readonly string[];
}

/** process_e820_entries, or process_efi_entries where a loader has passed EFI's map. */
function offeredMemory(input: KaslrInput, params: BootParams, commandLine: string | null): OfferedMemory {
  const warnings: string[] = [];
  if (input.generation.efiMap && efiBits(input.memory, input.bootParams) !== null) {
    if (input.bits === 64 || params.get('efi_memmap_hi') === 0) {
      return { source: 'EFI', regions: efiMemory(input, params, commandLine), warnings };
    }
    warnings.push("EFI memmap is above 4GB, can't be handled now on x86_32. EFI should be disabled.\n");
  }
  const regions = params.memoryMap
    .filter(({ type }) => type === E820_RAM)
    .map(({ address, size }) => ({ start: Number(address), end: Number(address + size) }));
  return { source: 'e820', regions, warnings };
}

/** Free memory of EFI's map: if some of it is mirrored, that alone. */
function efiMemory(
  input: KaslrInput,
  params: BootParams,
  commandLine: string | null,
): { start: number; end: number }[] {
  const { memory, generation } = input;
  const map = params.get('efi_memmap') + params.get('efi_memmap_hi') * 2 ** 32;
  const size = params.get('efi_memdesc_size');
  const count = size < MEMORY_DESCRIPTOR_SIZE - 8 ? 0 : Math.floor(params.get('efi_memmap_size') / size);
  const all = Array.from({ length: count }, (_, index) => map + index * size)
    .filter((at) => memory.contains(at, size))
    .map((at) => {
      const start = Number(memory.read64(at + MEMORY_DESCRIPTOR.physicalStart));
      return {
        start,
        end: start + Number(memory.read64(at + MEMORY_DESCRIPTOR.pages)) * EFI_PAGE,
        type: EFI_MEMORY_TYPES[memory.read32(at + MEMORY_DESCRIPTOR.type)],
        attributes: memory.read64(at + MEMORY_DESCRIPTOR.attributes),
      };
    });
  const mirrored = all.some(({ attributes }) => (attributes & EFI_MEMORY_MORE_RELIABLE) !== 0n);
  const reserves = generation.softReserve && !efiOptions(commandLine).includes('nosoftreserve');
  return all.filter(({ type, attributes }) => {
    const free = type === 'Conventional' || (generation.acceptsMemory && type === 'Unaccepted');
    const reserved = reserves && (attributes & EFI_MEMORY_SP) !== 0n;
    return free && !reserved && (!mirrored || (attributes & EFI_MEMORY_MORE_RELIABLE) !== 0n);
  });
}

/** The words of `efi=`. */
function efiOptions(commandLine: string | null): string[] {
  return splitArguments(commandLine ?? '')
    .filter(({ param }) => param === 'efi')
    .flatMap(({ value }) => value?.split(',') ?? []);
}

/** The slots of one generation, collected as the stub collects them. */
class SlotCollector {
  readonly areas: SlotArea[] = [];
  readonly #imageSize: number;
  readonly #alignment: number;
  readonly #since510: boolean;
  #gigabytePages: number;
  largestRoom = 0;

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
    this.largestRoom = Math.max(this.largestRoom, end - start);
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
        this.#tooSmall(start, end, avoided);
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
      } else {
        this.largestRoom = Math.max(this.largestRoom, gap);
      }
      start = overlap.end;
    }
  }

  /** Notes what is free of a piece that the stub does not look at any more. */
  #tooSmall(start: number, end: number, avoided: readonly AvoidedRange[]): void {
    for (let at = start; at < end; ) {
      const from = at;
      const next = avoided
        .filter((range) => range.start < end && range.end > from)
        .reduce<AvoidedRange | null>((a, b) => (a === null || b.start < a.start ? b : a), null);
      this.largestRoom = Math.max(this.largestRoom, (next?.start ?? end) - from);
      at = next === null ? end : alignUp(Math.max(next.end, from + 1), this.#alignment);
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
    if (this.areas.length === 0) {
      this.#tooSmall(alignUp(Math.max(entryStart, minimum), this.#alignment), end, avoided);
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
  const memory = offeredMemory(input, params, commandLine);
  const looks = !options.tooManyMemmaps && minimum + imageSize <= limit;
  let aborted = false;
  if (looks) {
    for (const { start, end } of memory.regions) {
      if (separate) {
        collector.addRegion(start, end, minimum, limit, avoided);
      } else {
        collector.addEachSlot(start, end, minimum, limit, avoided);
      }
      aborted = separate && collector.full;
      if (aborted) break;
    }
  }
  const physicalSlots = collector.areas.reduce((sum, area) => sum + area.count, 0);
  const slots: KaslrSlots = {
    disabled,
    alignment,
    imageSize,
    minimum,
    limit,
    areas: collector.areas,
    physicalSlots,
    avoided,
    virtualSlots,
    virtualStart: input.loadPhysicalAddress,
    tooManyMemmaps: options.tooManyMemmaps,
    warnings: [...options.warnings, ...(looks ? memory.warnings : [])],
    aborted,
    memoryMap: memory.source,
    largestRoom: collector.largestRoom,
    notices: [],
  };
  const missing = physicalSlots > 0 || disabled !== null ? null : noSlot(slots, commandLine ?? '');
  return missing === null ? slots : { ...slots, notices: [missing] };
}

/** Why there is no physical slot. */
function noSlot(slots: KaslrSlots, commandLine: string): string {
  const { imageSize, alignment, minimum, limit, largestRoom, memoryMap, tooManyMemmaps } = slots;
  const outcome = 'physical KASLR finds no slot and the kernel stays where it is: ';
  const needs = `the kernel needs ${hex(imageSize)} bytes in one piece at a multiple of ${hex(alignment)}`;
  if (tooManyMemmaps) {
    const list = commandLine.split(/\s+/).findLast((word) => /^memmap=.*,/.test(word)) ?? 'memmap=';
    return `${outcome}one memmap= lists more than the 4 regions that the stub can avoid (${list}), so it does not look at the memory map`;
  }
  if (minimum + imageSize > limit) {
    return `${outcome}${needs} from ${hex(minimum)} on, and the limit is ${hex(limit)}: ${hex(minimum + imageSize - limit)} bytes are missing`;
  }
  return (
    `${outcome}${needs} between ${hex(minimum)} and ${hex(limit)}; the largest piece of the ${memoryMap} map that is free there has ` +
    `${hex(largestRoom)} bytes, ${hex(imageSize - largestRoom)} too few`
  );
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
