import { describe, expect, it } from 'vitest';
import type { BootTrace } from '../trace/boot-trace.ts';
import { compareTraces, formatDifferences } from './difference.ts';
import { traceToJson } from './json.ts';
import { someNamedTrace, someRegion, someTrace } from './test-traces.ts';
import { checkTrace, looksLikeJson, parseTraceJson, type TraceJson } from './trace-json.ts';

function json(rest: Partial<BootTrace> = {}): TraceJson {
  return parseTraceJson('trace.json', JSON.stringify(traceToJson(someTrace(rest), { events: true })));
}

/** The same trace with one phase changed. */
function withPhase(index: number, rest: Partial<BootTrace['phases'][number]>): TraceJson {
  const { phases } = someTrace();
  return json({ phases: phases.map((phase, at) => (at === index ? { ...phase, ...rest } : phase)) });
}

describe('compareTraces', () => {
  it('finds nothing between a trace and itself', () => {
    expect(compareTraces(json(), json())).toEqual([]);
    expect(formatDifferences(json(), json(), [])).toContain('no difference');
  });

  it('takes no name for a difference: those depend on the symbols that were read', () => {
    const named = parseTraceJson(
      'named.json',
      JSON.stringify(traceToJson(someNamedTrace(), { events: true })),
    );
    expect(compareTraces(json(), named)).toEqual([]);
    expect(compareTraces(named, json(), { strict: true })).toEqual([]);
  });

  it('looks at path and engine only when it is asked to be strict', () => {
    const other = json({
      image: { ...someTrace().image, path: 'elsewhere' },
      machine: { ...someTrace().machine, engine: 'wasm', engineVersion: '2.1.4' },
    });
    expect(compareTraces(json(), other)).toEqual([]);
    expect(compareTraces(json(), other, { strict: true }).map(({ name }) => name)).toEqual([
      'path',
      'engine',
      'engineVersion',
    ]);
  });

  it('does not compare a hash that one of the two was made without', () => {
    const other = json({ image: { ...someTrace().image, sha256: null } });
    expect(compareTraces(json(), other)).toEqual([]);
  });

  it('tells regions that moved, grew, came or went', () => {
    const regions = [
      someRegion('setup', 0x91000, 0x96000, 'setup'),
      someRegion('ZO as loaded', 0x100000, 0x210000, 'compressed-kernel'),
      someRegion('initrd', 0x300000, 0x310000, 'initrd'),
    ];
    const found = compareTraces(json(), withPhase(0, { regions }));
    expect(found).toEqual([
      {
        area: 'region',
        phase: 'setup',
        name: 'setup',
        change: 'moved',
        a: '0x90000..0x95000',
        b: '0x91000..0x96000',
      },
      {
        area: 'region',
        phase: 'setup',
        name: 'ZO as loaded',
        change: 'resized',
        a: '0x100000..0x200000',
        b: '0x100000..0x210000',
      },
      {
        area: 'region',
        phase: 'setup',
        name: 'E820 reserved',
        change: 'removed',
        a: '0xfffc0000..0x100000000',
        b: null,
      },
      { area: 'region', phase: 'setup', name: 'initrd', change: 'added', a: null, b: '0x300000..0x310000' },
    ]);
  });

  it('counts sections of the kernel in the table, and lists them when asked', () => {
    const { regions } = someTrace().phases[2]!;
    const grown = regions.map((region) =>
      region.name === 'kernel .text' ? { ...region, end: region.end + 0x1000n } : region,
    );
    const [a, b] = [json(), withPhase(2, { regions: grown })];
    const differences = compareTraces(a, b);
    expect(differences.map(({ name }) => name)).toEqual(['kernel .text']);
    const table = formatDifferences(a, b, differences);
    expect(table).toMatch(/kernel +sections of the kernel +1 resized$/m);
    expect(table).not.toContain('kernel .text');
    expect(formatDifferences(a, b, differences, { registers: false, sections: true })).toMatch(
      /kernel {2}kernel \.text {2}resized {2}0x1000000\.\.0x1800000 → 0x1000000\.\.0x1801000 \(size \+0x1000\)/,
    );
  });

  it('shows sizes, hashes and reasons so that they can be read, and names fields of fields', () => {
    const { image, machine } = someTrace();
    const stopped = `the stub stops with "${'x'.repeat(100)}"`;
    const other = json({
      image: { ...image, sha256: 'cd'.repeat(32), payload: { offset: 0x2cc, length: 0xf0001 } },
      machine: { ...machine, ram: 0x40000000 },
      kernel: null,
      stopped,
    });
    const differences = compareTraces(json(), other);
    expect(differences).toContainEqual({
      area: 'image',
      phase: null,
      name: 'payload.length',
      change: 'changed',
      a: '983040',
      b: '983041',
    });
    const table = formatDifferences(json(), other, differences);
    expect(table).toContain('abababababababab… → cdcdcdcdcdcdcdcd…');
    expect(table).toContain('512 MiB → 1 GiB');
    expect(table).toContain(stopped);
  });

  it('tells phases that are missing, registers, entry and segments', () => {
    const trace = someTrace();
    const kernel = trace.kernel!;
    const other = json({
      phases: trace.phases.slice(0, 2).map((phase) => ({ ...phase, registers: trace.phases[0]!.registers })),
      kernel: {
        ...kernel,
        entry: 0x1000200n,
        segments: kernel.segments.map((segment) => ({ ...segment, memsz: 0x1090000n, sha256: null })),
      },
    });
    expect(compareTraces(json(), other).map(({ area, name, change }) => `${area} ${name} ${change}`)).toEqual(
      [
        'kernel entry moved',
        'segment segment 0 memsz resized',
        'phase phase removed',
        'register rsp changed',
        'register cr0 changed',
      ],
    );
  });

  it('says why a kernel was not reached in one of the two', () => {
    const [difference] = compareTraces(json(), json({ kernel: null, stopped: 'the guest halted at 0x1234' }));
    expect(difference).toMatchObject({
      area: 'kernel',
      a: 'reached at 0x1000123',
      b: 'not reached: the guest halted at 0x1234',
    });
  });
});

