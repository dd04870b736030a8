// The CPU as the rest of Bootscope sees it: Unicorn behind one small typed interface, whichever binding runs it.

import type { MemoryBlock, PhysicalMemory } from '../x86/physical-memory.ts';

/** The bindings of Unicorn: the system's library, and Unicorn.js. */
export type EngineName = 'native' | 'wasm';

/** Registers that can be read and written by name. Segment registers are selectors. */
export const REGISTER_NAMES = [
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
  'rip',
  'rflags',
  'cs',
  'ds',
  'es',
  'fs',
  'gs',
  'ss',
  'cr0',
  'cr2',
  'cr3',
  'cr4',
  'efer',
] as const;
export type RegisterName = (typeof REGISTER_NAMES)[number];

/** GDTR or IDTR: linear base address and limit in bytes minus one (Intel SDM 3A 2.4). */
export interface DescriptorTableRegister {
  readonly base: bigint;
  readonly limit: number;
}

/** Takes a hook away again. */
export type Unhook = () => void;

/** A memory access the engine could not serve. `address` is what the engine reports (linear or physical). */
export interface InvalidAccess {
  readonly type: 'read' | 'write' | 'fetch';
  readonly reason: 'unmapped' | 'protected';
  readonly address: bigint;
  readonly size: number;
}

/** Steps that were noted without a call; see `Cpu.hookSteps`. */
export interface Steps {
  /** All registers as a set of bits, the first the lowest. */
  readonly all: number;
  /**
   * What is noted: linear addresses, which registers were read before each instruction (those that the one before may have
   * changed), and their values one behind the other, as pairs of 32-bit words, low and high.
   */
  readonly count: number;
  readonly addresses: Uint32Array;
  readonly changes: Uint32Array;
  readonly values: Uint32Array;
  /** Words of `values` that are in use. */
  readonly used: number;
  /** Forgets what was noted. */
  clear(): void;
  /** The instruction that was called back for runs now: `flags` as in `remember`; null calls back for the next one, too. */
  setLast(address: number, flags: number | null, changes: number): void;
  /** Reads all registers before the next one that is noted, as is done of itself where the host has written one. */
  readAll(): void;
  /**
   * Notes the instruction instead of calling back, as long as these bytes are its code and `setMode` was last given the same
   * number. Flags: `REPEATS`, `QUIET` of `step-buffer.ts`. `changes`: the registers that it may change.
   */
  remember(address: number, code: Uint8Array, flags: number, changes: number): void;
  /** A number for whatever else an instruction's meaning depends on. */
  setMode(mode: number): void;
  unhook(): void;
}

/** A translated block: instructions that the engine runs through without looking up. */
export interface DecodedBlock {
  /** Offsets of its instructions, ascending from 0. */
  readonly starts: readonly number[];
  /** Offsets of those that access ports. */
  readonly ports: readonly number[];
  /** Offsets of CPUIDs. */
  readonly cpuids?: readonly number[];
  /** The last one is a repeated string instruction, whose further iterations are blocks of their own. */
  readonly repeats: boolean;
  /** Those that `hookInstruction` knows. */
  readonly special?: readonly SpecialInstruction[];
}
/** An instruction that engines do differently, or that draws on the host. */
export interface SpecialInstruction {
  readonly kind: 'rdtsc' | 'rdrand' | 'rdmsr' | 'wrmsr' | 'mov-cr4';
  /** From the block's start. */
  readonly offset: number;
  /** Bytes of it. */
  readonly length: number;
}
/** Decodes the code at [address, address + size), linear, as the CPU would run it now. */
export type BlockDecoder = (address: number, size: number) => DecodedBlock;

/** A CPU without its memory, as `saveState` keeps it. */
export interface CpuState {
  /** The engine's own, of this version of it. */
  readonly context: Uint8Array;
  /** As `Cpu.instructions`. */
  readonly instructions: number | null;
}

/** Whoever is called around each stretch of a `run` in which the engine runs code: its hooks are in place then. */
export interface EngineWatcher {
  before(): void;
  after(): void;
}

/** How a `run` ended. */
export type RunEnd =
  /** `stop()` was called, from a hook. */
  | { readonly kind: 'stopped' }
  /** The slice given to `run` was used up. */
  | { readonly kind: 'slice' }
  /** HLT was executed. */
  | { readonly kind: 'halted' }
  /** The engine gave up: `error` is Unicorn's own text, or, with `broken`, says what it broke down of. */
  | { readonly kind: 'error'; readonly error: string; readonly broken?: true };

