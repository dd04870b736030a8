// What the choice of KASLR means to UEFI firmware: the bytes of its random number protocol, and that it has one.

import type { KaslrOption } from '../decompressor/kaslr-entropy.ts';
import type { Machine } from '../machine/machine.ts';
import type { OptionalProtocol } from '../machine/uefi/optional-protocols.ts';
import type { BootOptions } from './options.ts';

/** What the firmware has: listed bytes of its random number protocol call for one. */
export function efiProtocolsOf({ efiProtocols, kaslr }: BootOptions): readonly OptionalProtocol[] {
  const listed = kaslr.kind === 'entropy' && kaslr.rng !== undefined;
  return listed && !efiProtocols.includes('rng') ? [...efiProtocols, 'rng'] : efiProtocols;
}

/** The bytes that were listed, in order over all calls, and then the machine's. */
export function efiRandom(machine: Machine, kaslr: KaslrOption): (length: number) => Uint8Array {
  let listed = (kaslr.kind === 'entropy' ? kaslr.rng : undefined) ?? new Uint8Array(0);
  return (length) => {
    const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
    const view = new DataView(bytes.buffer);
    const given = listed.subarray(0, length);
    listed = listed.subarray(given.length);
    for (let offset = 0; offset < bytes.length; offset += 8) {
      if (offset + 8 > given.length) view.setBigUint64(offset, machine.entropy.next64(), true);
    }
    bytes.set(given);
    return bytes.subarray(0, length);
  };
}
