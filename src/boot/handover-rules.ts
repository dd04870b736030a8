// What the kernel may expect when somebody else's loader jumps to it: a table of rules, each with the sentence that a plan prints
// and the test that a state is judged by (boot.rst, "32-bit Boot Protocol", "64-bit Boot Protocol", "The Real-Mode Kernel Header";
// pvh.pandoc). Where things lie over each other, or where there is no RAM, hazards say.
// Long, for it is one table: a row a rule.

import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { StateRegister, StateRegisters } from '../image/loader-state.ts';
import { readSetupExtents } from '../image/setup-code.ts';
import {
  BOOT_PARAMS_SIZE,
  BootParams,
  type BootParamsField,
  bootParamsOffset,
} from '../protocol/boot-params.ts';
import { E820_RAM, E820_TABLE_ENTRIES, type E820Entry } from '../protocol/e820.ts';
import { HVM_START_INFO_SIZE, HVM_START_MAGIC, readHvmStartInfo } from '../protocol/pvh.ts';
import { SETUP_HEADER_FIELDS, SETUP_HEADER_FLAGS, SETUP_HEADER_MAGIC } from '../protocol/setup-header.ts';
import type { Hazard } from '../trace/boot-trace.ts';
import { isRsdp } from '../trace/decode/acpi.ts';
import { runArea } from '../trace/hazards.ts';
import { CR0_PE, CR0_PG, EFER_LMA } from '../x86/control-registers.ts';
import { isIdentityMapped, pagingMode } from '../x86/page-tables.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { maxCommandLineLength } from './entries/placement.ts';
import { headerRules } from './layout-facts.ts';

/** Entries at which a loader has done its part and the kernel begins. */
export type HandoverEntry = 'real16' | 'prot32' | 'long64' | 'pvh';

/** A machine at the jump from a loader to the kernel. */
export interface Handover {
  readonly entry: HandoverEntry;
  /** Segment registers are selectors. What is absent is not known, and not judged. */
  readonly registers: StateRegisters;
  readonly gdtr: { readonly base: bigint; readonly limit: number } | null;
  readonly memory: PhysicalMemory;
}

type Code = Extract<Hazard['code'], `handover-${string}`>;

interface Finding {
  readonly text: string;
  readonly advice: string;
  readonly start: number;
  readonly end: number;
}

export interface HandoverRule {
  readonly code: Code;
  readonly entries: readonly HandoverEntry[];
  readonly about: 'cpu' | 'fields';
  /** For people who write a loader. Null where it does not concern this image. */
  text(image: KernelImage, entry: HandoverEntry): string | null;
  /** What of a state goes against it. */
  judge(seen: HandoverView): readonly Finding[];
}

const SETUP_TO_ENTRY = 0x200;
const STARTUP_64 = 0x200;
const LOW_MEMORY_END = 0xa0000;
/** Bytes of a root pointer that its first checksum is over. */
const RSDP_CHECKED = 20;
const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const BOOT_CS = 0x10n;
const BOOT_DS = 0x18n;
const RFLAGS_IF = 0x200n;
const ADDRESSABLE = 1n << 52n;
const BOOT_PROTOCOL = ['real16', 'prot32', 'long64'] as const;
const FLAT = ['prot32', 'long64'] as const;
/** Type and rights of a descriptor, its bits 40 to 47: present, code or data, readable or writable. */
const RIGHTS_SHIFT = 40n;
const RIGHTS_CODE = 0x9an;
const RIGHTS_DATA = 0x92n;
const RIGHTS_EXECUTABLE = 0x08n;
/** Without DPL, accessed and conforming. */
const RIGHTS_MASK = 0x9an;
const DESCRIPTOR_LONG = 1n << 53n;
const DESCRIPTOR_32 = 1n << 54n;

/** What a state says, where the entry has it. */
export class HandoverView implements Handover {
  readonly entry: HandoverEntry;
  readonly registers: StateRegisters;
  readonly gdtr: Handover['gdtr'];
  readonly memory: PhysicalMemory;
  readonly image: KernelImage;

  constructor(image: KernelImage, { entry, registers, gdtr, memory }: Handover) {
    this.image = image;
    this.entry = entry;
    this.registers = registers;
    this.gdtr = gdtr;
    this.memory = memory;
  }

