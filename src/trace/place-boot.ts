// What the parties of a Linux boot put into memory, in the order of the boot, as placements.

import { E820_RAM } from '../protocol/e820.ts';
import type { RegionKind, RegionRole, ZoInstance } from './boot-trace.ts';
import type { Extent, Placements } from './placements.ts';

/** Setup's own memory as it runs: physical addresses. */
export interface SetupMemory {
  readonly bss: Extent;
  readonly heap: Extent;
  readonly stack: Extent;
}

/** A part of ZO: offsets in bytes from the start of the protected-mode code. */
export interface ZoPart extends Extent {
  readonly name: string;
  /** False for what is there only once the stub has set it up: bss, heap, stack, page tables. */
  readonly inFile: boolean;
  readonly source: string;
  readonly inferred: boolean;
}

/** A segment of the kernel proper at its place, or a section of one. */
export interface KernelPart extends Extent {
  readonly name: string;
  readonly source: string;
  /** False for .bss and .brk. */
  readonly hasBytes: boolean;
  /** Name of the segment that a section is a part of. */
  readonly parent?: string;
  /** Number of the segment; null for a flat kernel. */
  readonly segment: number | null;
}

const E820_TYPES: Readonly<Record<number, string>> = {
  2: 'reserved',
  3: 'ACPI tables',
  4: 'ACPI NVS',
  5: 'unusable',
  7: 'persistent memory',
};

/** Roles of parts of ZO, by their names; all others are the stub's code and data. */
const ZO_ROLES: Readonly<Record<string, readonly [RegionRole, RegionKind]>> = {
  payload: ['payload', 'payload'],
  bss: ['zo-bss', 'bss'],
  heap: ['boot-heap', 'heap'],
  stack: ['boot-stack', 'stack'],
  'page tables': ['boot-page-tables', 'page-table'],
};

const ZO_NAMES: Readonly<Record<ZoInstance, readonly [name: string, source: string]>> = {
  loaded: ['ZO as loaded', 'where the loader put it'],
  moved: ['ZO moved down', 'setup moves a zImage down'],
  copy: ['ZO copy', 'observed copy of the stub'],
};

/** What a PC with a BIOS has before anything is loaded. */
export function placeFirmware(
  to: Placements,
  ebda: Extent,
  reserved: readonly (Extent & { readonly type: number })[],
): void {
  const put = (extent: Extent, name: string, role: RegionRole, source: string): void =>
    to.add(extent, { name, kind: role === 'video' ? 'video' : 'firmware', role, by: 'firmware', source });
  put({ start: 0, end: 0x400 }, 'IVT', 'ivt', 'the interrupt vectors of real mode');
  put({ start: 0x400, end: 0x500 }, 'BDA', 'bda', 'the BIOS data area of a PC');
  put(ebda, 'EBDA', 'ebda', 'the segment at 0040:000e');
  put({ start: 0xa0000, end: 0xc0000 }, 'VGA memory', 'video', 'the memory map of a PC');
  put({ start: 0xf0000, end: 0x100000 }, 'BIOS ROM', 'rom', 'the memory map of a PC');
  for (const { type, ...extent } of reserved) {
    if (type === E820_RAM) continue;
    to.add(extent, {
      ...{
        name: `E820 ${E820_TYPES[type] ?? `type ${type}`}`,
        kind: 'reserved',
        role: 'e820',
        by: 'firmware',
      },
      source: `E820 entry of type ${type}`,
    });
  }
}

export function placeBootSector(to: Placements, extent: Extent): void {
  to.add(extent, {
    ...{ name: 'boot sector', kind: 'boot-sector', role: 'boot-sector', by: 'firmware' },
    source: 'the BIOS loads the first sector here',
  });
}

/** Code of a boot loader that has come to run. */
export function placeLoaderProgram(to: Placements, extent: Extent, name: string, source: string): void {
  to.add(extent, { name, kind: 'loader', role: 'loader-program', by: 'loader', source });
}

