// What one boot leaves behind: the data every report is made from, and the JSON that users see.

import type { CodecName } from '../codecs/codec.ts';
import type { EngineName, RegisterName } from '../cpu/cpu.ts';
import type { PageTableWalk } from '../x86/page-tables.ts';

/** The phases of a boot in their order; a boot has those that occur in it. */
export const PHASE_NAMES = [
  'boot-sector',
  'stage1.5',
  'stage2',
  'multiboot_entry',
  'efi_program',
  'efi_handover_entry',
  'efi_pe_entry',
  'decompress_kernel',
  'setup',
  'startup_32',
  'startup_64',
  'relocated',
  'extract_kernel',
  'decompressed',
  'parse_elf',
  'handle_relocations',
  'exit_boot_services',
  'kernel',
] as const;
/** The phases of a boot, each a point that its code comes to; which of them occur is up to the entry. */
export type PhaseName = (typeof PHASE_NAMES)[number];

export type CpuMode = 'real16' | 'prot16' | 'prot32' | 'compat32' | 'long64';
/** How the image was entered: BIOS boot sector, or the boot protocol's 16-, 32- or 64-bit entry. */
export type EntryPoint = 'real16' | 'prot32' | 'long64' | 'boot-sector' | 'efi' | 'efi-handover' | 'pvh';
export type DecompressMode = 'hooked' | 'emulated';

/** Registers of a snapshot: all of `RegisterName`, as values. */
export type RegisterSnapshot = Readonly<Record<RegisterName, bigint>>;

/** What a region is to the boot, whatever it is called. */
export const REGION_ROLES = [
  ...(['ivt', 'bda', 'ebda', 'video', 'rom', 'e820', 'firmware'] as const),
  ...([
    'boot-sector',
    'loader-program',
    'setup',
    'setup-header',
    'setup-code',
    'setup-bss',
    'setup-heap',
    'setup-stack',
  ] as const),
  ...(['command-line', 'initrd', 'boot-params', 'setup-data'] as const),
  ...(['zo', 'stub', 'payload', 'zo-bss', 'boot-heap', 'boot-stack', 'boot-page-tables'] as const),
  ...([
    'run-area',
    'in-place-gap',
    'decompressed',
    'relocations',
    'kernel-segment',
    'kernel-section',
  ] as const),
  ...(['efi-image', 'efi-allocation'] as const),
  ...(['gdt', 'idt', 'page-tables', 'stack'] as const),
  /** In traces from before roles. */
  'unknown',
] as const;
export type RegionRole = (typeof REGION_ROLES)[number];
/** Who put something into memory; `cpu`: registers name it. */
export type Placer = 'firmware' | 'loader' | 'setup' | 'stub' | 'extract_kernel' | 'cpu';
/** One of the places where the compressed kernel lies in the course of a boot. */
export type ZoInstance = 'loaded' | 'moved' | 'copy';

/** A named range of physical memory, [start, end). */
export interface MemoryRegion {
  /** For people; unique in a phase. */
  readonly name: string;
  readonly start: bigint;
  readonly end: bigint;
  readonly kind: RegionKind;
  readonly role: RegionRole;
  readonly by?: Placer;
  /** Of ZO and its parts: which one. */
  readonly zo?: ZoInstance;
  /** Of a segment of the kernel and its sections: its number among the PT_LOAD program headers. */
  readonly segment?: number;
  /** Instructions executed when it was put there; null where they were not counted, absent where registers name it. */
  readonly since?: number | null;
  /** Where the knowledge comes from, in one clause: `boot.rst "cmd_line_ptr"`, `program header 2`. */
  readonly source: string;
  /** True when the region is deduced and not read from a header, a register or an observed write. */
  readonly inferred?: boolean;
  /** Name of the region of the same phase that this one is a part of: `.text` of a segment, the payload of ZO. */
  readonly parent?: string;
}

/** What bytes were written as. */
export type WriteRole =
  | 'zo-copy'
  | 'stub-zeroes'
  | 'decompressed'
  | 'stray-variable'
  | 'segment'
  | 'moved-kernel'
  | 'page-tables'
  | 'unknown';

/** Bytes that were written while a phase ran, [start, end), physical. */
export interface MemoryWrite {
  readonly start: number;
  readonly end: number;
  readonly role: WriteRole;
  /** Number of the kernel's segment. */
  readonly segment?: number;
  /** For people. */
  readonly what: string;
  /** Place of the phase among those of the boot; -1 before the first. */
  readonly during: number;
}

