// The raw uc_* calls that a binding of Unicorn must offer; the engine above it is the same for every binding.

import type { ByteRange } from '../host/touched-pages.ts';
import type { EngineName } from './cpu.ts';
import type { StepBuffer } from './step-buffer.ts';

/**
 * An address in the engine's own memory (the process for the native library, the heap for WASM), or a
 * handle that the engine gave out. Always a safe integer.
 */
export type Pointer = number;

/** A `uc_err`; 0 is UC_ERR_OK. */
export type UcError = number;

/** The C signatures of Unicorn's hook callbacks, without the leading `uc` and the trailing user data. */
export interface HookShapes {
  /** UC_HOOK_CODE, UC_HOOK_BLOCK. The address is unsigned; the size in bytes. */
  readonly code: (address: bigint, size: number) => void;
  /** UC_HOOK_INTR. */
  readonly interrupt: (vector: number) => void;
  /** UC_HOOK_INSN with IN: returns the value read, unsigned. */
  readonly in: (port: number, size: number) => number;
  /** UC_HOOK_INSN with OUT: the value is unsigned. */
  readonly out: (port: number, size: number, value: number) => void;
  /** UC_HOOK_INSN with CPUID or RDTSC: a result of 1 skips the instruction. */
  readonly instruction: () => number;
  /** UC_HOOK_MEM_READ and _WRITE: `type` is a `uc_mem_type`; address and value are unsigned. */
  readonly memory: (type: number, address: bigint, size: number, value: bigint) => void;
  /** UC_HOOK_MEM_INVALID and its parts: true to try the access again. */
  readonly invalid: (type: number, address: bigint, size: number, value: bigint) => boolean;
}
export type HookShape = keyof HookShapes;

/** `2.1.4` of what `uc_version` gives. */
export function versionText(version: number): string {
  return `${version >>> 24}.${(version >>> 16) & 0xff}.${(version >>> 8) & 0xff}`;
}

/**
 * One Unicorn instance behind raw calls. No method throws for a `uc_err`; it returns it, and the engine
 * judges. Callbacks given to `hookAdd` never throw (the engine wraps them), and may call any method but
 * `open`, `close`, `emuStart` and `hookDel`.
 */
export interface Transport {
  readonly engine: EngineName;

  /** `uc_version`: major << 24 | minor << 16 | patch << 8 | extra. */
  version(): number;
  /** `uc_strerror`. */
  errorText(error: UcError): string;

  /** `uc_open`. The instance stays inside the transport; it is called once, before all else. */
  open(arch: number, mode: number): UcError;
  /** `uc_close`; also frees everything that was allocated and every callback. */
  close(): UcError;

  /**
   * Page-aligned, zero-filled memory in the engine's address space; pages that nobody touches cost
   * nothing where the host can do that. Null where there is not so much.
   */
  allocate(size: number): Pointer | null;
  /**
   * JavaScript's view of engine memory. Where the engine's heap can grow, older views detach then: their
   * `byteLength` becomes 0, and the engine asks anew.
   */
  view(pointer: Pointer, size: number): Uint8Array<ArrayBuffer>;
  /**
   * Outside of which [pointer, pointer + size), which was allocated here, still holds the zeroes that it began with: ranges in
   * bytes from `pointer`, by address. Null where the host does not tell.
   */
  touched(pointer: Pointer, size: number): readonly ByteRange[] | null;
  /** Bytes of a pointer in arrays of pointers: 8 native on 64-bit hosts, 4 in WASM. */
  readonly pointerSize: 4 | 8;

  /** `uc_mem_map_ptr`. */
  memMapPtr(address: bigint, size: number, permissions: number, block: Pointer): UcError;

  /** `uc_reg_read`, `uc_reg_write`: `value` points to allocated memory. */
  regRead(id: number, value: Pointer): UcError;
  regWrite(id: number, value: Pointer): UcError;
  /** `uc_reg_read_batch`: `ids` points to 32-bit ids, `values` to pointers of `pointerSize`. */
  regReadBatch(ids: Pointer, values: Pointer, count: number): UcError;

