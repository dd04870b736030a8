// Decides where a run of a held boot ends: before an instruction, whatever other hooks stand on it. Every hook that does something
// asks first, so that a boot that is held somewhere has had no effect there yet, and goes on as if nobody had looked.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import type { BootEvent, PhaseName } from '../trace/boot-trace.ts';
import { type EventChoice, isChosen } from '../trace/event-choice.ts';
import type { Place } from '../trace/place.ts';
import type { StopCause, WatchedAccess, WatchedRange } from './stop.ts';

const EVERYWHERE = 0xffff_ffff_ffff_ffffn;
/** Looking at each of so few instructions is cheaper than to run up to them first. */
const FEW = 2000;
/** What firmware writes is found by comparing; of more bytes than this it is not looked for. */
const MOST_COMPARED = 1 << 16;

/** What ends a run. */
export interface HoldConditions {
  readonly addresses: readonly (Place & { kind: 'address' })[];
  readonly phases: readonly PhaseName[];
  readonly events: readonly (Place & { kind: 'event' })[];
  /** Of events whose number is null, the least count that is wanted. */
  readonly eventsFrom: number;
  readonly writes: readonly WatchedRange[];
  readonly reads: readonly WatchedRange[];
  /** Total count to stop at; null for none. */
  readonly count: number | null;
  /** What is said of a stop for `count`. */
  readonly countCause: StopCause;
}

/** What is asked and told where the host does something in place of the guest. */
export interface HostSteps {
  before(address: number): boolean;
  readonly room: number;
  /** To be told before anything is written. */
  onHostRead(read: HostAccess): void;
  onHostWrite(write: HostAccess): void;
}

/** What the host has written or read in place of the guest; which of the two, says the call that tells of it. */
export type HostAccess = Omit<WatchedAccess, 'access'> & {
  readonly by: Exclude<WatchedAccess['by'], 'guest'>;
};

/** Whoever is told of what the host does to memory, whether the boot is held for it or not. */
export interface HostAccessListener {
  onHostRead(read: HostAccess): void;
  onHostWrite(write: HostAccess): void;
  onHostAction(by: 'firmware' | 'extract_kernel'): void;
}

/** For a boot that nobody holds. */
export const NOT_HELD: HostSteps = {
  before: () => false,
  room: Number.POSITIVE_INFINITY,
  onHostRead: () => {},
  onHostWrite: () => {},
};

export class Hold implements HostSteps {
  readonly #cpu: Cpu;
  readonly #held: (address: number) => void;
  readonly listeners = new Set<HostAccessListener>();
  #conditions: HoldConditions | null = null;
  readonly #breakpoints = new Map<number, { readonly place: Place; readonly unhook: Unhook }>();
  /** Where the last run ended: it is not held there again. Without a count only the first look at the address is let through. */
  #left: { readonly address: number; readonly count: number | null } | null = null;
  #unhookAll: Unhook | null = null;
  /** The total count from which on each instruction is looked at, for the sake of the count. */
  #approach: number | null = null;
  #unhookAccesses: Unhook[] = [];
  #compared: Uint8Array[] | null = null;
  #access: WatchedAccess | null = null;
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
    if (this.#access !== null) {
      const access = this.#access;
      this.#access = null;
      return { reason: 'watchpoint', access };
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
    this.#access = null;
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
      const unhook = this.#cpu.hookMemoryWrite(BigInt(start), BigInt(end - 1), (where, size) =>
        this.#onGuestAccess('write', Number(where), size),
      );
      this.#unhookAccesses.push(unhook);
    }
    for (const { start, end } of conditions.reads) {
      const unhook = this.#cpu.hookMemoryRead(BigInt(start), BigInt(end - 1), (where, size) =>
        this.#onGuestAccess('read', Number(where), size),
      );
      this.#unhookAccesses.push(unhook);
    }
    this.#compare();
  }

  /** Hooks for a count and for accesses; that on each instruction stays from run to run while it is needed, which makes steps cheap. */
  #watchCount({ count, writes, reads }: HoldConditions): void {
    const now = this.#cpu.instructions ?? 0;
    const everything = writes.length + reads.length > 0 || (count !== null && count - now <= FEW);
    if (everything) this.#watchAll();
    else {
      this.#unhookAll?.();
      this.#unhookAll = null;
    }
    this.#approach = everything || count === null ? null : count - 1;
  }

  /** Each instruction is looked at. */
  get watchesAll(): boolean {
    return this.#unhookAll !== null;
  }

  /** The total count of instructions that the CPU may run to and no further; null where nobody waits for a count. */
  get limit(): number | null {
    return this.#approach;
  }

  /** The CPU stands between two runs: near the count each instruction is looked at. */
  onSlice(): void {
    if (this.#approach === null || this.#cpu.instructions! < this.#approach) return;
    this.#approach = null;
    this.#watchAll();
  }

  #watchAll(): void {
    this.#unhookAll ??= this.#cpu.hookCode(0n, EVERYWHERE, (address) => {
      this.before(Number(address));
    });
  }

  /** The run is over. Breakpoints stay until the next one says what it wants. */
  end(): void {
    this.#conditions = null;
    this.#approach = null;
    for (const unhook of this.#unhookAccesses.splice(0)) unhook();
    this.#compared = null;
  }

  /** A phase has begun; the CPU stands still. */
  onPhase(name: PhaseName): boolean {
    return this.#conditions?.phases.includes(name) ?? false;
  }

  /**
   * @param count - how many of those that are chosen there have been, this one included
   * @param chosenAt - the event where what was chosen of it happened
   */
  onEvent(
    event: BootEvent,
    count: (choice: EventChoice) => number,
    chosenAt: (choice: EventChoice) => BootEvent,
  ): void {
    for (const each of this.#conditions?.events ?? []) {
      if (!isChosen(event, each)) continue;
      const found = chosenAt(each);
      const { instructions } = found;
      // The next one is none that the boot stands before, or in the middle of.
      const wanted =
        each.number === null
          ? instructions === null || instructions >= this.#conditions!.eventsFrom
          : count(each) === each.number;
      if (wanted) this.hold({ reason: 'event', event: found });
    }
  }

  #onGuestAccess(access: 'read' | 'write', start: number, size: number): void {
    if (this.#conditions === null) return;
    this.#access ??= { access, start, end: start + size, instruction: BigInt(this.#last), by: 'guest' };
  }

  onHostRead(read: HostAccess): void {
    for (const listener of this.listeners) listener.onHostRead(read);
    this.#lookAtHost({ access: 'read', ...read }, this.#conditions?.reads);
  }

  onHostWrite(write: HostAccess): void {
    for (const listener of this.listeners) listener.onHostWrite(write);
    this.#lookAtHost({ access: 'write', ...write }, this.#conditions?.writes);
  }

  #lookAtHost(access: WatchedAccess, watched: readonly WatchedRange[] = []): void {
    const hit = watched.some((range) => range.start < access.end && access.start < range.end);
    if (hit) this.#access ??= access;
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
      const written = { start: range.start + first, end: range.start + last + 1 };
      this.#lookAtHost({ access: 'write', ...written, by: 'firmware', instruction: null }, writes);
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

  /** An access that was seen while the CPU stood still, which no instruction follows that would tell of it. */
  takeAccess(): void {
    if (this.#access === null || this.#found !== null) return;
    this.#found = { reason: 'watchpoint', access: this.#access };
    this.#access = null;
  }
}
