import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { readKernelImage } from '../image/kernel-image.ts';
import { readLoaderState, STATE_REGISTERS, type StateRegister } from '../image/loader-state.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { planLoading } from './loader-plan.ts';
import type { BootOptions } from './options.ts';
import { openBoot } from './session.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-state-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = fileURLToPath(new URL('../../images/demo/demo-gzip.bzImage', import.meta.url));
const demo = await readKernelImage(path, readFileSync(path));
const initrd = { path: 'initrd', bytes: new TextEncoder().encode('070701'.padEnd(512, '0')) };
const LOW = 0x100000;
/** Where the initrd of 512 bytes lies. */
const INITRD = 0x1800000;
const MEMORY = 32 << 20;

type Handover = 'real16' | 'prot32' | 'long64';

/** A state as it is written into a folder, to be changed before. */
interface Prepared {
  readonly registers: Record<StateRegister, bigint>;
  gdtr: { base: string; limit: number };
  readonly low: DataView;
  readonly high: DataView;
  /** Of boot_params, or of setup. */
  readonly params: number;
}

let states = 0;

/** What our own loader leaves, changed, judged again from the folder that holds it. */
async function stateOf(entry: Handover, change: (prepared: Prepared) => void = () => {}): Promise<string> {
  using session = await openBoot(demo, {
    ...{ entry, memory: MEMORY, cmdline: 'nokaslr quiet', initrd, initrdAddress: INITRD },
  });
  const { registers, machine, memory } = session;
  const { base, limit } = machine.cpu.readDescriptorTable('gdtr');
  const low = memory.read(0, LOW);
  const high = memory.read(LOW, 0x10000);
  const prepared: Prepared = {
    registers: Object.fromEntries(STATE_REGISTERS.map((name) => [name, registers[name]])) as never,
    gdtr: { base: String(base), limit },
    low: new DataView(low.buffer),
    high: new DataView(high.buffer),
    params: entry === 'real16' ? 0x90000 : Number(registers.rsi),
  };
  change(prepared);
  const to = join(folder, `state-${states++}`);
  mkdirSync(to);
  writeFileSync(join(to, 'low'), low);
  writeFileSync(join(to, 'high'), high);
  writeFileSync(join(to, 'initrd'), initrd.bytes);
  const texts = Object.entries(prepared.registers).map(([name, value]) => [name, `0x${value.toString(16)}`]);
  const memoryFiles = [
    { file: 'low', address: 0 },
    { file: 'high', address: '0x100000' },
    { file: 'initrd', address: INITRD },
  ];
  const json = {
    image: path,
    registers: Object.fromEntries(texts),
    gdtr: prepared.gdtr,
    memory: memoryFiles,
  };
  writeFileSync(join(to, 'state.json'), JSON.stringify(json));
  return to;
}

async function judged(entry: Handover, change?: (prepared: Prepared) => void) {
  const to = await stateOf(entry, change);
  const options: Partial<BootOptions> = { state: readLoaderState(to), memory: MEMORY };
  using session = await openBoot(demo, options);
  rmSync(to, { recursive: true });
  return session.trace().hazards.map(({ code, text }) => ({ code, text }));
}

const field = (name: Parameters<typeof bootParamsOffset>[0], { params }: Prepared): number =>
  params + bootParamsOffset(name);

