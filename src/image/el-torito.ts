// How a CD boots: the catalog that its volume descriptors name ("El Torito" Bootable CD-ROM Format Specification 1.0).

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type DiskImage, readDisk, SECTOR_SIZE } from './disk-image.ts';

export const CD_SECTOR_SIZE = 2048;

export type CdEmulation = 'none' | '1.2M' | '1.44M' | '2.88M' | 'hard-disk';

/** What the BIOS boots of a CD. */
export interface CdBootImage {
  readonly emulation: CdEmulation;
  /** As the catalog has it. */
  readonly mediaType: number;
  /** Where it is loaded to. */
  readonly segment: number;
  /** Sectors of 512 bytes that are loaded. */
  readonly loadSectors: number;
  /** Where the image begins on the CD, in sectors of 2048 bytes. */
  readonly start: number;
}

const FIRST_DESCRIPTOR = 16;
const MOST_DESCRIPTORS = 64;
const VOLUME = 'CD001';
const SYSTEM = 'EL TORITO SPECIFICATION';
const BOOT_RECORD = 0;
const TERMINATOR = 255;
const CATALOG_POINTER = 0x47;
const BOOTABLE = 0x88;
const EMULATIONS: readonly CdEmulation[] = ['none', '1.2M', '1.44M', '2.88M', 'hard-disk'];
const DEFAULT_SEGMENT = 0x7c0;

/**
 * The catalog's initial entry: what a BIOS boots.
 *
 * @throws BootscopeError `image-cdrom` where there is none, or it makes no sense
 */
export function readCdBootImage(disk: DiskImage): CdBootImage {
  const refuse = (why: string): never => {
    throw new BootscopeError('image-cdrom', `${disk.path} is no CD that a BIOS boots: ${why}`);
  };
  const catalogAt = findCatalog(disk);
  if (catalogAt === undefined) return refuse(`it has no ISO 9660 volume descriptors from byte 32768 on`);
  if (catalogAt === null) return refuse('its volume descriptors name no El Torito boot catalog');
  const sectors = Math.floor(disk.size / CD_SECTOR_SIZE);
  if (catalogAt >= sectors)
    return refuse(`its boot catalog lies at sector ${catalogAt}, the file has ${sectors}`);
  const catalog = readDisk(disk, catalogAt * CD_SECTOR_SIZE, 64);
  const view = new DataView(catalog.buffer);
  let sum = 0;
  for (let at = 0; at < 32; at += 2) sum += view.getUint16(at, true);
  if (catalog[0] !== 1 || catalog[30] !== 0x55 || catalog[31] !== 0xaa || (sum & 0xffff) !== 0) {
    return refuse(
      `the boot catalog at sector ${catalogAt} does not begin with a validation entry (its words sum to ${hex(sum & 0xffff)})`,
    );
  }
  if (catalog[32] !== BOOTABLE)
    return refuse(`the first entry of its boot catalog is marked ${hex(catalog[32]!)}, not ${hex(BOOTABLE)}`);
  const mediaType = catalog[33]! & 0x0f;
  const emulation = EMULATIONS[mediaType];
  if (emulation === undefined) return refuse(`its boot catalog asks for the unknown medium ${mediaType}`);
  const start = view.getUint32(40, true);
  if (start >= sectors)
    return refuse(`its boot image begins at sector ${start}, the file has ${sectors} sectors of 2048 bytes`);
  const loadSectors = view.getUint16(38, true);
  const end = start * CD_SECTOR_SIZE + loadSectors * SECTOR_SIZE;
  if (end > sectors * CD_SECTOR_SIZE) {
    return refuse(
      `its boot image of ${loadSectors} sectors of 512 bytes at sector ${start} ends behind the file's ${disk.size} bytes, at ${end}`,
    );
  }
  return {
    ...{ emulation, mediaType, start, loadSectors },
    segment: view.getUint16(34, true) || DEFAULT_SEGMENT,
  };
}

/** The catalog's sector; null where no descriptor names one, undefined where there are no descriptors. */
function findCatalog(disk: DiskImage): number | null | undefined {
  for (let index = 0; index < MOST_DESCRIPTORS; index++) {
    const descriptor = readDisk(disk, (FIRST_DESCRIPTOR + index) * CD_SECTOR_SIZE, CD_SECTOR_SIZE);
    const text = new TextDecoder('latin1').decode(descriptor);
    if (text.slice(1, 6) !== VOLUME) return index === 0 ? undefined : null;
    const type = descriptor[0];
    if (type === TERMINATOR) return null;
    if (type === BOOT_RECORD && text.slice(7, 7 + SYSTEM.length) === SYSTEM) {
      return new DataView(descriptor.buffer).getUint32(CATALOG_POINTER, true);
    }
  }
  return null;
}
