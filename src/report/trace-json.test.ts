// Traces that come from elsewhere: what is wrong with one is said, not stumbled over.

import { describe, expect, it } from 'vitest';
import { checkTrace } from './trace-json.ts';

const GOOD = { image: {}, machine: {}, phases: [], kernel: null, stopped: null, console: '' };

const PHASE = { name: 'setup', address: '0x1', registers: {}, regions: null };

describe('a trace from a file', () => {
  it('may leave out or not know its hazards and notices', () => {
    expect(checkTrace('a', GOOD)).toMatchObject({ hazards: null, notices: null });
    expect(checkTrace('a', { ...GOOD, hazards: null, notices: [] })).toMatchObject({
      hazards: null,
      notices: [],
    });
  });

  it.each([
    [{ hazards: '0x10' }, '$.hazards is no list'],
    [{ hazards: [null] }, '$.hazards[0] is no object'],
    [{ hazards: [{ start: '0x1' }] }, '$.hazards[0].end is missing'],
    [{ notices: true }, '$.notices is no list'],
    [{ phases: [{ ...PHASE, overwritten: [null] }] }, '$.phases[0].overwritten[0] is no object'],
    [
      { phases: [{ ...PHASE, pageTables: { ranges: [null] } }] },
      '$.phases[0].pageTables.ranges[0] is no object',
    ],
    [{ phases: [{ name: 'setup' }] }, '$.phases[0].address is missing'],
    [{ phases: [{ name: 'setup', address: 16 }] }, '$.phases[0].address is 16, no address such as 0x100000'],
  ])('is refused with the place of what is wrong: %j', (part, sentence) => {
    expect(() => checkTrace('a', { ...GOOD, ...part })).toThrow(sentence);
  });
});
