// Variables that a 32-bit stub's C code stores where it is linked to lie and not where it runs. Its code finds itself by the
// GOT, but linkers from binutils 2.26 on make `mov $variable, %reg` of `mov variable@GOT(%ebx), %reg` in a stub that is linked
// without -pie (to 5.8), which is right only for one that lies at address 0.

import type { KernelImage } from '../image/kernel-image.ts';
import { isConditionalBranch } from '../x86/control-flow.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
import { gotAfter } from './string-references.ts';
import type { StubDetails } from './stub.ts';

/** A number that the code works with: it counts from 0, from where the stub runs, or from an argument of extract_kernel. */
export interface StoredValue {
  readonly base: 'number' | 'stub' | { readonly argument: number };
  readonly offset: number;
}

/** Four bytes that are stored at a fixed address. */
export interface StrayStore {
  /** Physical, wherever the stub runs. */
  readonly address: number;
  readonly value: StoredValue;
}

const EAX = 0;
const ECX = 1;
const EDX = 2;
const ESP = 4;
const EBP = 5;
/** Instructions looked through; the variables are among the first things that extract_kernel sets. */
const LOOKED_AT = 400;

/** One bss lies at the end of the stub; several steps of a boot ask for the same. */
const known = new WeakMap<StubDetails, readonly StrayStore[]>();

/** The stores of extract_kernel into the stub's bss as it is linked, in their order; none in all but such 32-bit stubs. */
export function findStrayStores(image: KernelImage, details: StubDetails | null): readonly StrayStore[] {
  if (details === null || details.layout.bits !== 32 || details.layout.abi === 'moveparams') return [];
  if (details.bss === null) return [];
  let stores = known.get(details);
  if (stores === undefined) {
    stores = new StoreFinder(image.protectedModeCode, details.bss).find(details.layout.extractKernel);
    known.set(details, stores);
  }
  return stores;
}

/** Follows values through registers and the stack, along the code as it runs while no conditional branch is taken. */
class StoreFinder {
  readonly #code: Uint8Array;
  readonly #bss: { readonly start: number; readonly end: number };
  readonly #registers = new Map<number, StoredValue>();
  /** By distance from the return address, upwards. */
  readonly #stack = new Map<number, StoredValue>();
  readonly #stores: StrayStore[] = [];
  /** How far the stack pointer, and the frame pointer where there is one, lie below the return address. */
  #depth = 0;
  #frame: number | null = null;

  constructor(code: Uint8Array, bss: { readonly start: number; readonly end: number }) {
    this.#code = code;
    this.#bss = bss;
  }

  find(start: number): readonly StrayStore[] {
    let history: readonly Instruction[] = [];
    const seen = new Set<number>();
    for (let at = start; seen.size < LOOKED_AT && !seen.has(at); ) {
      const instruction = decodeInstruction(this.#code, at, 32);
      if (instruction === null || instruction.opcode === 0xc3) break;
      seen.add(at);
      const { opcode, next, immediate } = instruction;
      const got = gotAfter(this.#code, instruction, history);
      if (got === null) this.#follow(instruction);
      else this.#registers.set(opcode === 0x05 ? EAX : instruction.rm, { base: 'stub', offset: got });
      at = opcode === 0xeb || opcode === 0xe9 ? next + immediate : next;
      history = [instruction, ...history.slice(0, 1)];
    }
    return this.#stores;
  }

  #follow(instruction: Instruction): void {
    const { opcode, mod, reg, rm, immediate, displacement } = instruction;
    const registers = this.#registers;
    if (isConditionalBranch(instruction) || opcode === 0xeb || opcode === 0xe9) return;
    if (opcode === 0xe8) {
      // A call of the next instruction leaves its address on the stack; any other may change three registers.
      if (immediate === 0) this.#push(undefined);
      else for (const register of [EAX, ECX, EDX]) registers.delete(register);
    } else if (opcode >= 0x50 && opcode <= 0x57) this.#push(registers.get(opcode - 0x50));
    else if (opcode === 0x68 || opcode === 0x6a) this.#push({ base: 'number', offset: immediate >>> 0 });
    else if (opcode >= 0x58 && opcode <= 0x5f) {
      this.#set(opcode - 0x58, this.#stack.get(-this.#depth));
      this.#depth -= 4;
    } else if (opcode >= 0xb8 && opcode <= 0xbf) {
      this.#set(opcode - 0xb8, { base: 'number', offset: immediate >>> 0 });
    } else if (opcode === 0x89 || opcode === 0x8b) this.#move(instruction);
    else if (opcode === 0xc7) {
      const value: StoredValue = { base: 'number', offset: immediate >>> 0 };
      if (mod === 3) this.#set(rm, value);
      else this.#store(instruction, value);
    } else if (opcode === 0xa3) {
      this.#storeAt(immediate >>> 0, registers.get(EAX));
    } else if (opcode === 0x8d) {
      const base = instruction.sib || instruction.direct ? undefined : registers.get(rm);
      this.#set(reg, base === undefined ? undefined : { ...base, offset: base.offset + displacement });
    } else if (opcode === 0x05 || ((opcode === 0x81 || opcode === 0x83) && mod === 3)) {
      this.#add(opcode === 0x05 ? EAX : rm, opcode === 0x05 ? 0 : reg, immediate);
    } else if (!this.#onlyReads(instruction) && mod >= 0) {
      registers.delete(reg);
      if (mod === 3) registers.delete(rm);
    }
  }

  /** CMP and TEST. */
  #onlyReads({ opcode, reg }: Instruction): boolean {
    return (
      (opcode >= 0x38 && opcode <= 0x3d) ||
      opcode === 0x84 ||
      opcode === 0x85 ||
      (opcode >= 0x80 && opcode <= 0x83 && reg === 7) ||
      ((opcode === 0xf6 || opcode === 0xf7) && reg < 2)
    );
  }

