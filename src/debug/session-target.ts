// A held boot as the machine behind gdb's remote protocol. Addresses are linear there: RIP is the linear address of the next
// instruction in every mode, and the guest's own instruction pointer, the offset in CS, is a register beside it.

import { codeSegmentBase } from '../boot/cpu-mode.ts';
import type { BootSession } from '../boot/session.ts';
import type { Stop, WatchedRange } from '../boot/stop.ts';
import type { RegisterName } from '../cpu/cpu.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { GDB_MODES, type GdbRegisterName } from './gdb/registers.ts';
import type { GdbMemoryRange, GdbPoint, GdbResume, GdbStop, GdbTarget } from './gdb/target.ts';
import { findLastStop } from './last-stop.ts';
import { Monitor, type MonitorFiles } from './monitor.ts';
import { stopsAhead } from './stops-ahead.ts';

const PAGE = 4096;
const ROM_START = 0xf0000;
const ROM_END = 0x100000;
const MAX_OFFSET_16 = 0xffffn;
const MAX_OFFSET_32 = 0xffff_ffffn;

const POINT_KINDS = ['software', 'hardware', 'write', 'read', 'access'] as const;
/** Points that each access stops for. */
const WATCHES: Readonly<Record<'read' | 'write', readonly GdbPoint['kind'][]>> = {
  read: ['read', 'access'],
  write: ['write', 'access'],
};