  /** Linear address of the first instruction. */
  get start(): number {
    const { rip = 0n, cs = 0n } = this.registers;
    return Number(this.entry === 'real16' ? (cs << 4n) + (rip & 0xffffn) : rip);
  }

  /** Of boot_params; in real mode of setup, whose first sectors have the header at the same offset. Null by PVH. */
  get bootParams(): number | null {
    const { rsi } = this.registers;
    if (this.entry === 'real16') return this.start - SETUP_TO_ENTRY;
    if (this.entry === 'pvh' || rsi === undefined) return null;
    return Number(this.entry === 'prot32' ? rsi & 0xffff_ffffn : rsi);
  }

  /** Null where it does not lie in RAM. */
  get params(): BootParams | null {
    const address = this.bootParams;
    if (address === null || !this.memory.contains(address, BOOT_PARAMS_SIZE)) return null;
    return new BootParams(this.memory.view(address, BOOT_PARAMS_SIZE));
  }

  /** Where the protected-mode code should lie; null for a vmlinux. */
  get code(): number | null {
    const { kind, header } = this.image;
    if (kind !== 'bzImage' && kind !== 'zImage') return null;
    if (this.entry === 'prot32') return this.start;
    if (this.entry === 'long64') return this.start - STARTUP_64;
    return kind === 'zImage' ? 0x10000 : header.get('code32_start') || 0x100000;
  }

  /** Where the command line begins, and its bytes up to the NUL, or all that may be looked at; null where there is none. */
  get commandLine(): { readonly address: number; readonly text: Uint8Array; readonly ends: boolean } | null {
    const address = this.#commandLineAddress();
    if (address === 0) return null;
    const bytes = this.memory.viewUpTo(address, maxCommandLineLength(this.image) + 1);
    const end = bytes.indexOf(0);
    return { address, text: end < 0 ? bytes : bytes.subarray(0, end), ends: end >= 0 };
  }

  #commandLineAddress(): number {
    if (this.entry === 'pvh') {
      return readHvmStartInfo(this.memory, Number(this.registers.rbx ?? 0n))?.commandLine ?? 0;
    }
    const { params } = this;
    if (params === null) return 0;
    // Setup's boot sector has its own code where boot_params has the upper half.
    return this.entry === 'real16' ? params.get('cmd_line_ptr') : params.commandLine;
  }

  get initrd(): { readonly address: number; readonly size: number } | null {
    if (this.entry === 'pvh') {
      return readHvmStartInfo(this.memory, Number(this.registers.rbx ?? 0n))?.modules[0] ?? null;
    }
    const { params } = this;
    if (params === null) return null;
    if (this.entry !== 'real16') return params.initrd;
    const [address, size] = [params.get('ramdisk_image'), params.get('ramdisk_size')];
    return address === 0 || size === 0 ? null : { address, size };
  }

  /** What firmware said of memory; null where the kernel asks for it by itself. */
  get memoryMap(): readonly E820Entry[] | null {
    if (this.entry === 'real16') return null;
    if (this.entry === 'pvh') {
      return readHvmStartInfo(this.memory, Number(this.registers.rbx ?? 0n))?.memoryMap ?? null;
    }
    return this.params?.memoryMap ?? null;
  }

  has(register: StateRegister): boolean {
    return this.registers[register] !== undefined;
  }

  /** Something about a field of boot_params. */
  field(name: BootParamsField, text: string, advice: string, size = 4): Finding {
    const start = (this.bootParams ?? 0) + bootParamsOffset(name);
    return { text, advice, start, end: start + size };
  }

  /** Something about the CPU. */
  cpu(text: string, advice: string): Finding {
    return { text, advice, start: this.start, end: this.start + 1 };
  }
}

/** What goes against the rules in a state, in the order of the table. Empty: it is what the kernel may expect. */
export function judgeHandover(image: KernelImage, handover: Handover): Hazard[] {
  const view = new HandoverView(image, handover);
  return HANDOVER_RULES.filter(({ entries }) => entries.includes(handover.entry)).flatMap(({ code, judge }) =>
    judge(view).map(({ text, advice, start, end }) => ({
      ...{ code, text, advice },
      ...{ start: BigInt(Math.max(0, start)), end: BigInt(Math.max(0, end)) },
    })),
  );
}