  #set(register: number, value: StoredValue | undefined): void {
    if (value === undefined) this.#registers.delete(register);
    else this.#registers.set(register, value);
  }

  #push(value: StoredValue | undefined): void {
    this.#depth += 4;
    if (value === undefined) this.#stack.delete(-this.#depth);
    else this.#stack.set(-this.#depth, value);
  }

  /** ADD and SUB of an immediate; any other operation leaves a value that is not known. */
  #add(register: number, operation: number, immediate: number): void {
    const change = operation === 0 ? immediate : operation === 5 ? -immediate : null;
    if (register === ESP) {
      this.#depth -= change ?? 0;
    } else if (operation !== 7) {
      const value = this.#registers.get(register);
      const known = value !== undefined && change !== null;
      this.#set(register, known ? { ...value, offset: value.offset + change } : undefined);
    }
  }

  #move(instruction: Instruction): void {
    const { opcode, mod, reg, rm } = instruction;
    const stores = opcode === 0x89;
    if (mod === 3) {
      const [to, from] = stores ? [rm, reg] : [reg, rm];
      if (to === EBP && from === ESP) this.#frame = this.#depth;
      this.#set(to, this.#registers.get(from));
    } else if (stores) {
      this.#store(instruction, this.#registers.get(reg));
    } else {
      const slot = this.#slot(instruction);
      this.#set(reg, slot === null ? undefined : this.#read(slot));
    }
  }

  /** Where on the stack a memory operand lies, counted from the return address; null where it lies elsewhere. */
  #slot({ offset, length, sib, rm, mod, displacement, opcode }: Instruction): number | null {
    if (sib) {
      // The displacement and the immediate of `mov $imm, mem` are all that follows the SIB byte; 24h is ESP alone.
      const behind = (opcode === 0xc7 ? 4 : 0) + (mod === 1 ? 1 : mod === 2 ? 4 : 0);
      return this.#code[offset + length - behind - 1] === 0x24 ? displacement - this.#depth : null;
    }
    return rm === EBP && mod !== 0 && this.#frame !== null ? displacement - this.#frame : null;
  }

  #read(slot: number): StoredValue | undefined {
    const argument = (slot - 4) / 4;
    return (
      this.#stack.get(slot) ??
      (slot >= 4 && Number.isInteger(argument) ? { base: { argument }, offset: 0 } : undefined)
    );
  }

  #store(instruction: Instruction, value: StoredValue | undefined): void {
    const slot = this.#slot(instruction);
    if (slot !== null) {
      if (value === undefined) this.#stack.delete(slot);
      else this.#stack.set(slot, value);
      return;
    }
    if (instruction.sib || value === undefined) return;
    const base = instruction.direct ? { base: 'number', offset: 0 } : this.#registers.get(instruction.rm);
    if (base === undefined || base.base !== 'number') return;
    this.#storeAt(base.offset + instruction.displacement, value);
  }

  #storeAt(address: number, value: StoredValue | undefined): void {
    if (value !== undefined && address >= this.#bss.start && address + 4 <= this.#bss.end) {
      this.#stores.push({ address, value });
    }
  }
}
