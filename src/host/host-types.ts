// What a host's functions take and give.

/** Hashes that files of this field name; a host need not have all but `sha256`. */
export type HashName = 'md5' | 'sha1' | 'sha256' | 'sha384' | 'sha512';

/** Of an X.509 certificate what is shown. */
export interface Certificate {
  /** Lines `CN=…`. */
  readonly subject: string;
  readonly issuer: string;
  /** As OpenSSL prints it. */
  readonly validTo: string;
  /** Upper-case hex. */
  readonly serialNumber: string;
}

/** What a deflate stream holds, and how many bytes of the input are the stream. */
export interface Inflated {
  readonly content: Uint8Array;
  readonly consumed: number;
}

/** `limit`: it holds more than asked for; `cut`: it goes on behind the input. */
export interface InflateFault {
  readonly fault: 'limit' | 'cut' | 'damaged';
  readonly reason: string;
  readonly cause: unknown;
}

export interface FileStatus {
  readonly kind: 'file' | 'directory' | 'other';
  /** Bytes. */
  readonly size: number;
}

export interface ToolResult {
  /** Null where `why` says what went wrong. */
  readonly output: Uint8Array | null;
  readonly why: string;
}

/** A file that is open for reading a piece at a time. */
export interface OpenFile {
  readonly size: number;
  /** Fills `target` with the bytes from `offset` on; what lies behind the end reads as zeroes. */
  read(offset: number, target: Uint8Array): void;
  close(): void;
}
