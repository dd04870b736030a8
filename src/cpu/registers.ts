// Registers through raw uc_* calls: single ones, many in one call, and the descriptor tables.

import { BootscopeError } from '../error.ts';
import type { DescriptorTableRegister, RegisterName } from './cpu.ts';
import type { Pointer, Transport } from './transport.ts';

const UC_ERR_OK = 0;

/** `uc_x86_reg` of each table register, read and written through `uc_x86_mmr`: base at 8, limit at 16. */
const TABLE_IDS = { gdtr: 243, idtr: 242 } as const;
/** Read and written through `uc_x86_msr`: the number at 0, the value at 8. */
const UC_X86_REG_MSR = 248;
const MSR_EFER = 0xc0000080;

/** `uc_x86_reg` of each register. */
const REGISTER_IDS: Readonly<Record<RegisterName, number>> = {
  rax: 35,
  rbx: 37,
  rcx: 38,
  rdx: 40,
  rsi: 43,
  rdi: 39,
  rbp: 36,
  rsp: 44,
  r8: 106,
  r9: 107,
  r10: 108,
  r11: 109,
  r12: 110,
  r13: 111,
  r14: 112,
  r15: 113,
  rip: 41,
  rflags: 253,
  cs: 11,
  ds: 17,
  es: 28,
  fs: 32,
  gs: 33,
  ss: 49,
  cr0: 50,
  cr2: 52,
  cr3: 53,
  cr4: 54,
  efer: UC_X86_REG_MSR,
};

/** Layout of the scratch block that values pass through, in bytes. */
const SCRATCH_VALUE = 0;
const SCRATCH_TABLE = 16;
const SCRATCH_MSR = 48;
const SCRATCH_BATCHES = 64;
const SCRATCH_SIZE = 0x10000;

/** A prepared `uc_reg_read_batch`: where its ids, its pointers and its values lie. */
interface Batch {
  readonly ids: Pointer;
  readonly pointers: Pointer;
  readonly count: number;
  /** Offset of value 0 in the scratch block. */
  readonly values: number;
  /** The asked registers' values; made anew where the engine's heap has moved. */
  view: BigUint64Array;
  readonly eferIndex: number;
  readonly result: ManyRegisters;
}

/** What `readMany` tells besides the values; CS and CR0 as of that call, where RIP was asked for. */
export interface ManyRegisters {
  readonly ripIndex: number;
  readonly cs: () => bigint;
  readonly cr0: () => bigint;
}

export class Registers {
  /** Called before one is written. */
  written: (() => void) | null = null;
  /** A block of engine memory; its first 64 bytes may be used between calls. */
  readonly scratch: Pointer;
  readonly #transport: Transport;
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #words: BigUint64Array;
  #used = SCRATCH_BATCHES;
  readonly #batches = new WeakMap<readonly RegisterName[], Batch>();
  /** By the names in one string, for callers that make a new list each time. */
  readonly #batchesByNames = new Map<string, Batch>();

  constructor(transport: Transport) {
    this.#transport = transport;
    const scratch = transport.allocate(SCRATCH_SIZE);
    if (scratch === null) {
      throw new BootscopeError('cpu-memory', `The host has no ${SCRATCH_SIZE} bytes left`);
    }
    this.scratch = scratch;
    this.#bytes = transport.view(scratch, SCRATCH_SIZE);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, SCRATCH_SIZE);
    this.#words = new BigUint64Array(this.#bytes.buffer, this.#bytes.byteOffset, SCRATCH_SIZE / 8);
  }

  /** The engine's own value. Selectors are zero-extended. */
  read(name: RegisterName): bigint {
    this.#refresh();
    const place = name === 'efer' ? SCRATCH_MSR : SCRATCH_VALUE;
    // Segment registers are written as 16 bits only.
    if (name === 'efer') this.#view.setUint32(SCRATCH_MSR, MSR_EFER, true);
    else this.#view.setBigUint64(SCRATCH_VALUE, 0n, true);
    this.#check(this.#transport.regRead(REGISTER_IDS[name], this.scratch + place), 'Reading', name);
    this.#refresh();
    return this.#view.getBigUint64(name === 'efer' ? SCRATCH_MSR + 8 : SCRATCH_VALUE, true);
  }

