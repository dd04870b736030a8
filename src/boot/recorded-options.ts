// The options of a boot as a reference records them, and back: a check makes the same boot.

import { type KaslrOption, parseKaslrOption } from '../decompressor/kaslr-entropy.ts';
import { hex } from '../hex.ts';
import { resolveBeside } from '../host/host.ts';
import { readImageFile } from '../image/image-file.ts';
import { readMemoryMap } from '../protocol/memory-map-text.ts';
import type { EntryPoint } from '../trace/boot-trace.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';

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
  readonly loadAddress: number | null;
  readonly initrdAddress: number | null;
  readonly cmdlineAddress: number | null;
  readonly bootParamsAddress: number | null;
}

/**
 * @param entry - what the image was entered by
 * @param floppy - path of the disk in drive A
 */
export function recordedOptions(
  options: BootOptions,
  entry: EntryPoint,
  floppy: string | null,
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
    loadAddress,
    initrdAddress,
    cmdlineAddress,
    bootParamsAddress,
  };
}

function bytesText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function kaslrText(kaslr: KaslrOption): string {
  switch (kaslr.kind) {
    case 'off':
      return 'off';
    case 'seed':
      return `seed:${kaslr.seed}`;
    case 'entropy':
      return `entropy:${[...kaslr.rdtsc, ...(kaslr.rng !== undefined ? [`rng:${bytesText(kaslr.rng)}`] : [])].join(',')}`;
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
  const { initrd, floppy, memoryMap, e820, kaslr, ...plain } = recorded;
  const map = memoryMap ?? e820 ?? null;
  const initrdPath = initrd === null ? null : resolveBeside(path, initrd);
  return {
    ...DEFAULT_BOOT_OPTIONS,
    ...plain,
    kaslr: parseKaslrOption(kaslr),
    initrd:
      initrdPath === null
        ? null
        : { path: initrdPath, bytes: await readImageFile(initrdPath, { what: 'initrd' }) },
    floppy: floppy == null ? null : await readImageFile(resolveBeside(path, floppy), { what: 'floppy disk' }),
    memoryMap: map === null ? null : readMemoryMap(path, new TextEncoder().encode(map.join('\n'))).entries,
  };
}
