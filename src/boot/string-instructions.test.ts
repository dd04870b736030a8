// The host's copy or fill against the CPU's own: every case runs three times, and memory and registers must agree.

import { expect, it } from 'vitest';
import { type Cpu, REGISTER_NAMES } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { enterLongMode, enterProtectedMode } from '../cpu/enter-mode.ts';
import { noise } from '../image/test-images.ts';
import { CpuModeReader } from './cpu-mode.ts';
import { NOT_HELD } from './hold.ts';
import { findRepInstructions, hookStringInstruction, type StringOperation } from './string-instructions.ts';

const MIB = 0x10_0000;
const RAM = 8 * MIB;
const CODE = 0x20_0000;
const TABLES = 0x1_0000;
const GDT = 0x8000;
const [CLD, STD, STC, HLT] = [0xfc, 0xfd, 0xf9, 0xf4] as const;

const INSTRUCTIONS = {
  movsb: [0xf3, 0xa4],
  movsd: [0xf3, 0xa5],
  movsq: [0xf3, 0x48, 0xa5],
  stosb: [0xf3, 0xaa],
  stosd: [0xf3, 0xab],
  stosq: [0xf3, 0x48, 0xab],
} as const;
type Name = keyof typeof INSTRUCTIONS;
const WIDTHS: Readonly<Record<Name, number>> = {
  ...{ movsb: 1, movsd: 4, movsq: 8 },
  ...{ stosb: 1, stosd: 4, stosq: 8 },
};

interface Case {
  readonly mode: 'prot32' | 'long64';
  readonly code: readonly number[];
  readonly backward?: boolean;
  readonly rcx: bigint;
  readonly rsi?: bigint;
  readonly rdi: bigint;
  readonly rax?: bigint;
  /** Physical address of the 2 MiB page that linear 0x400000 is mapped to. */
  readonly fourMib?: number;
}

interface Outcome {
  readonly end: string;
  readonly registers: Readonly<Record<string, bigint>>;
  readonly memory: Buffer;
  readonly operations: readonly StringOperation[];
  /** How often the hook looked. */
  readonly calls: number;
}

/** Identity page tables of 2 MiB pages for the first GiB, but for what lies at 4 MiB. */
function writePageTables(ram: Uint8Array, fourMib: number): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setBigUint64(TABLES, BigInt(TABLES + 0x1003), true);
  view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2003), true);
  for (let index = 0; index < 512; index++) {
    // Accessed, for the engine itself looks pages up where hooks come; dirty is the access's own.
    const physical = index === 2 ? fourMib : index * 2 * MIB;
    view.setBigUint64(TABLES + 0x2000 + index * 8, BigInt(physical) | 0xa3n, true);
  }
}

/** `fast`: null runs the instruction without a hook. */
async function run(open: () => Promise<Cpu>, given: Case, fast: boolean | null): Promise<Outcome> {
  const cpu = await open();
  try {
    cpu.mapRam(0, RAM);
    const ram = cpu.ram(0);
    ram.set(noise(2 * MIB, 7), 4 * MIB);
    ram.set([given.backward === true ? STD : CLD, STC, ...given.code, HLT], CODE);
    if (given.mode === 'prot32') {
      enterProtectedMode(cpu, { eip: CODE, gdtAddress: GDT, rsi: 0n, rsp: 0x7000n });
    } else {
      writePageTables(ram, given.fourMib ?? 4 * MIB);
      enterLongMode(cpu, {
        ...{ rip: BigInt(CODE), cr3: BigInt(TABLES), gdtAddress: GDT, rsi: 0n, rsp: 0x7000n },
      });
    }
    cpu.writeRegister('rcx', given.rcx);
    cpu.writeRegister('rsi', given.rsi ?? 0n);
    cpu.writeRegister('rdi', given.rdi);
    cpu.writeRegister('rax', given.rax ?? 0n);
    const operations: StringOperation[] = [];
    let calls = 0;
    if (fast !== null) {
      hookStringInstruction(cpu, CODE + 2, {
        fast,
        mode: new CpuModeReader(cpu),
        onOperation: (operation) => operations.push(operation),
        hold: {
          ...NOT_HELD,
          before: () => {
            calls++;
            return false;
          },
        },
      });
    }
    const end = cpu.run().kind;
    const registers = Object.fromEntries(REGISTER_NAMES.map((name) => [name, cpu.readRegister(name)]));
    return { end, registers, memory: Buffer.from(cpu.ram(0)), operations, calls };
  } finally {
    cpu.close();
  }
}

