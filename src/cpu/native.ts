// The native binding: a libunicorn 2.x of the system (or of the per-user cache), called through koffi.
// Long, for it is one binding: every C call once.

import type { LibraryHandle, TypeObject } from 'koffi';
import { BootscopeError } from '../error.ts';
import { type Koffi, requireKoffi } from '../host/koffi.ts';
import { type ByteRange, touchedPages } from '../host/touched-pages.ts';
import {
  blockCounter,
  blockCounterMachineCode,
  prepareBlockCounter,
  STATE,
  STATE_SIZE,
} from './block-counter.ts';
import { COUNTING_HOOK_TARGET, countingHookMachineCode } from './counting-hook.ts';
import { type CrashGuard, installCrashGuard } from './crash-guard.ts';
import { compareVersions, type LibraryCandidate, libraryCandidates, libraryName } from './find-library.ts';
import { HostPages } from './host-pages.ts';
import { StepBuffer, stepBufferSize, stepMachineCode } from './step-buffer.ts';
import {
  type HookShape,
  type HookShapes,
  type Pointer,
  type Transport,
  type UcError,
  versionText,
} from './transport.ts';

const MAP_ALIGNMENT = 4096;

/** What the process keeps of a loaded library: the functions and callback types, by their C names. */
interface Library {
  readonly koffi: Koffi;
  readonly path: string;
  readonly uc_version: (major: Pointer, minor: Pointer) => number;
  readonly uc_strerror: (error: UcError) => string;
  readonly uc_open: (arch: number, mode: number, handle: Pointer) => UcError;
  readonly uc_close: (uc: Pointer) => UcError;
  readonly uc_mem_map_ptr: (
    uc: Pointer,
    address: bigint,
    size: number,
    permissions: number,
    block: Pointer,
  ) => UcError;
  readonly uc_reg_read: (uc: Pointer, id: number, value: Pointer) => UcError;
  readonly uc_reg_write: (uc: Pointer, id: number, value: Pointer) => UcError;
  readonly uc_reg_read_batch: (uc: Pointer, ids: Pointer, values: Pointer, count: number) => UcError;
  /** Its address. */
  readonly regReadBatch: () => bigint;
  /** The address of `uc_ctl`. */
  readonly control: () => bigint;
  readonly uc_emu_start: (uc: Pointer, begin: bigint, until: bigint, timeout: 0, count: 0) => UcError;
  readonly uc_emu_stop: (uc: Pointer) => UcError;
  readonly uc_hook_add: (
    uc: Pointer,
    hook: Pointer,
    type: number,
    callback: bigint,
    userData: Pointer,
    begin: bigint,
    end: bigint,
    variadicType: 'int',
    instruction: number,
  ) => UcError;
  readonly uc_hook_del: (uc: Pointer, hook: Pointer) => UcError;
  readonly uc_ctl: (uc: Pointer, control: number, ...variadic: (string | bigint)[]) => UcError;
  readonly uc_context_alloc: (uc: Pointer, context: Pointer) => UcError;
  readonly uc_context_size: (uc: Pointer) => number;
  readonly uc_context_save: (uc: Pointer, context: Pointer) => UcError;
  readonly uc_context_restore: (uc: Pointer, context: Pointer) => UcError;
  readonly uc_context_free: (context: Pointer) => UcError;
  /** Null where this host has none: what the library does to the process is done then. */
  readonly guard: CrashGuard | null;
  readonly callbackTypes: Readonly<Record<HookShape, TypeObject>>;
  readonly pages: HostPages;
}

/** By the path that was asked for, or named in the environment; '' for none. */
const loaded = new Map<string, Library>();

function loadKoffi(): Koffi {
  try {
    return requireKoffi();
  } catch (cause) {
    throw new BootscopeError(
      'cpu-no-engine',
      `The npm package koffi, which calls the native engine, cannot be loaded: ${String(cause)}`,
      { cause },
    );
  }
}

interface OpenedLibrary {
  readonly handle: LibraryHandle;
  readonly path: string;
}

