// The list of an image's parts that lies beside them in a folder: enough to put the image together again, and to see which part
// has been changed.

import type { CodecName } from '../codecs/codec.ts';
import { BootscopeError } from '../error.ts';
import { sha256Hex } from '../host/host.ts';
import type { FileKind } from './identify.ts';
import type { ImageParts, PartRole, UnpackedPart } from './image-parts.ts';

/** The name of the list of parts, in their folder. */
export const MANIFEST_NAME = 'manifest.json';
const FORMAT = 'bootscope image parts, version 1';

/** A piece of the image, in the order of the file. */
export interface ManifestPart {
  readonly file: string;
  readonly role: PartRole;
  /** In the image, bytes. */
  readonly fileOffset: number;
  readonly size: number;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly what: string;
  readonly madeBy: string;
}

/** What is compressed in a piece, as a file of its own. */
export interface ManifestUnpacked {
  readonly file: string;
  readonly role: UnpackedPart['role'];
  /** The part that holds it, compressed. */
  readonly from: string;
  readonly size: number;
  readonly sha256: string;
  readonly what: string;
  readonly madeBy: string;
}

/** The list of the parts of an image. */
export interface PartManifest {
  readonly format: string;
  readonly image: {
    readonly name: string;
    readonly kind: FileKind;
    readonly size: number;
    readonly sha256: string;
    readonly kernelVersion: string | null;
    readonly codec: CodecName | null;
    readonly wrappers: readonly string[];
    /** Where the boot image begins in the file: 0, or the offset of a UKI's section. */
    readonly imageFileOffset: number;
  };
  readonly parts: readonly ManifestPart[];
  readonly unpacked: readonly ManifestUnpacked[];
}

/** @param name - the file's name, without its folder */
export function makeManifest(name: string, apart: ImageParts): PartManifest {
  const { bytes } = apart;
  return {
    format: FORMAT,
    image: {
      name,
      kind: apart.kind,
      size: bytes.length,
      sha256: sha256Hex(bytes),
      kernelVersion: apart.kernelVersion,
      codec: apart.codec,
      wrappers: apart.wrappers,
      imageFileOffset: apart.imageOffset,
    },
    parts: apart.parts.map(({ offset, length, ...part }) => ({
      file: part.file,
      role: part.role,
      fileOffset: offset,
      size: length,
      sha256: sha256Hex(bytes.subarray(offset, offset + length)),
      what: part.what,
      madeBy: part.madeBy,
    })),
    unpacked: apart.unpacked.map(({ bytes: content, ...part }) => ({
      file: part.file,
      role: part.role,
      from: part.from,
      size: content.length,
      sha256: sha256Hex(content),
      what: part.what,
      madeBy: part.madeBy,
    })),
  };
}

/**
 * Reads a list of parts.
 *
 * @param path - how to name the file in messages
 * @throws BootscopeError `pack-manifest` for a text that is no such list
 */
export function parseManifest(path: string, text: string): PartManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw notAManifest(path, error instanceof Error ? error.message : String(error));
  }
  const manifest = value as Partial<PartManifest> | null;
  if (manifest?.format !== FORMAT) throw notAManifest(path, `its format is not \`${FORMAT}\``);
  const entries = [...(manifest.parts ?? []), ...(manifest.unpacked ?? [])];
  const isSound = (file: unknown): boolean =>
    typeof file === 'string' && /^[\w.-]+(\/[\w.-]+)?$/.test(file) && !file.includes('..');
  if (!Array.isArray(manifest.parts) || !Array.isArray(manifest.unpacked) || manifest.image === undefined) {
    throw notAManifest(path, 'parts, unpacked or image is missing');
  }
  const wrong = entries.find(({ file, size }) => !isSound(file) || !Number.isSafeInteger(size));
  if (wrong !== undefined) throw notAManifest(path, `the part ${JSON.stringify(wrong.file)} is not sound`);
  let end = 0;
  for (const { file, fileOffset, size } of manifest.parts) {
    if (fileOffset !== end)
      throw notAManifest(path, `${file} begins at ${fileOffset}, the part before ends at ${end}`);
    end += size;
  }
  return manifest as PartManifest;
}

function notAManifest(path: string, why: string): BootscopeError {
  return new BootscopeError('pack-manifest', `${path} is no list of an image's parts: ${why}`);
}
