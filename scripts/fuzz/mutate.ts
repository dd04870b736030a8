// What is done to a good input: bytes, fields, code, lengths. Each takes bytes and dice and gives new bytes.

import { SETUP_HEADER_FIELDS } from '../../src/protocol/setup-header.ts';
import type { Dice } from './dice.ts';

/** A number in a file: its offset and bytes, little endian. */
export interface Field {
  readonly offset: number;
  readonly size: number;
}

/** Instructions that move a boot off its path: stores, jumps, port and system accesses, string loops, halts. */
const INSTRUCTIONS: readonly (readonly number[])[] = [
  [0xeb, 0xfe], // jmp .
  [0xf4], // hlt
  [0xfa, 0xf4], // cli; hlt
  [0x0f, 0x0b], // ud2
  [0xcc], // int3
  [0xcd, 0x10], // int 10h
  [0xcd, 0x13], // int 13h
  [0xcd, 0x15], // int 15h
  [0xf3, 0xa4], // rep movsb
  [0xf3, 0xab], // rep stosd
  [0xfd], // std
  [0xc3], // ret
  [0xcb], // lret
  [0xcf], // iret
  [0xe4, 0x60], // in al, 60h
  [0xe6, 0x80], // out 80h, al
  [0xee], // out dx, al
  [0x0f, 0x22, 0xc0], // mov cr0, eax
  [0x0f, 0x22, 0xd8], // mov cr3, eax
  [0x0f, 0x22, 0xe0], // mov cr4, eax
  [0x0f, 0x30], // wrmsr
  [0x0f, 0x32], // rdmsr
  [0x0f, 0xa2], // cpuid
  [0x0f, 0x31], // rdtsc
  [0x0f, 0x01, 0xf8], // swapgs
  [0x0f, 0xae, 0xf0], // mfence
  [0xff, 0xe0], // jmp *eax
  [0xff, 0xd0], // call *eax
  [0x8b, 0x00], // mov (eax), eax
  [0x89, 0x00], // mov eax, (eax)
  [0xe2, 0xfe], // loop .
  [0xe9, 0x00, 0x00, 0x00, 0x00], // jmp +0
  [0xe8, 0xfb, 0xff, 0xff, 0xff], // call .
  [0x0f, 0x00, 0xd8], // ltr
  [0x0f, 0x01, 0x18], // lidt
  [0x0f, 0xc7, 0xf0], // rdrand
  [0xf3, 0x0f, 0xb8, 0xc0], // popcnt
  [0xc4, 0xe2, 0xf9, 0xf7, 0xc0], // shlx
];

/** Changes a few bytes, at any place or among the first. */
export function changeBytes(bytes: Uint8Array, dice: Dice, from = 0, to = bytes.length): Uint8Array {
  const changed = Uint8Array.from(bytes);
  if (to <= from) return changed;
  for (let change = dice.below(6); change >= 0; change--) {
    const span = dice.once(2) ? Math.min(to - from, 0x300) : to - from;
    const at = from + dice.below(span);
    changed.fill(dice.edgeByte(), at, Math.min(to, at + 1 + dice.small(64)));
  }
  return changed;
}

export function changeFields(bytes: Uint8Array, dice: Dice, fields: readonly Field[]): Uint8Array {
  const changed = Uint8Array.from(bytes);
  for (let change = dice.below(4); change >= 0; change--) setNumber(changed, dice, dice.pick(fields));
  return changed;
}

function setNumber(bytes: Uint8Array, dice: Dice, { offset, size }: Field): void {
  let old = 0n;
  for (let index = size - 1; index >= 0; index--) old = (old << 8n) | BigInt(bytes[offset + index] ?? 0);
  let value = dice.number(size, old);
  for (let index = 0; index < size && offset + index < bytes.length; index++) {
    bytes[offset + index] = Number(value & 0xffn);
    value >>= 8n;
  }
}

export const SETUP_FIELDS: readonly Field[] = SETUP_HEADER_FIELDS;

/** Every aligned 16-, 32- or 64-bit number of a header of `length` bytes at `start`. */
export function headerFields(start: number, length: number): Field[] {
  const fields: Field[] = [];
  for (const size of [2, 4, 8])
    for (let offset = 0; offset + size <= length; offset += size)
      fields.push({ offset: start + offset, size });
  return fields;
}

/** Puts instructions that lead astray into code at [from, to). */
export function changeCode(bytes: Uint8Array, dice: Dice, from: number, to: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  const end = Math.min(to, changed.length);
  if (end <= from) return changed;
  for (let change = dice.below(3); change >= 0; change--) {
    const at = from + dice.below(end - from);
    const code = dice.once(6) ? dice.bytes(1 + dice.below(8)) : dice.pick(INSTRUCTIONS);
    changed.set(Array.from(code).slice(0, changed.length - at), at);
  }
  return changed;
}

/** Cuts it off, puts something in, takes something out, or repeats a piece. */
export function changeLength(bytes: Uint8Array, dice: Dice): Uint8Array {
  if (bytes.length === 0) return dice.bytes(dice.below(64));
  const at = dice.below(bytes.length);
  const length = dice.small(Math.min(bytes.length - at, 0x1000)) + 1;
  switch (dice.below(4)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return Uint8Array.from(Buffer.concat([bytes.subarray(0, at), dice.bytes(length), bytes.subarray(at)]));
    case 2:
      return Uint8Array.from(Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]));
    default:
      return Uint8Array.from(Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]));
  }
}

/** Bytes, header numbers or the length. */
export function changeAny(bytes: Uint8Array, dice: Dice, fields: readonly Field[] = []): Uint8Array {
  const changed =
    fields.length > 0 && dice.once(2) ? changeFields(bytes, dice, fields) : changeBytes(bytes, dice);
  return dice.once(5) ? changeLength(changed, dice) : changed;
}

const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '0x',
  '-1',
  '1e999',
  'null',
  'true',
  '\\u0000',
  '😀',
  '\n',
  '\0',
  '%',
];

/** Text: characters, tokens and lines moved, doubled and taken away. */
export function changeText(text: string, dice: Dice): string {
  let changed = text;
  for (let change = dice.below(5); change >= 0; change--) {
    const at = dice.below(changed.length + 1);
    const end = Math.min(changed.length, at + dice.small(200));
    const put = dice.pick([
      '',
      dice.pick(TOKENS),
      String(dice.number(8, 0n)),
      `0x${dice.number(8, 0n).toString(16)}`,
      changed.slice(at, end).repeat(2),
      String.fromCharCode(dice.below(0x3000)),
    ]);
    changed = changed.slice(0, at) + put + changed.slice(end);
  }
  return changed;
}
