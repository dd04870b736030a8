import { expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { describeEachEngine } from '../../cpu/each-engine.ts';
import { readKernelImage } from '../../image/kernel-image.ts';
import { type BootImageRecipe, makeBootImage, noise } from '../../image/test-images.ts';
import { Machine } from '../../machine/machine.ts';
import { CpuModeReader } from '../cpu-mode.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../options.ts';
import { enterLong64, enterProt32 } from './enter-protocol.ts';
import { loadWithBootParams } from './load-code.ts';
import type { LoadedImage } from './loaded-image.ts';

const MEMORY = 64 << 20;
const PAGE = 0x10000;
const INITRD = { path: 'initrd', bytes: noise(5000, 3) };
const MODERN: BootImageRecipe = {
  protocol: 0x020f,
  code: noise(10_000),
  fields: { xloadflags: 1, initrd_addr_max: 0x7fffffff, cmdline_size: 2047 },
};

interface Loaded {
  readonly loaded: LoadedImage;
  readonly file: Uint8Array;
  readonly page: DataView;
  readonly machine: Machine;
  readonly cpu: Cpu;
}

describeEachEngine('loading by the 32- and 64-bit protocol', (open) => {
  async function load(
    recipe: BootImageRecipe,
    options: Partial<BootOptions>,
    test: (result: Loaded) => void,
    entry: 'prot32' | 'long64' = 'prot32',
  ): Promise<void> {
    const cpu = await open();
    try {
      const file = makeBootImage(recipe);
      const image = await readKernelImage('image', file);
      const machine = new Machine(cpu, { memory: MEMORY });
      const all = { ...DEFAULT_BOOT_OPTIONS, memory: MEMORY, ...options };
      machine.ram.fill(0xcc, PAGE, PAGE + 0x1000);
      const loaded = loadWithBootParams(machine, image, all, entry);
      const { ram } = machine;
      const page = new DataView(ram.buffer, ram.byteOffset + loaded.bootParams!, 0x1000);
      test({ loaded, file, page, machine, cpu });
    } finally {
      cpu.close();
    }
  }
  const refused = (
    recipe: BootImageRecipe,
    options: Partial<BootOptions> = {},
    entry: 'prot32' | 'long64' = 'prot32',
  ): Promise<void> => load(recipe, options, () => expect.unreachable(), entry);

  it('copies the setup header, and fills in what is the loader’s', () =>
    load(MODERN, { cmdline: 'quiet', initrd: INITRD }, ({ page, file, loaded, machine }) => {
      const header = new DataView(file.buffer);
      for (const offset of [0x1f1, 0x1fe, 0x202, 0x206, 0x236, 0x238, 0x260]) {
        expect(page.getUint16(offset, true), `offset ${offset}`).toBe(header.getUint16(offset, true));
      }
      expect(page.getUint8(0x210)).toBe(0xff);
      expect(page.getUint16(0x1fa, true)).toBe(0xffff);
      expect(page.getUint32(0x214, true)).toBe(0x100000);
      expect(page.getUint32(0x228, true)).toBe(0x20000);
      expect(page.getUint32(0x218, true)).toBe(loaded.initrd!.address);
      expect(page.getUint32(0x21c, true)).toBe(5000);
      expect(Buffer.from(machine.ram.subarray(0x20000, 0x20006)).toString()).toBe('quiet\0');
    }));

  it('leaves zero what the header does not have, with nothing of setup’s code behind it', () =>
    load({ protocol: 0x0202, code: noise(100) }, {}, ({ page, file }) => {
      file.fill(0x90, 0x22c, 0x2d0);
      for (let offset = 0x22c; offset < 0x2d0; offset++) expect(page.getUint8(offset)).toBe(0);
      for (let offset = 0x20; offset < 0x1e0; offset++) expect(page.getUint8(offset)).toBe(0);
    }));

  it('gives the memory map of the machine and the memory sizes of old', () =>
    load(MODERN, {}, ({ page, machine }) => {
      expect(page.getUint8(0x1e8)).toBe(machine.memoryMap.length);
      const entries = machine.memoryMap.map((_, index) => ({
        address: page.getBigUint64(0x2d0 + index * 20, true),
        size: page.getBigUint64(0x2d8 + index * 20, true),
        type: page.getUint32(0x2e0 + index * 20, true),
      }));
      expect(entries).toEqual(machine.memoryMap);
      const extended = machine.memoryMap.find(({ address }) => address === 0x100000n)!;
      expect(page.getUint32(0x1e0, true)).toBe(Number(extended.size / 1024n));
      expect(page.getUint16(0x02, true)).toBe(Math.min(0xfc00, Number(extended.size / 1024n)));
    }));

  it('describes an 80x25 text screen', () =>
    load(MODERN, {}, ({ page }) => {
      const [mode, columns, lines, points] = [0x06, 0x07, 0x0e, 0x10].map((at) => page.getUint8(at));
      expect({ mode, columns, lines, points }).toEqual({ mode: 3, columns: 80, lines: 25, points: 16 });
      expect(page.getUint8(0x0f)).toBe(1);
    }));

  it('puts everything where it was asked to', () => {
    const elsewhere = { loadAddress: 0x2000000, cmdlineAddress: 0x8000, bootParamsAddress: 0x7000 };
    return load(MODERN, { cmdline: 'x', ...elsewhere }, ({ loaded, page, machine }) => {
      expect(loaded).toMatchObject({
        ...{ bootParams: 0x7000, startup32: 0x2000000, setup: null },
        protectedModeCode: { address: 0x2000000, size: 10_000 },
        commandLine: { address: 0x8000, size: 2 },
      });
      expect(page.getUint32(0x214, true)).toBe(0x2000000);
      expect(Buffer.compare(machine.ram.subarray(0x2000000, 0x2000000 + 10_000), noise(10_000))).toBe(0);
    });
  });

  it('enters 32-bit code at its start with flat segments and ESI at boot_params', () =>
    load(MODERN, {}, ({ loaded, machine, cpu }) => {
      machine.ram.fill(0, loaded.startup32, loaded.startup32 + 16);
      machine.ram.set([0xa1, 0, 0, 0, 0, 0xf4], 0x100000); // mov eax, [0]; hlt
      enterProt32(machine, loaded);
      expect(new CpuModeReader(cpu).read()).toBe('prot32');
      const names = ['rip', 'rsi', 'rbp', 'rdi', 'rbx', 'cs', 'ds', 'es', 'ss'] as const;
      const values = names.map((name) => Number(cpu.readRegister(name)));
      expect(values).toEqual([0x100000, PAGE, 0, 0, 0, 0x10, 0x18, 0x18, 0x18]);
      expect(cpu.readRegister('cr0') & 0x8000_0001n).toBe(1n);
      expect(cpu.readRegister('rflags') & 0x200n).toBe(0n);
      cpu.run();
      expect(cpu.readRegister('rip')).toBe(0x100006n);
    }));

  it('enters 64-bit code at 0x200 with the first 4 GiB mapped to themselves and RSI at boot_params', () =>
    load(
      MODERN,
      { loadAddress: 0x1000000 },
      ({ loaded, machine, cpu }) => {
        // mov rax, 0x1122334455667788; hlt
        const code = [0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xf4];
        machine.ram.set(code, 0x1000200);
        enterLong64(machine, loaded);
        expect(new CpuModeReader(cpu).read()).toBe('long64');
        expect([cpu.readRegister('rip'), cpu.readRegister('rsi')]).toEqual([0x1000200n, BigInt(PAGE)]);
        cpu.run();
        expect(cpu.readRegister('rax')).toBe(0x1122334455667788n);
      },
      'long64',
    ));

  it('refuses what the protocol cannot do, and says what can', async () => {
    await expect(refused({ ...MODERN, fields: { xloadflags: 0 } }, {}, 'long64')).rejects.toThrow('prot32');
    await expect(refused({ protocol: 0x0201 })).rejects.toThrow('use real16');
    await expect(refused({ protocol: 0x0203, fields: { loadflags: 0 } })).rejects.toThrow('zImage');
    await expect(refused({ ...MODERN, code: new Uint8Array(MEMORY) })).rejects.toThrow('give it more');
  });
});
