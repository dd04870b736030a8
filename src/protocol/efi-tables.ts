// What the UEFI specification (2.10) fixes in numbers: status codes, memory types, and where each field and service stands in
// the tables that firmware hands to an image.

/** Codes of errors have the top bit set (appendix D); names as in the specification, without `EFI_`. */
const ERROR_BIT = 1n << 63n;
export const EFI_STATUS = {
  SUCCESS: 0n,
  LOAD_ERROR: ERROR_BIT | 1n,
  INVALID_PARAMETER: ERROR_BIT | 2n,
  UNSUPPORTED: ERROR_BIT | 3n,
  BAD_BUFFER_SIZE: ERROR_BIT | 4n,
  BUFFER_TOO_SMALL: ERROR_BIT | 5n,
  NOT_READY: ERROR_BIT | 6n,
  DEVICE_ERROR: ERROR_BIT | 7n,
  WRITE_PROTECTED: ERROR_BIT | 8n,
  OUT_OF_RESOURCES: ERROR_BIT | 9n,
  VOLUME_CORRUPTED: ERROR_BIT | 10n,
  VOLUME_FULL: ERROR_BIT | 11n,
  NO_MEDIA: ERROR_BIT | 12n,
  MEDIA_CHANGED: ERROR_BIT | 13n,
  NOT_FOUND: ERROR_BIT | 14n,
  ACCESS_DENIED: ERROR_BIT | 15n,
  NO_RESPONSE: ERROR_BIT | 16n,
  NO_MAPPING: ERROR_BIT | 17n,
  TIMEOUT: ERROR_BIT | 18n,
  NOT_STARTED: ERROR_BIT | 19n,
  ALREADY_STARTED: ERROR_BIT | 20n,
  ABORTED: ERROR_BIT | 21n,
  PROTOCOL_ERROR: ERROR_BIT | 24n,
  INCOMPATIBLE_VERSION: ERROR_BIT | 25n,
  SECURITY_VIOLATION: ERROR_BIT | 26n,
  CRC_ERROR: ERROR_BIT | 27n,
  END_OF_FILE: ERROR_BIT | 31n,
} as const;
export type EfiStatusName = keyof typeof EFI_STATUS;

const STATUS_NAMES: ReadonlyMap<bigint, string> = new Map(
  Object.entries(EFI_STATUS).map(([name, code]) => [code, name]),
);

/** `NOT_FOUND`; the number for a code without a name. */
export function efiStatusName(status: bigint): string {
  return STATUS_NAMES.get(status) ?? `0x${status.toString(16)}`;
}

export function isEfiError(status: bigint): boolean {
  return (status & ERROR_BIT) !== 0n;
}

/** EFI_MEMORY_TYPE by its number (7.2.1), the short names that the tables of this project use. */
export const EFI_MEMORY_TYPES = [
  'Reserved',
  'LoaderCode',
  'LoaderData',
  'BootServicesCode',
  'BootServicesData',
  'RuntimeServicesCode',
  'RuntimeServicesData',
  'Conventional',
  'Unusable',
  'AcpiReclaim',
  'AcpiNvs',
  'Mmio',
  'MmioPort',
  'PalCode',
  'Persistent',
  'Unaccepted',
] as const;
export type EfiMemoryType = (typeof EFI_MEMORY_TYPES)[number];

/** EFI_ALLOCATE_TYPE. */
export const EFI_ALLOCATE_TYPES = ['AnyPages', 'MaxAddress', 'Address'] as const;

/** Attributes of a memory descriptor (7.2.3). */
export const EFI_MEMORY_RUNTIME = 1n << 63n;
export const EFI_MEMORY_WP = 0x1000n;
export const EFI_MEMORY_RP = 0x2000n;
export const EFI_MEMORY_XP = 0x4000n;
export const EFI_MEMORY_RO = 0x20000n;
/** UC, WC, WT, WB: what RAM can do. */
export const EFI_MEMORY_RAM = 0xfn;

export const EFI_PAGE = 0x1000;

/** The header of the system table and of each table of services (4.2): 24 bytes before what is the table's own. */
export const TABLE_HEADER = { signature: 0, revision: 8, headerSize: 12, crc32: 16, reserved: 20 } as const;
export const TABLE_HEADER_SIZE = 24;
export const SYSTEM_TABLE_SIGNATURE = 0x5453_5953_2049_4249n;
export const BOOT_SERVICES_SIGNATURE = 0x5652_4553_544f_4f42n;
export const RUNTIME_SERVICES_SIGNATURE = 0x5652_4553_544e_5552n;
export const DXE_SERVICES_SIGNATURE = 0x5652_4553_5f45_5844n;

