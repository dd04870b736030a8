import { describe, expect, it } from 'vitest';
import type { MemoryRegion } from './boot-trace.ts';
import { parseRange } from './memory-range.ts';

const region = (name: string, start: bigint, end: bigint): MemoryRegion => ({
  ...{ name, start, end, kind: 'setup', role: 'setup', source: '' },
});
const REGIONS = [
  region('setup', 0x90000n, 0x94000n),
  region('setup header', 0x90000n, 0x90200n),
  region('boot_params', 0x947b0n, 0x957b0n),
];

describe('parseRange', () => {
  it('reads both forms of a range, and one address', () => {
    expect(parseRange('0x1000..0x1010', REGIONS, 256)).toEqual({ start: 0x1000, end: 0x1010 });
    expect(parseRange('0x1000+16', REGIONS, 256)).toEqual({ start: 0x1000, end: 0x1010 });
    expect(parseRange('0x1000', REGIONS, 256)).toEqual({ start: 0x1000, end: 0x1100 });
  });

  it('finds a region by its name, or by a part that is in no other', () => {
    expect(parseRange('setup', REGIONS, 1)).toEqual({ start: 0x90000, end: 0x94000 });
    expect(parseRange('params', REGIONS, 1)).toEqual({ start: 0x947b0, end: 0x957b0 });
  });

  it('says which regions there are, or which are meant', () => {
    expect(() => parseRange('initrd', REGIONS, 1)).toThrow(
      /"initrd" is no range .*setup header, boot_params$/,
    );
    expect(() => parseRange('set', REGIONS, 1)).toThrow('"set" may be several regions: setup, setup header');
  });

  it('refuses a range that ends before it begins', () => {
    expect(() => parseRange('0x2000..0x1000', REGIONS, 1)).toThrow(
      '0x2000..0x1000 is no range: it ends at 0x1000, before it begins',
    );
  });
});
