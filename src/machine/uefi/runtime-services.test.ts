// The runtime services as UEFI 2.10, chapter 8 has them.

import { describe, expect, it } from 'vitest';
import { EFI_GUIDS, guidText } from '../../protocol/efi-guids.ts';
import type { EfiVariable } from '../../protocol/efi-variables.ts';
import { readChar16 } from './service.ts';
import { TestFirmware } from './test-firmware.ts';

const [BOOT, RUNTIME] = [2, 4];
const variable = (name: string, data: readonly number[], attributes = BOOT | RUNTIME): EfiVariable => ({
  ...{ name, vendor: EFI_GUIDS.LoaderInterface, attributes, data: Uint8Array.from(data) },
});

describe('GetTime', () => {
  it('is EFI_TIME of the machine’s own clock, in no time zone', () => {
    const firmware = new TestFirmware();
    const time = firmware.put(new Uint8Array(16).fill(0xff));
    firmware.clock.advance(((31 + 4) * 86_400 + 5 * 3600 + 6 * 60 + 7) * 1e9 + 999e6);
    expect(firmware.runtime('GetTime', time, 0)).toBe('SUCCESS');
    // 2024-02-05 05:06:07; EFI_UNSPECIFIED_TIMEZONE is 7FFh.
    expect([...firmware.memory.copyOut(time, 16)]).toEqual([
      ...[0xe8, 7, 2, 5, 5, 6, 7, 0, 0, 0, 0, 0, 0xff, 7, 0, 0],
    ]);
    expect(firmware.runtime('GetTime', 0, 0)).toBe('INVALID_PARAMETER');
  });
});

