// What a stop of a held boot is, and what a run may be told to stop for. Data only.

import type { WrittenRange } from '../decompressor/extraction.ts';
import type { BootEvent, CpuMode, PhaseName } from '../trace/boot-trace.ts';
import type { Place } from '../trace/place.ts';

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

/** Bytes that were written or read, physical [start, end), and by what. */
export interface WatchedAccess {
  readonly access: 'read' | 'write';
  readonly start: number;
  readonly end: number;
  /** Linear address of the instruction; null where the host did it in place of the guest, and no single one would have. */
  readonly instruction: bigint | null;
  /** `guest` for an instruction; else what the host did: `extract_kernel`, `firmware`, `copy`, `fill`. */
  readonly by: 'guest' | 'firmware' | 'copy' | 'fill' | 'extract_kernel';
  /** Of what a copy wrote, where the byte at `start` came from. */
  readonly source?: number;
  /** Of what extract_kernel wrote, what it is; `segment` is the number of the program header. */
  readonly role?: WrittenRange['role'];
  readonly segment?: number;
}

/** Why a boot stands where it stands. */
export type StopCause =
  /** It was opened and nothing has run. */
  | { readonly reason: 'opened' }
  /** The phase that `phase` names has begun. */
  | { readonly reason: 'phase' }
  /** A place that is an address. */
  | { readonly reason: 'breakpoint'; readonly place: Place }
  /** Something in a watched range was written or read; that has been done. */
  | { readonly reason: 'watchpoint'; readonly access: WatchedAccess }
  /** So many instructions have been executed. */
  | { readonly reason: 'count' }
  /** Just before the instruction of the event where instructions are counted, else behind it. */
  | { readonly reason: 'event'; readonly event: BootEvent }
  | { readonly reason: 'budget'; readonly budget: 'instructions' | 'seconds' }
  | { readonly reason: 'aborted' }
  /** The jump into the kernel was reached, or the guest stopped: then `stopped` says why. It does not run on. */
  | { readonly reason: 'ended'; readonly stopped: string | null };
/** The reasons for which a boot stands, in a word. */
export type StopReason = StopCause['reason'];
/** Where a boot stands and why. */
export type Stop = Position & StopCause;

/** A place, as data or in its grammar: `startup_64`, `0x100000`, `#4711`, `bios:3`, `port=0x3f8`. */
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
  /** Behind the first read of one of these, likewise; what firmware reads is not among them. */
  readonly reads?: WatchedRange | readonly WatchedRange[];
  /** At most so many more. */
  readonly instructions?: number;
  /** Host time. Where such a run ends is not determined by the boot. */
  readonly seconds?: number;
  readonly signal?: AbortSignal;
}
