// From a freshly opened CPU into the mode and registers that a boot protocol starts with, by guest code from firmware/.

import { ENTER_LONG_MODE } from '../../firmware/enter-long-mode.ts';
import { ENTER_PROTECTED_MODE } from '../../firmware/enter-protected-mode.ts';
import { ENTER_REAL_MODE } from '../../firmware/enter-real-mode.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { CR0_ET, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME } from '../x86/control-registers.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { Cpu, RegisterName } from './cpu.ts';

/** General registers to set; those left out are 0. */
export type GeneralRegisters = {
  readonly [name in
    | 'rax'
    | 'rbx'
    | 'rcx'
    | 'rdx'
    | 'rsi'
    | 'rdi'
    | 'rbp'
    | 'rsp'
    | 'r8'
    | 'r9'
    | 'r10'
    | 'r11'
    | 'r12'
    | 'r13'
    | 'r14'
    | 'r15']?: bigint;
};

interface CommonState extends GeneralRegisters {
  /** EFLAGS; bit 1 is always set. Default 2: interrupts off. */
  readonly flags?: number;
}

export interface RealModeState extends Omit<CommonState, 'rsp'> {
  readonly cs: number;
  readonly ip: number;
  readonly ss: number;
  readonly sp: number;
  readonly ds: number;
  readonly es: number;
  readonly fs?: number;
  readonly gs?: number;
}

interface FlatState extends CommonState {
  /**
   * Physical address where the descriptors of the boot protocol are written (48 bytes that stay the
   * guest's GDT): null, null, code at selector 10h, data at 18h, a TSS at 20h.
   */
  readonly gdtAddress: number;
}

export interface ProtectedModeState extends FlatState {
  readonly eip: number;
}

export interface LongModeState extends FlatState {
  readonly rip: bigint;
  /** Physical address of the top-level page table; it must map the target and 0x9c000 to themselves. */
  readonly cr3: bigint;
  /** Default PG, ET and PE. */
  readonly cr0?: bigint;
  /** PAE is always set. Default PAE alone. */
  readonly cr4?: bigint;
  /** LME and LMA are set whatever it says; engines that do not know NXE drop it. Default LME and LMA alone. */
  readonly efer?: bigint;
  /** Descriptors to write at `gdtAddress` in place of the boot protocol's, and the selectors to load from them. */
  readonly gdt?: { readonly descriptors: readonly bigint[]; readonly code: number; readonly data: number };
}

/** The blob's page, then a PML4, a page of directory pointers and a page directory; restored afterwards. */
const BASE = 0x9c000;
const AREA_SIZE = 0x4000;
const PAGE = 0x1000;
const PARAMETERS = 8;

const PAGE_PRESENT_WRITABLE = 3n;
const PAGE_LARGE = 0x80n;

const FLAGS_ALWAYS = 2;

const GDT_SIZE = 48;
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
const DESCRIPTOR_CODE_32 = 0x00cf_9b00_0000_ffffn;
const DESCRIPTOR_CODE_64 = 0x00af_9b00_0000_ffffn;
const DESCRIPTOR_DATA = 0x00cf_9300_0000_ffffn;
/** An available TSS of 4 KiB at 0; in long mode its second half is the next entry. */
const DESCRIPTOR_TSS = 0x0080_8900_0000_0000n;
const REAL_MODE_TABLE_LIMIT = 0xffff;

const GENERAL = [
  'rax',
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rbp',
  'rsp',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const satisfies readonly RegisterName[];

/** Puts a blob and tables that map the first 2 MiB to themselves at BASE. */
function layOut(memory: PhysicalMemory, blob: string): void {
  memory.fill(BASE, AREA_SIZE, 0);
  memory.view(BASE, PAGE).set((blob.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)));
  const table = (index: number) => BASE + index * PAGE;
  memory.write64(table(1), BigInt(table(2)) | PAGE_PRESENT_WRITABLE);
  memory.write64(table(2), BigInt(table(3)) | PAGE_PRESENT_WRITABLE);
  memory.write64(table(3), PAGE_PRESENT_WRITABLE | PAGE_LARGE);
}

/** Runs a blob until it has jumped to the linear address `target`, then sets the general registers. */
function runBlob(
  cpu: Cpu,
  blob: string,
  target: bigint,
  state: CommonState,
  writeParameters: (view: DataView) => void,
): void {
  if ((cpu.readRegister('efer') & EFER_LMA) === 0n || cpu.readRegister('cs') !== 0n) {
    throw new BootscopeError(
      'cpu-mode',
      'The CPU is not in the state it was opened in, so its mode cannot be chosen',
    );
  }
  const { memory } = cpu;
  if (!memory.contains(BASE, AREA_SIZE) || !memory.contains(Number(target), 1)) {
    throw new BootscopeError(
      'cpu-mode',
      `The CPU cannot start at ${hex(target)}, where RAM ends at ${hex(memory.end)}`,
    );
  }
  const saved = memory.copyOut(BASE, AREA_SIZE);
  layOut(memory, blob);
  writeParameters(memory.dataView(BASE + PARAMETERS, PAGE - PARAMETERS));
  cpu.invalidateCode(BASE, PAGE);
  const unhook = cpu.hookBlock(target, target, () => cpu.stop());
  cpu.writeRegister('rip', BigInt(BASE));
  const end = cpu.run();
  unhook();
  memory.view(BASE, AREA_SIZE).set(saved);
  cpu.invalidateCode(BASE, PAGE);
  if (end.kind !== 'stopped') {
    const reason = end.kind === 'error' ? end.error : end.kind;
    throw new BootscopeError('cpu-mode', `The way to ${hex(target)} ended early: ${reason}`);
  }
  for (const name of GENERAL) cpu.writeRegister(name, state[name] ?? 0n);
  cpu.writeRegister('rflags', BigInt((state.flags ?? 0) | FLAGS_ALWAYS));
}