/**
 * One Unicorn instance, opened in 64-bit mode. All hooks run synchronously inside `run`; a hook may
 * read and write registers and RAM and call `stop()`; an exception thrown in a hook ends the run and is
 * thrown by `run`. Code and block hook addresses are linear.
 */
export interface Cpu {
  readonly engine: EngineName;
  /** Unicorn's version, `2.0.1`. */
  readonly engineVersion: string;

  /**
   * Maps guest-physical [address, address + size) to a block shared with JavaScript, zero-filled; page-aligned. Pages that
   * nobody touches cost no memory where the host can do that.
   */
  mapRam(address: number, size: number): void;
  /** The same for what is no RAM: it is not one of `blocks`, and no part of `memory`. @returns its bytes */
  mapDevice(address: number, size: number): Uint8Array;
  /** What was mapped as RAM, by address. */
  readonly blocks: readonly MemoryBlock[];
  /** Runs of RAM outside of which all is zeroes, by address; all RAM where the host does not tell what was touched. */
  touched(): readonly MemoryBlock[];
  /**
   * The bytes [address, address + length), shared with the guest: in one block, and at most 4 GiB. Without `length` all from
   * the start of a block, up to that. Take them anew after `run` (a WASM heap may have moved).
   */
  ram(address: number, length?: number): Uint8Array;
  /** All of it, by address. */
  readonly memory: PhysicalMemory;

  readRegister(name: RegisterName): bigint;
  /**
   * Writes a register. Segment registers, CR0 and EFER: only the stored value changes, the hidden state
   * does not follow (Unicorn in 64-bit mode); use guest code to switch modes.
   * Writing `rip` in a hook makes the CPU go on there; in real and 16-bit mode it is the offset in CS.
   */
  writeRegister(name: RegisterName, value: bigint): void;
  /** Reads several registers in one call into `values[i]`; the cheap way in a hook. */
  readRegisters(names: readonly RegisterName[], values: BigUint64Array): void;
  /** Stores to pages that are mapped without execution are many times as fast as others. */
  readonly storesFasterToData: boolean;
  /**
   * Sets or clears EFER.NXE, also where the engine's WRMSR would not.
   * @returns false, with nothing changed, where this build of the engine does not show it
   */
  setNoExecute(enabled: boolean): boolean;
  /**
   * Attributes of the code segment as it was loaded, at the bits that they have in a descriptor's second doubleword (Intel
   * SDM 3A 3.4.5); null where this build of the engine does not show them.
   */
  readCodeAttributes(): number | null;
  /**
   * Base addresses of the segments as they were loaded, by their numbers: ES, CS, SS, DS, FS, GS. Where this build of the engine
   * does not show them, what the selectors mean in real mode, and 0 elsewhere.
   */
  readSegmentBases(): readonly bigint[];
  readDescriptorTable(name: 'gdtr' | 'idtr'): DescriptorTableRegister;
  writeDescriptorTable(name: 'gdtr' | 'idtr', value: DescriptorTableRegister): void;

  /**
   * Runs from the current RIP until a hook stops it, HLT, an error, or the slice ends.
   * `sliceMilliseconds` bounds the time without a return to the caller (approximately); 0 or absent: no bound.
   * `instructions` ends it exactly behind so many, where they are counted; hooks of the next one are called once, in the
   * next run. Before that `further` is asked how many more it is to run without an end; 0 for none. It is called in a hook
   * before a block that would go beyond them, and may read registers only.
   */
  run(options?: {
    readonly sliceMilliseconds?: number;
    readonly instructions?: number;
    readonly further?: () => number;
  }): RunEnd;
  /** Null for nobody. */
  watcher: EngineWatcher | null;
  /** Ends the current `run` after the running hook. RIP is then the next instruction to execute. */
  stop(): void;

