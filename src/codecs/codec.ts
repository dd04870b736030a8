// What every decompressor looks like: one signature, whatever library does the work.

/** The compression formats a kernel payload comes in, by the kernel's own names (`CONFIG_KERNEL_*`). */
export type CodecName = 'gzip' | 'bzip2' | 'lzma' | 'xz' | 'lzo' | 'lz4' | 'zstd';

/** What a decompression consumed and produced, in bytes. */
export interface DecompressResult {
  /** Bytes of `input` that belong to the stream; what follows it is the caller's business. */
  readonly bytesRead: number;
  /** Bytes written to the start of `output`. */
  readonly bytesWritten: number;
}

export interface DecompressOptions {
  /**
   * True: only the JavaScript or WebAssembly implementation. Otherwise the host's native code (Node's
   * zlib, the system's liblzma, libzstd, liblz4, libbz2) is tried first, which is several times faster.
   */
  readonly portable?: boolean;
  /** True: without the checksums that the kernel's own decompressors leave unread, those of gzip and lzo. */
  readonly unchecked?: boolean;
}

/**
 * Decompresses the stream at the start of `input` to the start of `output` on another thread, which runs before this
 * returns; neither may be touched until it has settled. Null for a stream that the library refuses.
 */
export type BackgroundDecoder = (input: Uint8Array, output: Uint8Array) => Promise<DecompressResult | null>;

export interface Codec {
  readonly name: CodecName;
  /** Whether `bytes` (at least the first 16 of a stream) starts with this format's magic. */
  matches(bytes: Uint8Array): boolean;
  /**
   * Decompresses the stream at the start of `input` to the start of `output` and verifies every
   * checksum that the stream carries. Bytes after the stream's end are ignored, as the kernel does.
   *
   * @param input - the compressed bytes; must not share memory with `output`
   * @param output - where the bytes go, usually guest RAM; its length is the limit. What lies in it behind
   *   `bytesWritten` may have served as scratch space, and after an error all of it: pass no more than may change.
   * @throws BootscopeError `codec-corrupt` for a damaged stream, `codec-truncated` for one that ends
   *   early, `codec-checksum` for a checksum that does not match, `codec-output-limit` for one that
   *   holds more than `output` takes
   */
  decompress(input: Uint8Array, output: Uint8Array, options?: DecompressOptions): Promise<DecompressResult>;
  /** What decompresses while this thread does something else; null where the host has no native code for it. */
  background(): Promise<BackgroundDecoder | null>;
}