/** Most of a library's functions are never called: they are bound when they are, which takes a start 2 ms less. */
const LAZY = { lazy: true } as const;

function loadNamed(koffi: Koffi, path: string, says: string): OpenedLibrary {
  try {
    return { handle: koffi.load(path, LAZY), path };
  } catch (cause) {
    throw new BootscopeError(
      'cpu-no-engine',
      `${says} ${path}, which cannot be loaded as a library: ${String(cause)}`,
      { cause },
    );
  }
}

/** A version from which on a library is taken without looking whether the system's is newer: loading one takes its time. */
const RECENT = '2.1.4';

function openLibrary(koffi: Koffi): OpenedLibrary {
  const asked = process.env.BOOTSCOPE_LIBUNICORN;
  if (asked) return loadNamed(koffi, asked, 'BOOTSCOPE_LIBUNICORN names');
  let first: unknown;
  const load = ({ path }: LibraryCandidate): OpenedLibrary | null => {
    try {
      return { handle: koffi.load(path, LAZY), path };
    } catch (cause) {
      first ??= cause;
      return null;
    }
  };
  const [system, ...others] = libraryCandidates();
  const [newest] = others;
  const isRecent = newest !== undefined && compareVersions(newest.version ?? '0', RECENT) >= 0;
  let opened = (isRecent ? load(newest) : null) ?? load(system!);
  if (opened !== null && !isRecent && newest?.version !== null && newest !== undefined) {
    const version = versionText(opened.handle.func('uc_version', 'uint32_t', [])());
    if (compareVersions(newest.version, version) > 0) opened = load(newest) ?? opened;
  }
  for (const other of others) opened ??= load(other);
  if (opened !== null) return opened;
  throw new BootscopeError(
    'cpu-no-engine',
    `No ${libraryName()} (Unicorn 2.x) was found: run scripts/setup, install it (Debian: apt install libunicorn2; anywhere: pip install unicorn), or name the file in BOOTSCOPE_LIBUNICORN.`,
    { cause: first },
  );
}

/** Two pages of its own for as long as the process lives. */
function guardAgainstCrashes(koffi: Koffi, library: LibraryHandle, hostPages: HostPages): CrashGuard | null {
  const pages = hostPages.allocate(2 * MAP_ALIGNMENT);
  if (pages === null) return null;
  const emuStart = koffi.address(library.symbol('uc_emu_start'));
  return installCrashGuard(koffi, emuStart, pages, () => hostPages.makeExecutable(pages, MAP_ALIGNMENT));
}

