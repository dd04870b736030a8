import { describe, expect, it } from 'vitest';
import type { KaslrGeneration } from './kaslr-generation.ts';
import { type MemoryOptions, readMemoryOptions } from './kaslr-memory-options.ts';

const MAXIMUM = 2 ** 46;
const ALL = { memmap: true, mem: true, hugePages: true, since510: true } as KaslrGeneration;

function read(
  commandLine: string,
  {
    generation = {},
    bits = 64,
    atNull = '',
  }: {
    readonly generation?: Partial<KaslrGeneration>;
    readonly bits?: 32 | 64;
    readonly atNull?: string;
  } = {},
): MemoryOptions {
  return readMemoryOptions(commandLine, { ...ALL, ...generation }, MAXIMUM, bits, atNull);
}

const avoided = (options: MemoryOptions): string[] =>
  options.memmap.map(({ start, end }) => `${start.toString(16)}..${end.toString(16)}`);

describe('memmap=', () => {
  it('names regions by a size and where they start, for each kind of region', () => {
    expect(avoided(read('memmap=1M$16M,0x1000#0x2000000 memmap=4K!48M'))).toEqual([
      '1000000..1100000',
      '2000000..2001000',
      '3000000..3001000',
    ]);
    expect(read('memmap=1M$16M').memmap[0]!.reason).toBe('memmap=1M$16M');
  });

  it('is a limit with a size alone, and nothing for memory that is usable, empty, or starts at 0', () => {
    expect(read('memmap=256M').limit).toBe(256 << 20);
    for (const text of ['memmap=1M@16M', 'memmap=0', 'memmap=0$16K']) {
      expect(read(text).limit, text).toBe(MAXIMUM);
    }
    expect(read('memmap=1M@16M').memmap).toEqual([]);
    expect(read('memmap=2M$0').limit).toBe(2 << 20);
  });

  it('ends a list at exactmap and at what is no number, and goes on with the next option', () => {
    expect(avoided(read('memmap=1M$16M,exactmap,1M$32M memmap=1M$48M'))).toEqual([
      '1000000..1100000',
      '3000000..3100000',
    ]);
    expect(avoided(read('memmap=x,1M$32M'))).toEqual([]);
  });

  it('has room for four regions; a fifth in one list makes the stub give up, one in another is not seen', () => {
    const four = 'memmap=1M$16M,1M$32M,1M$48M,1M$64M';
    expect(read(four)).toMatchObject({ tooManyMemmaps: false });
    expect(read(`${four},1M$80M`)).toMatchObject({ tooManyMemmaps: true });
    expect(read(`${four} memmap=1M$80M`)).toMatchObject({ tooManyMemmaps: false });
    expect(avoided(read(`${four} memmap=1M$80M`))).toHaveLength(4);
  });

  it('without a value says nothing, whatever lies at address 0', () => {
    expect(read('memmap memmap=1M$16M', { atNull: '512M' }).limit).toBe(MAXIMUM);
  });

  it('is not read by stubs that do not know it', () => {
    expect(read('memmap=1M$16M mem=64M', { generation: { memmap: false } })).toMatchObject({
      limit: MAXIMUM,
      memmap: [],
    });
  });
});

describe('mem=', () => {
  it('is a limit: the smallest since 5.10, the last before', () => {
    expect(read('mem=64M mem=128M').limit).toBe(64 << 20);
    expect(read('mem=64M mem=128M', { generation: { since510: false } }).limit).toBe(128 << 20);
  });

  it('says nothing as nopentium, and ends the reading as 0', () => {
    expect(read('mem=nopentium mem=64M').limit).toBe(64 << 20);
    expect(read('mem=0 mem=64M').limit).toBe(MAXIMUM);
    expect(read('mem=0 mem=64M', { generation: { mem: false } }).limit).toBe(MAXIMUM);
  });

  it('is not read by stubs that know memmap= alone', () => {
    expect(read('mem=64M', { generation: { mem: false } }).limit).toBe(MAXIMUM);
  });
});

describe('pages of 1 GiB', () => {
  it('are counted behind their size only', () => {
    expect(read('hugepagesz=1G hugepages=3').gigabytePages).toBe(3);
    expect(read('hugepages=3').gigabytePages).toBe(0);
    expect(read('hugepagesz=2M hugepages=3').gigabytePages).toBe(0);
    expect(read('hugepagesz=1G hugepagesz=2M hugepages=3').gigabytePages).toBe(0);
  });

  it('are warned of when their size comes twice in a row', () => {
    const warning = ['Repeatedly set hugeTLB page size of 1G!\n'];
    expect(read('hugepagesz=1G hugepages=1').warnings).toEqual([]);
    expect(read('hugepagesz=1G hugepagesz=1G').warnings).toEqual(warning);
    expect(read('hugepagesz=1G hugepagesz=2M hugepagesz=1G').warnings).toEqual([]);
  });

  it('are looked at by 64-bit stubs that know them', () => {
    expect(read('hugepagesz=1G hugepages=3', { bits: 32 }).gigabytePages).toBe(0);
    expect(read('hugepagesz=1G hugepages=3', { generation: { hugePages: false } }).gigabytePages).toBe(0);
  });
});

describe('--', () => {
  it('ends the reading; before 5.10 with a warning, if there is an option to look for', () => {
    const old = { generation: { since510: false } };
    expect(read('mem=64M -- mem=32M')).toMatchObject({ limit: 64 << 20, warnings: [] });
    expect(read('mem=64M -- mem=32M', old).warnings).toEqual(["Only '--' specified in cmdline"]);
    expect(read('quiet -- init', old).warnings).toEqual([]);
  });
});