describe('the state that a loader leaves', () => {
  it.each(['real16', 'prot32', 'long64'] as const)(
    'is clean by %s as our own loader makes it',
    async (entry) => {
      expect(await judged(entry)).toEqual([]);
    },
  );

  const wrong: readonly [string, Handover, (prepared: Prepared) => void, string, string][] = [
    [
      'a field of the header that was not copied',
      'prot32',
      (to) => to.low.setUint32(field('init_size', to), 0, true),
      'handover-header',
      'init_size is 0x0 where the kernel looks, the image has 0x41000',
    ],
    [
      'a byte of the code',
      'prot32',
      (to) => to.high.setUint8(0x1234, to.high.getUint8(0x1234) ^ 0xff),
      'handover-code',
      'but at 0x101234 there is',
    ],
    [
      'type_of_loader 0',
      'long64',
      (to) => to.low.setUint8(field('type_of_loader', to), 0),
      'handover-loader-type',
      'type_of_loader is 0: the kernel then does not look for an initrd',
    ],
    [
      'loadflags without LOADED_HIGH',
      'prot32',
      (to) => to.low.setUint8(field('loadflags', to), 0),
      'handover-load-flags',
      'loadflags 0x0 lack LOADED_HIGH',
    ],
    [
      'loadflags without CAN_USE_HEAP',
      'real16',
      (to) => to.low.setUint8(field('loadflags', to), 1),
      'handover-load-flags',
      'loadflags 0x1 lack CAN_USE_HEAP',
    ],
    [
      'heap_end_ptr in setup itself',
      'real16',
      (to) => to.low.setUint16(field('heap_end_ptr', to), 0x100, true),
      'handover-heap-end',
      'heap_end_ptr 0x100 ends the heap at 0x300',
    ],
    [
      'a command line without an end',
      'prot32',
      (to) => {
        const at = to.low.getUint32(field('cmd_line_ptr', to), true);
        for (let index = 0; index < 4096; index++) to.low.setUint8(at + index, 0x61);
      },
      'handover-command-line',
      'has no NUL within the 2047 characters',
    ],
    [
      'a command line where there is no RAM',
      'long64',
      (to) => to.low.setUint32(field('cmd_line_ptr', to), 0x40000000, true),
      'handover-command-line',
      'cmd_line_ptr 0x40000000 points to where there is no RAM',
    ],
    [
      'an initrd above initrd_addr_max',
      'prot32',
      (to) => to.low.setUint32(field('ramdisk_image', to), 0x38000000, true),
      'initrd-above-max',
      'ends above initrd_addr_max 0x37ffffff',
    ],
    [
      'an initrd without a size',
      'prot32',
      (to) => to.low.setUint32(field('ramdisk_size', to), 0, true),
      'handover-initrd',
      'ramdisk_image is 0x1800000, but ramdisk_size is 0',
    ],
    [
      'an empty E820 map',
      'long64',
      (to) => to.low.setUint8(field('e820_entries', to), 0),
      'handover-memory-map',
      'the memory map has no entries',
    ],
    [
      'an E820 entry with its end for its size',
      'prot32',
      (to) => to.low.setBigUint64(field('e820_table', to) + 8, 0xffff_ffff_0000_0000n, true),
      'handover-memory-map',
      'ends beyond 52 address bits',
    ],
    [
      'no room for init_size',
      'prot32',
      (to) => to.low.setUint32(field('ramdisk_image', to), 0x1000000, true),
      'run-area-overlap',
      'the kernel takes 0x1000000..0x1041000 (init_size 0x41000)',
    ],
    [
      'a data segment of another selector',
      'prot32',
      (to) => {
        to.registers.ds = 0x10n;
      },
      'handover-segments',
      'DS is 0x10, boot.rst wants 0x18 (__BOOT_DS)',
    ],
    [
      'a code descriptor that is data',
      'prot32',
      (to) => to.low.setBigUint64(Number(to.gdtr.base) + 0x10, 0x00cf_9300_0000_ffffn, true),
      'handover-segments',
      'CS is 0x10, and its descriptor 0xcf93000000ffff is data',
    ],
    [
      'a GDT that ends too soon',
      'long64',
      (to) => {
        to.gdtr = { ...to.gdtr, limit: 0x17 };
      },
      'handover-segments',
      'DS is 0x18, and the GDT ends before it (limit 0x17)',
    ],
    [
      'page tables that do not map what the kernel runs in',
      'long64',
      // The page directory entry of 0x1000000, at the loader's third table.
      (to) => to.low.setBigUint64(Number(to.registers.cr3) + 0x2000 + 8 * 8, 0n, true),
      'handover-page-tables',
      'do not map what the kernel runs in (init_size), 0x1000000..0x1041000, to itself',
    ],
    [
      'interrupts that are on',
      'prot32',
      (to) => {
        to.registers.rflags |= 0x200n;
      },
      'handover-registers',
      'interrupts (bit 9) are on',
    ],
    [
      'a register that is not 0',
      'prot32',
      (to) => {
        to.registers.rbp = 0x1234n;
      },
      'handover-registers',
      'EBP is 0x1234',
    ],
    [
      'garbage in boot_params',
      'long64',
      (to) => to.low.setUint8(field('sentinel', to), 0xff),
      'handover-boot-params',
      'the sentinel of boot_params is 0xff',
    ],
    [
      'a data segment that is not setup’s',
      'real16',
      (to) => {
        to.registers.ds = 0n;
      },
      'handover-segments',
      "DS is 0x0, and setup's segment is 0x9000",
    ],
  ];
  it.each(wrong)('is named for %s, by %s', async (_name, entry, change, code, text) => {
    const hazards = await judged(entry, change);
    expect(hazards.find((hazard) => hazard.code === code)?.text).toContain(text);
    // What lies where there is no RAM, or no initrd, is told of, too.
    const alike = [code, 'beyond-ram', 'initrd-content'];
    const others = hazards.filter((hazard) => !alike.includes(hazard.code));
    expect(others).toEqual([]);
  });

  it('is judged by what a plan says', async () => {
    const long64 = (await planLoading(demo)).find(({ entry }) => entry === 'long64')!;
    expect(long64.cpu).toContain('64-bit mode, interrupts off, RSI = boot_params');
    expect(long64.fields).toContain('loadflags: with LOADED_HIGH');
  });

  it('is gone on from to the kernel, by the same instructions as without it', async () => {
    for (const entry of ['real16', 'prot32', 'long64'] as const) {
      using straight = await openBoot(demo, {
        ...{ entry, memory: MEMORY, cmdline: 'nokaslr quiet', initrd, initrdAddress: INITRD },
      });
      await straight.run();
      const to = await stateOf(entry);
      using session = await openBoot(demo, { state: readLoaderState(to), memory: MEMORY });
      await session.run();
      const [trace, other] = [session.trace(), straight.trace()];
      expect(trace.kernel).toEqual(other.kernel);
      expect(trace.machine.cmdline).toBe('nokaslr quiet');
      const places = (phases: typeof trace.phases) =>
        phases.map(({ name, address, instructions }) => ({ name, address, instructions }));
      expect(places(trace.phases)).toEqual(places(other.phases));
      await session.goTo('extract_kernel');
      expect(session.phase).toBe('extract_kernel');
      rmSync(to, { recursive: true });
    }
  });
});

