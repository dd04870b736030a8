import { describe, expect, it } from 'vitest';
import type { Json } from './json.ts';
import { compareWithReference, type Reference, unknownPatterns } from './reference.ts';

const SEGMENT = { paddr: '0x1000000', filesz: '0x1000', sha256: 'aa' };
const ACTUAL = {
  image: { path: '/here/bzImage', sha256: '11', kind: 'bzImage' },
  machine: { engine: 'native', engineVersion: '2.0.1', ram: 536870912 },
  phases: [
    { name: 'setup', address: '0x90200', registers: { rax: '0x0', rip: '0x0' }, regions: [] },
    {
      name: 'kernel',
      address: '0x1000000',
      registers: { rax: '0x1000000', rip: '0x1000000' },
      regions: [
        { name: 'boot_params', start: '0x91000' },
        { name: 'stack', start: '0x92000' },
      ],
    },
  ],
  kernel: { entry: '0x1000000', segments: [SEGMENT, { ...SEGMENT, paddr: '0x2000000', sha256: 'bb' }] },
  stopped: null,
  notices: ['one'],
};
type Plain = Record<string, unknown>;

/** A copy with what `change` does to it. */
function changed(change: (copy: typeof ACTUAL) => void): Plain {
  const copy = structuredClone(ACTUAL);
  change(copy);
  return copy;
}

function paths(reference: Plain, actual: Plain = ACTUAL, ignore: readonly string[] = []): string[] {
  return compareWithReference(actual as Json, reference as Reference, ignore).map(({ path }) => path);
}

