// Checked little- and big-endian reads from a file's bytes: a number that lies outside is an error with the numbers in it.

import { BootscopeError } from '../error.ts';
import { latin1Text } from '../host/host.ts';

/** Reads numbers and strings out of bytes; every offset is checked. */
export class ByteView {
  readonly bytes: Uint8Array;
  /** What the bytes are, for messages: `ELF header`. */
  readonly what: string;
  readonly #view: DataView;
  readonly #littleEndian: boolean;

  constructor(bytes: Uint8Array, what: string, littleEndian = true) {
    this.bytes = bytes;
    this.what = what;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#littleEndian = littleEndian;
  }

  get length(): number {
    return this.bytes.length;
  }

  /** Whether `size` bytes at `offset` are inside. */
  has(offset: number, size: number): boolean {
    return (
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(size) &&
      offset >= 0 &&
      size >= 0 &&
      size <= this.bytes.length - offset
    );
  }

  #check(offset: number, size: number): void {
    if (this.has(offset, size)) return;
    throw new BootscopeError(
      'image-truncated',
      `${this.what} needs ${size} bytes at offset ${offset}, there are ${this.bytes.length}`,
    );
  }

  u8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, this.#littleEndian);
  }

  u32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, this.#littleEndian);
  }

  u64(offset: number): bigint {
    this.#check(offset, 8);
    return this.#view.getBigUint64(offset, this.#littleEndian);
  }

  /** The bytes themselves, not a copy. */
  slice(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    return this.bytes.subarray(offset, offset + length);
  }

  /** Latin-1 text from `offset` up to a NUL, `limit` bytes or the end, whichever comes first. */
  text(offset: number, limit: number): string {
    this.#check(offset, 0);
    const end = Math.min(offset + limit, this.bytes.length);
    let stop = offset;
    while (stop < end && this.bytes[stop] !== 0) stop++;
    return latin1Text(this.bytes.subarray(offset, stop));
  }

  /** Whether the bytes at `offset` are those of the Latin-1 text `magic`; false outside. */
  startsWith(magic: string, offset = 0): boolean {
    if (!this.has(offset, magic.length)) return false;
    for (let index = 0; index < magic.length; index++) {
      if (this.bytes[offset + index] !== magic.charCodeAt(index)) return false;
    }
    return true;
  }
}
