// The machine as a whole: limits, what firmware leaves in memory, CPUID and randomness as the guest sees them.

import { afterEach, describe, expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { Entropy } from './entropy.ts';
import type { Machine, MachineOptions } from './machine.ts';
import { call, load, type ProgramResult, runProgram } from './real-mode-program.ts';

const MIB = 1024 * 1024;
const CPUID = [0x0f, 0xa2];
const RDRAND_EAX = [0x66, 0x0f, 0xc7, 0xf0];
const RDRAND_CX = [0x0f, 0xc7, 0xf1];
const HLT = 0xf4;

describeEachEngine('Machine', (open) => {
  let cpu: Cpu | null = null;

  afterEach(() => {
    cpu?.close();
    cpu = null;
  });

  const run = async (
    code: readonly number[],
    options: Partial<MachineOptions> = {},
    prepare?: (machine: Machine) => void,
  ): Promise<ProgramResult> => {
    cpu?.close();
    cpu = await open();
    return runProgram(cpu, code, options, prepare);
  };

  it.each([2 * MIB, 4 * MIB - 4096, 64 * MIB + 1])('refuses %i bytes of memory', async (memory) => {
    await expect(run([HLT], { memory })).rejects.toThrow(
      `memory of ${memory} bytes is less than 4 MiB, or not whole pages`,
    );
  });

  it('has the BIOS data where programs look for it', async () => {
    const { machine } = await run([HLT], { floppy: new Uint8Array(1) });
    const { memory } = machine;
    expect({
      com1: memory.read16(0x400),
      com2: memory.read16(0x402),
      ebda: memory.read16(0x40e),
      equipment: memory.read16(0x410),
      kilobytes: memory.read16(0x413),
      mode: memory.read8(0x449),
      columns: memory.read16(0x44a),
      rows: memory.read8(0x484),
      fontHeight: memory.read16(0x485),
      ebdaSize: memory.read8(0x9fc00),
      model: memory.read8(0xffffe),
      date: new TextDecoder().decode(memory.copyOut(0xffff5, 8)),
    }).toEqual({
      com1: 0x3f8,
      com2: 0,
      ebda: 0x9fc0,
      equipment: 0x0223,
      kilobytes: 639,
      mode: 3,
      columns: 80,
      rows: 24,
      fontHeight: 16,
      ebdaSize: 1,
      model: 0xfc,
      date: '06/23/99',
    });
  });

  it('points every vector that is code at the ROM', async () => {
    const { machine } = await run([HLT]);
    const segments = Array.from({ length: 256 }, (_, vector) => machine.memory.read16(vector * 4 + 2));
    expect(new Set(segments)).toEqual(new Set([0xf000]));
  });

  it('answers CPUID by its profile', async () => {
    const leaf = (eax: number) => [...load({ eax, ecx: 0 }), ...CPUID];
    expect(await run(leaf(0))).toMatchObject({ eax: 0xd, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 });
    expect(((await run(leaf(7), { cpuProfile: 'la57' })).ecx >>> 16) & 1).toBe(1);
    expect((await run(leaf(0x80000001), { cpuProfile: 'pentium3' })).edx >>> 29).toBe(0);
  });

  it('gives out its own time stamp', async () => {
    const { machine, eax, edx } = await run([0x0f, 0x31], { seed: 3n });
    expect(BigInt(eax) + (BigInt(edx) << 32n)).toBe(machine.rdtsc() - 1n);
  });

  it('draws RDRAND from the seed, in the width of the register', async () => {
    const stream = new Entropy(42n);
    stream.next64(); // the TSC and the PIT take the first two
    stream.next64();
    const code = [...load({ ecx: 0xffffffff }), 0xf8, ...RDRAND_EAX, ...RDRAND_CX];
    const { eax, ecx, carry } = await run(code, { seed: 42n, cpuProfile: 'max' });
    expect(eax).toBe(Number(stream.next64() & 0xffffffffn));
    expect(ecx).toBe(0xffff0000 + Number(stream.next64() & 0xffffn));
    expect(carry).toBe(true);
    expect((await run(code, { seed: 43n, cpuProfile: 'max' })).eax).not.toBe(eax);
  });

  it('ends the run at an undefined instruction', async () => {
    const { machine } = await run([0x0f, 0x0b]); // ud2
    expect(machine.stopReason).toBe('exception 6 (invalid opcode) in real mode at 0x8000: 0f 0b (ud2)');
  });

  it.each([
    ['the keyboard controller', [0xb0, 0xfe, 0xe6, 0x64]],
    ['port 92h', [0xb0, 0x03, 0xe6, 0x92]],
    ['port CF9h', [0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee]],
  ])('ends the run when the guest resets it through %s', async (_, code) => {
    expect((await run(code)).machine.stopReason).toBe('the guest reset the machine');
  });

  it('ends the run when the guest jumps to the reset vector', async () => {
    const { machine } = await run([0xea, 0x00, 0x00, 0xff, 0xff]); // jmp ffff:0000
    expect(machine.stopReason).toContain('INT 19h');
  });

  it('collects what the guest sends to the serial port', async () => {
    const send = [...'ok\r\n'].flatMap((letter) => [0xb0, letter.charCodeAt(0), 0xee]);
    const { machine } = await run([0xba, 0xf8, 0x03, ...send]);
    expect(machine.serialText).toBe('ok\n');
  });

  it('reads all ones where there is no memory, and notes it', async () => {
    // 32-bit offsets in real mode: the limit does not hold in the engine, as in "unreal" mode.
    const read = [...load({ ebx: 0xfee00030 }), ...[0x67, 0x66, 0x8b, 0x03]]; // mov eax, [ebx]
    const { eax, machine } = await run(read);
    expect(eax).toBe(0xffffffff);
    expect(machine.notices).toEqual(['no memory answers at 0xfee00000']);
  });

  it('ends the run when the guest writes behind the end of RAM', async () => {
    const write = [...load({ ebx: 0x4000010 }), ...[0x67, 0x66, 0x89, 0x03]]; // mov [ebx], eax
    const { machine } = await run(write);
    expect(machine.stopReason).toBe(
      'the guest wrote to 0x4000010, where there is no memory: RAM ends at 0x4000000',
    );
  });

  it('tells by INT 15h whether A20 is open', async () => {
    const state = async (ax: number): Promise<number> =>
      (await run([...call(0x15, { eax: ax }), ...call(0x15, { eax: 0x2402 })])).eax;
    expect([await state(0x2400), await state(0x2401)]).toEqual([0, 1]);
  });

  it('ends the run when the guest jumps out of memory', async () => {
    const { machine } = await run([...load({ ebx: 0x5000000 }), 0x66, 0xff, 0xe3]); // jmp ebx
    expect(machine.stopReason).toBe(
      'the guest jumped to 0x5000000, where there is no memory: RAM ends at 0x4000000',
    );
  });

  it('prints what firmware prints', async () => {
    const { machine } = await run([HLT]);
    machine.print('a');
    machine.print('b\n');
    expect(machine.teletypeText).toBe('ab\n');
  });

  it('gives a tick to a guest that waits for one in a loop', async () => {
    const wait = [
      ...[0xa1, 0x6c, 0x04], // mov ax, [46Ch]
      ...[0x3b, 0x06, 0x6c, 0x04, 0x74, 0xfa], // cmp ax, [46Ch]; je back
    ];
    const { machine } = await run([HLT], {}, ({ ram }) => ram.set([...wait, HLT], 0x8100));
    machine.cpu.writeRegister('rip', 0x8100n);
    let end = machine.cpu.run({ sliceMilliseconds: 10 });
    for (let slices = 0; end.kind === 'slice' && slices < 10; slices++) {
      machine.afterSlice();
      end = machine.cpu.run({ sliceMilliseconds: 10 });
    }
    expect(end.kind).toBe('halted');
  });
});

describe('Entropy', () => {
  it('is SplitMix64', () => {
    const entropy = new Entropy(1234567n);
    const numbers = [entropy.next64(), entropy.next64(), entropy.next64()];
    expect(numbers).toEqual([6457827717110365317n, 3203168211198807973n, 9817491932198370423n]);
  });
});