/** What a plan says of an entry, by the same table. */
export function handoverTexts(
  image: KernelImage,
  entry: HandoverEntry,
  about: HandoverRule['about'],
): readonly string[] {
  return HANDOVER_RULES.filter((rule) => rule.about === about && rule.entries.includes(entry))
    .map((rule) => rule.text(image, entry))
    .filter((text) => text !== null);
}

function hasHeader({ kind, header }: KernelImage): boolean {
  return (kind === 'bzImage' || kind === 'zImage') && header.protocol >= 0x0200;
}

/** The first byte that memory has otherwise than the file; null where all are equal. */
function firstDifference(memory: PhysicalMemory, address: number, bytes: Uint8Array): number | null {
  const there = memory.viewUpTo(address, bytes.length);
  for (let at = 0; at < bytes.length; at++) if (there[at] !== bytes[at]) return at;
  return null;
}

function judgeCode(seen: HandoverView): readonly Finding[] {
  const { image, memory, code } = seen;
  if (code === null) return [];
  const parts: [string, number, Uint8Array, number][] = [
    ['the protected-mode code', code, image.protectedModeCode, 0],
  ];
  if (seen.entry === 'real16') {
    // What lies in front of the entry is the header, which has a rule of its own, and the boot sector, which nobody runs.
    const setup = image.setup.subarray(image.header.end);
    parts.push(["setup's code", seen.start - SETUP_TO_ENTRY + image.header.end, setup, image.header.end]);
  }
  return parts.flatMap(([what, address, bytes, offset]) => {
    const at = firstDifference(memory, address, bytes);
    if (at === null) return [];
    const byte = memory.viewUpTo(address + at, 1)[0];
    const found = byte === undefined ? 'there is no memory' : `there is ${hex(byte)}`;
    return [
      {
        text: `${what} should lie at ${hex(address)}, as the file has it, but at ${hex(address + at)} ${found} and not ${hex(bytes[at]!)}`,
        advice: `copy all ${bytes.length} bytes from offset ${hex(offset)} of ${what} on, and nothing over them`,
        ...{ start: address + at, end: address + bytes.length },
      },
    ];
  });
}

function judgeHeader(seen: HandoverView): readonly Finding[] {
  const { image, params } = seen;
  if (params === null || !hasHeader(image)) return [];
  if (params.get('header') !== SETUP_HEADER_MAGIC) {
    const what = seen.entry === 'real16' ? 'setup' : 'boot_params';
    return [
      seen.field(
        'header',
        `${what} at ${hex(seen.bootParams!)} has no setup header: ${hex(params.get('header'))} stands where HdrS should`,
        'copy the header from 0x1f1 of the file on, up to 0x202 + the byte at 0x201',
      ),
    ];
  }
  // boot_flag is the BIOS's: GRUB leaves zeroes there, and no kernel looks.
  const isRead = ({ name, kind }: (typeof SETUP_HEADER_FIELDS)[number]): boolean =>
    kind === 'read' && name !== 'boot_flag' && image.header.has(name);
  return SETUP_HEADER_FIELDS.filter(isRead).flatMap(({ name, size }) => {
    const [is, should] = [params.get(name), Number(image.header.getBig(name))];
    // Fields that older protocols have narrower lie beside what is the loader's.
    const width = name === 'syssize' && image.header.protocol < 0x0204 ? 2 : size;
    if (is % 2 ** (width * 8) === should) return [];
    return [
      seen.field(
        name,
        `${name} is ${hex(is)} where the kernel looks, the image has ${hex(should)}: the header was not copied whole`,
        'copy the header from 0x1f1 of the file on, up to 0x202 + the byte at 0x201',
        width,
      ),
    ];
  });
}

function judgeBootParams(seen: HandoverView): readonly Finding[] {
  const { params, bootParams } = seen;
  if (bootParams === null) return [];
  if (params === null) {
    return [
      seen.cpu(
        `boot_params should lie at ${hex(bootParams)}, where RSI points, but there is no RAM`,
        'RSI is the physical address of boot_params',
      ),
    ];
  }
  if (seen.entry === 'real16' || params.get('sentinel') === 0) return [];
  return [
    seen.field(
      'sentinel',
      `the sentinel of boot_params is ${hex(params.get('sentinel'))}: more was copied than the header, so that the kernel clears the ` +
        'fields that it takes for garbage',
      'fill boot_params with zeroes before the header goes in',
      1,
    ),
  ];
}

