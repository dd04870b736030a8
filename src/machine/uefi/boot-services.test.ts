// The boot services as UEFI 2.10, chapter 7 has them: what each answers, and what it leaves where its pointers point.

import { describe, expect, it } from 'vitest';
import { encodeDevicePath, filePathNode, pciPath, vendorMedia } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, guidBytes, guidText } from '../../protocol/efi-guids.ts';
import { decodeDescriptors } from '../../protocol/efi-memory-map.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import { parseEfiFault } from './faults.ts';
import { TestFirmware } from './test-firmware.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

/** EFI_ALLOCATE_TYPE and EFI_MEMORY_TYPE. */
const [ANY, BELOW, AT] = [0, 1, 2];
const [LOADER_CODE, LOADER_DATA, CONVENTIONAL] = [1, 2, 7];
const PAGE = 0x1000;
const AN_ADDRESS = 0x500000;

describe('AllocatePages', () => {
  const allocate = (firmware: TestFirmware, kind: number, type: number, pages: number, address = 0) => {
    const pointer = firmware.put64(address);
    const status = firmware.boot('AllocatePages', kind, type, pages, pointer);
    return [status, Number(firmware.read64(pointer))] as const;
  };

  it('takes pages anywhere, below a limit, and where it is told', () => {
    const firmware = new TestFirmware();
    const [status, address] = allocate(firmware, ANY, LOADER_DATA, 3);
    expect([status, address % PAGE, firmware.firmware.pages.typeAt(address)]).toEqual([
      'SUCCESS',
      0,
      'LoaderData',
    ]);
    expect(allocate(firmware, BELOW, LOADER_CODE, 2, 0xffff)).toEqual(['SUCCESS', 0xe000]);
    expect(allocate(firmware, AT, LOADER_DATA, 1, AN_ADDRESS)).toEqual(['SUCCESS', AN_ADDRESS]);
    expect(firmware.firmware.pages.typeAt(AN_ADDRESS + PAGE)).toBe('Conventional');
  });

  it.each([
    ['a kind that there is not', 3, LOADER_DATA, 1, 0, 'INVALID_PARAMETER'],
    ['a type that there is not', ANY, 16, 1, 0, 'INVALID_PARAMETER'],
    ['free memory as a type', ANY, CONVENTIONAL, 1, 0, 'INVALID_PARAMETER'],
    ['no pages', ANY, LOADER_DATA, 0, 0, 'INVALID_PARAMETER'],
    ['more pages than there are', ANY, LOADER_DATA, 0x4000, 0, 'OUT_OF_RESOURCES'],
    ['more pages than an address space has', ANY, LOADER_DATA, 2 ** 41, 0, 'OUT_OF_RESOURCES'],
    ['an address that is taken', AT, LOADER_DATA, 1, 0x1000000, 'NOT_FOUND'],
    ['an address within a page', AT, LOADER_DATA, 1, AN_ADDRESS + 8, 'NOT_FOUND'],
    ['a limit that is too low', BELOW, LOADER_DATA, 1, 0xffe, 'OUT_OF_RESOURCES'],
  ])('refuses %s', (_, kind, type, pages, address, status) => {
    const firmware = new TestFirmware();
    const before = firmware.firmware.pages.describe();
    expect(allocate(firmware, kind, type, pages, address)).toEqual([status, address]);
    expect(firmware.firmware.pages.describe()).toEqual(before);
    expect(firmware.boot('AllocatePages', ANY, LOADER_DATA, 1, 0)).toBe('INVALID_PARAMETER');
  });

  it('may be told to take another address, and says whose memory it is', () => {
    const firmware = new TestFirmware();
    const asked: unknown[] = [];
    firmware.firmware.onAllocateAt = (request) => {
      asked.push(request);
      return AN_ADDRESS + 2 * PAGE;
    };
    expect(allocate(firmware, AT, LOADER_DATA, 2, AN_ADDRESS)).toEqual(['SUCCESS', AN_ADDRESS + 2 * PAGE]);
    allocate(firmware, ANY, LOADER_DATA, 1);
    expect(asked).toEqual([{ address: AN_ADDRESS, pages: 2, type: 'LoaderData' }]);
    expect(firmware.firmware.allocations.at(-2)).toMatchObject({
      ...{ start: AN_ADDRESS + 2 * PAGE, end: AN_ADDRESS + 4 * PAGE, type: 'LoaderData' },
      ...{ service: 'AllocatePages', call: 1, caller: '0x123456', freedIn: null },
    });
  });

  it('tells of pages for code, those of the first image among them', () => {
    const firmware = new TestFirmware();
    const ranges: (readonly [number, number])[] = [];
    firmware.firmware.onCodePages = (start, end) => ranges.push([start, end]);
    allocate(firmware, AT, LOADER_DATA, 1, AN_ADDRESS);
    allocate(firmware, AT, LOADER_CODE, 2, AN_ADDRESS + PAGE);
    expect(ranges).toEqual([[AN_ADDRESS + PAGE, AN_ADDRESS + 3 * PAGE]]);
    expect(firmware.firmware.allocations[0]).toMatchObject({
      ...{ type: 'LoaderCode', service: 'LoadImage', call: 0, caller: 'the firmware' },
    });
    firmware.firmware.allocatePages({ kind: 'AnyPages' }, 'LoaderData', 1, 'shim');
    expect(firmware.firmware.allocations.at(-1)).toMatchObject({ service: 'AllocatePages', caller: 'shim' });
  });
});

