// A code hook's callback that notes known instructions and the registers before each in a buffer, in WebAssembly, and as machine
// code where the host lets us: entering JavaScript for each would take most of the time of stepping.

import { runsMachineCode } from './host-machine-code.ts';

/*
 * Both are the same function of a hook's four parameters, the last (the user data) pointing to the state below:
 *
 *   if (state.lastFlags & SYNC) goto call
 *   if (address == state.last && state.lastFlags & REPEATS) return                  // one more iteration
 *   if (address > state.limit) goto call
 *   entry = state.table[address & 0xffff]
 *   if (entry is not { address, state.mode } || its code is not in guest RAM there) goto call
 *   silent = state.lastFlags & entry.flags & QUIET
 *   state.last = address; state.lastFlags = entry.flags
 *   if (silent) return
 *   state.addresses[state.count] = address; state.changes[state.count++] = state.lastChanges
 *   { ids, number } = what the instruction before changes; state's fields become those of entry
 *   uc_reg_read_batch(uc, ids, &state.pointers[state.used], number); state.used += number
 *   if (state.count < state.capacity) return
 *   size = 0                                                                       // the buffer is full
 * call: call back with the same parameters
 */

/** Offsets in the state; `table` holds an entry of 48 bytes for each value of the address's low 16 bits. */
const STATE = {
  count: 0,
  capacity: 4,
  last: 8,
  lastFlags: 16,
  mode: 20,
  ram: 24,
  limit: 32,
  callback: 40,
  readBatch: 48,
  /** Ids of the registers that the last one may change, a bit for each of these, how many they are. */
  ids: 56,
  pointers: 64,
  lastChanges: 72,
  number: 76,
  addresses: 80,
  changes: 88,
  used: 96,
  table: 104,
} as const;
/** An entry: address, flags, a bit for each byte of its code, mode (32 bits each), 16 bytes of code, changes, number, pointer to ids. */
const ENTRY_SIZE = 48;
const TABLE_MASK = 0xffff;
const LONGEST_INSTRUCTION = 15;
const CODE_READ = 16;
/** Instructions that the buffer holds. */
const CAPACITY = 1024;
/** Different sets of registers that instructions change; where there are more, all are read. */
const MOST_LISTS = 4096;
const SYNC = 4;

/** A repeated string instruction: further calls for it are not noted. */
export const REPEATS = 1;
/** What it does to registers is of no interest: it is noted only behind one of which it is. It goes with all registers as its changes. */
export const QUIET = 2;

