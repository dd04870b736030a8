// The GUIDs that firmware, boot loaders and the EFI stub exchange, by the names that the UEFI specification and the kernel use.

/** Names in the order of their text form; the kernel's or systemd's own where the specification has none. */
export const EFI_GUIDS = {
  // Protocols (UEFI 2.10).
  LoadedImage: '5b1b31a1-9562-11d2-8e3f-00a0c969723b',
  LoadedImageDevicePath: 'bc62157e-3e33-4fec-9920-2d3b36d750df',
  DevicePath: '09576e91-6d3f-11d2-8e39-00a0c969723b',
  DevicePathToText: '8b843e20-8132-4852-90cc-551a4e4a7f1c',
  SimpleTextInput: '387477c1-69c7-11d2-8e39-00a0c969723b',
  SimpleTextInputEx: 'dd9e7534-7762-4698-8c14-f58517a625aa',
  SimpleTextOutput: '387477c2-69c7-11d2-8e39-00a0c969723b',
  ConsoleOut: 'd3b36f2c-d551-11d4-9a46-0090273fc14d',
  GraphicsOutput: '9042a9de-23dc-4a38-96fb-7aded080516a',
  UgaDraw: '982c298b-f4fa-41cb-b838-77aa688fb839',
  PciIo: '4cf5b200-68b8-4ca5-9eec-b23e3f50029a',
  PciRootBridgeIo: '2f707ebb-4a1a-11d4-9a38-0090273fc14d',
  Rng: '3152bca5-eade-433d-862e-c01cdc291f44',
  LoadFile: '56ec3091-954c-11d2-8e3f-00a0c969723b',
  LoadFile2: '4006c0c1-fcb3-403e-996d-4a6c8724e06d',
  SimpleFileSystem: '964e5b22-6459-11d2-8e39-00a0c969723b',
  DiskIo: 'ce345171-ba0b-11d2-8e4f-00a0c969723b',
  BlockIo: '964e5b21-6459-11d2-8e39-00a0c969723b',
  SimpleNetwork: 'a19832b9-ac25-11d3-9a2d-0090273fc14d',
  SerialIo: 'bb25cf6f-f1d4-11d2-9a0c-0090273fc1fd',
  MemoryAttribute: 'f4560cf6-40ec-4b4a-a192-bf1d57d0b189',
  UnicodeCollation: '1d85cd7f-f43d-11d2-9a0c-0090273fc14d',
  UnicodeCollation2: 'a4c751fc-23ae-4c3e-92e9-4964cf63f349',
  EdidActive: 'bd8c1056-9f36-44ec-92a8-a6337f817986',
  Tcg: 'f541796d-a62e-4954-a775-9584f61b9cdd',
  Tcg2: '607f766c-7455-42be-930b-e4d76db2720f',
  CcMeasurement: '96751a3d-72f4-41a6-a794-ed5d0e67ae6b',
  ShimLock: '605dab50-e046-4300-abb6-3dd810dd8b23',
  ShimImageLoader: '1f492041-fadb-4e59-9e57-7cafe73a55ab',
  SecurityArch: 'a46423e3-4617-49f1-b9ff-d1bfa9115839',
  Security2Arch: '94ab2f58-1438-4ef1-9152-18941a3a0e68',
  SmbiosProtocol: '03583ff6-cb36-4940-947e-b9b39f4afaf7',
  AppleSetOs: 'c5c5da95-7d5c-45e6-b2f1-3fd52bb10077',
  AppleProperties: '91bd12fe-f6c3-44fb-a5b7-5122ab303ae0',
  OvmfMemoryAcceptance: 'c5a010fe-38a7-4531-8a4a-0500d2fd1649',
  DebugSupport: '2755590c-6f3c-42fa-9ea4-a3ba543cda25',
  // Configuration tables.
  Acpi10Table: 'eb9d2d30-2d88-11d3-9a16-0090273fc14d',
  Acpi20Table: '8868e871-e4f1-11d3-bc22-0080c73c8881',
  SmbiosTable: 'eb9d2d31-2d88-11d3-9a16-0090273fc14d',
  Smbios3Table: 'f2fd1544-9794-4a2c-992e-e5bbcf20e394',
  MemoryAttributesTable: 'dcfa911d-26eb-469f-a220-38b7dc461220',
  DxeServicesTable: '05ad34ba-6f02-4214-952e-4da0398e2bb9',
  HobList: '7739f24c-93d7-11d4-9a3a-0090273fc14d',
  LzmaCustomDecompress: 'ee4e5898-3914-4259-9d6e-dc7bd79403cf',
  MemoryTypeInformation: '4c19049f-4137-4dd3-9c10-8b97a83ffdfa',
  DebugImageInfoTable: '49152e77-1ada-4764-b7a2-7afefed95e8b',
  MemoryStatusCodeRecord: '060cc026-4c0d-4dda-8f41-595fef00a502',
  ImageSecurityDatabase: 'd719b2cb-3d3a-4596-a3bc-dad00e67656f',
  EsrtTable: 'b122a263-3661-4f68-9929-78f8b0d62180',
  RuntimePropertiesTable: 'eb66918a-7eef-402a-842e-931d21c38ae9',
  LinuxMemReserve: '888eb0c6-8ede-4ff5-a8f0-9aee5cb977c2',
  LinuxRandomSeed: '1ce1e5bc-7ceb-42f2-81e5-8aadf180f57b',
  LinuxInitrd: '5568e427-68fc-4f3d-ac74-ca555231cc68',
  LinuxBootMemmap: '800f683f-d08b-423a-a293-965c3c6fe2b4',
  LinuxScreenInfo: 'e03fc20a-85dc-406e-b90e-4ab5029b74a7',
  LinuxTpmEventLog: 'b7799cb0-eca2-4943-9667-1fae07b747fa',
  LinuxFinalTpmLog: '1e2ed096-30e2-4254-bd89-863bbef82325',
  CcBlob: '067b1f5f-cf26-44c5-8554-93d777912d42',
  // Vendors of variables and device path nodes.
  GlobalVariable: '8be4df61-93ca-11d2-aa0d-00e098032b8c',
  ImageSecurityVariable: 'd719b2cb-3d3a-4596-a3bc-dad00e67656f',
  MemoryOnlyReset: 'e20939be-32d4-41be-a150-897f85d49829',
  LoaderInterface: '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f',
  LinuxInitrdMedia: '5568e427-68fc-4f3d-ac74-ca555231cc68',
  QemuKernelLoaderFs: '1428f772-b64a-441e-b8c3-9ebdd7f893c7',
  // Kinds of events and files.
  EventExitBootServices: '27abf055-b1b8-4c26-8048-748f37baa2df',
  EventBeforeExitBootServices: '8be0e274-3970-4b44-80c5-1ab9502f3bfc',
  EventVirtualAddressChange: '13fa7698-c831-49c7-87ea-8f43fcc25196',
  FileInfo: '09576e92-6d3f-11d2-8e39-00a0c969723b',
  FileSystemInfo: '09576e93-6d3f-11d2-8e39-00a0c969723b',
  FileSystemVolumeLabel: 'db47d7d3-fe81-11d3-9a35-0090273fc14d',
} as const;
export type EfiGuidName = keyof typeof EFI_GUIDS;

export const GUID_SIZE = 16;

/** The first name of each text form, for what is printed. */
const NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries(EFI_GUIDS)
    .reverse()
    .map(([name, text]) => [text, name]),
);

/** The 16 bytes of a GUID in memory: the first three groups little endian, the others as they are read. */
export function guidBytes(text: string): Uint8Array {
  const digits = text.replaceAll('-', '');
  const bytes = Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

/** The text form of 16 bytes, lower case. */
export function guidText(bytes: Uint8Array): string {
  const group = (from: number, to: number, reversed: boolean): string => {
    const part = Array.from(bytes.subarray(from, to), (byte) => byte.toString(16).padStart(2, '0'));
    return (reversed ? part.reverse() : part).join('');
  };
  return [
    group(0, 4, true),
    group(4, 6, true),
    group(6, 8, true),
    group(8, 10, false),
    group(10, 16, false),
  ].join('-');
}

/** What people call a GUID: its name where it has one here, else the GUID itself. */
export function guidName(text: string): string {
  return NAMES.get(text) ?? text;
}
