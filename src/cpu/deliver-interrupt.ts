// Sending the CPU to the guest's own interrupt handler, through IVT or IDT; Unicorn reports interrupts but delivers none.

import { BootscopeError } from '../error.ts';
import { EFER_LMA } from '../x86/control-registers.ts';
import type { Cpu } from './cpu.ts';
import { linearToPhysical } from './translate.ts';

const FLAG_TF = 1n << 8n;
const FLAG_IF = 1n << 9n;
const FLAG_NT = 1n << 14n;
const FLAG_RF = 1n << 16n;
const FLAG_VM = 1n << 17n;
const MASK_32 = 0xffff_ffffn;

const IRET = 0xcf;
const ROM_START = 0xf0000;
const ROM_END = 0x100000;

/**
 * Real mode: pushes FLAGS, CS and IP on the guest's stack, clears IF and TF, and goes on at the handler that
 * the vector points to. Call it in an interrupt hook or while the CPU doesn't run.
 *
 * The CS register can't be loaded from outside in a way that its base follows, so the guest does it: a second
 * frame with the handler's address is pushed and the CPU sent to an IRET, any byte CFh of the BIOS ROM.
 *
 * @throws BootscopeError `cpu-interrupt` where the ROM (0xf0000..0xfffff) holds no byte CFh
 */
export function deliverRealModeInterrupt(cpu: Cpu, vector: number): void {
  const { memory } = cpu;
  const found = memory.view(ROM_START, ROM_END - ROM_START).indexOf(IRET);
  if (found < 0) {
    throw new BootscopeError(
      'cpu-interrupt',
      `the BIOS is overwritten: there is no IRET left in 0xf0000..0xfffff to deliver interrupt 0x${vector.toString(16)} with`,
    );
  }
  const iret = ROM_START + found;
  const flags = cpu.readRegister('rflags');
  const cs = cpu.readRegister('cs');
  const stack = Number(cpu.readRegister('ss')) * 16;
  const esp = cpu.readRegister('rsp');
  let sp = Number(esp & 0xffffn);
  const push = (word: number) => {
    sp = (sp - 2) & 0xffff;
    memory.write16(stack + sp, word);
  };
  push(Number(flags & 0xffffn));
  push(Number(cs));
  push(Number(cpu.readRegister('rip') & 0xffffn));
  push(Number(flags & ~(FLAG_IF | FLAG_TF) & 0xffffn));
  push(memory.read16(vector * 4 + 2));
  push(memory.read16(vector * 4));
  cpu.writeRegister('rsp', (esp & ~0xffffn) | BigInt(sp));
  // The engine adds base and offset as 64-bit numbers, so an offset below zero reaches the ROM from any CS.
  cpu.writeRegister('rip', BigInt(iret) - (cs << 4n));
}

/** What is being delivered; only exceptions push their error code, and only those that have one. */
export interface ProtectedInterrupt {
  readonly kind: 'exception' | 'software' | 'hardware';
  readonly errorCode: number | null;
}

/** Exceptions that push an error code (Intel SDM 3A, table 6-1). */
const VECTORS_WITH_ERROR_CODE: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

const GATE_INTERRUPT = 0xe;
const GATE_TRAP = 0xf;
const DESCRIPTOR_PRESENT_CODE = 0x98;
const DESCRIPTOR_PRESENT_CODE_MASK = 0x98;

interface Gate {
  readonly offset: bigint;
  readonly selector: number;
  readonly clearsInterruptFlag: boolean;
}

/**
 * 32-bit protected mode and long mode: delivers through the IDT at the same privilege (Intel SDM 3A 6.12.1, 6.14).
 * Call it in an interrupt hook or while the CPU doesn't run.
 *
 * @returns false, with nothing changed, where the IDT has no usable gate: absent, of another type or
 *   privilege, with a stack of its own (IST), to another code segment that isn't flat, or of another size, or where
 *   the stack isn't in RAM
 */