describe('a folder with a state', () => {
  const write = (name: string, files: Record<string, string>): string => {
    const to = join(folder, name);
    mkdirSync(to);
    for (const [file, text] of Object.entries(files)) writeFileSync(join(to, file), text);
    return to;
  };
  const json = (value: object): Record<string, string> => ({
    'state.json': JSON.stringify(value),
    dump: 'bytes',
  });

  it.each([
    ['nothing in it', {}, 'neither an ELF core of dump-guest-memory nor a state.json'],
    ['no JSON', { 'state.json': '{' }, 'it is no JSON'],
    ['a register that is none', json({ registers: { xip: 1 } }), 'there is no register xip'],
    ['a number that is none', json({ registers: { rip: 'x' } }), 'registers.rip is "x", no number'],
    ['a key that is none', json({ regs: {} }), 'regs is none of image, registers, gdtr, memory'],
    ['a dump that is not there', json({ memory: [{ file: 'gone', address: 0 }] }), 'cannot be read'],
    [
      'memory that is told of twice',
      json({
        memory: [
          { file: 'dump', address: 0 },
          { file: 'dump', address: 4 },
        ],
      }),
      'tells of the memory 0x4..0x5 twice',
    ],
    [
      'more wanted than a dump has',
      json({ memory: [{ file: 'dump', address: 0, size: 6 }] }),
      'has 5 bytes from 0 on, 6 are wanted',
    ],
  ])('is refused with %s', (name, files, message) => {
    expect(() => readLoaderState(write(name, files))).toThrow(message);
  });

  it('needs the registers that its entry goes by', async () => {
    const to = write('without', { dump: 'bytes' });
    writeFileSync(
      join(to, 'state.json'),
      JSON.stringify({ registers: { cr0: 1, rip: 0x100000 }, memory: [{ file: 'dump', address: 0 }] }),
    );
    await expect(openBoot(demo, { state: readLoaderState(to) })).rejects.toThrow(
      'does not tell rsi, which prot32 goes by',
    );
  });
});
