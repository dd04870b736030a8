// Which instructions are looked at, and what is told of them, in a boot whose code shows each.

import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../cpu/native.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import type { BootTrace, EventKind } from '../trace/boot-trace.ts';
import { boot } from './boot.ts';
import { findSystemInstructions } from './system-events.ts';

const find = (bytes: number[], everything = false) => {
  const code = Uint8Array.from([0x90, ...bytes, 0x90, 0x90, 0x90]);
  return findSystemInstructions(code, 0, code.length, everything).sort((a, b) => a - b);
};

describe('findSystemInstructions', () => {
  it('finds loads of control registers, and MSRs that are written or read', () => {
    expect(find([0x0f, 0x22, 0xc0])).toEqual([1]);
    expect(find([0x0f, 0x30])).toEqual([1]);
    expect(find([0x0f, 0x32])).toEqual([1]);
  });

  it('finds LGDT where its prefix begins, too', () => {
    expect(find([0x66, 0x0f, 0x01, 0x16, 0x40, 0x43])).toEqual([1, 2]);
  });

  it('leaves out SGDT and moves from control registers', () => {
    expect(find([0x0f, 0x01, 0x06])).toEqual([]);
    expect(find([0x0f, 0x20, 0xc0])).toEqual([]);
  });

  it('finds one-byte far transfers only where it is asked for everything', () => {
    expect(find([0xcb])).toEqual([]);
    expect(find([0xcb], true)).toEqual([1]);
  });
});

const why = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';
describe.skipIf(why !== '')(`what a boot tells of the system${why}`, () => {
  let trace: BootTrace;
  beforeAll(async () => {
    const path = fileURLToPath(new URL('../../images/demo/demo-lz4.bzImage', import.meta.url));
    const finished = await boot(await readKernelImage(path), { memory: 64 << 20, hash: false });
    finished.close();
    trace = finished.trace;
  });
  const texts = (kind: EventKind): readonly string[] =>
    trace.events.filter((event) => event.kind === kind).map(({ text }) => text);

  it('has EAX in the low half of an MSR and EDX in the high one', () => {
    expect(texts('msr')).toEqual(['MSR 0xc0000080 (EFER) is 0x0', 'MSR 0xc0000080 (EFER) = 0x100']);
  });

  it('has the mode that was left before the one that was entered', () => {
    expect(texts('mode')).toEqual([
      'real16 to prot16',
      'prot16 to prot32',
      'prot32 to compat32',
      'compat32 to long64',
    ]);
    const [first] = trace.events.filter(({ kind }) => kind === 'mode');
    expect(first?.details).toEqual({ from: 'real16', to: 'prot16' });
  });

  it('has control registers by the number in the instruction', () => {
    const names = texts('control-register').map((text) => text.split(' ')[0]);
    expect(names).toEqual(['cr0', 'cr4', 'cr3', 'cr0']);
    expect(texts('control-register')[3]).toBe('cr0 = 0x80000001');
  });

  it('has copies with their source, and fills without one', () => {
    const large = trace.events.filter(({ kind }) => kind === 'copy' || kind === 'fill');
    expect(large.map(({ kind, text }) => [kind, text.split(' ')[0]])).toEqual([
      ['fill', 'fill'],
      ['copy', 'copy'],
      ['fill', 'fill'],
    ]);
    expect(large.map(({ details }) => details.source === null)).toEqual([true, false, true]);
  });

  it('has as many BIOS calls in the summary of setup as were made, the text of its messages included', () => {
    const [setup] = trace.phases;
    const printed = trace.console.length + trace.console.split('\n').length - 1;
    const told = texts('bios').length;
    expect(setup?.summary).toBe(`${told + printed} BIOS calls`);
  });

  it('has GDTR and IDTR of each phase as they were loaded before it', () => {
    for (const name of ['gdtr', 'idtr'] as const) {
      const [loaded] = trace.events.filter(
        ({ kind, phase, details }) =>
          kind === 'descriptor-table' && phase === 'setup' && details.register === name,
      );
      const { base, limit } = trace.phases.find(({ name: phase }) => phase === 'startup_32')![name];
      expect(loaded!.details).toMatchObject({ base: `0x${base.toString(16)}`, limit });
    }
    expect(trace.phases.find(({ name }) => name === 'startup_32')!.gdtr.limit).toBe(0x1f);
  });
});