function judgeLoaderType(seen: HandoverView): readonly Finding[] {
  const { params, image } = seen;
  if (params === null || params.get('type_of_loader') !== 0) return [];
  if (seen.entry === 'real16' && !hasHeader(image)) return [];
  const meaning =
    seen.entry === 'real16'
      ? 'setup takes that for no loader at all, and does without initrd and heap'
      : 'the kernel then does not look for an initrd';
  return [
    seen.field(
      'type_of_loader',
      `type_of_loader is 0: ${meaning}`,
      '0xff is for loaders without a number of their own',
      1,
    ),
  ];
}

function judgeLoadFlags(seen: HandoverView): readonly Finding[] {
  const { params, image } = seen;
  if (params === null || !image.header.has('loadflags')) return [];
  const flags = params.get('loadflags');
  const wants = (mask: number, why: string): Finding[] => {
    if ((flags & mask) !== 0) return [];
    const { name } = SETUP_HEADER_FLAGS.find((flag) => flag.field === 'loadflags' && flag.mask === mask)!;
    return [seen.field('loadflags', `loadflags ${hex(flags)} lack ${name}: ${why}`, `set ${hex(mask)}`, 1)];
  };
  const found: Finding[] = [];
  if (image.kind === 'bzImage')
    found.push(...wants(LOADED_HIGH, "setup would move the code down as a zImage's"));
  if (seen.entry === 'real16' && image.header.protocol >= 0x0201) {
    found.push(...wants(CAN_USE_HEAP, 'setup does not use heap_end_ptr, and does without a heap'));
  }
  return found;
}

function judgeHeapEnd(seen: HandoverView): readonly Finding[] {
  const { params, image, bootParams } = seen;
  if (params === null || image.header.protocol < 0x0201) return [];
  if ((params.get('loadflags') & CAN_USE_HEAP) === 0) return [];
  const pointer = params.get('heap_end_ptr');
  const end = pointer + SETUP_TO_ENTRY;
  const own = readSetupExtents(image.setup)?.bss.end ?? image.setupSize;
  const wrong =
    end <= own
      ? `where setup's own code and data reach to ${hex(own)}: there is no heap`
      : end > 0x10000
        ? "behind the end of setup's segment"
        : bootParams! + end > LOW_MEMORY_END
          ? `at ${hex(bootParams! + end)}, behind the end of conventional memory`
          : null;
  if (wrong === null) return [];
  return [
    seen.field(
      'heap_end_ptr',
      `heap_end_ptr ${hex(pointer)} ends the heap at ${hex(end)} of setup's segment, ${wrong}`,
      `heap_end_ptr is the end of heap and stack less 0x200: ${hex(0xe000 - SETUP_TO_ENTRY)} is usual`,
      2,
    ),
  ];
}

function judgeCommandLine(seen: HandoverView): readonly Finding[] {
  const { commandLine, image, entry } = seen;
  if (commandLine === null) return [];
  const { address, text, ends } = commandLine;
  const limit = maxCommandLineLength(image);
  const about = (sentence: string, advice: string): Finding => {
    if (entry === 'pvh') return { text: sentence, advice, start: address, end: address + text.length + 1 };
    return seen.field('cmd_line_ptr', sentence, advice);
  };
  if (text.length === 0 && !ends) {
    return [
      about(
        `cmd_line_ptr ${hex(address)} points to where there is no RAM`,
        'it is a physical address in RAM',
      ),
    ];
  }
  if (!ends) {
    return [
      about(
        `the command line at ${hex(address)} has no NUL within the ${limit} characters that this kernel takes (cmdline_size)`,
        `end it with a NUL after at most ${limit} characters`,
      ),
    ];
  }
  if (entry === 'real16' && address >= LOW_MEMORY_END) {
    return [
      about(
        `cmd_line_ptr is ${hex(address)}, setup looks below ${hex(LOW_MEMORY_END)}`,
        'put the command line behind the heap of setup',
      ),
    ];
  }
  return [];
}

