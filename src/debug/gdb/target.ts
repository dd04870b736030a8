// What the remote protocol needs of the machine that is debugged. The session adapts to it; tests have a small machine of their own.

import type { GdbRegisterName } from './registers.ts';

/** What stops the CPU when it is come to or accessed; addresses are linear. */
export interface GdbPoint {
  readonly kind: 'software' | 'hardware' | 'write' | 'read' | 'access';
  readonly address: bigint;
  /** Bytes that are watched; of a breakpoint without meaning. */
  readonly length: number;
}

/** Why a target has stopped. */
export type GdbStop =
  /** Stepped, or as asked for. */
  | { readonly kind: 'step' }
  | { readonly kind: 'breakpoint'; readonly point: 'software' | 'hardware' }
  /** `address` is the byte of the watched range that was accessed first. */
  | { readonly kind: 'watchpoint'; readonly point: 'write' | 'read' | 'access'; readonly address: bigint }
  | { readonly kind: 'interrupted' }
  /** At the boot's first instruction, on the way back. */
  | { readonly kind: 'beginning' }
  /** At the kernel's entry, or where the guest stopped for good; `text` says which. */
  | { readonly kind: 'end'; readonly text: string };

/** How a target is to run on. */
export interface GdbResume {
  readonly direction: 'forward' | 'backward';
  /** One instruction; else until something stops it. */
  readonly step: boolean;
}

/** A piece of the physical address space, for the debugger's memory map. */
export interface GdbMemoryRange {
  readonly start: bigint;
  readonly length: bigint;
  readonly type: 'ram' | 'rom';
}

/** A machine that can be debugged. */
export interface GdbTarget {
  /** Null for a register that this machine does not show. */
  readRegister(name: GdbRegisterName): bigint | null;
  /** @returns null when it is written, else one sentence why not */
  writeRegister(name: GdbRegisterName, value: bigint): string | null;
  /** From a linear address on; fewer bytes than asked for where memory ends, none where it does not begin there. */
  readMemory(address: bigint, length: number): Uint8Array;
  /** @returns whether all of it was memory; nothing is written otherwise */
  writeMemory(address: bigint, bytes: Uint8Array): boolean;
  /** Which kinds of points this machine can stop for; the debugger is told that the others do not exist. */
  readonly pointKinds: ReadonlySet<GdbPoint['kind']>;
  /** All points that are set now; replaces those before. */
  setPoints(points: readonly GdbPoint[]): void;
  /** Runs, forward or back, and tells where it stopped. */
  resume(how: GdbResume): Promise<GdbStop>;
  /** Asks a running `resume` to end soon, with `interrupted`. */
  interrupt(): void;
  /** A command behind `monitor`; its answer, with line ends. Errors are answers, too. */
  monitor(command: string): Promise<string>;
  memoryMap(): readonly GdbMemoryRange[];
  /** Where the machine is, in a few words: `long64, phase startup_64`. */
  status(): string;
}
