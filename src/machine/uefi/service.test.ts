// How calls of services are shown, and the texts that EFI programs hand over.

import { describe, expect, it } from 'vitest';
import { encodeDevicePath, pciPath } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, guidBytes } from '../../protocol/efi-guids.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { argumentText, bytesAt, char16Bytes, readChar16, resultText, service } from './service.ts';

const memory = PhysicalMemory.of(new Uint8Array(0x4000));
const parameter = (text: string) => service('Test', text, null).parameters[0]!;
const show = (text: string, value: bigint): string => argumentText(memory, parameter(text), value);
const [TEXT, GUID, PATH, POINTER] = [0x1000, 0x1100, 0x1200, 0x1300];
memory.copyIn(TEXT, char16Bytes('a "b"'));
memory.copyIn(GUID, guidBytes(EFI_GUIDS.LoadedImage));
memory.copyIn(PATH, encodeDevicePath(pciPath(1, 2)));
memory.write64(POINTER, 0x12n);

describe('an argument', () => {
  it.each([
    ['N:number', 9n, '9'],
    ['N:number', 10n, '0xa'],
    ['A:address', 0n, 'NULL'],
    ['A:address', 5n, '0x5'],
    ['B:boolean', 0xff00n, 'FALSE'],
    ['B:boolean', 1n, 'TRUE'],
    ['G:guid', BigInt(GUID), 'LoadedImage'],
    ['G:guid', 0n, '0x0'],
    ['G:guid', 0x3ff1n, '0x3ff1'],
    ['T:char16', 0n, 'NULL'],
    ['T:char16', BigInt(TEXT), '"a \\"b\\""'],
    ['M:memory-type', 0xff_0000_0004n, 'BootServicesData'],
    ['M:memory-type', 0x8000_0000n, '0x80000000'],
    ['K:allocate-type', 2n, 'Address'],
    ['K:allocate-type', 3n, '0x3'],
    ['S:search-type', 2n, 'ByProtocol'],
    ['S:search-type', 3n, '0x3'],
    ['R:reset-type', 2n, 'Shutdown'],
    ['R:reset-type', 4n, '0x4'],
    ['D:device-path', 0n, 'NULL'],
    ['D:device-path', BigInt(PATH), 'PciRoot(0x0)/Pci(0x1,0x2)'],
    ['D:device-path', BigInt(TEXT), '0x1000'],
  ])('%s with %i is shown as %s', (text, value, shown) => {
    expect(show(text, value)).toBe(shown);
  });

  it('that points is shown by what it points to, before and after', () => {
    expect([show('*P:number', 0n), show('*P:number', BigInt(POINTER)), show('&P:number', 0n)]).toEqual([
      'NULL',
      'out',
      'NULL',
    ]);
    expect(show('&P:number', BigInt(POINTER))).toBe('&0x12');
    expect(show('&P:number', 0x3ffcn)).toBe('&0x3ffc');
    const left = (text: string, value: bigint) => resultText(memory, parameter(text), value);
    expect([left('*P:number', BigInt(POINTER)), left('&P:address', BigInt(POINTER))]).toEqual([
      '0x12',
      '0x12',
    ]);
    expect([left('*P:number', 0n), left('P:number', BigInt(POINTER))]).toEqual([null, null]);
  });

  it('of a row has a name and a type that there is', () => {
    expect(service('Test', '', null).parameters).toEqual([]);
    expect(service('Test', 'A:address *B:number &C:guid', null)).toMatchObject({
      parameters: [
        { name: 'A', type: 'address', direction: 'in' },
        { name: 'B', type: 'number', direction: 'out' },
        { name: 'C', type: 'guid', direction: 'in-out' },
      ],
      returns: 'status',
    });
    for (const wrong of ['A', 'A:word', '+A:number', 'A:', 'A:number,'])
      expect(() => service('Test', wrong, null)).toThrow(`Test: "${wrong}" is no parameter`);
  });
});

describe('a text of 16-bit characters', () => {
  it('ends at its NUL, its limit or the end of memory', () => {
    expect([readChar16(memory, TEXT), readChar16(memory, TEXT, 3)]).toEqual(['a "b"', 'a "']);
    memory.copyIn(0x3ffc, Uint8Array.of(0x41, 0, 0x42, 1));
    expect([readChar16(memory, 0x3ffc), readChar16(memory, 0x3fff), readChar16(memory, 0x9000)]).toEqual([
      'A\u0142',
      '',
      '',
    ]);
    expect([...char16Bytes('A\u0142')]).toEqual([0x41, 0, 0x42, 1, 0, 0]);
    expect(readChar16(memory, 0x3ffc, 1)).toBe('A');
  });
});

describe('bytes of unknown length', () => {
  it('end with memory', () => {
    expect([bytesAt(memory, 0x1000).length, bytesAt(memory, 0x1000, 5).length]).toEqual([0x1000, 5]);
    expect([
      bytesAt(memory, 0x3ff0).length,
      bytesAt(memory, 0x4000).length,
      bytesAt(memory, 0x99999).length,
    ]).toEqual([0x10, 0, 0]);
  });
});