describe('FreePages', () => {
  it('gives back what is allocated, and nothing else', () => {
    const firmware = new TestFirmware();
    const pointer = firmware.put64(AN_ADDRESS);
    firmware.boot('AllocatePages', AT, LOADER_DATA, 4, pointer);
    const below = firmware.put64(AN_ADDRESS - PAGE);
    firmware.boot('AllocatePages', AT, LOADER_DATA, 1, below);
    expect(firmware.boot('FreePages', AN_ADDRESS + 1, 1)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('FreePages', AN_ADDRESS, 0)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('FreePages', AN_ADDRESS, 5)).toBe('NOT_FOUND');
    expect(firmware.boot('FreePages', 0x800000, 1)).toBe('NOT_FOUND');
    const { allocations, pages } = firmware.firmware;
    const [four, one] = allocations.slice(-2);
    expect([four!.freedIn, one!.freedIn]).toEqual([null, null]);
    expect(firmware.boot('FreePages', AN_ADDRESS, 4)).toBe('SUCCESS');
    expect([four!.freedIn, one!.freedIn]).toEqual([7, null]);
    expect([pages.typeAt(AN_ADDRESS + 3 * PAGE), pages.typeAt(AN_ADDRESS - PAGE)]).toEqual([
      'Conventional',
      'LoaderData',
    ]);
    expect(firmware.boot('FreePages', AN_ADDRESS, 4)).toBe('NOT_FOUND');
    // What is allocated there again is another allocation.
    firmware.boot('AllocatePages', AT, LOADER_DATA, 1, firmware.put64(AN_ADDRESS));
    firmware.boot('FreePages', AN_ADDRESS, 1);
    expect([four!.freedIn, allocations.at(-1)!.freedIn]).toEqual([7, 10]);
  });
});

describe('AllocatePool and FreePool', () => {
  it('give out memory of a type, filled, and take it back once', () => {
    const firmware = new TestFirmware();
    const pointer = firmware.put64(0);
    expect(firmware.boot('AllocatePool', LOADER_DATA, 100, pointer)).toBe('SUCCESS');
    const address = Number(firmware.read64(pointer));
    expect([...firmware.memory.copyOut(address, 100)]).toEqual(new Array(100).fill(0xaf));
    expect(firmware.firmware.allocations.at(-1)).toMatchObject({ start: address, end: address + 100 });
    expect(firmware.firmware.pool.blockOf(address)).toEqual({ address: address - 0x18, size: 256 });
    expect(firmware.firmware.pool.blockOf(address + 8)).toBeUndefined();
    expect(firmware.boot('FreePool', address + 8)).toBe('INVALID_PARAMETER');
    expect(firmware.firmware.allocations.at(-1)!.freedIn).toBeNull();
    expect(firmware.boot('FreePool', address)).toBe('SUCCESS');
    expect(firmware.firmware.allocations.at(-1)!.freedIn).toBe(3);
    expect(firmware.boot('FreePool', address)).toBe('INVALID_PARAMETER');
  });

  it.each([
    ['a type that there is not', 16, 8, 'INVALID_PARAMETER'],
    ['free memory as a type', CONVENTIONAL, 8, 'INVALID_PARAMETER'],
    ['more than there is', LOADER_DATA, 2 ** 30, 'OUT_OF_RESOURCES'],
    ['more than an address space has', LOADER_DATA, 2 ** 49, 'OUT_OF_RESOURCES'],
  ])('refuse %s', (_, type, size, status) => {
    const firmware = new TestFirmware();
    expect(firmware.boot('AllocatePool', type, size, firmware.put64(1))).toBe(status);
    expect(firmware.boot('AllocatePool', LOADER_DATA, 8, 0)).toBe('INVALID_PARAMETER');
  });
});

describe('GetMemoryMap', () => {
  it('says how much room it takes, then gives out descriptors of 48 bytes, and its key', () => {
    const firmware = new TestFirmware();
    const [size, key, each, version] = [0, 1, 2, 3].map(() => firmware.put64(0)) as [
      number,
      number,
      number,
      number,
    ];
    const buffer = 0x800000;
    expect(firmware.boot('GetMemoryMap', 0, buffer, key, each, version)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('GetMemoryMap', size, 0, key, each, version)).toBe('BUFFER_TOO_SMALL');
    const { pages } = firmware.firmware;
    const stated = Number(firmware.read64(size));
    expect(stated).toBe(48 * pages.statedEntries);
    expect([firmware.read64(key), firmware.read64(each)]).toEqual([BigInt(pages.mapKey), 48n]);
    expect(firmware.memory.read32(version)).toBe(1);
    firmware.memory.write64(size, BigInt(stated - 1));
    expect(firmware.boot('GetMemoryMap', size, buffer, 0, 0, 0)).toBe('BUFFER_TOO_SMALL');
    firmware.memory.write64(size, BigInt(stated));
    expect(firmware.boot('GetMemoryMap', size, 0, 0, 0, 0)).toBe('INVALID_PARAMETER');
    firmware.memory.write64(size, BigInt(stated));
    expect(firmware.boot('GetMemoryMap', size, buffer, 0, 0, 0)).toBe('SUCCESS');
    const length = Number(firmware.read64(size));
    expect(decodeDescriptors(firmware.memory.copyOut(buffer, length), 48)).toEqual(pages.describe());
  });
});