/** The function as machine code for this host, whose C calling convention it follows; null where there is none. */
export function stepMachineCode(): Uint8Array | null {
  if (!runsMachineCode()) return null;
  // biome-ignore format: one instruction a line
  return new Uint8Array([
    0x8b, 0x41, 0x10, // mov eax,[rcx+0x10]
    0xa8, 0x04, // test al,0x4
    0x0f, 0x85, 0xda, 0x00, 0x00, 0x00, // jne e5
    0x48, 0x3b, 0x71, 0x08, // cmp rsi,[rcx+0x8]
    0x75, 0x08, // jne 19
    0xa8, 0x01, // test al,0x1
    0x0f, 0x85, 0xc5, 0x00, 0x00, 0x00, // jne de
    0x48, 0x3b, 0x71, 0x20, // cmp rsi,[rcx+0x20]
    0x0f, 0x87, 0xc2, 0x00, 0x00, 0x00, // ja e5
    0x44, 0x0f, 0xb7, 0xce, // movzx r9d,si
    0x45, 0x6b, 0xc9, 0x30, // imul r9d,r9d,0x30
    0x49, 0x01, 0xc9, // add r9,rcx
    0x41, 0x39, 0x71, 0x68, // cmp [r9+0x68],esi
    0x0f, 0x85, 0xad, 0x00, 0x00, 0x00, // jne e5
    0x45, 0x8b, 0x41, 0x74, // mov r8d,[r9+0x74]
    0x44, 0x3b, 0x41, 0x14, // cmp r8d,[rcx+0x14]
    0x0f, 0x85, 0x9f, 0x00, 0x00, 0x00, // jne e5
    0x4c, 0x8b, 0x41, 0x18, // mov r8,[rcx+0x18]
    0xf3, 0x41, 0x0f, 0x6f, 0x04, 0x30, // movdqu xmm0,[r8+rsi*1]
    0xf3, 0x41, 0x0f, 0x6f, 0x49, 0x78, // movdqu xmm1,[r9+0x78]
    0x66, 0x0f, 0x74, 0xc1, // pcmpeqb xmm0,xmm1
    0x66, 0x44, 0x0f, 0xd7, 0xc0, // pmovmskb r8d,xmm0
    0x41, 0xf7, 0xd0, // not r8d
    0x45, 0x85, 0x41, 0x70, // test [r9+0x70],r8d
    0x0f, 0x85, 0x79, 0x00, 0x00, 0x00, // jne e5
    0x45, 0x8b, 0x41, 0x6c, // mov r8d,[r9+0x6c]
    0x48, 0x89, 0x71, 0x08, // mov [rcx+0x8],rsi
    0x44, 0x89, 0x41, 0x10, // mov [rcx+0x10],r8d
    0x44, 0x21, 0xc0, // and eax,r8d
    0xa8, 0x02, // test al,0x2
    0x75, 0x5f, // jne de
    0x8b, 0x01, // mov eax,[rcx]
    0x4c, 0x8b, 0x41, 0x50, // mov r8,[rcx+0x50]
    0x41, 0x89, 0x34, 0x80, // mov [r8+rax*4],esi
    0x4c, 0x8b, 0x41, 0x58, // mov r8,[rcx+0x58]
    0x8b, 0x51, 0x48, // mov edx,[rcx+0x48]
    0x41, 0x89, 0x14, 0x80, // mov [r8+rax*4],edx
    0xff, 0xc0, // inc eax
    0x89, 0x01, // mov [rcx],eax
    0x48, 0x8b, 0x71, 0x38, // mov rsi,[rcx+0x38]
    0x44, 0x8b, 0x41, 0x4c, // mov r8d,[rcx+0x4c]
    0x4d, 0x8b, 0x91, 0x88, 0x00, 0x00, 0x00, // mov r10,[r9+0x88]
    0x4d, 0x8b, 0x89, 0x90, 0x00, 0x00, 0x00, // mov r9,[r9+0x90]
    0x4c, 0x89, 0x51, 0x48, // mov [rcx+0x48],r10
    0x4c, 0x89, 0x49, 0x38, // mov [rcx+0x38],r9
    0x8b, 0x41, 0x60, // mov eax,[rcx+0x60]
    0x48, 0x8b, 0x51, 0x40, // mov rdx,[rcx+0x40]
    0x48, 0x8d, 0x14, 0xc2, // lea rdx,[rdx+rax*8]
    0x44, 0x01, 0xc0, // add eax,r8d
    0x89, 0x41, 0x60, // mov [rcx+0x60],eax
    0x45, 0x85, 0xc0, // test r8d,r8d
    0x74, 0x0b, // je d7
    0x51, // push rcx
    0x48, 0x8b, 0x41, 0x30, // mov rax,[rcx+0x30]
    0x44, 0x89, 0xc1, // mov ecx,r8d
    0xff, 0xd0, // call rax
    0x59, // pop rcx
    0x8b, 0x01, // mov eax,[rcx]
    0x3b, 0x41, 0x04, // cmp eax,[rcx+0x4]
    0x73, 0x01, // jae df
    0xc3, // ret
    0x48, 0x8b, 0x71, 0x08, // mov rsi,[rcx+0x8]
    0x31, 0xd2, // xor edx,edx
    0xff, 0x61, 0x28, // jmp [rcx+0x28]
  ]);
}

/** Bytes of engine memory that a buffer for so many registers takes, whatever the size of pointers. */
export function stepBufferSize(registers: number): number {
  return layout(registers).size;
}

interface Layout {
  readonly addresses: number;
  readonly changes: number;
  readonly values: number;
  readonly pointers: number;
  readonly lists: number;
  readonly size: number;
}

