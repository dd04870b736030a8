// Framing of the GDB Remote Serial Protocol (GDB manual, appendix E.1): `$payload#checksum`, acknowledgements, escapes, and the
// lone byte of an interrupt. Free of sockets: bytes in, packets out.

const DOLLAR = 0x24;
const HASH = 0x23;
const ESCAPE = 0x7d;
const ESCAPE_BIT = 0x20;
const STAR = 0x2a;
const PLUS = 0x2b;
const MINUS = 0x2d;
const INTERRUPT = 0x03;

/** What comes from the debugger. The payload is unescaped; one character a byte (latin1). */
export type Incoming =
  | { readonly kind: 'packet'; readonly payload: string }
  /** A packet whose checksum is wrong. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack' }
  | { readonly kind: 'interrupt' };

/** Longest payload that is taken; the debugger is told less (`PacketSize`). */
const MAX_PAYLOAD = 0x20000;

/** Takes a stream of bytes apart, however it is cut. */
export class PacketReader {
  /** Bytes between `$` and `#`, as sent; null outside a packet. */
  #payload: number[] | null = null;
  /** Digits of the checksum that have come. */
  #checksum: string | null = null;

  *read(bytes: Uint8Array): Generator<Incoming> {
    for (const byte of bytes) {
      const incoming = this.#take(byte);
      if (incoming !== null) yield incoming;
    }
  }

  #take(byte: number): Incoming | null {
    if (this.#checksum !== null) {
      this.#checksum += String.fromCharCode(byte);
      return this.#checksum.length === 2 ? this.#finish() : null;
    }
    if (byte === DOLLAR) {
      // Also in the middle of a packet: the debugger has begun anew.
      this.#payload = [];
      return null;
    }
    if (this.#payload === null) return outsidePackets(byte);
    if (byte === HASH) this.#checksum = '';
    else if (this.#payload.length < MAX_PAYLOAD) this.#payload.push(byte);
    return null;
  }

  #finish(): Incoming {
    const sent = this.#payload!;
    const expected = Number.parseInt(this.#checksum!, 16);
    this.#payload = null;
    this.#checksum = null;
    const sum = sent.reduce((total, byte) => (total + byte) & 0xff, 0);
    return sum === expected ? { kind: 'packet', payload: unescaped(sent) } : { kind: 'damaged' };
  }
}

function outsidePackets(byte: number): Incoming | null {
  if (byte === PLUS) return { kind: 'ack' };
  if (byte === MINUS) return { kind: 'nack' };
  return byte === INTERRUPT ? { kind: 'interrupt' } : null;
}

function unescaped(sent: readonly number[]): string {
  let text = '';
  for (let at = 0; at < sent.length; at++) {
    text += String.fromCharCode(sent[at] === ESCAPE ? (sent[++at] ?? 0) ^ ESCAPE_BIT : sent[at]!);
  }
  return text;
}

/** @param payload - one character a byte (latin1) */
export function encodePacket(payload: string): Uint8Array {
  const bytes: number[] = [DOLLAR];
  let sum = 0;
  const add = (byte: number): void => {
    bytes.push(byte);
    sum = (sum + byte) & 0xff;
  };
  for (let at = 0; at < payload.length; at++) {
    const byte = payload.charCodeAt(at);
    if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === STAR) {
      add(ESCAPE);
      add(byte ^ ESCAPE_BIT);
    } else {
      add(byte);
    }
  }
  bytes.push(HASH, ...[...sum.toString(16).padStart(2, '0')].map((digit) => digit.charCodeAt(0)));
  return Uint8Array.from(bytes);
}

/** Bytes as pairs of hex digits. */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Null where it is no text of whole hex bytes. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** A text as the hex bytes of its UTF-8. */
export function textToHex(text: string): string {
  return toHex(new TextEncoder().encode(text));
}
