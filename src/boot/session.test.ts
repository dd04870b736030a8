// A held boot: it stops exactly where it is told to, looking at it changes nothing, and going back is being there again.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { openCpu } from '../cpu/open.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { traceToJson } from '../report/json.ts';
import { PHASE_NAMES } from '../trace/boot-trace.ts';
import type { BootOptions } from './options.ts';
import { type BootSession, openBoot } from './session.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));

async function open(name: string, options: Partial<BootOptions>): Promise<BootSession> {
  return openBoot(await readKernelImage(name, readFileSync(join(DEMO, name))), {
    memory: 64 << 20,
    ...options,
  });
}

function everythingOf(session: BootSession): unknown {
  const memory = createHash('sha256').update(session.machine.ram).digest('hex');
  const { registers, instructions, events, zo } = session;
  return { memory, registers, instructions, events: events.length, zo, layout: session.layout() };
}

/** Of every instruction that is executed, in order. */
async function addressesOf(name: string, options: Partial<BootOptions>): Promise<readonly number[]> {
  using session = await open(name, { ...options, shortcuts: false });
  const addresses: number[] = [];
  session.stream({
    syntax: 'gas',
    describe: ({ address }) => address,
    executed: (address) => addresses.push(address),
  });
  await session.run();
  return addresses;
}

