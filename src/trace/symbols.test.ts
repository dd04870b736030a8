import { describe, expect, it } from 'vitest';
import { MAX_OFFSET, plainest, readSystemMap, SymbolTable } from './symbols.ts';

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
    expect(table.name(0x1010n + MAX_OFFSET - 1n)).toBe('second+0xffffff');
    expect(table.name(0x1010n + MAX_OFFSET)).toBeNull();
    expect(table.name(-1n)).toBeNull();
    expect(new SymbolTable([]).name(0n)).toBeNull();
  });

  it('prefers the name with the fewest leading underscores', () => {
    expect(plainest(['_text', '__head', 'startup_64', 'later'])).toBe('startup_64');
    expect(plainest(['_a', 'b__c', '__d'])).toBe('b__c');
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

  it('reads past empty lines, and refuses a file that names nothing or only stands for one', () => {
    const map = readSystemMap('m', text('\n1000 T a\n  \n2000 T b\n'));
    expect([map.size, map.name(0x2001n)]).toEqual([2, 'b+0x1']);
    expect(() => readSystemMap('m', text('0 A absolute\n'))).toThrow('m names no address');
    expect(() => readSystemMap('m', text('ffffffffffffffff B see the package\n'))).toThrow(
      'm is no System.map but stands for one, it has a single line: `ffffffffffffffff B see the package`',
    );
  });

  it('names the line that is none of a System.map', () => {
    expect(() => readSystemMap('x.map', text('ffffffff81000000 T a\nnonsense\n'))).toThrow(/x\.map, line 2/);
  });
});
