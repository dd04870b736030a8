import { describe, expect, it } from 'vitest';
import type { Overwrite } from '../trace/boot-trace.ts';
import { fitModel, reportModel } from './report-model.ts';
import { somePhase, someRegion, someTrace } from './test-traces.ts';

describe('reportModel', () => {
  it('tells which regions are new, moved, resized or gone since the phase before', () => {
    const before = [
      someRegion('stays', 0, 16, 'heap'),
      someRegion('moves', 32, 64, 'heap'),
      someRegion('grows', 64, 80, 'heap'),
      someRegion('goes', 96, 128, 'heap'),
    ];
    const after = [
      someRegion('stays', 0, 16, 'heap'),
      someRegion('moves', 16, 48, 'heap'),
      someRegion('grows', 64, 96, 'heap'),
      someRegion('comes', 128, 160, 'heap'),
    ];
    const { phases } = reportModel(
      someTrace({
        phases: [
          somePhase({ name: 'setup', regions: before }),
          somePhase({ name: 'kernel', regions: after }),
        ],
      }),
    );
    expect(phases[0]?.regions.map(({ change }) => change)).toEqual(['first', 'first', 'first', 'first']);
    expect(phases[1]?.regions.map(({ name, change, before }) => [name, change, before])).toEqual([
      ['stays', 'same', null],
      ['moves', 'moved', { start: 32, end: 64 }],
      ['grows', 'resized', { start: 64, end: 80 }],
      ['comes', 'new', null],
    ]);
    expect(phases[1]?.gone.map(({ name }) => name)).toEqual(['goes']);
  });

  it('has boot_params, its E820 map and the firmware’s maps as tables, as far as there are any', () => {
    expect(reportModel(someTrace()).tables).toEqual([]);
    const { tables } = reportModel(
      someTrace({
        bootParams: {
          address: 0x9_0000n,
          fields: { 'hdr.version': 0x20f },
          memoryMap: [{ start: 0n, end: 0xa_0000n, type: 'usable' }],
        },
        efiMemoryMap: {
          atEntry: [{ start: 0x1000n, end: 0x3000n, type: 'LoaderData', attributes: 0xfn }],
          atExit: null,
        },
      }),
    );
    expect(tables.map(({ id, rows }) => [id, ...rows])).toEqual([
      ['e820', ['0x0', '0xa0000', '640 KiB', 'usable']],
      ['boot-params', ['hdr.version', '527']],
      ['efi-map-entry', ['0x1000', '0x3000', '8 KiB', 'LoaderData', '0xf']],
    ]);
    expect(tables[0]!.hint).toBe('What boot_params at 0x90000 tells the kernel of memory.');
  });

  it('gives a changed register the value it had before, and none to the others', () => {
    const [, second] = reportModel(someTrace()).phases;
    const registers = new Map(second?.registers.map((register) => [register.name, register.before]));
    expect(registers.get('rsp')).toBe('0x0');
    expect(registers.get('rax')).toBeNull();
    expect(registers.get('gdtr')).toBeNull();
  });

  it('tells which bytes a hazard endangers until they are overwritten', () => {
    const initrd = someRegion('initrd', 0x1000, 0x5000, 'initrd');
    const near = someRegion('heap', 0x1000, 0x5000, 'heap');
    const loss: Overwrite = {
      ...{ region: 'initrd', role: 'initrd', by: 'the kernel', writer: 'segment' },
      ...{ start: 0x1000n, end: 0x5000n },
    };
    const { phases, hazards } = reportModel(
      someTrace({
        phases: [
          somePhase({ name: 'setup', regions: [initrd, near] }),
          somePhase({ name: 'decompressed', regions: [initrd, near], overwritten: [loss] }),
          somePhase({ name: 'kernel', regions: [initrd, near] }),
        ],
        hazards: [
          {
            code: 'run-area-overlap',
            text: 'the initrd is in the way',
            advice: 'boot_params may stay',
            start: 0x2000n,
            end: 0x9000n,
          },
        ],
      }),
    );
    expect(phases.map(({ endangered }) => endangered)).toEqual([
      [{ region: 'initrd', code: 'run-area-overlap', start: 0x2000, end: 0x5000 }],
      [],
      [],
    ]);
    expect(hazards[0]).toMatchObject({ text: 'The initrd is in the way.', advice: 'boot_params may stay.' });
  });

  it('keeps naming what was overwritten earlier while its region is still listed', () => {
    const trace = someTrace();
    const last = trace.phases[2]!;
    const model = reportModel({
      ...trace,
      phases: [...trace.phases, { ...last, name: 'kernel', overwritten: [] }],
    });
    expect(model.phases[2]?.overwritten).toHaveLength(1);
    expect(model.phases[3]?.overwritten).toEqual([]);
    expect(model.phases[3]?.lost.map(({ region }) => region)).toEqual(['ZO copy payload']);
  });
});

describe('fitModel', () => {
  const event = someTrace().events[1]!;
  const many = reportModel(someTrace({ events: Array.from({ length: 5000 }, () => event) }));

  it('leaves a small model as it is', () => {
    const model = reportModel(someTrace());
    expect(fitModel(model, 1e6)).toEqual(model);
  });

  it('gives up the details of events before it gives up events', () => {
    const fitted = fitModel(many, JSON.stringify(many).length * 0.8);
    expect(fitted.events).toHaveLength(5000);
    expect(fitted.events[0]?.details).toBeNull();
    expect(fitted.detailsLeftOut).toBe(true);
    expect(fitModel(many, JSON.stringify(many).length * 2).detailsLeftOut).toBe(false);
    expect(fitted.eventsLeftOut).toBe(0);
  });

  it('counts the events that it leaves out, and stays within its limit', () => {
    const fitted = fitModel(many, 100_000);
    expect(JSON.stringify(fitted).length).toBeLessThan(101_000);
    expect(fitted.events.length).toBeGreaterThan(0);
    expect(fitted.events.length + fitted.eventsLeftOut).toBe(5000);
  });

  it('keeps the whole regions and the largest parts of a kernel with thousands of sections', () => {
    const parts = Array.from({ length: 3000 }, (_, index) =>
      someRegion(`section ${index}`, index * 4096, index * 4096 + index, 'kernel', { parent: 'whole' }),
    );
    const regions = [someRegion('whole', 0, 3000 * 4096, 'kernel'), ...parts];
    const model = fitModel(reportModel(someTrace({ phases: [somePhase({ name: 'kernel', regions })] })), 1e6);
    const names = model.phases[0]!.regions.map(({ name }) => name);
    expect(names).toHaveLength(600);
    expect(names).toContain('whole');
    expect(names).toContain('section 2999');
    expect(names).not.toContain('section 5');
  });
});
