// A block hook's callback that adds up the instructions of known blocks without entering JavaScript: in WebAssembly, and as
// machine code where the host lets us.

import { runsMachineCode } from './host-machine-code.ts';

/*
 * Both are the same function of a hook's four parameters, the last (the user data) pointing to the state below:
 *
 *   state.address = address; state.size = size; end = address + size
 *   if (--state.looks == 0) call back with the same parameters, and return
 *   if (end == state.repeatEnd) { state.counted = 0; return }                // one more iteration, a block of its own
 *   if (address - 8 <= state.limit) {                                        // unsigned; its code can be read
 *     check = rotl64(*(address), 7) ^ *(end - 8)                             // from guest RAM, 64 bits each
 *     entry = state.table[address & 0xffff]
 *     if (entry is not { address, size, check }, but ordinary) make it one   // in machine code only
 *     if (entry is { address, size, check } and state.total + (entry.count & 0x7fff) <= state.stopAt) {
 *       state.counted = entry.count & 0x7fff
 *       state.repeatEnd = entry.count & 0x8000 ? end : 0
 *       state.total += state.counted
 *       return
 *     }
 *   }
 *   call back with the same parameters, which sets counted, repeatEnd and total itself
 *
 * The check is there for code that is written over: other code of the same length at the same place begins and ends with
 * other bytes. Ordinary is a block that does not begin with zeroes, and in which 0f is followed by no byte of
 * `state.special`, nor f2 or f3 by its end; the library knows how many instructions it has (UC_CTL_TB_REQUEST_CACHE).
 */

/**
 * Offsets in the state, whose fields have 64 bits, `size`, `counted` and `looks` 32, `special` 256; `table` holds an entry of 16 bytes
 * for each value of the address's low 16 bits.
 */
export const STATE = {
  total: 0,
  address: 8,
  size: 16,
  counted: 20,
  repeatEnd: 24,
  /** Where guest RAM begins in the engine's memory, and the greatest block address, less 8, that is looked up. */
  ram: 32,
  limit: 40,
  callback: 48,
  /** The total that no block may go beyond without a call. */
  stopAt: 56,
  /** `uc_ctl`, 0 to call back for all new blocks, and the `uc_tb` that it fills: its length lies at 8 and 10. */
  ctl: 64,
  block: 72,
  /** Blocks and iterations, 32 bits, up to a call of its own: somebody looks at the clock. */
  looks: 88,
  /** A bit for each second byte of an opcode that makes its block a special one. */
  special: 96,
  table: 128,
} as const;
/** An entry: 32 bits of address, 16 of size, 16 of count, 64 of check. */
export const ENTRY_SIZE = 16;
export const TABLE_MASK = 0xffff;
export const STATE_SIZE = STATE.table + (TABLE_MASK + 1) * ENTRY_SIZE;
/** Bit of an entry's count: the block ends in a repeated string instruction. */
export const REPEATS = 0x8000;
/** Bytes that a block has at most. */
const MAX_BLOCK = 0x1_0000;

/** Blocks from look to look at the clock: rarely enough to cost nothing, and often enough where a block takes 100 µs. */
export const BLOCKS_PER_LOOK = 16_384;
/** No total comes near it. */
export const NO_STOP = 2n ** 62n;

/** Fills in a new state of `STATE_SIZE` zeroes. */
export function prepareBlockCounter(state: Uint8Array, ram: number, ramSize: number): void {
  const view = new DataView(state.buffer, state.byteOffset, STATE_SIZE);
  view.setBigUint64(STATE.ram, BigInt(ram), true);
  view.setBigUint64(STATE.limit, lookupLimit(ramSize), true);
  view.setBigUint64(STATE.stopAt, NO_STOP, true);
  view.setUint32(STATE.looks, BLOCKS_PER_LOOK, true);
}