function layout(registers: number): Layout {
  const addresses = STATE.table + (TABLE_MASK + 1) * ENTRY_SIZE;
  const changes = addresses + CAPACITY * 4;
  const values = changes + CAPACITY * 4;
  const pointers = values + CAPACITY * registers * 8;
  const lists = pointers + CAPACITY * registers * 8;
  return { addresses, changes, values, pointers, lists, size: lists + MOST_LISTS * registers * 4 };
}

interface Views {
  readonly bytes: Uint8Array;
  readonly fields: DataView;
  readonly addresses: Uint32Array;
  readonly changes: Uint32Array;
  readonly values: Uint32Array;
}

function viewsOf(bytes: Uint8Array<ArrayBuffer>, at: Layout): Views {
  const { buffer, byteOffset, length } = bytes;
  return {
    bytes,
    fields: new DataView(buffer, byteOffset, length),
    addresses: new Uint32Array(buffer, byteOffset + at.addresses, CAPACITY),
    changes: new Uint32Array(buffer, byteOffset + at.changes, CAPACITY),
    values: new Uint32Array(buffer, byteOffset + at.values, (at.pointers - at.values) / 4),
  };
}

/** Where things are in the engine's address space. */
export interface StepPlaces {
  readonly state: number;
  /** Guest RAM from address 0, and its bytes. */
  readonly ram: number;
  readonly ramSize: number;
  /** `uc_reg_read_batch`. */
  readonly readBatch: bigint;
  /** Bytes of each of the pointers that `uc_reg_read_batch` gets. */
  readonly pointerSize: 4 | 8;
}

/** The state as JavaScript sees it. */
export class StepBuffer {
  readonly #memory: () => Uint8Array<ArrayBuffer>;
  readonly #at: Layout;
  #views: Views;
  readonly #ids: readonly number[];
  /** How the engine addresses it. */
  readonly #state: number;
  /** By sets of changes. */
  readonly #listsByChanges = new Map<number, number>();
  /** All registers, as a set. */
  readonly all: number;

  /**
   * @param memory - gives `stepBufferSize(ids.length)` bytes at `places.state`, of zeroes at first; asked anew when its view is
   * detached
   * @param ids - the library's numbers of the registers
   */
  constructor(memory: () => Uint8Array<ArrayBuffer>, ids: readonly number[], places: StepPlaces) {
    const registers = ids.length;
    const at = layout(registers);
    this.#memory = memory;
    this.#at = at;
    this.#views = viewsOf(memory(), at);
    this.#ids = ids;
    this.#state = places.state;
    this.all = 2 ** registers - 1;
    const view = this.#view;
    view.setUint32(STATE.capacity, CAPACITY, true);
    const fields: readonly (readonly [number, number | bigint])[] = [
      [STATE.ram, places.ram],
      [STATE.limit, places.ramSize - CODE_READ],
      [STATE.readBatch, places.readBatch],
      [STATE.pointers, places.state + at.pointers],
      [STATE.addresses, places.state + at.addresses],
      [STATE.changes, places.state + at.changes],
    ];
    for (const [offset, value] of fields) view.setBigUint64(offset, BigInt(value), true);
    for (let index = 0; index < CAPACITY * registers; index++) {
      const value = places.state + at.values + index * 8;
      if (places.pointerSize === 4) view.setUint32(at.pointers + index * 4, value, true);
      else view.setBigUint64(at.pointers + index * 8, BigInt(value), true);
    }
    this.readAll();
    this.callNext();
  }

  /** Where the engine's heap can grow, older views of it are empty then. */
  #current(): Views {
    if (this.#views.addresses.length === 0) this.#views = viewsOf(this.#memory(), this.#at);
    return this.#views;
  }