describe('events', () => {
  const TIMER = 0x8000_0000;
  const NOTIFY_SIGNAL = 0x200;
  const makeEvent = (firmware: TestFirmware, type = 0, notify = 0, context = 0): bigint => {
    const pointer = firmware.put64(0);
    expect(firmware.boot('CreateEvent', type, 8, notify, context, pointer)).toBe('SUCCESS');
    return firmware.read64(pointer);
  };

  it('are signalled, which the first check takes, until they are closed', () => {
    const firmware = new TestFirmware();
    expect(firmware.boot('CreateEvent', 0, 8, 0, 0, 0)).toBe('INVALID_PARAMETER');
    const event = makeEvent(firmware);
    expect(firmware.boot('CheckEvent', event)).toBe('NOT_READY');
    expect(firmware.boot('SignalEvent', event)).toBe('SUCCESS');
    expect([firmware.boot('CheckEvent', event), firmware.boot('CheckEvent', event)]).toEqual([
      'SUCCESS',
      'NOT_READY',
    ]);
    expect([firmware.boot('CloseEvent', event), firmware.boot('CloseEvent', event)]).toEqual([
      'SUCCESS',
      'INVALID_PARAMETER',
    ]);
    for (const service of ['CheckEvent', 'SignalEvent'] as const)
      expect(firmware.boot(service, event)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('SetTimer', event, 1, 1)).toBe('INVALID_PARAMETER');
  });

  it('call what is to be told, and return when that does', () => {
    const firmware = new TestFirmware();
    const event = makeEvent(firmware, NOTIFY_SIGNAL, 0x777000, 0x55);
    expect(firmware.boot('CheckEvent', event)).toBe('INVALID_PARAMETER');
    const { registers, firmware: inside } = firmware;
    registers.set('rbx', 0x1234n);
    firmware.boot('SignalEvent', event);
    expect([registers.get('rip'), registers.get('rcx'), registers.get('rdx')]).toEqual([
      0x777000n,
      event,
      0x55n,
    ]);
    // The notification returns: its own return address is taken from the stack.
    const rsp = registers.get('rsp')!;
    expect(rsp % 16n).toBe(8n);
    expect(inside.runningImage).toBeNull();
    registers.set('rbx', 0n);
    registers.set('rip', firmware.read64(rsp) + 1n);
    expect(inside.serve()).toBe(true);
    expect([registers.get('rip'), registers.get('rax'), registers.get('rbx')]).toEqual([
      0x123456n,
      0n,
      0x1234n,
    ]);
    // One that has nothing to be called is signalled as any other.
    expect(firmware.boot('SignalEvent', makeEvent(firmware, NOTIFY_SIGNAL))).toBe('SUCCESS');
    expect(registers.get('rip')).toBe(0x123456n);
  });

  it('of timers are signalled once, again and again, or no more', () => {
    const firmware = new TestFirmware();
    const event = makeEvent(firmware, TIMER);
    const check = (): string => firmware.boot('CheckEvent', event);
    const pass = (nanoseconds: number): void => firmware.clock.advance(nanoseconds);
    const [cancel, periodic, relative] = [0, 1, 2];
    expect(firmware.boot('SetTimer', event, 3, 10)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('SetTimer', event, relative, 10)).toBe('SUCCESS');
    pass(999);
    expect(check()).toBe('NOT_READY');
    pass(1);
    expect([check(), check()]).toEqual(['SUCCESS', 'NOT_READY']);
    pass(10_000);
    expect(check()).toBe('NOT_READY');
    firmware.boot('SetTimer', event, periodic, 10);
    for (let round = 0; round < 3; round++) {
      pass(1000);
      expect([check(), check()]).toEqual(['SUCCESS', 'NOT_READY']);
    }
    firmware.boot('SetTimer', event, cancel, 10);
    pass(10_000);
    expect(check()).toBe('NOT_READY');
  });

  it('are waited for: the index of what came, or the end where nothing can', () => {
    const firmware = new TestFirmware();
    const [first, second] = [makeEvent(firmware, TIMER), makeEvent(firmware, TIMER)];
    firmware.boot('SetTimer', first, 2, 50);
    firmware.boot('SetTimer', second, 2, 20);
    const list = firmware.put(new Uint8Array(16));
    firmware.memory.write64(list, first);
    firmware.memory.write64(list + 8, second);
    const index = firmware.put64(9);
    expect(firmware.boot('WaitForEvent', 0, list, index)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('WaitForEvent', 2, list, index)).toBe('SUCCESS');
    expect([firmware.read64(index), firmware.clock.nanoseconds]).toEqual([1n, 2000]);
    expect(firmware.boot('WaitForEvent', 2, list, index)).toBe('SUCCESS');
    expect([firmware.read64(index), firmware.clock.nanoseconds]).toEqual([0n, 5000]);
    expect(firmware.stopped).toBeNull();
    firmware.boot('WaitForEvent', 2, list, index);
    expect(firmware.stopped).toBe('the image waits for an event that never comes (a key, most likely)');
  });

  it('may belong to a group', () => {
    const firmware = new TestFirmware();
    const pointer = firmware.put64(0);
    const group = firmware.guid('MemoryAttributesTable');
    expect(firmware.boot('CreateEventEx', NOTIFY_SIGNAL, 8, 0x1000, 0, group, pointer)).toBe('SUCCESS');
    const event = firmware.read64(pointer);
    const { events } = firmware.firmware;
    expect(events.get(event)).toMatchObject({ group: EFI_GUIDS.MemoryAttributesTable, notify: 0x1000n });
    expect(events.ofGroup(EFI_GUIDS.MemoryAttributesTable).map(({ id }) => id)).toEqual([event]);
    expect(events.ofGroup(EFI_GUIDS.Rng)).toEqual([]);
    firmware.boot('CreateEventEx', NOTIFY_SIGNAL, 8, 0, 0, 0, pointer);
    expect(events.get(firmware.read64(pointer))!.group).toBeNull();
  });
});

