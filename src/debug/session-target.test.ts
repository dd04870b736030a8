// What a debugger sees of a held boot and does to it, compared with the session itself and with the trace of the same boot.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type BootSession, openBoot } from '../boot/session.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import type { GdbPoint } from './gdb/target.ts';
import { SessionTarget } from './session-target.ts';

const MEMORY = 64 << 20;
const missing = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';

interface Held {
  readonly session: BootSession;
  readonly target: SessionTarget;
  readonly image: KernelImage;
}

async function hold(name = 'demo-lz4.bzImage'): Promise<Held> {
  const path = new URL(`../../images/demo/${name}`, import.meta.url).pathname;
  const image = await readKernelImage(path, readFileSync(path));
  const session = await openBoot(image, { cmdline: 'nokaslr', engine: 'native', memory: MEMORY });
  return { session, target: new SessionTarget(session, image), image };
}

const forward = { direction: 'forward', step: false } as const;
const backward = { direction: 'backward', step: false } as const;
const point = (kind: GdbPoint['kind'], address: bigint | number, length = 1): GdbPoint => ({
  kind,
  address: BigInt(address),
  length,
});

describe.skipIf(missing !== '')(`stops of a debugger${missing}`, () => {
  it('are the places that it is told, each time, until it is told of none', async () => {
    const { session, target } = await hold('demo-gzip.bzImage');
    const goOn = async (): Promise<string> => {
      const stop = await target.resume(forward);
      const { reason } = session.stop;
      return `${stop.kind} ${reason === 'event' ? session.stop.event.kind : reason}`;
    };
    expect(await target.monitor('stops')).toBe('none\n');
    expect(await target.monitor('stops bios=0x15/0xE820,startup_32,#3')).toBe(
      'bios=0x15/0xe820\nstartup_32\n#3\n',
    );
    expect(await target.monitor('stops')).toBe('bios=0x15/0xe820\nstartup_32\n#3\n');
    expect(await goOn()).toBe('step count');
    const calls: number[] = [];
    for (;;) {
      const stopped = await goOn();
      if (stopped !== 'step bios') break;
      calls.push(session.instructions!);
    }
    expect(calls.length).toBeGreaterThan(2);
    expect(new Set(calls).size).toBe(calls.length);
    expect(session.stop).toMatchObject({ reason: 'phase', phase: 'startup_32' });
    expect(await target.monitor('stops nowhere')).toContain('"nowhere" is no place in a boot');
    expect(await target.monitor('stops none')).toBe('none\n');
    expect(await goOn()).toBe('end ended');
    session.close();
  });

  it('do not hold single steps', async () => {
    const { session, target } = await hold();
    await target.monitor('stops #2');
    target.setPoints([point('software', session.stop.address + 2n)]);
    for (const instructions of [1, 2, 3]) {
      expect(await target.resume({ direction: 'forward', step: true })).toMatchObject({
        kind: expect.stringMatching('step|breakpoint'),
      });
      expect(session.instructions).toBe(instructions);
    }
    session.close();
  });
});

