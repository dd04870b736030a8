// The boot services (UEFI 2.10, chapter 7), a row each.
// Long, for it is one table: a row a service.

import { crc32 } from '../../codecs/checksums.ts';
import { decodeDevicePath, encodeDevicePath, isSameNode } from '../../protocol/efi-device-path.ts';
import { EFI_GUIDS, GUID_SIZE, guidBytes, guidText } from '../../protocol/efi-guids.ts';
import { encodeDescriptors } from '../../protocol/efi-memory-map.ts';
import {
  type BOOT_SERVICES,
  EFI_ALLOCATE_TYPES,
  EFI_MEMORY_TYPES,
  EFI_PAGE,
  EFI_STATUS,
  efiStatusName,
  isEfiError,
  MEMORY_DESCRIPTOR_SIZE,
  MEMORY_DESCRIPTOR_VERSION,
} from '../../protocol/efi-tables.ts';
import { EVT_NOTIFY_SIGNAL } from './event-list.ts';
import type { UefiFirmware } from './firmware.ts';
import { loadImage, startImage } from './load-image.ts';
import { type Service, type ServiceResult, service } from './service.ts';

const { SUCCESS, INVALID_PARAMETER, UNSUPPORTED, BUFFER_TOO_SMALL, NOT_READY, OUT_OF_RESOURCES, NOT_FOUND } =
  EFI_STATUS;

/** Timers count in 100 ns. */
const TIMER_UNIT = 100;
const TIMER_PERIODIC = 1n;
const MASK_32 = 0xffff_ffffn;
/** LocateHandle's search types. */
const ALL_HANDLES = 0n;
const BY_PROTOCOL = 2n;
const TPL_HIGH = 31n;

function guidAt(firmware: UefiFirmware, address: bigint): string {
  return guidText(firmware.memory.copyOut(Number(address), GUID_SIZE));
}

function memoryType(value: bigint): (typeof EFI_MEMORY_TYPES)[number] | undefined {
  return EFI_MEMORY_TYPES[Number(value & MASK_32)];
}

function allocatePages(
  firmware: UefiFirmware,
  kindArgument: bigint,
  typeArgument: bigint,
  pages: bigint,
  pointer: bigint,
): bigint {
  const kind = EFI_ALLOCATE_TYPES[Number(kindArgument & MASK_32)];
  const type = memoryType(typeArgument);
  if (kind === undefined || type === undefined || type === 'Conventional' || pointer === 0n)
    return INVALID_PARAMETER;
  const given = Number(firmware.memory.read64(Number(pointer)));
  if (kind === 'Address' && given % EFI_PAGE !== 0) return NOT_FOUND;
  if (pages === 0n || pages > 1n << 40n) return pages === 0n ? INVALID_PARAMETER : OUT_OF_RESOURCES;
  const wanted =
    kind === 'Address'
      ? (firmware.onAllocateAt?.({ address: given, pages: Number(pages), type }) ?? given)
      : given;
  const request = kind === 'AnyPages' ? ({ kind } as const) : { kind, address: wanted };
  const address = firmware.allocatePages(request, type, Number(pages));
  if (address === null) return kind === 'Address' ? NOT_FOUND : OUT_OF_RESOURCES;
  firmware.memory.write64(Number(pointer), BigInt(address));
  return SUCCESS;
}

function freePages(firmware: UefiFirmware, address: bigint, pages: bigint): bigint {
  if (address % BigInt(EFI_PAGE) !== 0n || pages === 0n) return INVALID_PARAMETER;
  return firmware.freePages(Number(address), Number(pages)) ? SUCCESS : NOT_FOUND;
}

