// The kernel inside an image, decompressed by the system's own tools, and its loadable segments.

import { spawnSync } from 'node:child_process';
import { inflateRawSync } from 'node:zlib';
import type { ImageFields } from './image-fields.ts';

interface Format {
  readonly name: string;
  readonly magic: readonly number[];
  readonly command: readonly string[];
}

// The tools of the kernel's own build (scripts/Makefile.lib), the other way round.
const FORMATS: readonly Format[] = [
  { name: 'gzip', magic: [0x1f, 0x8b, 0x08], command: [] },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68], command: ['bzip2', '-dc'] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], command: ['xz', '-dc', '--single-stream'] },
  { name: 'lzo', magic: [0x89, 0x4c, 0x5a, 0x4f], command: ['lzop', '-dc'] },
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18], command: ['lz4', '-dc'] },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], command: ['zstd', '-dc', '--long=31'] },
  { name: 'lzma', magic: [0x5d, 0x00, 0x00], command: ['xz', '-dc', '--format=lzma'] },
];

export interface Kernel {
  readonly codec: string;
  /** All that the payload holds, behind the ELF file its relocation lists. */
  readonly bytes: Buffer;
}

/** @throws Error when no payload is found or the tool for it is missing or fails */
export function decompressPayload(image: ImageFields): Kernel {
  const code = image.protectedModeCode;
  const start = image.payload?.offset ?? findGzip(code);
  const payload = code.subarray(start, image.payload === null ? undefined : start + image.payload.length);
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => payload[index] === byte));
  if (format === undefined) {
    if (payload.toString('latin1', 1, 4) === 'ELF') return { codec: 'none', bytes: payload };
    throw new Error(`the payload at 0x${start.toString(16)} begins with no known magic`);
  }
  if (format.name === 'gzip') return { codec: 'gzip', bytes: gunzip(payload) };
  // The build appends the decompressed length in 4 bytes; the tools complain about such a tail.
  const length = payload.readUInt32LE(payload.length - 4);
  const [tool, ...options] = format.command as [string, ...string[]];
  const input = payload.subarray(0, payload.length - 4);
  const run = spawnSync(tool, options, { input, maxBuffer: 1 << 30 });
  if (run.error !== undefined) throw new Error(`${tool} did not run: ${run.error.message}`);
  if (run.stdout.length !== length)
    throw new Error(
      `${tool} gave ${run.stdout.length} bytes, not ${length}: ${run.stderr.toString().trim()}`,
    );
  return { codec: format.name, bytes: run.stdout };
}

/** Before protocol 2.08 the payload is found by gzip's magic; all of those kernels use gzip. */
function findGzip(code: Buffer): number {
  const magic = Buffer.from([0x1f, 0x8b, 0x08]);
  for (let at = code.indexOf(magic); at >= 0; at = code.indexOf(magic, at + 1)) {
    try {
      gunzip(code.subarray(at));
      return at;
    } catch {
      // Not a stream: code that happens to hold these bytes.
    }
  }
  throw new Error('no gzip stream in the image');
}

const GZIP_EXTRA = 4;
const GZIP_NAME = 8;
const GZIP_COMMENT = 16;

/** The first member (RFC 1952) of `bytes`; Node's own gunzip refuses what may follow it. */
function gunzip(bytes: Buffer): Buffer {
  const flags = bytes[3]!;
  let start = 10;
  if (flags & GZIP_EXTRA) start += 2 + bytes.readUInt16LE(start);
  for (const flag of [GZIP_NAME, GZIP_COMMENT]) if (flags & flag) start = bytes.indexOf(0, start) + 1;
  return inflateRawSync(bytes.subarray(start));
}

export interface LoadSegment {
  readonly offset: number;
  readonly paddr: bigint;
  readonly vaddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  readonly flags: string;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  /** Physical address of the first instruction where the kernel is not moved. */
  readonly entry: bigint;
  readonly segments: readonly LoadSegment[];
}

const PT_LOAD = 1;

/** Reads an x86 ELF file's program headers (System V ABI); null where the bytes are a flat kernel. */
export function readElf(bytes: Buffer): ElfFile | null {
  if (bytes.readUInt32BE(0) !== 0x7f454c46) return null;
  const wide = bytes[4] === 2;
  const word = (at: number) => (wide ? bytes.readBigUInt64LE(at) : BigInt(bytes.readUInt32LE(at)));
  const tableAt = Number(word(wide ? 0x20 : 0x1c));
  const entrySize = bytes.readUInt16LE(wide ? 0x36 : 0x2a);
  const count = bytes.readUInt16LE(wide ? 0x38 : 0x2c);
  const segments: LoadSegment[] = [];
  for (let index = 0; index < count; index++) {
    const at = tableAt + index * entrySize;
    if (bytes.readUInt32LE(at) !== PT_LOAD) continue;
    const flags = bytes.readUInt32LE(at + (wide ? 4 : 24));
    segments.push({
      offset: Number(word(at + (wide ? 8 : 4))),
      vaddr: word(at + (wide ? 16 : 8)),
      paddr: word(at + (wide ? 24 : 12)),
      filesz: word(at + (wide ? 32 : 16)),
      memsz: word(at + (wide ? 40 : 20)),
      flags: `${flags & 4 ? 'r' : '-'}${flags & 2 ? 'w' : '-'}${flags & 1 ? 'x' : '-'}`,
    });
  }
  const entry = word(0x18);
  const home = segments.find(({ vaddr, memsz }) => entry >= vaddr && entry < vaddr + memsz);
  return { bits: wide ? 64 : 32, entry: home ? entry - home.vaddr + home.paddr : entry, segments };
}
