import { describe, expect, it } from 'vitest';
import { addressScale, SCALE_MODES } from './address-scale.ts';
import { placeLabels, placeRegions } from './place-regions.ts';
import { reportModel } from './report-model.ts';
import { somePhase, someRegion, someTrace } from './test-traces.ts';

const { phases } = reportModel(someTrace());
const regions = phases.flatMap((phase) => phase.regions);
const WHOLE = { from: 0, to: 1 };
const AREA = { x: 100, y: 10, width: 300, height: 700 };

describe.each(SCALE_MODES)('the %s scale', (mode) => {
  const scale = addressScale(mode, regions);

  it('begins at 0, ends at 1, and puts each higher address at least as far down', () => {
    const addresses = [...new Set(regions.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
    const units = addresses.map((address) => scale.toUnit(address));
    expect(scale.toUnit(0)).toBe(0);
    expect(scale.toUnit(scale.end)).toBeCloseTo(1, 12);
    expect(units).toEqual([...units].sort((a, b) => a - b));
  });

  it('finds the address of a position again', () => {
    for (const address of [0x90000, 0x180000, 0x2040000]) {
      const back = scale.fromUnit(scale.toUnit(address));
      expect(Math.abs(back - address)).toBeLessThan(1);
    }
  });
});

describe('addressScale', () => {
  it('folds what no phase uses', () => {
    const folds = addressScale('folded', regions).folds;
    expect(folds).toContainEqual({ start: 0x2100000, end: 0xfffc0000 });
    expect(folds.some((fold) => regions.some((r) => r.start < fold.end && r.end > fold.start))).toBe(false);
  });

  it.each(['linear', 'log'] as const)('begins a %s view without the reserved ranges far above', (mode) => {
    const scale = addressScale(mode, regions);
    expect(scale.fromUnit(scale.initialEnd)).toBeLessThan(0x2300000);
    expect(scale.fromUnit(scale.initialEnd)).toBeGreaterThan(0x2100000);
  });

  it('gives each doubling of the address the same room in the log scale', () => {
    const scale = addressScale('log', regions);
    const room = (from: number, to: number): number => scale.toUnit(to) - scale.toUnit(from);
    for (const start of [0x20000, 0x100000, 0x1000000]) {
      expect(room(start, 2 * start)).toBeCloseTo(room(0x10000, 0x20000), 12);
    }
    expect(room(0, 0x10000)).toBeCloseTo(room(0x10000, 0x20000), 12);
  });

  it('copes with a trace without regions', () => {
    for (const mode of SCALE_MODES) {
      const empty = addressScale(mode, []);
      expect(empty.toUnit(0x1000)).toBeGreaterThanOrEqual(0);
    }
  });
});

describe('placeRegions', () => {
  it('never draws two regions that share addresses over each other', () => {
    const scale = addressScale('even', regions);
    for (const phase of phases) {
      const placed = placeRegions(phase.regions, scale, WHOLE, AREA);
      for (const [index, a] of placed.entries()) {
        for (const b of placed.slice(index + 1)) {
          const shared = a.region.start < b.region.end && b.region.start < a.region.end;
          const apart = a.x + a.width <= b.x + 0.01 || b.x + b.width <= a.x + 0.01;
          if (shared)
            expect([a.region.name, b.region.name, apart]).toEqual([a.region.name, b.region.name, true]);
        }
      }
    }
  });

  it('stays inside its area and draws even a byte at least 2 pixels high', () => {
    const model = reportModel(
      someTrace({
        phases: [somePhase({ name: 'setup', regions: [someRegion('byte', 0x5000, 0x5001, 'heap')] })],
      }),
    );
    const own = model.phases[0]!.regions;
    const [placed] = placeRegions(own, addressScale('linear', own), WHOLE, AREA);
    expect(placed?.height).toBeGreaterThanOrEqual(2);
    expect(placed!.x).toBeGreaterThanOrEqual(AREA.x);
    expect(placed!.x + placed!.width).toBeLessThanOrEqual(AREA.x + AREA.width + 0.01);
  });
});

describe('placeLabels', () => {
  const wish = (y: number, rank = 0) => ({ item: y, y, rank });

  it('leaves labels where they wish to be when they have room', () => {
    expect(placeLabels([wish(20), wish(60)], 0, 100, 10).map(({ y }) => y)).toEqual([20, 60]);
  });

  it('parts labels that wish for the same place, in order and within the bounds', () => {
    const placed = placeLabels([wish(95), wish(96), wish(97), wish(98)], 0, 100, 10);
    expect(placed.map(({ item }) => item)).toEqual([95, 96, 97, 98]);
    for (const [index, label] of placed.entries()) {
      if (index > 0) expect(label.y - placed[index - 1]!.y).toBeGreaterThanOrEqual(10 - 1e-9);
    }
    expect(placed.at(-1)!.y).toBeLessThanOrEqual(95 + 1e-9);
  });

  it('leaves out the labels of the lowest rank when there is no room for all', () => {
    const placed = placeLabels([wish(1, 5), wish(2, 1), wish(3, 9)], 0, 20, 10);
    expect(placed.map(({ item }) => item)).toEqual([1, 3]);
  });
});