function judgeInitrd(seen: HandoverView): readonly Finding[] {
  const { params, entry, image } = seen;
  if (entry === 'pvh' || params === null || (entry === 'real16' && !hasHeader(image))) return [];
  const wide = entry !== 'real16';
  const high = (name: 'ext_ramdisk_image' | 'ext_ramdisk_size'): number =>
    wide ? params.get(name) * 2 ** 32 : 0;
  const address = params.get('ramdisk_image') + high('ext_ramdisk_image');
  const size = params.get('ramdisk_size') + high('ext_ramdisk_size');
  if ((address === 0) === (size === 0)) return [];
  return [
    seen.field(
      address === 0 ? 'ramdisk_image' : 'ramdisk_size',
      address === 0
        ? `ramdisk_size is ${hex(size)}, but ramdisk_image is 0: the kernel sees no initrd`
        : `ramdisk_image is ${hex(address)}, but ramdisk_size is 0: the kernel sees no initrd`,
      'both are set where there is an initrd, and 0 where there is none',
    ),
  ];
}

function judgeMemoryMap(seen: HandoverView): readonly Finding[] {
  const { params, entry, memoryMap: map } = seen;
  if (map === null) return [];
  const about = (text: string, advice: string, index = 0): Finding => {
    const size = 20;
    if (entry === 'pvh' || params === null) return seen.cpu(text, advice);
    const start = seen.bootParams! + bootParamsOffset('e820_table') + index * size;
    return { text, advice, start, end: start + size };
  };
  const count = params?.get('e820_entries') ?? map.length;
  if (count === 0) {
    return [
      about(
        'the memory map has no entries: the kernel knows of no RAM',
        'give it the E820 map of the machine',
      ),
    ];
  }
  if (entry !== 'pvh' && count > E820_TABLE_ENTRIES) {
    return [
      about(
        `e820_entries is ${count}, the table has room for ${E820_TABLE_ENTRIES}`,
        'the rest goes into setup_data of type SETUP_E820_EXT',
      ),
    ];
  }
  const found: Finding[] = [];
  const show = ({ address, size, type }: E820Entry): string =>
    `${hex(address)}..${hex(address + size)} of type ${type}`;
  for (const [index, one] of map.entries()) {
    // The kernel drops empty entries (arch/x86/kernel/e820.c).
    if (one.size === 0n) continue;
    if (one.address + one.size > ADDRESSABLE) {
      found.push(
        about(
          `the memory map's entry ${show(one)} ends beyond 52 address bits`,
          'an entry is address and size, not end',
          index,
        ),
      );
      continue;
    }
    const other = map.find(
      (each, place) =>
        place < index &&
        each.size > 0n &&
        each.type !== one.type &&
        (each.type === E820_RAM || one.type === E820_RAM) &&
        each.address < one.address + one.size &&
        one.address < each.address + each.size,
    );
    if (other !== undefined) {
      found.push(
        about(
          `the memory map's entries ${show(other)} and ${show(one)} overlap`,
          'an address has one type',
          index,
        ),
      );
    }
  }
  if (!map.some(({ type, size }) => type === E820_RAM && size > 0n)) {
    found.push(about(`none of the ${map.length} entries of the memory map is RAM`, 'RAM is of type 1'));
  }
  return found;
}

/** What CR0, EFER and RFLAGS should say. */
function judgeMode(seen: HandoverView): readonly Finding[] {
  const { cr0, efer, rflags } = seen.registers;
  const found: Finding[] = [];
  const wants = (value: bigint | undefined, bit: bigint, set: boolean, text: string): void => {
    if (value !== undefined && ((value & bit) !== 0n) !== set) {
      found.push(seen.cpu(text, `it is ${set ? 'on' : 'off'} at this entry`));
    }
  };
  const long = seen.entry === 'long64';
  wants(
    cr0,
    CR0_PE,
    seen.entry !== 'real16',
    `CR0 is ${hex(cr0 ?? 0n)}: protection (bit 0) is the wrong way round`,
  );
  wants(cr0, CR0_PG, long, `CR0 is ${hex(cr0 ?? 0n)}: paging (bit 31) is ${long ? 'off' : 'on'}`);
  if (long) wants(efer, EFER_LMA, true, `EFER is ${hex(efer ?? 0n)}: long mode (bit 10) is not active`);
  wants(rflags, RFLAGS_IF, false, `RFLAGS is ${hex(rflags ?? 0n)}: interrupts (bit 9) are on`);
  if (seen.entry === 'pvh' && (seen.registers.cr4 ?? 0n) !== 0n) {
    found.push(seen.cpu(`CR4 is ${hex(seen.registers.cr4!)}`, 'all its bits are 0 at this entry'));
  }
  return found;
}