const WRITABLE: ReadonlySet<string> = new Set<RegisterName>([
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
]);
const READABLE: ReadonlySet<string> = new Set<RegisterName>([
  ...(WRITABLE as ReadonlySet<RegisterName>),
  ...(['cs', 'ss', 'ds', 'es', 'fs', 'gs', 'cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const),
]);

/** A held boot as what gdb debugs. */
export class SessionTarget implements GdbTarget {
  readonly pointKinds: ReadonlySet<GdbPoint['kind']> = new Set(POINT_KINDS);
  readonly #session: BootSession;
  readonly #monitor: Monitor;
  #points: readonly GdbPoint[] = [];
  #abort: AbortController | null = null;

  /** @param image - what the session boots */
  constructor(session: BootSession, image: KernelImage, files: MonitorFiles = {}) {
    this.#session = session;
    this.#monitor = new Monitor(session, image, files);
  }

  // Registers

  readRegister(name: GdbRegisterName): bigint | null {
    const { registers, machine, instructions } = this.#session;
    if (READABLE.has(name)) return registers[name as RegisterName];
    switch (name) {
      case 'rip':
        return this.#linear(registers.rip);
      case 'ip':
        return registers.rip;
      case 'eflags':
        return registers.rflags;
      case 'mode':
        return BigInt(GDB_MODES.indexOf(this.#session.stop.mode));
      case 'gdtr_base':
      case 'idtr_base':
        return machine.cpu.readDescriptorTable(name.slice(0, 4) as 'gdtr' | 'idtr').base;
      case 'gdtr_limit':
      case 'idtr_limit':
        return BigInt(machine.cpu.readDescriptorTable(name.slice(0, 4) as 'gdtr' | 'idtr').limit);
      case 'instructions':
        return instructions === null ? null : BigInt(instructions);
      default:
        return null;
    }
  }

  writeRegister(name: GdbRegisterName, value: bigint): string | null {
    const { cpu } = this.#session.machine;
    if (WRITABLE.has(name)) {
      cpu.writeRegister(name as RegisterName, value);
      return null;
    }
    if (name === 'eflags') {
      cpu.writeRegister('rflags', value);
      return null;
    }
    if (name === 'ip') return this.#writeOffset(value);
    if (name === 'rip') {
      const offset = value - this.#csBase;
      if (offset < 0n) return `${hex(value)} is below the base of CS, ${hex(this.#csBase)}`;
      return this.#writeOffset(offset);
    }
    return `${name} cannot be written: what the CPU keeps beside it would not follow`;
  }

  #writeOffset(offset: bigint): string | null {
    const { mode } = this.#session.stop;
    const most =
      mode === 'real16' || mode === 'prot16' ? MAX_OFFSET_16 : mode === 'long64' ? null : MAX_OFFSET_32;
    if (most !== null && offset > most) {
      return `${hex(offset + this.#csBase)} is out of reach of CS in ${mode}: its base is ${hex(this.#csBase)}, the highest offset ${hex(most)}`;
    }
    this.#session.machine.cpu.writeRegister('rip', offset);
    return null;
  }

  get #csBase(): bigint {
    const { machine, stop } = this.#session;
    return codeSegmentBase(machine.cpu, stop.mode);
  }

  #linear(offset: bigint): bigint {
    return this.#csBase + offset;
  }

  // Memory

  readMemory(address: bigint, length: number): Uint8Array {
    const { memory } = this.#session;
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const { physical, size } of this.#pieces(address, length)) {
      if (physical === null) break;
      bytes.set(memory.read(physical, size), done);
      done += size;
    }
    return bytes.subarray(0, done);
  }

  writeMemory(address: bigint, bytes: Uint8Array): boolean {
    const pieces = [...this.#pieces(address, bytes.length)];
    if (pieces.some(({ physical }) => physical === null)) return false;
    let done = 0;
    for (const { physical, size } of pieces) {
      this.#session.memory.write(physical!, bytes.subarray(done, done + size));
      done += size;
    }
    return true;
  }

  /** The pages of a linear range and where they lie; null for one that is not mapped to RAM. */
  *#pieces(address: bigint, length: number): Generator<{ physical: number | null; size: number }> {
    const { memory } = this.#session;
    for (let done = 0; done < length; ) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const size = Math.min(length - done, PAGE - Number(at % BigInt(PAGE)));
      const physical = memory.physical(at);
      yield { physical: physical !== null && physical + size <= memory.size ? physical : null, size };
      done += size;
    }
  }

  memoryMap(): readonly GdbMemoryRange[] {
    const range = (type: GdbMemoryRange['type'], start: number, end: number): GdbMemoryRange => ({
      ...{ type, start: BigInt(start), length: BigInt(end - start) },
    });
    return [
      range('ram', 0, ROM_START),
      range('rom', ROM_START, ROM_END),
      range('ram', ROM_END, this.#session.memory.size),
      // Linear addresses that page tables may map.
      {
        type: 'ram',
        start: BigInt(this.#session.memory.size),
        length: (1n << 64n) - BigInt(this.#session.memory.size) - 1n,
      },
    ];
  }

  // Running

  setPoints(points: readonly GdbPoint[]): void {
    this.#points = points;
  }

  async resume(how: GdbResume): Promise<GdbStop> {
    this.#abort = new AbortController();
    try {
      return how.direction === 'forward' ? await this.#forward(how.step) : await this.#backward(how.step);
    } finally {
      this.#abort = null;
    }
  }

  interrupt(): void {
    this.#abort?.abort();
  }

  async #forward(step: boolean): Promise<GdbStop> {
    const places = this.#breakpoints.map((address) => ({ kind: 'address', address }) as const);
    const stop = await this.#session.run({
      until: step ? [] : [...places, ...stopsAhead(this.#session, this.#monitor.stops)],
      writes: this.#watched('write'),
      reads: this.#watched('read'),
      signal: this.#abort!.signal,
      ...(step ? { instructions: 1 } : {}),
    });
    return this.#asGdb(stop);
  }

  async #backward(step: boolean): Promise<GdbStop> {
    const session = this.#session;
    const now = session.instructions;
    if (now === null || now === 0) return { kind: 'beginning' };
    if (step) {
      await session.goTo(now - 1);
      return { kind: 'step' };
    }
    const signal = this.#abort!.signal;
    const [writes, reads] = [this.#watched('write'), this.#watched('read')];
    const points = { addresses: this.#breakpoints, writes, reads };
    const last = await findLastStop(session, points, () => signal.aborted);
    if (last !== null) return this.#asGdb(last.stop);
    return signal.aborted ? { kind: 'interrupted' } : { kind: 'beginning' };
  }

  get #breakpoints(): readonly number[] {
    return this.#points
      .filter(({ kind }) => kind === 'software' || kind === 'hardware')
      .map(({ address }) => Number(address));
  }

  /** Physical, as the page tables map them now. */
  #watched(access: 'read' | 'write'): readonly WatchedRange[] {
    return this.#points
      .filter(({ kind }) => WATCHES[access].includes(kind))
      .flatMap((point) => this.#physicalRange(point));
  }

  #physicalRange({ address, length }: GdbPoint): readonly WatchedRange[] {
    const start = this.#session.memory.physical(address);
    return start === null ? [] : [{ start, end: start + length }];
  }

  #asGdb(stop: Stop): GdbStop {
    switch (stop.reason) {
      case 'breakpoint': {
        const point = this.#points.find(
          ({ kind, address }) => (kind === 'software' || kind === 'hardware') && address === stop.address,
        );
        return { kind: 'breakpoint', point: point?.kind === 'hardware' ? 'hardware' : 'software' };
      }
      case 'watchpoint': {
        const { access, start, end } = stop.access;
        const hit = this.#points.find(
          (point) =>
            WATCHES[access].includes(point.kind) &&
            this.#physicalRange(point).some((range) => range.start < end && start < range.end),
        );
        const kind = hit?.kind === 'access' ? 'access' : access;
        return { kind: 'watchpoint', point: kind, address: hit?.address ?? BigInt(start) };
      }
      case 'aborted':
        return { kind: 'interrupted' };
      case 'ended': {
        if (stop.stopped === null && this.#breakpoints.includes(Number(stop.address))) {
          return this.#asGdb({
            ...stop,
            reason: 'breakpoint',
            place: { kind: 'address', address: Number(stop.address) },
          });
        }
        const text = stop.stopped ?? `the kernel's entry, ${hex(stop.address)}: here the boot ends`;
        return { kind: 'end', text };
      }
      default:
        return { kind: 'step' };
    }
  }

  // Talking

  status(): string {
    const { mode, phase, instructions } = this.#session.stop;
    return `${mode}${phase === null ? '' : `, phase ${phase}`}${instructions === null ? '' : `, #${this.#session.instructions}`}`;
  }

  monitor(command: string): Promise<string> {
    return this.#monitor.run(command);
  }
}
