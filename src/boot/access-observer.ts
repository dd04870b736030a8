// Tells of everything that writes into a range of memory, or reads it, while a boot runs: instructions as they do it, and what the
// host does in place of the guest.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import { BootscopeError } from '../error.ts';
import { equalBytes } from '../host/host.ts';
import type { CpuMode, PhaseName } from '../trace/boot-trace.ts';
import type { HostWrite } from './hold.ts';
import type { ObservedWrite, WatchedRange } from './stop.ts';

/** One access to an observed range. */
export interface ObservedAccess extends ObservedWrite {
  readonly access: 'read' | 'write';
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

/** Firmware in real mode writes below this address; of more than that its writes are not looked for. */
const REAL_MODE_END = 0x11_0000;

export class AccessObserver {
  readonly #parts: ObserverParts;
  readonly #range: WatchedRange;
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
    if (access === 'read' && cpu.engineVersion.startsWith('2.0.')) {
      throw new BootscopeError(
        'session-reads',
        `Unicorn ${cpu.engineVersion} runs far returns wrongly where reads are watched: that needs Unicorn 2.1`,
      );
    }
    this.#shadow =
      access === 'write' ? cpu.memory.copyOut(range.start, range.end - range.start) : new Uint8Array(0);
    const [first, last] = [BigInt(range.start), BigInt(range.end - 1)];
    this.#unhook =
      access === 'write'
        ? cpu.hookMemoryWrite(first, last, (at, size, value) => this.#onGuestWrite(Number(at), size, value))
        : cpu.hookMemoryRead(first, last, (at, size) => this.#onGuestRead(Number(at), size));
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

  #onGuestRead(at: number, size: number): void {
    const { cpu, address, mode, phase } = this.#parts;
    const { start, end } = this.#clip(at, at + size);
    const bytes = cpu.memory.copyOut(start, end - start);
    this.#tell({
      ...{ access: 'read', start, end, instruction: BigInt(address()), by: 'guest' },
      ...{ instructions: cpu.instructions, phase: phase(), mode: mode(), before: bytes, after: bytes },
      offset: start - at,
    });
  }

  /** The host has written in place of the guest. */
  onHostWrite({ start: from, end: to, ...write }: HostWrite): void {
    const { start, end } = this.#clip(from, to);
    if (this.#shadow.length === 0 || end <= start) return;
    const source = write.source === undefined ? {} : { source: write.source + start - from };
    const after = this.#parts.cpu.memory.copyOut(start, end - start);
    this.#report({ ...write, start, end, ...source }, after, start - from);
  }

  /** The host did something that may have written anywhere: what has changed is seen in the bytes. */
  onHostAction(by: 'firmware' | 'extract_kernel'): void {
    const { start } = this.#range;
    const end = by === 'firmware' ? Math.min(this.#range.end, REAL_MODE_END) : this.#range.end;
    if (this.#shadow.length === 0 || end <= start) return;
    const now = this.#parts.cpu.memory.view(start, end - start);
    const known = this.#shadow.subarray(0, end - start);
    if (equalBytes(now, known)) return;
    const differs = (byte: number, at: number): boolean => byte !== known[at];
    const [first, last] = [now.findIndex(differs), now.findLastIndex(differs) + 1];
    const write = { start: start + first, end: start + last, instruction: null, by };
    this.#report(write, now.slice(first, last), 0);
  }

  #report(write: ObservedWrite, after: Uint8Array, offset: number): void {
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
