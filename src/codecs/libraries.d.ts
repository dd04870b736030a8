// Types of the decompression libraries that come without any; only what is used.

declare module 'seek-bzip' {
  const bunzip: {
    /** Decodes one stream; throws a TypeError on damage, and whatever the two streams throw. */
    decode(
      input: {
        readByte(): number;
        read(buffer: Uint8Array, offset: number, length: number): number;
      },
      output: { writeByte(byte: number): void },
    ): void;
  };
  export = bunzip;
}

declare module 'lz4js' {
  const lz4: {
    /** Decodes a block without any check; returns the index behind the last byte written to `destination`. */
    decompressBlock(
      source: Uint8Array,
      destination: Uint8Array,
      sourceIndex: number,
      sourceLength: number,
      destinationIndex: number,
    ): number;
  };
  export = lz4;
}

declare module 'lz4js/xxh32.js' {
  const xxh32: {
    /** XXH32 of `length` bytes at `start`; may come as a negative number. */
    hash(seed: number, bytes: Uint8Array, start: number, length: number): number;
  };
  export = xxh32;
}
