import { describe, expect, it } from 'vitest';
import type { BootEvent } from './boot-trace.ts';
import { eventChoiceName, isChosen, parseEventChoice } from './event-choice.ts';

const event = (kind: BootEvent['kind'], details: BootEvent['details']): BootEvent => ({
  ...{ kind, details, phase: 'setup', address: 0n, instructions: 0, text: '' },
});
const EVENTS = {
  e820: event('bios', { vector: 0x15, 'in eax': '0xe820' }),
  read: event('bios', { vector: 0x13, 'in eax': '0x201' }),
  uart: event('port', { device: 'UART', ports: '0x3f8 0x3fd' }),
  map: event('efi', { service: 'GetMemoryMap' }),
  gop: event('efi', { service: 'PciIo.Pci.Read' }),
  efer: event('msr', { msr: '0xc0000080', name: 'EFER' }),
  pat: event('msr', { msr: '0x277', name: null }),
  cr3: event('control-register', { register: 'cr3' }),
  fault: event('exception', { vector: 14 }),
};

describe('a choice of events', () => {
  it.each([
    ['bios', ['e820', 'read']],
    ['bios=0x15', ['e820']],
    ['bios=0x015/0xE820', ['e820']],
    ['bios=0x13/0x2', ['read']],
    ['bios=0x13/0x41', []],
    ['port=0x3FD', ['uart']],
    ['port=uart', ['uart']],
    ['port=0x60', []],
    ['efi=getmemorymap', ['map']],
    ['efi=PciIo.Pci.Read', ['gop']],
    ['msr=EFER', ['efer']],
    ['msr=0x277', ['pat']],
    ['msr=null', []],
    ['control-register=cr3', ['cr3']],
    ['exception=0xe', ['fault']],
  ])('%s means %j', (text, names) => {
    const choice = parseEventChoice(text)!;
    const chosen = Object.entries(EVENTS).filter(([, each]) => isChosen(each, choice));
    expect(chosen.map(([name]) => name)).toEqual(names);
    expect(parseEventChoice(eventChoiceName(choice))).toEqual(choice);
  });

  it('is none where no kind of event is named', () => {
    for (const text of ['', 'bogus', 'bogus=1', '0x13', 'bios 0x13'])
      expect(parseEventChoice(text)).toBeNull();
  });

  it.each([
    ['bios=', 'name an interrupt, bios=0x13, or a service of it'],
    ['bios=19', 'name an interrupt'],
    ['port=', 'name a port, port=0x3f8, or a device'],
    ['efi=Get Time', 'name a service by its name'],
    ['control-register=eax', 'name a register'],
    ['copy=0x100000', 'copy events have nothing to choose by'],
  ])('says what may be named where %s cannot', (text, sentence) => {
    expect(() => parseEventChoice(text)).toThrow(sentence);
  });
});
