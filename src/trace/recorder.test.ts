import { describe, expect, it } from 'vitest';
import type { BootEvent, Phase } from './boot-trace.ts';
import { TraceRecorder } from './recorder.ts';

const event = (kind: BootEvent['kind'], details: BootEvent['details'] = {}): BootEvent => ({
  ...{ kind, details, phase: 'setup', address: 0n, instructions: 0, text: '' },
});
const phase = (name: Phase['name']): Phase => ({ name, summary: '', regions: [], overwritten: [] }) as never;

describe('TraceRecorder', () => {
  it('keeps phases in their order, and completes the one that runs', () => {
    const recorder = new TraceRecorder();
    expect(recorder.current).toBeNull();
    recorder.complete('of nothing');
    recorder.begin(phase('setup'));
    recorder.complete('3 BIOS calls');
    recorder.begin(phase('startup_32'));
    expect(recorder.current).toBe('startup_32');
    expect(recorder.phases.map(({ name, summary }) => [name, summary])).toEqual([
      ['setup', '3 BIOS calls'],
      ['startup_32', ''],
    ]);
  });

  it('completes the phase at a place with what lay there and what was lost', () => {
    const recorder = new TraceRecorder();
    recorder.begin(phase('setup'));
    recorder.begin(phase('startup_32'));
    const [regions, overwritten] = [[{ name: 'IVT' }], [{ region: 'initrd' }]] as const;
    recorder.setLayout(0, regions as never, overwritten as never);
    recorder.setLayout(2, regions as never, []);
    expect(recorder.phases.map((each) => [each.regions, each.overwritten])).toEqual([
      [regions, overwritten],
      [[], []],
    ]);
  });

  it('counts events by kind, and those that are meant among them', () => {
    const recorder = new TraceRecorder();
    recorder.event(event('bios', { vector: 0x15, 'in eax': '0xe820' }));
    recorder.event(event('bios', { vector: 0x10, 'in eax': '0x3' }));
    recorder.event(event('mode', { to: 'prot32' }));
    expect(recorder.count({ event: 'bios' })).toBe(2);
    expect(recorder.count({ event: 'bios', of: '0x10' })).toBe(1);
    expect(recorder.count({ event: 'msr' })).toBe(0);
    expect(recorder.events.map(({ kind }) => kind)).toEqual(['bios', 'bios', 'mode']);
  });

  it('keeps the first 20,000 events, counts all, and says how many it left out', () => {
    const recorder = new TraceRecorder();
    for (let number = 0; number < 20_000; number++) recorder.event(event('port', { ports: '0x80' }));
    recorder.notice('first');
    expect(recorder.notices).toEqual(['first']);
    for (let number = 0; number < 3; number++) recorder.event(event('mode'));
    expect(recorder.events).toHaveLength(20_000);
    expect(recorder.count({ event: 'mode' })).toBe(3);
    expect(recorder.notices).toEqual(['first', '3 events after the first 20000 were not recorded']);
  });

  it('tells each notice once', () => {
    const recorder = new TraceRecorder();
    for (const text of ['one', 'two', 'one']) recorder.notice(text);
    expect(recorder.notices).toEqual(['one', 'two']);
  });
});