describe.skipIf(missing !== '')(`registers of a held boot${missing}`, () => {
  it('are those of the CPU, with RIP as a linear address and the offset in CS beside it', async () => {
    const { session, target } = await hold();
    const cs = session.registers.cs;
    expect(target.readRegister('ip')).toBe(session.registers.rip);
    expect(target.readRegister('rip')).toBe((cs << 4n) + session.registers.rip);
    expect(target.readRegister('mode')).toBe(0n);
    expect(target.readRegister('idtr_limit')).toBe(0x3ffn);
    expect(target.readRegister('instructions')).toBe(0n);
    expect(target.readRegister('st0')).toBeNull();

    for (const [phase, mode] of [
      ['startup_32', 2n],
      ['startup_64', 4n],
    ] as const) {
      const stop = await session.goTo(phase);
      expect(target.readRegister('mode')).toBe(mode);
      expect(target.readRegister('rip')).toBe(stop.address);
      expect(target.readRegister('ip')).toBe(stop.address);
      expect(target.readRegister('eflags')).toBe(session.registers.rflags);
      expect(target.readRegister('instructions')).toBe(BigInt(stop.instructions!));
      for (const name of ['rax', 'rsp', 'r15', 'cs', 'gs', 'cr0', 'cr3', 'cr4', 'efer'] as const) {
        expect([name, target.readRegister(name)]).toEqual([name, session.registers[name]]);
      }
      const { base, limit } = session.machine.cpu.readDescriptorTable('gdtr');
      expect(base).toBeGreaterThan(0n);
      expect(target.readRegister('gdtr_base')).toBe(base);
      expect(target.readRegister('gdtr_limit')).toBe(BigInt(limit));
      expect(target.readRegister('idtr_base')).toBe(0n);
    }
    session.close();
  });

  it('are written, but those that the CPU keeps more beside', async () => {
    const { session, target } = await hold();
    for (const name of ['rax', 'rbp', 'rsp', 'r8'] as const) {
      expect(target.writeRegister(name, 0x1234n)).toBeNull();
      expect(session.registers[name]).toBe(0x1234n);
    }
    expect(target.writeRegister('eflags', 0x246n)).toBeNull();
    expect(session.registers.rflags).toBe(0x246n);
    for (const name of ['cs', 'cr0', 'gdtr_base', 'mode', 'instructions', 'st0'] as const) {
      expect(target.writeRegister(name, 1n)).toBe(
        `${name} cannot be written: what the CPU keeps beside it would not follow`,
      );
    }
    session.close();
  });

  it('take RIP only where CS reaches in the mode of now', async () => {
    const { session, target } = await hold();
    const base = session.registers.cs << 4n;
    expect(target.writeRegister('ip', 2n)).toBeNull();
    expect([target.readRegister('ip'), target.readRegister('rip')]).toEqual([2n, base + 2n]);
    expect(target.writeRegister('rip', base + 0xffffn)).toBeNull();
    expect(target.readRegister('ip')).toBe(0xffffn);
    expect(target.writeRegister('rip', base)).toBeNull();
    expect(target.writeRegister('rip', base - 1n)).toBe('0x901ff is below the base of CS, 0x90200');
    expect(target.writeRegister('ip', 0x10000n)).toBe(
      '0xa0200 is out of reach of CS in real16: its base is 0x90200, the highest offset 0xffff',
    );
    expect(target.readRegister('ip')).toBe(0n);

    await session.goTo('startup_32');
    expect(target.writeRegister('rip', 0xffff_ffffn)).toBeNull();
    expect(target.writeRegister('rip', 0x1_0000_0000n)).toContain('is out of reach of CS in prot32');
    await session.goTo('startup_64');
    expect(target.writeRegister('rip', 0xffff_ffff_8100_0000n)).toBeNull();
    expect(BigInt.asUintN(64, session.registers.rip)).toBe(0xffff_ffff_8100_0000n);
    session.close();

    const again = await hold();
    let mode = again.session.stop.mode;
    while (mode !== 'prot16') mode = (await again.session.step()).mode;
    expect(again.target.readRegister('mode')).toBe(1n);
    expect(again.target.writeRegister('ip', 0x10000n)).toContain('is out of reach of CS in prot16');
    again.session.close();
  });
});

describe.skipIf(missing !== '')(`memory of a held boot${missing}`, () => {
  it('is read by linear addresses, as far as it goes', async () => {
    const { session, target } = await hold();
    expect(target.readMemory(0x90ffen, 4)).toEqual(session.memory.read(0x90ffe, 4));
    expect(target.readMemory(0x901f1n, 0x2000)).toEqual(session.memory.read(0x901f1, 0x2000));
    expect(target.readMemory(BigInt(MEMORY) - 2n, 2)).toHaveLength(2);
    expect(target.readMemory(BigInt(MEMORY) - 0x1000n, 0x1800)).toHaveLength(0x1000);
    expect(target.readMemory(BigInt(MEMORY), 4)).toHaveLength(0);
    session.close();
  });

  it('is written whole or not at all', async () => {
    const { session, target } = await hold();
    const bytes = Uint8Array.from({ length: 0x1004 }, (_, index) => index % 251);
    expect(target.writeMemory(0x20fffn, bytes)).toBe(true);
    expect(session.memory.read(0x20fff, 0x1004)).toEqual(bytes);
    const end = MEMORY - 0x1000;
    expect(target.writeMemory(BigInt(end), bytes)).toBe(false);
    expect(session.memory.read(end, 16)).toEqual(new Uint8Array(16));
    session.close();
  });

  it('is told of with the BIOS as ROM, and with what page tables may map behind RAM', async () => {
    const { session, target } = await hold();
    expect(target.memoryMap()).toEqual([
      { type: 'ram', start: 0n, length: 0xf0000n },
      { type: 'rom', start: 0xf0000n, length: 0x10000n },
      { type: 'ram', start: 0x100000n, length: BigInt(MEMORY) - 0x100000n },
      { type: 'ram', start: BigInt(MEMORY), length: 0xffff_ffff_ffff_ffffn - BigInt(MEMORY) },
    ]);
    session.close();
  });
});