/** Bytes of a region that something else wrote over, [start, end). */
export interface Overwrite {
  /** Name of the region that lost them, as it was called when they were overwritten. */
  readonly region: string;
  readonly role: RegionRole;
  /** What was written there, in a few words: `decompressed kernel`. */
  readonly by: string;
  readonly writer: WriteRole;
  readonly start: bigint;
  readonly end: bigint;
}

export const HAZARD_CODES = [
  'run-area-overlap',
  'run-area-reserved',
  'run-area-beyond-ram',
  'stub-copy-overlap',
  'placement-overlap',
  'not-usable-ram',
  'beyond-ram',
  'initrd-above-max',
  'setup-heap-over-setup',
  'setup-heap-over-ebda',
  'load-address',
  'efi-no-slot',
  'efi-exit-refused',
  'efi-not-executable',
  'efi-writable-code',
  'efi-handover-room',
  'efi-no-entropy',
  'init-size-too-small',
  'stray-variables',
  'memory-taken-away',
  'memmap-not-avoided',
  'kaslr-no-slot',
  'initrd-content',
  'handover-code',
  'handover-boot-params',
  'handover-header',
  'handover-loader-type',
  'handover-load-flags',
  'handover-heap-end',
  'handover-command-line',
  'handover-initrd',
  'handover-memory-map',
  'handover-start-info',
  'handover-registers',
  'handover-segments',
  'handover-page-tables',
  'uki-section-in-run-area',
] as const;

/** Something that goes wrong, or would, by where things were placed. */
export interface Hazard {
  /** Stable, kebab-case. */
  readonly code: (typeof HAZARD_CODES)[number];
  /** One sentence with the addresses. */
  readonly text: string;
  /** One sentence that says what would be safe. */
  readonly advice: string;
  /** The bytes in question, [start, end). */
  readonly start: bigint;
  readonly end: bigint;
}

export type RegionKind =
  | 'firmware'
  | 'boot-sector'
  | 'loader'
  | 'setup'
  | 'bss'
  | 'heap'
  | 'stack'
  | 'boot-params'
  | 'command-line'
  | 'descriptor-table'
  | 'page-table'
  | 'compressed-kernel'
  | 'payload'
  | 'stub'
  | 'buffer'
  | 'kernel'
  | 'relocations'
  | 'initrd'
  | 'setup-data'
  | 'reserved'
  | 'video';

/** One phase: where the CPU was when it began, and what lay in memory. */
export interface Phase {
  readonly name: PhaseName;
  /** Linear address of the first instruction (or of the trapped function) of the phase. */
  readonly address: bigint;
  /** Name of `address`, `startup_64` or `startup_64+0x10`; absent where no symbols that were read name it. */
  readonly symbol?: string;
  /** What a boot loader's program is that begins here: `partition 1: /ldlinux.sys`; absent where it is none. */
  readonly program?: string;
  readonly mode: CpuMode;
  readonly registers: RegisterSnapshot;
  readonly gdtr: { readonly base: bigint; readonly limit: number };
  readonly idtr: { readonly base: bigint; readonly limit: number };
  /**
   * Instructions that the CPU executed from its entry to here; null where nobody asked for them, or where the host can not
   * count them cheaply. A repeated string instruction is one, however often it iterates and whether the CPU or the host does
   * it; one that raises an exception counts each time it is tried. What TypeScript does in place of guest code, BIOS services
   * and the trapped extract_kernel, counts for nothing, nor does the way to the entry.
   */
  readonly instructions: number | null;
  /** By start address, larger ones first; names are unique in a phase. */
  readonly regions: readonly MemoryRegion[];
  /** What was overwritten since the phase before began. */
  readonly overwritten: readonly Overwrite[];
  /** What CR3 points to, walked as the phase begins; null where it was not looked at. */
  readonly pageTables: PageTableWalk | null;
  /** What happened in the phase, in a few words for the table. */
  readonly summary: string;
  /** Wall-clock milliseconds from the start of the boot; not part of the comparable trace. */
  readonly milliseconds: number;
}