function judgeGeneral(seen: HandoverView): readonly Finding[] {
  return (['rbp', 'rdi', 'rbx'] as const).flatMap((name) => {
    const value = (seen.registers[name] ?? 0n) & 0xffff_ffffn;
    if (value === 0n) return [];
    return [
      seen.cpu(`E${name.slice(1).toUpperCase()} is ${hex(value)}`, 'it is 0 at the 32-bit entry (boot.rst)'),
    ];
  });
}

function judgeSegments(seen: HandoverView): readonly Finding[] {
  const { registers, gdtr, memory, entry } = seen;
  const found: Finding[] = [];
  const isPvh = entry === 'pvh';
  for (const name of ['cs', 'ds', 'es', 'ss'] as const) {
    const selector = registers[name];
    const wanted = name === 'cs' ? BOOT_CS : BOOT_DS;
    if (selector === undefined) continue;
    if (!isPvh && selector !== wanted) {
      found.push(
        seen.cpu(
          `${name.toUpperCase()} is ${hex(selector)}, boot.rst wants ${hex(wanted)} (${name === 'cs' ? '__BOOT_CS' : '__BOOT_DS'})`,
          'the selectors are fixed, and their descriptors flat',
        ),
      );
      continue;
    }
    // PVH's segments need no descriptors.
    if (isPvh || gdtr === null) continue;
    const at = Number(gdtr.base + (selector & 0xfff8n));
    const problem =
      Number(selector | 7n) > gdtr.limit
        ? `the GDT ends before it (limit ${hex(gdtr.limit)})`
        : memory.contains(at, 8)
          ? descriptorProblem(memory.read64(at), name === 'cs', entry === 'long64')
          : `the GDT is not in RAM (${hex(gdtr.base)})`;
    if (problem !== null && !found.some(({ start }) => start === at)) {
      found.push({
        text: `${name.toUpperCase()} is ${hex(selector)}, and ${problem}`,
        advice: name === 'cs' ? 'CS is flat, execute/read' : 'DS, ES and SS are flat, read/write',
        ...{ start: at, end: at + 8 },
      });
    }
  }
  return found;
}

/** What is wrong with a descriptor of a flat segment; null for nothing. */
function descriptorProblem(descriptor: bigint, isCode: boolean, isLong: boolean): string | null {
  const rights = (descriptor >> RIGHTS_SHIFT) & RIGHTS_MASK;
  const shown = `its descriptor ${hex(descriptor)}`;
  if (rights !== (isCode ? RIGHTS_CODE : RIGHTS_DATA)) {
    const isOther = ((rights & RIGHTS_EXECUTABLE) !== 0n) !== isCode;
    const why = isOther
      ? ` is ${isCode ? 'data' : 'code'}`
      : ` is not present, or not ${isCode ? 'readable' : 'writable'}`;
    return `${shown}${why}`;
  }
  const base = ((descriptor >> 16n) & 0xff_ffffn) | ((descriptor >> 32n) & 0xff00_0000n);
  if (isCode && isLong)
    return (descriptor & DESCRIPTOR_LONG) !== 0n ? null : `${shown} is not of 64-bit code`;
  if (isLong) return null;
  if (base !== 0n) return `${shown} begins at ${hex(base)} and not at 0`;
  const limit = (descriptor & 0xffffn) | ((descriptor >> 32n) & 0xf_0000n);
  const isPages = ((descriptor >> 55n) & 1n) !== 0n;
  if (limit !== 0xf_ffffn || !isPages) return `${shown} does not reach over 4 GiB`;
  return (descriptor & DESCRIPTOR_32) !== 0n ? null : `${shown} is of 16 bits`;
}

