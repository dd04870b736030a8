// Guest RAM by physical address, little endian, for devices and BIOS services that read and write it.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';

/** What `GuestMemory` needs of a CPU. */
export interface RamOwner {
  ram(address: number): Uint8Array;
  invalidateCode(address: number, length: number): void;
}

/** RAM from physical address 0. The array is fetched anew each time, since a WASM heap may have moved. */
export class GuestMemory {
  readonly size: number;
  readonly #owner: RamOwner;

  /** @param size - bytes of RAM; accesses past it throw `machine-address` */
  constructor(owner: RamOwner, size: number) {
    this.#owner = owner;
    this.size = size;
  }

  get bytes(): Uint8Array {
    return this.#owner.ram(0);
  }

  read8(address: number): number {
    this.#check(address, 1);
    return this.bytes[address]!;
  }

  read16(address: number): number {
    this.#check(address, 2);
    const bytes = this.bytes;
    return bytes[address]! | (bytes[address + 1]! << 8);
  }

  read32(address: number): number {
    return (this.read16(address) | (this.read16(address + 2) << 16)) >>> 0;
  }

  read64(address: number): bigint {
    return BigInt(this.read32(address)) | (BigInt(this.read32(address + 4)) << 32n);
  }

  write8(address: number, value: number): void {
    this.#check(address, 1);
    this.bytes[address] = value;
  }

  write16(address: number, value: number): void {
    this.#check(address, 2);
    const bytes = this.bytes;
    bytes[address] = value;
    bytes[address + 1] = value >>> 8;
  }

  write32(address: number, value: number): void {
    this.write16(address, value);
    this.write16(address + 2, value >>> 16);
  }

  write64(address: number, value: bigint): void {
    this.write32(address, Number(value & 0xffffffffn));
    this.write32(address + 4, Number((value >> 32n) & 0xffffffffn));
  }

  /** A copy of [address, address + length). */
  copyOut(address: number, length: number): Uint8Array {
    this.#check(address, length);
    return this.bytes.slice(address, address + length);
  }

  /** Writes bytes that may be code, and drops what the engine has translated there. */
  copyIn(address: number, bytes: Uint8Array): void {
    this.#check(address, bytes.length);
    this.bytes.set(bytes, address);
    this.#owner.invalidateCode(address, bytes.length);
  }

  fill(address: number, length: number, value: number): void {
    this.#check(address, length);
    this.bytes.fill(value, address, address + length);
  }

  /** Writes `count` words of 16 bits; `address` is even. */
  fill16(address: number, count: number, value: number): void {
    this.#check(address, count * 2);
    const { buffer, byteOffset } = this.bytes;
    new Uint16Array(buffer, byteOffset + address, count).fill(value);
  }

  /** Whether [address, address + length) is RAM. */
  contains(address: number, length: number): boolean {
    return address >= 0 && length >= 0 && address + length <= this.size;
  }

  #check(address: number, length: number): void {
    if (!this.contains(address, length)) {
      throw new BootscopeError(
        'machine-address',
        `${length} bytes at ${hex(address)} are not all RAM, which ends at ${hex(this.size)}`,
      );
    }
  }
}