describe('variables', () => {
  it('are read where there is room for them', () => {
    const firmware = new TestFirmware({ variables: [variable('Here', [7, 8, 9])] });
    const [name, vendor] = [firmware.text16('Here'), firmware.guid('LoaderInterface')];
    const buffer = firmware.put(new Uint8Array(8));
    const [size, attributes] = [firmware.put64(0), firmware.put64(0)];
    const get = (room: number, to = buffer, at = name, of = vendor): readonly [string, bigint] => {
      firmware.memory.write64(size, BigInt(room));
      return [firmware.runtime('GetVariable', at, of, attributes, size, to), firmware.read64(size)];
    };
    expect(get(2)).toEqual(['BUFFER_TOO_SMALL', 3n]);
    expect(get(3, 0)).toEqual(['INVALID_PARAMETER', 3n]);
    expect(get(3)).toEqual(['SUCCESS', 3n]);
    expect([...firmware.memory.copyOut(buffer, 4)]).toEqual([7, 8, 9, 0]);
    expect(firmware.memory.read32(attributes)).toBe(BOOT | RUNTIME);
    expect(get(9, buffer, firmware.text16('Her'))).toEqual(['NOT_FOUND', 9n]);
    expect(get(9, buffer, name, firmware.guid('GlobalVariable'))[0]).toBe('NOT_FOUND');
    expect([get(9, buffer, 0)[0], get(9, buffer, name, 0)[0]]).toEqual([
      'INVALID_PARAMETER',
      'INVALID_PARAMETER',
    ]);
    expect(firmware.runtime('GetVariable', name, vendor, 0, 0, buffer)).toBe('INVALID_PARAMETER');
  });

  it('are written, up to the largest that there is room for', () => {
    const firmware = new TestFirmware();
    const [name, vendor, data] = [
      firmware.text16('New'),
      firmware.guid('LoaderInterface'),
      firmware.put([5, 6]),
    ];
    const set = (at: number, of: number, size: number, from: number): string =>
      firmware.runtime('SetVariable', at, of, BOOT, size, from);
    const get = () => firmware.firmware.variables.get('New', EFI_GUIDS.LoaderInterface, false)?.data;
    expect([
      set(0, vendor, 2, data),
      set(firmware.text16(''), vendor, 2, data),
      set(name, 0, 2, data),
      set(name, vendor, 2, 0),
      set(name, vendor, 0x8001, 0x400000),
    ]).toEqual(new Array(5).fill('INVALID_PARAMETER'));
    expect(get()).toBeUndefined();
    expect([set(name, vendor, 2, data), get()]).toEqual(['SUCCESS', Uint8Array.of(5, 6)]);
    // No bytes delete it, wherever they would be.
    expect([set(name, vendor, 0, 0), get()]).toEqual(['SUCCESS', undefined]);
  });

  it('are gone through by name, from an empty one on', () => {
    const firmware = new TestFirmware({ variables: [variable('First', [1]), variable('Second', [2])] });
    const [name, vendor] = [firmware.put(new Uint8Array(64)), firmware.guid('Rng')];
    const size = firmware.put64(0);
    const next = (room = 64): readonly [string, bigint] => {
      firmware.memory.write64(size, BigInt(room));
      return [firmware.runtime('GetNextVariableName', size, name, vendor), firmware.read64(size)];
    };
    const names: string[] = [];
    for (let at = next(); at[0] === 'SUCCESS'; at = next()) {
      names.push(readChar16(firmware.memory, name));
      expect(at[1]).toBe(BigInt(names.at(-1)!.length * 2 + 2));
    }
    expect(names).toEqual(['Lang', 'PlatformLang', 'First', 'Second', 'SecureBoot', 'SetupMode']);
    expect(next()).toEqual(['NOT_FOUND', 64n]);
    expect(guidText(firmware.memory.copyOut(vendor, 16))).toBe(EFI_GUIDS.GlobalVariable);
    firmware.memory.write16(name, 0);
    expect(next(9)).toEqual(['BUFFER_TOO_SMALL', 10n]);
    expect(next(10)).toEqual(['SUCCESS', 10n]);
    // A name that there is not.
    firmware.memory.write16(name, 0x58);
    expect(next()[0]).toBe('INVALID_PARAMETER');
    expect([
      firmware.runtime('GetNextVariableName', 0, name, vendor),
      firmware.runtime('GetNextVariableName', size, 0, vendor),
      firmware.runtime('GetNextVariableName', size, name, 0),
    ]).toEqual(['INVALID_PARAMETER', 'INVALID_PARAMETER', 'INVALID_PARAMETER']);
  });

  it('for boot services alone are not seen by the kernel', () => {
    const firmware = new TestFirmware({ variables: [variable('BootOnly', [1], BOOT)] });
    const [name, vendor] = [firmware.text16('BootOnly'), firmware.guid('LoaderInterface')];
    const get = (): string =>
      firmware.runtime('GetVariable', name, vendor, 0, firmware.put64(9), firmware.put64(0));
    const virtual = (): string => firmware.runtime('SetVirtualAddressMap', 0, 48, 1, 0);
    expect([get(), virtual()]).toEqual(['SUCCESS', 'UNSUPPORTED']);
    firmware.firmware.exitBootServices();
    expect([get(), virtual()]).toEqual(['NOT_FOUND', 'SUCCESS']);
    const set = firmware.runtime('SetVariable', firmware.text16('New'), vendor, BOOT, 1, name);
    expect(set).toBe('INVALID_PARAMETER');
  });

  it('have room that is told', () => {
    const firmware = new TestFirmware({ variables: [variable('First', [1])] });
    const pointers = [0, 0, 0].map(() => firmware.put64(0));
    expect(firmware.runtime('QueryVariableInfo', 7, ...pointers)).toBe('SUCCESS');
    const [maximum, remaining, largest] = pointers.map((pointer) => Number(firmware.read64(pointer)));
    expect([maximum, largest]).toEqual([0x10000, 0x8000]);
    expect(remaining).toBe(maximum! - firmware.firmware.variables.used);
    expect(remaining).toBeLessThan(maximum! - 5 * 60);
  });

  it('are removed and put by the firmware whatever the rules say', () => {
    const { variables } = new TestFirmware().firmware;
    const global = EFI_GUIDS.GlobalVariable;
    expect(variables.get('SecureBoot', global, false)?.data).toEqual(Uint8Array.of(0));
    variables.remove('SecureBoot', EFI_GUIDS.LoaderInterface);
    expect(variables.get('SecureBoot', global, false)).toBeDefined();
    variables.remove('SecureBoot', global);
    expect(variables.get('SecureBoot', global, false)).toBeUndefined();
  });

  it('of a platform key make programs believe that the set-up is done, and say so', () => {
    const platformKey = { ...variable('PK', [1]), vendor: EFI_GUIDS.GlobalVariable };
    const setupMode = (firmware: TestFirmware): readonly number[] => [
      ...firmware.firmware.variables.get('SetupMode', EFI_GUIDS.GlobalVariable, false)!.data,
    ];
    const firmware = new TestFirmware({ variables: [platformKey] });
    expect([setupMode(firmware), setupMode(new TestFirmware())]).toEqual([[0], [1]]);
    expect(firmware.firmware.notices[0]).toContain('platform key (PK): signatures are not checked here');
    expect(new TestFirmware().firmware.notices).toEqual([]);
  });
});

describe('the other runtime services', () => {
  it.each([
    [0, 'restarted'],
    [1, 'restarted'],
    [2, 'switched off'],
    [3, 'restarted'],
  ])('end the run at ResetSystem of type %i', (type, what) => {
    const firmware = new TestFirmware();
    firmware.runtime('ResetSystem', type, 0, 0, 0);
    expect(firmware.stopped).toBe(`the image asked for the machine to be ${what} (ResetSystem)`);
  });

  it('count, and say UNSUPPORTED to what nobody wrote', () => {
    const firmware = new TestFirmware();
    const count = firmware.put64(0);
    expect(firmware.runtime('GetNextHighMonotonicCount', count)).toBe('SUCCESS');
    expect(firmware.memory.read32(count)).toBe(1);
    for (const name of [
      ...(['SetTime', 'GetWakeupTime', 'SetWakeupTime', 'ConvertPointer'] as const),
      ...(['UpdateCapsule', 'QueryCapsuleCapabilities'] as const),
    ])
      expect(firmware.runtime(name)).toBe('UNSUPPORTED');
    expect(firmware.firmware.notices).toHaveLength(6);
  });
});
