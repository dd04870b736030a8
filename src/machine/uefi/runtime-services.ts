// The runtime services (UEFI 2.10, chapter 8), a row each.

import { GUID_SIZE, guidBytes, guidText } from '../../protocol/efi-guids.ts';
import { EFI_STATUS, type RUNTIME_SERVICES } from '../../protocol/efi-tables.ts';
import type { UefiFirmware } from './firmware.ts';
import { char16Bytes, readChar16, type Service, service } from './service.ts';
import { MAXIMUM_VARIABLE, VARIABLE_ROOM } from './variables.ts';

const { SUCCESS, INVALID_PARAMETER, UNSUPPORTED, BUFFER_TOO_SMALL, NOT_FOUND } = EFI_STATUS;

const POWER_ON = Date.UTC(2024, 0, 1, 0, 0, 0);
const UNSPECIFIED_TIMEZONE = 0x07ff;
const EFI_TIME_SIZE = 16;

/** EFI_TIME: the machine's own time, which moves with what the guest does. */
function getTime(firmware: UefiFirmware, pointer: bigint): bigint {
  if (pointer === 0n) return INVALID_PARAMETER;
  const { memory } = firmware;
  const now = new Date(POWER_ON + Math.floor(firmware.clock.nanoseconds / 1e6));
  const at = Number(pointer);
  memory.fill(at, EFI_TIME_SIZE, 0);
  memory.write16(at, now.getUTCFullYear());
  const fields = [
    now.getUTCMonth() + 1,
    now.getUTCDate(),
    now.getUTCHours(),
    now.getUTCMinutes(),
    now.getUTCSeconds(),
  ];
  for (const [index, value] of fields.entries()) memory.write8(at + 2 + index, value);
  memory.write16(at + 12, UNSPECIFIED_TIMEZONE);
  return SUCCESS;
}

function vendorAt(firmware: UefiFirmware, address: bigint): string {
  return guidText(firmware.memory.copyOut(Number(address), GUID_SIZE));
}

function getVariable(
  firmware: UefiFirmware,
  name: bigint,
  vendor: bigint,
  attributes: bigint,
  sizePointer: bigint,
  data: bigint,
): bigint {
  const { memory } = firmware;
  if (name === 0n || vendor === 0n || sizePointer === 0n) return INVALID_PARAMETER;
  const variable = firmware.variables.get(
    readChar16(memory, Number(name)),
    vendorAt(firmware, vendor),
    firmware.bootServicesExited,
  );
  if (variable === undefined) return NOT_FOUND;
  const size = BigInt(variable.data.length);
  const room = memory.read64(Number(sizePointer));
  memory.write64(Number(sizePointer), size);
  if (attributes !== 0n) memory.write32(Number(attributes), variable.attributes);
  if (room < size) return BUFFER_TOO_SMALL;
  if (data === 0n) return INVALID_PARAMETER;
  memory.copyIn(Number(data), variable.data);
  return SUCCESS;
}

function getNextVariableName(
  firmware: UefiFirmware,
  sizePointer: bigint,
  name: bigint,
  vendor: bigint,
): bigint {
  const { memory } = firmware;
  if (sizePointer === 0n || name === 0n || vendor === 0n) return INVALID_PARAMETER;
  const before = readChar16(memory, Number(name));
  const after = firmware.variables.next(
    before === '' ? null : { name: before, vendor: vendorAt(firmware, vendor) },
    firmware.bootServicesExited,
  );
  if (after === undefined) return INVALID_PARAMETER;
  if (after === null) return NOT_FOUND;
  const bytes = char16Bytes(after.name);
  const room = memory.read64(Number(sizePointer));
  memory.write64(Number(sizePointer), BigInt(bytes.length));
  if (room < BigInt(bytes.length)) return BUFFER_TOO_SMALL;
  memory.copyIn(Number(name), bytes);
  memory.copyIn(Number(vendor), guidBytes(after.vendor));
  return SUCCESS;
}

