import { describe, expect, it } from 'vitest';
import { encodePacket, fromHex, type Incoming, PacketReader } from './packets.ts';

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (each) => each.charCodeAt(0));
const read = (...parts: string[]): Incoming[] => {
  const reader = new PacketReader();
  return parts.flatMap((part) => [...reader.read(bytes(part))]);
};

describe('PacketReader', () => {
  it('reads packets, acknowledgements and interrupts, however the stream is cut', () => {
    const expected = [
      { kind: 'ack' },
      { kind: 'packet', payload: 'm0,4' },
      { kind: 'interrupt' },
      { kind: 'packet', payload: '' },
    ];
    expect(read('+$m0,4#fd\x03$#00')).toEqual(expected);
    expect(read(...'+$m0,4#fd\x03$#00')).toEqual(expected);
  });

  it('tells of a wrong checksum and goes on with the next packet', () => {
    expect(read('$m0,4#00-$?#3f')).toEqual([
      { kind: 'damaged' },
      { kind: 'nack' },
      { kind: 'packet', payload: '?' },
    ]);
  });

  it('unescapes what encodePacket has escaped, for every byte', () => {
    const payload = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join('');
    const sent = encodePacket(payload);
    expect([...new PacketReader().read(sent)]).toEqual([{ kind: 'packet', payload }]);
    expect(sent.length).toBe(256 + 4 + 4);
  });

  it('takes an interrupt byte inside a packet for data', () => {
    expect(read('$a\x03#64')).toEqual([{ kind: 'packet', payload: 'a\x03' }]);
  });
});

describe('fromHex', () => {
  it('refuses half bytes and what is no digit', () => {
    expect(fromHex('0aFF')).toEqual(Uint8Array.of(0x0a, 0xff));
    expect(fromHex('')).toEqual(new Uint8Array(0));
    expect(fromHex('0')).toBeNull();
    expect(fromHex('0g')).toBeNull();
  });
});
