// The memory map and what older calls say about it.

import { describe, expect, it } from 'vitest';
import {
  e801,
  extendedKilobytes88,
  extendedMemory,
  highestRam,
  machineMemoryMap,
  ramOfMap,
  ramSizes,
} from './memory-map.ts';

const MIB = 1024 * 1024;

describe('the memory map of a machine', () => {
  it('is what SeaBIOS gives out on an i440fx PC with 512 MiB', () => {
    const rows = machineMemoryMap('pc', { low: 512 * MIB, high: 0 }).map(
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

const GIB = 1024 * MIB;

describe('RAM around the hole below 4 GiB', () => {
  // As QEMU 7.2 lays it out: the E820 lines that Linux 6.1 prints there.
  it.each([
    ['pc', 3 * GIB, 3 * GIB, 0],
    ['pc', 3500 * MIB, 3500 * MIB, 0],
    ['pc', 4 * GIB, 3 * GIB, GIB],
    ['pc', 16 * GIB, 3 * GIB, 13 * GIB],
    ['q35', 2560 * MIB, 2560 * MIB, 0],
    ['q35', 2900 * MIB, 2 * GIB, 852 * MIB],
    ['q35', 6 * GIB, 2 * GIB, 4 * GIB],
    ['microvm', 3 * GIB, 3 * GIB, 0],
    ['microvm', 6 * GIB, 3 * GIB, 3 * GIB],
  ] as const)('of %s with %d bytes', (model, memory, low, high) => {
    expect(ramSizes(model, memory)).toEqual({ low, high });
  });

  it('is told of by the maps that SeaBIOS gives out with 6 GiB', () => {
    const rows = (model: 'pc' | 'q35' | 'microvm') =>
      machineMemoryMap(model, ramSizes(model, 6 * GIB))
        .slice(2)
        .map(
          ({ address, size, type }) =>
            `${address.toString(16)}-${(address + size - 1n).toString(16)} ${type}`,
        );
    expect(rows('pc')).toEqual([
      'f0000-fffff 2',
      '100000-bffdffff 1',
      'bffe0000-bfffffff 2',
      'fffc0000-ffffffff 2',
      '100000000-1bfffffff 1',
      'fd00000000-ffffffffff 2',
    ]);
    expect(rows('q35')).toEqual([
      'f0000-fffff 2',
      '100000-7ffdefff 1',
      '7ffdf000-7fffffff 2',
      'b0000000-bfffffff 2',
      'fed1c000-fed1ffff 2',
      'fffc0000-ffffffff 2',
      '100000000-1ffffffff 1',
      'fd00000000-ffffffffff 2',
    ]);
    expect(rows('microvm')).toEqual([
      'd0000-effff 4',
      'f0000-fffff 2',
      '100000-bfffffff 1',
      '100000000-1bfffffff 1',
    ]);
  });

  it('is what a map of another machine says, less what is reserved', () => {
    expect(
      ramOfMap([
        { address: 0n, size: 0x9fc00n, type: 1 },
        { address: 0x100000n, size: 0x7fe00000n, type: 1 },
        { address: 0x7ff00000n, size: 0x100000n, type: 3 },
        { address: 0xfffc0000n, size: 0x40000n, type: 2 },
        { address: 0x1_0000_0000n, size: 0x8000_0000n, type: 1 },
      ]),
    ).toEqual({ low: 2 * GIB, high: 2 * GIB });
  });

  it('ends where the processor cannot address more', () => {
    expect(highestRam(40, false)).toBe(2 ** 40);
    expect(highestRam(40, true)).toBe(0xfd_0000_0000);
    expect(highestRam(36, true)).toBe(2 ** 36);
  });
});

describe('the older memory size calls', () => {
  it('agree with QEMU for 512 MiB', () => {
    const map = machineMemoryMap('pc', { low: 512 * MIB, high: 0 });
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
