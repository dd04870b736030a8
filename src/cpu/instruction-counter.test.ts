import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  BLOCK_COUNTER_WASM,
  ENTRY_SIZE,
  prepareBlockCounter,
  REPEATS,
  STATE,
  STATE_SIZE,
} from './block-counter.ts';
import type { Cpu, DecodedBlock } from './cpu.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterProtectedMode } from './enter-mode.ts';

const MIB = 0x10_0000;
const CODE = MIB;
const LAST_ADDRESS = 0xffff_ffff_ffff_ffffn;

/** Lengths of the instructions that the tests use, by their first byte. */
const LENGTHS: Readonly<Record<number, number>> = {
  ...{ 64: 1, 144: 1, 244: 1, 238: 1, 236: 1, 243: 2, 226: 2, 117: 2, 235: 2, 15: 2, 205: 2 },
  ...{ 185: 5, 191: 5, 190: 5, 186: 5, 198: 7, 161: 5 },
};

function decode(ram: Uint8Array, address: number, size: number): DecodedBlock {
  const starts: number[] = [];
  let at = 0;
  for (; at < size; at += LENGTHS[ram[address + at]!]!) starts.push(at);
  const first = (offset: number): number => ram[address + offset]!;
  return {
    starts,
    ports: starts.filter((offset) => [0xee, 0xec].includes(first(offset))),
    repeats: first(starts.at(-1)!) === 0xf3,
  };
}