  /**
   * Called before each instruction whose linear address is in [begin, end]. To trap the target of a jump,
   * call or return, `hookBlock` is the cheaper way: while any code hook exists, slices and some stops need a
   * hook on every block.
   */
  hookCode(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook;
  /**
   * Called before each instruction as a code hook everywhere, but for those that are remembered: they are noted with the
   * registers `names` (without RIP and EFER), and handed over by a call of `full` when the buffer is full, or before `hook` is
   * called. Several times as fast as a code hook. Once for a CPU with RAM at address 0; null where this host cannot.
   */
  hookSteps(
    names: readonly RegisterName[],
    hook: (address: bigint, size: number) => void,
    full: () => void,
  ): Steps | null;
  /**
   * Called before each translated block that starts in [begin, end]; `size` in bytes. While instructions are counted, other blocks
   * cost nothing for it, and the iterations of a repeated string instruction are one block.
   */
  hookBlock(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook;
  /**
   * Called for `INT n` (RIP already behind it) and for exceptions (vector below 32, RIP at the faulting
   * instruction). The engine delivers nothing by itself: what the hook leaves in the registers goes on.
   * `exception` is null for `INT n`; its error code is 0 for exceptions that have none. Memory accesses and
   * divisions that fault in the middle of a block leave an older RIP with WASM, unless a code hook covers them.
   */
  hookInterrupt(hook: (vector: number, exception: { readonly errorCode: number } | null) => void): Unhook;
  /**
   * Of several the first answers. In IN and OUT hooks RIP is an earlier instruction's, unless a code hook covers everything
   * or instructions are counted.
   */
  hookIn(hook: (port: number, size: 1 | 2 | 4) => number): Unhook;
  hookOut(hook: (port: number, size: 1 | 2 | 4, value: number) => void): Unhook;
  /** Replaces CPUID; the hook gets leaf (EAX) and subleaf (ECX) and returns [EAX, EBX, ECX, EDX]. */
  hookCpuid(hook: (leaf: number, subleaf: number) => readonly [number, number, number, number]): Unhook;
  /**
   * Replaces RDTSC; with Unicorn before 2.1.2 while instructions are counted. The hook returns the 64-bit time stamp.
   */
  hookRdtsc(hook: () => bigint): void;
  /** Called before each guest write into [begin, end]; RIP is the writing instruction's, the flags may be older. */
  hookMemoryWrite(
    begin: bigint,
    end: bigint,
    hook: (address: bigint, size: number, value: bigint) => void,
  ): Unhook;
  /** Called before each guest read in [begin, end], fetches of code not among them; RIP as for writes. */
  hookMemoryRead(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook;
  /** Called for an access to unmapped or protected memory. Return true to retry it, false to end the run. */
  hookInvalidAccess(hook: (access: InvalidAccess) => boolean): Unhook;

  /**
   * Counts executed instructions from here on; called once, between runs, before code or block hooks are added, with RAM
   * at address 0. Costs a call of `decode` for each block that is new, where no machine code can do without.
   */
  countInstructions(decode: BlockDecoder): void;
  /**
   * Called before each instruction of a kind, wherever it runs; one hook a kind, given before instructions are counted and
   * called from then on. `length` in bytes.
   */
  hookInstruction(kind: SpecialInstruction['kind'], hook: (address: bigint, length: number) => void): void;
  /** Called before code of zeroes runs for the first time where it lies, at least 64 bytes; while instructions are counted. */
  hookEmptyCode(hook: (address: number) => void): void;
  /**
   * Called before each block that runs for the first time where it lies (and now and then again), while instructions are
   * counted: cheaper than `hookBlock` by far. Added and taken away between runs, or before the next restart of one.
   */
  hookNewCode(hook: (address: number) => void): Unhook;
  /**
   * Called before each block, from the next one on. While instructions are counted nothing is translated anew for it: for a look
   * at a few blocks it is cheaper than `hookBlock`, for many it is dearer.
   */
  hookEachBlock(hook: (address: number) => void): Unhook;
  /**
   * Instructions executed since then, before the one that a hook is called for or that is to run next; null where they
   * are not counted. A repeated string instruction is one; so is what a code hook skips by writing RIP, and one that
   * raises an exception. In CPUID hooks the rest of the block is in it, too.
   */
  readonly instructions: number | null;
  /** Adds what the host did in place of so many instructions. */
  addInstructions(count: number): void;

  /** Between runs: all that the CPU holds, and the count of instructions. Memory and hooks are not in it. */
  saveState(): CpuState;
  /**
   * Between runs: puts back what `saveState` of this CPU or another of the same engine and version has kept. Memory is to be put
   * back, too, and what was written over code told to `invalidateCode`.
   */
  restoreState(state: CpuState): void;

  /** Drops translated code of [address, address + length); call it after each host write over code that may have run. */
  invalidateCode(address: number, length: number): void;
  /** Drops all translated code, between runs. */
  invalidateAllCode(): void;

  /** Frees the instance and its RAM blocks; arrays returned by `mapRam` must not be used any more. */
  close(): void;
}
