// `verify` on the demo images, and on boots whose memory or registers were tampered with on the way.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../cpu/native.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import type { RegisterSnapshot } from '../trace/boot-trace.ts';
import { boot, type FinishedBoot } from './boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { compareBoots, verify } from './verify.ts';

type Tamper = (boot: FinishedBoot) => FinishedBoot;
const MEMORY = 64 << 20;
const OPTIONS: BootOptions = { ...DEFAULT_BOOT_OPTIONS, memory: MEMORY };

function demo(name: string): Promise<KernelImage> {
  const path = fileURLToPath(new URL(`../../images/demo/${name}`, import.meta.url));
  return readKernelImage(name, readFileSync(path));
}

const AS_IT_IS: Tamper = (finished) => finished;

async function verifyTampered(tamper: Tamper, tamperHooked: Tamper = AS_IT_IS) {
  const image = await demo('demo-gzip.bzImage');
  const emulated = await boot(image, { ...OPTIONS, decompress: 'emulated' });
  const hooked = await boot(image, OPTIONS);
  try {
    return compareBoots(image, tamperHooked(hooked), tamper(emulated));
  } finally {
    hooked.close();
    emulated.close();
  }
}

const why = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';
describe.skipIf(why !== '')(`hooked and emulated${why}`, () => {
  for (const name of ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'lz4', 'zstd', 'i386']) {
    it(`agree on every byte and register that counts (${name})`, async () => {
      const result = await verify(await demo(`demo-${name}.bzImage`), OPTIONS);
      expect(result.problems).toEqual([]);
      const unexpected = [...result.memory, ...result.registers].filter(({ expected }) => expected === null);
      expect(unexpected).toEqual([]);
      expect(result.equal).toBe(true);
      expect(result.emulated.machine.decompress).toBe('emulated');
      expect(result.hooked.machine.decompress).toBe('hooked');
    });
  }

  it('differ by one byte of a segment: its address and region are named', async () => {
    let at = 0;
    const result = await verifyTampered((boot) => {
      at = Number(boot.trace.kernel!.segments[1]!.paddr) + 0x123;
      boot.machine.ram[at]! ^= 1;
      return boot;
    });
    expect(result.equal).toBe(false);
    const found = result.memory.filter(({ expected }) => expected === null);
    expect(found).toMatchObject([{ start: at, end: at + 1, bytes: 1 }]);
    expect(found[0]!.region).not.toBe('no region');
  });

  it('differ by one byte of boot_params, and by one that lies in no region', async () => {
    let bootParams = 0;
    const result = await verifyTampered((boot) => {
      bootParams = Number(boot.trace.kernel!.bootParams);
      boot.machine.ram[bootParams + 0x1e8]! ^= 1;
      boot.machine.ram[48 << 20]! ^= 1;
      return boot;
    });
    expect(result.equal).toBe(false);
    const found = result.memory.filter(({ expected }) => expected === null);
    expect(found).toMatchObject([
      { start: bootParams + 0x1e8, bytes: 1, region: expect.stringContaining('boot_params') },
      { start: 48 << 20, bytes: 1, region: 'no region' },
    ]);
  });

  it('differ by a register that the kernel gets, not by one that functions may change', async () => {
    const change = (name: keyof RegisterSnapshot): Tamper => {
      return (boot) => {
        const phases = boot.trace.phases.map((phase) => ({
          ...phase,
          registers: { ...phase.registers, [name]: 0x1234_5678n },
        }));
        return { ...boot, trace: { ...boot.trace, phases } };
      };
    };
    const rsi = await verifyTampered(change('rsi'));
    expect(rsi.equal).toBe(false);
    expect(rsi.registers.find(({ name }) => name === 'rsi')).toMatchObject({
      ...{ emulated: 0x1234_5678n, expected: null },
    });
    const r11 = await verifyTampered(change('r11'));
    expect(r11.equal).toBe(true);
  });

  it('differ by entry, segments, console, or an end before the kernel', async () => {
    const { problems } = await verifyTampered((boot) => {
      const kernel = boot.trace.kernel!;
      const segments = kernel.segments.map((segment) => ({ ...segment, sha256: 'other' }));
      return {
        ...boot,
        trace: { ...boot.trace, console: 'other', kernel: { ...kernel, entry: 1n, segments } },
      };
    });
    expect(problems.map((problem) => problem.split(':')[0])).toEqual([
      ...['entry', 'segment 0', 'segment 1', 'console'],
    ]);
    const more = await verifyTampered((boot) => {
      const kernel = boot.trace.kernel!;
      const segments = [...kernel.segments, kernel.segments[0]!];
      return { ...boot, trace: { ...boot.trace, kernel: { ...kernel, segments } } };
    });
    expect(more.problems.map((problem) => problem.split(',')[0])).toEqual(['segment 2: hooked none']);
    const ended = await verifyTampered((boot) => ({
      ...boot,
      trace: { ...boot.trace, kernel: null, stopped: 'the guest halted' },
    }));
    expect(ended.problems).toEqual(['emulated: no kernel was reached: the guest halted']);
    expect(ended.equal).toBe(false);
  });

  it('differ by a phase that lies elsewhere, is in another mode or is missing', async () => {
    const { problems } = await verifyTampered((boot) => {
      const phases = boot.trace.phases
        .filter(({ name }) => name !== 'relocated')
        .map((phase) => ({
          ...phase,
          ...(phase.name === 'startup_32' ? { address: 0n } : {}),
          ...(phase.name === 'startup_64' ? { mode: 'prot32' as const } : {}),
        }));
      return { ...boot, trace: { ...boot.trace, phases } };
    });
    expect(problems).toEqual([
      'phase startup_32: hooked 0x100000 prot32, emulated 0x0 prot32',
      'phase startup_64: hooked 0x100200 long64, emulated 0x100200 prot32',
      expect.stringMatching(/^phase relocated: hooked 0x[0-9a-f]+ long64, emulated none$/),
    ]);
  });

  /** A boot whose registers at the jump are changed. */
  const withRegisters = (change: Partial<RegisterSnapshot>): Tamper => {
    return (boot) => {
      const phases = boot.trace.phases.map((phase) => ({
        ...phase,
        registers: { ...phase.registers, ...change },
      }));
      return { ...boot, trace: { ...boot.trace, phases } };
    };
  };

  it('differ by RAX where the stub jumps to what extract_kernel returns', async () => {
    const { equal, registers } = await verifyTampered(withRegisters({ rax: 0x1234n }));
    expect(registers.find(({ name }) => name === 'rax')).toMatchObject({ emulated: 0x1234n, expected: null });
    expect(equal).toBe(false);
  });

  it('differ by GDTR and IDTR', async () => {
    const { registers } = await verifyTampered((boot) => {
      const phases = boot.trace.phases.map((phase) => ({
        ...phase,
        gdtr: { ...phase.gdtr, limit: phase.gdtr.limit + 8 },
        idtr: { ...phase.idtr, base: 0x1234n },
      }));
      return { ...boot, trace: { ...boot.trace, phases } };
    });
    expect(registers.filter(({ expected }) => expected === null).map(({ name }) => name)).toEqual([
      'gdtr limit',
      'idtr base',
    ]);
  });

  it('may differ below the stack pointer, and by what the CPU notes of pages', async () => {
    let rsp = 0;
    let table = 0;
    const result = await verifyTampered((boot) => {
      const { ram } = boot.machine;
      const { regions, registers } = boot.trace.phases.at(-1)!;
      rsp = Number(registers.rsp);
      ram[rsp - 0x40]! ^= 1;
      // An entry that maps memory nobody comes to.
      table = Number(regions.find(({ name }) => name === 'page tables in force')!.start) + 0x2000 + 8 * 100;
      ram[table]! ^= 0x60;
      return boot;
    });
    expect(result.equal).toBe(true);
    const expected = (start: number) =>
      result.memory.find((each) => each.start <= start && start < each.end)?.expected ?? null;
    expect(expected(rsp - 0x40)).toContain('below the stack pointer');
    expect(expected(table)).toContain('accessed and dirty bits');
  });

  it('differ by any other bit of a page table', async () => {
    const { equal } = await verifyTampered((boot) => {
      const { regions } = boot.trace.phases.at(-1)!;
      const table =
        Number(regions.find(({ name }) => name === 'page tables in force')!.start) + 0x2000 + 8 * 100;
      boot.machine.ram[table]! ^= 0x62;
      return boot;
    });
    expect(equal).toBe(false);
  });

  it('is told of the one that came to no kernel, whichever it is', async () => {
    const { problems, equal } = await verifyTampered(AS_IT_IS, (finished) => ({
      ...finished,
      trace: { ...finished.trace, kernel: null, stopped: 'it gave up' },
    }));
    expect(problems).toEqual(['hooked: no kernel was reached: it gave up']);
    expect(equal).toBe(false);
  });

  it('is not claimed to agree where nothing could be compared', async () => {
    const result = await verify(await demo('demo.zImage'), OPTIONS);
    if (result.hooked.machine.decompress === 'emulated') {
      expect(result.equal).toBe(false);
      expect(result.problems.join()).toContain('nothing was compared');
    } else {
      expect(result.equal).toBe(true);
    }
  });
});
