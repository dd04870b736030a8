// A boot that is held: opened, run until something, stepped, looked at, resumed, gone back in, asked for its trace at any stop.

import type { Machine } from '../machine/machine.ts';
import type {
  BootEvent,
  BootTrace,
  CpuMode,
  MemoryRegion,
  PhaseName,
  RegisterSnapshot,
} from '../trace/boot-trace.ts';
import type { Place } from '../trace/place.ts';
import type { PageTableWalk } from '../x86/page-tables.ts';
import type { BootOptions } from './options.ts';

/** Where a boot stands: before the instruction at `address`. */
export interface Position {
  /** Null before the first phase of an entry behind setup. */
  readonly phase: PhaseName | null;
  /** Linear address of the instruction that runs next. */
  readonly address: bigint;
  readonly mode: CpuMode;
  /** Executed since the entry; null where they are not counted. A boot is deterministic: this is a position in it. */
  readonly instructions: number | null;
}

/** Bytes that were written, physical [start, end), and by what. */
export interface ObservedWrite {
  readonly start: number;
  readonly end: number;
  /** Linear address of the instruction; null where the host wrote in place of the guest. */
  readonly instruction: bigint | null;
  /** `guest` for an instruction; else what the host did: `extract_kernel`, `firmware`, `copy`, `fill`. */
  readonly by: 'guest' | 'firmware' | 'copy' | 'fill' | 'extract_kernel';
}

/** Why a boot stands where it stands. */
export type StopCause =
  /** It was opened and nothing has run. */
  | { readonly reason: 'opened' }
  /** The phase that `phase` names has begun. */
  | { readonly reason: 'phase' }
  /** A place that is an address. */
  | { readonly reason: 'breakpoint'; readonly place: Place }
  /** Something was written in a watched range; the write has been done. */
  | { readonly reason: 'watchpoint'; readonly write: ObservedWrite }
  /** So many instructions have been executed. */
  | { readonly reason: 'count' }
  /** Just before the instruction of the event where instructions are counted, else behind it. */
  | { readonly reason: 'event'; readonly event: BootEvent }
  | { readonly reason: 'budget'; readonly budget: 'instructions' | 'seconds' }
  | { readonly reason: 'aborted' }
  /** The jump into the kernel was reached, or the guest stopped: then `stopped` says why. It does not run on. */
  | { readonly reason: 'ended'; readonly stopped: string | null };
export type StopReason = StopCause['reason'];
export type Stop = Position & StopCause;

/** A place, as data or in its grammar: `startup_64`, `0x100000`, `#4711`, `bios:3`. */
export type PlaceOrText = Place | string;

/** Physical [start, end). */
export interface WatchedRange {
  readonly start: number;
  readonly end: number;
}

/** What ends a run before the end of the boot, whichever comes first. */
export interface RunOptions {
  readonly until?: PlaceOrText | readonly PlaceOrText[];
  /** Stops behind the first write into one of these. Slow: every instruction is looked at. */
  readonly writes?: WatchedRange | readonly WatchedRange[];
  /** At most so many more. */
  readonly instructions?: number;
  /** Host time. Where such a run ends is not determined by the boot. */
  readonly seconds?: number;
  readonly signal?: AbortSignal;
}

/** Physical memory of a held boot, little endian. @throws BootscopeError `machine-address` outside of RAM */
export interface SessionMemory {
  /** Bytes of RAM, from address 0. */
  readonly size: number;
  /** A copy of [address, address + length). */
  read(address: number | bigint, length: number): Uint8Array;
  /** A patch: the guest goes on with it. Going back forgets it. */
  write(address: number | bigint, bytes: Uint8Array): void;
  u8(address: number | bigint): number;
  u16(address: number | bigint): number;
  u32(address: number | bigint): number;
  u64(address: number | bigint): bigint;
  /** Physical address of a linear one, as the CPU's page tables map it now; null where they do not. */
  physical(linear: number | bigint): number | null;
}

/**
 * One boot, held between two instructions. `run`, `step` and `goTo` may not overlap. Going back runs the boot again, on another
 * machine: what was taken from `machine` and `memory` before is stale then.
 */
export interface BootSession extends Disposable {
  readonly options: BootOptions;
  readonly machine: Machine;
  /** Where it stands, and why. */
  readonly stop: Stop;
  readonly phase: PhaseName | null;
  /** As `Position.instructions`. */
  readonly instructions: number | null;
  /** As they are now. */
  readonly registers: RegisterSnapshot;
  readonly memory: SessionMemory;
  /** So far. */
  readonly events: readonly BootEvent[];
  /** Address of the protected-mode code that runs now, as loaded or as copied; null before it runs. */
  readonly zo: number | null;

  /**
   * Runs until one of the options says stop, or to the end of the boot.
   * @throws BootscopeError `place` for a text that is none, `session-count` for a count where this host cannot count,
   *   `session-closed`
   */
  run(options?: RunOptions): Promise<Stop>;
  /** Executes so many instructions; a repeated string instruction is one. */
  step(instructions?: number): Promise<Stop>;
  /**
   * Goes to where so many instructions have been executed (or another place, from the entry), backwards by running again.
   */
  goTo(place: number | PlaceOrText): Promise<Stop>;
  /** Stops at the beginning of each phase from here on, and at the end. */
  phases(options?: Pick<RunOptions, 'signal'>): AsyncIterableIterator<Stop>;
  /** What lies where now. */
  layout(): readonly MemoryRegion[];
  /** What CR3 points to now; null without paging. */
  pageTables(): PageTableWalk | null;
  /** What was observed up to here. */
  trace(): BootTrace;
  /** Frees the machine; what was read from it stays, `machine` and `memory` do not. */
  close(): void;
}
