import { describe, expect, it } from 'vitest';
import { toJson, traceToJson } from './json.ts';
import { someTrace } from './test-traces.ts';

describe('a value as JSON', () => {
  it('has hex strings for bigints, at any depth and of any width', () => {
    expect(toJson({ a: [0n, { b: 0xffff_ffff_8100_0000n }], c: 5, d: 'x', e: true })).toEqual({
      ...{ a: ['0x0', { b: '0xffffffff81000000' }], c: 5, d: 'x', e: true },
    });
  });

  it('keeps null and leaves undefined out', () => {
    expect(JSON.stringify(toJson({ a: null, b: undefined, c: [null] }))).toBe('{"a":null,"c":[null]}');
  });
});

describe('a trace as JSON', () => {
  it('has nothing in it that differs from run to run', () => {
    const text = JSON.stringify(traceToJson(someTrace()));
    expect(text).not.toContain('milliseconds');
    expect(text).toBe(JSON.stringify(traceToJson(someTrace())));
  });

  it('has events only where they are asked for', () => {
    expect(traceToJson(someTrace())).not.toHaveProperty('events');
    expect(traceToJson(someTrace(), { events: true })).toHaveProperty('events');
  });

  it('keeps image, machine, phases and kernel under the names that are documented', () => {
    const json = JSON.parse(JSON.stringify(traceToJson(someTrace())));
    expect(Object.keys(json).toSorted()).toEqual(
      ['version', ...Object.keys(someTrace())].filter((name) => name !== 'events').toSorted(),
    );
    expect(json.phases[0].address).toMatch(/^0x[0-9a-f]+$/);
    expect(json.phases[0].registers.rip).toMatch(/^0x[0-9a-f]+$/);
    expect(json.machine.ram).toBe(0x20000000);
  });
});