describe('comparing with a reference', () => {
  it('takes no name of an address for a difference', () => {
    const reference = changed((copy) => {
      Object.assign(copy.phases[1]!, { symbol: 'startup_64' });
      Object.assign(copy.kernel, { entrySymbol: 'startup_64' });
      Object.assign(copy.kernel.segments[0]!, { symbol: '_text' });
    });
    expect(paths(reference)).toEqual([]);
  });

  it('finds nothing between equals, whatever path and engine', () => {
    expect(paths(structuredClone(ACTUAL))).toEqual([]);
    const elsewhere = changed((copy) => {
      copy.image.path = 'C:\\bzImage';
      copy.machine.engine = 'wasm';
      copy.machine.engineVersion = '2.1.4';
    });
    expect(paths(elsewhere)).toEqual([]);
  });

  it('names the field, and what was expected of it', () => {
    const reference = changed((copy) => {
      copy.kernel.segments[1]!.sha256 = 'cc';
      copy.phases[1]!.registers.rax = '0x5';
    });
    const changedTo = { change: 'changed' } as const;
    expect(compareWithReference(ACTUAL as Json, reference as unknown as Reference, [])).toEqual([
      {
        ...{ ...changedTo, area: 'register', phase: 'kernel', name: 'rax', field: null },
        ...{ path: 'phases.kernel.registers.rax', expected: '0x5', actual: '0x1000000' },
      },
      {
        ...{ ...changedTo, area: 'segment', phase: null, name: '1', field: 'sha256' },
        ...{ path: 'kernel.segments.1.sha256', expected: 'cc', actual: 'bb' },
      },
    ]);
  });

  it('leaves out what the reference does not know: a missing field, a null', () => {
    const reference = changed((copy) => {
      const loose = copy as unknown as {
        image?: unknown;
        notices: null;
        kernel: { segments: { sha256: string | null }[] };
      };
      delete loose.image;
      for (const segment of loose.kernel.segments) segment.sha256 = null;
      loose.notices = null;
    });
    expect(paths(reference)).toEqual([]);
  });

  it('takes an empty list at its word: what came to it is a difference', () => {
    const reference = changed((copy) => {
      copy.notices = [];
      copy.phases[1]!.regions = [];
    });
    expect(paths(reference)).toEqual([
      'phases.kernel.regions.boot_params',
      'phases.kernel.regions.stack',
      'notices.0',
    ]);
  });

  it('finds hazards by their codes and overwrites by what was overwritten', () => {
    const hazard = { code: 'beyond-ram', text: 'it is', start: '0x1', end: '0x2' };
    const loss = { region: 'initrd', by: 'the kernel', start: '0x1', end: '0x2' };
    const withLoss = (overwritten: unknown[]): Plain =>
      changed((copy) => Object.assign(copy.phases[1]!, { overwritten }));
    const [clean, bad] = [
      { ...withLoss([]), hazards: [] },
      { ...withLoss([loss]), hazards: [hazard] },
    ];
    expect(paths(clean, bad as never)).toEqual(['phases.kernel.overwritten.initrd', 'hazards.beyond-ram']);
    expect(paths(bad, clean as never)).toEqual(paths(clean, bad as never));
    const reworded = { ...bad, hazards: [{ ...hazard, text: 'it is still' }] };
    expect(paths(bad, reworded as never)).toEqual([]);
  });

  it('pairs texts that are equal, wherever they stand in a list', () => {
    const ours = changed((copy) => {
      copy.notices = ['zero', 'one', 'two'];
    });
    expect(compareWithReference(ours as Json, ACTUAL as never, []).map(({ actual }) => actual)).toEqual([
      'zero',
      'two',
    ]);
  });

  it('does not hold against a boot what its host cannot see', () => {
    const known = changed((copy) => Object.assign(copy.phases[1]!, { instructions: 7, pageTables: {} }));
    const unseen = changed((copy) =>
      Object.assign(copy.phases[1]!, { instructions: null, pageTables: null }),
    );
    expect(paths(known, unseen)).toEqual([]);
  });

  it('takes a null for `kernel` and `stopped` at its word', () => {
    expect(paths(changed((copy) => Object.assign(copy, { kernel: null })))).toEqual(['kernel']);
    const ours = changed((copy) => Object.assign(copy, { stopped: 'the guest halted', kernel: null }));
    expect(paths(structuredClone(ACTUAL), ours)).toEqual(['kernel', 'stopped']);
  });

  it('tells fields that the boot does not have', () => {
    expect(paths({ ...ACTUAL, extra: 1 })).toEqual(['extra']);
    expect(paths({ ...ACTUAL, kernel: { ...ACTUAL.kernel, entry: ['0x1000000'] } })).toEqual([
      'kernel.entry',
    ]);
    expect(paths({ ...ACTUAL, image: 'bzImage' })).toEqual(['image']);
  });

  it('finds elements of a list by their names, in any order', () => {
    expect(paths(changed((copy) => copy.phases[1]!.regions.reverse()))).toEqual([]);
    const renamed = changed((copy) => {
      copy.phases[1]!.regions[1]!.name = 'heap';
    });
    expect(paths(renamed)).toEqual(['phases.kernel.regions.heap', 'phases.kernel.regions.stack']);
  });

  it('tells what came to a list, and what is no longer there', () => {
    expect(paths(changed((copy) => copy.phases.pop()))).toEqual(['phases.kernel']);
    expect(
      paths(
        ACTUAL,
        changed((copy) => copy.phases.pop()),
      ),
    ).toEqual(['phases.kernel']);
    expect(paths(changed((copy) => copy.kernel.segments.pop()))).toEqual(['kernel.segments.1']);
  });

  it('numbers elements that share a name', () => {
    const twice = changed((copy) => {
      copy.phases[1]!.regions.push({ name: 'stack', start: '0x93000' }, { name: 'stack', start: '0x94000' });
    });
    expect(paths(structuredClone(twice), twice)).toEqual([]);
    const moved = structuredClone(twice) as typeof ACTUAL;
    moved.phases[1]!.regions[3]!.start = '0x95000';
    expect(paths(moved, twice)).toEqual(['phases.kernel.regions.stack (3).start']);
  });
});

