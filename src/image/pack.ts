// Puts an image together from the parts in a folder: byte for byte what it was where nothing changed, else with what changed and
// everything put right that depends on it.

import type { CodecName } from '../codecs/codec.ts';
import {
  type CompressedKernel,
  type CompressionLevel,
  compressKernel,
  strongestWays,
  withLzopOrigin,
} from '../codecs/compress.ts';
import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { concatBytes, sha256Hex } from '../host/host.ts';
import type { ImageParts } from './image-parts.ts';
import type { PartManifest } from './part-manifest.ts';
import { findPeSection, type PeSection, readPe } from './pe.ts';
import { withoutSignatures } from './pe-signature.ts';
import { type FieldChange, type NewPayload, repackX86, signatureNotice } from './repack-x86.ts';

/** What is to be different from what the folder holds. */
export interface PackChanges {
  /** The kernel to compress, as the build strips it; null for the folder's own. */
  readonly kernel: Uint8Array | null;
  /** Its relocation lists; null for the folder's own. */
  readonly relocations: Uint8Array | null;
  /** Compresses at that level, also a kernel that did not change; null for the build's own. */
  readonly level: number | null;
  /** An image whose setup and stub are to be used, with its codec. */
  readonly stub: ImageParts | null;
  /** The codec that was asked for; must be the stub's. */
  readonly codec: CodecName | null;
  /** The text of a UKI's section `.cmdline`. */
  readonly cmdline: string | null;
  readonly fields: readonly FieldChange[];
}

/** An image that was put together, and what there is to say of it. */
export interface Packed {
  readonly bytes: Uint8Array;
  /** Nothing was changed: the image has the bytes it had. */
  readonly same: boolean;
  /** What was done besides what was asked for; sentences. */
  readonly notices: readonly string[];
  /** How the payload was compressed; null where the one in the folder was taken. */
  readonly command: string | null;
}

/** Nothing: the image as it was. */
const NO_CHANGES: PackChanges = {
  kernel: null,
  relocations: null,
  level: null,
  stub: null,
  codec: null,
  cmdline: null,
  fields: [],
};

/**
 * Puts an image together from its parts.
 *
 * @param manifest - which parts there are, as `makeManifest` lists them
 * @param read - the bytes of a part in the folder
 * @param asked - what is to be different
 * @returns the image, byte for byte what it was where nothing is different
 * @throws {@link BootscopeError} `pack-…` for a change that cannot be made, with the reason
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs';
 * import { makeManifest, packImage, takeApart } from 'bootscope';
 *
 * const apart = await takeApart('demo-gzip.bzImage', readFileSync('demo-gzip.bzImage'));
 * const parts = new Map<string, Uint8Array>(apart.unpacked.map(({ file, bytes }) => [file, bytes]));
 * for (const { file, offset, length } of apart.parts) parts.set(file, apart.bytes.subarray(offset, offset + length));
 * const read = async (file: string) => parts.get(file)!;
 * const manifest = makeManifest('demo-gzip.bzImage', apart);
 * console.assert((await packImage(manifest, read)).same);
 * const changed = await packImage(manifest, read, { fields: [['vid_mode', 0xfffdn]] });
 * console.assert(!changed.same && changed.bytes.length > 0);
 * ```
 */
export async function packImage(
  manifest: PartManifest,
  read: (file: string) => Promise<Uint8Array>,
  asked: Partial<PackChanges> = {},
): Promise<Packed> {
  const changes = { ...NO_CHANGES, ...asked };
  const folder = await readFolder(manifest, read);
  const { cmdline, fields, stub } = changes;
  const wantsPayload =
    changes.kernel !== null ||
    changes.relocations !== null ||
    changes.level !== null ||
    stub !== null ||
    folder.changedContent ||
    folder.changedPayload;
  if (changes.codec !== null && changes.codec !== (stub?.codec ?? manifest.image.codec)) {
    throw new BootscopeError(
      'pack-codec',
      `a boot stub unpacks the one codec it was built with: this one ${stub?.codec ?? manifest.image.codec}, not ` +
        `${changes.codec}; an image with a stub for ${changes.codec} is needed`,
    );
  }
  if (!wantsPayload && cmdline === null && fields.length === 0 && !folder.changedPart) {
    return { bytes: folder.bytes, same: true, notices: [], command: null };
  }
  const base = stub === null ? folder : stubFolder(manifest, stub, folder.content);
  const made = wantsPayload ? await makePayload(manifest, folder, base, changes) : null;
  let bytes = base.bytes;
  const notices: string[] = [];
  let command: string | null = null;
  if (made !== null || fields.length > 0 || folder.changedPart) {
    const result = await fitImage(manifest.image.name, base, made, fields);
    bytes = result.bytes;
    notices.push(...result.notices);
    command = result.command;
  }
  if (cmdline !== null) bytes = setUkiCmdline(manifest.image.name, bytes, cmdline, notices);
  return { bytes, same: false, notices, command };
}