/** The function in JavaScript, for hosts that run no machine code; it knows no block as ordinary. */
export function blockCounter(
  state: Uint8Array,
  ram: Uint8Array,
  missed: (address: bigint, size: number) => void,
): (address: bigint, size: number) => void {
  const view = new DataView(state.buffer, state.byteOffset, STATE_SIZE);
  const code = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const limit = Number(view.getBigUint64(STATE.limit, true));
  return (linear, size) => {
    const address = Number(linear);
    view.setBigUint64(STATE.address, linear, true);
    view.setUint32(STATE.size, size, true);
    const looks = view.getUint32(STATE.looks, true) - 1;
    view.setUint32(STATE.looks, looks, true);
    if (looks === 0) {
      missed(linear, size);
      return;
    }
    const end = address + size;
    if (BigInt(end) === view.getBigUint64(STATE.repeatEnd, true)) {
      view.setUint32(STATE.counted, 0, true);
      return;
    }
    const entry = STATE.table + (address & TABLE_MASK) * ENTRY_SIZE;
    const isKnown =
      address >= 8 &&
      address - 8 <= limit &&
      view.getUint32(entry, true) === address &&
      view.getUint16(entry + 4, true) === size &&
      view.getUint32(entry + 8, true) === blockCheck(code, address, end).low &&
      view.getUint32(entry + 12, true) === blockCheck(code, address, end).high;
    const packed = view.getUint16(entry + 6, true);
    const count = packed & ~REPEATS;
    const total = view.getBigUint64(STATE.total, true) + BigInt(count);
    if (!isKnown || total > view.getBigUint64(STATE.stopAt, true)) {
      missed(linear, size);
      return;
    }
    view.setUint32(STATE.counted, count, true);
    view.setBigUint64(STATE.repeatEnd, packed & REPEATS ? BigInt(end) : 0n, true);
    view.setBigUint64(STATE.total, total, true);
  };
}

/** What an entry's code is known by, in two halves of 32 bits, unsigned. */
export function blockCheck(code: DataView, address: number, end: number): { low: number; high: number } {
  const low = code.getUint32(address, true);
  const high = code.getUint32(address + 4, true);
  return {
    low: (((low << 7) | (high >>> 25)) ^ code.getUint32(end - 8, true)) >>> 0,
    high: (((high << 7) | (low >>> 25)) ^ code.getUint32(end - 4, true)) >>> 0,
  };
}

/** The value of `limit` for so many bytes of RAM from address 0. */
export function lookupLimit(ramSize: number): bigint {
  return BigInt(ramSize - MAX_BLOCK - 16);
}

/** A module that imports the heap as "e" "m" and the callback as "e" "f", and exports the function as "g". */
// biome-ignore format: one section of the module, or one statement of the function, a line
export const BLOCK_COUNTER_WASM = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x08, 0x01, 0x60, 0x04, 0x7f, 0x7e, 0x7f, 0x7f, 0x00,
  0x02, 0x0e, 0x02, 0x01, 0x65, 0x01, 0x6d, 0x02, 0x00, 0x00, 0x01, 0x65, 0x01, 0x66, 0x00, 0x00,
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x05, 0x01, 0x01, 0x67, 0x00, 0x01,
  0x0a, 0x8b, 0x02, 0x01, 0x88, 0x02, 0x02, 0x02, 0x7e, 0x03, 0x7f, // end, check: i64; at, entry, count: i32
  0x20, 0x03, 0x20, 0x01, 0x37, 0x03, 0x08, // state.address
  0x20, 0x03, 0x20, 0x02, 0x36, 0x02, 0x10, // state.size
  0x20, 0x03, 0x20, 0x03, 0x28, 0x02, 0x58, 0x41, 0x01, 0x6b, 0x22, 0x08, 0x36, 0x02, 0x58, // --state.looks
  0x20, 0x08, 0x45, 0x04, 0x40, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0x20, 0x03, 0x10, 0x00, 0x0f, 0x0b,
  0x20, 0x01, 0x20, 0x02, 0xad, 0x7c, 0x21, 0x04, // end
  0x20, 0x04, 0x20, 0x03, 0x29, 0x03, 0x18, 0x51, // end == state.repeatEnd
  0x04, 0x40, 0x20, 0x03, 0x41, 0x00, 0x36, 0x02, 0x14, 0x0f, 0x0b,
  0x20, 0x01, 0x42, 0x08, 0x7d, 0x20, 0x03, 0x29, 0x03, 0x28, 0x58, 0x04, 0x40, // address - 8 <= state.limit
  0x20, 0x03, 0x28, 0x02, 0x20, 0x20, 0x01, 0xa7, 0x6a, 0x21, 0x06, // at = state.ram + address
  0x20, 0x06, 0x29, 0x03, 0x00, 0x42, 0x07, 0x89,
  0x20, 0x06, 0x20, 0x02, 0x6a, 0x41, 0x08, 0x6b, 0x29, 0x03, 0x00, 0x85, 0x21, 0x05, // check
  0x20, 0x03, 0x20, 0x01, 0xa7, 0x41, 0xff, 0xff, 0x03, 0x71, 0x41, 0x04, 0x74, 0x6a, 0x21, 0x07, // entry - table
  0x20, 0x07, 0x28, 0x02, 0x80, 0x01, 0x20, 0x01, 0xa7, 0x46,
  0x20, 0x07, 0x2f, 0x01, 0x84, 0x01, 0x20, 0x02, 0x46, 0x71,
  0x20, 0x07, 0x29, 0x03, 0x88, 0x01, 0x20, 0x05, 0x51, 0x71, 0x04, 0x40, // entry is { address, size, check }
  0x20, 0x07, 0x2f, 0x01, 0x86, 0x01, 0x21, 0x08, // count
  0x20, 0x03, 0x29, 0x03, 0x00, 0x20, 0x08, 0x41, 0xff, 0xff, 0x01, 0x71, 0xad, 0x7c,
  0x20, 0x03, 0x29, 0x03, 0x38, 0x58, 0x04, 0x40, // state.total + (count & 0x7fff) <= state.stopAt
  0x20, 0x03, 0x20, 0x04, 0x42, 0x00, 0x20, 0x08, 0x41, 0x80, 0x80, 0x02, 0x71, 0x1b, 0x37, 0x03, 0x18, // state.repeatEnd
  0x20, 0x08, 0x41, 0xff, 0xff, 0x01, 0x71, 0x21, 0x08,
  0x20, 0x03, 0x20, 0x08, 0x36, 0x02, 0x14, // state.counted
  0x20, 0x03, 0x20, 0x03, 0x29, 0x03, 0x00, 0x20, 0x08, 0xad, 0x7c, 0x37, 0x03, 0x00, // state.total
  0x0f, 0x0b, 0x0b, 0x0b,
  0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0x20, 0x03, 0x10, 0x00, 0x0b,
]);