/** A PT_LOAD segment of the kernel in guest memory at the jump. */
export interface KernelSegment {
  readonly paddr: bigint;
  readonly vaddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  /** `rwx` as in the program header. */
  readonly flags: string;
  /** SHA-256 over the `filesz` bytes in guest memory at the jump; null when hashing was off. */
  readonly sha256: string | null;
  /** The symbol that stands at `paddr`; absent where none of those that were read does. */
  readonly symbol?: string;
}

/** The kernel proper at the moment of the jump into it. */
export interface KernelAtJump {
  /** Physical address of the first instruction. */
  readonly entry: bigint;
  /** Name of `entry`; absent where no symbols that were read name it. */
  readonly entrySymbol?: string;
  readonly physicalBase: bigint;
  readonly virtualBase: bigint;
  /** Physical address of boot_params, as the kernel gets it in RSI/ESI. */
  readonly bootParams: bigint;
  readonly entryMode: 'long64' | 'prot32';
  readonly segments: readonly KernelSegment[];
}

export const EVENT_KINDS = [
  'mode',
  'control-register',
  'msr',
  'cpuid',
  'descriptor-table',
  'segment',
  'bios',
  'efi',
  'port',
  'copy',
  'fill',
  'console',
  'exception',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** What boot_params says when the kernel gets it. */
export interface BootParamsAtJump {
  readonly address: bigint;
  /** Each number in it that is not 0 by its name, those of the setup header as `hdr.NAME`; hex texts are addresses and bits. */
  readonly fields: Readonly<Record<string, number | string>>;
  /** Its E820 map; physical [start, end), the type as the kernel names it. */
  readonly memoryMap: readonly { readonly start: bigint; readonly end: bigint; readonly type: string }[];
}

/** A descriptor of UEFI firmware's memory map; physical [start, end), the type as the specification names it. */
export interface EfiMapEntry {
  readonly start: bigint;
  readonly end: bigint;
  readonly type: string;
  /** EFI_MEMORY_UC and so on, as bits. */
  readonly attributes: bigint;
}

/** What UEFI firmware says of memory. */
export interface EfiMemoryMaps {
  /** When the first image was entered. */
  readonly atEntry: readonly EfiMapEntry[];
  /** When boot services ended, which is what the kernel is given; null before. */
  readonly atExit: readonly EfiMapEntry[] | null;
}

/** One thing the guest did that is worth telling; `details` holds what its kind has. */
export interface BootEvent {
  readonly kind: EventKind;
  readonly phase: PhaseName;
  /**
   * Linear address of the instruction: of several accesses to a device the first, of a console line the one that ended it.
   * For port I/O and the serial console near it where instructions are not counted.
   */
  readonly address: bigint;
  /** Name of `address`; absent where no symbols that were read name it. */
  readonly symbol?: string;
  /** As a phase's: instructions executed before that one. */
  readonly instructions: number | null;
  /** One line for people. */
  readonly text: string;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
}

/** What was observed of a boot, from the entry to where it stands. Addresses are `bigint` and physical unless they say otherwise. */
export interface BootTrace {
  readonly image: {
    readonly path: string;
    readonly sha256: string | null;
    readonly kind: string;
    /** `2.15`; null where the image has no setup header. */
    readonly bootProtocol: string | null;
    readonly kernelVersion: string | null;
    readonly codec: CodecName | null;
    /** Offset in the protected-mode code, as payload_offset, and length; bytes. */
    readonly payload: { readonly offset: number; readonly length: number } | null;
  };
  readonly machine: {
    readonly engine: EngineName;
    readonly engineVersion: string;
    readonly ram: number;
    readonly cpu: string;
    readonly entry: EntryPoint;
    /** `none` for a kernel that is loaded as it is. */
    readonly decompress: DecompressMode | 'none';
    readonly cmdline: string;
  };
  readonly phases: readonly Phase[];
  /** Null when the jump into the kernel was not reached. */
  readonly kernel: KernelAtJump | null;
  /** Null where the jump was not reached, and where the kernel gets none in RAM. */
  readonly bootParams: BootParamsAtJump | null;
  /** Null where no UEFI firmware started the image. */
  readonly efiMemoryMap: EfiMemoryMaps | null;
  /** Why the boot ended before the jump, in one sentence; null when the jump was reached. */
  readonly stopped: string | null;
  /** What goes wrong by where things were placed, the worst first; there also when the boot went on. */
  readonly hazards: readonly Hazard[];
  readonly events: readonly BootEvent[];
  readonly console: string;
  readonly notices: readonly string[];
}