function loadLibrary(asked: string): Library {
  const key = asked || (process.env.BOOTSCOPE_LIBUNICORN ?? '');
  const known = loaded.get(key);
  if (known !== undefined) return known;
  const koffi = loadKoffi();
  const { handle, path } = asked === '' ? openLibrary(koffi) : loadNamed(koffi, asked, 'The engine is to be');
  const U = 'uintptr_t';
  const Q = 'uint64_t';
  const I = 'int';
  // A callback may declare fewer parameters than it is called with, and read its first (the instance, which
  // is known anyway) as 32 bits: each value that koffi needn't convert makes hooks faster.
  const callbackTypes = {
    code: koffi.proto('void', ['uint32_t', Q, 'uint32_t', 'uint32_t']),
    interrupt: koffi.proto('void', ['uint32_t', 'uint32_t']),
    in: koffi.proto('uint32_t', ['uint32_t', 'uint32_t', I]),
    out: koffi.proto('void', ['uint32_t', 'uint32_t', I, 'uint32_t']),
    instruction: koffi.proto(I, ['uint32_t']),
    memory: koffi.proto('void', ['uint32_t', I, Q, I, Q]),
    invalid: koffi.proto('bool', ['uint32_t', I, Q, I, Q]),
  };
  const pages = new HostPages(koffi);
  const guard = guardAgainstCrashes(koffi, handle, pages);
  const emuStartArguments = [U, Q, Q, Q, 'size_t'];
  const guardedStart = koffi.proto(I, emuStartArguments);
  const library: Library = {
    koffi,
    path,
    guard,
    uc_version: handle.func('uc_version', 'uint32_t', [U, U]),
    uc_strerror: handle.func('uc_strerror', 'str', [I]),
    uc_open: handle.func('uc_open', I, [I, I, U]),
    uc_close: handle.func('uc_close', I, [U]),
    uc_mem_map_ptr: handle.func('uc_mem_map_ptr', I, [U, Q, 'size_t', 'uint32_t', U]),
    uc_reg_read: handle.func('uc_reg_read', I, [U, I, U]),
    uc_reg_write: handle.func('uc_reg_write', I, [U, I, U]),
    uc_reg_read_batch: handle.func('uc_reg_read_batch', I, [U, U, U, I]),
    regReadBatch: () => koffi.address(handle.symbol('uc_reg_read_batch')),
    control: () => koffi.address(handle.symbol('uc_ctl')),
    uc_emu_start:
      guard === null
        ? handle.func('uc_emu_start', I, emuStartArguments)
        : (...values) => koffi.call(guard.start, guardedStart, ...values) as UcError,
    uc_emu_stop: handle.func('uc_emu_stop', I, [U]),
    uc_hook_add: handle.func('uc_hook_add', I, [U, U, I, U, U, Q, Q, '...']),
    uc_hook_del: handle.func('uc_hook_del', I, [U, U]),
    uc_ctl: handle.func('uc_ctl', I, [U, 'uint32_t', '...']),
    uc_context_alloc: handle.func('uc_context_alloc', I, [U, U]),
    uc_context_size: handle.func('uc_context_size', 'size_t', [U]),
    uc_context_save: handle.func('uc_context_save', I, [U, U]),
    uc_context_restore: handle.func('uc_context_restore', I, [U, U]),
    uc_context_free: handle.func('uc_context_free', I, [U]),
    callbackTypes,
    pages,
  };
  loaded.set(key, library);
  return library;
}

/** Unsigned, which koffi's numbers close to 2^64 are not. */
function wide(value: number | bigint): bigint {
  return BigInt.asUintN(64, BigInt(value));
}

const UC_HOOK_CODE = 4;
const UC_HOOK_BLOCK = 8;
/** UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2) of unicorn.h. */
const UC_CTL_REMOVE_CACHE = 0x48000009;

/** The machine code that counts blocks, and what it counts in. */
interface CountingHook {
  readonly code: Pointer;
  readonly count: Pointer;
  readonly view: DataView;
  period: number;
  call: HookShapes['code'];
  hook: Pointer;
}

class NativeTransport implements Transport {
  readonly engine = 'native';
  readonly pointerSize = 8;
  readonly stopsExactly = true;
  readonly #library: Library;
  #uc: Pointer = 0;
  /** See `broken`. */
  #broken: string | null = null;
  #controlFunction = 0n;
  /** Element 0: hooks that run. */
  readonly #depth: Int32Array;
  readonly #blocks = new Map<Pointer, number>();
  readonly #callbacks: bigint[] = [];
  #registeredCode: bigint | null = null;
  readonly #codeHooks: HookShapes['code'][] = [];
  readonly #codeHookNumbers = new Map<Pointer, number>();
  readonly #mapped: { readonly address: bigint; readonly size: number }[] = [];
  /** Undefined before it is asked for, null where this host has none. */
  #counted: CountingHook | null | undefined;
  readonly #out: Pointer;
  readonly #outView: DataView;

  constructor(library: Library) {
    this.#library = library;
    this.#depth = library.guard?.depth ?? new Int32Array(1);
    const out = this.allocate(MAP_ALIGNMENT);
    if (out === null) throw new BootscopeError('cpu-memory', `The host has no ${MAP_ALIGNMENT} bytes left`);
    this.#out = out;
    this.#outView = new DataView(library.koffi.view(BigInt(out), MAP_ALIGNMENT));
  }

  #outPointer(): Pointer {
    return Number(this.#outView.getBigUint64(0, true));
  }

