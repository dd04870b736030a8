// U-Boot's flattened image trees (flat_image_tree specification): images with types, compressions and hashes, and the
// configurations that say which of them go together.

import { crc32 } from '../codecs/checksums.ts';
import { hashHex, hexDigits } from '../host/host.ts';
import type { HashName } from '../host/host-types.ts';
import { ByteView } from './byte-view.ts';
import {
  childNode,
  type DeviceTree,
  type DeviceTreeNode,
  numberProperty,
  textProperty,
  textsProperty,
} from './device-tree.ts';

export interface FitHash {
  readonly algorithm: string;
  /** Lower-case hex. */
  readonly stated: string;
  /** Whether the data has it; null for an algorithm that is not computed here, or where the data is missing. */
  readonly valid: boolean | null;
}

export interface FitImage {
  /** Name of its node, `kernel-1`. */
  readonly name: string;
  readonly description: string | null;
  readonly type: string;
  readonly architecture: string | null;
  readonly os: string | null;
  readonly compression: string;
  readonly load: bigint | null;
  readonly entry: bigint | null;
  /** In the tree or behind it; null where the file does not have all of it. */
  readonly data: Uint8Array | null;
  readonly length: number;
  readonly hashes: readonly FitHash[];
}

export interface FitConfiguration {
  readonly name: string;
  readonly description: string | null;
  /** Names of images by role: `kernel`, `fdt`, `ramdisk`, `setup`, `loadables`, … */
  readonly images: Readonly<Record<string, readonly string[]>>;
}

export interface Fit {
  readonly description: string | null;
  /** Seconds since 1970; null where it is not said. */
  readonly time: number | null;
  readonly images: readonly FitImage[];
  readonly configurations: readonly FitConfiguration[];
  /** The name of the default one; null where none is named. */
  readonly defaultConfiguration: string | null;
}

const HASHES: readonly HashName[] = ['md5', 'sha1', 'sha256', 'sha384', 'sha512'];

function isHashName(algorithm: string): algorithm is HashName {
  return HASHES.some((name) => name === algorithm);
}

/** Reads the images of a tree; null for a device tree that is no FIT. */
export function readFit(bytes: Uint8Array, tree: DeviceTree): Fit | null {
  const images = childNode(tree.root, 'images');
  if (images === undefined) return null;
  const configurations = childNode(tree.root, 'configurations');
  const time = numberProperty(tree.root, 'timestamp');
  return {
    description: textProperty(tree.root, 'description'),
    time: time === null ? null : Number(time),
    images: images.children.map((node) => readImage(bytes, tree, node)),
    configurations: (configurations?.children ?? []).map((node) => ({
      name: node.name,
      description: textProperty(node, 'description'),
      images: Object.fromEntries(
        [...node.properties.keys()]
          .filter((role) => !['description', 'default', 'compatible'].includes(role))
          .map((role) => [role, textsProperty(node, role)] as const)
          .filter(([, names]) => names.every((name) => childNode(images, name) !== undefined)),
      ),
    })),
    defaultConfiguration: textProperty(configurations, 'default'),
  };
}

function readImage(bytes: Uint8Array, tree: DeviceTree, node: DeviceTreeNode): FitImage {
  const { data, length } = imageData(bytes, tree, node);
  return {
    name: node.name,
    description: textProperty(node, 'description'),
    type: textProperty(node, 'type') ?? 'unknown',
    architecture: textProperty(node, 'arch'),
    os: textProperty(node, 'os'),
    compression: textProperty(node, 'compression') ?? 'none',
    load: numberProperty(node, 'load'),
    entry: numberProperty(node, 'entry'),
    data,
    length,
    hashes: node.children.filter(({ name }) => /^hash(-|@|$)/.test(name)).map((hash) => readHash(hash, data)),
  };
}

/** Inside the tree, behind it (`data-offset`, from its end rounded up to 4), or at a place of the file (`data-position`). */
function imageData(
  bytes: Uint8Array,
  tree: DeviceTree,
  node: DeviceTreeNode,
): { data: Uint8Array | null; length: number } {
  const inside = node.properties.get('data');
  if (inside !== undefined) return { data: inside, length: inside.length };
  const length = Number(numberProperty(node, 'data-size') ?? 0n);
  const behind = numberProperty(node, 'data-offset');
  const position = numberProperty(node, 'data-position');
  const at =
    position !== null
      ? Number(position)
      : behind !== null
        ? Math.ceil(tree.totalSize / 4) * 4 + Number(behind)
        : null;
  const view = new ByteView(bytes, 'FIT image');
  return { data: at !== null && view.has(at, length) ? view.slice(at, length) : null, length };
}

function readHash(node: DeviceTreeNode, data: Uint8Array | null): FitHash {
  const algorithm = textProperty(node, 'algo') ?? 'unknown';
  const stated = hexDigits(node.properties.get('value') ?? new Uint8Array(0));
  const computed =
    data === null
      ? null
      : algorithm === 'crc32'
        ? crc32(data).toString(16).padStart(8, '0')
        : isHashName(algorithm)
          ? hashHex(algorithm, data)
          : null;
  return { algorithm, stated, valid: computed === null ? null : computed === stated };
}

/** The image of a role in the default configuration; without configurations, the first image of that type. */
export function fitImageOf(fit: Fit, role: string): FitImage | null {
  const { configurations, defaultConfiguration, images } = fit;
  const chosen = configurations.find(({ name }) => name === defaultConfiguration) ?? configurations[0];
  const name = chosen?.images[role]?.[0];
  if (name !== undefined) return images.find((image) => image.name === name) ?? null;
  if (chosen !== undefined) return null;
  return images.find(({ type }) => type === role || type.startsWith(`${role}_`)) ?? null;
}
