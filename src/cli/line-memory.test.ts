// Lines made many at once are those made one by one, whatever the registers are, in both formats; what has no room is left to
// the other way.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import { NOTED_REGISTERS, type RegisterChanges } from '../boot/instruction-stream.ts';
import { REGISTER_NAMES, type Steps } from '../cpu/cpu.ts';
import { INSTRUCTION_FORMATS, instructionWriter } from './instruction-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootscope-memory-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Numbers of each length, with and without zeroes in the middle. */
const VALUES = [
  0n,
  1n,
  0xan,
  0x10n,
  0xf0fn,
  0x9fff_ffffn,
  0xffff_ffffn,
  0x1_0000_0000n,
  0xa_0000_000bn,
  0xffff_ffff_8100_0000n,
  0xffff_ffff_ffff_ffffn,
];
const NO_DETAILS = { operands: [], call: null };

function instruction(address: number, text: string): DecodedInstruction {
  return {
    ...{ address, offset: address, bytes: Uint8Array.of(0x90, 0x0f), text, mode: 'long64', classes: [] },
    ...{ system: false, repeated: false, operands: [] },
  };
}

/** Instructions at 0x100000 and on; which registers each may have changed, and to what. */
function program(length: number) {
  const shown = Array.from({ length }, (_, index) =>
    instruction(0x100000 + index, index % 3 === 0 ? 'nop' : `mov $0x${index.toString(16)},%eax`),
  );
  const changed = shown.map((_, index) => {
    const places = NOTED_REGISTERS.map((_, place) => place).filter((place) => (index * 7 + place) % 5 === 0);
    return places.map((place) => [place, VALUES[(index + place * 3) % VALUES.length]!] as const);
  });
  return { shown, changed };
}

/** As the CPU notes them: what an instruction changed is read before the next. */
function noted({ shown, changed }: ReturnType<typeof program>): Steps {
  const before = changed.map((_, index) => (index === 0 ? [] : changed[index - 1]!));
  const values = before.flat().flatMap(([, value]) => [Number(value & 0xffff_ffffn), Number(value >> 32n)]);
  return {
    ...{ count: shown.length, used: values.length, all: 0, values: Uint32Array.from(values) },
    addresses: Uint32Array.from(shown, ({ address }) => address),
    changes: Uint32Array.from(before, (each) => each.reduce((bits, [place]) => bits | (1 << place), 0)),
  } as Partial<Steps> as Steps;
}

describe.each(INSTRUCTION_FORMATS)('lines of %s', (format) => {
  const writer = (name: string) => instructionWriter(join(folder, `${format}-${name}`), true, format, false);

  /** One by one, without the last, whose changes nobody has seen. */
  function oneByOne({ shown, changed }: ReturnType<typeof program>): string {
    const each = writer('each');
    const known = new Map<number, bigint>();
    for (const [index, one] of shown.slice(0, -1).entries()) {
      const differing = changed[index]!.filter(([place, value]) => (known.get(place) ?? 0n) !== value);
      for (const [place, value] of differing) known.set(place, value);
      const changes: RegisterChanges = {
        count: differing.length,
        registers: Uint8Array.from(differing, ([place]) => REGISTER_NAMES.indexOf(NOTED_REGISTERS[place]!)),
        high: Uint32Array.from(differing, ([, value]) => Number(value >> 32n)),
        low: Uint32Array.from(differing, ([, value]) => Number(value & 0xffff_ffffn)),
      };
      each.instruction(
        each.prefix(one, () => null),
        1,
        changes,
        NO_DETAILS,
      );
    }
    each.output.end();
    return readFileSync(join(folder, `${format}-each`), 'utf8');
  }

  it('are the same many at once, over more than the memory holds', () => {
    const length = 1000;
    const steps = program(length);
    const atOnce = writer('at-once');
    for (const shown of steps.shown) {
      atOnce.batch.remember(
        shown.address & 0xffff,
        atOnce.prefix(shown, () => null),
      );
    }
    const rounds = 6;
    let text = '';
    for (let round = 0; round < rounds; round++) {
      atOnce.batch.registers.fill(0);
      atOnce.batch.load(noted(steps));
      const used = noted(steps).used;
      expect(atOnce.batch.executed(1, length, 0)).toMatchObject({ index: length, words: used });
      text += oneByOne(steps);
    }
    atOnce.output.end();
    const written = readFileSync(join(folder, `${format}-at-once`), 'utf8');
    expect(written.length).toBeGreaterThan(1 << 18);
    expect(written === text).toBe(true);
    if (format === 'jsonl') for (const line of written.trimEnd().split('\n')) JSON.parse(line);
  });

  it('stop at an instruction without a text, and at one whose text is too long', () => {
    const steps = program(6);
    const { batch, prefix, output } = writer('stops');
    const remember = (index: number, name: string | null) => {
      const shown = steps.shown[index]!;
      batch.remember(shown.address & 0xffff, name === null ? null : prefix(shown, () => name));
    };
    for (let index = 0; index < 6; index++) remember(index, 'name');
    remember(2, null);
    batch.load(noted(steps));
    const first = batch.executed(1, 6, 0);
    expect(first.index).toBe(3);
    expect(batch.executed(3, 6, first.words)).toEqual(
      expect.objectContaining({ index: 3, words: first.words }),
    );
    remember(2, 'name');
    remember(4, 'n'.repeat(2100));
    expect(batch.executed(3, 6, first.words).index).toBe(5);
    output.end();
  });
});
