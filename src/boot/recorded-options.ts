// The options of a boot as a reference records them, and back: a check makes the same boot.

import { type KaslrOption, parseKaslrOption } from '../decompressor/kaslr-entropy.ts';
import { hex } from '../hex.ts';
import { hexDigits, resolveBeside } from '../host/host.ts';
import { openDisk } from '../image/disk-file.ts';
import { type EfiVariableJson, variablesOfJson, variablesToJson } from '../image/efi-variable-file.ts';
import { openEsp } from '../image/esp.ts';
import { readImageFile } from '../image/image-file.ts';
import { keysText, parseKeys } from '../machine/keys.ts';
import { parseEfiMemoryMap } from '../protocol/efi-memory-map.ts';
import { efiStatusName } from '../protocol/efi-tables.ts';
import { readMemoryMap } from '../protocol/memory-map-text.ts';
import type { EntryPoint } from '../trace/boot-trace.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS, readEfiFaults } from './options.ts';

/** How the recorded boot was made, so that a check makes the same. Files are named relative to the reference. */
export interface RecordedOptions {
  /** Missing in older references: `pc`. */
  readonly machine?: BootOptions['machine'];
  readonly memory: number;
  readonly cpu: string;
  readonly entry: EntryPoint;
  readonly decompress: BootOptions['decompress'];
  readonly cmdline: string;
  /** As `parseKaslrOption` takes it. */
  readonly kaslr: string;
  readonly initrd: string | null;
  /** The disk in drive A, where it is not the image; missing in older references. */
  readonly floppy?: string | null;
  /** Lines of a memory map as text; missing in older references, or named `e820` there. */
  readonly memoryMap?: readonly string[] | null;
  readonly e820?: readonly string[] | null;
  /** Lines of a map of EFI; with all that follows up to `loadAddress` missing in older references. */
  readonly efiMemoryMap?: readonly string[] | null;
  /** The machine booted from its drives: there is no image. */
  readonly withoutImage?: boolean;
  readonly disks?: readonly string[];
  readonly cdrom?: string | null;
  readonly esp?: string | null;
  readonly bootOrder?: BootOptions['bootOrder'];
  /** As `parseKeys` takes them. */
  readonly keys?: string;
  readonly efiVariables?: readonly EfiVariableJson[];
  readonly efiProtocols?: BootOptions['efiProtocols'];
  readonly efiNx?: boolean;
  readonly handoverRoom?: BootOptions['handoverRoom'];
  /** As `parseEfiFault` takes them. */
  readonly efiFaults?: readonly string[];
  readonly loadAddress: number | null;
  readonly initrdAddress: number | null;
  readonly cmdlineAddress: number | null;
  readonly bootParamsAddress: number | null;
}

/**
 * @param entry - what the image was entered by
 * @param floppy - path of the disk in drive A
 * @param withoutImage - the machine booted from its drives
 */
export function recordedOptions(
  options: BootOptions,
  entry: EntryPoint,
  floppy: string | null,
  withoutImage = false,
): RecordedOptions {
  const { machine, memory, cpu, decompress, cmdline } = options;
  const { loadAddress, initrdAddress, cmdlineAddress, bootParamsAddress } = options;
  return {
    machine,
    memory,
    cpu,
    entry,
    decompress,
    cmdline,
    kaslr: kaslrText(options.kaslr),
    initrd: options.initrd?.path ?? null,
    floppy,
    memoryMap:
      options.memoryMap?.map(({ address, size, type }) => `${hex(address)} ${hex(address + size)} ${type}`) ??
      null,
    efiMemoryMap:
      options.efiMemoryMap?.map(
        ({ start, end, type, attributes }) => `${hex(start)} ${hex(end)} ${type} ${hex(attributes)}`,
      ) ?? null,
    withoutImage,
    disks: options.disks.map(({ path }) => path),
    cdrom: options.cdrom?.path ?? null,
    esp: options.esp?.path ?? null,
    bootOrder: options.bootOrder,
    keys: keysText(options.keys),
    efiVariables: variablesToJson(options.efiVariables),
    efiProtocols: options.efiProtocols,
    efiNx: options.efiNx,
    handoverRoom: options.handoverRoom,
    efiFaults: options.efiFaults.map(
      ({ service, call, status }) => `${service}${call === null ? '' : `:${call}`}=${efiStatusName(status)}`,
    ),
    loadAddress,
    initrdAddress,
    cmdlineAddress,
    bootParamsAddress,
  };
}

function kaslrText(kaslr: KaslrOption): string {
  switch (kaslr.kind) {
    case 'off':
      return 'off';
    case 'seed':
      return `seed:${kaslr.seed}`;
    case 'entropy':
      return `entropy:${[...kaslr.rdtsc, ...(kaslr.rng !== undefined ? [`rng:${hexDigits(kaslr.rng)}`] : [])].join(',')}`;
    case 'forced': {
      const parts = [];
      if (kaslr.physical !== null) parts.push(`phys:${hex(kaslr.physical)}`);
      if (kaslr.virtual !== null) parts.push(`virt:${hex(kaslr.virtual)}`);
      return parts.join(',');
    }
  }
}

/** The options a reference was made with; one from elsewhere names RAM, entry and command line in `machine`. */
export async function optionsOf(
  path: string,
  reference: { readonly options?: unknown; readonly machine?: unknown },
): Promise<BootOptions> {
  const recorded = reference.options as RecordedOptions | undefined;
  if (recorded === undefined) {
    const machine = (reference.machine ?? {}) as Partial<Record<'ram' | 'entry' | 'cmdline', never>>;
    return {
      ...DEFAULT_BOOT_OPTIONS,
      memory: machine.ram ?? DEFAULT_BOOT_OPTIONS.memory,
      entry: machine.entry ?? DEFAULT_BOOT_OPTIONS.entry,
      cmdline: machine.cmdline ?? DEFAULT_BOOT_OPTIONS.cmdline,
    };
  }
  const { initrd, floppy, memoryMap, e820, efiMemoryMap, kaslr, withoutImage: _, ...others } = recorded;
  const { disks = [], cdrom, esp, keys = '', efiVariables = [], efiFaults = [], ...plain } = others;
  const map = memoryMap ?? e820 ?? null;
  const beside = (file: string): string => resolveBeside(path, file);
  const initrdPath = initrd === null ? null : beside(initrd);
  return {
    ...DEFAULT_BOOT_OPTIONS,
    ...plain,
    kaslr: parseKaslrOption(kaslr),
    initrd:
      initrdPath === null
        ? null
        : { path: initrdPath, bytes: await readImageFile(initrdPath, { what: 'initrd' }) },
    floppy: floppy == null ? null : await readImageFile(beside(floppy), { what: 'floppy disk' }),
    disks: disks.map((each) => openDisk(beside(each))),
    cdrom: cdrom == null ? null : openDisk(beside(cdrom)),
    esp: esp == null ? null : openEsp(beside(esp)),
    keys: parseKeys(keys),
    efiVariables: variablesOfJson(path, efiVariables),
    efiFaults: efiFaults.length === 0 ? [] : await readEfiFaults(efiFaults),
    memoryMap: map === null ? null : readMemoryMap(path, new TextEncoder().encode(map.join('\n'))).entries,
    efiMemoryMap: efiMemoryMap == null ? null : parseEfiMemoryMap(efiMemoryMap.join('\n')),
  };
}