  /**
   * `uc_emu_start`, without a bound: its timeout is a thread whose stop is lost when the thread is ahead of the
   * emulation, and its instruction count hooks every instruction and zeroes the code buffer afterwards.
   */
  emuStart(begin: bigint, until: bigint): UcError;
  /**
   * Whether a stop asked for in the middle of a block, which takes effect before the next one, leaves RIP
   * at that next one (where no code hook exists).
   */
  readonly stopsExactly: boolean;
  /**
   * What broke the library down during `emuStart`, which it cannot go on from (`SIGSEGV`, an abort's own words); null as
   * long as nothing has. Registers can still be read then, hooks and translations are no more, and `close` leaves the
   * instance behind.
   */
  readonly broken: string | null;
  /** `uc_emu_stop`. */
  emuStop(): UcError;

  /**
   * `uc_hook_add`. `type` is the UC_HOOK_* mask, `instruction` the UC_X86_INS_* of a UC_HOOK_INSN (else 0;
   * it is the variadic argument). `begin` above `end` means everywhere.
   */
  hookAdd<K extends HookShape>(
    shape: K,
    type: number,
    begin: bigint,
    end: bigint,
    instruction: number,
    callback: HookShapes[K],
  ): { readonly error: UcError; readonly hook: Pointer };
  /**
   * Hooks every block, but calls back for each `period`-th one only, and for the next one after `callCounted`:
   * no JavaScript runs for those between. At most one such hook exists. Null where this host has no way to.
   */
  hookAddCounted(
    period: number,
    callback: HookShapes['code'],
  ): { readonly error: UcError; readonly hook: Pointer } | null;
  /** Has the counted hook, if there is one, called at the next block. May be called from hooks. */
  callCounted(): void;
  /**
   * Hooks every block with the function of `block-counter.ts`; `missed` is called for those that its table does not
   * hold and for those that go beyond its limit. Added once and before other block hooks, so that it is called before they
   * stop the CPU. `ram`: guest RAM from address 0; `state` points to `STATE_SIZE` bytes, null where there is no memory for it.
   */
  hookAddBlockCounter(
    ram: Pointer,
    ramSize: number,
    missed: HookShapes['code'],
  ): { readonly error: UcError; readonly state: Pointer } | null;
  /** Address of `uc_ctl`, for the block counter's machine code; 0 where that is not used. */
  readonly controlFunction: bigint;
  /**
   * Makes a hook for each instruction with the function of `step-buffer.ts`, which calls back for those that the buffer does
   * not know; `add` adds it, once and not while `emuStart` runs. `ram`: guest RAM from address 0; `ids`: register ids. Null
   * where this host has no way to.
   */
  makeStepsHook(
    ram: Pointer,
    ramSize: number,
    ids: readonly number[],
    callback: HookShapes['code'],
  ): {
    readonly buffer: StepBuffer;
    readonly add: () => { readonly error: UcError; readonly hook: Pointer };
  } | null;
  /** `uc_hook_del`. Never called while `emuStart` runs. The callback may still be called by translated code. */
  hookDel(hook: Pointer): UcError;

  /**
   * Drops translated code of guest-linear [begin, end): `uc_ctl` with UC_CTL_TB_REMOVE_CACHE where the
   * library has it, else whatever has the same effect there. May be called from hooks.
   */
  removeCache(begin: bigint, end: bigint): UcError;
  /**
   * Drops the translated code of all mapped memory. Never called while `emuStart` runs.
   */
  flushCache(): UcError;

  /** `uc_context_alloc`, `uc_context_save`, `uc_context_restore`, `uc_context_free`. Null: no such memory. */
  contextAlloc(): Pointer | null;
  /** `uc_context_size`: bytes behind a context pointer. */
  contextSize(): number;
  contextSave(context: Pointer): UcError;
  contextRestore(context: Pointer): UcError;
  contextFree(context: Pointer): UcError;
}
