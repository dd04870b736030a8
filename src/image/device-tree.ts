// Flattened device trees (Devicetree Specification 0.4, chapter 5): a header, a block of nodes and properties, a block of names.

import { BootscopeError } from '../error.ts';
import { latin1Text } from '../host/host.ts';
import { ByteView } from './byte-view.ts';

const MAGIC = '\xd0\x0d\xfe\xed';
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROPERTY = 3;
const NOP = 4;
const END = 9;
const DEEPEST = 64;
const MOST_NODES = 200_000;

export interface DeviceTreeNode {
  /** Without its parents'; the root's is empty. */
  readonly name: string;
  readonly properties: ReadonlyMap<string, Uint8Array>;
  readonly children: readonly DeviceTreeNode[];
}

export interface DeviceTree {
  /** Bytes of the tree by its own header; what follows is not part of it. */
  readonly totalSize: number;
  readonly version: number;
  readonly root: DeviceTreeNode;
}

/** Whether the bytes begin with a device tree's magic. */
export function isDeviceTree(bytes: Uint8Array): boolean {
  return new ByteView(bytes, 'device tree').startsWith(MAGIC);
}

/**
 * Reads the whole tree.
 * @throws BootscopeError `image-device-tree`, `image-truncated`
 */
export function readDeviceTree(bytes: Uint8Array): DeviceTree {
  const view = new ByteView(bytes, 'device tree', false);
  if (!isDeviceTree(bytes))
    throw new BootscopeError('image-device-tree', 'there is no device tree: its magic is missing');
  const totalSize = view.u32(4);
  const structure = view.u32(8);
  const strings = view.u32(12);
  if (structure > bytes.length || strings > bytes.length) {
    throw new BootscopeError(
      'image-truncated',
      `the device tree is cut: its header says it has ${totalSize} bytes, there are ${bytes.length}`,
    );
  }
  const version = view.u32(20);
  let at = structure;
  let nodes = 0;

  const readNode = (depth: number): DeviceTreeNode => {
    if (depth > DEEPEST || ++nodes > MOST_NODES) {
      throw new BootscopeError(
        'image-device-tree',
        `a device tree of more than ${DEEPEST} levels or ${MOST_NODES} nodes is not read`,
      );
    }
    const name = view.text(at, 4096);
    at = align(at + name.length + 1);
    const properties = new Map<string, Uint8Array>();
    const children: DeviceTreeNode[] = [];
    for (;;) {
      const token = view.u32(at);
      at += 4;
      if (token === END_NODE) return { name, properties, children };
      if (token === BEGIN_NODE) children.push(readNode(depth + 1));
      else if (token === PROPERTY) {
        const length = view.u32(at);
        properties.set(view.text(strings + view.u32(at + 4), 256), view.slice(at + 8, length));
        at = align(at + 8 + length);
      } else if (token !== NOP) {
        throw new BootscopeError(
          'image-device-tree',
          `the device tree is damaged at offset ${at - 4}: token ${token} is none`,
        );
      }
    }
  };

  for (;;) {
    const token = view.u32(at);
    at += 4;
    if (token === BEGIN_NODE) break;
    if (token === END || token !== NOP) {
      throw new BootscopeError(
        'image-device-tree',
        `the device tree is damaged: no node at offset ${at - 4}`,
      );
    }
  }
  return { totalSize, version, root: readNode(0) };
}

function align(offset: number): number {
  return Math.ceil(offset / 4) * 4;
}

/** Whether a tree is a list of changes: each fragment has its target beside an `__overlay__`. */
export function isOverlay(root: DeviceTreeNode): boolean {
  return root.children.some((fragment) => childNode(fragment, '__overlay__') !== undefined);
}

/** The child of that name; undefined where there is none. */
export function childNode(node: DeviceTreeNode | undefined, name: string): DeviceTreeNode | undefined {
  return node?.children.find((child) => child.name === name);
}

/** A property as text up to its NUL; null where there is none. */
export function textProperty(node: DeviceTreeNode | undefined, name: string): string | null {
  const value = node?.properties.get(name);
  return value === undefined ? null : new ByteView(value, name).text(0, value.length);
}

/** A property that is a list of texts; empty where there is none. */
export function textsProperty(node: DeviceTreeNode | undefined, name: string): string[] {
  const value = node?.properties.get(name);
  if (value === undefined) return [];
  return latin1Text(value)
    .split('\0')
    .filter((text) => text !== '');
}

/** A property of one or two 32-bit cells as a number; null where there is none. */
export function numberProperty(node: DeviceTreeNode | undefined, name: string): bigint | null {
  const value = node?.properties.get(name);
  if (value === undefined || (value.length !== 4 && value.length !== 8)) return null;
  const view = new ByteView(value, name, false);
  return value.length === 4 ? BigInt(view.u32(0)) : view.u64(0);
}