  version(): number {
    return this.#library.uc_version(0, 0);
  }

  errorText(error: UcError): string {
    return this.#library.uc_strerror(error);
  }

  open(arch: number, mode: number): UcError {
    const error = this.#library.uc_open(arch, mode, this.#out);
    if (error === 0) this.#uc = this.#outPointer();
    return error;
  }

  close(): UcError {
    const error = this.#uc === 0 || this.#broken !== null ? 0 : this.#library.uc_close(this.#uc);
    this.#uc = 0;
    for (const callback of this.#callbacks.splice(0)) this.#library.koffi.unregister(callback);
    for (const [pointer, size] of this.#blocks) this.#library.pages.free(pointer, size);
    this.#blocks.clear();
    return error;
  }

  allocate(size: number): Pointer | null {
    const pointer = this.#library.pages.allocate(size);
    if (pointer !== null) this.#blocks.set(pointer, size);
    return pointer;
  }

  view(pointer: Pointer, size: number): Uint8Array<ArrayBuffer> {
    return this.#library.pages.view(pointer, size);
  }

  touched(pointer: Pointer, size: number): readonly ByteRange[] | null {
    return touchedPages(pointer, size);
  }

  memMapPtr(address: bigint, size: number, permissions: number, block: Pointer): UcError {
    const error = this.#library.uc_mem_map_ptr(this.#uc, address, size, permissions, block);
    if (error === 0) this.#mapped.push({ address, size });
    return error;
  }

  regRead(id: number, value: Pointer): UcError {
    return this.#library.uc_reg_read(this.#uc, id, value);
  }

  regWrite(id: number, value: Pointer): UcError {
    return this.#library.uc_reg_write(this.#uc, id, value);
  }

  regReadBatch(ids: Pointer, values: Pointer, count: number): UcError {
    return this.#library.uc_reg_read_batch(this.#uc, ids, values, count);
  }

  emuStart(begin: bigint, until: bigint): UcError {
    const error = this.#library.uc_emu_start(this.#uc, begin, until, 0, 0);
    this.#broken ??= this.#library.guard?.reasonOf(error) ?? null;
    return error;
  }

  get broken(): string | null {
    return this.#broken;
  }

  emuStop(): UcError {
    return this.#library.uc_emu_stop(this.#uc);
  }

  hookAdd<K extends HookShape>(
    shape: K,
    type: number,
    begin: bigint,
    end: bigint,
    instruction: number,
    callback: HookShapes[K],
  ): { readonly error: UcError; readonly hook: Pointer } {
    const number = shape === 'code' ? this.#codeHooks.length : 0;
    const registered =
      shape === 'code' ? this.#codeCallback() : this.#register(shape, adapt(shape, callback));
    const { uc_hook_add } = this.#library;
    const error = uc_hook_add(this.#uc, this.#out, type, registered, number, begin, end, 'int', instruction);
    if (error !== 0) return { error, hook: 0 };
    const hook = this.#outPointer();
    if (shape === 'code') {
      this.#codeHooks.push(callback as HookShapes['code']);
      this.#codeHookNumbers.set(hook, number);
    }
    return { error, hook };
  }

  #register(shape: HookShape, callback: (...values: never[]) => unknown): bigint {
    const { koffi, callbackTypes } = this.#library;
    const depth = this.#depth;
    const call = callback as (...values: unknown[]) => unknown;
    const counted = (uc: unknown, b: unknown, c: unknown, d: unknown, e: unknown): unknown => {
      depth[0]!++;
      const result = call(uc, b, c, d, e);
      depth[0]!--;
      return result;
    };
    const registered = koffi.register(counted, koffi.pointer(callbackTypes[shape]));
    this.#callbacks.push(registered);
    return registered;
  }

  /**
   * One callback for all code and block hooks, told apart by their user data: koffi has 8192 callbacks, and
   * code that was translated with a hook may call it after it was deleted, so none could be given free.
   */
  #codeCallback(): bigint {
    const hooks = this.#codeHooks;
    this.#registeredCode ??= this.#register(
      'code',
      (_uc: number, address: Wide, size: number, number: number) => hooks[number]!(wide(address), size),
    );
    return this.#registeredCode;
  }

