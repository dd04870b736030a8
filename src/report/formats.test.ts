import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { BootTrace } from '../trace/boot-trace.ts';
import { chromeTrace } from './chrome-trace.ts';
import { formatHtml } from './html.ts';
import { REGION_KIND_STYLES } from './region-kinds.ts';
import { type ReportModel, reportModel } from './report-model.ts';
import { formatSvg } from './svg.ts';
import { someNamedTrace, someTrace } from './test-traces.ts';

const model = reportModel(someTrace());

describe('the HTML report', () => {
  it('keeps what the image and the guest say from ending the element it stands in', async () => {
    const html = await formatHtml(model);
    expect(html).not.toContain('<img');
    expect(html).not.toContain('<b>');
    expect(html.match(/<\/script>/g)).toHaveLength(2);
    const data = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(html)?.[1];
    expect((JSON.parse(data ?? '') as { model: ReportModel }).model).toEqual(model);
  });

  it('allows by its policy the script and style that it carries, and nothing from elsewhere', async () => {
    const html = await formatHtml(model);
    const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)?.[1] ?? '';
    const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
    const script = /<script>(.*?)<\/script>/s.exec(html)?.[1] ?? '';
    const style = /<style>(.*?)<\/style>/s.exec(html)?.[1] ?? '';
    expect(policy.split('; ')).toEqual([
      "default-src 'none'",
      `script-src ${hash(script)}`,
      `style-src ${hash(style)}`,
      "base-uri 'none'",
      "form-action 'none'",
    ]);
    expect(html.replace('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:\/\//);
  });

  it('stays below 2 MB with as many events as a trace can have', async () => {
    const event = { ...someTrace().events[0]!, text: '<'.repeat(200) };
    const full = reportModel(someTrace({ events: Array.from({ length: 20_000 }, () => event) }));
    expect(Buffer.byteLength(await formatHtml(full))).toBeLessThan(2_000_000);
  });
});

describe('the SVG picture', () => {
  it('shows each phase by its name and address, with a legend of the kinds in it', () => {
    const svg = formatSvg(model);
    for (const phase of model.phases) expect(svg).toContain(`>${phase.name}</text>`);
    expect(svg).toContain('0x90000');
    expect(svg).toContain('>compressed kernel (ZO)</text>');
  });

  it("shows the kernel's entry, with its name where it has one", () => {
    expect(svg(someTrace())).toContain('kernel entry 0x1000123 · ');
    expect(svg(someNamedTrace())).toContain('kernel entry 0x1000123 &lt;startup_64&gt; · ');
    expect(svg(someTrace({ kernel: null }))).not.toContain('kernel entry');
    function svg(trace: BootTrace): string {
      return formatSvg(reportModel(trace));
    }
  });

  it('has its light colours as attributes too, for viewers without style sheets, and the dark ones in the style', () => {
    const svg = formatSvg(model);
    const style = /<style>(.*?)<\/style>/s.exec(svg)![1]!;
    const dark = style.slice(style.indexOf('prefers-color-scheme: dark'));
    const shapes = [...svg.matchAll(/<(?:rect|text) [^>]*>/g)].map(([element]) => element);
    expect(shapes.length).toBeGreaterThan(50);
    expect(shapes.filter((element) => !/ fill="[^"]+"/.test(element))).toEqual([]);
    for (const kind of ['setup', 'compressed-kernel', 'kernel', 'payload'] as const) {
      const { light, dark: other } = REGION_KIND_STYLES[kind];
      expect(
        shapes.some((element) => element.includes(`k-${kind}"`) && element.includes(`fill="${light}"`)),
      ).toBe(true);
      expect(dark).toContain(`.k-${kind}{fill:${other}}`);
    }
  });

  it('escapes names, closes what it opens, and asks for nothing from elsewhere', () => {
    const evil = reportModel(
      someTrace({ image: { ...someTrace().image, kernelVersion: '6.6"<script>&\u0001 x' } }),
    );
    const svg = formatSvg(evil);
    expect(svg).not.toContain('<script');
    expect(svg).not.toContain('\u0001');
    const names = [...svg.matchAll(/<(\/?)([a-zA-Z]+)[^>]*?(\/?)>/g)].filter(
      ([, , , closed]) => closed !== '/',
    );
    const open: string[] = [];
    for (const [, end, name] of names) {
      if (end === '/') expect(open.pop()).toBe(name);
      else open.push(name!);
    }
    expect(open).toEqual([]);
    expect(svg.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:/);
  });
});

interface TraceEntry {
  readonly ph?: unknown;
  readonly s?: unknown;
  readonly pid?: unknown;
  readonly tid?: unknown;
  readonly name?: unknown;
  readonly cat?: unknown;
  readonly ts: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

/**
 * What a file has that the Trace Event Format (JSON Object Format, with X, i, C and M events) does not allow, and what viewers
 * would draw wrongly: unnamed rows, slices of a row that overlap in part, counters that come and go.
 */
function formatFaults(file: { traceEvents: readonly TraceEntry[]; displayTimeUnit: unknown }): string[] {
  const faults: string[] = [];
  const named = new Set<unknown>();
  const slices = new Map<unknown, (readonly [number, number])[]>();
  const series = new Map<unknown, string>();
  let last = 0;
  if (file.displayTimeUnit !== 'ms' && file.displayTimeUnit !== 'ns') faults.push('displayTimeUnit');
  for (const event of file.traceEvents) {
    const check = (right: boolean, fault: string): void => {
      if (!right) faults.push(`${fault}: ${JSON.stringify(event)}`);
    };
    const { ph, pid, tid, ts, dur, name, cat, args = {}, s } = event;
    check(typeof name === 'string' && name !== '', 'name');
    check(Number.isInteger(pid) && Number.isInteger(tid), 'pid or tid');
    check(typeof ts === 'number' && ts >= last, 'ts out of order');
    last = ts;
    check(typeof args === 'object' && args !== null && !Array.isArray(args), 'args');
    if (ph === 'M') {
      const keys = new Map([
        ['process_name', 'string'],
        ['thread_name', 'string'],
        ['thread_sort_index', 'number'],
      ]);
      check(typeof Object.values(args)[0] === keys.get(String(name)), 'metadata');
      if (name === 'thread_name') named.add(tid);
    } else if (ph === 'X') {
      const end = ts + (dur ?? Number.NaN);
      check(end >= ts && typeof cat === 'string', 'slice');
      const row = slices.get(tid) ?? [];
      check(
        row.every(([from, to]) => ts >= to || (ts >= from && end <= to)),
        'slices that overlap in part',
      );
      slices.set(tid, [...row, [ts, end]]);
      check(named.has(tid), 'row without a name');
    } else if (ph === 'i') {
      check(s === 'g' || s === 'p' || s === 't', 'scope');
      check(named.has(tid), 'row without a name');
    } else if (ph === 'C') {
      check(
        Object.values(args).every((value) => Number.isFinite(value)),
        'counter',
      );
      const keys = Object.keys(args).join();
      check((series.get(name) ?? keys) === keys, 'counters that come and go');
      series.set(name, keys);
    } else {
      check(false, 'ph');
    }
  }
  return faults;
}

describe('the Chrome trace', () => {
  interface Entry {
    readonly ph: string;
    readonly name: string;
    readonly cat?: string;
    readonly ts: number;
    readonly dur?: number;
    readonly args?: Readonly<Record<string, unknown>>;
  }
  const entries = (of: ReportModel): readonly Entry[] =>
    (chromeTrace(of) as { traceEvents: unknown }).traceEvents as readonly Entry[];

  it('is what the Trace Event Format asks for', () => {
    const uncounted = someTrace({
      phases: someTrace().phases.map((phase) => ({ ...phase, instructions: null })),
    });
    const stopped = someTrace({ phases: [], events: [], kernel: null, stopped: 'the guest hung' });
    for (const trace of [someTrace(), uncounted, stopped]) {
      const file = JSON.stringify(chromeTrace(reportModel(trace)));
      expect(formatFaults(JSON.parse(file) as Parameters<typeof formatFaults>[0])).toEqual([]);
    }
  });

  it('has the names of addresses among the arguments of phases and events', () => {
    const symbols = (trace: BootTrace): readonly unknown[] =>
      entries(reportModel(trace))
        .filter(({ ph, cat }) => ph === 'i' || cat === 'phase')
        .map(({ name, args }) => [name.split(' ')[0], args?.symbol]);
    expect(symbols(someNamedTrace())).toEqual([
      ['setup', undefined],
      ['INT', undefined],
      ['copy', 'startup_32+0x2aa'],
      ['extract_kernel', 'extract_kernel'],
      ['kernel', 'startup_64'],
    ]);
    expect(symbols(someTrace()).flat()).not.toContain('startup_64');
  });

  it('gives a phase without instructions a width, and moves what comes after it', () => {
    const [setup, extract, kernel] = someTrace().phases;
    const phases = [
      setup!,
      extract!,
      { ...extract!, name: 'decompressed' as const },
      { ...kernel!, instructions: 9000 },
    ];
    const slices = entries(reportModel(someTrace({ phases: [...phases] }))).filter(
      ({ cat }) => cat === 'phase',
    );
    expect(slices.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([
      ['setup', 0, 5000],
      ['extract_kernel', 5000, 180],
      ['decompressed', 5180, 4000],
      ['kernel', 9180, 1000],
    ]);
  });

  it('switches the CPU mode where it was switched, not where the next phase begins', () => {
    const event = { ...someTrace().events[0]!, kind: 'mode' as const, phase: 'setup' as const };
    const events = [
      { ...event, instructions: 4990, details: { from: 'real16', to: 'prot16' } },
      { ...event, instructions: 4995, details: { from: 'prot16', to: 'long64' } },
    ];
    const slices = entries(reportModel(someTrace({ events }))).filter(
      ({ ph, cat }) => ph === 'X' && cat === 'mode',
    );
    expect(slices.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([
      ['real16', 0, 4990],
      ['prot16', 4990, 5],
      ['long64', 4995, 5005],
    ]);
  });

  it('makes each phase a slice that ends where the next begins, one microsecond an instruction', () => {
    const slices = entries(model).filter(({ cat }) => cat === 'phase');
    expect(slices.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([
      ['setup', 0, 5000],
      ['extract_kernel', 5000, 4000],
      ['kernel', 9000, 1000],
    ]);
  });

  it('puts events at their instruction, and in their order inside the phase where none were counted', () => {
    const instants = entries(model).filter(({ ph }) => ph === 'i');
    expect(instants.map(({ ts }) => ts)).toEqual([120, 4000]);
    const uncounted = reportModel(
      someTrace({ phases: someTrace().phases.map((phase) => ({ ...phase, instructions: null })) }),
    );
    const [first, second] = entries(uncounted).filter(({ ph }) => ph === 'i');
    expect(first!.ts).toBeGreaterThan(0);
    expect(second!.ts).toBeGreaterThan(first!.ts);
    expect(second!.ts).toBeLessThan(1000);
  });
});