  get #view(): DataView {
    return this.#current().fields;
  }

  /** 64-bit values of what is read before each noted instruction, as words, one behind the other. */
  get values(): Uint32Array {
    return this.#current().values;
  }

  /** Linear addresses of the noted instructions. */
  get addresses(): Uint32Array {
    return this.#current().addresses;
  }

  /** The registers that are read before each of them, a bit for each. */
  get changes(): Uint32Array {
    return this.#current().changes;
  }

  setCallback(callback: bigint): void {
    this.#view.setBigUint64(STATE.callback, callback, true);
  }

  /** Noted instructions. */
  get count(): number {
    return this.#view.getUint32(STATE.count, true);
  }

  /** Words of `values` that were read. */
  get used(): number {
    return 2 * this.#view.getUint32(STATE.used, true);
  }

  get full(): boolean {
    return this.count >= CAPACITY;
  }

  clear(): void {
    this.#view.setUint32(STATE.count, 0, true);
    this.#view.setUint32(STATE.used, 0, true);
  }

  /** The next instruction is not noted but called back for, whatever it is. */
  callNext(): void {
    this.#view.setUint32(STATE.lastFlags, SYNC, true);
  }

  /** What was called back for: the instruction at `address` runs now. */
  setLast(address: number, flags: number, changes: number): void {
    this.#view.setBigUint64(STATE.last, BigInt(address), true);
    this.#view.setUint32(STATE.lastFlags, flags, true);
    this.#setChanges(changes);
  }

  /** All registers are read before the next instruction that is noted: others may have changed than the last one changes. */
  readAll(): void {
    this.#setChanges(this.all);
  }

  #setChanges(changes: number): void {
    const list = this.#listOf(changes);
    this.#view.setUint32(STATE.lastChanges, list.changes, true);
    this.#view.setUint32(STATE.number, bitCount(list.changes), true);
    this.#view.setBigUint64(STATE.ids, list.pointer, true);
  }

  /** The ids of these registers, or of all where there is no room for one more list. */
  #listOf(changes: number): { readonly changes: number; readonly pointer: bigint } {
    let list = this.#listsByChanges.get(changes);
    if (list === undefined) {
      list = this.#listsByChanges.size;
      if (list === MOST_LISTS) return this.#listOf(this.all);
      this.#listsByChanges.set(changes, list);
      let at = this.#at.lists + list * this.#ids.length * 4;
      for (const [place, id] of this.#ids.entries()) {
        if ((changes & (1 << place)) === 0) continue;
        this.#view.setUint32(at, id, true);
        at += 4;
      }
    }
    return { changes, pointer: BigInt(this.#state + this.#at.lists + list * this.#ids.length * 4) };
  }

  /** @param mode - a number for whatever else an instruction's meaning depends on; only those of this one are noted */
  setMode(mode: number): void {
    this.#view.setUint32(STATE.mode, mode, true);
  }

  /**
   * Notes this one from now on, in the present mode, and no other whose address ends in the same 16 bits.
   * @param code - its bytes; where others stand there it is called back for
   * @param changes - the registers that it may change, a bit for each
   */
  remember(address: number, code: Uint8Array, flags: number, changes: number): void {
    if (code.length > LONGEST_INSTRUCTION) return;
    const entry = STATE.table + (address & TABLE_MASK) * ENTRY_SIZE;
    const view = this.#view;
    const list = this.#listOf(changes);
    view.setUint32(entry, address, true);
    view.setUint32(entry + 4, flags, true);
    view.setUint32(entry + 8, (1 << code.length) - 1, true);
    view.setUint32(entry + 12, view.getUint32(STATE.mode, true), true);
    this.#current().bytes.set(code, entry + 16);
    view.setUint32(entry + 32, list.changes, true);
    view.setUint32(entry + 36, bitCount(list.changes), true);
    view.setBigUint64(entry + 40, list.pointer, true);
  }

  /** Calls back for these addresses, and for what comes next. */
  forget(begin: bigint, end: bigint): void {
    const view = this.#view;
    const size = Number(BigInt.asUintN(64, end - begin));
    const first = Number(begin & BigInt(TABLE_MASK));
    for (let offset = 0; offset <= Math.min(size, TABLE_MASK); offset++) {
      const place = (first + offset) & TABLE_MASK;
      const entry = STATE.table + place * ENTRY_SIZE;
      const address = BigInt(view.getUint32(entry, true));
      // No address that ends in these bits is looked for here.
      if (begin <= address && address <= end) view.setUint32(entry, ~place, true);
    }
    this.callNext();
  }
}

function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++;
  return count;
}
