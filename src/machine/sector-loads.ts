// What INT 13h has read into memory, as far as it is the last that was: where code comes from that a loader runs.

import type { DiskImage } from '../image/disk-image.ts';
import { type DiskOwners, type OwnedRange, ownerName, ownersText } from '../image/disk-owners.ts';
import type { FileNode } from '../image/file-tree.ts';

/** Bytes of one owner that were read to [start, end) of physical memory, and lie at `offset` of the disk. */
export interface SectorLoad {
  readonly start: number;
  readonly end: number;
  readonly disk: DiskImage;
  readonly offset: number;
  readonly owner: OwnedRange;
}

/** A file that something was read of. */
export interface ReadFile {
  /** `partition 1: /ldlinux.c32`, as people read it. */
  readonly name: string;
  readonly file: FileNode;
}

/** Where a drive's bytes are looked up. */
export interface OwnedDisk {
  readonly image: DiskImage;
  readonly owners: DiskOwners;
}

export class SectorLoads {
  /** Apart from each other. */
  #loads: SectorLoad[] = [];
  readonly #files = new Map<FileNode, ReadFile>();

  /**
   * Notes what was read.
   *
   * @param offset - on the disk, in bytes
   * @returns whose it is, as text to follow the sectors' numbers
   */
  add(
    { image, owners }: OwnedDisk,
    offset: number,
    length: number,
    address: number,
    sectorSize: number,
  ): string {
    const owned = owners.of(offset, offset + length);
    const [start, end] = [address, address + length];
    this.#loads = this.#loads.flatMap((load) => {
      if (load.end <= start || load.start >= end) return [load];
      const after = { ...load, start: end, offset: load.offset + (end - load.start) };
      return [...(load.start < start ? [{ ...load, end: start }] : []), ...(load.end > end ? [after] : [])];
    });
    for (const owner of owned) {
      const at = address + (owner.start - offset);
      this.#add({ start: at, end: at + (owner.end - owner.start), disk: image, offset: owner.start, owner });
      const { file } = owner;
      if (file !== null && !this.#files.has(file)) this.#files.set(file, { name: ownerName(owner), file });
    }
    return ownersText(owned, sectorSize);
  }

  /** What lies at an address; null for what was not read there. */
  at(address: number): SectorLoad | null {
    return this.#loads.find(({ start, end }) => address >= start && address < end) ?? null;
  }

  /** Those of one owner that lie next to each other around an address, in their order. */
  around(load: SectorLoad): readonly SectorLoad[] {
    const same = this.#loads
      .filter(({ disk, owner }) => disk === load.disk && ownerName(owner) === ownerName(load.owner))
      .sort((a, b) => a.start - b.start);
    const at = same.indexOf(load);
    let [first, last] = [at, at];
    while (first > 0 && same[first - 1]!.end === same[first]!.start) first--;
    while (last + 1 < same.length && same[last + 1]!.start === same[last]!.end) last++;
    return same.slice(first, last + 1);
  }

  /** Every file that something was read of. */
  get files(): readonly ReadFile[] {
    return [...this.#files.values()];
  }

  #add(load: SectorLoad): void {
    const before = this.#loads.find(
      ({ end, disk, offset, start, owner }) =>
        end === load.start &&
        disk === load.disk &&
        offset + (end - start) === load.offset &&
        ownerName(owner) === ownerName(load.owner),
    );
    if (before === undefined) {
      this.#loads.push(load);
      return;
    }
    this.#loads = this.#loads.map((each) => (each === before ? { ...before, end: load.end } : each));
  }
}