function getMemoryMap(
  firmware: UefiFirmware,
  sizePointer: bigint,
  buffer: bigint,
  keyPointer: bigint,
  descriptorSize: bigint,
  descriptorVersion: bigint,
): bigint {
  const { memory, pages } = firmware;
  if (sizePointer === 0n) return INVALID_PARAMETER;
  const room = memory.read64(Number(sizePointer));
  const stated = BigInt(pages.statedEntries * MEMORY_DESCRIPTOR_SIZE);
  const fits = room >= stated;
  const bytes = encodeDescriptors(pages.describe());
  if (keyPointer !== 0n) memory.write64(Number(keyPointer), BigInt(pages.mapKey));
  if (descriptorSize !== 0n) memory.write64(Number(descriptorSize), BigInt(MEMORY_DESCRIPTOR_SIZE));
  if (descriptorVersion !== 0n) memory.write32(Number(descriptorVersion), MEMORY_DESCRIPTOR_VERSION);
  memory.write64(Number(sizePointer), fits ? BigInt(bytes.length) : stated);
  if (!fits) return BUFFER_TOO_SMALL;
  if (buffer === 0n) return INVALID_PARAMETER;
  memory.copyIn(Number(buffer), bytes);
  return SUCCESS;
}

function allocatePool(firmware: UefiFirmware, typeArgument: bigint, size: bigint, pointer: bigint): bigint {
  const type = memoryType(typeArgument);
  if (type === undefined || type === 'Conventional' || pointer === 0n) return INVALID_PARAMETER;
  const address = size > 1n << 48n ? null : firmware.allocatePool(type, Number(size));
  firmware.memory.write64(Number(pointer), BigInt(address ?? 0));
  return address === null ? OUT_OF_RESOURCES : SUCCESS;
}

/** The EFI stub frees NULL where an allocation was not made; OVMF refuses it without harm. */
function freePool(firmware: UefiFirmware, address: bigint): bigint {
  return firmware.freePool(Number(address)) ? SUCCESS : INVALID_PARAMETER;
}

function createEvent(
  firmware: UefiFirmware,
  type: bigint,
  notify: bigint,
  context: bigint,
  group: string | null,
  pointer: bigint,
): bigint {
  if (pointer === 0n) return INVALID_PARAMETER;
  const id = BigInt(firmware.bootData(16));
  firmware.events.create(id, { type: Number(type & MASK_32), notify, context, group });
  firmware.memory.write64(Number(pointer), id);
  return SUCCESS;
}

function setTimer(firmware: UefiFirmware, id: bigint, type: bigint, time: bigint): bigint {
  const event = firmware.events.get(id);
  if (event === undefined || (type & MASK_32) > 2n) return INVALID_PARAMETER;
  const nanoseconds = Number(time) * TIMER_UNIT;
  const cancelled = (type & MASK_32) === 0n;
  event.due = cancelled ? null : firmware.clock.nanoseconds + nanoseconds;
  event.period = (type & MASK_32) === TIMER_PERIODIC ? nanoseconds : null;
  return SUCCESS;
}

function signalEvent(firmware: UefiFirmware, id: bigint): ServiceResult {
  const event = firmware.events.get(id);
  if (event === undefined) return INVALID_PARAMETER;
  if ((event.type & EVT_NOTIFY_SIGNAL) === 0 || event.notify === 0n) {
    event.signalled = true;
    return SUCCESS;
  }
  return firmware.callGuest(event.notify, [id, event.context], null, () => SUCCESS);
}

function checkEvent(firmware: UefiFirmware, id: bigint): bigint {
  const event = firmware.events.get(id);
  if (event === undefined || (event.type & EVT_NOTIFY_SIGNAL) !== 0) return INVALID_PARAMETER;
  firmware.events.advance(firmware.clock.nanoseconds);
  return firmware.events.take(id) ? SUCCESS : NOT_READY;
}

function waitForEvent(firmware: UefiFirmware, count: bigint, list: bigint, indexPointer: bigint): bigint {
  const { memory, events, clock } = firmware;
  if (count === 0n || !memory.contains(Number(list), Number(count) * 8)) return INVALID_PARAMETER;
  const ids = Array.from({ length: Number(count) }, (_, index) => memory.read64(Number(list) + index * 8));
  for (;;) {
    events.advance(clock.nanoseconds);
    const index = ids.findIndex((id) => events.take(id));
    if (index >= 0) {
      memory.write64(Number(indexPointer), BigInt(index));
      return SUCCESS;
    }
    const due = events.nextDue(ids);
    if (due === null) {
      firmware.parts.stop('the image waits for an event that never comes (a key, most likely)');
      return UNSUPPORTED;
    }
    clock.advance(Math.max(0, due - clock.nanoseconds));
  }
}

