// Medians, targets, and what counts as slower between two benchmark runs.

import { expect, test } from 'vitest';
import {
  type BenchResult,
  type BootRow,
  compareResults,
  emulatedTarget,
  pairedRatio,
  targetRatio,
  timesOf,
} from './bench-result.ts';

const row: BootRow = {
  image: 'vmlinuz',
  codec: 'xz',
  kernelBytes: 60e6,
  engine: 'native',
  bootscope: { median: 1000, min: 900, max: 1100 },
  qemu: { median: 4000, min: 3900, max: 4100 },
  ratio: 0.25,
  cpu: { bootscope: 900, qemu: 3900 },
  target: 0.4,
  memory: { bootscope: 200e6, qemu: 130e6, limit: 400e6 },
  phases: [],
};

function result(boot: Partial<BootRow>): BenchResult {
  return {
    date: '2026-01-01T00:00:00.000Z',
    machine: { cpu: 'test', cores: 2, node: 'v20.19.0', qemu: null },
    runs: 5,
    boots: [{ ...row, ...boot }],
    codecs: [],
    commands: [],
    stepRates: [],
    stepsBack: [],
    explorer: [],
  };
}

test('the median of an even number of runs lies between the middle two', () => {
  expect(timesOf([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
  expect(timesOf([9])).toEqual({ median: 9, min: 9, max: 9 });
});

test('the ratio of alternating runs does not depend on the load that both had', () => {
  expect(pairedRatio([100, 1000, 200], [200, 2000, 400])).toBe(0.5);
});

test('boots are compared by their ratio to QEMU, not by a time that a busy machine changes', () => {
  const slowMachine = result({ bootscope: { median: 2000, min: 1900, max: 2100 } });
  const ratios = compareResults(result({}), slowMachine).map((comparison) => comparison.ratio);
  expect(ratios).toEqual([1, 1]);
});

test('a higher ratio to QEMU shows as slower', () => {
  const comparison = compareResults(result({}), result({ ratio: 0.5 }))[0];
  expect(comparison).toMatchObject({
    name: 'boot vmlinuz (native), ratio to QEMU',
    old: 0.25,
    new: 0.5,
    ratio: 2,
  });
});

test('what only one run measured is not compared', () => {
  expect(compareResults(result({}), result({ image: 'another' }))).toEqual([]);
});

test('targets depend on the codec, the engine and whether the kernel is tiny', () => {
  expect(targetRatio('native', 'zstd', 60e6)).toBe(0.5);
  expect(targetRatio('native', 'zstd', 2e6)).toBe(0.5);
  expect(targetRatio('wasm', 'zstd', 60e6)).toBe(0.3);
  expect(targetRatio('wasm', 'zstd', 2e6)).toBeNull();
  expect(emulatedTarget('native', 'zstd', 60e6)).toBe(3);
  expect(emulatedTarget('wasm', 'zstd', 60e6)).toBeNull();
});

test('emulated boots and verifications are compared by their ratios, apart from hooked boots', () => {
  const times = { median: 1, min: 1, max: 1 };
  const measured = (ratio: number): BenchResult => ({
    ...result({}),
    emulated: [{ ...row, ratio: 2 * ratio }],
    verifications: [
      {
        ...{ image: 'vmlinuz', engine: 'native', verify: times, boot: times, ratio, target: 1.2 },
        memory: { verify: 1, boot: 1 },
      },
    ],
  });
  const slower = compareResults(measured(1), measured(2)).filter(({ ratio }) => ratio > 1);
  expect(slower.map(({ name, old }) => [name, old])).toEqual([
    ['emulated boot vmlinuz (native), ratio to QEMU', 2],
    ['verify vmlinuz (native), ratio to its emulated boot', 1],
  ]);
  expect(compareResults(result({}), measured(1)).every(({ name }) => name.startsWith('boot '))).toBe(true);
});

test('warm boots and checks are compared by their processor time, and by memory', () => {
  const measured = (factor: number): BenchResult => ({
    ...result({}),
    warmBoots: [
      {
        ...{ image: 'tiny', engine: 'native', first: 200, limit: 40, memory: 120e6 * factor },
        later: { median: 30 * factor, min: 20, max: 50 },
      },
    ],
    checkRates: [
      {
        ...{ checks: 100, processes: 2, target: 40, alonePerSecond: 8 },
        ...{ perSecond: 50 / factor, cpu: 40 * factor, memory: 130e6 * factor },
      },
    ],
  });
  const slower = compareResults(measured(1), measured(2)).filter(({ ratio }) => ratio === 2);
  expect(slower.map(({ name, old }) => [name, old])).toEqual([
    ['openBoot tiny (native), warm, CPU ms', 30],
    ['openBoot tiny (native), warm, peak MB', 120],
    ['check --matrix of 100, ms a check', 20],
    ['check --matrix of 100, CPU ms a check', 40],
    ['check --matrix of 100, peak MB of a process', 130],
  ]);
});
