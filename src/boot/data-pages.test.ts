// A guest whose data is mapped without execution while it runs must leave what it leaves otherwise: memory with its page tables,
// registers, and the count of instructions.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { blockDecoder } from '../cpu/block-decoder.ts';
import { type Cpu, REGISTER_NAMES } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { enterLongMode } from '../cpu/enter-mode.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { DataPages } from './data-pages.ts';
import { openBoot } from './session.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));
const MIB = 0x10_0000;
const RAM = 16 * MIB;
/** All of RAM but for the last 2 MiB is mapped. */
const MAPPED = 7;
const CODE = 2 * MIB;
const TABLES = 0x1_0000;
const PAGE_DIRECTORY = TABLES + 0x2000;
const PAGE_FAULT = 14;
const NO_EXECUTE = 1n << 63n;
const ACCESSED_DIRTY = 0x60n;
const HLT = 0xf4;
const RET = 0xc3;

/** Identity page tables of 2 MiB pages, none of them used yet. */
function writePageTables(memory: Cpu['memory']): void {
  memory.write64(TABLES, BigInt(TABLES + 0x1003));
  memory.write64(TABLES + 0x1000, BigInt(PAGE_DIRECTORY + 3));
  for (let index = 0; index < MAPPED; index++) {
    memory.write64(PAGE_DIRECTORY + index * 8, BigInt(index * 2 * MIB) | 0x83n);
  }
}

const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
/** `call address` at `at`. */
const call = (at: number, address: number): number[] => [0xe8, ...word(address - at - 5)];
/** `movl $value, address`. */
const store = (address: number, value: number): number[] => [
  ...[0xc7, 0x04, 0x25],
  ...word(address),
  ...word(value),
];

/** Instructions laid one behind the other from `CODE` on. */
function program(...parts: readonly (readonly number[] | ((at: number) => number[]))[]): number[] {
  const code: number[] = [];
  for (const part of parts) code.push(...(typeof part === 'function' ? part(CODE + code.length) : part));
  return code;
}

/** `mov $value, %eax; add %eax, %ebx; ret`, in eight bytes. */
const addTo = (value: number): number[] => [0xb8, ...word(value), 0x01, 0xc3, RET];

interface Outcome {
  readonly kind: string;
  readonly registers: Readonly<Record<string, bigint>>;
  readonly instructions: number;
  readonly memory: Buffer;
  /** The page directory as it was at each page fault. */
  readonly faults: readonly bigint[][];
}

async function run(open: () => Promise<Cpu>, code: readonly number[], asData: boolean): Promise<Outcome> {
  const cpu = await open();
  try {
    cpu.mapRam(0, RAM);
    const { memory } = cpu;
    writePageTables(memory);
    memory.view(CODE, code.length).set(code);
    memory.view(CODE + 0x1000, 8).set(addTo(3));
    memory.view(4 * MIB, 8).set(addTo(5));
    const faults: bigint[][] = [];
    const pages = new DataPages(cpu, () => true);
    cpu.hookInterrupt((vector, exception) => {
      if (asData && pages.onException(vector, exception?.errorCode ?? 0)) return;
      expect(vector).toBe(PAGE_FAULT);
      faults.push(Array.from({ length: MAPPED }, (_, index) => memory.read64(PAGE_DIRECTORY + index * 8)));
      // Behind the store of eleven bytes.
      cpu.writeRegister('rip', cpu.readRegister('rip') + 11n);
    });
    enterLongMode(cpu, {
      ...{ rip: BigInt(CODE), cr3: BigInt(TABLES), gdtAddress: 0x8000, rsi: 0n, rsp: 0x7000n },
    });
    cpu.countInstructions(blockDecoder(memory, () => 64));
    if (asData) cpu.watcher = pages;
    if (asData) cpu.hookInstruction('rdmsr', () => pages.giveBack());
    // In two runs, so that the tables are put back in between.
    let { kind } = cpu.run({ instructions: 4 });
    for (let index = 0; index < MAPPED; index++) {
      expect(memory.read64(PAGE_DIRECTORY + index * 8) & ~ACCESSED_DIRTY).toBe(
        BigInt(index * 2 * MIB) | 0x83n,
      );
    }
    if (kind === 'slice') ({ kind } = cpu.run());
    const registers = Object.fromEntries(REGISTER_NAMES.map((name) => [name, cpu.readRegister(name)]));
    return { kind, registers, instructions: cpu.instructions!, memory: Buffer.from(cpu.ram(0)), faults };
  } finally {
    cpu.close();
  }
}

const PROGRAMS: readonly (readonly [string, readonly number[]])[] = [
  [
    'writes to its own page, its large page and others',
    program(store(CODE + 0x800, 1), store(CODE + 0x3000, 2), store(6 * MIB, 3), store(0x9_0000, 4), [HLT]),
  ],
  [
    'calls code in another small and in another large page',
    program(
      [0x31, 0xdb],
      (at) => call(at, CODE + 0x1000),
      (at) => call(at, 4 * MIB),
      [HLT],
    ),
  ],
  [
    'writes over code in pages that were data, had code, and have it again',
    program(
      [0x31, 0xdb],
      store(4 * MIB + 0x5000, 0x11b8),
      store(4 * MIB + 0x5004, 0xc3c3_0100),
      (at) => call(at, 4 * MIB + 0x5000),
      store(4 * MIB + 0x5000, 0x22b8),
      (at) => call(at, 4 * MIB + 0x5000),
      store(CODE + 0x1000, 0x33b8),
      (at) => call(at, CODE + 0x1000),
      [HLT],
    ),
  ],
  [
    'reads EFER, whose bit it has not set',
    program(store(6 * MIB, 3), [0xb9, ...word(0xc000_0080), 0x0f, 0x32], store(6 * MIB + 8, 3), [HLT]),
  ],
  [
    'has a page fault of its own between',
    program(store(6 * MIB, 3), store(15 * MIB, 1), store(6 * MIB + 8, 3), (at) => call(at, 4 * MIB), [HLT]),
  ],
];

describeEachEngine('a guest that', (open) => {
  it.each(PROGRAMS)('%s', async (_, code) => {
    const plain = await run(open, code, false);
    const asData = await run(open, code, true);
    expect({ ...asData, memory: null }).toEqual({ ...plain, memory: null });
    expect(Buffer.compare(asData.memory, plain.memory)).toBe(0);
    expect(plain.kind).toBe('halted');
    for (const entry of plain.faults.flat()) expect(entry & NO_EXECUTE).toBe(0n);
  });
});

describeEachEngine('a guest that decompresses by itself', (_, engine) => {
  async function stops(shortcuts: boolean): Promise<readonly unknown[]> {
    const image = await readKernelImage('demo', readFileSync(join(DEMO, 'demo-zstd.bzImage')));
    using session = await openBoot(image, {
      ...{ engine, shortcuts, decompress: 'emulated', memory: 64 << 20, cmdline: 'nokaslr' },
    });
    const { instructions } = await session.run({ until: 'extract_kernel' });
    const seen: unknown[] = [];
    for (const further of [10, 600_123, null]) {
      const stop = await session.run(
        further === null ? {} : { until: { kind: 'count', instructions: instructions! + further } },
      );
      const { ram } = session.machine;
      seen.push([stop, session.registers, createHash('sha1').update(ram).digest('hex')]);
    }
    return seen;
  }

  it('is the same with and without the shortcuts wherever it is looked at', async () => {
    expect(await stops(true)).toEqual(await stops(false));
  });
});