function installProtocol(
  firmware: UefiFirmware,
  handlePointer: bigint,
  guid: bigint,
  address: bigint,
): bigint {
  const { memory, handles } = firmware;
  const given = memory.read64(Number(handlePointer));
  const handle = given === 0n ? firmware.newHandle() : given;
  if (!handles.install(handle, guidAt(firmware, guid), address)) return INVALID_PARAMETER;
  memory.write64(Number(handlePointer), handle);
  return SUCCESS;
}

function reinstallProtocol(
  firmware: UefiFirmware,
  handle: bigint,
  guid: bigint,
  old: bigint,
  next: bigint,
): bigint {
  const text = guidAt(firmware, guid);
  if (firmware.handles.get(handle, text) !== old) return NOT_FOUND;
  firmware.handles.uninstall(handle, text);
  firmware.handles.install(handle, text, next);
  return SUCCESS;
}

function uninstallProtocol(firmware: UefiFirmware, handle: bigint, guid: bigint, address: bigint): bigint {
  const text = guidAt(firmware, guid);
  if (firmware.handles.get(handle, text) !== address) return NOT_FOUND;
  firmware.handles.uninstall(handle, text);
  return SUCCESS;
}

function handleProtocol(firmware: UefiFirmware, handle: bigint, guid: bigint, pointer: bigint): bigint {
  if (!firmware.handles.has(handle) || pointer === 0n) return INVALID_PARAMETER;
  const address = firmware.handles.get(handle, guidAt(firmware, guid));
  firmware.memory.write64(Number(pointer), address ?? 0n);
  return address === undefined ? UNSUPPORTED : SUCCESS;
}

const TEST_PROTOCOL = 4n;

function openProtocol(
  firmware: UefiFirmware,
  handle: bigint,
  guid: bigint,
  pointer: bigint,
  _agent: bigint,
  _controller: bigint,
  attributes: bigint,
): bigint {
  if (!firmware.handles.has(handle)) return INVALID_PARAMETER;
  const address = firmware.handles.get(handle, guidAt(firmware, guid));
  if ((attributes & MASK_32) !== TEST_PROTOCOL) {
    if (pointer === 0n) return INVALID_PARAMETER;
    firmware.memory.write64(Number(pointer), address ?? 0n);
  }
  return address === undefined ? UNSUPPORTED : SUCCESS;
}

function search(firmware: UefiFirmware, type: bigint, guid: bigint): readonly bigint[] | null {
  if ((type & MASK_32) === ALL_HANDLES) return firmware.handles.find(null);
  if ((type & MASK_32) === BY_PROTOCOL && guid !== 0n) return firmware.handles.find(guidAt(firmware, guid));
  return null;
}

function locateHandle(
  firmware: UefiFirmware,
  type: bigint,
  guid: bigint,
  _key: bigint,
  sizePointer: bigint,
  buffer: bigint,
): bigint {
  const { memory } = firmware;
  const found = search(firmware, type, guid);
  if (found === null || sizePointer === 0n) return INVALID_PARAMETER;
  if (found.length === 0) return NOT_FOUND;
  const size = BigInt(found.length * 8);
  const room = memory.read64(Number(sizePointer));
  memory.write64(Number(sizePointer), size);
  if (room < size) return BUFFER_TOO_SMALL;
  if (buffer === 0n) return INVALID_PARAMETER;
  for (const [index, handle] of found.entries()) memory.write64(Number(buffer) + index * 8, handle);
  return SUCCESS;
}

/** The caller frees the buffer, which is from the pool. */
function returnHandles(
  firmware: UefiFirmware,
  values: readonly bigint[],
  countPointer: bigint,
  bufferPointer: bigint,
): bigint {
  const address = firmware.allocatePool('BootServicesData', Math.max(8, values.length * 8));
  if (address === null) return OUT_OF_RESOURCES;
  for (const [index, value] of values.entries()) firmware.memory.write64(address + index * 8, value);
  firmware.memory.write64(Number(countPointer), BigInt(values.length));
  firmware.memory.write64(Number(bufferPointer), BigInt(address));
  return SUCCESS;
}