  hookAddCounted(
    period: number,
    callback: HookShapes['code'],
  ): { readonly error: UcError; readonly hook: Pointer } | null {
    if (this.#counted === undefined) this.#counted = this.#makeCountingHook();
    const counted = this.#counted;
    if (counted === null) return null;
    counted.period = period;
    counted.call = callback;
    counted.view.setUint32(0, period, true);
    const { uc_hook_add } = this.#library;
    const error = uc_hook_add(
      this.#uc,
      this.#out,
      UC_HOOK_BLOCK,
      BigInt(counted.code),
      counted.count,
      1n,
      0n,
      'int',
      0,
    );
    if (error !== 0) return { error, hook: 0 };
    counted.hook = this.#outPointer();
    return { error, hook: counted.hook };
  }

  /** Null where there is none for this host, or the host does not run it. */
  #executable(machineCode: Uint8Array | null): Pointer | null {
    const code = machineCode === null ? null : this.allocate(MAP_ALIGNMENT);
    if (machineCode === null || code === null) return null;
    this.view(code, machineCode.length).set(machineCode);
    return this.#library.pages.makeExecutable(code, MAP_ALIGNMENT) ? code : null;
  }

  hookAddBlockCounter(
    ram: Pointer,
    ramSize: number,
    missed: HookShapes['code'],
  ): { readonly error: UcError; readonly state: Pointer } | null {
    const state = this.allocate(STATE_SIZE);
    if (state === null) return null;
    const memory = this.view(state, STATE_SIZE);
    prepareBlockCounter(memory, ram, ramSize);
    const code = this.#executable(blockCounterMachineCode());
    if (code === null) {
      const count = blockCounter(memory, this.view(ram, ramSize), missed);
      return { error: this.hookAdd('code', UC_HOOK_BLOCK, 1n, 0n, 0, count).error, state };
    }
    const callback = this.#register('code', (_uc: number, address: Wide, length: number) =>
      missed(wide(address), length),
    );
    new DataView(memory.buffer).setBigUint64(STATE.callback, BigInt(callback), true);
    this.#controlFunction = this.#library.control();
    const { uc_hook_add } = this.#library;
    const error = uc_hook_add(this.#uc, this.#out, UC_HOOK_BLOCK, BigInt(code), state, 1n, 0n, 'int', 0);
    return { error, state };
  }

  get controlFunction(): bigint {
    return this.#controlFunction;
  }