describeEachEngine('the count of instructions', (open) => {
  let cpu: Cpu;
  let decoded: number;
  beforeEach(async () => {
    cpu = await open();
  });
  afterEach(() => cpu.close());

  /** 32-bit code at CODE, about to run; what follows it is HLT. */
  function load(code: readonly number[]): Uint8Array {
    cpu.mapRam(0, 8 * MIB);
    const ram = cpu.ram(0);
    ram.set([...code, 0xf4], CODE);
    enterProtectedMode(cpu, { eip: CODE, gdtAddress: 0x8000, rsp: 0x7000n });
    decoded = 0;
    cpu.countInstructions((address, size) => {
      decoded++;
      return decode(cpu.ram(0), address, size);
    });
    return cpu.ram(0);
  }

  it('is exact in loops, each block decoded once', () => {
    // mov $100000, %ecx; 1: inc %eax; nop; loop 1b; hlt
    load([0xb9, 0xa0, 0x86, 0x01, 0x00, 0x40, 0x90, 0xe2, 0xfc]);
    expect(cpu.instructions).toBe(0);
    expect(cpu.run().kind).toBe('halted');
    expect(cpu.instructions).toBe(1 + 3 * 100_000 + 1);
    expect(decoded).toBeLessThan(6);
  });

  it('runs on at the end of a number of instructions for as long as there are more, and ends exactly', () => {
    // mov $100000, %ecx; 1: inc %eax; nop; loop 1b; hlt
    load([0xb9, 0xa0, 0x86, 0x01, 0x00, 0x40, 0x90, 0xe2, 0xfc]);
    const asked: boolean[] = [];
    const further = (): number => {
      asked.push(cpu.instructions! <= 1000 * (asked.length + 1));
      return asked.length < 5 ? 1000 : 0;
    };
    expect(cpu.run({ instructions: 1000, further })).toEqual({ kind: 'slice' });
    expect(cpu.instructions).toBe(5000);
    expect(asked).toEqual([true, true, true, true, true]);
    expect(cpu.run().kind).toBe('halted');
    expect(cpu.instructions).toBe(1 + 3 * 100_000 + 1);
  });

  it('tells the blocks of a hooked range each time, and only while they are hooked', () => {
    // mov $100, %ecx; 1: jmp 2f; 2: nop; loop 1b; hlt
    load([0xb9, 100, 0, 0, 0, 0xeb, 0x00, 0x90, 0xe2, 0xfb]);
    const told = { inner: 0, behind: 0 };
    cpu.run({ instructions: 31 });
    const unhook = cpu.hookBlock(BigInt(CODE + 7), BigInt(CODE + 7), () => {
      told.inner++;
      if (told.inner === 50) unhook();
    });
    cpu.hookBlock(BigInt(CODE + 10), LAST_ADDRESS, () => {
      told.behind++;
      expect(cpu.instructions).toBe(1 + 3 * 100);
    });
    expect(cpu.run().kind).toBe('halted');
    expect(told).toEqual({ inner: 50, behind: 1 });
    expect(cpu.instructions).toBe(1 + 3 * 100 + 1);
  });

  it('has a hooked block left before it is counted where the hook stops or goes elsewhere', () => {
    // 1: nop; jmp 2f; 2: nop; nop; hlt
    load([0x90, 0xeb, 0x00, 0x90, 0x90]);
    let calls = 0;
    cpu.hookBlock(BigInt(CODE + 3), BigInt(CODE + 3), () => {
      if (++calls === 1) cpu.stop();
      else cpu.writeRegister('rip', BigInt(CODE + 4));
    });
    expect(cpu.run().kind).toBe('stopped');
    expect(cpu.instructions).toBe(2);
    expect(cpu.readRegister('rip')).toBe(BigInt(CODE + 3));
    expect(cpu.run().kind).toBe('halted');
    expect(calls).toBe(2);
    expect(cpu.instructions).toBe(4);
  });

  it('is exact in memory hooks, in the middle of a block', () => {
    // nop; movb $1, 0x200000; nop; mov 0x200000, %eax; nop; hlt
    load([0x90, 0xc6, 5, 0, 0, 0x20, 0, 1, 0x90, 0xa1, 0, 0, 0x20, 0, 0x90]);
    const seen: (number | null)[] = [];
    cpu.hookMemoryWrite(0x20_0000n, 0x20_0000n, () => seen.push(cpu.instructions));
    cpu.hookMemoryRead(0x20_0000n, 0x20_0003n, () => seen.push(cpu.instructions));
    expect(cpu.run().kind).toBe('halted');
    expect(seen).toEqual([1, 3]);
  });

  it('takes a repeated string instruction for one, and a LOOP to itself for many', () => {
    // mov $n, %ecx; mov $0x200000, %edi; rep stosb; mov $n, %ecx; loop .; rep stosb (of none); hlt
    const ecx = [0xb9, 0x10, 0x27, 0x00, 0x00];
    load([...ecx, 0xbf, 0, 0, 0x20, 0, 0xf3, 0xaa, ...ecx, 0xe2, 0xfe, 0xf3, 0xaa]);
    cpu.run();
    expect(cpu.instructions).toBe(4 + 10_000 + 1 + 1);
  });

  it('is the same when hooks stop the CPU anywhere, a repeated instruction included', () => {
    const ecx = [0xb9, 0x05, 0x00, 0x00, 0x00];
    const code = [...ecx, 0xbf, 0, 0, 0x20, 0, 0xf3, 0xaa, 0x40, 0x90, ...ecx, 0x40, 0xe2, 0xfd];
    load(code);
    const before: (number | null)[] = [];
    cpu.hookCode(BigInt(CODE), BigInt(CODE + code.length), () => {
      before.push(cpu.instructions);
    });
    cpu.run();
    const total = 3 + 2 + 1 + 2 * 5 + 1;
    expect(cpu.instructions).toBe(total);
    expect(before.at(-1)).toBe(total - 1);
    // Each call sees one more than the call before, but for the iterations of the repeated one.
    expect(new Set(before)).toEqual(new Set(Array.from({ length: total }, (_, index) => index)));
  });

  it('goes on as if nothing had happened after each stop', () => {
    const ecx = [0xb9, 0x05, 0x00, 0x00, 0x00];
    const code = [...ecx, 0xbf, 0, 0, 0x20, 0, 0xf3, 0xaa, 0x40, 0x90, ...ecx, 0x40, 0xe2, 0xfd];
    load(code);
    let skip = false;
    const stops: (number | null)[] = [];
    cpu.hookCode(BigInt(CODE), BigInt(CODE + code.length), () => {
      skip = !skip;
      if (skip) cpu.stop();
    });
    for (let end = cpu.run(); end.kind === 'stopped'; end = cpu.run()) stops.push(cpu.instructions);
    expect(cpu.instructions).toBe(3 + 2 + 1 + 2 * 5 + 1);
    expect(stops.slice(0, 3)).toEqual([0, 1, 2]);
  });

  it.each([
    ['alone', false],
    ['with a code hook somewhere', true],
  ])('is exact when a loop is run in slices, %s', (_, hooked) => {
    // mov $1000000, %ecx; 1: inc %eax; nop; loop 1b; hlt
    const ram = load([0xb9, 0x40, 0x42, 0x0f, 0x00, 0x40, 0x90, 0xe2, 0xfc]);
    if (hooked) cpu.hookCode(0x5000n, 0x5000n, () => {});
    expect(ram[CODE]).toBe(0xb9);
    let slices = 0;
    while (cpu.run({ sliceMilliseconds: 0.01 }).kind === 'slice') slices++;
    expect(slices).toBeGreaterThan(3);
    expect(cpu.instructions).toBe(1 + 3 * 1_000_000 + 1);
  });

  it('ends in time in the middle of a repeated instruction, which counts once however often it goes on', () => {
    // mov $0x600000, %ecx; mov $0x200000, %edi; rep stosb; inc; hlt
    load([0xb9, 0x00, 0x00, 0x60, 0x00, 0xbf, 0x00, 0x00, 0x20, 0x00, 0xf3, 0xaa, 0x40]);
    cpu.writeRegister('rax', 0x77n);
    let slices = 0;
    for (let end = cpu.run({ instructions: 100, sliceMilliseconds: 1 }); end.kind !== 'halted'; slices++) {
      expect(end.kind).toBe('slice');
      const left = cpu.readRegister('rcx');
      if (left > 0n && left < 0x60_0000n) expect(cpu.instructions).toBe(2);
      end = cpu.run({ instructions: 100, sliceMilliseconds: 1 });
    }
    expect(slices).toBeGreaterThan(3);
    expect(cpu.instructions).toBe(5);
    expect(cpu.readRegister('rcx')).toBe(0n);
    expect(
      cpu
        .ram(0)
        .subarray(0x20_0000)
        .every((byte) => byte === 0x77),
    ).toBe(true);
  });

  it('ends in time where the library returns for hooks that come and go, without calling one twice', () => {
    // 1: inc %eax; nop; jmp 1b
    load([0x40, 0x90, 0xeb, 0xfc]);
    let called = 0;
    let other = () => {};
    cpu.hookCode(BigInt(CODE + 1), BigInt(CODE + 1), () => {
      called++;
      other();
      other = cpu.hookCode(0x5000n, 0x5000n, () => {});
    });
    for (let slice = 0; slice < 5; slice++) {
      expect(cpu.run({ instructions: 10_000_000, sliceMilliseconds: 2 }).kind).toBe('slice');
      const eax = Number(cpu.readRegister('rax'));
      expect(called === eax || called === eax - 1).toBe(true);
    }
    expect(called).toBeLessThan(3_000_000);
  });

  it.each([1, 2, 3, 7, 10, 1000].flatMap((step) => [false, true].map((hooked) => ({ step, hooked }))))(
    'ends a run exactly behind $step instructions, and calls hooks once each ($hooked)',
    ({ step, hooked }) => {
      const ecx = [0xb9, 0x05, 0x00, 0x00, 0x00];
      // mov $5, %ecx; mov $0x200000, %edi; rep stosb; inc; nop; mov $5, %ecx; 1: inc; nop; nop; loop 1b; hlt
      const code = [
        ...ecx,
        0xbf,
        0,
        0,
        0x20,
        0,
        0xf3,
        0xaa,
        0x40,
        0x90,
        ...ecx,
        0x40,
        0x90,
        0x90,
        0xe2,
        0xfb,
      ];
      const total = 3 + 2 + 1 + 4 * 5 + 1;
      load(code);
      const repeated = CODE + 10;
      const called: number[] = [];
      if (hooked) {
        cpu.hookCode(BigInt(CODE), BigInt(CODE + code.length), (address) => {
          if (Number(address) !== repeated || called.at(-1) !== cpu.instructions)
            called.push(cpu.instructions!);
        });
      }
      const stops: number[] = [];
      let end = cpu.run({ instructions: step });
      for (; end.kind === 'slice'; end = cpu.run({ instructions: step })) stops.push(cpu.instructions!);
      expect(end.kind).toBe('halted');
      expect(cpu.instructions).toBe(total);
      const slices = Math.floor((total - 1) / step);
      expect(stops).toEqual(Array.from({ length: slices }, (_, index) => (index + 1) * step));
      expect(called).toEqual(hooked ? Array.from({ length: total }, (_, index) => index) : []);
      expect(cpu.readRegister('rax') & 0xffn).toBe(6n);
    },
  );

  it('counts what the host does in place of an instruction, and nothing for a jump between two runs', () => {
    load([0x40, 0x40, 0x90, 0x40, 0x40]);
    const unhook = cpu.hookCode(BigInt(CODE + 2), BigInt(CODE + 2), () => {
      cpu.writeRegister('rip', BigInt(CODE + 3));
    });
    cpu.hookCode(BigInt(CODE + 4), BigInt(CODE + 4), () => cpu.stop());
    cpu.run();
    expect(cpu.instructions).toBe(4);
    unhook();
    cpu.writeRegister('rip', BigInt(CODE + 5));
    cpu.run();
    expect(cpu.instructions).toBe(5);
  });

  it('counts an instruction that raises an exception, and none behind it', () => {
    // inc; ud2; and a software interrupt: inc; int $0x40; inc
    const ram = load([0x40, 0x0f, 0x0b, 0x40, 0xcd, 0x40, 0x40]);
    expect(ram[CODE]).toBe(0x40);
    const seen: (number | null)[] = [];
    cpu.hookInterrupt((_vector, exception) => {
      seen.push(cpu.instructions);
      if (exception !== null) cpu.writeRegister('rip', BigInt(CODE + 3));
    });
    cpu.run();
    expect(seen).toEqual([1, 3]);
    expect(cpu.instructions).toBe(6);
  });

  it('counts code anew that is written over with other code of the same length', () => {
    // Two instructions of 7 bytes, then seven of one byte in their place.
    const ram = load([0xba, 1, 0, 0, 0, 0x75, 0x00, 0xeb, 0x00]);
    cpu.run();
    expect(cpu.instructions).toBe(4);
    ram.set([0x40, 0x40, 0x40, 0x40, 0x40, 0x75, 0x00], CODE);
    cpu.invalidateCode(CODE, 9);
    cpu.writeRegister('rip', BigInt(CODE));
    cpu.run();
    expect(cpu.instructions).toBe(4 + 5 + 1 + 1 + 1);
  });

  it('knows which instruction accesses a port', () => {
    // out; inc; in; out; loop to the first; hlt
    load([0xb9, 2, 0, 0, 0, 0xee, 0x40, 0xec, 0xee, 0xe2, 0xfa]);
    const places: [bigint, number | null][] = [];
    const note = (): void => {
      places.push([cpu.readRegister('rip') - BigInt(CODE), cpu.instructions]);
    };
    cpu.hookOut(note);
    cpu.hookIn(() => {
      note();
      return 0;
    });
    cpu.run();
    expect(places).toEqual([
      ...[[5n, 1] as const, [7n, 3] as const, [8n, 4] as const],
      ...[[5n, 6] as const, [7n, 8] as const, [8n, 9] as const],
    ]);
  });

  it('tells of each block from a hook on, and counts as without', () => {
    // inc eax; jmp to the next block, three times; hlt
    const code = [0x40, 0xeb, 0x00, 0x40, 0xeb, 0x00, 0x40, 0xeb, 0x00, 0xf4];
    load(code);
    cpu.run();
    const { instructions } = cpu;
    cpu.writeRegister('rip', BigInt(CODE));
    const told: number[] = [];
    let unhook = (): void => {};
    cpu.hookCode(BigInt(CODE + 1), BigInt(CODE + 1), () => {
      unhook = cpu.hookEachBlock((address) => {
        told.push(address - CODE);
        if (address === CODE + 6) unhook();
      });
    });
    cpu.run();
    expect(told).toEqual([3, 6]);
    expect(cpu.instructions).toBe(2 * instructions!);
  });

  it('is left before a block by who is told of it', () => {
    load([0x40, 0xeb, 0x00, 0x40, 0xf4]);
    const unhook = cpu.hookEachBlock((address) => {
      if (address === CODE + 3) cpu.stop();
    });
    expect(cpu.run()).toEqual({ kind: 'stopped' });
    expect([cpu.readRegister('rip'), cpu.instructions]).toEqual([BigInt(CODE + 3), 2]);
    unhook();
    expect(cpu.run()).toEqual({ kind: 'halted' });
    expect([cpu.readRegister('rax'), cpu.instructions]).toEqual([2n, 4]);
  });

  it('is the count of a hook on each instruction', () => {
    const ecx = [0xb9, 0x40, 0x00, 0x00, 0x00];
    load([...ecx, 0x40, 0x75, 0x01, 0x90, 0xe2, 0xfa, ...ecx, 0xbf, 0, 0, 0x20, 0, 0xf3, 0xaa, 0x40]);
    let last = -1n;
    let steps = 0;
    cpu.hookBlock(0n, LAST_ADDRESS, () => {});
    cpu.hookCode(0n, LAST_ADDRESS, (address) => {
      if (address !== last) steps++;
      last = address;
    });
    cpu.run({ sliceMilliseconds: 1000 });
    expect(cpu.instructions).toBe(steps);
  });
});