/** A boot loader's code is of no use any more. */
export function endLoaderPrograms(to: Placements): void {
  to.end(({ role }) => role === 'loader-program');
}

/**
 * Boot sector and setup code with the memory that they use.
 * @param memory - null for a setup whose code does not show it
 * @param stackEnd - its initial stack pointer; null where that is not the loader's choice
 */
export function placeSetup(
  to: Placements,
  setup: Extent,
  memory: SetupMemory | null,
  stackEnd: number | null,
): void {
  const by = 'loader';
  const code = setup.start + 0x200;
  const parent = 'setup';
  to.add(setup, { name: 'setup', kind: 'setup', role: 'setup', by, source: 'setup_sects' });
  to.add(
    { start: setup.start, end: code },
    {
      name: 'setup header',
      kind: 'boot-sector',
      role: 'setup-header',
      by,
      source: 'the first sector',
      parent,
    },
  );
  to.add(
    { start: code, end: Math.min(memory?.bss.start ?? setup.end, setup.end) },
    {
      ...{ name: 'setup code and data', kind: 'setup', role: 'setup-code', by, parent },
      source: 'behind the first sector, up to the bss',
    },
  );
  if (memory !== null) {
    to.add(memory.bss, {
      ...{ name: 'setup bss', kind: 'bss', role: 'setup-bss', by: 'setup' },
      source: "__bss_start and _end in setup's first instructions",
    });
    to.add(memory.heap, {
      ...{ name: 'setup heap', kind: 'heap', role: 'setup-heap', by: 'setup', group: 'setup' },
      source: 'from the end of setup to its stack, heap_end_ptr',
    });
    to.add(memory.stack, {
      ...{ name: 'setup stack', kind: 'stack', role: 'setup-stack', by: 'setup', group: 'setup' },
      source: 'STACK_SIZE below the initial stack pointer',
    });
  } else if (stackEnd !== null) {
    to.add(
      { start: setup.end, end: stackEnd },
      {
        ...{ name: 'setup heap and stack', kind: 'heap', role: 'setup-heap', by: 'setup', group: 'setup' },
        source: 'from the end of setup to its initial stack pointer, heap_end_ptr',
        inferred: true,
      },
    );
  }
}

/** Setup has left its heap and stack. */
export function endSetup(to: Placements): void {
  to.end(({ group }) => group === 'setup');
}

export function placeCommandLine(to: Placements, extent: Extent | null): void {
  to.add(extent, {
    ...{ name: 'command line', kind: 'command-line', role: 'command-line', by: 'loader' },
    source: 'where the loader put it',
  });
}

export function placeInitrd(to: Placements, extent: Extent | null): void {
  to.add(extent, {
    ...{ name: 'initrd', kind: 'initrd', role: 'initrd', by: 'loader' },
    source: 'where the loader put it, ramdisk_image and ramdisk_size',
  });
}

export function placeBootParams(
  to: Placements,
  extent: Extent | null,
  by: 'loader' | 'setup' | 'stub',
): void {
  const source =
    by === 'loader'
      ? 'where the loader put it'
      : `RSI at ${by === 'setup' ? 'startup_32' : 'the jump into the kernel'}; zero-page.rst`;
  to.add(extent, { name: 'boot_params', kind: 'boot-params', role: 'boot-params', by, source });
}

export function placeSetupData(to: Placements, nodes: readonly Extent[]): void {
  for (const node of nodes) {
    to.add(node, {
      ...{ name: 'setup_data', kind: 'setup-data', role: 'setup-data', by: 'loader' },
      source: 'the list from the setup_data field',
    });
  }
}