/** The function as machine code for this host, whose C calling convention it follows; null where there is none. */
export function blockCounterMachineCode(): Uint8Array | null {
  if (!runsMachineCode()) return null;
  // biome-ignore format: one instruction a line
  return new Uint8Array([
    0x48, 0x89, 0x71, 0x08, // mov [rcx+address], rsi
    0x89, 0x51, 0x10, // mov [rcx+size], edx
    0xff, 0x49, 0x58, // dec dword [rcx+looks]
    0x0f, 0x84, 0xcf, 0x00, 0x00, 0x00, // jz back
    0x89, 0xd2, // mov edx, edx
    0x4c, 0x8d, 0x04, 0x16, // lea r8, [rsi+rdx]
    0x4c, 0x3b, 0x41, 0x18, // cmp r8, [rcx+repeatEnd]
    0x75, 0x08, // jne first
    0xc7, 0x41, 0x14, 0x00, 0x00, 0x00, 0x00, // mov dword [rcx+counted], 0
    0xc3, // ret
    0x4c, 0x8d, 0x4e, 0xf8, // first: lea r9, [rsi-8]
    0x4c, 0x3b, 0x49, 0x28, // cmp r9, [rcx+limit]
    0x0f, 0x87, 0xad, 0x00, 0x00, 0x00, // ja back
    0x4c, 0x8b, 0x49, 0x20, // mov r9, [rcx+ram]
    0x49, 0x8b, 0x04, 0x31, // mov rax, [r9+rsi]
    0x48, 0xc1, 0xc0, 0x07, // rol rax, 7
    0x4b, 0x33, 0x44, 0x01, 0xf8, // xor rax, [r9+r8-8]
    0x44, 0x0f, 0xb7, 0xce, // movzx r9d, si
    0x41, 0xc1, 0xe1, 0x04, // shl r9d, 4
    0x49, 0x01, 0xc9, // add r9, rcx
    0x41, 0x39, 0xb1, 0x80, 0x00, 0x00, 0x00, // cmp [r9+table[].address], esi
    0x75, 0x3d, // jne new
    0x66, 0x41, 0x39, 0x91, 0x84, 0x00, 0x00, 0x00, // cmp [r9+table[].size], dx
    0x75, 0x33, // jne new
    0x49, 0x39, 0x81, 0x88, 0x00, 0x00, 0x00, // cmp [r9+table[].check], rax
    0x75, 0x2a, // jne new
    0x41, 0x0f, 0xb7, 0x81, 0x86, 0x00, 0x00, 0x00, // movzx eax, word [r9+table[].count]
    0x45, 0x31, 0xc9, // xor r9d, r9d
    0x0f, 0xba, 0xf0, 0x0f, // btr eax, 15
    0x4d, 0x0f, 0x42, 0xc8, // cmovc r9, r8
    0x4c, 0x8b, 0x11, // known: mov r10, [rcx+total]
    0x49, 0x01, 0xc2, // add r10, rax
    0x4c, 0x3b, 0x51, 0x38, // cmp r10, [rcx+stopAt]
    0x77, 0x56, // ja back
    0x4c, 0x89, 0x49, 0x18, // mov [rcx+repeatEnd], r9
    0x89, 0x41, 0x14, // mov [rcx+counted], eax
    0x4c, 0x89, 0x11, // mov [rcx+total], r10
    0xc3, // ret
    0x48, 0x83, 0x79, 0x40, 0x00, // new: cmp qword [rcx+ctl], 0
    0x74, 0x44, // je back
    0x4c, 0x8b, 0x51, 0x20, // mov r10, [rcx+ram]
    0x49, 0x01, 0xf2, // add r10, rsi
    0x4d, 0x8b, 0x1a, // mov r11, [r10]
    0x4d, 0x0b, 0x5a, 0x08, // or r11, [r10+8]
    0x74, 0x34, // jz back
    0x4d, 0x8d, 0x1c, 0x12, // lea r11, [r10+rdx]
    0x53, // push rbx
    0x4d, 0x39, 0xda, // scan: cmp r10, r11
    0x73, 0x2d, // jae scanned
    0x41, 0x0f, 0xb6, 0x1a, // movzx ebx, byte [r10]
    0x49, 0xff, 0xc2, // inc r10
    0x80, 0xfb, 0x0f, // cmp bl, 0x0f
    0x74, 0x13, // je escape
    0x80, 0xe3, 0xfe, // and bl, 0xfe
    0x80, 0xfb, 0xf2, // cmp bl, 0xf2
    0x75, 0xe7, // jne scan
    0x49, 0x8d, 0x5a, 0x05, // lea rbx, [r10+5]
    0x4c, 0x39, 0xdb, // cmp rbx, r11
    0x73, 0x0c, // jae special
    0xeb, 0xdc, // jmp scan
    0x41, 0x0f, 0xb6, 0x1a, // escape: movzx ebx, byte [r10]
    0x0f, 0xa3, 0x59, 0x60, // bt [rcx+special], ebx
    0x73, 0xd2, // jnc scan
    0x5b, // special: pop rbx
    0xff, 0x61, 0x30, // back: jmp [rcx+callback]
    0x5b, // scanned: pop rbx
    0x57, // push rdi
    0x56, // push rsi
    0x52, // push rdx
    0x51, // push rcx
    0x41, 0x50, // push r8
    0x41, 0x51, // push r9
    0x50, // push rax
    0x48, 0x89, 0xf2, // mov rdx, rsi
    0x49, 0x89, 0xcb, // mov r11, rcx
    0x48, 0x8d, 0x49, 0x48, // lea rcx, [rcx+block]
    0xbe, 0x08, 0x00, 0x00, 0xc8, // mov esi, REQUEST_CACHE
    0x31, 0xc0, // xor eax, eax
    0x41, 0xff, 0x53, 0x40, // call [r11+ctl]
    0x41, 0x89, 0xc2, // mov r10d, eax
    0x58, // pop rax
    0x41, 0x59, // pop r9
    0x41, 0x58, // pop r8
    0x59, // pop rcx
    0x5a, // pop rdx
    0x5e, // pop rsi
    0x5f, // pop rdi
    0x45, 0x85, 0xd2, // test r10d, r10d
    0x75, 0xcd, // jnz back
    0x66, 0x39, 0x51, 0x52, // cmp [rcx+block.size], dx
    0x75, 0xc7, // jne back
    0x44, 0x0f, 0xb7, 0x51, 0x50, // movzx r10d, word [rcx+block.icount]
    0x41, 0x89, 0xb1, 0x80, 0x00, 0x00, 0x00, // mov [r9+table[].address], esi
    0x66, 0x41, 0x89, 0x91, 0x84, 0x00, 0x00, 0x00, // mov [r9+table[].size], dx
    0x66, 0x45, 0x89, 0x91, 0x86, 0x00, 0x00, 0x00, // mov [r9+table[].count], r10w
    0x49, 0x89, 0x81, 0x88, 0x00, 0x00, 0x00, // mov [r9+table[].check], rax
    0x44, 0x89, 0xd0, // mov eax, r10d
    0x45, 0x31, 0xc9, // xor r9d, r9d
    0xe9, 0x37, 0xff, 0xff, 0xff, // jmp known
  ]);
}