/** The image's bytes as the folder has them, and what it has of the kernel. */
interface Base {
  /** With the payload as it was. */
  readonly bytes: Uint8Array;
  /** Where the boot image begins and ends in `bytes`. */
  readonly image: { readonly start: number; readonly end: number };
  readonly codec: CodecName | null;
  /** The payload as it is; null where there is none. */
  readonly payload: Uint8Array | null;
  /** What the payload in `bytes` holds, unpacked. */
  readonly oldContent: Uint8Array;
}

interface Folder extends Base {
  readonly kernel: Uint8Array | null;
  readonly relocations: Uint8Array;
  /** Kernel and relocation lists as the folder has them now. */
  readonly content: Uint8Array;
  readonly changedContent: boolean;
  readonly changedPayload: boolean;
  /** Some other part, of the length it had. */
  readonly changedPart: boolean;
}

async function readFolder(
  manifest: PartManifest,
  read: (file: string) => Promise<Uint8Array>,
): Promise<Folder> {
  const pieces: Uint8Array[] = [];
  let payload: Uint8Array | null = null;
  let changedPayload = false;
  let changedPart = false;
  for (const part of manifest.parts) {
    const bytes = await read(part.file);
    const changed = bytes.length !== part.size || sha256Hex(bytes) !== part.sha256;
    if (part.role === 'payload') {
      payload = bytes;
      changedPayload = changed;
      const slot = new Uint8Array(part.size);
      slot.set(bytes.subarray(0, part.size));
      pieces.push(slot);
      continue;
    }
    if (bytes.length !== part.size) {
      throw new BootscopeError(
        'pack-size',
        `${part.file} has ${bytes.length} bytes, its place in the image ${part.size}: only the payload may change its length`,
      );
    }
    changedPart ||= changed;
    pieces.push(bytes);
  }
  const unpacked = await Promise.all(
    manifest.unpacked.map(async (part) => ({ ...part, bytes: await read(part.file) })),
  );
  const changedContent = unpacked.some(({ bytes, sha256: known }) => sha256Hex(bytes) !== known);
  const kernel = unpacked.find(({ role }) => role === 'kernel')?.bytes ?? null;
  const relocations = unpacked.find(({ role }) => role === 'relocations')?.bytes ?? new Uint8Array(0);
  if (changedContent && changedPayload) {
    throw new BootscopeError(
      'pack-both',
      'both the payload and what is unpacked of it were changed: one of them has to be as it was, to know which counts',
    );
  }
  const bytes = concatBytes(pieces);
  const content = kernel === null ? new Uint8Array(0) : concatBytes([kernel, relocations]);
  const image = imageRange(manifest);
  const oldContent =
    changedContent && payload !== null && manifest.image.codec !== null
      ? await decompress(manifest.image.codec, payload)
      : content;
  return {
    bytes,
    image,
    codec: manifest.image.codec,
    oldContent,
    kernel,
    relocations,
    content,
    payload,
    changedContent,
    changedPayload,
    changedPart,
  };
}

function imageRange({ image, parts }: PartManifest): { start: number; end: number } {
  if (image.kind !== 'uki') return { start: 0, end: image.size };
  const inside = parts.filter(({ file }) => file.startsWith('linux/'));
  const last = inside.at(-1);
  return { start: image.imageFileOffset, end: last === undefined ? 0 : last.fileOffset + last.size };
}

/** Another image's setup and stub around the folder's kernel. */
function stubFolder(manifest: PartManifest, stub: ImageParts, content: Uint8Array): Base {
  if (manifest.image.kind !== 'x86-boot-image' || stub.kind !== 'x86-boot-image') {
    throw new BootscopeError(
      'pack-stub',
      `a stub can be taken from a bzImage for a bzImage; ${manifest.image.name} is of kind ${manifest.image.kind}, ` +
        `${stub.path} of kind ${stub.kind}`,
    );
  }
  if (content.length === 0 || stub.unpacked.length === 0) {
    throw new BootscopeError('pack-stub', `${stub.path} or ${manifest.image.name} has no payload`);
  }
  const payload = stub.parts.find(({ role }) => role === 'payload');
  return {
    bytes: stub.bytes,
    image: { start: 0, end: stub.bytes.length },
    codec: stub.codec,
    payload:
      payload === undefined ? null : stub.bytes.subarray(payload.offset, payload.offset + payload.length),
    oldContent: concatBytes(stub.unpacked.map(({ bytes }) => bytes)),
  };
}

async function decompress(codec: CodecName, payload: Uint8Array): Promise<Uint8Array> {
  const length = new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(
    payload.length - 4,
    true,
  );
  const output = new Uint8Array(length);
  // The reader wants memory of its own.
  const { bytesWritten } = await (await codecByName(codec)).decompress(Uint8Array.from(payload), output);
  return output.subarray(0, bytesWritten);
}