/**
 * Real mode at CS:IP, as a BIOS leaves it: CR0 holds ET alone, IDTR the vector table at 0. The 32-bit parts
 * of the general registers can be set too.
 *
 * 0x9c000..0x9ffff is used and restored.
 *
 * @throws BootscopeError `cpu-mode` where the CPU isn't fresh or CS:IP is outside RAM
 */
export function enterRealMode(cpu: Cpu, state: RealModeState): void {
  const target = BigInt(state.cs * 16 + state.ip);
  runBlob(cpu, ENTER_REAL_MODE, target, { ...state, rsp: BigInt(state.sp) }, (view) => {
    const words = [state.ip, state.cs, state.ss, state.ds, state.es, state.fs ?? 0, state.gs ?? 0];
    words.forEach((word, index) => {
      view.setUint16(index * 2, word, true);
    });
  });
  cpu.writeDescriptorTable('gdtr', { base: 0n, limit: REAL_MODE_TABLE_LIMIT });
}

/** The boot protocol's descriptors: 10h is flat code, 18h flat data; 20h a TSS, which 3.8's startup_64 loads. */
function bootGdt(code: bigint): readonly bigint[] {
  return [0n, 0n, code, DESCRIPTOR_DATA, DESCRIPTOR_TSS, 0n];
}

function writeGdt(memory: PhysicalMemory, address: number, descriptors: readonly bigint[]): void {
  if (!memory.contains(address, descriptors.length * 8)) {
    throw new BootscopeError(
      'cpu-mode',
      `The GDT at ${hex(address)} is outside RAM, which ends at ${hex(memory.end)}`,
    );
  }
  descriptors.forEach((descriptor, index) => {
    memory.write64(address + index * 8, descriptor);
  });
}

/**
 * 32-bit protected mode without paging (boot.rst, "32-bit boot protocol"): CS = 10h, DS, ES, FS, GS, SS = 18h,
 * all flat; CR0 holds PE and ET; CR3, CR4 and EFER are 0.
 *
 * 0x9c000..0x9ffff is used and restored.
 *
 * @throws BootscopeError `cpu-mode` where the CPU isn't fresh, or an address is outside RAM
 */
export function enterProtectedMode(cpu: Cpu, state: ProtectedModeState): void {
  writeGdt(cpu.memory, state.gdtAddress, bootGdt(DESCRIPTOR_CODE_32));
  runBlob(cpu, ENTER_PROTECTED_MODE, BigInt(state.eip), state, (view) => {
    view.setUint32(0, state.eip, true);
    view.setUint16(4, BOOT_CS, true);
    view.setUint16(6, GDT_SIZE - 1, true);
    view.setUint32(8, state.gdtAddress, true);
  });
}

/**
 * 64-bit mode with paging (boot.rst, "64-bit boot protocol"): CS = 10h, DS, ES, FS, GS, SS = 18h unless `gdt` says
 * otherwise; EFER holds LME and LMA.
 *
 * 0x9c000..0x9ffff is used and restored.
 *
 * @throws BootscopeError `cpu-mode` where the CPU isn't fresh, or an address is outside RAM
 */
export function enterLongMode(cpu: Cpu, state: LongModeState): void {
  const gdt = state.gdt ?? { descriptors: bootGdt(DESCRIPTOR_CODE_64), code: BOOT_CS, data: BOOT_DS };
  writeGdt(cpu.memory, state.gdtAddress, gdt.descriptors);
  runBlob(cpu, ENTER_LONG_MODE, state.rip, state, (view) => {
    view.setBigUint64(0, state.rip, true);
    view.setBigUint64(8, state.cr0 ?? CR0_PG | CR0_ET | CR0_PE, true);
    view.setBigUint64(16, state.cr3, true);
    view.setBigUint64(24, (state.cr4 ?? 0n) | CR4_PAE, true);
    view.setUint16(32, gdt.descriptors.length * 8 - 1, true);
    view.setBigUint64(34, BigInt(state.gdtAddress), true);
    view.setUint32(42, gdt.code, true);
    view.setUint32(50, gdt.data, true);
    view.setUint32(54, Number((state.efer ?? 0n) | EFER_LME | EFER_LMA), true);
  });
}