function locateHandleBuffer(
  firmware: UefiFirmware,
  type: bigint,
  guid: bigint,
  _key: bigint,
  countPointer: bigint,
  bufferPointer: bigint,
): bigint {
  const found = search(firmware, type, guid);
  if (found === null) return INVALID_PARAMETER;
  if (found.length === 0) return NOT_FOUND;
  return returnHandles(firmware, found, countPointer, bufferPointer);
}

function protocolsPerHandle(
  firmware: UefiFirmware,
  handle: bigint,
  bufferPointer: bigint,
  countPointer: bigint,
): bigint {
  if (!firmware.handles.has(handle)) return INVALID_PARAMETER;
  const guids = firmware.handles.protocolsOf(handle).map((guid) => firmware.bytes(guidBytes(guid)));
  return returnHandles(firmware, guids, countPointer, bufferPointer);
}

function locateProtocol(
  firmware: UefiFirmware,
  guid: bigint,
  _registration: bigint,
  pointer: bigint,
): bigint {
  if (guid === 0n || pointer === 0n) return INVALID_PARAMETER;
  const text = guidAt(firmware, guid);
  const handle = firmware.handles.find(text)[0];
  firmware.memory.write64(Number(pointer), handle === undefined ? 0n : firmware.handles.get(handle, text)!);
  return handle === undefined ? NOT_FOUND : SUCCESS;
}

/** The handle with the protocol whose device path is the longest beginning of the given one; the rest of it goes back. */
function locateDevicePath(
  firmware: UefiFirmware,
  guid: bigint,
  pathPointer: bigint,
  handlePointer: bigint,
): bigint {
  const { memory, handles } = firmware;
  if (guid === 0n || pathPointer === 0n) return INVALID_PARAMETER;
  const address = memory.read64(Number(pathPointer));
  const wanted = address === 0n ? null : decodeDevicePath(firmware.devicePathBytes(address));
  if (wanted === null) return INVALID_PARAMETER;
  let best: { readonly handle: bigint; readonly nodes: number; readonly size: number } | null = null;
  for (const handle of handles.find(guidAt(firmware, guid))) {
    const path = handles.get(handle, EFI_GUIDS.DevicePath);
    const nodes = path === undefined ? null : decodeDevicePath(firmware.devicePathBytes(path));
    if (nodes === null || nodes.length > wanted.length) continue;
    if (!nodes.every((node, index) => isSameNode(node, wanted[index]!))) continue;
    if (best === null || nodes.length > best.nodes)
      best = { handle, nodes: nodes.length, size: encodeDevicePath(nodes).length - 4 };
  }
  if (best === null) return NOT_FOUND;
  if (handlePointer === 0n) return INVALID_PARAMETER;
  memory.write64(Number(handlePointer), best.handle);
  memory.write64(Number(pathPointer), address + BigInt(best.size));
  return SUCCESS;
}

function installConfigurationTable(firmware: UefiFirmware, guid: bigint, table: bigint): bigint {
  if (guid === 0n) return INVALID_PARAMETER;
  return firmware.setConfigurationTable(guidAt(firmware, guid), table) ? SUCCESS : NOT_FOUND;
}

function exit(firmware: UefiFirmware, handle: bigint, status: bigint): ServiceResult {
  if (firmware.runningImage === null) {
    return firmware.leaveFirstImage(
      status,
      `the image gave up: it called Exit with ${efiStatusName(status)}`,
    );
  }
  if (handle !== firmware.runningImage) return INVALID_PARAMETER;
  return firmware.exitImage(status);
}

function exitBootServices(firmware: UefiFirmware, handle: bigint, key: bigint): bigint {
  if (!firmware.handles.has(handle)) return INVALID_PARAMETER;
  if (Number(key) !== firmware.pages.mapKey) return INVALID_PARAMETER;
  firmware.exitBootServices();
  return SUCCESS;
}

