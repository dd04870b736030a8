// The host's part of a fill loop against the CPU doing all of it: memory, registers and the count of instructions must agree.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { blockDecoder } from '../cpu/block-decoder.ts';
import { type Cpu, REGISTER_NAMES, type RegisterName } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { enterLongMode } from '../cpu/enter-mode.ts';
import { noise } from '../image/test-images.ts';
import { CpuModeReader } from './cpu-mode.ts';
import { findFillLoops, hookFillLoop } from './fill-loops.ts';

const MIB = 0x10_0000;
const RAM = 8 * MIB;
const CODE = 0x20_0000;
const TABLES = 0x1_0000;
const HLT = 0xf4;

// What compilers made of memset in kernels of 5.x and 6.x, and variants.
const LOOPS = {
  'mov %sil,(%rcx); add $1,%rcx; cmp %r8,%rcx; jne': [
    [0x40, 0x88, 0x31, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4],
    ['rcx', 'r8', 'rsi'],
  ],
  'mov %dl,(%rax); inc %rax; cmp %rax,%r9; jne': [
    [0x88, 0x10, 0x48, 0xff, 0xc0, 0x49, 0x39, 0xc1, 0x75, 0xf6],
    ['rax', 'r9', 'rdx'],
  ],
  'mov %r10b,(%r11); add $1,%r11; cmp %rax,%r11 (3b); jne': [
    [0x45, 0x88, 0x13, 0x49, 0x83, 0xc3, 0x01, 0x4c, 0x3b, 0xd8, 0x75, 0xf4],
    ['r11', 'rax', 'r10'],
  ],
} as const satisfies Record<string, readonly [readonly number[], readonly RegisterName[]]>;

