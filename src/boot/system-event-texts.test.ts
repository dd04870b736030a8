// `system-events.ts` on a CPU that is made up: each instruction and each event of the machine, one after the other.

import { describe, expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import type { MachineEvent } from '../machine/events.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { type PortPlaces, type SystemEvent, SystemEvents } from './system-events.ts';

type Port = Extract<MachineEvent, { kind: 'port' }>;

/** A CPU with registers that can be set, whose hooks are called by hand. */
function made(mode: CpuMode = 'long64') {
  const registers: Record<string, bigint> = { rip: 0x100n, cs: 0x10n };
  const ram = new Uint8Array(0x1_0000);
  const hooks = new Map<number, Set<() => void>>();
  const blocks = new Set<(address: number) => void>();
  const told: SystemEvent[] = [];
  const ports: (PortPlaces | undefined)[] = [];
  const state = { mode, instructions: 10, console: '', heldAt: null as number | null };
  const cpu = {
    memory: PhysicalMemory.of(ram),
    readRegister: (name: string) => registers[name] ?? 0n,
    readSegmentBases: () => [0n, 0x5000n, 0n, 0n, 0n, 0n],
    readDescriptorTable: (name: string) =>
      name === 'gdtr' ? { base: 0x8000n, limit: 0x2f } : { base: 0n, limit: 0x3ff },
    hookCode: (first: bigint, _last: bigint, hook: () => void) => {
      const at = Number(first);
      const there = hooks.get(at) ?? new Set();
      hooks.set(at, there.add(hook));
      return () => there.delete(hook);
    },
    hookEachBlock: (hook: (address: number) => void) => {
      blocks.add(hook);
      return () => blocks.delete(hook);
    },
    get instructions() {
      return state.instructions;
    },
  } as unknown as Cpu;
  const events = new SystemEvents({
    cpu,
    mode: { read: () => state.mode } as never,
    console: () => state.console,
    record: (event, places) => {
      told.push(event);
      ports.push(places);
    },
    hold: { before: (address) => address === state.heldAt },
  });
  return {
    ...{ registers, ram, hooks, told, ports, state, events },
    /** The CPU comes to an instruction. */
    at: (address: number) => {
      registers.rip = BigInt(address);
      for (const hook of [...(hooks.get(address) ?? [])]) hook();
      state.instructions++;
    },
    block: (address: number) => {
      for (const hook of [...blocks]) hook(address);
    },
    texts: () => told.map(({ kind, address, text }) => `${kind} ${address.toString(16)} ${text}`),
    looksAtBlocks: () => blocks.size,
  };
}

const port = (part: Partial<Port>): Port => ({
  ...{ kind: 'port', direction: 'out', port: 0x21, size: 1, value: 0xff, device: 'PIC' },
  ...part,
});

describe('an instruction that was looked for', () => {
  it.each<[string, CpuMode, string, Record<string, bigint>, string]>([
    ['0f22c0', 'long64', 'cr0 by RAX', { rax: 0x8000_0001n }, 'control-register 1200 cr0 = 0x80000001'],
    ['410f22d8', 'long64', 'cr3 by R8', { r8: 0x1_0000_1000n }, 'control-register 1200 cr3 = 0x100001000'],
    ['0f22e1', 'prot32', 'cr4 by ECX', { rcx: 0xffff_0000_0020n }, 'control-register 1200 cr4 = 0x20'],
    ['0f01f0', 'prot16', 'CR0 by LMSW', {}, 'control-register 1200 lmsw'],
    [
      ...(['0f30', 'long64', 'an MSR that has a name'] as const),
      { rcx: 0xffff_c000_0080n, rdx: 0xdead_0000_0001n, rax: 0xbeef_0000_0500n },
      'msr 1200 MSR 0xc0000080 (EFER) = 0x100000500',
    ],
    ['0f30', 'prot32', 'an MSR without', { rcx: 0x10n, rax: 7n }, 'msr 1200 MSR 0x10 = 0x7'],
    ['8ed8', 'prot32', 'DS by EAX', { rax: 0xffff_0018n }, 'segment 1200 ds = 0x18'],
    ['8ee1', 'long64', 'FS by ECX', { rcx: 0x10n }, 'segment 1200 fs = 0x10'],
    ['8ed2', 'prot16', 'SS by DX', { rdx: 0x20n }, 'segment 1200 ss = 0x20'],
  ])('%s in %s is told: %s', (hex, mode, _what, registers, text) => {
    const cpu = made(mode);
    cpu.ram.set(Buffer.from(hex, 'hex'), 0x1200);
    Object.assign(cpu.registers, registers);
    cpu.events.watch(0x1000, [0x200]);
    cpu.at(0x1200);
    expect(cpu.texts()).toEqual([text]);
    expect(cpu.told[0]!.instructions).toBe(10);
  });

  it.each<[string, CpuMode, string]>([
    ['8ed8', 'real16', 'a segment of real mode'],
    ['8e18', 'prot32', 'a segment out of memory'],
    ['8ef0', 'prot32', 'a segment that there is none of'],
    ['90', 'long64', 'another one'],
  ])('%s in %s is not told: %s', (hex, mode) => {
    const cpu = made(mode);
    cpu.ram.set(Buffer.from(hex, 'hex'), 0x1200);
    cpu.events.watch(0x1000, [0x200]);
    cpu.at(0x1200);
    expect(cpu.texts()).toEqual([]);
  });

  it('is told once the boot goes on, where it is held before it', () => {
    const cpu = made();
    cpu.ram.set([0x0f, 0x22, 0xd8], 0x1200);
    cpu.events.watch(0x1000, [0x200]);
    cpu.state.heldAt = 0x1200;
    cpu.at(0x1200);
    expect(cpu.texts()).toEqual([]);
    cpu.state.heldAt = null;
    cpu.at(0x1200);
    expect(cpu.texts()).toEqual(['control-register 1200 cr3 = 0x0']);
  });

  it('tells an MSR that is read with what it was, once the next one is about to run', () => {
    const cpu = made();
    cpu.ram.set([0x0f, 0x32], 0x1200);
    cpu.registers.rcx = 0xc000_0080n;
    const unhooks = cpu.events.watch(0x1000, [0x200]);
    cpu.at(0x1200);
    expect(cpu.texts()).toEqual([]);
    Object.assign(cpu.registers, { rax: 0x500n, rdx: 0n });
    cpu.at(0x1202);
    expect(cpu.texts()).toEqual(['msr 1200 MSR 0xc0000080 (EFER) is 0x500']);
    expect(cpu.told[0]).toMatchObject({
      instructions: 10,
      details: { msr: '0xc0000080', name: 'EFER', value: '0x500', read: true },
    });
    // Once.
    cpu.at(0x1202);
    expect(cpu.told).toHaveLength(1);
    // And the hook is used again.
    cpu.at(0x1200);
    cpu.at(0x1202);
    expect(cpu.told).toHaveLength(2);
    expect(cpu.hooks.get(0x1202)?.size).toBe(1);
    for (const unhook of unhooks) unhook();
    expect(cpu.hooks.get(0x1202)?.size).toBe(0);
    expect(cpu.hooks.get(0x1200)?.size).toBe(0);
  });

  it.each([
    [0x16, 'gdtr', 'gdtr = 0x8000, limit 0x2f', { register: 'gdtr', base: '0x8000', limit: 0x2f }],
    [0x1e, 'idtr', 'idtr = 0x0, limit 0x3ff', { register: 'idtr', base: '0x0', limit: 0x3ff }],
  ] as const)('0f 01 %d tells what %s was loaded with', (modrm, _name, text, details) => {
    const cpu = made('real16');
    cpu.ram.set([0x0f, 0x01, modrm, 0x00, 0x20], 0x1200);
    cpu.events.watch(0x1000, [0x200]);
    cpu.at(0x1200);
    cpu.at(0x1205);
    expect(cpu.told).toMatchObject([{ kind: 'descriptor-table', address: 0x1200n, text, details }]);
  });

  it('tells the mode that the next block runs in, where it is another', () => {
    const cpu = made('real16');
    cpu.ram.set([0x0f, 0x22, 0xc0], 0x1200);
    cpu.ram.set([0xea, 0, 0, 0, 0], 0x1210);
    cpu.events.watch(0x1000, [0x200, 0x210]);
    cpu.at(0x1200);
    expect(cpu.looksAtBlocks()).toBe(1);
    // The block that the instruction itself begins.
    cpu.block(0x1200);
    expect(cpu.looksAtBlocks()).toBe(1);
    cpu.state.mode = 'prot16';
    cpu.block(0x1203);
    expect(cpu.looksAtBlocks()).toBe(0);
    cpu.at(0x1210);
    cpu.at(0x1210);
    expect(cpu.looksAtBlocks()).toBe(1);
    cpu.state.mode = 'prot32';
    cpu.block(0x2000);
    // A far transfer that stays in its mode.
    cpu.at(0x1210);
    cpu.block(0x2000);
    expect(cpu.told.filter(({ kind }) => kind === 'mode')).toMatchObject([
      {
        address: 0x1200n,
        instructions: 10,
        text: 'real16 to prot16',
        details: { from: 'real16', to: 'prot16' },
      },
      { address: 0x1210n, text: 'prot16 to prot32', details: { from: 'prot16', to: 'prot32' } },
    ]);
  });
});

describe('ports', () => {
  it('of one device are one event, up to another device or another event', () => {
    const cpu = made();
    cpu.events.onMachineEvent(port({ port: 0xa1 }));
    cpu.registers.rip = 0x102n;
    cpu.state.instructions = 11;
    cpu.events.onMachineEvent(port({ port: 0x21, value: 0xfb }));
    cpu.events.onMachineEvent(port({ direction: 'in', port: 0x21, value: 0x12 }));
    expect(cpu.told).toEqual([]);
    cpu.registers.rip = 0x110n;
    cpu.events.onMachineEvent(
      port({ device: 'keyboard controller', port: 0x64, direction: 'in', value: 0x1c }),
    );
    cpu.events.flush(0x120n);
    expect(cpu.texts()).toEqual([
      'port 100 PIC: 1 in, 2 out (ports 0x21, 0xa1)',
      'port 110 keyboard controller: 1 in 0x1c (port 0x64)',
    ]);
    expect(cpu.told[0]).toMatchObject({
      ...{ instructions: 10 },
      details: { device: 'PIC', reads: 1, writes: 2, ports: '0x21 0xa1', last: '0x12' },
    });
    expect([...cpu.ports[0]!]).toEqual([
      ['0xa1', { address: 0x100n, instructions: 10 }],
      ['0x21', { address: 0x102n, instructions: 11 }],
    ]);
    // Nothing is left.
    cpu.events.flush(0x130n);
    expect(cpu.told).toHaveLength(2);
  });

  it('show the value of a single access, of a single one only', () => {
    const textOf = (...all: Port[]): string => {
      const cpu = made();
      for (const each of all) cpu.events.onMachineEvent(each);
      cpu.events.flush(0n);
      return cpu.told[0]!.text;
    };
    expect(textOf(port({}))).toBe('PIC: 1 out 0xff (port 0x21)');
    expect(textOf(port({ direction: 'in' }))).toBe('PIC: 1 in 0xff (port 0x21)');
    expect(textOf(port({}), port({}))).toBe('PIC: 2 out (port 0x21)');
    expect(textOf(port({}), port({ direction: 'in' }))).toBe('PIC: 1 in, 1 out (port 0x21)');
    expect(textOf(port({ direction: 'in' }), port({ direction: 'in' }), port({}))).toBe(
      'PIC: 2 in, 1 out (port 0x21)',
    );
  });

  it('are where the CPU is, with the base of its code segment in 16-bit code', () => {
    const placeIn = (mode: CpuMode): bigint => {
      const cpu = made(mode);
      cpu.registers.rip = 0xffff_0100n;
      cpu.registers.cs = 0x9020n;
      cpu.events.onMachineEvent(port({}));
      cpu.events.flush(0n);
      return cpu.told[0]!.address;
    };
    expect(placeIn('real16')).toBe(0x90300n);
    expect(placeIn('prot16')).toBe(0x5100n);
    expect(placeIn('prot32')).toBe(0xffff_0100n);
    expect(placeIn('long64')).toBe(0xffff_0100n);
  });
});

describe('lines of the console', () => {
  const put = (cpu: ReturnType<typeof made>, text: string): void => {
    for (const letter of text) {
      cpu.registers.rip = cpu.registers.rip! + 1n;
      cpu.state.console += letter;
      cpu.events.onMachineEvent(port({ device: 'UART', port: 0x3f8, value: letter.charCodeAt(0) }));
    }
  };

  it('are where the OUT of their end is, each once, without empty ones', () => {
    const cpu = made();
    put(cpu, 'ab\n\nc\nd');
    cpu.events.flush(0x200n);
    expect(cpu.texts()).toEqual(['port 101 UART: 7 out (port 0x3f8)', 'console 103 ab', 'console 106 c']);
    put(cpu, 'e\n');
    cpu.events.flush(0x300n);
    expect(cpu.texts().slice(3)).toEqual(['port 108 UART: 2 out (port 0x3f8)', 'console 109 de']);
  });

  it('that firmware or the host has printed are where it is told', () => {
    const cpu = made();
    cpu.state.console = 'first\nsecond\n';
    cpu.events.flush(0x200n);
    expect(cpu.texts()).toEqual(['console 200 first', 'console 200 second']);
    expect(cpu.told[0]).toMatchObject({ instructions: 10, details: {} });
  });

  it('are not ended by a newline that goes elsewhere, or is read', () => {
    const cpu = made();
    cpu.events.onMachineEvent(port({ device: 'UART', direction: 'in', value: 0x0a }));
    cpu.state.console = 'text\n';
    cpu.registers.rip = 0x150n;
    cpu.events.onMachineEvent(port({ device: 'PIC', value: 0x0a }));
    expect(cpu.texts().at(-1)).toBe('console 150 text');
  });

  it('that are half printed stay so where a boot is gone back to', () => {
    const cpu = made();
    put(cpu, 'ab\nc');
    const state = cpu.events.saveState();
    put(cpu, 'd\n');
    cpu.events.flush(0x200n);
    const before = cpu.texts();
    cpu.told.length = 0;
    const other = made();
    other.registers.rip = 0x104n;
    other.state.console = 'ab\nc';
    other.events.restoreState(state);
    put(other, 'd\n');
    other.events.flush(0x200n);
    expect(other.texts()).toEqual(before);
    expect(state.ports).toMatchObject({ writes: 4 });
  });
});

describe('a call of firmware', () => {
  const bios = (part: Partial<Extract<MachineEvent, { kind: 'bios' }>>): MachineEvent => ({
    ...{ kind: 'bios', vector: 0x15, input: { eax: 0xe820, edx: 0x534d_4150 }, output: { ecx: 20 } },
    ...{ carry: false, text: 'INT 15h E820: query system address map', result: null },
    ...part,
  });

  it('is told at its INT, with the registers that it uses', () => {
    const cpu = made('real16');
    Object.assign(cpu.registers, { cs: 0x9000n, rip: 0x102n });
    cpu.events.onMachineEvent(bios({ result: '0x0..0x9fc00 usable' }));
    expect(cpu.told).toEqual([
      {
        ...{ kind: 'bios', address: 0x90100n, instructions: 10 },
        text: 'INT 15h E820: query system address map: 0x0..0x9fc00 usable',
        details: {
          ...{ vector: 0x15, service: 'INT 15h E820: query system address map', carry: false },
          result: '0x0..0x9fc00 usable',
          ...{ 'in eax': '0xe820', 'in edx': '0x534d4150', 'out ecx': '0x14' },
        },
      },
    ]);
    cpu.events.onMachineEvent(bios({ carry: true }));
    expect(cpu.told[1]!.text).toBe('INT 15h E820: query system address map: failed');
  });

  it('that prints a letter is told by its line alone', () => {
    const cpu = made('real16');
    cpu.events.onMachineEvent(bios({ vector: 0x10, input: { eax: 0x0e41 } }));
    expect(cpu.told).toEqual([]);
    cpu.events.onMachineEvent(bios({ vector: 0x10, input: { eax: 0x0341 }, text: 'cursor' }));
    cpu.events.onMachineEvent(bios({ vector: 0x10, input: {}, text: 'other' }));
    cpu.events.onMachineEvent(bios({ vector: 0x13, input: { eax: 0x0e00 }, text: 'disk' }));
    expect(cpu.told.map(({ text }) => text)).toEqual(['cursor', 'other', 'disk']);
  });

  it('of EFI is told behind the call', () => {
    const cpu = made();
    cpu.events.onMachineEvent({
      ...{ kind: 'efi', service: 'AllocatePages', number: 3, caller: 'vmlinuz+0x10', returnAddress: 0x4242n },
      ...{
        arguments: { Pages: '4' },
        status: 'SUCCESS',
        instructions: 77,
        text: 'AllocatePages(Pages=4) = SUCCESS',
      },
    });
    expect(cpu.told).toEqual([
      {
        ...{ kind: 'efi', address: 0x4242n, instructions: 77, text: 'AllocatePages(Pages=4) = SUCCESS' },
        details: {
          number: 3,
          service: 'AllocatePages',
          caller: 'vmlinuz+0x10',
          status: 'SUCCESS',
          'in Pages': '4',
        },
      },
    ]);
  });
});

describe('CPUID and exceptions', () => {
  const cpuid = (leaf: number, ...result: readonly [number, number, number, number]): SystemEvent => {
    const cpu = made();
    cpu.events.onMachineEvent({ kind: 'cpuid', leaf, subleaf: 0, result });
    return cpu.told[0]!;
  };

  it.each([
    [cpuid(1, 0x663, 0, -1, 0x78bfbfd), 'CPUID 0x1 = 0x663 0x0 0xffffffff 0x78bfbfd'],
    [cpuid(7, 0, 0, 1 << 16, 0), 'CPUID 0x7 (five-level paging (LA57): yes) = 0x0 0x0 0x10000 0x0'],
    [cpuid(7, 0, 0, 0xfffe_ffff, 0), 'CPUID 0x7 (five-level paging (LA57): no) = 0x0 0x0 0xfffeffff 0x0'],
    [
      cpuid(0x21, 0, 0x65746e49, 0x20202020, 0x5844546c),
      'CPUID 0x21 (Intel TDX: yes) = 0x0 0x65746e49 0x20202020 0x5844546c',
    ],
    [cpuid(0x21, 0, 0x65746e49, 0x20202020, 0), 'CPUID 0x21 (Intel TDX: no) = 0x0 0x65746e49 0x20202020 0x0'],
    [cpuid(0x8000001f, 2, 0, 0, 0), 'CPUID 0x8000001f (AMD SEV: yes) = 0x2 0x0 0x0 0x0'],
    [cpuid(0x8000001f, 1, 0, 0, 0), 'CPUID 0x8000001f (AMD SEV: no) = 0x1 0x0 0x0 0x0'],
  ])('%# is told with what the answer means', ({ text, details }, expected) => {
    expect(text).toBe(expected);
    expect(details).toMatchObject({ subleaf: '0x0', meaning: /\((.*)\) =/.exec(expected)?.[1] ?? null });
  });

  it('an exception is told where it happened', () => {
    const cpu = made();
    cpu.events.onMachineEvent({ kind: 'exception', vector: 14, address: 0x7777n, delivered: true });
    expect(cpu.told).toEqual([
      {
        ...{ kind: 'exception', address: 0x7777n, instructions: 10, text: 'exception 14' },
        details: { vector: 14, delivered: true },
      },
    ]);
  });

  it('each of them ends what was being put together', () => {
    for (const event of [
      { kind: 'cpuid', leaf: 0, subleaf: 0, result: [0, 0, 0, 0] },
      { kind: 'exception', vector: 6, address: 0n, delivered: false },
    ] as const satisfies readonly MachineEvent[]) {
      const cpu = made();
      cpu.events.onMachineEvent(port({}));
      cpu.state.console = 'line\n';
      cpu.registers.rip = 0x140n;
      cpu.events.onMachineEvent(event);
      expect(cpu.told.map(({ kind, address }) => [kind, address])).toEqual([
        ['port', 0x100n],
        ['console', 0x140n],
        [event.kind, event.kind === 'cpuid' ? 0x140n : 0n],
      ]);
      expect(cpu.told[1]!.instructions).toBe(10);
    }
  });
});