/** Streams to try in turn, the one that the build would make first. */
interface PayloadToFit {
  readonly content: Uint8Array;
  readonly codec: CodecName;
  readonly attempts: readonly (() => Promise<CompressedKernel>)[];
}

async function makePayload(
  manifest: PartManifest,
  folder: Folder,
  base: Base,
  changes: PackChanges,
): Promise<PayloadToFit> {
  const { codec } = base;
  if (codec === null || folder.kernel === null || folder.payload === null) {
    throw new BootscopeError('pack-payload', `${manifest.image.name} has no payload that could be replaced`);
  }
  if (folder.changedPayload && changes.kernel === null && changes.level === null && changes.stub === null) {
    const { payload } = folder;
    const content = await decompress(codec, payload);
    return {
      content,
      codec,
      attempts: [async () => ({ bytes: payload, command: 'the payload in the folder' })],
    };
  }
  const content =
    changes.kernel === null && changes.relocations === null
      ? folder.content
      : concatBytes([changes.kernel ?? folder.kernel, changes.relocations ?? folder.relocations]);
  const compress = async (level: CompressionLevel): Promise<CompressedKernel> => {
    const compressed = await compressKernel(codec, content, level);
    const { payload } = base;
    return codec === 'lzo' && payload !== null
      ? { ...compressed, bytes: withLzopOrigin(compressed.bytes, payload) }
      : compressed;
  };
  const level = changes.level ?? 'build';
  const harder = Array.from(
    { length: level === 'build' ? strongestWays(codec) : 0 },
    (_, strongest) => strongest,
  );
  return {
    content,
    codec,
    attempts: [() => compress(level), ...harder.map((strongest) => () => compress({ strongest }))],
  };
}

async function fitImage(
  path: string,
  base: Base,
  payload: PayloadToFit | null,
  fields: readonly FieldChange[],
): Promise<{ bytes: Uint8Array; notices: readonly string[]; command: string | null }> {
  const { start, end } = base.image;
  const image = base.bytes.subarray(start, end);
  const attempts = payload?.attempts ?? [null];
  for (const [index, attempt] of attempts.entries()) {
    const compressed = attempt === null ? null : await attempt();
    const made: NewPayload | null =
      compressed === null || payload === null ? null : { bytes: compressed.bytes, content: payload.content };
    try {
      const result = await repackX86(path, image, base.oldContent, made, fields);
      return { ...putBack(base, result), command: compressed?.command ?? null };
    } catch (error) {
      const tooLarge = error instanceof BootscopeError && error.code === 'pack-too-large';
      if (!tooLarge || index === attempts.length - 1) throw error;
    }
  }
  throw new BootscopeError('pack-payload', `${path} has no payload that could be replaced`);
}

/** The image into its place in a UKI, whose own signature does not hold any more either. */
function putBack(
  base: Base,
  result: { readonly bytes: Uint8Array; readonly notices: readonly string[] },
): { bytes: Uint8Array; notices: readonly string[] } {
  const { start, end } = base.image;
  if (start === 0 && end === base.bytes.length) return result;
  const whole = Uint8Array.from(base.bytes);
  whole.fill(0, start, end);
  whole.set(result.bytes, start);
  const { bytes, removed } = withoutSignatures(whole);
  return { bytes, notices: [...result.notices, ...(removed > 0 ? [signatureNotice(removed)] : [])] };
}

function setUkiCmdline(path: string, bytes: Uint8Array, cmdline: string, notices: string[]): Uint8Array {
  const pe = readPe(bytes);
  const section: PeSection | undefined = pe === null ? undefined : findPeSection(pe, '.cmdline');
  if (pe === null || section === undefined) {
    throw new BootscopeError(
      'pack-cmdline',
      `${path} has no place for a command line: a Unified Kernel Image has one in its section .cmdline, a bzImage gets its own from the boot loader`,
    );
  }
  const text = new TextEncoder().encode(cmdline);
  if (text.length > section.fileSize) {
    throw new BootscopeError(
      'pack-cmdline',
      `the command line has ${text.length} bytes, section .cmdline of ${path} has room for ${section.fileSize}`,
    );
  }
  const { bytes: changed, removed } = withoutSignatures(bytes);
  if (removed > 0) notices.push(signatureNotice(removed));
  changed.fill(0, section.fileOffset, section.fileOffset + section.fileSize);
  changed.set(text, section.fileOffset);
  const view = new DataView(changed.buffer, changed.byteOffset, changed.byteLength);
  const table = pe.headerOffset + 24 + view.getUint16(pe.headerOffset + 20, true);
  view.setUint32(table + pe.sections.indexOf(section) * 40 + 8, text.length, true);
  return changed;
}
