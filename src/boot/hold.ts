// Decides where a run of a held boot ends: before an instruction, whatever other hooks stand on it. Every hook that does something
// asks first, so that a boot that is held somewhere has had no effect there yet, and goes on as if nobody had looked.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import type { BootEvent, PhaseName } from '../trace/boot-trace.ts';
import type { Place } from '../trace/place.ts';
import type { ObservedWrite, StopCause, WatchedRange } from './stop.ts';

const EVERYWHERE = 0xffff_ffff_ffff_ffffn;
/** Looking at each of so few instructions is cheaper than to look at the blocks first. */
const FEW = 2000;
/** What firmware writes is found by comparing; of more bytes than this it is not looked for. */
const MOST_COMPARED = 1 << 16;

/** What ends a run. */
export interface HoldConditions {
  readonly addresses: readonly (Place & { kind: 'address' })[];
  readonly phases: readonly PhaseName[];
  readonly events: readonly (Place & { kind: 'event' })[];
  readonly writes: readonly WatchedRange[];
  /** Total count to stop at; null for none. */
  readonly count: number | null;
  /** What is said of a stop for `count`. */
  readonly countCause: StopCause;
}

/** What is asked and told where the host does something in place of the guest. */
export interface HostSteps {
  before(address: number): boolean;
  readonly room: number;
  onHostWrite(write: HostWrite): void;
}

/** What the host has written in place of the guest. */
export type HostWrite = ObservedWrite & { readonly by: Exclude<ObservedWrite['by'], 'guest'> };

/** Whoever is told of what the host does to memory, whether the boot is held for it or not. */
export interface HostWriteListener {
  onHostWrite(write: HostWrite): void;
  onHostAction(by: 'firmware' | 'extract_kernel'): void;
}

/** For a boot that nobody holds. */
export const NOT_HELD: HostSteps = {
  before: () => false,
  room: Number.POSITIVE_INFINITY,
  onHostWrite: () => {},
};

export class Hold implements HostSteps {
  readonly #cpu: Cpu;
  readonly #held: (address: number) => void;
  readonly listeners = new Set<HostWriteListener>();
  #conditions: HoldConditions | null = null;
  readonly #breakpoints = new Map<number, { readonly place: Place; readonly unhook: Unhook }>();
  /** Where the last run ended: it is not held there again. Without a count only the first look at the address is let through. */
  #left: { readonly address: number; readonly count: number | null } | null = null;
  #unhookAll: Unhook | null = null;
  #unhookBlocks: Unhook | null = null;
  #unhookWrites: Unhook[] = [];
  #compared: Uint8Array[] | null = null;
  #write: ObservedWrite | null = null;
  /** The instruction that was looked at last. */
  #last = 0;
  #found: StopCause | null = null;

  /**
   * @param held - told of the instruction that the boot is held before: hooks on it may not be called
   */
  constructor(cpu: Cpu, held: (address: number) => void) {
    this.#cpu = cpu;
    this.#held = held;
  }

  /** Why the boot is to be held where it is; null where it is not. */
  get found(): StopCause | null {
    return this.#found;
  }

  /** The CPU stops where it is, or before the next instruction. */
  hold(cause: StopCause): void {
    this.#found ??= cause;
    this.#cpu.stop();
  }

  /**
   * Whether the boot is held before the instruction at `address`, for each hook on it that does something: it then does nothing,
   * and is called again when the boot goes on.
   */
  before(address: number): boolean {
    if (this.#conditions === null) return false;
    if (this.#found !== null) return true;
    const cause = this.#causeAt(address);
    this.#last = address;
    if (cause === null) return false;
    this.hold(cause);
    this.#held(address);
    return true;
  }

  #causeAt(address: number): StopCause | null {
    if (this.#write !== null) {
      const write = this.#write;
      this.#write = null;
      return { reason: 'watchpoint', write };
    }
    const { count, countCause } = this.#conditions!;
    const now = this.#cpu.instructions;
    if (count !== null && now !== null && now >= count) return countCause;
    const left = this.#left;
    if (left !== null) {
      if (left.address === address && (left.count === null || left.count === now)) {
        if (left.count === null) this.#left = null;
        return null;
      }
      this.#left = null;
    }
    const breakpoint = this.#breakpoints.get(address);
    return breakpoint === undefined ? null : { reason: 'breakpoint', place: breakpoint.place };
  }

  /** How many instructions the host may do at once in place of the guest. */
  get room(): number {
    const count = this.#conditions?.count ?? null;
    return count === null ? Number.POSITIVE_INFINITY : Math.max(0, count - (this.#cpu.instructions ?? 0));
  }

  /** @param address - linear, of the instruction that runs next */
  begin(conditions: HoldConditions, address: number): void {
    this.#found = null;
    this.#write = null;
    this.#conditions = conditions;
    this.#left = { address, count: this.#cpu.instructions };
    const wanted = new Set(conditions.addresses.map((place) => place.address));
    for (const [known, { unhook }] of this.#breakpoints) {
      if (wanted.has(known)) continue;
      unhook();
      this.#breakpoints.delete(known);
    }
    for (const place of conditions.addresses) {
      if (this.#breakpoints.has(place.address)) continue;
      const at = BigInt(place.address);
      const unhook = this.#cpu.hookCode(at, at, (where) => {
        this.before(Number(where));
      });
      this.#breakpoints.set(place.address, { place, unhook });
    }
    this.#watchCount(conditions);
    for (const { start, end } of conditions.writes) {
      this.#unhookWrites.push(
        this.#cpu.hookMemoryWrite(BigInt(start), BigInt(end - 1), (where, size) =>
          this.#onGuestWrite(Number(where), size),
        ),
      );
    }
    this.#compare();
  }