export function deliverProtectedInterrupt(cpu: Cpu, vector: number, interrupt: ProtectedInterrupt): boolean {
  const long = (cpu.readRegister('efer') & EFER_LMA) !== 0n;
  const cs = Number(cpu.readRegister('cs'));
  const gate = readGate(cpu, vector, long);
  if (gate === null || (cs & 3) !== 0) return false;
  const target = readDescriptor(cpu, gate.selector);
  if (target === null || !isKernelCode(target, long)) return false;
  // A segment with a base (iPXE runs in one) can be stayed in, but not be entered from outside.
  if (!long && gate.selector !== cs && (target.base !== 0 || !isFlat(cpu, cs))) return false;
  const stack = long ? null : readDescriptor(cpu, Number(cpu.readRegister('ss')));
  const stackBase = BigInt(stack?.base ?? 0);

  const flags = cpu.readRegister('rflags');
  const rsp = cpu.readRegister('rsp');
  const frame = [flags, BigInt(cs), cpu.readRegister('rip')];
  if (long) frame.unshift(cpu.readRegister('ss'), rsp);
  if (interrupt.kind === 'exception' && VECTORS_WITH_ERROR_CODE.has(vector)) {
    frame.push(BigInt(interrupt.errorCode ?? 0));
  }
  const size = long ? 8n : 4n;
  const top = long ? rsp & ~0xfn : rsp & MASK_32;
  const places: number[] = [];
  for (let index = 0; index < frame.length; index++) {
    const linear = BigInt.asUintN(long ? 64 : 32, stackBase + top - BigInt(index + 1) * size);
    const place = linearToPhysical(cpu, linear);
    if (place === null || !cpu.memory.contains(Number(place), Number(size))) return false;
    places.push(Number(place));
  }
  frame.forEach((value, index) => {
    if (long) cpu.memory.write64(places[index]!, value);
    else cpu.memory.write32(places[index]!, Number(value & MASK_32));
  });

  const cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (gate.clearsInterruptFlag ? FLAG_IF : 0n);
  cpu.writeRegister('rsp', BigInt.asUintN(long ? 64 : 32, top - BigInt(frame.length) * size));
  cpu.writeRegister('rflags', flags & ~cleared);
  // Two different segments are both flat and of one size, so only the selector has to change.
  if (gate.selector !== cs) cpu.writeRegister('cs', BigInt(gate.selector));
  cpu.writeRegister('rip', gate.offset);
  return true;
}

function readGate(cpu: Cpu, vector: number, long: boolean): Gate | null {
  const idtr = cpu.readDescriptorTable('idtr');
  const size = long ? 16 : 8;
  if ((vector + 1) * size - 1 > idtr.limit) return null;
  const view = viewOf(cpu, idtr.base + BigInt(vector * size), size);
  if (view === null) return null;
  const low = view.getUint32(0, true);
  const high = view.getUint32(4, true);
  const type = (high >>> 8) & 0x1f;
  const present = (high & 0x8000) !== 0;
  const stackTable = long ? high & 7 : 0;
  if (!present || stackTable !== 0 || (type !== GATE_INTERRUPT && type !== GATE_TRAP)) return null;
  const offset = BigInt(((high & 0xffff_0000) | (low & 0xffff)) >>> 0);
  return {
    offset: long ? offset | (BigInt(view.getUint32(8, true)) << 32n) : offset,
    selector: low >>> 16,
    clearsInterruptFlag: type === GATE_INTERRUPT,
  };
}

interface Descriptor {
  readonly base: number;
  readonly access: number;
  /** L in bit 0, D in bit 1. */
  readonly sizeBits: number;
}

/** The GDT's descriptor for a selector (Intel SDM 3A 3.4.5); null where the GDT has none. */
function readDescriptor(cpu: Cpu, selector: number): Descriptor | null {
  const gdtr = cpu.readDescriptorTable('gdtr');
  const offset = selector & 0xfff8;
  if (offset === 0 || (selector & 7) !== 0 || offset + 7 > gdtr.limit) return null;
  const view = viewOf(cpu, gdtr.base + BigInt(offset), 8);
  if (view === null) return null;
  const low = view.getUint32(0, true);
  const high = view.getUint32(4, true);
  return {
    base: ((high & 0xff00_0000) | ((high & 0xff) << 16) | (low >>> 16)) >>> 0,
    access: (high >>> 8) & 0xff,
    sizeBits: (high >>> 21) & 3,
  };
}

/** Whether it is a present code segment of privilege 0 and the current size. */
function isKernelCode(descriptor: Descriptor, long: boolean): boolean {
  const { access, sizeBits } = descriptor;
  const privilege = (access >>> 5) & 3;
  const LONG = 1;
  const DEFAULT_32 = 2;
  return (
    (access & DESCRIPTOR_PRESENT_CODE_MASK) === DESCRIPTOR_PRESENT_CODE &&
    privilege === 0 &&
    sizeBits === (long ? LONG : DEFAULT_32)
  );
}

/** Whether the current CS has base 0; a selector that its GDT no longer holds is taken for flat. */
function isFlat(cpu: Cpu, selector: number): boolean {
  return (readDescriptor(cpu, selector)?.base ?? 0) === 0;
}

/** `size` bytes at a linear address; null where they aren't in RAM. Tables are aligned, so no page ends inside. */
function viewOf(cpu: Cpu, linear: bigint, size: number): DataView | null {
  const physical = linearToPhysical(cpu, linear);
  if (physical === null || !cpu.memory.contains(Number(physical), size)) return null;
  return cpu.memory.dataView(Number(physical), size);
}
