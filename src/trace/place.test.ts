import { describe, expect, it } from 'vitest';
import { parsePlace, placeName } from './place.ts';

describe('parsePlace', () => {
  it('reads a phase, an address, a count and an event', () => {
    expect(parsePlace('startup_64')).toEqual({ kind: 'phase', phase: 'startup_64' });
    expect(parsePlace('0x100000')).toEqual({ kind: 'address', address: 0x100000 });
    expect(parsePlace('#4711')).toEqual({ kind: 'count', instructions: 4711 });
    expect(parsePlace('bios:3')).toEqual({ kind: 'event', event: 'bios', number: 3 });
    expect(parsePlace('control-register:1')).toEqual({ kind: 'event', event: 'control-register', number: 1 });
  });

  it('reads an event of one port, interrupt or service, and the next one', () => {
    expect(parsePlace('port=0x3F8:2')).toEqual({ kind: 'event', event: 'port', of: '0x3f8', number: 2 });
    expect(parsePlace('bios=0x15/0xe820')).toEqual({
      ...{ kind: 'event', event: 'bios', of: '0x15/0xe820', number: null },
    });
    expect(parsePlace('efi')).toEqual({ kind: 'event', event: 'efi', number: null });
    expect(() => parsePlace('port=0x3f8:0')).toThrow('counted from 1: port=0x3f8:1, not port=0x3f8:0');
  });

  it('is written back as it was read', () => {
    for (const text of ['setup', '0x9020a', '#0', 'msr:2', 'bios', 'efi=GetMemoryMap', 'port=0x64:3'])
      expect(placeName(parsePlace(text))).toBe(text);
  });

  it('says what a place may be where the text is none', () => {
    expect(() => parsePlace('startup64')).toThrow(
      /"startup64" is no place in a boot: name a phase.*startup_64.*bios/,
    );
    expect(() => parsePlace('1048576')).toThrow(/is no place/);
    expect(() => parsePlace('bogus:1')).toThrow(/is no place/);
    expect(() => parsePlace('bogus\nbios:1')).toThrow(/is no place/);
    expect(() => parsePlace('bios:1\n')).toThrow(/is no place/);
    expect(() => parsePlace('')).toThrow(/"" is no place/);
  });

  it('refuses an event before the first and an address that no number holds', () => {
    expect(() => parsePlace('bios:0')).toThrow('events are counted from 1: bios:1, not bios:0');
    expect(() => parsePlace('0xffffffff81000000')).toThrow('53 bits');
  });
});
