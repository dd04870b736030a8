import { expect, it } from 'vitest';
import { type Cpu, REGISTER_NAMES } from './cpu.ts';
import { describeEachEngine } from './each-engine.ts';
import { enterProtectedMode } from './enter-mode.ts';

const MIB = 0x10_0000;
/** Instruction that the state is saved before. */
const MIDDLE = MIB + 5;

describeEachEngine('the state of a CPU', (open) => {
  /** mov $1000, %ecx; 1: add %ecx, %eax; push %eax; pop 0x200000; loop 1b; hlt */
  const CODE = [0xb9, 0xe8, 3, 0, 0, 0x01, 0xc8, 0x50, 0x8f, 5, 0, 0, 0x20, 0, 0xe2, 0xf5, 0xf4];

  async function start(): Promise<Cpu> {
    const cpu = await open();
    cpu.mapRam(0, 8 * MIB);
    const ram = cpu.ram(0);
    ram.set(CODE, MIB);
    enterProtectedMode(cpu, { eip: MIB, gdtAddress: 0x8000, rsp: 0x7000n });
    cpu.countInstructions((address, size) => {
      const starts = [0, 5, 7, 8, 14, 16]
        .map((at) => at + MIB - address)
        .filter((at) => at >= 0 && at < size);
      return { starts, ports: [], repeats: false };
    });
    return cpu;
  }

  function finish(cpu: Cpu) {
    expect(cpu.run().kind).toBe('halted');
    const registers = Object.fromEntries(REGISTER_NAMES.map((name) => [name, cpu.readRegister(name)]));
    const result = {
      registers,
      instructions: cpu.instructions,
      memory: cpu.ram(0).slice(0x1f_fff0, 0x20_0010),
    };
    cpu.close();
    return result;
  }

  it('goes on in another CPU as it would have gone on in its own', async () => {
    const straight = finish(await start());

    const first = await start();
    let left = 500;
    const unhook = first.hookCode(BigInt(MIDDLE), BigInt(MIDDLE), () => {
      if (--left === 0) first.stop();
    });
    expect(first.run().kind).toBe('stopped');
    unhook();
    const state = first.saveState();
    expect(state.instructions).toBe(1 + 4 * 499);
    const memory = first.ram(0).slice();

    const second = await start();
    second.ram(0).set(memory);
    second.restoreState(state);
    expect(second.instructions).toBe(1 + 4 * 499);
    expect(finish(second)).toEqual(straight);
    // Its own goes on, too.
    expect(finish(first)).toEqual(straight);
  });

  it('is not taken from a CPU of another kind', async () => {
    const cpu = await start();
    expect(() => cpu.restoreState({ context: new Uint8Array(10), instructions: 0 })).toThrow(
      /A state of 10 bytes is no state of this engine/,
    );
    cpu.close();
  });
});
