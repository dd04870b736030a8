// What the explorer finds by name and by address, and in what order.

import { describe, expect, it } from 'vitest';
import type { ModelRegion } from '../../report/report-model.ts';
import { foundLines } from './found-lines.ts';

const region = (name: string, start: number, end: number): ModelRegion => ({
  ...{ name, start, end, kind: 'kernel', source: '', inferred: false },
  ...{ parent: null, change: 'same', before: null },
});
const regions = [region('run area', 0x1000, 0x9000), region('VO startup', 0x2000, 0x3000)];

describe('what is found', () => {
  it('by an address is the symbol there, then the regions around it, the inner first, then the bytes', () => {
    const symbol = { name: 'startup_64', address: '0x2010' };
    expect(foundLines('0x2010', regions, [symbol]).map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'symbol startup_64',
      'region VO startup',
      'region run area',
      'address 0x2010',
    ]);
  });

  it('by a name begins with what is called so, then what begins so', () => {
    const symbols = [
      { name: 'early_startup_32', address: '0x5000' },
      { name: 'startup_32_smp', address: '0x6000' },
    ];
    expect(foundLines('STARTUP_32', regions, symbols).map(({ name, address }) => [name, address])).toEqual([
      ['startup_32', null],
      ['startup_32_smp', '0x6000'],
      ['early_startup_32', '0x5000'],
    ]);
    expect(foundLines('vo start', regions, [])).toEqual([
      { kind: 'region', name: 'VO startup', address: '0x2000' },
    ]);
  });
});
