// A small made-up trace for the tests of this room: every part of a trace occurs in it, with numbers that are easy to check.

import { REGISTER_NAMES } from '../cpu/cpu.ts';
import type { BootTrace, MemoryRegion, Phase, RegionKind, RegisterSnapshot } from '../trace/boot-trace.ts';

export function someRegisters(values: Partial<Record<string, bigint>> = {}): RegisterSnapshot {
  return Object.fromEntries(REGISTER_NAMES.map((name) => [name, values[name] ?? 0n])) as RegisterSnapshot;
}

export function someRegion(
  name: string,
  start: number,
  end: number,
  kind: RegionKind,
  rest: Partial<MemoryRegion> = {},
): MemoryRegion {
  const place = { start: BigInt(start), end: BigInt(end) };
  return { name, ...place, kind, role: 'unknown', source: `source of ${name}`, ...rest };
}

export function somePhase(rest: Partial<Phase> & Pick<Phase, 'name'>): Phase {
  return {
    address: 0x100000n,
    mode: 'long64',
    registers: someRegisters(),
    gdtr: { base: 0x1000n, limit: 47 },
    idtr: { base: 0n, limit: 0 },
    instructions: null,
    regions: [],
    overwritten: [],
    pageTables: null,
    summary: '',
    milliseconds: 1.5,
    ...rest,
  };
}

const SETUP = someRegion('setup', 0x90000, 0x95000, 'setup');
const RESERVED = someRegion('E820 reserved', 0xfffc0000, 0x100000000, 'reserved');

/**
 * Three phases: setup; a stub of 1 MiB copied up; the kernel, which overwrote half of the copy.
 * What the guest printed and its command line try to end the elements that they are put in.
 */
export function someTrace(rest: Partial<BootTrace> = {}): BootTrace {
  return {
    image: {
      path: 'vmlinuz-<b>1</b>',
      sha256: 'ab'.repeat(32),
      kind: 'bzImage',
      bootProtocol: '2.15',
      kernelVersion: '6.6.0-test (someone@example) #1 SMP',
      codec: 'zstd',
      payload: { offset: 0x2cc, length: 0xf0000 },
    },
    machine: {
      engine: 'native',
      engineVersion: '2.0.1',
      ram: 0x20000000,
      cpu: 'qemu64',
      entry: 'real16',
      decompress: 'hooked',
      cmdline: 'quiet </script><img src=x onerror="document.title=1">',
    },
    phases: [
      somePhase({
        name: 'setup',
        address: 0x90200n,
        mode: 'real16',
        instructions: 0,
        regions: [SETUP, someRegion('ZO as loaded', 0x100000, 0x200000, 'compressed-kernel'), RESERVED],
        summary: '117 BIOS calls',
      }),
      somePhase({
        name: 'extract_kernel',
        address: 0x2080000n,
        instructions: 5000,
        registers: someRegisters({ rsp: 0x2090000n, cr0: 0x80000011n }),
        regions: [
          SETUP,
          someRegion('ZO as loaded', 0x100000, 0x200000, 'compressed-kernel'),
          someRegion('ZO copy', 0x2000000, 0x2100000, 'compressed-kernel'),
          someRegion('ZO copy payload', 0x2000000, 0x20f0000, 'payload', { parent: 'ZO copy' }),
          someRegion('boot heap', 0x20f8000, 0x2100000, 'heap', { inferred: true }),
          RESERVED,
        ],
        pageTables: {
          mode: '4-level',
          root: 0x2100000n,
          levels: 4,
          ranges: [
            {
              start: 0n,
              end: 0x100000000n,
              physical: 0n,
              writable: true,
              user: false,
              executable: true,
              pageSize: 0x200000,
            },
          ],
          tables: [{ address: 0x2100000n, size: 4096, level: 4 }],
          identity: true,
          truncated: false,
        },
      }),
      somePhase({
        name: 'kernel',
        address: 0x1000123n,
        instructions: 9000,
        registers: someRegisters({ rsp: 0x2090000n, rsi: 0x90000n }),
        regions: [
          SETUP,
          someRegion('kernel segment 0 (rwx)', 0x1000000, 0x2080000, 'kernel', {
            ...{ role: 'kernel-segment', segment: 0 },
          }),
          someRegion('kernel .text', 0x1000000, 0x1800000, 'kernel', { parent: 'kernel segment 0 (rwx)' }),
          someRegion('ZO copy', 0x2000000, 0x2100000, 'compressed-kernel'),
          someRegion('ZO copy payload', 0x2000000, 0x20f0000, 'payload', { parent: 'ZO copy' }),
          RESERVED,
        ],
        overwritten: [
          {
            ...{
              region: 'ZO copy payload',
              role: 'payload',
              by: 'the decompressed kernel',
              writer: 'decompressed',
            },
            ...{ start: 0x2000000n, end: 0x2080000n },
          },
        ],
      }),
    ],
    kernel: {
      entry: 0x1000123n,
      physicalBase: 0x1000000n,
      virtualBase: 0xffffffff81000000n,
      bootParams: 0x90000n,
      entryMode: 'long64',
      segments: [
        {
          paddr: 0x1000000n,
          vaddr: 0xffffffff81000000n,
          filesz: 0x1000000n,
          memsz: 0x1080000n,
          flags: 'rwx',
          sha256: 'cd'.repeat(32),
        },
      ],
    },
    bootParams: null,
    efiMemoryMap: null,
    stopped: null,
    hazards: [
      {
        code: 'run-area-overlap',
        text: 'The run area reaches into the initrd.',
        advice: 'Load the initrd above 0x3000000.',
        start: 0x2000000n,
        end: 0x2100000n,
      },
    ],
    events: [
      {
        kind: 'bios',
        phase: 'setup',
        address: 0x90345n,
        instructions: 120,
        text: 'INT 15h E820: query system address map',
        details: { vector: 0x15, carry: false },
      },
      {
        kind: 'copy',
        phase: 'setup',
        address: 0x1002aan,
        instructions: 4000,
        text: 'copy 0x100000..0x200000 to 0x2000000..0x2100000',
        details: { source: 0x100000, target: 0x2000000, length: 0x100000 },
      },
    ],
    console: 'Probing EDD… ok\n</script><img src=x onerror="document.title=2">\n',
    notices: ['a notice with <b>markup</b> & signs'],
    ...rest,
  };
}

/** The same with names, as symbols of the stub and the kernel give them. */
export function someNamedTrace(): BootTrace {
  const trace = someTrace();
  const { kernel } = trace;
  return {
    ...trace,
    phases: trace.phases.map((phase) => ({
      ...phase,
      ...(phase.name === 'setup' ? {} : { symbol: phase.name === 'kernel' ? 'startup_64' : phase.name }),
    })),
    events: trace.events.map((event) =>
      event.kind === 'copy' ? { ...event, symbol: 'startup_32+0x2aa' } : event,
    ),
    kernel:
      kernel === null
        ? null
        : {
            ...kernel,
            entrySymbol: 'startup_64',
            segments: kernel.segments.map((segment) => ({ ...segment, symbol: '_text' })),
          },
  };
}
