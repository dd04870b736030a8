// A TPM as firmware shows it: the protocols of TCG 1.2 and 2.0 that boot loaders and the EFI stub measure with. What is measured is
// told with each call; there is no chip behind it, and no secret in it.
// TCG EFI Protocol Specification 1.06, TCG PC Client Platform Firmware Profile 1.05 (event types).

import { sha256Hex } from '../../host/host.ts';
import { EFI_STATUS } from '../../protocol/efi-tables.ts';
import type { UefiFirmware } from './firmware.ts';
import { type Service, service } from './service.ts';

const { SUCCESS, INVALID_PARAMETER, BUFFER_TOO_SMALL, UNSUPPORTED } = EFI_STATUS;

const EV_EVENT_TAG = 6;
const EVENT_TYPES: ReadonlyMap<number, string> = new Map([
  [0x1, 'EV_POST_CODE'],
  [0x3, 'EV_NO_ACTION'],
  [0x4, 'EV_SEPARATOR'],
  [0x5, 'EV_ACTION'],
  [EV_EVENT_TAG, 'EV_EVENT_TAG'],
  [0x8, 'EV_S_CRTM_VERSION'],
  [0xd, 'EV_IPL'],
  [0x8000_0001, 'EV_EFI_VARIABLE_DRIVER_CONFIG'],
  [0x8000_0003, 'EV_EFI_BOOT_SERVICES_APPLICATION'],
  [0x8000_0007, 'EV_EFI_ACTION'],
]);
/** PCRs of a TPM. */
const PCR_COUNT = 24;
/** More than any measurement names. */
const LONGEST_DESCRIPTION = 0x1000;
const HASH_ALG_SHA256 = 2;
const LOG_FORMAT_2 = 2;
const CAPABILITY_SIZE = 36;
const CAPABILITY_1_SIZE = 12;

/** One entry of the log that a TPM's PCRs are the sum of. */
export interface Measurement {
  readonly pcr: number;
  /** `EV_IPL`; a number in hex for one without a name here. */
  readonly type: string;
  /** What the event says of itself, as text where it is text. */
  readonly description: string;
  /** Bytes that were measured, and their digest. */
  readonly size: number;
  readonly sha256: string;
}

function typeName(type: number): string {
  return EVENT_TYPES.get(type) ?? `0x${type.toString(16)}`;
}

/** UTF-16, as boot loaders describe what they measure; ASCII; or how many bytes it has. */
function describe(bytes: Uint8Array): string {
  const wide = new TextDecoder('utf-16le').decode(bytes.subarray(0, bytes.length & ~1)).replace(/\0.*$/s, '');
  if (wide.length > 0 && wide.length * 2 >= bytes.length - 3 && /^[\x20-\x7e\s]+$/.test(wide)) return wide;
  const narrow = new TextDecoder('latin1').decode(bytes).replace(/\0.*$/s, '');
  if (narrow.length > 3 && narrow.length >= bytes.length - 8 && /^[\x20-\x7e\s]+$/.test(narrow))
    return narrow;
  return `${bytes.length} bytes`;
}

function measure(
  firmware: UefiFirmware,
  what: { readonly pcr: number; readonly type: number; readonly event: Uint8Array },
  address: bigint,
  length: bigint,
): bigint {
  const { memory } = firmware;
  const size = Number(length);
  if (what.pcr >= PCR_COUNT || !memory.contains(Number(address), size)) return INVALID_PARAMETER;
  const measurement: Measurement = {
    pcr: what.pcr,
    type: typeName(what.type),
    // A tagged event begins with its number and its size.
    description: describe(what.type === EV_EVENT_TAG ? what.event.subarray(8) : what.event),
    size,
    sha256: sha256Hex(memory.copyOut(Number(address), size)),
  };
  firmware.measurements.push(measurement);
  const { pcr, type, description, sha256 } = measurement;
  firmware.remark(`PCR ${pcr} ${type} "${description}", ${size} bytes, sha256 ${sha256}`);
  return SUCCESS;
}

/** `size` bytes at an address; null where they are not all memory. */
function bytesOf(firmware: UefiFirmware, address: number, size: number): Uint8Array | null {
  return size <= LONGEST_DESCRIPTION && firmware.memory.contains(address, size)
    ? firmware.memory.copyOut(address, size)
    : null;
}

/** EFI_TCG2_EVENT: size, header (size, version, PCR, type), the description. */
function measure2(firmware: UefiFirmware, data: bigint, length: bigint, event: bigint): bigint {
  const at = Number(event);
  const { memory } = firmware;
  if (event === 0n || data === 0n || !memory.contains(at, 18)) return INVALID_PARAMETER;
  const size = memory.read32(at);
  const header = memory.read32(at + 4);
  const description = bytesOf(firmware, at + 4 + header, size - 4 - header);
  if (header < 14 || size < 4 + header || description === null) return INVALID_PARAMETER;
  const what = { pcr: memory.read32(at + 10), type: memory.read32(at + 14), event: description };
  return measure(firmware, what, data, length);
}

