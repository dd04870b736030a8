// What a UEFI PC has beside memory: the devices of QEMU's pc machine, as OVMF shows them.

import type { OptionalProtocol } from './optional-protocols.ts';
import type { PciFunction } from './protocol-services.ts';
import type { UefiConfiguration } from './start.ts';

/** OVMF's first mode on QEMU's standard VGA: 1280x800 in 32 bits. */
const FRAME_BUFFER = { width: 1280, height: 800, address: 0x8000_0000, size: 0x3e_8000 } as const;

/** Bytes of the VGA BIOS that QEMU puts into the card's ROM. */
const VGA_ROM_SIZE = 0x9c00;

const DISPLAY_CONTROLLER = 0x030000;

/** An option ROM of that size with its two headers (PCI Firmware Specification 3.0, 5.1) and no code. */
function emptyRom(vendor: number, device: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const structure = 0x40;
  bytes.set([0x55, 0xaa, size / 512]);
  view.setUint16(0x18, structure, true);
  bytes.set([0x50, 0x43, 0x49, 0x52], structure);
  view.setUint16(structure + 4, vendor, true);
  view.setUint16(structure + 6, device, true);
  view.setUint16(structure + 10, 0x18, true);
  view.setUint16(structure + 16, size / 512, true);
  // The last image.
  bytes[structure + 21] = 0x80;
  return bytes;
}

function pciFunction(
  [device, number]: readonly [device: number, number: number],
  [vendorId, deviceId]: readonly [vendor: number, device: number],
  classCode: number,
  romSize = 0,
): PciFunction {
  const configuration = new Uint8Array(0x40);
  const view = new DataView(configuration.buffer);
  view.setUint16(0, vendorId, true);
  view.setUint16(2, deviceId, true);
  view.setUint32(8, classCode << 8, true);
  const rom = romSize === 0 ? new Uint8Array(0) : emptyRom(vendorId, deviceId, romSize);
  return { bus: 0, device, function: number, configuration, rom };
}

/** In the order in which OVMF finds them. */
const PCI_FUNCTIONS: readonly PciFunction[] = [
  pciFunction([0, 0], [0x8086, 0x1237], 0x060000),
  pciFunction([1, 0], [0x8086, 0x7000], 0x060100),
  pciFunction([1, 1], [0x8086, 0x7010], 0x010180),
  pciFunction([1, 3], [0x8086, 0x7113], 0x068000),
  pciFunction([2, 0], [0x1234, 0x1111], DISPLAY_CONTROLLER, VGA_ROM_SIZE),
];

/** `-device virtio-rng-pci`, in the first free slot. */
const VIRTIO_RNG = pciFunction([3, 0], [0x1af4, 0x1005], 0x00ff00);

/** QEMU's pc machine with its standard VGA, OVMF without Secure Boot keys, and with what else it is asked to have. */
export function qemuPc(protocols: readonly OptionalProtocol[]): UefiConfiguration {
  return {
    protocols,
    frameBuffer: FRAME_BUFFER,
    pci: protocols.includes('rng') ? [...PCI_FUNCTIONS, VIRTIO_RNG] : PCI_FUNCTIONS,
  };
}
