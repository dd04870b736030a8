// What is told of each instruction: those that somebody wants to know of, in the mode that they run in, with what they changed.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import type { InstructionDetails, RegisterChanges } from './instruction-stream.ts';
import type { BootOptions } from './options.ts';
import { type BootSession, openBoot } from './session.ts';

const path = new URL('../../images/demo/demo-lz4.bzImage', import.meta.url).pathname;

/** By register. */
function changed({ count, registers, high, low }: RegisterChanges): Record<string, bigint> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      REGISTER_NAMES[registers[index]!]!,
      (BigInt(high[index]!) << 32n) | BigInt(low[index]!),
    ]),
  );
}

describeEachEngine('an instruction stream', (_, engine) => {
  const open = async (options: Partial<BootOptions> = {}): Promise<BootSession> =>
    openBoot(await readKernelImage(path, readFileSync(path)), {
      ...{ memory: 64 << 20, engine, shortcuts: false, hash: false, pageTables: false, events: false },
      ...options,
    });

  /** The boot in single steps, by what the session itself says at each. */
  async function stepped(until: number) {
    using session = await open();
    const seen = [];
    for (let count = 0; count < until; count++) {
      const { address, mode } = session.stop;
      const before = session.registers;
      const bytes = session.memory.read(address, 15);
      await session.step();
      const { registers } = session;
      const changes = Object.fromEntries(
        REGISTER_NAMES.filter((name) => name !== 'rip' && registers[name] !== before[name]).map((name) => [
          name,
          registers[name],
        ]),
      );
      seen.push({ address: Number(address), mode, bytes, changes });
    }
    return seen;
  }

  it('tells the registers that each has changed, and the mode, as single steps show them', async () => {
    const length = 460;
    const steps = await stepped(length);
    using session = await open();
    const told: { address: number; mode: string; changes: Record<string, bigint> }[] = [];
    const stream = session.stream({
      syntax: 'intel',
      describe: ({ address, mode }) => ({ address, mode }),
      executed: (at, _iterations, changes) => told.push({ ...at, changes: changed(changes) }),
    });
    await session.run({ until: `#${length}` });
    stream.finish(Number(session.stop.address));
    expect(told).toEqual(steps.map(({ bytes: _bytes, ...rest }) => rest));
    // From real mode through 16-bit to 32-bit protected mode.
    expect(new Set(told.map(({ mode }) => mode))).toEqual(new Set(['real16', 'prot16', 'prot32']));
  });

  it('tells the same where large copies are left to the host, also to whoever asks later', async () => {
    const tell = async (shortcuts: BootOptions['shortcuts'], first: string) => {
      using session = await open({ shortcuts });
      const told: unknown[] = [];
      const listen = () =>
        session.stream({
          syntax: 'gas',
          describe: ({ address, text }) => `${address} ${text}`,
          executed: (text, iterations, changes) => told.push([text, iterations, changed(changes)]),
        });
      const before = listen();
      await session.run({ until: first });
      before.finish(Number(session.stop.address));
      const later = listen();
      await session.run();
      later.finish(Number(session.stop.address));
      return told;
    };
    for (const first of ['startup_32', 'startup_64']) {
      const all = await tell(false, first);
      expect(all.filter((each) => (each as unknown[])[1] !== 1).length).toBeGreaterThan(2);
      expect(await tell('instructions', first)).toEqual(all);
    }
  });

  it('tells only what is wanted, with the changes since, and has no operands that nobody asked for', async () => {
    using session = await open();
    const wanted: string[] = [];
    const details: InstructionDetails[] = [];
    const stream = session.stream({
      syntax: 'intel',
      // Every other place, and no calls.
      describe: ({ address, text }) => (address % 2 === 0 && !text.startsWith('call') ? text : null),
      executed: (text, iterations, _changes, more) => {
        wanted.push(text);
        details.push({ ...more });
        expect(iterations).toBeGreaterThanOrEqual(0);
      },
    });
    await session.run({ until: 'startup_64' });
    stream.finish(Number(session.stop.address));
    expect(wanted.every((text) => typeof text === 'string' && !text.startsWith('call'))).toBe(true);
    expect(wanted.length).toBeGreaterThan(100);
    expect(wanted.length).toBeLessThan(stream.count);
    expect(details.every(({ operands }) => operands.length === 0)).toBe(true);
  });

  it('tells the service of each INT in real mode, and of nothing else', async () => {
    using session = await open();
    const calls: [string, InstructionDetails['call']][] = [];
    session.stream({
      syntax: 'intel',
      describe: ({ text }) => text,
      executed: (text, _iterations, _changes, { call }) => {
        if (call !== null || text.startsWith('int')) calls.push([text, call]);
      },
    });
    await session.run({ until: 'startup_32' });
    expect(calls.every(([text, call]) => text.startsWith('int') && call !== null)).toBe(true);
    const services = calls.map(([, call]) => `${call!.ah.toString(16)} ${call!.service}`);
    expect(services).toContain('e8 INT 15h E820: query system address map');
    expect(services).toContain('88 INT 15h 88: get extended memory size');
  });
});
