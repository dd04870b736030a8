// Device paths (UEFI 2.10, chapter 10): the chains of nodes by which firmware names devices and files.

import { guidBytes, guidText } from './efi-guids.ts';

const HARDWARE = 1;
const ACPI = 2;
const MESSAGING = 3;
const MEDIA = 4;
const END = 0x7f;
const END_ENTIRE = 0xff;
const HEADER = 4;

export interface DevicePathNode {
  readonly type: number;
  readonly subtype: number;
  readonly data: Uint8Array;
}

function encodeNode({ type, subtype, data }: DevicePathNode): Uint8Array {
  const bytes = new Uint8Array(HEADER + data.length);
  bytes.set([type, subtype, bytes.length & 0xff, bytes.length >> 8]);
  bytes.set(data, HEADER);
  return bytes;
}

/** The bytes of a path, with the node that ends it. */
export function encodeDevicePath(nodes: readonly DevicePathNode[]): Uint8Array {
  const parts = [...nodes, { type: END, subtype: END_ENTIRE, data: new Uint8Array(0) }].map(encodeNode);
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The nodes from the start of `bytes` to the one that ends the path; null where none does. */
export function decodeDevicePath(bytes: Uint8Array): DevicePathNode[] | null {
  const nodes: DevicePathNode[] = [];
  for (let at = 0; at + HEADER <= bytes.length; ) {
    const type = bytes[at]! & 0x7f;
    const subtype = bytes[at + 1]!;
    const length = bytes[at + 2]! | (bytes[at + 3]! << 8);
    if (length < HEADER || at + length > bytes.length) return null;
    if (type === END && subtype === END_ENTIRE) return nodes;
    nodes.push({ type, subtype, data: bytes.slice(at + HEADER, at + length) });
    at += length;
  }
  return null;
}

/** Bytes of a path with the node that ends it; null where none does. */
export function devicePathSize(bytes: Uint8Array): number | null {
  const nodes = decodeDevicePath(bytes);
  return nodes === null ? null : encodeDevicePath(nodes).length;
}

/** A vendor's media node, as the initrd's and QEMU's kernel loader's. */
export function vendorMedia(guid: string): DevicePathNode {
  return { type: MEDIA, subtype: 3, data: guidBytes(guid) };
}

/** A file's path. */
export function filePathNode(path: string): DevicePathNode {
  const data = new Uint8Array(path.length * 2 + 2);
  for (let index = 0; index < path.length; index++) {
    data[index * 2] = path.charCodeAt(index) & 0xff;
    data[index * 2 + 1] = path.charCodeAt(index) >> 8;
  }
  return { type: MEDIA, subtype: 4, data };
}

/** The path of a file's node; null for another node. */
export function filePathText({ type, subtype, data }: DevicePathNode): string | null {
  if (type !== MEDIA || subtype !== 4) return null;
  const codes = Array.from({ length: Math.floor(data.length / 2) }, (_, index) => {
    return data[index * 2]! | (data[index * 2 + 1]! << 8);
  });
  return String.fromCharCode(...codes.filter((code) => code !== 0));
}

/** An IDE disk: 0 or 1 each. */
export function ataNode(channel: number, unit: number): DevicePathNode {
  return { type: MESSAGING, subtype: 1, data: Uint8Array.of(channel, unit, 0, 0) };
}

/**
 * A partition, in sectors.
 * @param id - its GUID in a GPT, or the disk's signature in an MBR
 */
export function hardDriveNode(
  number: number,
  start: bigint,
  sectors: bigint,
  id: string | number,
): DevicePathNode {
  const data = new Uint8Array(38);
  const view = new DataView(data.buffer);
  view.setUint32(0, number, true);
  view.setBigUint64(4, start, true);
  view.setBigUint64(12, sectors, true);
  if (typeof id === 'number') view.setUint32(20, id, true);
  else data.set(guidBytes(id), 20);
  data.set(typeof id === 'number' ? [1, 1] : [2, 2], 36);
  return { type: MEDIA, subtype: 1, data };
}

/** Whether it is a partition's. */
export function isHardDriveNode({ type, subtype }: DevicePathNode): boolean {
  return type === MEDIA && subtype === 1;
}

export function isSameNode(a: DevicePathNode, b: DevicePathNode): boolean {
  return (
    a.type === b.type &&
    a.subtype === b.subtype &&
    a.data.length === b.data.length &&
    a.data.every((byte, index) => byte === b.data[index])
  );
}

/** An image in memory, [start, end]: what LoadImage from memory is told. */
export function memoryMapped(type: number, start: bigint, end: bigint): DevicePathNode {
  const data = new Uint8Array(20);
  const view = new DataView(data.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(4, start, true);
  view.setBigUint64(12, end, true);
  return { type: HARDWARE, subtype: 3, data };
}

const PNP_PCI_ROOT = 0x0a0341d0;

/** PciRoot(0)/Pci(device,function). */
export function pciPath(device: number, fn: number): DevicePathNode[] {
  const root = new Uint8Array(8);
  new DataView(root.buffer).setUint32(0, PNP_PCI_ROOT, true);
  return [
    { type: ACPI, subtype: 1, data: root },
    { type: HARDWARE, subtype: 1, data: Uint8Array.of(fn, device) },
  ];
}

/** The text form (10.6) of the path at the start of `bytes`; null where it is none. */
export function efiDevicePathText(bytes: Uint8Array): string | null {
  const nodes = decodeDevicePath(bytes);
  return nodes === null ? null : nodes.map(nodeText).join('/');
}

function nodeText({ type, subtype, data }: DevicePathNode): string {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const size = data.length;
  if (type === HARDWARE && subtype === 1 && size === 2) return `Pci(${hexOf(data[1]!)},${hexOf(data[0]!)})`;
  if (type === HARDWARE && subtype === 3 && size === 20) {
    const range = [view.getBigUint64(4, true), view.getBigUint64(12, true)].map(hexOf);
    return `MemoryMapped(${hexOf(view.getUint32(0, true))},${range.join(',')})`;
  }
  if (type === HARDWARE && subtype === 4 && size >= 16)
    return `VenHw(${guidText(data.subarray(0, 16)).toUpperCase()})`;
  if (type === ACPI && subtype === 1 && size === 8) {
    const id = view.getUint32(0, true);
    const uid = hexOf(view.getUint32(4, true));
    return id === PNP_PCI_ROOT ? `PciRoot(${uid})` : `Acpi(${hexOf(id)},${uid})`;
  }
  if (type === MESSAGING && subtype === 1 && size === 4)
    return `Ata(${data[0] === 0 ? 'Primary' : 'Secondary'},${data[1] === 0 ? 'Master' : 'Slave'},0x0)`;
  if (type === MEDIA && subtype === 1 && size === 38) {
    const isGpt = data[36] === 2;
    const id = isGpt ? guidText(data.subarray(20, 36)).toUpperCase() : hexOf(view.getUint32(20, true));
    const range = [view.getBigUint64(4, true), view.getBigUint64(12, true)].map(hexOf);
    return `HD(${view.getUint32(0, true)},${isGpt ? 'GPT' : 'MBR'},${id},${range.join(',')})`;
  }
  if (type === MESSAGING && subtype === 10 && size >= 16)
    return `VenMsg(${guidText(data.subarray(0, 16)).toUpperCase()})`;
  if (type === MEDIA && subtype === 3 && size >= 16)
    return `VenMedia(${guidText(data.subarray(0, 16)).toUpperCase()})`;
  if (type === MEDIA && subtype === 4) {
    return Array.from({ length: Math.floor(size / 2) }, (_, index) => view.getUint16(index * 2, true))
      .filter((code) => code !== 0)
      .map((code) => String.fromCharCode(code))
      .join('');
  }
  const payload = Array.from(data, (byte) => byte.toString(16).padStart(2, '0').toUpperCase()).join('');
  return `Path(${type},${subtype}${payload === '' ? '' : `,${payload}`})`;
}

function hexOf(value: number | bigint): string {
  return `0x${value.toString(16).toUpperCase()}`;
}
