// The memory map and what older calls say about it.

import { describe, expect, it } from 'vitest';
import { e801, extendedKilobytes88, extendedMemory, pcMemoryMap } from './memory-map.ts';

const MIB = 1024 * 1024;

describe('pcMemoryMap', () => {
  it('is what SeaBIOS gives out on an i440fx PC with 512 MiB', () => {
    const rows = pcMemoryMap(512 * MIB).map(
      ({ address, size, type }) => `${address.toString(16)}+${size.toString(16)} ${type}`,
    );
    expect(rows).toEqual([
      '0+9fc00 1',
      '9fc00+400 2',
      'f0000+10000 2',
      '100000+1fee0000 1',
      '1ffe0000+20000 2',
      'fffc0000+40000 2',
    ]);
  });
});

describe('the older memory size calls', () => {
  it('agree with QEMU for 512 MiB', () => {
    const map = pcMemoryMap(512 * MIB);
    expect(e801(map)).toEqual({ kilobytes: 0x3c00, blocks: 0x1efe });
    expect(extendedKilobytes88(map)).toBe(0xfc00);
  });

  it('stop at a hole', () => {
    const map = [
      { address: 0n, size: 0xa0000n, type: 1 },
      { address: 0x100000n, size: 0x700000n, type: 1 },
      { address: 0x900000n, size: 0x700000n, type: 1 },
    ];
    expect(extendedMemory(map)).toBe(7 * MIB);
    expect(e801(map)).toEqual({ kilobytes: 7 * 1024, blocks: 0 });
  });
});