describe('findFillLoops', () => {
  for (const [name, [code, [pointer, end, value]]] of Object.entries(LOOPS)) {
    it(`knows ${name}`, () => {
      const bytes = Uint8Array.from([0x90, 0x90, ...code, 0xc3]);
      expect(findFillLoops(bytes, 0, bytes.length)).toEqual([
        { offset: 2, code: Uint8Array.from(code), pointer, end, value },
      ]);
      expect(findFillLoops(bytes, 0, bytes.length - 2)).toEqual([]);
    });
  }

  it.each([
    ['steps by two', [0x40, 0x88, 0x31, 0x48, 0x83, 0xc1, 0x02, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    ['steps another register', [0x40, 0x88, 0x31, 0x48, 0x83, 0xc2, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    ['subtracts', [0x40, 0x88, 0x31, 0x48, 0x83, 0xe9, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    ['compares something else', [0x40, 0x88, 0x31, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc2, 0x75, 0xf4]],
    ['jumps elsewhere', [0x40, 0x88, 0x31, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf5]],
    [
      'stores behind the pointer',
      [0x40, 0x88, 0x71, 0x01, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf3],
    ],
    ['stores CH', [0x88, 0x29, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf5]],
    ['stores the pointer', [0x88, 0x09, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf5]],
    ['adds to memory', [0x40, 0x00, 0x31, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    ['stores four bytes', [0x40, 0x89, 0x31, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    ['stores into a register', [0x40, 0x88, 0xf1, 0x48, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf4]],
    // `mov %dl,(%rsp)`, and `mov %dl,(%rip)` with its address.
    ['stores by SIB', [0x88, 0x14, 0x24, 0x48, 0xff, 0xc4, 0x4c, 0x39, 0xc4, 0x75, 0xf5]],
    ['stores to a fixed address', [0x88, 0x15, 0, 0, 0, 0, 0xff, 0xc5, 0x39, 0xc5, 0x75, 0xf4]],
    ['compares with an immediate', [0x40, 0x88, 0x31, 0x48, 0xff, 0xc1, 0x48, 0x83, 0xf9, 0x7f, 0x75, 0xf4]],
    ['decrements', [0x40, 0x88, 0x31, 0x48, 0xff, 0xc9, 0x4c, 0x39, 0xc1, 0x75, 0xf5]],
    ['compares the pointer with itself', [0x40, 0x88, 0x31, 0x48, 0xff, 0xc1, 0x48, 0x39, 0xc9, 0x75, 0xf5]],
    ['tests', [0x40, 0x88, 0x31, 0x48, 0xff, 0xc1, 0x4c, 0x85, 0xc1, 0x75, 0xf5]],
    ['steps 32 bits', [0x40, 0x88, 0x31, 0x83, 0xc1, 0x01, 0x4c, 0x39, 0xc1, 0x75, 0xf5]],
  ])('leaves a loop alone that %s', (_, code) => {
    expect(findFillLoops(Uint8Array.from(code), 0, code.length)).toEqual([]);
  });

  it('finds none in the code of the demo images, which clear memory by rep stos', () => {
    const folder = fileURLToPath(new URL('../../images/demo', import.meta.url));
    for (const name of readdirSync(folder).filter((name) => name.endsWith('gzip.bzImage'))) {
      const bytes = readFileSync(join(folder, name));
      expect(findFillLoops(bytes, 0, bytes.length)).toEqual([]);
    }
  });
});

interface Given {
  readonly loop: keyof typeof LOOPS;
  readonly start: number;
  readonly end: number;
  /** Physical address of the 2 MiB page that linear 0x400000 is mapped to. */
  readonly fourMib?: number;
  /** Other code than what was searched stands there when it runs. */
  readonly changed?: boolean;
}

/** Identity page tables of 2 MiB pages for the first GiB, but for what lies at 4 MiB. */
function writePageTables(ram: Uint8Array, fourMib: number): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
  view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2003), true);
  for (let index = 0; index < 512; index++) {
    view.setBigUint64(
      TABLES + 0x2000 + index * 8,
      BigInt(index === 2 ? fourMib : index * 2 * MIB) | 0x83n,
      true,
    );
  }
}

async function run(open: () => Promise<Cpu>, given: Given, hooked: boolean) {
  const [code, [pointer, end, value]] = LOOPS[given.loop];
  const cpu = await open();
  try {
    cpu.mapRam(0, RAM);
    const ram = cpu.ram(0);
    ram.set(noise(2 * MIB, 7), 4 * MIB);
    ram.set([...code, HLT], CODE);
    const [loop] = findFillLoops(ram.subarray(CODE, CODE + code.length), 0, code.length);
    if (given.changed === true) ram.set([0x90, 0x90, 0x90], CODE);
    writePageTables(ram, given.fourMib ?? 4 * MIB);
    enterLongMode(cpu, {
      ...{ rip: BigInt(CODE), cr3: BigInt(TABLES), gdtAddress: 0x8000, rsi: 0n, rsp: 0x7000n },
    });
    cpu.writeRegister(pointer, BigInt(given.start));
    cpu.writeRegister(end, BigInt(given.end));
    cpu.writeRegister(value, 0x1234_56a5n);
    let iterations = 0;
    const mode = new CpuModeReader(cpu);
    cpu.countInstructions(blockDecoder(cpu.memory, () => 64));
    const before = cpu.instructions ?? 0;
    if (hooked) hookFillLoop(cpu, CODE, loop!, mode);
    const step = BigInt(CODE + (code[0] === 0x88 ? 2 : 3));
    cpu.hookCode(step, step, () => iterations++);
    const { kind } = cpu.run();
    const registers = Object.fromEntries(REGISTER_NAMES.map((name) => [name, cpu.readRegister(name)]));
    const instructions = cpu.instructions! - before;
    return { kind, registers, instructions, memory: Buffer.from(cpu.ram(0)), iterations };
  } finally {
    cpu.close();
  }
}

describeEachEngine('a fill loop', (open) => {
  /** Runs it with and without the hook; returns how many iterations were left to the CPU. */
  async function same(given: Given): Promise<number> {
    const plain = await run(open, given, false);
    const hooked = await run(open, given, true);
    expect({ ...hooked, iterations: 0, memory: null }).toEqual({ ...plain, iterations: 0, memory: null });
    expect(Buffer.compare(hooked.memory, plain.memory)).toBe(0);
    expect(plain.kind).toBe('halted');
    expect(plain.iterations).toBe(given.end - given.start);
    return hooked.iterations;
  }
  const start = 4 * MIB + 100;

  for (const loop of Object.keys(LOOPS) as (keyof typeof LOOPS)[]) {
    it(`leaves the last iteration to the CPU: ${loop}`, async () => {
      expect(await same({ loop, start, end: start + 5001 })).toBe(1);
    });
  }

  const loop = 'mov %sil,(%rcx); add $1,%rcx; cmp %r8,%rcx; jne' as const;
  it.each<[string, Omit<Given, 'loop'>]>([
    ['short', { start, end: start + 20 }],
    ['over memory that is mapped elsewhere', { start, end: start + 600, fourMib: 6 * MIB }],
    ['where other code stands now', { start, end: start + 600, changed: true }],
  ])("is the CPU's own where it is %s", async (_, given) => {
    expect(await same({ loop, ...given })).toBe(given.end - given.start);
  });
});
