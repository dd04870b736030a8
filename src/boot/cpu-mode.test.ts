import { expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { enterLongMode, enterProtectedMode, enterRealMode } from '../cpu/enter-mode.ts';
import { CpuModeReader } from './cpu-mode.ts';

const MIB = 0x100000;
const GDT = 0x8000;
const TABLES = 0x10000;
const HLT = 0xf4;

describeEachEngine('the mode of the CPU', (open) => {
  async function withCpu(test: (cpu: Cpu, ram: Uint8Array, mode: CpuModeReader) => void): Promise<void> {
    const cpu = await open();
    try {
      cpu.mapRam(0, 8 * MIB);
      const ram = cpu.ram(0);
      // A page of zeroes is one long block, which some builds of Unicorn.js cannot translate.
      ram[0x7c00] = HLT;
      ram[MIB] = HLT;
      test(cpu, ram, new CpuModeReader(cpu));
    } finally {
      cpu.close();
    }
  }

  it('is real16 until PE is set', () =>
    withCpu((cpu, _ram, mode) => {
      enterRealMode(cpu, { cs: 0, ip: 0x7c00, ss: 0, sp: 0x7000, ds: 0, es: 0 });
      expect(mode.read()).toBe('real16');
    }));

  it('is prot16 between setting PE and the far jump of the guest’s own switch', () =>
    withCpu((cpu, ram, mode) => {
      // mov eax, cr0; or al, 1; mov cr0, eax; nop
      ram.set([0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x90, HLT], 0x7c00);
      enterRealMode(cpu, { cs: 0, ip: 0x7c00, ss: 0, sp: 0x7000, ds: 0, es: 0 });
      const seen: string[] = [];
      cpu.hookCode(0x7c00n, 0x7c09n, () => seen.push(mode.read()));
      cpu.run();
      expect(seen).toEqual(['real16', 'real16', 'real16', 'prot16', 'prot16']);
    }));

  it('is prot32 as CS was loaded, whatever the table says later', () =>
    withCpu((cpu, ram, mode) => {
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: GDT, rsi: 0n, rsp: 0x7000n });
      expect(mode.read()).toBe('prot32');
      ram.fill(0, GDT, GDT + 48);
      expect(mode.read()).toBe('prot32');
      expect(new CpuModeReader(cpu).readBits()).toBe(32);
      // The same selector is 64-bit code in the next table, as in that of startup_32.
      new DataView(ram.buffer, ram.byteOffset).setBigUint64(0x9010, 0x00af_9a00_0000_ffffn, true);
      cpu.writeDescriptorTable('gdtr', { base: 0x9000n, limit: 0x17 });
      expect(mode.read()).toBe('prot32');
    }));

  it('is what the table says when CS is first seen, where the engine does not show how CS was loaded', () =>
    withCpu((cpu, ram) => {
      enterProtectedMode(cpu, { eip: MIB, gdtAddress: GDT, rsi: 0n, rsp: 0x7000n });
      const blind = {
        memory: cpu.memory,
        readRegisters: cpu.readRegisters.bind(cpu),
        readDescriptorTable: cpu.readDescriptorTable.bind(cpu),
        readCodeAttributes: () => null,
      } as unknown as Cpu;
      const mode = new CpuModeReader(blind);
      expect([mode.read(), mode.readBits()]).toEqual(['prot32', 32]);
      ram.fill(0, GDT, GDT + 48);
      expect(mode.read()).toBe('prot32');
      expect(new CpuModeReader(blind).read()).toBe('prot16');
    }));

  it('is long64 or compat32 by the L bit once long mode is active', () =>
    withCpu((cpu, ram, mode) => {
      const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
      view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
      view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2003), true);
      for (let index = 0; index < 4; index++) {
        view.setBigUint64(TABLES + 0x2000 + index * 8, (BigInt(index) << 21n) | 0x83n, true);
      }
      enterLongMode(cpu, { rip: BigInt(MIB), cr3: BigInt(TABLES), gdtAddress: GDT, rsp: 0x7000n });
      expect(mode.read()).toBe('long64');
      // A 32-bit code segment at 0x28 of a table of its own; push 28h; push rax (its target); lretq
      view.setBigUint64(0x9028, 0x00cf_9a00_0000_ffffn, true);
      cpu.writeDescriptorTable('gdtr', { base: 0x9000n, limit: 0x2f });
      ram.set([0x6a, 0x28, 0x68, 0, 0, 0x11, 0, 0x48, 0xcb], MIB);
      ram.set([0x90, HLT], 0x110000);
      const seen: string[] = [];
      cpu.hookCode(0x110000n, 0x110001n, () => seen.push(mode.read()));
      cpu.run();
      expect(seen).toEqual(['compat32', 'compat32']);
    }));
});
