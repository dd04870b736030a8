// What a BIOS service is: the registers it sees, and a table that finds it by vector and function number.

import type { Cpu, RegisterName } from '../../cpu/cpu.ts';

export const FLAG_CF = 0x0001;
export const FLAG_ZF = 0x0040;
export const FLAG_IF = 0x0200;

const NAMES = [
  'rax',
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rbp',
  'ds',
  'es',
] as const satisfies readonly RegisterName[];
const EVENT_NAMES = ['eax', 'ebx', 'ecx', 'edx', 'esi', 'edi', 'ebp', 'ds', 'es'] as const;
const EAX = 0;
const EBX = 1;
const ECX = 2;
const EDX = 3;
const ESI = 4;
const EDI = 5;
const EBP = 6;
const DS = 7;
const ES = 8;

/**
 * The CPU's registers while a service runs: loaded at once, stored where changed. Registers are 32 bits
 * wide and unsigned; the 16- and 8-bit names change only their part. Remembers what the service used.
 */
export class BiosRegisters {
  readonly #cpu: Cpu;
  readonly #loaded = new BigUint64Array(NAMES.length);
  readonly #before = new Uint32Array(NAMES.length);
  readonly #values = new Uint32Array(NAMES.length);
  #flags = 0;
  #setCarry = false;
  #used = 0;
  #changed = 0;
  /** What the service did outside of the registers, in a few words; null where that is nothing worth telling. */
  result: string | null = null;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  /** @param flags - FLAGS of the caller */
  load(flags: number): void {
    this.#cpu.readRegisters(NAMES, this.#loaded);
    for (let i = 0; i < NAMES.length; i++) {
      this.#values[i] = Number(this.#loaded[i]! & 0xffffffffn);
    }
    this.#before.set(this.#values);
    this.#flags = flags;
    this.#setCarry = false;
    this.#used = 1 << EAX;
    this.#changed = 0;
    this.result = null;
  }

  /** Writes the changed general registers back; flags and ES are left to who returns to the guest. */
  store(): void {
    for (let i = 0; i < DS; i++) {
      if (this.#values[i] !== this.#before[i]) {
        this.#cpu.writeRegister(NAMES[i]!, BigInt(this.#values[i]!));
      }
    }
  }

  /** The registers the service read or wrote, as they were. */
  get input(): Readonly<Record<string, number>> {
    return this.#pick(this.#before, this.#used);
  }

  /** The registers the service wrote, as they are. */
  get output(): Readonly<Record<string, number>> {
    return this.#pick(this.#values, this.#changed);
  }

  /** AX as the caller passed it. */
  get inputAx(): number {
    return this.#before[EAX]! & 0xffff;
  }

  /** FLAGS for the caller. */
  get flags(): number {
    return this.#flags;
  }
  set carry(on: boolean) {
    this.#setCarry = on;
    this.#flags = on ? this.#flags | FLAG_CF : this.#flags & ~FLAG_CF;
  }
  /** Whether the service itself set CF. */
  get failed(): boolean {
    return this.#setCarry;
  }
  set zero(on: boolean) {
    this.#flags = on ? this.#flags | FLAG_ZF : this.#flags & ~FLAG_ZF;
  }

  get eax(): number {
    return this.#get(EAX);
  }
  set eax(value: number) {
    this.#set(EAX, value);
  }
  get ebx(): number {
    return this.#get(EBX);
  }
  set ebx(value: number) {
    this.#set(EBX, value);
  }
  get ecx(): number {
    return this.#get(ECX);
  }
  set ecx(value: number) {
    this.#set(ECX, value);
  }
  get edx(): number {
    return this.#get(EDX);
  }
  set edx(value: number) {
    this.#set(EDX, value);
  }
  get esi(): number {
    return this.#get(ESI);
  }
  set esi(value: number) {
    this.#set(ESI, value);
  }
  get edi(): number {
    return this.#get(EDI);
  }
  set edi(value: number) {
    this.#set(EDI, value);
  }

