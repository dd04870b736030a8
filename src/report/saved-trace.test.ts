// A trace that was saved is drawn as the boot itself.

import { describe, expect, it } from 'vitest';
import { traceToJson } from './json.ts';
import { reportModel } from './report-model.ts';
import { parseTrace } from './saved-trace.ts';
import { someNamedTrace, someTrace } from './test-traces.ts';

const saved = (trace: ReturnType<typeof someTrace>, events: boolean) =>
  parseTrace('trace.json', JSON.stringify(traceToJson(trace, { events })));

describe('a trace read back from its JSON', () => {
  it.each([
    ['plain', someTrace()],
    ['with names', someNamedTrace()],
  ])('is the one that was written: %s', (_, trace) => {
    expect(reportModel(saved(trace, true))).toEqual(reportModel(trace));
    expect(traceToJson(saved(trace, true), { events: true })).toEqual(traceToJson(trace, { events: true }));
  });

  it('has no events where none were written', () => {
    const trace = someTrace();
    expect(reportModel(saved(trace, false))).toEqual({ ...reportModel(trace), events: [] });
  });

  it('is empty where another witness knows nothing', () => {
    const model = reportModel(
      parseTrace(
        'reference.json',
        JSON.stringify({
          ...{ image: { path: 'bzImage' }, machine: {}, kernel: null },
          phases: [
            { name: 'setup', address: '0x90200', mode: 'real16', registers: { rax: '0x1' }, regions: null },
          ],
        }),
      ),
    );
    expect(model.phases[0]).toMatchObject({
      name: 'setup',
      address: '0x90200',
      regions: [],
      pageTables: null,
    });
    expect(model).toMatchObject({ events: [], hazards: [], console: '' });
  });

  it('is refused where the file is no trace, with the place', () => {
    expect(() => parseTrace('x.json', '{"image": {}}')).toThrow(
      'x.json is no trace in JSON: $.machine is missing',
    );
  });
});