describe.skipIf(missing !== '')(`breakpoints and watchpoints of a held boot${missing}`, () => {
  it('stop it forward and back, and are named by what was set', async () => {
    const { session, target } = await hold();
    await session.run();
    const { phases } = session.trace();
    const at = (name: string) => phases.find((phase) => phase.name === name)!;
    await session.goTo(0);
    const [startup32, startup64] = [at('startup_32'), at('startup_64')];
    target.setPoints([point('software', startup32.address), point('hardware', startup64.address)]);
    expect(await target.resume(forward)).toEqual({ kind: 'breakpoint', point: 'software' });
    expect(session.instructions).toBe(startup32.instructions);
    expect(await target.resume(forward)).toEqual({ kind: 'breakpoint', point: 'hardware' });
    expect(session.instructions).toBe(startup64.instructions);
    expect(await target.resume(forward)).toEqual({
      kind: 'end',
      text: `the kernel's entry, 0x${at('kernel').address.toString(16)}: here the boot ends`,
    });
    // More instructions lie between than the first look back takes in.
    expect(await target.resume(backward)).toEqual({ kind: 'breakpoint', point: 'hardware' });
    expect(session.instructions).toBe(startup64.instructions);
    expect(await target.resume(backward)).toEqual({ kind: 'breakpoint', point: 'software' });
    expect(session.instructions).toBe(startup32.instructions);
    expect(await target.resume(backward)).toEqual({ kind: 'beginning' });
    expect(session.instructions).toBe(0);
    expect(await target.resume(backward)).toEqual({ kind: 'beginning' });
    session.close();
  });

  it('find the first instruction, too, on the way back', async () => {
    const { session, target } = await hold();
    const entry = session.stop.address;
    await session.goTo(5);
    target.setPoints([point('software', entry)]);
    expect(await target.resume(backward)).toEqual({ kind: 'breakpoint', point: 'software' });
    expect(session.instructions).toBe(0);
    session.close();
  });

  it('at the kernel’s entry are breakpoints, and the end of the boot without one', async () => {
    const { session, target } = await hold();
    const { address } = await session.goTo('kernel');
    await session.goTo(0);
    target.setPoints([point('hardware', address)]);
    expect(await target.resume(forward)).toEqual({ kind: 'breakpoint', point: 'hardware' });
    expect(session.stop.address).toBe(address);
    session.close();
  });

  it('stop behind a write, and on the way back before the instruction that does it', async () => {
    const { session, target } = await hold();
    await session.goTo('startup_64');
    const table = session.registers.cr3;
    await session.goTo('startup_32');
    target.setPoints([point('write', table, 8)]);
    // The fill with zeroes comes first.
    expect(await target.resume(forward)).toEqual({ kind: 'watchpoint', point: 'write', address: table });
    const filled = session.instructions!;
    expect(await target.resume(forward)).toEqual({ kind: 'watchpoint', point: 'write', address: table });
    const written = session.instructions!;
    expect(written).toBeGreaterThan(filled);
    const value = target.readMemory(table, 1)[0]!;
    expect(value & 3).toBe(3);
    await session.goTo('startup_64');
    expect(await target.resume(backward)).toMatchObject({ kind: 'watchpoint', point: 'write' });
    while (session.instructions! > written - 1) await target.resume(backward);
    expect(session.instructions).toBe(written - 1);
    expect(target.readMemory(table, 1)).toEqual(Uint8Array.of(0));
    session.close();
  });

  it('of reads and of any access are told apart', async () => {
    const { session, target } = await hold();
    await session.goTo('startup_64');
    const { registers } = session;
    // What the last far jump or return has popped or pushed lies below the stack pointer.
    const stack = registers.rsp - 8n;
    await session.goTo('startup_32');
    for (const kind of ['access', 'write', 'read'] as const) {
      await session.goTo('startup_32');
      target.setPoints([point(kind, stack, 8), point('software', 0x7fff_ffff)]);
      const stop = await target.resume(forward);
      expect([kind, stop.kind, stop.kind === 'watchpoint' ? stop.point : '']).toEqual([
        kind,
        'watchpoint',
        kind,
      ]);
      expect(stop).toMatchObject({ address: stack });
      expect(session.stop).toMatchObject({
        reason: 'watchpoint',
        access: { access: kind === 'read' ? 'read' : 'write' },
      });
    }
    session.close();
  });

  it('are given up when the debugger interrupts', async () => {
    const { session, target } = await hold();
    const stopped = target.resume(forward);
    target.interrupt();
    expect(await stopped).toEqual({ kind: 'interrupted' });
    await session.goTo('startup_64');
    target.setPoints([point('write', 0x500)]);
    const back = target.resume(backward);
    target.interrupt();
    expect(await back).toEqual({ kind: 'interrupted' });
    // Nothing runs now: nothing to interrupt, and the next run is not ended by it.
    target.interrupt();
    target.setPoints([]);
    await session.goTo('startup_64');
    expect(await target.resume(forward)).toMatchObject({ kind: 'end' });
    session.close();
  });
});

describe.skipIf(missing !== '')(`steps of a held boot${missing}`, () => {
  it('go one instruction forward and back', async () => {
    const { session, target } = await hold();
    const seen: string[] = [target.status()];
    for (let step = 0; step < 3; step++) {
      expect(await target.resume({ direction: 'forward', step: true })).toEqual({ kind: 'step' });
      seen.push(target.status());
    }
    expect(seen[0]).toBe('real16, phase setup, #0');
    expect(seen[3]).toBe('real16, phase setup, #3');
    for (let step = 2; step >= 0; step--) {
      expect(await target.resume({ direction: 'backward', step: true })).toEqual({ kind: 'step' });
      expect(target.status()).toBe(seen[step]);
    }
    expect(await target.resume({ direction: 'backward', step: true })).toEqual({ kind: 'beginning' });
    session.close();
  });
});