it('has a WebAssembly function that counts known blocks and calls back for others', async () => {
  interface Api {
    readonly Memory: new (limits: { initial: number }) => { readonly buffer: ArrayBuffer };
    instantiate(
      code: Uint8Array,
      imports: object,
    ): Promise<{ instance: { exports: Record<string, (...values: unknown[]) => void> } }>;
  }
  const { Memory, instantiate } = (globalThis as unknown as { WebAssembly: Api }).WebAssembly;
  const memory = new Memory({ initial: 64 });
  const state = 64;
  const ram = 0x20_0000;
  const ramSize = 0x10_0000;
  const called: [bigint, number][] = [];
  const f = (_uc: number, address: bigint, size: number): void => {
    called.push([address, size]);
  };
  const { instance } = await instantiate(BLOCK_COUNTER_WASM, { e: { m: memory, f } });
  const fields = new DataView(memory.buffer, state, STATE_SIZE);
  prepareBlockCounter(new Uint8Array(memory.buffer, state, STATE_SIZE), ram, ramSize);
  const block = (address: number, size: number): void => instance.exports.g!(1, BigInt(address), size, state);
  const remember = (address: number, size: number, count: number): void => {
    const at = STATE.table + (address & 0xffff) * ENTRY_SIZE;
    const code = new DataView(memory.buffer, ram + address);
    const first = code.getBigUint64(0, true);
    fields.setUint32(at, address, true);
    fields.setUint16(at + 4, size, true);
    fields.setUint16(at + 6, count, true);
    fields.setBigUint64(
      at + 8,
      BigInt.asUintN(64, (first << 7n) | (first >> 57n)) ^ code.getBigUint64(size - 8, true),
      true,
    );
  };
  const total = (): bigint => fields.getBigUint64(STATE.total, true);

  new Uint8Array(memory.buffer, ram, ramSize).forEach((_, index, bytes) => {
    bytes[index] = index * 7;
  });
  block(0x12345, 20);
  expect(called).toEqual([[0x12345n, 20]]);
  remember(0x12345, 20, 6);
  block(0x12345, 20);
  block(0x12345, 20);
  expect([total(), called.length, fields.getUint32(STATE.counted, true)]).toEqual([12n, 1, 6]);
  block(0x12345, 19);
  block(0x22345, 20);
  expect(called.length).toBe(3);
  // Other code: its first byte, its last.
  for (const byte of [0x12345, 0x12345 + 19]) {
    new Uint8Array(memory.buffer, ram)[byte]! ^= 0x80;
    block(0x12345, 20);
    new Uint8Array(memory.buffer, ram)[byte]! ^= 0x80;
  }
  expect([total(), called.length]).toEqual([12n, 5]);
  remember(0x300, 9, 4 | REPEATS);
  block(0x300, 9);
  expect([total(), fields.getBigUint64(STATE.repeatEnd, true)]).toEqual([16n, 0x309n]);
  block(0x307, 2);
  block(0x307, 2);
  expect([total(), called.length, fields.getUint32(STATE.counted, true)]).toEqual([16n, 5, 0]);
  block(0x12345, 20);
  expect([total(), fields.getBigUint64(STATE.repeatEnd, true)]).toEqual([22n, 0n]);
  for (const address of [0, 7, ramSize - 8, 0xffff_fff0, 0xffff_ffff_ffff]) block(address, 4);
  expect([total(), called.length]).toEqual([22n, 10]);
});