/** The compressed kernel with its stub, as the file has it. A zImage that was moved lies only where it was moved to. */
export function placeZo(to: Placements, zo: ZoInstance, extent: Extent, parts: readonly ZoPart[]): void {
  if (zo === 'moved') to.end((thing) => thing.zo === 'loaded');
  const [name, source] = ZO_NAMES[zo];
  const by = zo === 'loaded' ? 'loader' : zo === 'moved' ? 'setup' : 'stub';
  to.add(extent, { name, kind: 'compressed-kernel', role: 'zo', by, source, zo });
  for (const part of parts) {
    if (!part.inFile) continue;
    const [role, kind] = ZO_ROLES[part.name] ?? (['stub', 'stub'] as const);
    to.add(offsetBy(part, extent.start), {
      ...{ name: `${name} ${part.name}`, kind, role, by, source: part.source, zo },
      ...(part.inferred ? { inferred: true } : {}),
      parent: name,
    });
  }
}

/** What the stub has set up behind its bytes: bss with stack and heap in it, page tables. What is there already is not repeated. */
export function placeRunningZo(to: Placements, base: number, parts: readonly ZoPart[]): void {
  const bss = parts.find(({ name }) => name === 'bss');
  for (const part of parts) {
    if (part.inFile) continue;
    const inBss = bss !== undefined && part !== bss && part.start >= bss.start && part.end <= bss.end;
    const [role, kind] = ZO_ROLES[part.name] ?? (['stub', 'stub'] as const);
    const extent = offsetBy(part, base);
    if (to.present.some((thing) => thing.role === role && thing.start === extent.start)) continue;
    to.add(extent, {
      ...{ name: part.name === 'bss' ? 'ZO bss' : `boot ${part.name}`, kind, role, by: 'stub' },
      source: part.source,
      ...(part.inferred ? { inferred: true } : {}),
      ...(inBss ? { parent: 'ZO bss' } : {}),
    });
  }
}

function offsetBy({ start, end }: Extent, base: number): Extent {
  return { start: base + start, end: base + end };
}

/** What init_size asks to be free. @param isOutput - whether the kernel goes there; the stub alone uses it else */
export function placeRunArea(to: Placements, extent: Extent | null, isOutput: boolean): void {
  to.end(({ role }) => role === 'run-area');
  to.add(extent, {
    ...{ name: isOutput ? 'run area' : 'buffer of the stub', kind: 'buffer', role: 'run-area', by: 'stub' },
    source: 'init_size bytes from the address that the kernel runs at without KASLR',
  });
}

/** How far the payload ends behind the output when it is decompressed in place: what keeps the writer behind the reader. */
export function placeGap(to: Placements, output: Extent | null, payload: Extent | null): void {
  to.end(({ role }) => role === 'in-place-gap');
  if (output === null || payload === null) return;
  const inPlace = output.start <= payload.start && output.end > payload.start;
  if (!inPlace) return;
  to.add(
    { start: output.end, end: payload.end },
    {
      ...{ name: 'in-place gap', kind: 'buffer', role: 'in-place-gap', by: 'stub' },
      source: "kept for decompressing in place: from the output's end to the payload's end",
    },
  );
}

export function placeDecompressed(
  to: Placements,
  pieces: readonly (Extent & { readonly name: string })[],
  relocations: Extent | null,
): void {
  const by = 'extract_kernel';
  for (const { name, ...extent } of pieces) {
    to.add(extent, { name, kind: 'kernel', role: 'decompressed', by, source: 'the output of the codec' });
  }
  to.add(relocations, {
    ...{ name: 'relocation lists', kind: 'relocations', role: 'relocations', by },
    source: 'behind the ELF file in the output',
  });
}

/** The kernel proper at its place, which ends what it was decompressed to. */
export function placeKernel(
  to: Placements,
  parts: readonly KernelPart[],
  by: 'loader' | 'extract_kernel' | 'stub',
): void {
  to.end(({ role }) => role === 'decompressed' || role === 'in-place-gap');
  for (const { name, source, hasBytes, parent, segment, start, end } of parts) {
    to.add(
      { start, end },
      {
        ...{ name, kind: hasBytes ? 'kernel' : 'bss', source, by },
        role: parent === undefined ? 'kernel-segment' : 'kernel-section',
        ...(segment === null ? {} : { segment }),
        ...(parent === undefined ? {} : { parent }),
      },
    );
  }
}