describeEachEngine('a rep movs or rep stos', (open) => {
  /** Runs it on the host where that is allowed, on the CPU with the hook, and without; returns what was reported. */
  async function same(given: Case): Promise<Outcome> {
    const plain = await run(open, given, null);
    const slow = await run(open, given, false);
    const fast = await run(open, given, true);
    for (const [name, outcome] of Object.entries({ slow, fast })) {
      expect(outcome.end, name).toBe(plain.end);
      expect(outcome.registers, name).toEqual(plain.registers);
      expect(Buffer.compare(outcome.memory, plain.memory), `memory, ${name}`).toBe(0);
    }
    expect(fast.operations).toEqual(slow.operations);
    return fast;
  }

  for (const mode of ['prot32', 'long64'] as const) {
    for (const name of Object.keys(INSTRUCTIONS) as Name[]) {
      // REX.W is another instruction in 32-bit code.
      if (mode === 'prot32' && WIDTHS[name] === 8) continue;
      for (const backward of [false, true]) {
        it(`${name} leaves the same memory and registers in ${mode}, ${backward ? 'backward' : 'forward'}`, async () => {
          const { end, operations, registers } = await same({
            ...{ mode, code: INSTRUCTIONS[name], backward },
            ...{ rcx: 1237n, rsi: 0x40_1003n, rdi: 0x50_0801n, rax: 0x1122_3344_5566_7788n },
          });
          expect(end).toBe('halted');
          expect(registers.rcx).toBe(0n);
          expect(registers.rip).toBe(BigInt(CODE + 2 + INSTRUCTIONS[name].length + 1));
          const length = 1237 * WIDTHS[name];
          const lowest = (pointer: number): number => (backward ? pointer + WIDTHS[name] - length : pointer);
          const copies = name.startsWith('movs');
          expect(operations).toEqual([
            {
              kind: copies ? 'copy' : 'fill',
              address: CODE + 2,
              source: copies ? lowest(0x40_1003) : null,
              target: lowest(0x50_0801),
              length,
            },
          ]);
        });
      }
    }
  }

  const movsq = { mode: 'long64', code: INSTRUCTIONS.movsq } as const;
  const movsd = { mode: 'prot32', code: INSTRUCTIONS.movsd } as const;

  for (const backward of [false, true]) {
    const direction = backward ? 'backward' : 'forward';
    it(`copies over its own source, upward and downward, ${direction}`, async () => {
      for (const distance of [-4096n, -12n, -3n, 0n, 3n, 12n, 4096n]) {
        const rsi = 0x48_0000n;
        const { operations } = await same({ ...movsq, backward, rcx: 2000n, rsi, rdi: rsi + distance });
        expect(operations).toHaveLength(1);
        await same({ ...movsd, backward, rcx: 999n, rsi, rdi: rsi + distance });
      }
    });

    it(`does nothing with a count of zero, ${direction}`, async () => {
      const none = { backward, rcx: 0n, rsi: 0x40_0000n, rdi: 0x50_0000n };
      expect((await same({ ...movsq, ...none })).operations).toEqual([]);
      expect((await same({ ...movsd, ...none })).operations).toEqual([]);
    });
  }

  it('does one iteration', async () => {
    expect((await same({ ...movsq, rcx: 1n, rsi: 0x40_0000n, rdi: 0x50_0000n })).operations).toHaveLength(1);
  });

  it('fills with one byte repeated as with any other value', async () => {
    for (const rax of [0n, 0xffff_ffff_ffff_ffffn, 0xabab_abab_abab_ababn, 0xabab_abab_0000_abacn]) {
      await same({ mode: 'long64', code: INSTRUCTIONS.stosq, rcx: 1001n, rdi: 0x40_0005n, rax });
      await same({ mode: 'long64', code: INSTRUCTIONS.stosd, rcx: 1001n, rdi: 0x40_0005n, rax });
    }
  });

  it('wraps its pointers at the width of an address when it ends at address 0', async () => {
    const wide = await same({ ...movsq, backward: true, rcx: 32n, rsi: 0x40_0000n, rdi: 31n * 8n });
    expect(wide.registers.rdi).toBe(0xffff_ffff_ffff_fff8n);
    const narrow = await same({ ...movsd, backward: true, rcx: 32n, rsi: 0x40_0000n, rdi: 31n * 4n });
    expect(narrow.registers.rdi).toBe(0xffff_fffcn);
    expect(narrow.operations).toHaveLength(1);
  });

  it('leaves it to the CPU when it writes over its own code', async () => {
    await same({ mode: 'long64', code: INSTRUCTIONS.stosb, rcx: 64n, rdi: BigInt(CODE), rax: 0xf4n });
    await same({ ...movsq, rcx: 8n, rsi: 0x40_0000n, rdi: BigInt(CODE) - 56n });
  });

  it('leaves memory outside RAM to the CPU, which then stops', async () => {
    const { end, operations } = await same({ ...movsq, rcx: 512n, rsi: BigInt(RAM - 2048), rdi: 0x40_0000n });
    expect(end).not.toBe('halted');
    expect(operations).toEqual([]);
  });

  it('does what comes before the end of RAM, or before its own code, on the host at once', async () => {
    for (const [rcx, rdi] of [
      [0x7fff_ffffn, BigInt(RAM - 0x10_0000)],
      [0x7fff_ffffn, BigInt(CODE - 0x1_0000)],
    ] as const) {
      const fill = {
        mode: 'long64',
        code: INSTRUCTIONS.stosq,
        rcx,
        rdi,
        rax: 0x9090_9090_9090_9090n,
      } as const;
      const { end, calls } = await same(fill);
      expect(end).not.toBe('halted');
      expect(calls).toBeLessThan(20);
    }
    // A quarter of a million iterations, each of which would read what the one before has written.
    const { calls } = await same({ ...movsq, rcx: 0x4_0000n, rsi: 0x40_0000n, rdi: 0x40_0010n });
    expect(calls).toBe(1);
  });

  it('leaves pages that are mapped elsewhere to the CPU', async () => {
    const elsewhere = { ...movsq, rcx: 512n, rsi: 0x60_0000n, rdi: 0x40_0000n, fourMib: 6 * MIB };
    expect((await same(elsewhere)).operations).toEqual([]);
  });

  it('takes 48h for the DEC that it is in 32-bit code', async () => {
    const dec = { mode: 'prot32', rcx: 16n, rsi: 0x40_0000n, rdi: 0x50_0000n, rax: 5n } as const;
    expect((await same({ ...dec, code: INSTRUCTIONS.movsq })).operations).toEqual([]);
    expect((await same({ ...dec, code: INSTRUCTIONS.stosq })).operations).toEqual([]);
  });
});

it('finds the bytes of each rep movs and rep stos, and no others', () => {
  const code = Uint8Array.from([
    ...[0x90, 0xf3, 0xa4, 0xf3, 0x48, 0xa5, 0xf3, 0xab, 0xf3, 0x48, 0xab, 0xf3, 0xc3],
    ...[0xf2, 0xa4, 0xf3, 0xa6, 0xf3, 0x66, 0xa5, 0x90, 0x90],
  ]);
  expect(findRepInstructions(code, 0, code.length)).toEqual([1, 3, 6, 8]);
  expect(findRepInstructions(code, 2, 6)).toEqual([3]);
  expect(findRepInstructions(code, 0, 1000)).toEqual([1, 3, 6, 8]);
});
