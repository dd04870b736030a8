// Interrupts on a real CPU: the guest's own handlers, handlers that chain to the BIOS, exceptions, the timer.

import { afterEach, expect, it } from 'vitest';
import type { Cpu } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import type { Machine, MachineOptions } from './machine.ts';
import { call, type ProgramResult, runProgram } from './real-mode-program.ts';

const HANDLER = 0x9000;
const OLD_VECTOR = 0x9100;

describeEachEngine('interrupts', (open) => {
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
    cpu = await open();
    return runProgram(cpu, code, options, prepare);
  };

  /** Points a vector to a handler, and keeps the old one at OLD_VECTOR. */
  const hook =
    (vector: number, handler: readonly number[]) =>
    ({ memory, ram }: Machine): void => {
      ram.set(handler, HANDLER);
      memory.write32(OLD_VECTOR, memory.read32(vector * 4));
      memory.write32(vector * 4, HANDLER);
    };

  const JUMP_TO_OLD = [0x2e, 0xff, 0x2e, OLD_VECTOR & 0xff, OLD_VECTOR >>> 8]; // jmp far cs:[OLD_VECTOR]
  const CALL_OLD = [0x9c, 0x2e, 0xff, 0x1e, OLD_VECTOR & 0xff, OLD_VECTOR >>> 8]; // pushf; call far cs:[OLD_VECTOR]
  const IRET = 0xcf;
  // xor cx, cx; jmp $+2; div cx: the WASM engine gives the start of the block as the address of a fault.
  const DIVIDE_BY_ZERO = [0x31, 0xc9, 0xeb, 0x00, 0xf7, 0xf1];

  it('go to a handler that the guest has put into the vector table', async () => {
    const handler = [0xb3, 0x77, IRET]; // mov bl, 77h
    const result = await run(call(0x12, { eax: 0xffff, ebx: 0 }), {}, hook(0x12, handler));
    expect(result).toMatchObject({ eax: 0xffff, ebx: 0x77, sp: 0x7c00, interruptFlag: true, carry: true });
    expect(result.events).toEqual([]);
  });

  it('end the run where the guest has overwritten all by which they are delivered', async () => {
    const overwrite = (machine: Machine): void => {
      hook(0x12, [IRET])(machine);
      machine.ram.fill(0x90, 0xf0000, 0x100000);
    };
    const { machine } = await run(call(0x12), {}, overwrite);
    expect(machine.stopReason).toBe(
      'the BIOS is overwritten: there is no IRET left in 0xf0000..0xfffff to deliver interrupt 0x12 with',
    );
  });

  it('reach the BIOS from a handler that jumps on to the old vector, with its CF for the caller', async () => {
    const result = await run(
      call(0x15, { eax: 0xe801 }),
      {},
      hook(0x15, [0xfe, 0x06, 0x00, 0x06, ...JUMP_TO_OLD]), // inc byte [600h]
    );
    expect(result).toMatchObject({ eax: 0x3c00, carry: false, sp: 0x7c00, interruptFlag: true });
    expect(result.machine.ram[0x600]).toBe(1);
  });

  it('reach the BIOS from a handler that calls the old vector, with its CF for the handler', async () => {
    const handler = [
      ...CALL_OLD,
      ...[0x9c, 0x8f, 0x06, 0x00, 0x06], // pushf; pop word [600h]
      IRET,
    ];
    const result = await run(call(0x13, { eax: 0x0800, edx: 0x80 }), {}, hook(0x13, handler));
    expect(result).toMatchObject({ eax: 0x0100, sp: 0x7c00 });
    expect(result.machine.memory.read16(0x600) & 0x201).toBe(0x001); // failed, interrupts off in the handler
  });

  it('bring ES back to the guest through a handler that chains', async () => {
    const result = await run(call(0x15, { eax: 0xc000 }), {}, hook(0x15, JUMP_TO_OLD));
    expect(result).toMatchObject({ es: 0xf000, ebx: 0xe6f5, carry: false, sp: 0x7c00 });
  });

  it('set ZF for the caller of a chained keyboard check', async () => {
    expect((await run(call(0x16, { eax: 0x0100 }), {}, hook(0x16, JUMP_TO_OLD))).zero).toBe(true);
  });

  it('end the run with the address when they are exceptions that nobody handles', async () => {
    const { machine } = await run(DIVIDE_BY_ZERO);
    expect(machine.stopReason).toBe('exception 0 (divide error) in real mode at 0x8004');
  });

  it('deliver exceptions to a handler of the guest', async () => {
    const skip = [0x58, 0x83, 0xc0, 0x02, 0x50, 0xb3, 0x55, IRET]; // pop ax; add ax, 2; push ax; mov bl, 55h
    const result = await run(DIVIDE_BY_ZERO, {}, hook(0x00, skip));
    expect(result.ebx & 0xff).toBe(0x55);
    expect(result.events).toEqual([{ kind: 'exception', vector: 0, address: 0x8004n, delivered: true }]);
  });

  it('wake a halted guest by the timer, through its own handler', async () => {
    const handler = [0xfe, 0x06, 0x00, 0x06, ...JUMP_TO_OLD]; // inc byte [600h]
    const { machine } = await run([0xf4, 0xf4], {}, hook(0x08, handler));
    expect(machine.idle()).toBe(true);
    expect(machine.cpu.run({ sliceMilliseconds: 5000 }).kind).toBe('halted');
    expect(machine.idle()).toBe(true);
    expect(machine.cpu.run({ sliceMilliseconds: 5000 }).kind).toBe('halted');
    expect([machine.ram[0x600], machine.memory.read32(0x46c)]).toEqual([2, 2]);
  });

  it('reach a timer handler of the guest while it polls the BIOS', async () => {
    const poll = [
      ...[0xb4, 0x01, 0xcd, 0x16], // mov ah, 1; int 16h
      ...[0x80, 0x3e, 0x00, 0x06, 0x03, 0x75, 0xf5], // cmp byte [600h], 3; jne back
    ];
    const { machine, sp } = await run(poll, {}, hook(0x1c, [0xfe, 0x06, 0x00, 0x06, IRET]));
    expect([machine.ram[0x600], machine.memory.read32(0x46c), sp]).toEqual([3, 3, 0x7c00]);
  });

  it('wait until a guest that calls the BIOS with interrupts off turns them on', async () => {
    const poll = [
      ...[0xfa, 0xb4, 0x01, 0x9c, 0xff, 0x1e, 0x58, 0x00], // cli; mov ah, 1; pushf; call far [16h * 4]
      ...[0xfb, 0x90, 0xeb, 0x00], // sti; nop; jmp $+2
      ...[0x80, 0x3e, 0x00, 0x06, 0x03, 0x75, 0xed], // cmp byte [600h], 3; jne back
    ];
    const { machine, sp } = await run(poll, {}, hook(0x1c, [0xfe, 0x06, 0x00, 0x06, IRET]));
    expect([machine.ram[0x600], machine.memory.read32(0x46c), sp]).toEqual([3, 3, 0x7c00]);
  });

  it('count the ticks in the BDA when the guest leaves the timer to the BIOS', async () => {
    const { machine } = await run([0xf4]);
    expect([machine.idle(), machine.idle(), machine.idle()]).toEqual([true, true, true]);
    expect(machine.memory.read32(0x46c)).toBe(3);
  });

  it('never wake a guest that halted with interrupts off or the timer masked', async () => {
    const off = await run([0xfa]);
    expect(off.machine.idle()).toBe(false);
    expect(off.machine.stopReason).toBe('the guest halted with interrupts off');
    off.machine.cpu.close();
    const masked = await run([0xb0, 0xff, 0xe6, 0x21]); // out 21h, ffh
    expect(masked.machine.idle()).toBe(false);
    expect(masked.machine.stopReason).toContain('the timer is masked');
  });

  it('give up on a guest that does nothing but halt', async () => {
    const { machine } = await run([0xf4]);
    let ticks = 0;
    while (machine.idle()) {
      ticks++;
    }
    expect(ticks).toBe(1093);
    expect(machine.stopReason).toContain('did not wake it');
  });
});
