import { describe, expect, it } from 'vitest';
import { plainest, readSystemMap, SymbolTable } from './symbols.ts';

const text = (lines: string) => new TextEncoder().encode(lines);

describe('SymbolTable', () => {
  const table = new SymbolTable([
    { address: 0x1010n, name: 'second' },
    { address: 0x1000n, name: '_text' },
    { address: 0x1000n, name: 'startup_64' },
  ]);

  it('names an address by the symbol before it and the distance', () => {
    expect(table.name(0x1004n)).toBe('startup_64+0x4');
    expect(table.name(0x1010n)).toBe('second');
  });

  it('gives no name before the first symbol and far behind the last', () => {
    expect(table.name(0xfffn)).toBeNull();
    expect(table.name(0x8000_0000n)).toBeNull();
  });

  it('prefers the name with the fewest leading underscores', () => {
    expect(plainest(['_text', '__head', 'startup_64', 'later'])).toBe('startup_64');
  });
});

describe('readSystemMap', () => {
  it('reads addresses and names and leaves absolute symbols out', () => {
    const map = readSystemMap(
      'System.map',
      text('0000000000000010 A absolute\nffffffff81000000 T startup_64\nffffffff81000100 T other\n'),
    );
    expect(map.size).toBe(2);
    expect(map.name(0xffffffff81000002n)).toBe('startup_64+0x2');
  });

  it('names the line that is none of a System.map', () => {
    expect(() => readSystemMap('x.map', text('ffffffff81000000 T a\nnonsense\n'))).toThrow(/x\.map, line 2/);
  });
});
