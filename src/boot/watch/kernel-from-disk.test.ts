// Kernels that a boot loader puts into memory and jumps to, by a loader that is made here: a boot sector with a list of what to read
// where. Those of others are compared in test/loader-references.test.ts.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bootDisk } from '../../image/boot-disk.ts';
import { diskOfBytes } from '../../image/disk-image.ts';
import { setField } from '../../image/test-images.ts';
import type { SetupHeaderField } from '../../protocol/setup-header.ts';
import type { BootTrace, RegionKind } from '../../trace/boot-trace.ts';
import { openBoot } from '../session.ts';
import { loaderDisk } from './test-loader-disk.ts';

const DEMO = new URL('../../../images/demo/', import.meta.url).pathname;
const SECTOR = 512;
const MIB = 0x100000;

/** `cli`, DS to SS 0x9000, SP 0x9ff0, `ljmp 0x9020:0`. */
const ENTER_SETUP = 'fab800908ed88ec08ee08ee88ed0bcf09fea00002090';
/** `lgdt`, CR0.PE, flat segments, ESI 0x90000, EBP, EDI and EBX 0, `jmp 0x100000`. */
const ENTER_32 =
  'fa0f0116407d0f20c00c010f22c066ea3c7c00001000b8180000008ed88ec08ed0bc007c0000be0000090031ed31ff31dbb800001000ffe0';

interface Loaded {
  /** Boot sector and setup, as they come to lie at 0x90000. */
  readonly setup: Uint8Array;
  readonly code: Uint8Array;
  /** The code goes above 1 MiB. */
  readonly high: boolean;
  readonly fields?: Partial<Record<SetupHeaderField, number>>;
  readonly cmdline?: string;
  readonly initrd?: Uint8Array;
  /** By the 32-bit protocol. */
  readonly protected?: boolean;
}

const CMDLINE = 0x99800;
const INITRD = 0x60000;

/** A disk whose boot sector loads these and enters the kernel. */
function diskOf({ setup, code, high, fields = {}, cmdline, initrd, ...how }: Loaded): Uint8Array {
  const changed = Uint8Array.from(setup);
  for (const [name, value] of Object.entries(fields)) setField(changed, name as SetupHeaderField, value);
  const reads: [number, Uint8Array][] = [
    [0x90000, changed],
    [0x10000, code],
  ];
  if (cmdline !== undefined) reads.push([CMDLINE, Buffer.from(`${cmdline}\0`)]);
  if (initrd !== undefined) reads.push([INITRD, initrd]);
  return loaderDisk(reads, how.protected ? ENTER_32 : ENTER_SETUP, high ? code.length : 0);
}

function demo(name: string): Pick<Loaded, 'setup' | 'code'> {
  const bytes = readFileSync(`${DEMO}${name}`);
  const size = (bytes[0x1f1]! + 1) * SECTOR;
  return { setup: bytes.subarray(0, size), code: bytes.subarray(size) };
}

async function boot(loaded: Loaded): Promise<BootTrace> {
  const disks = [diskOfBytes('made.img', diskOf(loaded))];
  using session = await openBoot(bootDisk('made.img', 'disk'), {
    ...{ disks, entry: 'boot-sector', memory: 64 << 20, timeoutSeconds: 60, hash: false },
  });
  await session.run();
  return session.trace();
}

function places(trace: BootTrace, phase: string, kind: RegionKind): [string, number, number][] {
  return trace.phases
    .find(({ name }) => name === phase)!
    .regions.filter((region) => region.kind === kind)
    .map(({ name, start, end }) => [name, Number(start), Number(end)]);
}

const setupHeap = (trace: BootTrace) => places(trace, 'setup', 'heap');

const names = ({ phases }: BootTrace): readonly string[] => phases.map(({ name }) => name);

/** What every loader has to say of itself, and where the rest lies. */
const ZIMAGE_FIELDS = { type_of_loader: 0xff, heap_end_ptr: 0x9200, loadflags: 0x80 } as const;

