import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { Machine } from '../machine/machine.ts';
import { boot } from './boot.ts';
import { cmdlineForGuest, kaslrRequest, machineEntropy, machineSeed } from './kaslr-request.ts';
import { surveyKaslr } from './kaslr-slots.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';

const ROOT = new URL('../../images/', import.meta.url);
const file = (name: string): string => fileURLToPath(new URL(name, ROOT));
const image = (name: string): Promise<KernelImage> => readKernelImage(name, readFileSync(file(name)));
const OPTIONS = { ...DEFAULT_BOOT_OPTIONS, memory: 256 << 20 };

describe('what --kaslr asks of the machine', () => {
  it('is a seed of 0 unless one is named', () => {
    expect(machineSeed({ kind: 'off' })).toBe(0n);
    expect(machineSeed({ kind: 'seed', seed: 7n })).toBe(7n);
    expect(machineSeed({ kind: 'entropy', rdtsc: [1n] })).toBe(0n);
  });

  it('changes nothing on the command line of a kernel without KASLR', async () => {
    const demo = await image('demo/demo-gzip.bzImage');
    expect(cmdlineForGuest(demo, { cmdline: 'quiet', kaslr: { kind: 'off' } })).toBe('quiet');
  });
});

describeEachEngine('the entropy of the machine', (open) => {
  async function withMachine(seed: bigint, cpuProfile: string, test: (machine: Machine) => void) {
    const cpu = await open();
    try {
      test(new Machine(cpu, { memory: 64 << 20, seed, cpuProfile }));
    } finally {
      cpu.close();
    }
  }

  it('is the same for the same seed and another for another', async () => {
    const numbers: string[] = [];
    for (const seed of [1n, 1n, 2n]) {
      await withMachine(seed, 'max', (machine) => {
        const { rdrand, i8254 } = machineEntropy(machine);
        numbers.push([rdrand(), rdrand(), i8254(false)].join());
      });
    }
    expect(numbers[0]).toBe(numbers[1]);
    expect(numbers[0]).not.toBe(numbers[2]);
  });

  it('has only the sources that CPUID names', () =>
    withMachine(1n, 'qemu64', (machine) => {
      const entropy = machineEntropy(machine);
      expect(entropy.rdrand() !== null).toBe(machine.cpuid.hasRdrand);
      expect(entropy.rdtsc() !== null).toBe(machine.cpuid.hasTsc);
      const counts = [entropy.i8254(false), entropy.i8254(true)];
      for (const count of counts) {
        expect(count).toBeGreaterThanOrEqual(0);
        expect(count).toBeLessThanOrEqual(0xffff);
      }
    }));

  it('cannot be listed for a guest that draws by itself from RDRAND', () =>
    withMachine(0n, 'max', (machine) => {
      const entropy = { kind: 'entropy', rdtsc: [1n] } as const;
      expect(() => kaslrRequest(entropy, machine, 'emulated')).toThrow(
        'KASLR by entropy: on a processor with RDRAND',
      );
    }));

  it('cannot be forced where the guest draws by itself, but listed', () =>
    withMachine(0n, 'qemu64', (machine) => {
      const forced = { kind: 'forced', physical: 0x2000000, virtual: null } as const;
      const entropy = { kind: 'entropy', rdtsc: [1n] } as const;
      expect(() => kaslrRequest(forced, machine, 'emulated')).toThrow('KASLR by phys:');
      // Its RDTSC gives what is listed, and after that the machine's own.
      expect(kaslrRequest(entropy, machine, 'emulated').kind).toBe('draw');
      expect(machine.rdtsc()).toBe(1n);
      expect(machine.rdtsc()).not.toBe(1n);
      expect(kaslrRequest({ kind: 'seed', seed: 1n }, machine, 'emulated').kind).toBe('draw');
      expect(kaslrRequest({ kind: 'off' }, machine, 'emulated')).toEqual({ kind: 'off' });
      expect(kaslrRequest(forced, machine, 'hooked')).toEqual(forced);
    }));
});

describeEachEngine('a survey of what KASLR can choose', (_, engine) => {
  it('is refused for a kernel without KASLR', async () => {
    const survey = surveyKaslr(await image('demo/demo-gzip.bzImage'), { ...OPTIONS, engine }, 0);
    await expect(survey).rejects.toThrow('without KASLR');
  });

  for (const name of ['x64-lz4', 'i386-lz4', 'x64-physical-start-kaslr']) {
    const path = `cache/built/${name}/bzImage`;
    const missing = existsSync(file(path)) ? '' : ' (left out: scripts/build-kernels has not built it)';
    it.skipIf(missing !== '')(`draws for boot n what --kaslr seed:n draws: ${name}${missing}`, async () => {
      const kernel = await image(path);
      const { draws, slots, bits } = await surveyKaslr(kernel, { ...OPTIONS, engine }, 3);
      expect(draws).toHaveLength(3);
      expect(bits).toBe(name.startsWith('i386') ? 32 : 64);
      expect(slots.physicalSlots).toBeGreaterThan(1);
      for (const [index, draw] of draws.entries()) {
        const kaslr = { kind: 'seed', seed: BigInt(index + 1) } as const;
        const finished = await boot(kernel, { ...OPTIONS, engine, kaslr, hash: false, pageTables: false });
        finished.close();
        const { physicalBase, virtualBase } = finished.trace.kernel!;
        expect(physicalBase).toBe(BigInt(draw.physical!));
        if (bits === 64) expect(virtualBase & 0x7fff_ffffn).toBe(BigInt(draw.virtual!));
      }
    });

    it.skipIf(missing !== '')(`finds nothing to choose under nokaslr: ${name}${missing}`, async () => {
      const kernel = await image(path);
      const { draws, slots } = await surveyKaslr(kernel, { ...OPTIONS, engine, cmdline: 'nokaslr' }, 5);
      expect(draws).toEqual([]);
      expect(slots.disabled).toContain('nokaslr');
      expect(cmdlineForGuest(kernel, { cmdline: 'ro', kaslr: { kind: 'off' } })).toBe('ro nokaslr');
      expect(cmdlineForGuest(kernel, { cmdline: '', kaslr: { kind: 'off' } })).toBe('nokaslr');
      expect(cmdlineForGuest(kernel, { cmdline: 'nokaslr ro', kaslr: { kind: 'off' } })).toBe('nokaslr ro');
      expect(cmdlineForGuest(kernel, { cmdline: 'ro', kaslr: { kind: 'seed', seed: 1n } })).toBe('ro');
    });
  }
});
