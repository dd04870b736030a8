// Tells of everything that writes into a range of memory, or reads it, while a boot runs: instructions as they do it, and what the
// host does in place of the guest.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import { equalBytes } from '../host/host.ts';
import type { CpuMode, PhaseName } from '../trace/boot-trace.ts';
import type { HostAccess, HostAccessListener } from './hold.ts';
import type { WatchedAccess, WatchedRange } from './stop.ts';

/** One access to an observed range. */
export interface ObservedAccess extends WatchedAccess {
  /** Instructions executed before it; null where they are not counted. */
  readonly instructions: number | null;
  readonly phase: PhaseName | null;
  /** Of the code that did it. */
  readonly mode: CpuMode;
  /** The bytes [start, end) that lie in the range, before and after; of a read the same. */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  /** Where `start` lies in all that was written at once: of what lies before the range something may have been. */
  readonly offset: number;
}

export interface ObserverParts {
  readonly cpu: Cpu;
  /** Linear address of the instruction that runs. */
  readonly address: () => number;
  readonly mode: () => CpuMode;
  readonly phase: () => PhaseName | null;
}

const LAST_ADDRESS = 0xffff_ffff_ffff_ffffn;
/** Firmware in real mode writes below this address; of more than that its writes are not looked for. */
const REAL_MODE_END = 0x11_0000;

export class AccessObserver implements HostAccessListener {
  readonly #parts: ObserverParts;
  readonly #range: WatchedRange;
  readonly #access: 'read' | 'write';
  readonly #tell: (access: ObservedAccess) => void;
  /** The range as it was after the last write. */
  readonly #shadow: Uint8Array;
  readonly #unhook: Unhook;

  /** @param range - all of it is RAM */
  constructor(
    parts: ObserverParts,
    range: WatchedRange,
    access: 'read' | 'write',
    tell: (access: ObservedAccess) => void,
  ) {
    this.#parts = parts;
    this.#range = range;
    this.#tell = tell;
    const { cpu } = parts;
    this.#access = access;
    this.#shadow =
      access === 'write' ? cpu.memory.copyOut(range.start, range.end - range.start) : new Uint8Array(0);
    const [first, last] = [BigInt(range.start), BigInt(range.end - 1)];
    if (access === 'write') {
      this.#unhook = cpu.hookMemoryWrite(first, last, (at, size, value) =>
        this.#onGuestWrite(Number(at), size, value),
      );
      return;
    }
    const unhookReads = cpu.hookMemoryRead(first, last, (at, size) => this.#onGuestRead(Number(at), size));
    // Unicorn 2.0 knows the instruction of some reads only so: those of descriptors, and of IRET.
    const everything = cpu.engineVersion.startsWith('2.0.')
      ? cpu.hookCode(0n, LAST_ADDRESS, () => {})
      : () => {};
    this.#unhook = () => {
      unhookReads();
      everything();
    };
  }

  end(): void {
    this.#unhook();
  }

  #onGuestWrite(at: number, size: number, value: bigint): void {
    const bytes = new Uint8Array(size);
    for (let index = 0; index < size; index++) bytes[index] = Number((value >> BigInt(index * 8)) & 0xffn);
    const { start, end } = this.#clip(at, at + size);
    const instruction = BigInt(this.#parts.address());
    this.#report({ start, end, instruction, by: 'guest' }, bytes.subarray(start - at, end - at), start - at);
  }

  #onGuestRead(start: number, size: number): void {
    const instruction = BigInt(this.#parts.address());
    this.#reportRead({ start, end: start + size, instruction, by: 'guest' });
  }

  onHostRead(read: HostAccess): void {
    if (this.#access === 'read') this.#reportRead(read);
  }

  #reportRead({ start: from, end: to, ...read }: Omit<WatchedAccess, 'access'>): void {
    const { cpu, mode, phase } = this.#parts;
    const { start, end } = this.#clip(from, to);
    if (end <= start) return;
    const bytes = cpu.memory.copyOut(start, end - start);
    this.#tell({
      ...{ access: 'read', ...read, start, end, instructions: cpu.instructions },
      ...{ phase: phase(), mode: mode(), before: bytes, after: bytes, offset: start - from },
    });
  }

  onHostWrite({ start: from, end: to, ...write }: HostAccess): void {
    const { start, end } = this.#clip(from, to);
    if (this.#access === 'read' || end <= start) return;
    const source = write.source === undefined ? {} : { source: write.source + start - from };
    const after = this.#parts.cpu.memory.copyOut(start, end - start);
    this.#report({ ...write, start, end, ...source }, after, start - from);
  }

  /** The host did something that may have written anywhere: what has changed is seen in the bytes. */
  onHostAction(by: 'firmware' | 'extract_kernel'): void {
    const { start } = this.#range;
    const end = by === 'firmware' ? Math.min(this.#range.end, REAL_MODE_END) : this.#range.end;
    if (this.#access === 'read' || end <= start) return;
    const now = this.#parts.cpu.memory.view(start, end - start);
    const known = this.#shadow.subarray(0, end - start);
    if (equalBytes(now, known)) return;
    const differs = (byte: number, at: number): boolean => byte !== known[at];
    const [first, last] = [now.findIndex(differs), now.findLastIndex(differs) + 1];
    const write = { start: start + first, end: start + last, instruction: null, by };
    this.#report(write, now.slice(first, last), 0);
  }

  #report(write: Omit<WatchedAccess, 'access'>, after: Uint8Array, offset: number): void {
    const { cpu, mode, phase } = this.#parts;
    const at = write.start - this.#range.start;
    const before = this.#shadow.slice(at, at + after.length);
    this.#shadow.set(after, at);
    const rest = { instructions: cpu.instructions, phase: phase(), mode: mode(), before, after, offset };
    this.#tell({ access: 'write', ...write, ...rest });
  }

  #clip(start: number, end: number): WatchedRange {
    return { start: Math.max(start, this.#range.start), end: Math.min(end, this.#range.end) };
  }
}