function setVariable(
  firmware: UefiFirmware,
  name: bigint,
  vendor: bigint,
  attributes: bigint,
  size: bigint,
  data: bigint,
): bigint {
  const { memory } = firmware;
  const text = name === 0n ? '' : readChar16(memory, Number(name));
  if (text === '' || vendor === 0n || (size > 0n && data === 0n) || size > BigInt(MAXIMUM_VARIABLE))
    return INVALID_PARAMETER;
  return firmware.variables.set(
    {
      name: text,
      vendor: vendorAt(firmware, vendor),
      attributes: Number(attributes & 0xffff_ffffn),
      data: size === 0n ? new Uint8Array(0) : memory.copyOut(Number(data), Number(size)),
    },
    firmware.bootServicesExited,
  );
}

function queryVariableInfo(
  firmware: UefiFirmware,
  maximum: bigint,
  remaining: bigint,
  largest: bigint,
): bigint {
  firmware.memory.write64(Number(maximum), BigInt(VARIABLE_ROOM));
  firmware.memory.write64(Number(remaining), BigInt(VARIABLE_ROOM - firmware.variables.used));
  firmware.memory.write64(Number(largest), BigInt(MAXIMUM_VARIABLE));
  return SUCCESS;
}

const RESETS = ['restarted', 'restarted', 'switched off', 'restarted'] as const;

export const RUNTIME_SERVICE_ROWS: Readonly<Record<(typeof RUNTIME_SERVICES)[number], Service>> = {
  GetTime: service('GetTime', 'Time:address Capabilities:address', (firmware, pointer) =>
    getTime(firmware, pointer!),
  ),
  SetTime: service('SetTime', 'Time:address', null),
  GetWakeupTime: service('GetWakeupTime', 'Enabled:address Pending:address Time:address', null),
  SetWakeupTime: service('SetWakeupTime', 'Enable:boolean Time:address', null),
  SetVirtualAddressMap: service(
    'SetVirtualAddressMap',
    'MemoryMapSize:number DescriptorSize:number DescriptorVersion:number VirtualMap:address',
    (firmware) => (firmware.bootServicesExited ? SUCCESS : UNSUPPORTED),
  ),
  ConvertPointer: service('ConvertPointer', 'DebugDisposition:number &Address:address', null),
  GetVariable: service(
    'GetVariable',
    'VariableName:char16 VendorGuid:guid Attributes:address &DataSize:number Data:address',
    (firmware, name, vendor, attributes, size, data) =>
      getVariable(firmware, name!, vendor!, attributes!, size!, data!),
  ),
  GetNextVariableName: service(
    'GetNextVariableName',
    '&VariableNameSize:number VariableName:char16 VendorGuid:guid',
    (firmware, size, name, vendor) => getNextVariableName(firmware, size!, name!, vendor!),
  ),
  SetVariable: service(
    'SetVariable',
    'VariableName:char16 VendorGuid:guid Attributes:number DataSize:number Data:address',
    (firmware, name, vendor, attributes, size, data) =>
      setVariable(firmware, name!, vendor!, attributes!, size!, data!),
  ),
  GetNextHighMonotonicCount: service(
    'GetNextHighMonotonicCount',
    'HighCount:address',
    (firmware, pointer) => {
      firmware.memory.write32(Number(pointer), 1);
      return SUCCESS;
    },
  ),
  ResetSystem: service(
    'ResetSystem',
    'ResetType:reset-type ResetStatus:number DataSize:number ResetData:address',
    (firmware, type) => {
      firmware.parts.stop(
        `the image asked for the machine to be ${RESETS[Number(type! & 3n)]} (ResetSystem)`,
      );
      return SUCCESS;
    },
  ),
  UpdateCapsule: service(
    'UpdateCapsule',
    'CapsuleHeaderArray:address CapsuleCount:number ScatterGatherList:address',
    null,
  ),
  QueryCapsuleCapabilities: service(
    'QueryCapsuleCapabilities',
    'CapsuleHeaderArray:address CapsuleCount:number *MaximumCapsuleSize:number ResetType:address',
    null,
  ),
  QueryVariableInfo: service(
    'QueryVariableInfo',
    'Attributes:number *MaximumVariableStorageSize:number *RemainingVariableStorageSize:number *MaximumVariableSize:number',
    (firmware, _attributes, maximum, remaining, largest) =>
      queryVariableInfo(firmware, maximum!, remaining!, largest!),
  ),
};