/** Pairs of GUID and interface up to a NULL; all of them or none. */
function eachPair(
  firmware: UefiFirmware,
  change: (guid: bigint, address: bigint) => bigint,
  undo: (guid: bigint, address: bigint) => void,
): bigint {
  const done: (readonly [bigint, bigint])[] = [];
  for (let index = 1; ; index += 2) {
    const guid = firmware.argument(index);
    if (guid === 0n) return SUCCESS;
    const address = firmware.argument(index + 1);
    const status = change(guid, address);
    if (isEfiError(status)) {
      for (const [undone, of] of done.toReversed()) undo(undone, of);
      return status;
    }
    done.push([guid, address]);
  }
}

function installMultiple(firmware: UefiFirmware, handlePointer: bigint): bigint {
  return eachPair(
    firmware,
    (guid, address) => installProtocol(firmware, handlePointer, guid, address),
    (guid, address) => {
      uninstallProtocol(firmware, firmware.memory.read64(Number(handlePointer)), guid, address);
    },
  );
}

function uninstallMultiple(firmware: UefiFirmware, handle: bigint): bigint {
  return eachPair(
    firmware,
    (guid, address) => uninstallProtocol(firmware, handle, guid, address),
    (guid, address) => {
      firmware.handles.install(handle, guidAt(firmware, guid), address);
    },
  );
}

function copyMem(firmware: UefiFirmware, to: bigint, from: bigint, length: bigint): bigint {
  firmware.memory.copyIn(Number(to), firmware.memory.copyOut(Number(from), Number(length)));
  return SUCCESS;
}

function setMem(firmware: UefiFirmware, address: bigint, length: bigint, value: bigint): bigint {
  firmware.memory.fill(Number(address), Number(length), Number(value & 0xffn));
  return SUCCESS;
}

const INSTALL = 'Protocol:guid Interface:address';

