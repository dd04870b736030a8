// What a boot loader has read of itself that cannot be code: where it then goes astray, that is the likely cause.

/** Ranges that a sentence names. */
const RANGES_NAMED = 3;
const MOST_RANGES = 64;

interface SectorRange {
  readonly path: string;
  readonly first: number;
  last: number;
  /** The program that it is a part of; null for what is in no partition. */
  readonly owner: string | null;
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
   * @param owner - the program that they are a part of; null for what is in no partition
   */
  addRead(
    path: string,
    first: number,
    bytes: Uint8Array,
    sectorSize: number,
    owner: string | null = null,
  ): void {
    for (let at = 0; at + sectorSize <= bytes.length; at += sectorSize) {
      if (bytes.subarray(at, at + sectorSize).every((byte) => byte === 0)) {
        this.#addZero(path, first + at / sectorSize, owner);
      }
    }
  }

  /** @param sectors - of the disk, less than what was asked for needs */
  addMissing(path: string, first: number, count: number, sectors: number): void {
    this.#missing ??= `the loader has asked for sectors ${first} to ${first + count - 1} of ${path}, which has ${sectors}`;
  }

  /**
   * A sentence each, without what was all right.
   *
   * @param ran - programs whose code was run: the sectors of others are data
   */
  texts(ran: ReadonlySet<string>): readonly string[] {
    const texts = this.#missing === null ? [] : [this.#missing];
    const zeroes = this.#zeroes.filter(({ owner }) => owner === null || ran.has(owner));
    if (zeroes.length === 0) return texts;
    const [named, more] = [zeroes.slice(0, RANGES_NAMED), zeroes.length - RANGES_NAMED];
    const ranges = named.map(({ path, first, last, owner }) => {
      const sectors = first === last ? `sector ${first}` : `sectors ${first} to ${last}`;
      return `${sectors} of ${path} (${owner ?? 'in no partition'})`;
    });
    const others = more > 0 ? ` and ${more} more ranges` : '';
    return [...texts, `the loader has read ${ranges.join(', ')}${others}, which hold nothing but zeroes`];
  }

  #addZero(path: string, sector: number, owner: string | null): void {
    const last = this.#zeroes.at(-1);
    if (last?.path === path && last.last === sector - 1 && last.owner === owner) last.last = sector;
    else if (this.#zeroes.length < MOST_RANGES) {
      this.#zeroes.push({ path, first: sector, last: sector, owner });
    }
  }
}
