import { describe, expect, it } from 'vitest';
import type { DecodedInstruction } from '../boot/instruction-decoder.ts';
import { accessorJson, accessorLine } from './accessor-lines.ts';
import type { Accessor } from './writers.ts';

const UNNAMED = { instruction: null, target: null };
const MOVE: DecodedInstruction = {
  ...{ address: 0x100abc, offset: 0x100abc, bytes: Uint8Array.of(0x89, 0x07), text: 'mov %eax,(%edi)' },
  ...{ mode: 'prot32', classes: [], system: false, repeated: false, operands: [] },
};

const accessor = (more: Partial<Accessor>): Accessor => ({
  ...{ by: 'guest', start: 0x3000, end: 0x3002, phase: 'startup_32', first: 439, last: 439, count: 1 },
  ...{ instruction: MOVE, at: 0x3000, before: Uint8Array.of(0, 0), after: Uint8Array.of(7, 0xf0) },
  ...{ source: null, what: null },
  ...more,
});

describe('accessorLine', () => {
  it('has when, where, the instruction, and the bytes before and after', () => {
    expect(accessorLine(accessor({}), UNNAMED)).toBe(
      '      #439 startup_32         0x100abc prot32 mov %eax,(%edi): 0x3000: 00 00 -> 07 f0',
    );
    expect(accessorLine(accessor({}), { instruction: 'startup_32+0x10', target: 'pgtable' })).toBe(
      '      #439 startup_32         0x100abc prot32 <startup_32+0x10> mov %eax,(%edi): 0x3000 <pgtable>: 00 00 -> 07 f0',
    );
  });

  it('leaves out a count and a phase that are not known', () => {
    const line = accessorLine(accessor({ first: null, last: null, phase: null, count: 3 }), UNNAMED);
    expect(line).toMatch(/^ {30,}0x100abc .* \(3 times\): /);
  });

  it('tells a loop once, with how often, up to when, and all of what it wrote', () => {
    expect(accessorLine(accessor({ count: 8, last: 470, end: 0x3010 }), UNNAMED)).toMatch(
      /mov %eax,\(%edi\) \(8 times, to #470\): 0x3000: 00 00 -> 07 f0 of 0x3000\.\.0x3010$/,
    );
    // All its accesses are to the same bytes.
    expect(accessorLine(accessor({ count: 2, last: 470 }), UNNAMED)).toMatch(/07 f0 of 0x3000\.\.0x3002$/);
  });

  it('shows the first bytes of a long access', () => {
    expect(accessorLine(accessor({ end: 0x3040 }), UNNAMED)).toMatch(
      /: 0x3000: 00 00 … -> 07 f0 … of 0x3000\.\.0x3040$/,
    );
  });

  it('says what the host did in place of an instruction, and where a copy came from', () => {
    expect(accessorLine(accessor({ by: 'copy', source: 0x100000 }), UNNAMED)).toContain(
      'mov %eax,(%edi) (copy from 0x100000): ',
    );
    expect(accessorLine(accessor({ by: 'fill' }), UNNAMED)).toContain('mov %eax,(%edi) (fill): ');
  });

  it('names the loader, firmware and the trap where no instruction did it', () => {
    const none = { instruction: null, before: new Uint8Array(0), first: 0, last: 0 };
    expect(accessorLine(accessor({ ...none, by: 'loader', what: 'initrd' }), UNNAMED)).toMatch(
      /startup_32 +the loader \(initrd\) at 0x3000: 0x3000: 07 f0$/,
    );
    expect(accessorLine(accessor({ ...none, by: 'loader', before: Uint8Array.of(1, 2) }), UNNAMED)).toMatch(
      /the loader at 0x3000: 0x3000: 07 f0$/,
    );
    expect(accessorLine(accessor({ ...none, by: 'firmware', what: 'BIOS ROM' }), UNNAMED)).toMatch(
      /startup_32 +firmware \(BIOS ROM\): 0x3000: 07 f0$/,
    );
    const trap = { instruction: null, by: 'extract_kernel', what: 'bss' } as const;
    expect(accessorLine(accessor(trap), UNNAMED)).toMatch(/extract_kernel \(bss\): 0x3000: 00 00 -> 07 f0$/);
  });
});

describe('accessorJson', () => {
  it('has addresses and bytes in hexadecimal', () => {
    expect(accessorJson(accessor({ source: 0x100000, by: 'copy' }), UNNAMED)).toEqual({
      ...{ by: 'copy', start: '0x3000', end: '0x3002', at: '0x3000', before: '0000', after: '07f0' },
      ...{ phase: 'startup_32', first: 439, last: 439, count: 1, source: '0x100000', what: null },
      instruction: { address: '0x100abc', mode: 'prot32', text: 'mov %eax,(%edi)', bytes: '8907' },
    });
  });

  it('has the names where there are any, and no instruction of the host’s', () => {
    const names = { instruction: '_start', target: 'pgtable' };
    expect(accessorJson(accessor({}), names)).toMatchObject({
      ...{ symbol: 'pgtable', source: null, instruction: { symbol: '_start' } },
    });
    expect(accessorJson(accessor({ instruction: null }), UNNAMED)).toMatchObject({ instruction: null });
  });
});