describe('handles and protocols', () => {
  const [NATIVE, ALL, BY_NOTIFY, BY_PROTOCOL, TEST_PROTOCOL] = [0, 0, 1, 2, 4];

  it('are made, looked up, exchanged and taken away; a handle without protocols is gone', () => {
    const firmware = new TestFirmware();
    const [shim, loader, handlePointer] = [
      firmware.guid('ShimLock'),
      firmware.guid('LoaderInterface'),
      firmware.put64(0),
    ];
    const install = (guid: number, address: number): string =>
      firmware.boot('InstallProtocolInterface', handlePointer, guid, NATIVE, address);
    expect([install(shim, 0x1000), install(shim, 0x2000), install(loader, 0x3000)]).toEqual([
      'SUCCESS',
      'INVALID_PARAMETER',
      'SUCCESS',
    ]);
    const handle = firmware.read64(handlePointer);
    const found = firmware.put64(0xff);
    const look = (guid: number, at: number | bigint = handle): readonly [string, bigint] => [
      firmware.boot('HandleProtocol', at, guid, found),
      firmware.read64(found),
    ];
    expect([look(shim), look(loader)]).toEqual([
      ['SUCCESS', 0x1000n],
      ['SUCCESS', 0x3000n],
    ]);
    expect(look(firmware.guid('Rng'))).toEqual(['UNSUPPORTED', 0n]);
    expect(look(shim, 0x99)[0]).toBe('INVALID_PARAMETER');
    expect(firmware.boot('HandleProtocol', handle, shim, 0)).toBe('INVALID_PARAMETER');

    expect(firmware.boot('ReinstallProtocolInterface', handle, shim, 0x2000, 0x4000)).toBe('NOT_FOUND');
    expect(firmware.boot('ReinstallProtocolInterface', handle, shim, 0x1000, 0x4000)).toBe('SUCCESS');
    expect(look(shim)).toEqual(['SUCCESS', 0x4000n]);
    expect(firmware.boot('UninstallProtocolInterface', handle, shim, 0x1000)).toBe('NOT_FOUND');
    expect(firmware.boot('UninstallProtocolInterface', handle, shim, 0x4000)).toBe('SUCCESS');
    expect(look(shim)).toEqual(['UNSUPPORTED', 0n]);
    expect(firmware.firmware.handles.has(handle)).toBe(true);
    expect(firmware.boot('UninstallProtocolInterface', handle, loader, 0x3000)).toBe('SUCCESS');
    expect(firmware.firmware.handles.has(handle)).toBe(false);
    expect(look(loader)[0]).toBe('INVALID_PARAMETER');
  });

  it('are opened, and closed by whoever has them', () => {
    const firmware = new TestFirmware();
    const text = firmware.guid('DevicePathToText');
    const rng = firmware.guid('Rng');
    const [handle] = firmware.firmware.handles.find(EFI_GUIDS.DevicePathToText);
    const found = firmware.put64(0xff);
    const open = (guid: number, pointer: number, attributes: number, at = handle!): string =>
      firmware.boot('OpenProtocol', at, guid, pointer, 0, 0, attributes);
    expect(open(text, found, 1)).toBe('SUCCESS');
    expect(firmware.read64(found)).toBe(firmware.protocol('DevicePathToText'));
    expect([open(text, 0, 1), open(text, 0, TEST_PROTOCOL), open(text, found, 1, 0x99n)]).toEqual([
      'INVALID_PARAMETER',
      'SUCCESS',
      'INVALID_PARAMETER',
    ]);
    firmware.memory.write64(found, 0xffn);
    expect([open(rng, found, TEST_PROTOCOL), firmware.read64(found)]).toEqual(['UNSUPPORTED', 0xffn]);
    expect([open(rng, found, 1), firmware.read64(found)]).toEqual(['UNSUPPORTED', 0n]);
    expect(firmware.boot('CloseProtocol', handle!, text, 0, 0)).toBe('SUCCESS');
    expect(firmware.boot('CloseProtocol', handle!, rng, 0, 0)).toBe('NOT_FOUND');
  });

  it('are listed by protocol, or all of them', () => {
    const firmware = new TestFirmware({ configuration: { protocols: ['rng'] } });
    const { handles } = firmware.firmware;
    const guid = firmware.guid('UnicodeCollation');
    const [handle] = handles.find(EFI_GUIDS.UnicodeCollation);
    const size = firmware.put64(0);
    const buffer = firmware.put(new Uint8Array(512));
    const locate = (type: number, of: number, room: number, to = buffer): readonly [string, bigint] => {
      firmware.memory.write64(size, BigInt(room));
      return [firmware.boot('LocateHandle', type, of, 0, size, to), firmware.read64(size)];
    };
    expect(locate(BY_PROTOCOL, guid, 0)).toEqual(['BUFFER_TOO_SMALL', 8n]);
    expect(locate(BY_PROTOCOL, guid, 8, 0)).toEqual(['INVALID_PARAMETER', 8n]);
    expect(locate(BY_PROTOCOL, guid, 8)).toEqual(['SUCCESS', 8n]);
    expect(firmware.read64(buffer)).toBe(handle);
    const all = handles.find(null);
    expect(all.length).toBeGreaterThan(3);
    expect(locate(ALL, guid, 512)).toEqual(['SUCCESS', BigInt(all.length * 8)]);
    expect(all.map((_, index) => firmware.read64(buffer + index * 8))).toEqual(all);
    expect(locate(BY_PROTOCOL, firmware.guid('ShimLock'), 512)[0]).toBe('NOT_FOUND');
    expect(locate(BY_PROTOCOL, 0, 512)[0]).toBe('INVALID_PARAMETER');
    expect(locate(BY_NOTIFY, guid, 512)[0]).toBe('INVALID_PARAMETER');
    expect(firmware.boot('LocateHandle', ALL, guid, 0, 0, buffer)).toBe('INVALID_PARAMETER');
  });

  it('are listed in a buffer of the firmware’s', () => {
    const firmware = new TestFirmware({ configuration: { protocols: ['rng'] } });
    const { handles } = firmware.firmware;
    const [count, pointer] = [firmware.put64(0), firmware.put64(0)];
    const locate = (type: number, guid: number): string =>
      firmware.boot('LocateHandleBuffer', type, guid, 0, count, pointer);
    expect(locate(ALL, 0)).toBe('SUCCESS');
    const all = handles.find(null);
    const buffer = Number(firmware.read64(pointer));
    expect(all.map((_, index) => firmware.read64(buffer + index * 8))).toEqual(all);
    expect(firmware.read64(count)).toBe(BigInt(all.length));
    expect(firmware.boot('FreePool', buffer)).toBe('SUCCESS');
    expect(locate(BY_PROTOCOL, firmware.guid('ShimLock'))).toBe('NOT_FOUND');
    expect(locate(BY_NOTIFY, firmware.guid('Rng'))).toBe('INVALID_PARAMETER');

    const [driver] = handles.find(EFI_GUIDS.Rng);
    expect(firmware.boot('ProtocolsPerHandle', 0x99, pointer, count)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('ProtocolsPerHandle', driver!, pointer, count)).toBe('SUCCESS');
    const guids = Array.from({ length: Number(firmware.read64(count)) }, (_, index) => {
      const at = Number(firmware.read64(Number(firmware.read64(pointer)) + index * 8));
      return guidText(firmware.memory.copyOut(at, 16));
    });
    expect(guids).toEqual([
      EFI_GUIDS.DevicePathToText,
      EFI_GUIDS.UnicodeCollation,
      EFI_GUIDS.UnicodeCollation2,
      EFI_GUIDS.Rng,
    ]);
  });

  it('are located by protocol alone', () => {
    const firmware = new TestFirmware();
    const found = firmware.put64(0xff);
    const guid = firmware.guid('DevicePathToText');
    expect(firmware.boot('LocateProtocol', guid, 0, found)).toBe('SUCCESS');
    expect(firmware.read64(found)).toBe(firmware.protocol('DevicePathToText'));
    expect(firmware.boot('LocateProtocol', firmware.guid('Rng'), 0, found)).toBe('NOT_FOUND');
    expect(firmware.read64(found)).toBe(0n);
    expect(firmware.boot('LocateProtocol', 0, 0, found)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('LocateProtocol', guid, 0, 0)).toBe('INVALID_PARAMETER');
  });

  it('are located by the longest device path that another begins with', () => {
    const firmware = new TestFirmware();
    const guid = firmware.guid('ShimLock');
    const make = (nodes: ReturnType<typeof pciPath>, withProtocol = true): bigint => {
      const inside = firmware.firmware;
      const handle = inside.newHandle();
      inside.install(handle, 'DevicePath', inside.bytes(encodeDevicePath(nodes)));
      if (withProtocol) inside.install(handle, 'ShimLock', 0x1000n);
      return handle;
    };
    const bridge = pciPath(1, 0).slice(0, 1);
    const device = pciPath(1, 1);
    const disk = [...device, vendorMedia(EFI_GUIDS.QemuKernelLoaderFs)];
    const wanted = [...device, filePathNode('\\vmlinuz')];
    const ends = [make(disk), make(bridge), make(device), make(pciPath(2, 1)), make(wanted, false)];
    firmware.firmware.install(firmware.firmware.newHandle(), 'ShimLock', 0x2000n);

    const address = firmware.put(encodeDevicePath(wanted));
    const [path, found] = [firmware.put64(address), firmware.put64(0)];
    expect(firmware.boot('LocateDevicePath', guid, path, found)).toBe('SUCCESS');
    expect(firmware.read64(found)).toBe(ends[2]);
    // The rest of the path: the file.
    const rest = Number(firmware.read64(path));
    const file = encodeDevicePath(wanted.slice(-1));
    expect([...firmware.memory.copyOut(rest, file.length)]).toEqual([...file]);

    const locate = (of: number, pointer: number, to: number): string =>
      firmware.boot('LocateDevicePath', of, pointer, to);
    const other = firmware.put64(firmware.put(encodeDevicePath([filePathNode('\\vmlinuz')])));
    expect(locate(guid, other, found)).toBe('NOT_FOUND');
    expect(locate(0, path, found)).toBe('INVALID_PARAMETER');
    expect(locate(guid, 0, found)).toBe('INVALID_PARAMETER');
    expect(locate(guid, firmware.put64(0), found)).toBe('INVALID_PARAMETER');
    expect(locate(guid, firmware.put64(address), 0)).toBe('INVALID_PARAMETER');
  });

  it('are installed several at once, all of them or none', () => {
    const firmware = new TestFirmware();
    const { handles } = firmware.firmware;
    const [shim, loader, pointer] = [
      firmware.guid('ShimLock'),
      firmware.guid('LoaderInterface'),
      firmware.put64(0),
    ];
    const install = (...pairs: readonly number[]): string =>
      firmware.boot('InstallMultipleProtocolInterfaces', pointer, ...pairs, 0);
    const remove = (...pairs: readonly number[]): string =>
      firmware.boot('UninstallMultipleProtocolInterfaces', firmware.read64(pointer), ...pairs, 0);
    expect(install(shim, 0x1000, shim, 0x2000)).toBe('INVALID_PARAMETER');
    expect(handles.find(EFI_GUIDS.ShimLock)).toEqual([]);
    firmware.memory.write64(pointer, 0n);
    expect(install(shim, 0x1000, loader, 0x2000)).toBe('SUCCESS');
    const handle = firmware.read64(pointer);
    expect(handles.protocolsOf(handle)).toEqual([EFI_GUIDS.ShimLock, EFI_GUIDS.LoaderInterface]);
    expect(remove(shim, 0x1000, loader, 0x9999)).toBe('NOT_FOUND');
    expect(handles.get(handle, EFI_GUIDS.ShimLock)).toBe(0x1000n);
    expect(remove(shim, 0x1000, loader, 0x2000)).toBe('SUCCESS');
    expect(handles.has(handle)).toBe(false);
  });
});