  /** Hooks for a count and for writes; that on each instruction stays from run to run while it is needed, which makes steps cheap. */
  #watchCount({ count, writes }: HoldConditions): void {
    const now = this.#cpu.instructions ?? 0;
    const everything = writes.length > 0 || (count !== null && count - now <= FEW);
    if (everything) this.#watchAll();
    else {
      this.#unhookAll?.();
      this.#unhookAll = null;
    }
    if (everything || count === null) return;
    this.#unhookBlocks = this.#cpu.hookBlock(0n, EVERYWHERE, (_, size) => {
      // A block has fewer instructions than bytes.
      if (this.#unhookAll === null && this.#cpu.instructions! + size >= count) this.#watchAll();
    });
  }

  #watchAll(): void {
    this.#unhookAll ??= this.#cpu.hookCode(0n, EVERYWHERE, (address) => {
      this.before(Number(address));
    });
  }

  /** The run is over. Breakpoints stay until the next one says what it wants. */
  end(): void {
    this.#conditions = null;
    this.#unhookBlocks?.();
    this.#unhookBlocks = null;
    for (const unhook of this.#unhookWrites.splice(0)) unhook();
    this.#compared = null;
  }

  /** A phase has begun; the CPU stands still. */
  onPhase(name: PhaseName): boolean {
    return this.#conditions?.phases.includes(name) ?? false;
  }

  /** @param number - which of its kind it is, from 1 */
  onEvent(event: BootEvent, number: number): void {
    const wanted = this.#conditions?.events.some(
      (each) => each.event === event.kind && each.number === number,
    );
    if (wanted) this.hold({ reason: 'event', event });
  }

  #onGuestWrite(start: number, size: number): void {
    if (this.#conditions === null) return;
    this.#write ??= { start, end: start + size, instruction: BigInt(this.#last), by: 'guest' };
  }

  /** The host has written in place of the guest. */
  onHostWrite(write: HostWrite): void {
    for (const listener of this.listeners) listener.onHostWrite(write);
    this.#lookAtHostWrite(write);
  }

  #lookAtHostWrite(write: HostWrite): void {
    const hit = this.#conditions?.writes.some((range) => range.start < write.end && write.start < range.end);
    if (hit) this.#write ??= write;
  }

  /** The trapped extract_kernel is done: not all that it writes has been told one by one. */
  onExtracted(): void {
    for (const listener of this.listeners) listener.onHostAction('extract_kernel');
  }

  /** Firmware was called: what it wrote is seen in what has changed. */
  onFirmware(): void {
    for (const listener of this.listeners) listener.onHostAction('firmware');
    if (this.#compared === null) return;
    const { writes } = this.#conditions!;
    for (const [index, range] of writes.entries()) {
      const before = this.#compared[index]!;
      const now = this.#cpu.memory.viewUpTo(range.start, range.end - range.start);
      const first = now.findIndex((byte, at) => byte !== before[at]);
      if (first < 0) continue;
      const last = now.findLastIndex((byte, at) => byte !== before[at]);
      this.#lookAtHostWrite({
        ...{ start: range.start + first, end: range.start + last + 1 },
        ...{ by: 'firmware', instruction: null },
      });
    }
    this.#compare();
  }

  #compare(): void {
    const writes = this.#conditions?.writes ?? [];
    const bytes = writes.reduce((sum, { start, end }) => sum + end - start, 0);
    const few = bytes > 0 && bytes <= MOST_COMPARED;
    this.#compared = few
      ? writes.map(({ start, end }) => this.#cpu.memory.viewUpTo(start, end - start).slice())
      : null;
  }

  /** A write that was seen while the CPU stood still, which no instruction follows that would tell of it. */
  takeWrite(): void {
    if (this.#write === null || this.#found !== null) return;
    this.#found = { reason: 'watchpoint', write: this.#write };
    this.#write = null;
  }
}
