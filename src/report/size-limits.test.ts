import { describe, expect, it } from 'vitest';
import type { Json } from './json.ts';
import { findGrowth, type GrowthLimit, isLimited } from './size-limits.ts';

function boot(end: number, initSize: number): Json {
  const regions = [
    { name: 'run area', start: '0x1000', end: `0x${end.toString(16)}` },
    { name: 'stack', start: '0x9000', end: '0xa000' },
  ];
  return {
    image: { sizes: { init_size: initSize, setup: 512 } },
    phases: [
      { name: 'setup', regions: [] },
      { name: 'kernel', regions },
    ],
  };
}
const texts = (actual: Json, reference: Json, ...limits: GrowthLimit[]): string[] =>
  findGrowth(actual, reference, limits).map(({ text }) => text);

describe('a limit of growth', () => {
  it('lets a region grow by so many per cent, and says by how much more it grew', () => {
    const limit = { name: 'run-area', percent: 10 };
    expect(texts(boot(0x2100, 0), boot(0x2000, 0), limit)).toEqual([]);
    expect(texts(boot(0x2200, 0), boot(0x2000, 0), limit)).toEqual([
      'run-area grew from 0x1000 (4 KiB) to 0x1200 (4.5 KiB): by 0x200 bytes, 12.5 %, and 10 % is allowed',
    ]);
  });

  it('lets a size of the image grow by so many bytes, and shrink', () => {
    const limit = { name: 'init_size', bytes: 0x100 };
    expect(texts(boot(0x2000, 0x1100), boot(0x2000, 0x1000), limit)).toEqual([]);
    expect(texts(boot(0x2000, 0x10), boot(0x2000, 0x1000), limit)).toEqual([]);
    const [text] = texts(boot(0x2000, 0x1101), boot(0x2000, 0x1000), limit);
    expect(text).toContain('by 0x101 bytes, 6.3 %, and 0x100 is allowed');
  });

  it('refuses a name that has no size, in the reference or in the boot', () => {
    const limit = { name: 'init-rd', bytes: 1 };
    expect(() => texts(boot(0x2000, 1), boot(0x2000, 1), limit)).toThrow(
      'the reference has no size of the name init-rd',
    );
    const bare = { image: {}, phases: [] };
    expect(() => texts(bare, boot(0x2000, 1), { name: 'setup', bytes: 1 })).toThrow('the boot has no size');
  });

  it('takes the place of comparing the end of the region, or the size, but not of where it begins', () => {
    const limits = [
      { name: 'run-area', percent: 10 },
      { name: 'init_size', percent: 10 },
    ];
    const limited = (path: string): boolean => isLimited({ path } as never, limits);
    expect(limited('phases.kernel.regions.run area.end')).toBe(true);
    expect(limited('image.sizes.init_size')).toBe(true);
    expect(limited('phases.kernel.regions.run area.start')).toBe(false);
    expect(limited('phases.kernel.regions.stack.end')).toBe(false);
    expect(limited('image.sizes.setup')).toBe(false);
  });
});