describe('formatDifferences', () => {
  it('writes a difference that goes through all phases on one line', () => {
    const trace = someTrace();
    const other = json({
      phases: trace.phases.map((phase) => ({
        ...phase,
        regions: phase.regions.map((region) =>
          region.name === 'setup' ? someRegion('setup', 0x90000, 0x96000, 'setup') : region,
        ),
      })),
    });
    const differences = compareTraces(json(), other);
    expect(differences).toHaveLength(3);
    const lines = formatDifferences(json(), other, differences)
      .split('\n')
      .filter((line) => line.includes('0x96000'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(
      /setup … kernel +setup +resized +0x90000\.\.0x95000 → 0x90000\.\.0x96000 \(size \+0x1000\)/,
    );
  });

  it('lets no control characters of a guest through to the terminal', () => {
    const other = json({ console: '\u001b[2Jgone' });
    const text = formatDifferences(json(), other, compareTraces(json(), other));
    expect(text).not.toContain('\u001b');
    expect(text).toContain('?[2Jgone');
  });
});

describe('parseTraceJson', () => {
  it('names the place of what is no trace', () => {
    const { phases, ...rest } = json();
    expect(() => checkTrace('a.json', rest)).toThrow('a.json is no trace');
    expect(() => checkTrace('a.json', { ...rest, phases: [{ ...phases[0], address: 5 }] })).toThrow(
      '$.phases[0].address is 5, no address such as 0x100000',
    );
    for (const field of ['console', 'stopped'])
      expect(() => checkTrace('a.json', { ...rest, phases, [field]: 5 })).toThrow(`$.${field} is no text`);
    expect(() => parseTraceJson('a.json', '{"image": 1')).toThrow('a.json is no trace');
    expect(() => parseTraceJson('a.json', '[]')).toThrow('$ is no object');
  });

  it('tells JSON from an image by its first character', () => {
    const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
    expect(looksLikeJson(bytes('\n  {"image": {}}'))).toBe(true);
    expect(looksLikeJson(bytes('\u{feff}{}'))).toBe(true);
    expect(looksLikeJson(bytes('MZ'))).toBe(false);
    expect(looksLikeJson(new Uint8Array(0))).toBe(false);
  });
});
