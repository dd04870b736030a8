// What a caller decides about a boot; everything else follows from the image.

import type { Cpu, EngineName } from '../cpu/cpu.ts';
import type { KaslrOption } from '../decompressor/kaslr-entropy.ts';
import type { DiskImage } from '../image/disk-image.ts';
import type { Esp } from '../image/esp.ts';
import type { LoaderState } from '../image/loader-state.ts';
import { readPartitionTable } from '../image/partition-table.ts';
import { type BootDevice, DEFAULT_BOOT_ORDER } from '../machine/drives.ts';
import type { Key } from '../machine/keys.ts';
import type { MachineModel } from '../machine/memory-map.ts';
import type { EfiFault } from '../machine/uefi/faults.ts';
import type { OptionalProtocol } from '../machine/uefi/optional-protocols.ts';
import type { E820Entry } from '../protocol/e820.ts';
import type { EfiMemoryDescriptor } from '../protocol/efi-memory-map.ts';
import type { EfiVariable } from '../protocol/efi-variables.ts';
import type { DecompressMode, EntryPoint } from '../trace/boot-trace.ts';

export const HANDOVER_ROOMS = ['init-size', 'file'] as const;
export type HandoverRoom = (typeof HANDOVER_ROOMS)[number];

/** How an image is booted; each field that is left out has its value of {@link DEFAULT_BOOT_OPTIONS}. */
export interface BootOptions {
  /** Which Unicorn, or what opens one. */
  readonly engine: 'auto' | EngineName | (() => Promise<Cpu>);
  /** Which of QEMU's machines RAM and its map follow. */
  readonly machine: MachineModel;
  /** Guest RAM in bytes. */
  readonly memory: number;
  /** Name of a CPUID profile. */
  readonly cpu: string;
  /** Null: what such an image is usually entered by. */
  readonly entry: EntryPoint | null;
  readonly decompress: DecompressMode;
  readonly cmdline: string;
  readonly kaslr: KaslrOption;
  readonly initrd: { readonly path: string; readonly bytes: Uint8Array } | null;
  /** The disk in drive A; for the boot-sector entry the image itself, when null. */
  readonly floppy: Uint8Array | null;
  /** Hard disks from drive 80h on, which are read as they are asked for. */
  readonly disks: readonly DiskImage[];
  /** In the CD drive. */
  readonly cdrom: DiskImage | null;
  /** The disk that UEFI firmware boots from. */
  readonly esp: Esp | null;
  /** What the flash of UEFI firmware holds, beside what the firmware itself sets. */
  readonly efiVariables: readonly EfiVariable[];
  /** Pressed one after the other as the guest asks for keys. */
  readonly keys: readonly Key[];
  /** Where the BIOS looks for something to boot, in this order. */
  readonly bootOrder: readonly BootDevice[];
  /** Where prot32 and long64 put the protected-mode code; null: where the boot protocol puts it. */
  readonly loadAddress: number | null;
  /** Another loader's choices; null: Bootscope's own. */
  readonly initrdAddress: number | null;
  readonly cmdlineAddress: number | null;
  readonly bootParamsAddress: number | null;
  /** What firmware says of memory; null: what the machine's has. */
  readonly memoryMap: readonly E820Entry[] | null;
  /** The same for firmware that is EFI; null: what that makes of `memory`. */
  readonly efiMemoryMap: readonly EfiMemoryDescriptor[] | null;
  /** What the firmware has, where it is EFI, beside what all have. */
  readonly efiProtocols: readonly OptionalProtocol[];
  /** What another loader has left: it is entered as it is, and nothing is loaded. */
  readonly state: LoaderState | null;
  /** The firmware, where it is EFI, lets nothing run in memory that nobody has said to be code. */
  readonly efiNx: boolean;
  /** How much memory the boot loader of the handover protocol gives the kernel: all that it needs, or what its file has. */
  readonly handoverRoom: HandoverRoom;
  /** EFI services that fail though nothing is wrong. */
  readonly efiFaults: readonly EfiFault[];
  /** SHA-256 of the image and of each segment at the jump. */
  readonly hash: boolean;
  /** Record events (BIOS calls, mode switches, copies, ports). */
  readonly events: boolean;
  /** Walk the page tables at each phase. */
  readonly pageTables: boolean;
  /**
   * What the host does quicker in the guest's place, with the same result: large `rep movs` and `rep stos`, loops that fill memory,
   * and marking as data what no code runs in while the guest decompresses. `instructions`: only single ones, so that whoever looks at
   * each instruction sees the same.
   */
  readonly shortcuts: boolean | 'instructions';
  /**
   * Bytes that snapshots of a guest that decompresses by itself may take, from which going back is quick; 0: it is run again from
   * the entry.
   */
  readonly snapshotMemory: number;
  /** Instructions after which a boot that got nowhere is ended, where they are counted; null: as many as it takes. */
  readonly maxInstructions: number | null;
  /** Seconds of host time after which a boot that got nowhere is ended; null: as long as its kind may need. */
  readonly timeoutSeconds: number | null;
  /** Ends every run of the boot. */
  readonly signal?: AbortSignal;
}

/** 512 MiB, the entry that fits the image, hooked decompression, nothing on the command line. */
export const DEFAULT_BOOT_OPTIONS: BootOptions = {
  engine: 'auto',
  machine: 'pc',
  memory: 512 * 1024 * 1024,
  cpu: 'qemu64',
  entry: null,
  decompress: 'hooked',
  cmdline: '',
  kaslr: { kind: 'off' },
  initrd: null,
  floppy: null,
  disks: [],
  cdrom: null,
  esp: null,
  efiVariables: [],
  keys: [],
  bootOrder: DEFAULT_BOOT_ORDER,
  loadAddress: null,
  initrdAddress: null,
  cmdlineAddress: null,
  bootParamsAddress: null,
  memoryMap: null,
  efiProtocols: [],
  efiNx: false,
  handoverRoom: 'init-size',
  state: null,
  efiFaults: [],
  efiMemoryMap: null,
  hash: true,
  events: true,
  pageTables: true,
  shortcuts: true,
  snapshotMemory: 0,
  maxInstructions: null,
  timeoutSeconds: null,
};

/** What is wrong with the disks' partition tables: a sentence each. */
export function diskProblems({ disks, esp }: BootOptions): readonly string[] {
  return [...disks.flatMap((disk) => readPartitionTable(disk).problems), ...(esp?.problems ?? [])];
}

/** @param texts - as `parseEfiFault` takes them. What knows the services' names is the firmware, loaded where it is needed. */
export async function readEfiFaults(texts: readonly string[]): Promise<BootOptions['efiFaults']> {
  const { parseEfiFault } = await import('../machine/uefi/faults.ts');
  return texts.map(parseEfiFault);
}