function judgeRealSegments(seen: HandoverView): readonly Finding[] {
  const { registers } = seen;
  const { cs, rip } = registers;
  if (cs === undefined || rip === undefined) return [];
  const found: Finding[] = [];
  if ((rip & 0xffffn) !== 0n) {
    found.push(seen.cpu(`IP is ${hex(rip & 0xffffn)}`, 'setup is entered at its segment + 0x20, offset 0'));
  }
  const segment = (BigInt(seen.start) - BigInt(SETUP_TO_ENTRY)) >> 4n;
  for (const name of ['ds', 'es', 'ss'] as const) {
    const value = registers[name];
    if (value === undefined || value === segment) continue;
    found.push(
      seen.cpu(
        `${name.toUpperCase()} is ${hex(value)}, and setup's segment is ${hex(segment)}`,
        'DS, ES and SS are the segment of setup',
      ),
    );
  }
  return found;
}

function judgePageTables(seen: HandoverView): readonly Finding[] {
  const { registers, memory, image } = seen;
  const { cr0, cr3, cr4, efer } = registers;
  if (cr0 === undefined || cr3 === undefined || cr4 === undefined || efer === undefined) return [];
  const state = { cr0, cr3, cr4, efer };
  if (pagingMode(state) === 'off') return [];
  const ranges: [string, number, number][] = [];
  const { code, commandLine, bootParams } = seen;
  if (code !== null) {
    const area = runArea({ ...headerRules(image), loadAddress: code });
    ranges.push(['the kernel as loaded', code, code + image.protectedModeCode.length]);
    if (area !== null) ranges.push(['what the kernel runs in (init_size)', area.start, area.end]);
  }
  if (bootParams !== null) ranges.push(['boot_params', bootParams, bootParams + BOOT_PARAMS_SIZE]);
  if (commandLine !== null) {
    ranges.push(['the command line', commandLine.address, commandLine.address + commandLine.text.length + 1]);
  }
  return ranges
    .filter(([, start, end]) => !isIdentityMapped(memory, state, BigInt(start), BigInt(end)))
    .map(([what, start, end]) => ({
      text: `the page tables at ${hex(cr3)} do not map ${what}, ${hex(start)}..${hex(end)}, to itself`,
      advice:
        'kernel with init_size, boot_params and command line are mapped to themselves at the 64-bit entry',
      ...{ start, end },
    }));
}

function judgeStartInfo(seen: HandoverView): readonly Finding[] {
  const address = Number(seen.registers.rbx ?? 0n);
  const { memory } = seen;
  const about = (text: string, advice: string): Finding => ({
    ...{ text, advice, start: address, end: address + HVM_START_INFO_SIZE },
  });
  const info = readHvmStartInfo(memory, address);
  if (info === null) {
    const found = memory.contains(address, 4) ? hex(memory.read32(address)) : 'no RAM';
    return [
      about(
        `EBX is ${hex(address)}, where ${found} stands and not hvm_start_info's magic ${hex(HVM_START_MAGIC)}`,
        'EBX is the physical address of hvm_start_info',
      ),
    ];
  }
  const found: Finding[] = [];
  if (info.memoryMap.length === 0) {
    found.push(
      about('hvm_start_info has no memory map', 'version 1 has one: memmap_paddr and memmap_entries'),
    );
  }
  const pointer = memory.viewUpTo(info.rsdp, RSDP_CHECKED);
  // Zeroes stand where a state does not tell of memory, too.
  if (info.rsdp !== 0 && !isRsdp(pointer) && (pointer.length === 0 || pointer.some((byte) => byte !== 0))) {
    found.push(
      about(
        `rsdp_paddr is ${hex(info.rsdp)}, where no ACPI root pointer stands`,
        'rsdp_paddr is the address of the root pointer ("RSD PTR "), or 0: the kernel looks for it itself',
      ),
    );
  }
  return found;
}