  makeStepsHook(
    ram: Pointer,
    ramSize: number,
    ids: readonly number[],
    callback: HookShapes['code'],
  ): ReturnType<Transport['makeStepsHook']> {
    const code = this.#executable(stepMachineCode());
    const size = stepBufferSize(ids.length);
    const state = code === null ? null : this.allocate(size);
    if (code === null || state === null) return null;
    const readBatch = this.#library.regReadBatch();
    const buffer = new StepBuffer(() => this.view(state, size), ids, {
      ...{ state, ram, ramSize, readBatch, pointerSize: this.pointerSize },
    });
    const { uc_hook_add } = this.#library;
    const add = () => {
      // Not before: koffi cannot call what is registered while the library runs.
      buffer.setCallback(
        this.#register('code', (_uc: number, address: Wide, length: number) =>
          callback(wide(address), length),
        ),
      );
      const error = uc_hook_add(this.#uc, this.#out, UC_HOOK_CODE, BigInt(code), state, 1n, 0n, 'int', 0);
      return { error, hook: this.#outPointer() };
    };
    return { buffer, add };
  }

  #makeCountingHook(): CountingHook | null {
    const code = this.#executable(countingHookMachineCode());
    const count = code === null ? null : this.allocate(MAP_ALIGNMENT);
    if (count === null || code === null) return null;
    const view = new DataView(this.#library.koffi.view(BigInt(count), MAP_ALIGNMENT));
    const hook: CountingHook = { code, count, view, period: 0, call: () => {}, hook: 0 };
    const called = this.#register('code', (_uc: number, address: Wide, size: number) => {
      view.setUint32(0, hook.period, true);
      hook.call(wide(address), size);
    });
    view.setBigUint64(COUNTING_HOOK_TARGET, BigInt(called), true);
    return hook;
  }

  callCounted(): void {
    this.#counted?.view.setUint32(0, 1, true);
  }

  hookDel(hook: Pointer): UcError {
    if (this.#counted?.hook === hook) this.#counted.call = () => {};
    const number = this.#codeHookNumbers.get(hook);
    if (number !== undefined) {
      this.#codeHooks[number] = () => {};
      this.#codeHookNumbers.delete(hook);
    }
    return this.#broken === null ? this.#library.uc_hook_del(this.#uc, hook) : 0;
  }

  removeCache(begin: bigint, end: bigint): UcError {
    if (this.#broken !== null) return 0;
    return this.#library.uc_ctl(this.#uc, UC_CTL_REMOVE_CACHE, 'uint64_t', begin, 'uint64_t', end);
  }

  flushCache(): UcError {
    if (this.#broken !== null) return 0;
    // Not UC_CTL_TB_FLUSH: it zeroes the library's whole code buffer, a gigabyte that it otherwise never touches.
    for (const { address, size } of this.#mapped) {
      const error = this.removeCache(address, address + BigInt(size));
      if (error !== 0) return error;
    }
    return 0;
  }

  contextAlloc(): Pointer | null {
    return this.#library.uc_context_alloc(this.#uc, this.#out) === 0 ? this.#outPointer() : null;
  }

  contextSize(): number {
    return this.#library.uc_context_size(this.#uc);
  }

  contextSave(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#library.uc_context_save(this.#uc, context);
  }

  contextRestore(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#library.uc_context_restore(this.#uc, context);
  }

  contextFree(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#library.uc_context_free(context);
  }
}

type Wide = number | bigint;

/** Puts koffi's arguments (the instance first, 64-bit values as number or bigint) into the shape's own. */
function adapt<K extends HookShape>(shape: K, callback: HookShapes[K]): (...values: never[]) => unknown {
  switch (shape) {
    case 'interrupt': {
      const call = callback as HookShapes['interrupt'];
      return (_uc: number, vector: number) => call(vector);
    }
    case 'in': {
      const call = callback as HookShapes['in'];
      return (_uc: number, port: number, size: number) => call(port, size);
    }
    case 'out': {
      const call = callback as HookShapes['out'];
      return (_uc: number, port: number, size: number, value: number) => call(port, size, value);
    }
    case 'instruction': {
      const call = callback as HookShapes['instruction'];
      return () => call();
    }
    case 'memory': {
      const call = callback as HookShapes['memory'];
      return (_uc: number, type: number, address: Wide, size: number, value: Wide) =>
        call(type, wide(address), size, wide(value));
    }
    default: {
      const call = callback as HookShapes['invalid'];
      return (_uc: number, type: number, address: Wide, size: number, value: Wide) =>
        call(type, wide(address), size, wide(value));
    }
  }
}

/**
 * Loads libunicorn and makes a transport without an instance.
 *
 * @param path - of a library; without it the one that is named in the environment, else the newest that is found
 * @throws BootscopeError `cpu-no-engine` where the library is missing or is not version 2.
 */
export function nativeTransport(path = ''): Transport {
  const library = loadLibrary(path);
  const major = library.uc_version(0, 0) >>> 24;
  if (major !== 2) {
    throw new BootscopeError(
      'cpu-no-engine',
      `${library.path} is Unicorn ${major}, Bootscope needs Unicorn 2`,
    );
  }
  return new NativeTransport(library);
}

/** Whether a libunicorn can be loaded here. */
export function hasNativeEngine(): boolean {
  try {
    nativeTransport().close();
    return true;
  } catch {
    return false;
  }
}
