// PCI configuration space through CF8h/CFCh (mechanism 1): a host bridge and empty slots.

import type { PortDevice } from './port-bus.ts';

export const PCI_CONFIG_ADDRESS = 0xcf8;
export const PCI_CONFIG_DATA = 0xcfc;

const ENABLE = 0x80000000;

/** Type 0 header of an Intel 440FX host bridge, by dword (PCI 3.0, 6.1). */
const HOST_BRIDGE: readonly number[] = [0x12378086, 0x00000000, 0x06000002, 0x00000000];

export class PciConfig implements PortDevice {
  readonly name = 'PCI';
  #address = 0;

  readPort(port: number): number {
    return (this.#register(port) >>> (8 * (port & 3))) & 0xff;
  }

  readPortWide(port: number, size: 2 | 4): number {
    const value = this.#register(port) >>> (8 * (port & 3));
    return size === 2 ? value & 0xffff : value >>> 0;
  }

  writePort(): void {} // the bridge has nothing to set, and the address register takes only dwords

  writePortWide(port: number, size: 2 | 4, value: number): void {
    if (port === PCI_CONFIG_ADDRESS && size === 4) {
      this.#address = value;
    }
  }

  #register(port: number): number {
    if (port < PCI_CONFIG_DATA) {
      return this.#address;
    }
    if (!(this.#address & ENABLE)) {
      return 0xffffffff;
    }
    const isHostBridge = (this.#address & 0x00ffff00) === 0;
    return isHostBridge ? (HOST_BRIDGE[(this.#address & 0xfc) >>> 2] ?? 0) : 0xffffffff;
  }
}