  get ax(): number {
    return this.#get(EAX) & 0xffff;
  }
  set ax(value: number) {
    this.#setLow(EAX, value);
  }
  get bx(): number {
    return this.#get(EBX) & 0xffff;
  }
  set bx(value: number) {
    this.#setLow(EBX, value);
  }
  get cx(): number {
    return this.#get(ECX) & 0xffff;
  }
  set cx(value: number) {
    this.#setLow(ECX, value);
  }
  get dx(): number {
    return this.#get(EDX) & 0xffff;
  }
  set dx(value: number) {
    this.#setLow(EDX, value);
  }
  get si(): number {
    return this.#get(ESI) & 0xffff;
  }
  set si(value: number) {
    this.#setLow(ESI, value);
  }
  get di(): number {
    return this.#get(EDI) & 0xffff;
  }
  set di(value: number) {
    this.#setLow(EDI, value);
  }
  get bp(): number {
    return this.#get(EBP) & 0xffff;
  }
  set bp(value: number) {
    this.#setLow(EBP, value);
  }
  get ds(): number {
    return this.#get(DS) & 0xffff;
  }
  get es(): number {
    return this.#get(ES) & 0xffff;
  }
  /** For services with `returnsSegment` only. */
  set es(value: number) {
    this.#set(ES, value & 0xffff);
  }

  get al(): number {
    return this.#get(EAX) & 0xff;
  }
  set al(value: number) {
    this.#setByte(EAX, 0, value);
  }
  get ah(): number {
    return (this.#get(EAX) >>> 8) & 0xff;
  }
  set ah(value: number) {
    this.#setByte(EAX, 8, value);
  }
  get bl(): number {
    return this.#get(EBX) & 0xff;
  }
  set bl(value: number) {
    this.#setByte(EBX, 0, value);
  }
  get bh(): number {
    return (this.#get(EBX) >>> 8) & 0xff;
  }
  set bh(value: number) {
    this.#setByte(EBX, 8, value);
  }
  get cl(): number {
    return this.#get(ECX) & 0xff;
  }
  set cl(value: number) {
    this.#setByte(ECX, 0, value);
  }
  get ch(): number {
    return (this.#get(ECX) >>> 8) & 0xff;
  }
  set ch(value: number) {
    this.#setByte(ECX, 8, value);
  }
  get dl(): number {
    return this.#get(EDX) & 0xff;
  }
  set dl(value: number) {
    this.#setByte(EDX, 0, value);
  }
  get dh(): number {
    return (this.#get(EDX) >>> 8) & 0xff;
  }
  set dh(value: number) {
    this.#setByte(EDX, 8, value);
  }

  #get(index: number): number {
    this.#used |= 1 << index;
    return this.#values[index]!;
  }

  #set(index: number, value: number): void {
    this.#used |= 1 << index;
    this.#changed |= 1 << index;
    this.#values[index] = value;
  }

  #setLow(index: number, value: number): void {
    this.#set(index, (this.#values[index]! & 0xffff0000) | (value & 0xffff));
  }

  #setByte(index: number, shift: 0 | 8, value: number): void {
    this.#set(index, (this.#values[index]! & ~(0xff << shift)) | ((value & 0xff) << shift));
  }

  #pick(values: Uint32Array, mask: number): Readonly<Record<string, number>> {
    const picked: Record<string, number> = {};
    EVENT_NAMES.forEach((name, index) => {
      if (mask & (1 << index)) {
        picked[name] = values[index]!;
      }
    });
    return picked;
  }
}

/** One function of a BIOS interrupt. */
export interface BiosService {
  /** `query system address map`. */
  readonly name: string;
  /** It returns ES, which only guest code can load fully: the call then goes through the ROM. */
  readonly returnsSegment?: true;
  run(registers: BiosRegisters): void;
}

/** The functions behind one interrupt vector. */
export interface BiosVector {
  readonly vector: number;
  /** For vectors without a function number in AH. */
  readonly only?: BiosService;
  /** By AX, looked up first. */
  readonly byAx?: ReadonlyMap<number, BiosService>;
  /** By AH. */
  readonly byAh?: ReadonlyMap<number, BiosService>;
  /** What an unknown function leaves in the registers. */
  unknown?(registers: BiosRegisters): void;
}

/** Finds the function that AX asks for; null where the vector has none. */
export function findService(vector: BiosVector, ax: number): BiosService | null {
  return vector.only ?? vector.byAx?.get(ax) ?? vector.byAh?.get(ax >>> 8) ?? null;
}

/** Linear address of a real-mode far pointer, without the A20 wrap. */
export function linear(segment: number, offset: number): number {
  return segment * 16 + offset;
}