/** TCG_PCR_EVENT: PCR, type, digest (20 bytes), size, the description. */
function measure1(firmware: UefiFirmware, data: bigint, length: bigint, event: bigint): bigint {
  const at = Number(event);
  const { memory } = firmware;
  if (event === 0n || !memory.contains(at, 32)) return INVALID_PARAMETER;
  const description = bytesOf(firmware, at + 32, memory.read32(at + 28));
  if (description === null) return INVALID_PARAMETER;
  // Without data the event itself is measured by its digest alone.
  return measure(
    firmware,
    { pcr: memory.read32(at), type: memory.read32(at + 4), event: description },
    data === 0n ? BigInt(at + 32) : data,
    data === 0n ? BigInt(description.length) : length,
  );
}

/** An empty log in firmware memory: the address of its first entry, which is its last. */
function emptyLog(firmware: UefiFirmware): bigint {
  return BigInt(firmware.bootData(64));
}

/** EFI_TCG2_PROTOCOL. */
export function tcg2(firmware: UefiFirmware): bigint {
  const { memory } = firmware;
  const log = emptyLog(firmware);
  const rows: readonly Service[] = [
    service('Tcg2.GetCapability', 'This:address ProtocolCapability:address', (_, _this, pointer) => {
      if (pointer === 0n) return INVALID_PARAMETER;
      const at = Number(pointer);
      if (memory.read8(at) < CAPABILITY_SIZE) {
        memory.write8(at, CAPABILITY_SIZE);
        return BUFFER_TOO_SMALL;
      }
      memory.fill(at, CAPABILITY_SIZE, 0);
      memory.copyIn(at, Uint8Array.of(CAPABILITY_SIZE, 1, 1, 1, 1));
      memory.write32(at + 8, HASH_ALG_SHA256);
      memory.write32(at + 12, LOG_FORMAT_2);
      memory.write8(at + 16, 1);
      memory.write16(at + 18, 4096);
      memory.write16(at + 20, 4096);
      memory.write32(at + 28, 1);
      memory.write32(at + 32, HASH_ALG_SHA256);
      return SUCCESS;
    }),
    service(
      'Tcg2.GetEventLog',
      'This:address EventLogFormat:number *EventLogLocation:address *EventLogLastEntry:address EventLogTruncated:address',
      (_, _this, format, location, last, truncated) => {
        if (Number(format) !== LOG_FORMAT_2) return INVALID_PARAMETER;
        memory.write64(Number(location), log);
        memory.write64(Number(last), 0n);
        memory.write8(Number(truncated), 0);
        return SUCCESS;
      },
    ),
    service(
      'Tcg2.HashLogExtendEvent',
      'This:address Flags:number DataToHash:address DataToHashLen:number EfiTcgEvent:address',
      (_, _this, _flags, data, length, event) => measure2(firmware, data!, length!, event!),
    ),
    service('Tcg2.SubmitCommand', 'This:address InputSize:number Input:address', () => UNSUPPORTED),
    service('Tcg2.GetActivePcrBanks', 'This:address *ActivePcrBanks:number', (_, _this, pointer) => {
      memory.write32(Number(pointer), HASH_ALG_SHA256);
      return SUCCESS;
    }),
    service('Tcg2.SetActivePcrBanks', 'This:address ActivePcrBanks:number', () => SUCCESS),
    service('Tcg2.GetResultOfSetActivePcrBanks', 'This:address', () => UNSUPPORTED),
  ];
  return firmware.interface(rows);
}

/** EFI_TCG_PROTOCOL, of TPM 1.2. */
export function tcg(firmware: UefiFirmware): bigint {
  const { memory } = firmware;
  const log = emptyLog(firmware);
  const rows: readonly Service[] = [
    service(
      'Tcg.StatusCheck',
      'This:address ProtocolCapability:address TCGFeatureFlags:address *EventLogLocation:address *EventLogLastEntry:address',
      (_, _this, capability, flags, location, last) => {
        if (capability !== 0n) {
          memory.fill(Number(capability), CAPABILITY_1_SIZE, 0);
          memory.copyIn(Number(capability), Uint8Array.of(CAPABILITY_1_SIZE, 1, 2, 0, 0, 1, 2, 0, 0, 1));
        }
        if (flags !== 0n) memory.write32(Number(flags), 0);
        if (location !== 0n) memory.write64(Number(location), log);
        if (last !== 0n) memory.write64(Number(last), log);
        return SUCCESS;
      },
    ),
    service('Tcg.HashAll', 'This:address HashData:address HashDataLen:number', () => UNSUPPORTED),
    service('Tcg.LogEvent', 'This:address TCGLogData:address', () => SUCCESS),
    service('Tcg.PassThroughToTpm', 'This:address', () => UNSUPPORTED),
    service(
      'Tcg.HashLogExtendEvent',
      'This:address HashData:address HashDataLen:number AlgorithmId:number TCGLogData:address',
      (_, _this, data, length, _algorithm, event) => measure1(firmware, data!, length!, event!),
    ),
  ];
  return firmware.interface(rows);
}

/** Names of the services here, for faults. */
export const TCG_SERVICE_NAMES: readonly string[] = [
  'Tcg2.GetCapability',
  'Tcg2.GetEventLog',
  'Tcg2.HashLogExtendEvent',
  'Tcg.StatusCheck',
  'Tcg.HashLogExtendEvent',
];
