// What a boot loader has read of itself that cannot be code: where it then goes astray, that is the likely cause.

/** Ranges that a sentence names. */
const RANGES_NAMED = 3;
const MOST_RANGES = 64;

interface SectorRange {
  readonly path: string;
  readonly first: number;
  last: number;
}

/** Sectors that hold nothing but zeroes, and those that are not there. */
export class DoubtfulSectors {
  readonly #zeroes: SectorRange[] = [];
  #missing: string | null = null;

  /**
   * Looks at what was read.
   *
   * @param path - of the disk's file
   * @param bytes - whole sectors
   */
  addRead(path: string, first: number, bytes: Uint8Array, sectorSize: number): void {
    for (let at = 0; at + sectorSize <= bytes.length; at += sectorSize) {
      if (bytes.subarray(at, at + sectorSize).every((byte) => byte === 0)) {
        this.#addZero(path, first + at / sectorSize);
      }
    }
  }

  /** @param sectors - of the disk, less than what was asked for needs */
  addMissing(path: string, first: number, count: number, sectors: number): void {
    this.#missing ??= `the loader has asked for sectors ${first} to ${first + count - 1} of ${path}, which has ${sectors}`;
  }

  /** A sentence each, without what was all right. */
  get texts(): readonly string[] {
    const texts = this.#missing === null ? [] : [this.#missing];
    if (this.#zeroes.length === 0) return texts;
    const [named, more] = [this.#zeroes.slice(0, RANGES_NAMED), this.#zeroes.length - RANGES_NAMED];
    const ranges = named.map(({ path, first, last }) =>
      first === last ? `sector ${first} of ${path}` : `sectors ${first} to ${last} of ${path}`,
    );
    const others = more > 0 ? ` and ${more} more ranges` : '';
    return [
      ...texts,
      `the loader has read ${ranges.join(', ')}${others}, in no partition, which hold nothing but zeroes`,
    ];
  }

  #addZero(path: string, sector: number): void {
    const last = this.#zeroes.at(-1);
    if (last?.path === path && last.last === sector - 1) last.last = sector;
    else if (this.#zeroes.length < MOST_RANGES) this.#zeroes.push({ path, first: sector, last: sector });
  }
}