/** All rules, in the order in which a state is judged. */
export const HANDOVER_RULES: readonly HandoverRule[] = [
  {
    code: 'handover-code',
    entries: BOOT_PROTOCOL,
    about: 'fields',
    text: () => null,
    judge: judgeCode,
  },
  {
    code: 'handover-boot-params',
    entries: FLAT,
    about: 'fields',
    text: () => 'boot_params: zeroes but for what the loader fills in, so that the sentinel at 0x1ef is 0',
    judge: judgeBootParams,
  },
  {
    code: 'handover-header',
    entries: BOOT_PROTOCOL,
    about: 'fields',
    text: (image, entry) => {
      if (!hasHeader(image)) return null;
      return entry === 'real16'
        ? "the setup header: as in the file, but for the loader's own fields"
        : `the setup header: copied from 0x1f1 to ${hex(image.header.end)} of the file, but for the loader's own fields`;
    },
    judge: judgeHeader,
  },
  {
    code: 'handover-loader-type',
    entries: BOOT_PROTOCOL,
    about: 'fields',
    text: () => "type_of_loader: the loader's number, 0xff without one, never 0",
    judge: judgeLoaderType,
  },
  {
    code: 'handover-load-flags',
    entries: BOOT_PROTOCOL,
    about: 'fields',
    text: ({ header, kind }, entry) => {
      if (!header.has('loadflags')) return null;
      const flags = kind === 'bzImage' ? ['LOADED_HIGH'] : [];
      if (entry === 'real16' && header.protocol >= 0x0201) flags.push('CAN_USE_HEAP');
      return flags.length === 0 ? null : `loadflags: with ${flags.join(' and ')}`;
    },
    judge: judgeLoadFlags,
  },
  {
    code: 'handover-heap-end',
    entries: ['real16'],
    about: 'fields',
    text: ({ header }) =>
      header.protocol >= 0x0201
        ? "heap_end_ptr: the end of setup's heap and stack in its segment, less 0x200; below 0x10000 and 0xa0000"
        : null,
    judge: judgeHeapEnd,
  },
  {
    code: 'handover-command-line',
    entries: [...BOOT_PROTOCOL, 'pvh'],
    about: 'fields',
    text: (image, entry) =>
      `${entry === 'pvh' ? 'cmdline_paddr' : 'cmd_line_ptr'}: 0, or where at most ${maxCommandLineLength(image)} characters and a NUL lie`,
    judge: judgeCommandLine,
  },
  {
    code: 'handover-initrd',
    entries: BOOT_PROTOCOL,
    about: 'fields',
    text: () => 'ramdisk_image and ramdisk_size: both, or neither',
    judge: judgeInitrd,
  },
  {
    code: 'handover-memory-map',
    entries: ['prot32', 'long64', 'pvh'],
    about: 'fields',
    text: (_image, entry) =>
      entry === 'pvh'
        ? 'memmap_paddr: the memory map, without entries that contradict each other'
        : `e820_table: 1 to ${E820_TABLE_ENTRIES} entries, address and size, without any that contradict each other`,
    judge: judgeMemoryMap,
  },
  {
    code: 'handover-start-info',
    entries: ['pvh'],
    about: 'cpu',
    text: () => 'EBX = hvm_start_info',
    judge: judgeStartInfo,
  },
  {
    code: 'handover-registers',
    entries: ['real16', 'prot32', 'long64', 'pvh'],
    about: 'cpu',
    text: (_image, entry) => {
      if (entry === 'real16') return 'real mode, interrupts off; A20 may be off; SP = end of the heap';
      if (entry === 'long64') return '64-bit mode, interrupts off, RSI = boot_params';
      return `32-bit protected mode, paging off, interrupts off${entry === 'pvh' ? ', CR4 = 0' : ', ESI = boot_params'}`;
    },
    judge: judgeMode,
  },
  {
    code: 'handover-registers',
    entries: ['prot32'],
    about: 'cpu',
    text: () => 'EBP = EDI = EBX = 0',
    judge: judgeGeneral,
  },
  {
    code: 'handover-segments',
    entries: ['prot32', 'long64', 'pvh'],
    about: 'cpu',
    text: (_image, entry) =>
      entry === 'pvh'
        ? 'CS read/execute, DS, ES and SS read/write, flat; TR a 32-bit TSS'
        : 'CS = 0x10 read/execute, DS, ES and SS = 0x18 read/write, flat, by a GDT in RAM',
    judge: judgeSegments,
  },
  {
    code: 'handover-segments',
    entries: ['real16'],
    about: 'cpu',
    text: () => 'CS = segment of setup + 0x20, IP = 0; DS, ES and SS = segment of setup',
    judge: judgeRealSegments,
  },
  {
    code: 'handover-page-tables',
    entries: ['long64'],
    about: 'cpu',
    text: () =>
      'page tables that map the kernel with init_size, boot_params and the command line to themselves',
    judge: judgePageTables,
  },
];