describeEachEngine('a session', (_, engine) => {
  it('stands before the first instruction when it is opened', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    expect(session.stop).toMatchObject({
      reason: 'opened',
      phase: 'setup',
      address: 0x90200n,
      instructions: 0,
    });
    expect(session.layout().map(({ name }) => name)).toContain('setup');
    expect(session.events).toEqual([]);
  });

  it('stops where a phase begins, and goes on from there', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    const stop = await session.run({ until: 'startup_64' });
    expect(stop).toMatchObject({ reason: 'phase', phase: 'startup_64', mode: 'long64' });
    expect(session.pageTables()).toMatchObject({
      mode: '4-level',
      identity: true,
      root: session.registers.cr3,
    });
    expect(session.memory.physical(0x100000)).toBe(0x100000);
    const seen: string[] = [];
    for await (const { reason, phase } of session.phases()) seen.push(`${reason} ${phase}`);
    expect(seen).toEqual([
      ...['phase relocated', 'phase extract_kernel', 'phase decompressed', 'phase parse_elf', 'phase kernel'],
      'ended kernel',
    ]);
    expect(await session.run()).toMatchObject({ reason: 'ended', stopped: null });
  });

  for (const [name, options] of [
    ['demo-lz4.bzImage', {}],
    ['demo.zImage', {}],
    ['demo-zstd.bzImage', { entry: 'long64' }],
  ] as const) {
    it(`stops after any number of instructions of ${name}: at the address that single steps come to`, async () => {
      const addresses = await addressesOf(name, { ...options, engine });
      using session = await open(name, { ...options, engine });
      const total = addresses.length;
      for (const part of [0, 0.01, 0.03, 0.2, 0.5, 0.51, 0.9, 0.99, 0.999]) {
        const count = Math.floor(total * part);
        const stop = await session.run({ until: `#${count}` });
        expect(stop).toMatchObject({ reason: 'count', instructions: count });
        expect([count, stop.address]).toEqual([count, BigInt(addresses[count]!)]);
      }
      // Not where extract_kernel is trapped, which counts for nothing: two instructions have that count.
      for (const count of [total - 1, 3, 0, 30]) {
        const stop = await session.goTo(count);
        expect([stop.instructions, stop.address]).toEqual([count, BigInt(addresses[count]!)]);
      }
      for (let count = 31; count < Math.min(60, total - 2); count++) {
        const stop = await session.step();
        expect([stop.instructions, stop.address]).toEqual([count, BigInt(addresses[count]!)]);
      }
    });
  }

  it('leaves the trace of a boot that nobody held', async () => {
    for (const [name, options] of [
      ['demo-gzip.bzImage', {}],
      ['demo-i386.bzImage', { entry: 'prot32' }],
      ['demo-lzo.bzImage', { decompress: 'emulated' }],
    ] as const) {
      using straight = await open(name, { ...options, engine });
      await straight.run();
      using held = await open(name, { ...options, engine });
      await held.run({ until: '#100' });
      await held.step(7);
      for (const { address } of straight.trace().events.slice(-12)) {
        await held.run({ until: [`0x${address.toString(16)}`, 'extract_kernel'] });
        await held.step(2);
        held.layout();
      }
      await held.run({ until: PHASE_NAMES });
      await held.run();
      const json = (session: BootSession): string[] =>
        JSON.stringify(traceToJson(session.trace(), { events: true }), null, 1).split('\n');
      const [lines, expected] = [json(held), json(straight)];
      expect(lines.find((line, index) => line !== expected[index])).toBeUndefined();
      expect(lines.length).toBe(expected.length);
    }
  });

  it('leaves the guest as it is when everything that was translated is dropped', async () => {
    using plain = await open('demo-zstd.bzImage', { engine, events: false });
    await plain.run({ until: 'relocated' });
    using watched = await open('demo-zstd.bzImage', { engine, events: false });
    await watched.run({ until: 'startup_64' });
    // What watches accesses becomes part of all code.
    watched.observe({ start: 0x1000, end: 0x1004 }, 'read', () => {});
    await watched.run({ until: 'relocated' });
    expect(everythingOf(watched)).toEqual(everythingOf(plain));
  });

  it('tells what was in memory at the jump, also when a patch comes before the question', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    await session.run();
    const { segments } = session.trace().kernel!;
    using patched = await open('demo-lz4.bzImage', { engine });
    await patched.run();
    patched.memory.write(segments[0]!.paddr, Uint8Array.of(1, 2, 3));
    expect(patched.trace().kernel!.segments).toEqual(segments);
    expect(segments.every(({ sha256 }) => sha256?.length === 64)).toBe(true);
  });

  it('is the same whatever was booted before in the process', async () => {
    const trace = async (name: string) => {
      using session = await open(name, { engine });
      await session.run();
      return { text: traceToJson(session.trace()), everything: everythingOf(session) };
    };
    const [first, other] = [await trace('demo-lz4.bzImage'), await trace('demo-i386.bzImage')];
    expect(await trace('demo-lz4.bzImage')).toEqual(first);
    expect(await trace('demo-i386.bzImage')).toEqual(other);
  });

  it('goes back to the same machine', async () => {
    using session = await open('demo-zstd.bzImage', { engine });
    await session.run({ until: 'relocated' });
    const then = everythingOf(session);
    await session.step(3);
    const later = everythingOf(session);
    await session.run();
    const { instructions } = then as { instructions: number };
    await session.goTo(instructions);
    expect(everythingOf(session)).toEqual(then);
    await session.goTo(instructions + 3);
    expect(everythingOf(session)).toEqual(later);
    expect(await session.goTo('setup')).toMatchObject({ reason: 'phase', phase: 'setup', instructions: 0 });
  });

  it('stops at an address each time that it is reached', async () => {
    const addresses = await addressesOf('demo-lz4.bzImage', { engine });
    // The teletype loop of the demo's setup code.
    const often = [...new Set(addresses)].find((each) => addresses.filter((at) => at === each).length > 20)!;
    const counts = addresses.flatMap((at, index) => (at === often ? [index] : []));
    using session = await open('demo-lz4.bzImage', { engine });
    for (const count of counts.slice(0, 5)) {
      const stop = await session.run({ until: `0x${often.toString(16)}` });
      expect(stop).toMatchObject({ reason: 'breakpoint', address: BigInt(often), instructions: count });
    }
  });

  it('stops at an address that the boot itself waits for', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    const { address } = await session.goTo('extract_kernel');
    await session.goTo('relocated');
    const stop = await session.run({ until: { kind: 'address', address: Number(address) } });
    expect(stop).toMatchObject({ reason: 'breakpoint', phase: 'extract_kernel', address });
  });

  it('stops just before the instruction of an event', async () => {
    using straight = await open('demo-lz4.bzImage', { engine });
    await straight.run();
    const calls = straight.events.filter(({ kind }) => kind === 'bios');
    using session = await open('demo-lz4.bzImage', { engine });
    const stop = await session.run({ until: 'bios:3' });
    expect(stop).toMatchObject({ instructions: calls[2]!.instructions, address: calls[2]!.address });
    expect(stop).toMatchObject({ reason: 'event', event: { kind: 'bios' } });
    expect(session.events.filter(({ kind }) => kind === 'bios')).toHaveLength(2);
    const next = await session.run({ until: 'bios:4' });
    expect(session.events.filter(({ kind }) => kind === 'bios')).toHaveLength(3);
    expect(next).toMatchObject({ instructions: calls[3]!.instructions, address: calls[3]!.address });
    expect(await session.run({ until: 'control-register:2' })).toMatchObject({
      reason: 'event',
      event: { text: expect.stringContaining('cr4') },
    });
  });

  it('stops before each call of one BIOS service, one after the other, and before none that it stands at', async () => {
    using straight = await open('demo-lz4.bzImage', { engine });
    await straight.run();
    const calls = straight.events.filter(({ details }) => details['in eax'] === '0xe820');
    expect(calls.length).toBeGreaterThan(2);
    using session = await open('demo-lz4.bzImage', { engine });
    for (const { instructions, address } of calls) {
      const stop = await session.run({ until: 'bios=0x15/0xe820' });
      expect(stop).toMatchObject({ reason: 'event', instructions, address });
    }
    expect(await session.run({ until: 'bios=0x15/0xe820' })).toMatchObject({ reason: 'ended' });
    expect(await session.goTo('bios=0x15/0xe820')).toMatchObject({ instructions: calls[0]!.instructions });
    await session.goTo(calls[1]!.instructions!);
    expect(await session.run({ until: 'bios=0x15/0xe820' })).toMatchObject({
      instructions: calls[2]!.instructions,
    });
    expect(await session.goTo('bios=0x15/0xe820:2')).toMatchObject({ instructions: calls[1]!.instructions });
  });

  it('stops before the first use of one port among several of its device', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    const seen: number[] = [];
    for (const port of [0xa1, 0x21]) {
      const stop = await session.run({ until: `port=0x${port.toString(16)}` });
      expect(stop).toMatchObject({ reason: 'event', event: { kind: 'port', details: { device: 'PIC' } } });
      // OUT imm8, AL.
      expect([...session.memory.read(stop.address, 2)]).toEqual([0xe6, port]);
      seen.push(stop.instructions!);
    }
    expect(seen[1]).toBeGreaterThan(seen[0]!);
    expect(await session.goTo('port=PIC:1')).toMatchObject({ instructions: seen[0] });
    expect(await session.goTo('port=0x21')).toMatchObject({ instructions: seen[1] });
  });

  it('stops behind a write by the guest, by the host for it, by firmware and by the trap', async () => {
    using session = await open('demo-lz4.bzImage', { engine });
    const table = await session.run({ writes: { start: 0x103b000, end: 0x103b008 } });
    expect(table).toMatchObject({ reason: 'watchpoint', access: { by: 'fill', start: 0x103b000 } });
    const entry = await session.run({ writes: { start: 0x103b000, end: 0x103b008 } });
    expect(entry).toMatchObject({ reason: 'watchpoint', access: { by: 'guest', start: 0x103b000 } });
    expect(session.memory.u64(0x103b000)).not.toBe(0n);
    const { instruction } = (entry as unknown as { access: { instruction: bigint } }).access;
    await session.goTo(entry.instructions! - 1);
    expect(session.stop.address).toBe(instruction);
    expect(session.memory.u64(0x103b000)).toBe(0n);
    const kernel = await session.run({ writes: { start: 0x1000000, end: 0x1000010 } });
    expect(kernel).toMatchObject({ reason: 'watchpoint', access: { by: 'extract_kernel' } });
    await session.goTo('setup');
    const screen = await session.run({ writes: { start: 0xb8000, end: 0xb8100 } });
    expect(screen).toMatchObject({ reason: 'watchpoint', access: { by: 'firmware' } });
  });

  it('ends a run by its budget, by a signal, and says why', async () => {
    const aborted = new AbortController();
    using session = await open('demo-xz.bzImage', { engine, decompress: 'emulated', signal: aborted.signal });
    expect(await session.run({ instructions: 250 })).toMatchObject({
      ...{ reason: 'budget', budget: 'instructions', instructions: 250 },
    });
    expect(await session.run({ until: 'kernel', seconds: 0.002 })).toMatchObject({
      reason: 'budget',
      budget: 'seconds',
    });
    setTimeout(() => aborted.abort(), 1);
    expect(await session.run()).toMatchObject({ reason: 'aborted' });
    expect(session.trace()).toMatchObject({ kernel: null, stopped: null });
    expect(await session.run()).toMatchObject({ reason: 'aborted' });
  });

  it('ends a boot that has executed as many instructions as it was to, and goes back from there', async () => {
    using session = await open('demo-lz4.bzImage', { engine, maxInstructions: 5000 });
    const stop = await session.run();
    expect(stop).toMatchObject({ reason: 'ended', phase: 'startup_32', instructions: 5000 });
    expect(session.trace().stopped).toMatch(
      /^it had executed 5000 instructions, and was to end after 5000; it was going round in a loop from 0x\w+ to 0x\w+ \(5 instr/,
    );
    expect(await session.goTo(4000)).toMatchObject({ reason: 'count', instructions: 4000 });
  });

  it('refuses what cannot be done with a sentence', async () => {
    const session = await open('demo-lz4.bzImage', { engine });
    await session.run({ until: '#100' });
    await expect(session.run({ until: '#50' })).rejects.toThrow('#50 lies behind: 100 instructions');
    await expect(session.run({ until: 'nowhere' })).rejects.toThrow('"nowhere" is no place');
    const running = session.run();
    await expect(session.step()).rejects.toMatchObject({ code: 'session-busy' });
    expect((await running).reason).toBe('ended');
    session.close();
    session.close();
    await expect(session.run()).rejects.toMatchObject({ code: 'session-closed' });
    expect(() => session.memory).not.toThrow();
    expect(() => session.memory.u8(0)).toThrow('closed');
  });

  it('runs on an engine that is handed to it', async () => {
    let opened = 0;
    using session = await open('demo-lz4.bzImage', {
      engine: () => {
        opened++;
        return openCpu({ engine });
      },
    });
    await session.run({ until: 'startup_32' });
    await session.goTo(3);
    expect(opened).toBe(2);
    expect(session.trace().machine.engine).toBe(engine);
  });
});