  write(name: RegisterName, value: bigint): void {
    this.written?.();
    this.#refresh();
    const place = name === 'efer' ? SCRATCH_MSR : SCRATCH_VALUE;
    if (name === 'efer') this.#view.setUint32(SCRATCH_MSR, MSR_EFER, true);
    this.#view.setBigUint64(
      name === 'efer' ? SCRATCH_MSR + 8 : SCRATCH_VALUE,
      BigInt.asUintN(64, value),
      true,
    );
    this.#check(this.#transport.regWrite(REGISTER_IDS[name], this.scratch + place), 'Writing', name);
  }

  /** The library's numbers of these registers, EFER not among them. */
  static ids(names: readonly RegisterName[]): number[] {
    return names.map((name) => REGISTER_IDS[name]);
  }

  /** Reads `names` into `values`, in one call of the library. */
  readMany(names: readonly RegisterName[], values: BigUint64Array): ManyRegisters {
    const batch = this.#batches.get(names) ?? this.#findBatch(names);
    this.#refresh();
    if (batch.eferIndex >= 0) this.#view.setUint32(SCRATCH_MSR, MSR_EFER, true);
    const error = this.#transport.regReadBatch(batch.ids, batch.pointers, batch.count);
    if (error !== UC_ERR_OK) this.#check(error, 'Reading', names.join(', '));
    this.#refresh();
    const first = batch.values >> 3;
    // One copy of bytes: a loop would make a BigInt of each.
    if (batch.view.byteLength === 0) batch.view = this.#words.subarray(first, first + names.length);
    values.set(batch.view);
    if (batch.eferIndex >= 0) values[batch.eferIndex] = this.#words[(SCRATCH_MSR + 8) >> 3]!;
    return batch.result;
  }

  readTable(name: 'gdtr' | 'idtr'): DescriptorTableRegister {
    this.#refresh();
    this.#check(this.#transport.regRead(TABLE_IDS[name], this.scratch + SCRATCH_TABLE), 'Reading', name);
    this.#refresh();
    return {
      base: this.#view.getBigUint64(SCRATCH_TABLE + 8, true),
      // The register has 16 bits of limit, the library's field 32.
      limit: this.#view.getUint32(SCRATCH_TABLE + 16, true) & 0xffff,
    };
  }

  writeTable(name: 'gdtr' | 'idtr', value: DescriptorTableRegister): void {
    this.#refresh();
    this.#view.setBigUint64(SCRATCH_TABLE, 0n, true);
    this.#view.setBigUint64(SCRATCH_TABLE + 8, value.base, true);
    this.#view.setUint32(SCRATCH_TABLE + 16, value.limit, true);
    this.#view.setUint32(SCRATCH_TABLE + 20, 0, true);
    this.#check(this.#transport.regWrite(TABLE_IDS[name], this.scratch + SCRATCH_TABLE), 'Writing', name);
  }

  #check(error: number, action: string, name: string): void {
    if (error === UC_ERR_OK) return;
    throw new BootscopeError('cpu-engine', `${action} ${name} failed: ${this.#transport.errorText(error)}`);
  }

  /** Makes the views anew where the engine's heap has moved. */
  #refresh(): void {
    if (this.#bytes.byteLength !== 0) return;
    const bytes = this.#transport.view(this.scratch, SCRATCH_SIZE);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, SCRATCH_SIZE);
    this.#words = new BigUint64Array(bytes.buffer, bytes.byteOffset, SCRATCH_SIZE / 8);
  }

  #findBatch(names: readonly RegisterName[]): Batch {
    const key = names.join();
    let batch = this.#batchesByNames.get(key);
    if (batch === undefined) {
      batch = this.#makeBatch(names);
      this.#batchesByNames.set(key, batch);
    }
    this.#batches.set(names, batch);
    return batch;
  }

  #makeBatch(names: readonly RegisterName[]): Batch {
    const ids = names.map((name) => REGISTER_IDS[name]);
    // Two more registers than asked for: with CS and CR0 a RIP in a hook can be made right.
    if (names.includes('rip')) ids.push(REGISTER_IDS.cs, REGISTER_IDS.cr0);
    const count = ids.length;
    const { pointerSize } = this.#transport;
    const align = (offset: number) => Math.ceil(offset / 8) * 8;
    const values = align(this.#used);
    const pointers = values + count * 8;
    const idsAt = align(pointers + count * pointerSize);
    const end = idsAt + count * 4;
    if (end > SCRATCH_SIZE) {
      throw new BootscopeError(
        'cpu-memory',
        `Too many different lists of registers were read: ${this.#batchesByNames.size} fill ${SCRATCH_SIZE} bytes`,
      );
    }
    this.#used = end;
    this.#refresh();
    for (let index = 0; index < count; index++) {
      const id = ids[index]!;
      const target = this.scratch + (id === UC_X86_REG_MSR ? SCRATCH_MSR : values + index * 8);
      if (pointerSize === 8) this.#view.setBigUint64(pointers + index * 8, BigInt(target), true);
      else this.#view.setUint32(pointers + index * 4, target, true);
      this.#view.setUint32(idsAt + index * 4, id, true);
    }
    const last = (values >> 3) + count;
    return {
      ids: this.scratch + idsAt,
      pointers: this.scratch + pointers,
      count,
      values,
      view: this.#words.subarray(values >> 3, (values >> 3) + names.length),
      eferIndex: names.indexOf('efer'),
      result: {
        ripIndex: names.indexOf('rip'),
        cs: () => this.#words[last - 2]!,
        cr0: () => this.#words[last - 1]!,
      },
    };
  }
}