describe('images', () => {
  it('end boot services with the key of the last map alone', () => {
    const firmware = new TestFirmware();
    const { handle } = firmware.firmware.images[0]!;
    const { mapKey } = firmware.firmware.pages;
    let told = 0;
    firmware.firmware.onExitBootServices = () => told++;
    firmware.registers.set('rflags', 0x202n);
    expect(firmware.boot('ExitBootServices', 0x99, mapKey)).toBe('INVALID_PARAMETER');
    expect(firmware.boot('ExitBootServices', handle, mapKey - 1)).toBe('INVALID_PARAMETER');
    expect([firmware.firmware.bootServicesExited, told]).toEqual([false, 0]);
    expect(firmware.boot('ExitBootServices', handle, mapKey)).toBe('SUCCESS');
    expect(firmware.firmware).toMatchObject({ bootServicesExited: true, exitCall: 3 });
    expect(firmware.firmware.mapAtExit).toEqual(firmware.firmware.pages.describe());
    expect([told, firmware.registers.get('rflags')]).toEqual([1, 2n]);
  });

  it('are loaded, entered with their handle and the system table, and left by Exit', () => {
    const firmware = new TestFirmware();
    const { images, places } = firmware.firmware;
    const program = efiProgram(new ProgramWriter().halt());
    firmware.memory.copyIn(0x400000, program);
    const pointer = firmware.put64(0);
    const parent = images[0]!.handle;
    const load = (from: bigint | number, to: number, at = 0x400000): string =>
      firmware.boot('LoadImage', 0, from, 0, at, program.length, to);
    expect(load(0x99, pointer)).toBe('INVALID_PARAMETER');
    expect(load(parent, 0)).toBe('INVALID_PARAMETER');
    expect(load(parent, pointer, 0)).toBe('NOT_FOUND');
    expect(load(parent, pointer)).toBe('SUCCESS');
    const handle = firmware.read64(pointer);
    expect(images[1]).toMatchObject({ name: 'image1', handle, size: 0x2000, fromFile: 0x2000 });
    const started: string[] = [];
    firmware.firmware.onImageStarted = ({ name }) => started.push(name);
    expect(firmware.boot('StartImage', 0x99, 0, 0)).toBe('INVALID_PARAMETER');
    expect(started).toEqual([]);
    firmware.boot('StartImage', handle, 0, 0);
    const { registers } = firmware;
    expect([registers.get('rip'), registers.get('rcx'), registers.get('rdx')]).toEqual([
      BigInt(images[1]!.entry),
      handle,
      BigInt(places.systemTable),
    ]);
    expect([started, firmware.firmware.runningImage]).toEqual([['image1'], handle]);
    expect(firmware.boot('Exit', parent, 5, 0, 0)).toBe('INVALID_PARAMETER');
    firmware.boot('Exit', handle, EFI_STATUS.ABORTED, 0, 0);
    expect([registers.get('rax'), firmware.firmware.runningImage]).toEqual([EFI_STATUS.ABORTED, null]);
    expect(firmware.calls.filter((call) => call.startsWith('Exit'))).toHaveLength(2);
    expect(firmware.calls.at(-1)).toMatch(/^StartImage\(.*= ABORTED$/);
    expect(firmware.firmware.gaveUp).toBe(false);
    expect(firmware.boot('UnloadImage', handle)).toBe('SUCCESS');
    expect(firmware.boot('UnloadImage', 0x99)).toBe('INVALID_PARAMETER');
  });

  it('still run while something in them is told of an event', () => {
    const firmware = new TestFirmware();
    const { images, returnAddress } = firmware.firmware;
    const program = efiProgram(new ProgramWriter().halt());
    firmware.memory.copyIn(0x400000, program);
    const [pointer, event] = [firmware.put64(0), firmware.put64(0)];
    firmware.boot('LoadImage', 0, images[0]!.handle, 0, 0x400000, program.length, pointer);
    firmware.boot('StartImage', firmware.read64(pointer), 0, 0);
    firmware.boot('CreateEvent', 0x200, 8, 0x777000, 0, event);
    firmware.boot('SignalEvent', firmware.read64(event));
    expect(firmware.registers.get('rip')).toBe(0x777000n);
    expect(firmware.firmware.runningImage).toBe(firmware.read64(pointer));
    firmware.registers.set('rip', returnAddress + 1n);
    firmware.firmware.serve();
    expect(firmware.firmware.runningImage).toBe(firmware.read64(pointer));
  });

  it('that are no program are refused with a notice', () => {
    const firmware = new TestFirmware();
    const parent = firmware.firmware.images[0]!.handle;
    const pointer = firmware.put64(0);
    expect(firmware.boot('LoadImage', 0, parent, 0, 0x400000, 64, pointer)).toBe('LOAD_ERROR');
    expect(firmware.firmware.notices).toEqual(['LoadImage refused an image of 64 bytes: it is no PE file']);
  });

  it('end the run when the first of them leaves', () => {
    const firmware = new TestFirmware();
    firmware.boot('Exit', firmware.firmware.images[0]!.handle, EFI_STATUS.LOAD_ERROR, 0, 0);
    expect(firmware.stopped).toBe('the image gave up: it called Exit with LOAD_ERROR');
    expect(firmware.firmware.gaveUp).toBe(true);
  });

  it('give way to what is next in the boot order where they fail', () => {
    const leave = (status: bigint) => {
      const firmware = new TestFirmware();
      const { firmware: inside, registers } = firmware;
      const started: unknown[] = [];
      inside.onImageStarted = (image) => started.push(image);
      const reasons: string[] = [];
      const [next] = inside.images;
      inside.nextImage = (why) => {
        reasons.push(why);
        return next!;
      };
      firmware.boot('Exit', inside.images[0]!.handle, status, 0, 0);
      return { firmware, registers, started, reasons, next: next! };
    };
    const failed = leave(EFI_STATUS.NOT_FOUND);
    expect(failed.reasons).toEqual(['the image gave up: it called Exit with NOT_FOUND']);
    expect(failed.started).toEqual([failed.next]);
    expect(failed.firmware.stopped).toBeNull();
    const { places } = failed.firmware.firmware;
    expect(['rip', 'rcx', 'rdx', 'rsp'].map((name) => failed.registers.get(name as 'rip'))).toEqual([
      BigInt(failed.next.entry),
      failed.next.handle,
      BigInt(places.systemTable),
      BigInt(places.rsp),
    ]);
    expect(failed.firmware.read64(places.rsp)).toBe(failed.firmware.firmware.returnAddress);
    const done = leave(EFI_STATUS.SUCCESS);
    expect([done.reasons, done.firmware.firmware.gaveUp]).toEqual([[], true]);
  });
});

describe('the other boot services', () => {
  it('copy, fill and check memory', () => {
    const firmware = new TestFirmware();
    const digits = firmware.put(new TextEncoder().encode('123456789'));
    const result = firmware.put64(0);
    expect(firmware.boot('CalculateCrc32', digits, 9, result)).toBe('SUCCESS');
    expect(firmware.memory.read32(result)).toBe(0xcbf43926);
    // Copying works where source and target overlap.
    expect(firmware.boot('CopyMem', digits + 2, digits, 7)).toBe('SUCCESS');
    expect(new TextDecoder().decode(firmware.memory.copyOut(digits, 9))).toBe('121234567');
    expect(firmware.boot('SetMem', digits + 1, 2, 0x141)).toBe('SUCCESS');
    expect(new TextDecoder().decode(firmware.memory.copyOut(digits, 5))).toBe('1AA23');
  });

  it('let time pass, count, and change the priority level', () => {
    const firmware = new TestFirmware();
    expect(firmware.boot('Stall', 25)).toBe('SUCCESS');
    expect(firmware.clock.nanoseconds).toBe(25_000);
    const count = firmware.put64(0xff);
    const counts = [0, 1].map(() => {
      expect(firmware.boot('GetNextMonotonicCount', count)).toBe('SUCCESS');
      return firmware.read64(count);
    });
    expect(counts[1]).toBe(counts[0]! + 1n);
    // RaiseTPL returns the level before: TPL_APPLICATION at first.
    expect(firmware.boot('RaiseTPL', 8)).toBe('0x4');
    expect(firmware.boot('RaiseTPL', 99)).toBe('0x8');
    expect(firmware.boot('RaiseTPL', 31)).toBe('0x1f');
    expect(firmware.boot('RestoreTPL', 16)).toBe('SUCCESS');
    expect(firmware.firmware.tpl).toBe(16n);
    expect(firmware.boot('SetWatchdogTimer', 0, 0, 0, 0)).toBe('SUCCESS');
  });

  it('add, replace and remove configuration tables', () => {
    const firmware = new TestFirmware();
    const guid = firmware.guid('LinuxRandomSeed');
    const install = (table: number): string => firmware.boot('InstallConfigurationTable', guid, table);
    const { systemTable } = firmware.firmware.places;
    const tables = (): readonly (readonly [string, bigint])[] => {
      const at = Number(firmware.read64(systemTable + 112));
      return Array.from({ length: Number(firmware.read64(systemTable + 104)) }, (_, index) => [
        guidText(firmware.memory.copyOut(at + index * 24, 16)),
        firmware.read64(at + index * 24 + 16),
      ]);
    };
    const before = tables();
    expect(install(0)).toBe('NOT_FOUND');
    expect([install(0x1000), tables()]).toEqual([
      'SUCCESS',
      [...before, [EFI_GUIDS.LinuxRandomSeed, 0x1000n]],
    ]);
    expect([install(0x2000), tables().at(-1)]).toEqual(['SUCCESS', [EFI_GUIDS.LinuxRandomSeed, 0x2000n]]);
    expect([install(0), tables()]).toEqual(['SUCCESS', before]);
    expect(firmware.boot('InstallConfigurationTable', 0, 0x1000)).toBe('INVALID_PARAMETER');
    // There is room for many.
    for (let number = 0; number < 40; number++) {
      const bytes = guidBytes(EFI_GUIDS.LinuxRandomSeed);
      bytes[0] = number;
      expect(firmware.boot('InstallConfigurationTable', firmware.put(bytes), 0x1000 + number)).toBe(
        'SUCCESS',
      );
    }
    expect(
      tables()
        .slice(-40)
        .map(([, address]) => address),
    ).toEqual(Array.from({ length: 40 }, (_, number) => BigInt(0x1000 + number)));
    expect(tables().slice(0, before.length)).toEqual(before);
  });

  it('know of no drivers, and say which service nobody wrote', () => {
    const firmware = new TestFirmware();
    expect(firmware.boot('ConnectController', 0, 0, 0, 0)).toBe('NOT_FOUND');
    expect(firmware.boot('DisconnectController', 0, 0, 0)).toBe('SUCCESS');
    const registration = firmware.put64(0);
    expect(firmware.boot('RegisterProtocolNotify', firmware.guid('Rng'), 0x77, registration)).toBe('SUCCESS');
    expect(firmware.read64(registration)).toBe(0x77n);
    expect(firmware.boot('OpenProtocolInformation', 0, 0, 0, 0)).toBe('UNSUPPORTED');
    expect(firmware.firmware.notices).toEqual([
      'the EFI service OpenProtocolInformation is not provided: it answered UNSUPPORTED once',
    ]);
    expect([firmware.firmware.calls, firmware.firmware.callsOf('ConnectController')]).toEqual([4, 1]);
  });

  it('fail where a fault is injected: one call, or all', () => {
    const firmware = new TestFirmware({
      faults: [parseEfiFault('Stall:2=TIMEOUT'), parseEfiFault('FreePool=ABORTED')],
    });
    const stalls = [1, 2, 3].map(() => firmware.boot('Stall', 1));
    expect(stalls).toEqual(['SUCCESS', 'TIMEOUT', 'SUCCESS']);
    expect([firmware.boot('FreePool', 1), firmware.boot('FreePool', 1)]).toEqual(['ABORTED', 'ABORTED']);
    expect(firmware.calls.slice(1, 3)).toEqual([
      'Stall(Microseconds=1) = TIMEOUT [injected]',
      'Stall(Microseconds=1) = SUCCESS',
    ]);
  });

  it('end the run at an address without memory', () => {
    const firmware = new TestFirmware();
    firmware.boot('SetMem', 0x7fff_0000_0000n, 8, 0);
    expect(firmware.stopped).toMatch(/^SetMem was called with an address where there is no memory: /);
  });

  it('are one HLT each: elsewhere nothing is served', () => {
    const firmware = new TestFirmware();
    const trap = firmware.read64(firmware.read64(firmware.firmware.places.systemTable + 0x60) + 24n);
    const inside = firmware.firmware;
    expect([inside.isTrap(Number(trap) + 1), inside.isTrap(Number(trap) + 2)]).toEqual([true, false]);
    expect(inside.isTrap(Number(inside.returnAddress) + 1)).toBe(true);
    firmware.registers.set('rip', trap + 2n);
    expect(inside.serve()).toBe(false);
    expect(firmware.memory.read8(Number(trap))).toBe(0xf4);
  });
});