describe('a pattern to ignore', () => {
  const reference = changed((copy) => {
    for (const segment of copy.kernel.segments) segment.sha256 = 'cc';
    copy.phases[0]!.address = '0x10200';
    copy.phases[0]!.registers.rax = '0x5';
    copy.phases[1]!.registers.rax = '0x5';
    copy.notices = ['two'];
  });
  const ALL = [
    'phases.setup.address',
    'phases.setup.registers.rax',
    'phases.kernel.registers.rax',
    'kernel.segments.0.sha256',
    'kernel.segments.1.sha256',
    'notices.0',
  ];
  const left = (...ignore: string[]): string[] => paths(reference, ACTUAL, ignore);
  const without = (...gone: string[]): string[] =>
    ALL.filter((path) => !gone.some((part) => path.includes(part)));

  it('may leave out the names of elements', () => {
    expect(left()).toEqual(ALL);
    expect(left('segments.sha256')).toEqual(without('sha256'));
    expect(left('kernel.segments.1.sha256')).toEqual(without('1.sha256'));
  });

  it('takes all that is below it along', () => {
    expect(left('phases.setup')).toEqual(without('setup'));
    expect(left('registers')).toEqual(without('registers'));
    expect(left('phases')).toEqual(without('phases'));
    expect(left('notices')).toEqual(without('notices'));
  });

  it('may have * for any one name', () => {
    expect(left('phases.*.registers')).toEqual(without('registers'));
    expect(left('phases.*.address')).toEqual(without('address'));
  });

  it('names whole names only', () => {
    expect(left('register', 'phase', 'sha', 'segments.sha')).toEqual(ALL);
  });

  it('does not name what only an ignored name would lead to', () => {
    expect(left('setup.registers.rip')).toEqual(ALL);
  });

  it('may stand in the reference itself', () => {
    const policy = { ignore: ['segments.sha256', 'notices'] };
    expect(paths({ ...reference, policy })).toEqual(without('sha256', 'notices'));
    expect(paths({ ...reference, policy }, ACTUAL, ['phases'])).toEqual([]);
  });

  it('may hold a name with dots, as sections have', () => {
    const section = changed((copy) => copy.phases[1]!.regions.push({ name: '.init.text', start: '0x95000' }));
    expect(paths(ACTUAL, section, ['regions..init.text'])).toEqual([]);
    expect(paths(ACTUAL, section, ['regions..init.data'])).toEqual(['phases.kernel.regions..init.text']);
    const phase = (address: string) =>
      changed((copy) => {
        copy.phases[0]!.name = 'stage1.5';
        copy.phases[0]!.address = address;
      });
    const left = (pattern: string): readonly string[] => paths(phase('0x1'), phase('0x2'), [pattern]);
    expect(left('phases.stage1')).toEqual(['phases.stage1.5.address']);
    expect([left('phases.stage1.5'), left('stage1.5.address'), left('phases.*.address')]).toEqual([
      [],
      [],
      [],
    ]);
  });

  it('is unknown where it names nothing in boot or reference, nor in another boot', () => {
    const unknown = (...patterns: string[]): string[] => unknownPatterns(patterns, ACTUAL as Json);
    expect(unknown('segments.sha256', 'phases.setup', 'regions.stack', '*.rax', 'regions')).toEqual([]);
    expect(unknown('phases.startup_64.address', 'hazards.beyond-ram', 'hazards.run-area-overlap')).toEqual(
      [],
    );
    const wrong = ['segments.sha', 'kernel.sha256', 'phases.start', 'regions.initrd', 'hazards.x'];
    expect(unknown(...wrong)).toEqual(wrong);
    const reference = changed((copy) => copy.phases[1]!.regions.push({ name: 'initrd', start: '0x95000' }));
    expect(unknownPatterns(['regions.initrd'], ACTUAL as Json, reference as Reference)).toEqual([]);
  });

  it('also leaves out what the reference lacks', () => {
    const shorter = changed((copy) => copy.phases[1]!.regions.pop());
    expect(paths(shorter, ACTUAL)).toEqual(['phases.kernel.regions.stack']);
    expect(paths(shorter, ACTUAL, ['regions'])).toEqual([]);
    expect(paths(shorter, ACTUAL, ['phases.kernel.regions.stack'])).toEqual([]);
  });
});