/** EFI_SYSTEM_TABLE (4.3): offsets of its fields. */
export const SYSTEM_TABLE = {
  firmwareVendor: 24,
  firmwareRevision: 32,
  consoleInHandle: 40,
  conIn: 48,
  consoleOutHandle: 56,
  conOut: 64,
  standardErrorHandle: 72,
  stdErr: 80,
  runtimeServices: 88,
  bootServices: 96,
  numberOfTableEntries: 104,
  configurationTable: 112,
} as const;
export const SYSTEM_TABLE_SIZE = 120;
/** A configuration table entry: GUID, then the address. */
export const CONFIGURATION_ENTRY_SIZE = 24;

/** The services of EFI_BOOT_SERVICES (4.4) in their order; eight bytes each behind the header. */
export const BOOT_SERVICES = [
  'RaiseTPL',
  'RestoreTPL',
  'AllocatePages',
  'FreePages',
  'GetMemoryMap',
  'AllocatePool',
  'FreePool',
  'CreateEvent',
  'SetTimer',
  'WaitForEvent',
  'SignalEvent',
  'CloseEvent',
  'CheckEvent',
  'InstallProtocolInterface',
  'ReinstallProtocolInterface',
  'UninstallProtocolInterface',
  'HandleProtocol',
  'Reserved',
  'RegisterProtocolNotify',
  'LocateHandle',
  'LocateDevicePath',
  'InstallConfigurationTable',
  'LoadImage',
  'StartImage',
  'Exit',
  'UnloadImage',
  'ExitBootServices',
  'GetNextMonotonicCount',
  'Stall',
  'SetWatchdogTimer',
  'ConnectController',
  'DisconnectController',
  'OpenProtocol',
  'CloseProtocol',
  'OpenProtocolInformation',
  'ProtocolsPerHandle',
  'LocateHandleBuffer',
  'LocateProtocol',
  'InstallMultipleProtocolInterfaces',
  'UninstallMultipleProtocolInterfaces',
  'CalculateCrc32',
  'CopyMem',
  'SetMem',
  'CreateEventEx',
] as const;

/** EFI_RUNTIME_SERVICES (4.5). */
export const RUNTIME_SERVICES = [
  'GetTime',
  'SetTime',
  'GetWakeupTime',
  'SetWakeupTime',
  'SetVirtualAddressMap',
  'ConvertPointer',
  'GetVariable',
  'GetNextVariableName',
  'SetVariable',
  'GetNextHighMonotonicCount',
  'ResetSystem',
  'UpdateCapsule',
  'QueryCapsuleCapabilities',
  'QueryVariableInfo',
] as const;

/** The services of the PI specification's DXE services table (volume 2, 7.1) in their order. */
export const DXE_SERVICES = [
  'AddMemorySpace',
  'AllocateMemorySpace',
  'FreeMemorySpace',
  'RemoveMemorySpace',
  'GetMemorySpaceDescriptor',
  'SetMemorySpaceAttributes',
  'GetMemorySpaceMap',
  'AddIoSpace',
  'AllocateIoSpace',
  'FreeIoSpace',
  'RemoveIoSpace',
  'GetIoSpaceDescriptor',
  'GetIoSpaceMap',
  'Dispatch',
  'Schedule',
  'Trust',
  'ProcessFirmwareVolume',
  'SetMemorySpaceCapabilities',
] as const;

/** EFI_MEMORY_DESCRIPTOR (7.2.3); OVMF gives each 48 bytes, eight more than it needs. */
export const MEMORY_DESCRIPTOR = {
  type: 0,
  physicalStart: 8,
  virtualStart: 16,
  pages: 24,
  attributes: 32,
} as const;
export const MEMORY_DESCRIPTOR_SIZE = 48;
export const MEMORY_DESCRIPTOR_VERSION = 1;

/** EFI_LOADED_IMAGE_PROTOCOL (9.1.1). */
export const LOADED_IMAGE = {
  revision: 0,
  parentHandle: 8,
  systemTable: 16,
  deviceHandle: 24,
  filePath: 32,
  reserved: 40,
  loadOptionsSize: 48,
  loadOptions: 56,
  imageBase: 64,
  imageSize: 72,
  imageCodeType: 80,
  imageDataType: 84,
  unload: 88,
} as const;
export const LOADED_IMAGE_SIZE = 96;
export const LOADED_IMAGE_REVISION = 0x1000;

/** EFI_GRAPHICS_OUTPUT_PROTOCOL's mode and mode information (12.9). */
export const GOP_MODE = {
  maxMode: 0,
  mode: 4,
  info: 8,
  infoSize: 16,
  frameBufferBase: 24,
  frameBufferSize: 32,
} as const;
export const GOP_MODE_SIZE = 40;
export const GOP_MODE_INFO = {
  version: 0,
  horizontalResolution: 4,
  verticalResolution: 8,
  pixelFormat: 12,
  pixelsPerScanLine: 32,
} as const;
export const GOP_MODE_INFO_SIZE = 36;
/** PixelBlueGreenRedReserved8BitPerColor. */
export const GOP_PIXEL_BGRR = 1;