describe('a kernel that a boot loader enters through setup', () => {
  it('is followed as a zImage, with its command line and initrd where the header says', async () => {
    const initrd = Buffer.from('070701'.padEnd(0x321, '0'));
    const trace = await boot({
      ...demo('demo.zImage'),
      high: false,
      fields: {
        ...{ ...ZIMAGE_FIELDS, cmd_line_ptr: CMDLINE },
        ...{ ramdisk_image: INITRD, ramdisk_size: initrd.length },
      },
      cmdline: 'quiet splash',
      initrd,
    });
    expect(trace.stopped).toBeNull();
    expect(names(trace).slice(0, 3)).toEqual(['boot-sector', 'setup', 'startup_32']);
    expect(trace.kernel).not.toBeNull();
    const { setup, code } = demo('demo.zImage');
    expect(places(trace, 'setup', 'setup')[0]).toEqual(['setup', 0x90000, 0x90000 + setup.length]);
    expect(places(trace, 'setup', 'command-line')).toEqual([['command line', CMDLINE, CMDLINE + 13]]);
    expect(places(trace, 'setup', 'initrd')).toEqual([['initrd', INITRD, INITRD + 0x321]]);
    const [[, start, end] = []] = places(trace, 'setup', 'compressed-kernel');
    expect([start, end]).toEqual([0x10000, 0x10000 + code.length]);
    // setup moves it down to where it runs.
    expect(Number(trace.phases.find(({ name }) => name === 'startup_32')!.address)).toBe(0x1000);
    expect(trace.hazards.filter(({ code: each }) => each.startsWith('handover'))).toEqual([]);
  });

  it('is followed as a bzImage to where its code was moved, its heap up to heap_end_ptr', async () => {
    const { setup, code } = demo('demo-gzip.bzImage');
    const trace = await boot({
      ...{ setup, code, high: true, cmdline: 'nokaslr' },
      fields: { type_of_loader: 0xff, heap_end_ptr: 0x9200, loadflags: 0x81, cmd_line_ptr: CMDLINE },
    });
    expect(trace.stopped).toBeNull();
    expect(trace.phases.find(({ name }) => name === 'startup_32')).toMatchObject({ address: 0x100000n });
    expect(trace.kernel?.entry).toBeGreaterThan(0n);
    const [[, start, end] = []] = places(trace, 'startup_32', 'compressed-kernel');
    expect([start, end]).toEqual([MIB, MIB + code.length]);
    expect(places(trace, 'setup', 'initrd')).toEqual([]);
    // heap_end_ptr counts from the end of the boot sector.
    expect(setupHeap(trace)).toEqual([['setup heap and stack', 0x90000 + setup.length, 0x99400]]);
    expect(trace.hazards).toEqual([]);
  });

  it('is judged by what boot.rst wants of a loader', async () => {
    const trace = await boot({
      ...demo('demo-gzip.bzImage'),
      ...{ high: true, fields: { type_of_loader: 0, heap_end_ptr: 0x9200, loadflags: 0x81 } },
    });
    expect(trace.hazards.map(({ code }) => code)).toContain('handover-loader-type');
    expect(places(trace, 'setup', 'command-line')).toEqual([]);
  });

  it('has none of what its protocol does not know: no command line before 2.02, no heap before 2.01', async () => {
    const fields = { ...ZIMAGE_FIELDS, cmd_line_ptr: CMDLINE, ramdisk_image: INITRD, ramdisk_size: 0x200 };
    const initrd = Buffer.from('070701'.padEnd(0x200, '0'));
    const old = async (version: number): Promise<BootTrace> => {
      const { setup, code } = demo('demo.zImage');
      const changed = Uint8Array.from(setup);
      changed.set([version & 0xff, version >> 8], 0x206);
      return boot({ setup: changed, code, high: false, fields, cmdline: 'quiet', initrd });
    };
    const [v200, v201] = [await old(0x0200), await old(0x0201)];
    for (const trace of [v200, v201]) {
      expect(names(trace).slice(0, 3)).toEqual(['boot-sector', 'setup', 'startup_32']);
      expect(places(trace, 'setup', 'command-line')).toEqual([]);
      expect(places(trace, 'setup', 'initrd')).toEqual([['initrd', INITRD, INITRD + 0x200]]);
    }
    const setupEnd = 0x90000 + demo('demo.zImage').setup.length;
    expect(setupHeap(v201)).toEqual([['setup heap and stack', setupEnd, 0x99400]]);
    expect(setupHeap(v200)).toEqual([]);
  });
});

describe('a kernel that a boot loader enters by the 32-bit protocol', () => {
  it('is found by boot_params in ESI, with what its header tells', async () => {
    const { setup, code } = demo('demo-gzip.bzImage');
    const initrd = Buffer.from('070701'.padEnd(0x400, '0'));
    const trace = await boot({
      ...{ setup, code, high: true, protected: true, cmdline: 'nokaslr', initrd },
      fields: {
        ...{ type_of_loader: 0xff, loadflags: 1, cmd_line_ptr: CMDLINE, code32_start: MIB },
        ...{ ramdisk_image: INITRD, ramdisk_size: 0x400 },
      },
    });
    expect(names(trace).slice(0, 2)).toEqual(['boot-sector', 'startup_32']);
    expect(trace.stopped).toBeNull();
    expect(trace.kernel).toMatchObject({ bootParams: 0x90000n });
    expect(places(trace, 'startup_32', 'boot-params')).toEqual([['boot_params', 0x90000, 0x91000]]);
    expect(places(trace, 'startup_32', 'command-line')).toEqual([['command line', CMDLINE, CMDLINE + 8]]);
    expect(places(trace, 'startup_32', 'initrd')).toEqual([['initrd', INITRD, INITRD + 0x400]]);
    const codes = trace.hazards.map(({ code: each }) => each);
    // The boot sector's bytes lie in boot_params, which has no memory map.
    expect(codes).toContain('handover-memory-map');
    expect(codes).not.toContain('handover-segments');
  });
});

describe('what only looks like a kernel', () => {
  it('runs on: setup code without a kernel is a program of the loader', async () => {
    const setup = new Uint8Array(5 * SECTOR);
    // jmp over the header to cli, hlt.
    setup.set([0xeb, 0x6e], 0x200);
    setup.set(Buffer.from('HdrS'), 0x202);
    setup.set([0x0a, 0x02], 0x206);
    setup.set([0xfa, 0xf4], 0x270);
    setup[0x1f1] = 4;
    const trace = await boot({ setup, code: new Uint8Array(SECTOR), high: false });
    expect(trace.kernel).toBeNull();
    expect(trace.stopped).toContain('halted with interrupts off');
  });
});
