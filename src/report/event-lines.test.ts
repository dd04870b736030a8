import { describe, expect, it } from 'vitest';
import type { BootEvent } from '../trace/boot-trace.ts';
import { eventLine } from './event-lines.ts';

const event = (fields: Partial<BootEvent>): BootEvent => ({
  ...{ kind: 'msr', phase: 'setup', address: 0x902fen, instructions: 1023, text: '', details: {} },
  ...fields,
});

describe('eventLine', () => {
  it('shows of a BIOS call what it got, what it returned, and what it left in memory', () => {
    const details = {
      ...{ vector: 0x15, service: 'INT 15h E820: query system address map', carry: false },
      ...{ result: '0x0..0x9fc00 usable', 'in eax': '0xe820', 'in ebx': '0x0', 'out ebx': '0x1' },
    };
    expect(eventLine(event({ kind: 'bios', details })).replace(/ +/g, ' ')).toBe(
      ' #1023 setup 0x902fe bios INT 15h E820: query system address map(eax=0xe820, ebx=0x0) = ebx=0x1: 0x0..0x9fc00 usable',
    );
  });

  it('says that a BIOS call failed', () => {
    const details = { service: 'INT 13h 41: EDD', carry: true, result: null, 'out eax': '0x100' };
    expect(eventLine(event({ kind: 'bios', details }))).toMatch(/INT 13h 41: EDD\(\) = failed, eax=0x100$/);
  });

  it('quotes what the guest printed, so that a line stays a line', () => {
    expect(eventLine(event({ kind: 'console', text: 'a\tb' }))).toMatch(/ "a\\tb"$/);
  });

  it('leaves the count blank where nothing was counted, and names the address where a symbol is known', () => {
    const line = eventLine(event({ instructions: null, symbol: 'startup_32+0x5', text: 'cr4 = 0x20' }));
    expect(line).toMatch(/^ {10} setup .* <startup_32\+0x5> cr4 = 0x20$/);
  });
});