export const BOOT_SERVICE_ROWS: Readonly<Record<(typeof BOOT_SERVICES)[number], Service>> = {
  RaiseTPL: service(
    'RaiseTPL',
    'NewTpl:number',
    (firmware, level) => {
      const before = firmware.tpl;
      firmware.tpl = level! > TPL_HIGH ? TPL_HIGH : level!;
      return before;
    },
    'value',
  ),
  RestoreTPL: service('RestoreTPL', 'OldTpl:number', (firmware, level) => {
    firmware.tpl = level!;
    return SUCCESS;
  }),
  AllocatePages: service(
    'AllocatePages',
    'Type:allocate-type MemoryType:memory-type Pages:number &Memory:address',
    (firmware, kind, type, pages, pointer) => allocatePages(firmware, kind!, type!, pages!, pointer!),
  ),
  FreePages: service('FreePages', 'Memory:address Pages:number', (firmware, address, pages) =>
    freePages(firmware, address!, pages!),
  ),
  GetMemoryMap: service(
    'GetMemoryMap',
    '&MemoryMapSize:number MemoryMap:address *MapKey:number *DescriptorSize:number DescriptorVersion:address',
    (firmware, size, buffer, key, descriptorSize, version) =>
      getMemoryMap(firmware, size!, buffer!, key!, descriptorSize!, version!),
  ),
  AllocatePool: service(
    'AllocatePool',
    'PoolType:memory-type Size:number *Buffer:address',
    (firmware, type, size, pointer) => allocatePool(firmware, type!, size!, pointer!),
  ),
  FreePool: service('FreePool', 'Buffer:address', (firmware, address) => freePool(firmware, address!)),
  CreateEvent: service(
    'CreateEvent',
    'Type:number NotifyTpl:number NotifyFunction:address NotifyContext:address *Event:address',
    (firmware, type, _tpl, notify, context, pointer) =>
      createEvent(firmware, type!, notify!, context!, null, pointer!),
  ),
  SetTimer: service(
    'SetTimer',
    'Event:address Type:number TriggerTime:number',
    (firmware, event, type, time) => setTimer(firmware, event!, type!, time!),
  ),
  WaitForEvent: service(
    'WaitForEvent',
    'NumberOfEvents:number Event:address *Index:number',
    (firmware, count, list, index) => waitForEvent(firmware, count!, list!, index!),
  ),
  SignalEvent: service('SignalEvent', 'Event:address', (firmware, event) => signalEvent(firmware, event!)),
  CloseEvent: service('CloseEvent', 'Event:address', (firmware, event) =>
    firmware.events.close(event!) ? SUCCESS : INVALID_PARAMETER,
  ),
  CheckEvent: service('CheckEvent', 'Event:address', (firmware, event) => checkEvent(firmware, event!)),
  InstallProtocolInterface: service(
    'InstallProtocolInterface',
    '&Handle:address Protocol:guid InterfaceType:number Interface:address',
    (firmware, handle, guid, _type, address) => installProtocol(firmware, handle!, guid!, address!),
  ),
  ReinstallProtocolInterface: service(
    'ReinstallProtocolInterface',
    'Handle:address Protocol:guid OldInterface:address NewInterface:address',
    (firmware, handle, guid, old, next) => reinstallProtocol(firmware, handle!, guid!, old!, next!),
  ),
  UninstallProtocolInterface: service(
    'UninstallProtocolInterface',
    `Handle:address ${INSTALL}`,
    (firmware, handle, guid, address) => uninstallProtocol(firmware, handle!, guid!, address!),
  ),
  HandleProtocol: service(
    'HandleProtocol',
    'Handle:address Protocol:guid *Interface:address',
    (firmware, handle, guid, pointer) => handleProtocol(firmware, handle!, guid!, pointer!),
  ),
  Reserved: service('Reserved', '', null),
  RegisterProtocolNotify: service(
    'RegisterProtocolNotify',
    'Protocol:guid Event:address *Registration:address',
    (firmware, _guid, event, pointer) => {
      firmware.memory.write64(Number(pointer), event!);
      return SUCCESS;
    },
  ),
  LocateHandle: service(
    'LocateHandle',
    'SearchType:search-type Protocol:guid SearchKey:address &BufferSize:number Buffer:address',
    (firmware, type, guid, key, size, buffer) => locateHandle(firmware, type!, guid!, key!, size!, buffer!),
  ),
  LocateDevicePath: service(
    'LocateDevicePath',
    'Protocol:guid &DevicePath:device-path *Device:address',
    (firmware, guid, path, handle) => locateDevicePath(firmware, guid!, path!, handle!),
  ),
  InstallConfigurationTable: service(
    'InstallConfigurationTable',
    'Guid:guid Table:address',
    (firmware, guid, table) => installConfigurationTable(firmware, guid!, table!),
  ),
  LoadImage: service(
    'LoadImage',
    'BootPolicy:boolean ParentImageHandle:address DevicePath:device-path SourceBuffer:address SourceSize:number *ImageHandle:address',
    (firmware, _policy, parent, path, buffer, size, pointer) =>
      loadImage(firmware, { parent: parent!, path: path!, buffer: buffer!, size: size!, pointer: pointer! }),
  ),
  StartImage: service(
    'StartImage',
    'ImageHandle:address *ExitDataSize:number ExitData:address',
    (firmware, handle) => startImage(firmware, handle!),
  ),
  Exit: service(
    'Exit',
    'ImageHandle:address ExitStatus:number ExitDataSize:number ExitData:char16',
    (firmware, handle, status) => exit(firmware, handle!, status!),
  ),
  UnloadImage: service('UnloadImage', 'ImageHandle:address', (firmware, handle) =>
    firmware.handles.has(handle!) ? SUCCESS : INVALID_PARAMETER,
  ),
  ExitBootServices: service(
    'ExitBootServices',
    'ImageHandle:address MapKey:number',
    (firmware, handle, key) => exitBootServices(firmware, handle!, key!),
  ),
  GetNextMonotonicCount: service('GetNextMonotonicCount', '*Count:number', (firmware, pointer) => {
    firmware.memory.write64(Number(pointer), firmware.nextMonotonicCount());
    return SUCCESS;
  }),
  Stall: service('Stall', 'Microseconds:number', (firmware, time) => {
    firmware.clock.advance(Number(time) * 1000);
    return SUCCESS;
  }),
  SetWatchdogTimer: service(
    'SetWatchdogTimer',
    'Timeout:number WatchdogCode:number DataSize:number WatchdogData:address',
    () => SUCCESS,
  ),
  // There are no drivers beyond those that are there from the start.
  ConnectController: service(
    'ConnectController',
    'ControllerHandle:address DriverImageHandle:address RemainingDevicePath:device-path Recursive:boolean',
    () => NOT_FOUND,
  ),
  DisconnectController: service(
    'DisconnectController',
    'ControllerHandle:address DriverImageHandle:address ChildHandle:address',
    () => SUCCESS,
  ),
  OpenProtocol: service(
    'OpenProtocol',
    'Handle:address Protocol:guid *Interface:address AgentHandle:address ControllerHandle:address Attributes:number',
    (firmware, handle, guid, pointer, agent, controller, attributes) =>
      openProtocol(firmware, handle!, guid!, pointer!, agent!, controller!, attributes!),
  ),
  CloseProtocol: service(
    'CloseProtocol',
    'Handle:address Protocol:guid AgentHandle:address ControllerHandle:address',
    (firmware, handle, guid) =>
      firmware.handles.get(handle!, guidAt(firmware, guid!)) === undefined ? NOT_FOUND : SUCCESS,
  ),
  OpenProtocolInformation: service(
    'OpenProtocolInformation',
    'Handle:address Protocol:guid *EntryBuffer:address *EntryCount:number',
    null,
  ),
  ProtocolsPerHandle: service(
    'ProtocolsPerHandle',
    'Handle:address *ProtocolBuffer:address *ProtocolBufferCount:number',
    (firmware, handle, buffer, count) => protocolsPerHandle(firmware, handle!, buffer!, count!),
  ),
  LocateHandleBuffer: service(
    'LocateHandleBuffer',
    'SearchType:search-type Protocol:guid SearchKey:address *NoHandles:number *Buffer:address',
    (firmware, type, guid, key, count, buffer) =>
      locateHandleBuffer(firmware, type!, guid!, key!, count!, buffer!),
  ),
  LocateProtocol: service(
    'LocateProtocol',
    'Protocol:guid Registration:address *Interface:address',
    (firmware, guid, registration, pointer) => locateProtocol(firmware, guid!, registration!, pointer!),
  ),
  InstallMultipleProtocolInterfaces: service(
    'InstallMultipleProtocolInterfaces',
    `&Handle:address ${INSTALL}`,
    (firmware, handle) => installMultiple(firmware, handle!),
  ),
  UninstallMultipleProtocolInterfaces: service(
    'UninstallMultipleProtocolInterfaces',
    `Handle:address ${INSTALL}`,
    (firmware, handle) => uninstallMultiple(firmware, handle!),
  ),
  CalculateCrc32: service(
    'CalculateCrc32',
    'Data:address DataSize:number Crc32:address',
    (firmware, data, size, pointer) => {
      firmware.memory.write32(Number(pointer), crc32(firmware.memory.copyOut(Number(data), Number(size))));
      return SUCCESS;
    },
  ),
  CopyMem: service(
    'CopyMem',
    'Destination:address Source:address Length:number',
    (firmware, to, from, length) => copyMem(firmware, to!, from!, length!),
  ),
  SetMem: service('SetMem', 'Buffer:address Size:number Value:number', (firmware, address, length, value) =>
    setMem(firmware, address!, length!, value!),
  ),
  CreateEventEx: service(
    'CreateEventEx',
    'Type:number NotifyTpl:number NotifyFunction:address NotifyContext:address EventGroup:guid *Event:address',
    (firmware, type, _tpl, notify, context, group, pointer) =>
      createEvent(
        firmware,
        type!,
        notify!,
        context!,
        group === 0n ? null : guidAt(firmware, group!),
        pointer!,
      ),
  ),
};
