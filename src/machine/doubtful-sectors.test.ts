// What is told of sectors that a loader has read and that cannot be code.

import { describe, expect, it } from 'vitest';
import { DoubtfulSectors } from './doubtful-sectors.ts';

const SIZE = 512;

describe('DoubtfulSectors', () => {
  it('joins sectors of zeroes that were read one after the other, and tells no others', () => {
    const doubtful = new DoubtfulSectors();
    const bytes = new Uint8Array(4 * SIZE);
    bytes[0] = 1;
    doubtful.addRead('disk.img', 5, bytes, SIZE);
    doubtful.addRead('disk.img', 9, new Uint8Array(2 * SIZE), SIZE);
    doubtful.addRead('disk.img', 11, new Uint8Array(SIZE).fill(1), SIZE);
    doubtful.addRead('disk.img', 20, new Uint8Array(SIZE), SIZE);
    doubtful.addRead('disk.img', 30, new Uint8Array(2 * SIZE), SIZE, 'core.img');
    expect(doubtful.texts(new Set())).toEqual([
      'the loader has read sectors 6 to 10 of disk.img (in no partition), sector 20 of disk.img (in no partition), which hold nothing but zeroes',
    ]);
    expect(doubtful.texts(new Set(['core.img']))[0]).toContain(
      'sectors 30 to 31 of disk.img (core.img), which',
    );
  });

  it('names the first that is not there, and says how many ranges it leaves out', () => {
    const doubtful = new DoubtfulSectors();
    expect(doubtful.texts(new Set())).toEqual([]);
    doubtful.addMissing('disk.img', 2, 127, 40);
    doubtful.addMissing('disk.img', 200, 1, 40);
    for (let sector = 0; sector < 200; sector += 2)
      doubtful.addRead('disk.img', sector, new Uint8Array(SIZE), SIZE);
    expect(doubtful.texts(new Set())[0]).toBe(
      'the loader has asked for sectors 2 to 128 of disk.img, which has 40',
    );
    expect(doubtful.texts(new Set())[1]).toContain('and 61 more ranges');
  });
});
