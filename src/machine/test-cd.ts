// For tests: CDs that a BIOS boots.

export const CD_SECTOR = 2048;

/** An ISO image whose catalog's first entry is `entry`: boot indicator, medium, segment (2), type, unused, sectors (2), start (4). */
export function iso(entry: readonly number[], sectors = 40): Uint8Array {
  const bytes = new Uint8Array(sectors * CD_SECTOR);
  const record = [0, ...Buffer.from('CD001\x01EL TORITO SPECIFICATION')];
  bytes.set(record, 16 * CD_SECTOR);
  bytes.set([20, 0, 0, 0], 16 * CD_SECTOR + 0x47);
  bytes.set([255, ...Buffer.from('CD001\x01')], 17 * CD_SECTOR);
  const catalog = 20 * CD_SECTOR;
  bytes.set([1], catalog);
  bytes.set([0xaa, 0x55, 0x55, 0xaa], catalog + 28);
  bytes.set(entry, catalog + 32);
  bytes.set([0xf4], 30 * CD_SECTOR);
  return bytes;
}
