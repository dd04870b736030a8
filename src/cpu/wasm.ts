// The WASM binding: the raw `_uc_*` exports of Unicorn.js (@alexaltea/unicorn-js, x86 variant), one module instance per CPU.
// Long, for it is one binding: every C call once.

import { BootscopeError } from '../error.ts';
import { latin1Text } from '../host/host.ts';
import {
  type WasmInstance,
  type WasmMemory,
  type WasmModule,
  type WebAssemblyApi,
  webAssembly,
} from '../host/web-assembly.ts';
import { BLOCK_COUNTER_WASM, prepareBlockCounter, STATE_SIZE } from './block-counter.ts';
import { COUNTING_HOOK_WASM } from './counting-hook.ts';
import { StepBuffer, stepBufferSize } from './step-buffer.ts';
import { STEP_HOOK_WASM } from './step-hook-wasm.ts';
import type { HookShape, HookShapes, Pointer, Transport, UcError } from './transport.ts';

const PAGE = 4096;

/** What the module must export under these names; `_uc_ctl` is used where it is there (2.1.4 lacks it). */
const REQUIRED_EXPORTS = [
  '_malloc',
  '_free',
  '_uc_version',
  '_uc_strerror',
  '_uc_open',
  '_uc_close',
  '_uc_mem_map_ptr',
  '_uc_mem_unmap',
  '_uc_reg_read',
  '_uc_reg_write',
  '_uc_reg_read_batch',
  '_uc_emu_start',
  '_uc_emu_stop',
  '_uc_hook_add',
  '_uc_hook_del',
  '_uc_context_alloc',
  '_uc_context_save',
  '_uc_context_restore',
  '_uc_context_free',
] as const;
type RequiredExport = (typeof REQUIRED_EXPORTS)[number];

/** `UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2)` of unicorn.h: type | argument count << 26 | write << 30. */
const CTL_REMOVE_CACHE = 9 | (2 << 26) | (1 << 30);
/** `UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1)`. */
const CTL_BUFFER_SIZE = 13 | (1 << 26) | (1 << 30);
/** Of translated code. The library fills its buffer with zeroes as it opens; where it is full, everything is translated anew. */
const BUFFER_SIZE = 4 * 2 ** 20;

/** From here on a block is worth not being filled with zeroes: 4 MiB. */
const LARGE_BLOCK = 0x40_0000;

/** Bytes before the CPU state in `struct uc_context` (uc_priv.h, 32-bit), and more than a CPU state can have. */
const CONTEXT_HEADER = 28;
const MAX_CONTEXT = 0x10_0000;

/** UC_HOOK_EDGE_GENERATED: called when a block is translated; `uc_tb` begins with its 64-bit linear address, then 16 bits each of instructions and size. */
const HOOK_EDGE_GENERATED = 1 << 15;
const TB_SIZE = 10;

const UC_ERR_NOMEM = 1;
/** Ours: the module trapped. */
const UC_ERR_BROKEN = -1;
const UC_HOOK_CODE = 4;
const UC_HOOK_BLOCK = 8;
const UC_PROT_ALL = 7;
const UC_X86_REG_RIP = 41;

/** The functions of the module that take no 64-bit argument are called with numbers, `emu_start` and its like with both. */
type RawCall = (...values: (number | bigint)[]) => number;

/** What Emscripten's module object may offer; what is there depends on how it was built. */
type EmscriptenModule = Partial<Record<RequiredExport | '_uc_ctl', RawCall>> & {
  readonly addFunction?: (callback: (...values: never[]) => number | undefined, signature: string) => number;
  readonly wasmMemory?: { readonly buffer: ArrayBuffer };
  readonly HEAPU8?: Uint8Array<ArrayBuffer>;
};
/** What the script of a build exports. */
export type EmscriptenFactory = (options: Record<string, unknown>) => Promise<EmscriptenModule>;

/** A build of Unicorn.js as it was loaded, for any number of instances. */
export interface WasmEngine {
  /** Names it in messages. */
  readonly name: string;
  readonly factory: EmscriptenFactory;
  /** The compiled code; null as long as nobody has it apart from the script. */
  module: WasmModule | null;
}

/** The module's memory is the one export of this kind, under whatever name the build gave it. */
function memoryOf(instance: WasmInstance): WasmMemory | null {
  for (const value of Object.values(instance.exports)) {
    if (value instanceof webAssembly.Memory) return value;
  }
  return null;
}

/**
 * Calls the factory and gets hold of the instance's memory, which the module object shows in some builds only.
 */
async function instantiate(
  engine: WasmEngine,
): Promise<{ module: EmscriptenModule; memory: WasmMemory; lastError: () => string }> {
  const original = webAssembly.instantiate;
  let memory: WasmMemory | null = null;
  let printed = '';
  const options: Record<string, unknown> = {
    print: () => {},
    printErr: (text: unknown) => {
      printed = String(text);
    },
    quit: (status: number, thrown: unknown) => {
      throw thrown ?? new Error(`the module exited with status ${status}`);
    },
  };
  const compiled = engine.module;
  if (compiled !== null) {
    options.instantiateWasm = (
      imports: object,
      receive: (instance: WasmInstance, module: WasmModule) => void,
    ): object => {
      original.call(webAssembly, compiled, imports).then(
        (instance) => {
          memory = memoryOf(instance as WasmInstance);
          receive(instance as WasmInstance, compiled);
        },
        (cause: unknown) => reject(cause),
      );
      return {};
    };
  } else {
    // The bytes are embedded in a way unknown here: let the module instantiate itself, and look on.
    (webAssembly as { instantiate: WebAssemblyApi['instantiate'] }).instantiate = async (source, imports) => {
      const result = await original.call(webAssembly, source, imports);
      const { instance, module } = result as {
        readonly instance?: WasmInstance;
        readonly module?: WasmModule;
      };
      memory ??= memoryOf(instance ?? (result as WasmInstance));
      // The next instance need not compile it again.
      engine.module ??= module ?? null;
      return result;
    };
  }
  let reject: (cause: unknown) => void = () => {};
  try {
    const failed = new Promise<never>((_, rejected) => {
      reject = rejected;
    });
    const module = await Promise.race([engine.factory(options), failed]);
    memory ??= module.wasmMemory ?? null;
    const shown = Object.getOwnPropertyDescriptor(module, 'HEAPU8')?.value as unknown;
    if (memory === null && shown instanceof Uint8Array) {
      memory = {
        get buffer() {
          return (module.HEAPU8 as Uint8Array<ArrayBuffer>).buffer;
        },
      };
    }
    if (memory === null) {
      throw new BootscopeError(
        'cpu-no-engine',
        `${engine.name} shows none of its memory (neither base64 code, wasmMemory nor HEAPU8), which guest RAM is shared through.`,
      );
    }
    return { module, memory, lastError: () => printed };
  } catch (cause) {
    if (cause instanceof BootscopeError) throw cause;
    throw new BootscopeError(
      'cpu-no-engine',
      `${engine.name} does not start as a Unicorn.js module: ${printed || String(cause)}`,
      { cause },
    );
  } finally {
    if (compiled === null) {
      (webAssembly as { instantiate: WebAssemblyApi['instantiate'] }).instantiate = original;
    }
  }
}

/** The module's exports by name, checked to be all there. */
type UnicornExports = Record<RequiredExport, RawCall> & {
  readonly _uc_ctl: RawCall | undefined;
  readonly addFunction: NonNullable<EmscriptenModule['addFunction']>;
};

function checkedExports(file: string, module: EmscriptenModule): UnicornExports {
  const missing = [...REQUIRED_EXPORTS, 'addFunction' as const].filter(
    (name) => typeof module[name] !== 'function',
  );
  if (missing.length > 0) {
    throw new BootscopeError(
      'cpu-no-engine',
      `${file} does not export ${missing.join(', ')}; a build of Unicorn.js 2.1.4 or later, x86 variant, has them.`,
    );
  }
  return module as UnicornExports;
}

/** WASM types of the hook callbacks in C: result, `uc`, arguments, user data; `j` is a 64-bit integer. */
const SIGNATURES: Readonly<Record<HookShape, string>> = {
  code: 'vijii',
  interrupt: 'viii',
  in: 'iiiii',
  out: 'viiiii',
  instruction: 'iii',
  memory: 'viijiji',
  invalid: 'iiijiji',
};

type Callback = (...values: never[]) => number | undefined;

/** Callbacks as WASM calls them: 64-bit arguments come as signed BigInts, 32-bit ones as signed numbers. */
const ADAPTERS: { readonly [K in HookShape]: (hook: { call: HookShapes[K] }) => Callback } = {
  code: (hook) => (_uc: number, address: bigint, size: number) => {
    hook.call(BigInt.asUintN(64, address), size);
    return undefined;
  },
  interrupt: (hook) => (_uc: number, vector: number) => {
    hook.call(vector);
    return undefined;
  },
  in: (hook) => (_uc: number, port: number, size: number) => hook.call(port, size),
  out: (hook) => (_uc: number, port: number, size: number, value: number) => {
    hook.call(port, size, value >>> 0);
    return undefined;
  },
  instruction: (hook) => () => hook.call(),
  memory: (hook) => (_uc: number, type: number, address: bigint, size: number, value: bigint) => {
    hook.call(type, BigInt.asUintN(64, address), size, BigInt.asUintN(64, value));
    return undefined;
  },
  invalid: (hook) => (_uc: number, type: number, address: bigint, size: number, value: bigint) =>
    hook.call(type, BigInt.asUintN(64, address), size, BigInt.asUintN(64, value)) ? 1 : 0,
};

/** What a hook does once it is deleted: translations that still call it must find a function of its type. */
const DEAD: HookShapes = {
  code: () => {},
  interrupt: () => {},
  in: () => 0,
  out: () => {},
  instruction: () => 0,
  memory: () => {},
  invalid: () => false,
};

/** A piece of guest RAM as it was given to `uc_mem_map_ptr`. */
interface MappedChunk {
  readonly address: bigint;
  readonly size: number;
  readonly permissions: number;
  readonly block: Pointer;
}

/**
 * Without `uc_ctl` a stale translation is dropped by unmapping and mapping its memory again, at a cost that
 * grows with the size of the mapping, while every mapping costs the more the more there are. So RAM is mapped
 * in a few chunks that end here, and behind the last of these at its multiples.
 */
const CHUNK_ENDS = [0x10_0000, 0x100_0000, 0x400_0000] as const;

function chunkEnd(address: number, end: number): number {
  const last = CHUNK_ENDS[2];
  const next = CHUNK_ENDS.find((limit) => limit > address) ?? (Math.floor(address / last) + 1) * last;
  return Math.min(end, next);
}

/**
 * Opens a module instance of its own.
 *
 * @throws BootscopeError `cpu-no-engine`: not a usable Unicorn.js module; the message says what is missing
 */
export async function openWasm(engine: WasmEngine): Promise<Transport> {
  const { module, memory, lastError } = await instantiate(engine);
  return new WasmTransport(engine.name, checkedExports(engine.name, module), memory, lastError);
}

class WasmTransport implements Transport {
  readonly engine = 'wasm';
  readonly pointerSize = 4;
  // Measured: RIP then points to an earlier block of a chain.
  readonly stopsExactly = false;

  readonly #file: string;
  readonly #uc: UnicornExports;
  readonly #memory: WasmMemory;
  readonly #lastError: () => string;
  readonly #hooks = new Map<Pointer, () => void>();
  /** Guest RAM in ascending order, in one piece each where `uc_ctl` is there. */
  readonly #chunks: MappedChunk[] = [];
  #handle: Pointer = 0;
  #contextSize = 0;
  #broken: string | null = null;
  /** Blocks until the counted hook is called: 32 bits in the heap, which its WebAssembly counts down. */
  #counter: Pointer = 0;
  /** Numbers of the pages that hold the start or end of a translated block. */
  readonly #translatedPages = new Set<number>();
  #knowsTranslations = false;
  /** 16 bytes for results and variadic arguments (Emscripten passes those as a pointer to them). */
  readonly #scratch: Pointer;

  constructor(file: string, uc: UnicornExports, memory: WasmMemory, lastError: () => string) {
    this.#file = file;
    this.#uc = uc;
    this.#memory = memory;
    this.#lastError = lastError;
    this.#scratch = uc._malloc(16);
  }

  version(): number {
    return this.#uc._uc_version(0, 0) >>> 0;
  }

  errorText(error: UcError): string {
    const text = this.#uc._uc_strerror(error) >>> 0;
    const bytes = new Uint8Array(this.#memory.buffer);
    return latin1Text(bytes.subarray(text, bytes.indexOf(0, text)));
  }

  open(arch: number, mode: number): UcError {
    const error = this.#uc._uc_open(arch, mode, this.#scratch);
    if (error !== 0) return error;
    this.#handle = this.#scratchPointer();
    // A library that does not know it takes its own size.
    new Uint32Array(this.#memory.buffer, this.#scratch, 1)[0] = BUFFER_SIZE;
    this.#uc._uc_ctl?.(this.#handle, CTL_BUFFER_SIZE, this.#scratch);
    try {
      // Nothing is unmapped by a size of 0; a build without WASM_BIGINT refuses the BigInts.
      return this.#uc._uc_mem_unmap(this.#handle, 0n, 0n) || this.#watchTranslations();
    } catch (cause) {
      if (!(cause instanceof TypeError)) {
        throw new BootscopeError('cpu-open', `Unicorn cannot be opened: ${this.#reason(cause)}`, { cause });
      }
      throw new BootscopeError(
        'cpu-no-engine',
        `${this.#file} does not take 64-bit arguments as BigInt; it has to be built with Emscripten's WASM_BIGINT.`,
        { cause },
      );
    }
  }

  close(): UcError {
    if (this.#handle === 0) return 0;
    // A module that a guest has broken can't tidy up either.
    const error = this.#broken === null ? this.#uc._uc_close(this.#handle) : 0;
    this.#handle = 0;
    // The heap with RAM and callbacks goes with the instance.
    for (const silence of this.#hooks.values()) silence();
    this.#hooks.clear();
    return error;
  }

  allocate(size: number): Pointer | null {
    // What lies behind the present end of the heap is zero, and costs real memory only when it is touched.
    const heapEnd = this.#memory.buffer.byteLength;
    if (size >= LARGE_BLOCK) {
      // A large block comes from the end of the heap; where it would begin, a smaller one shows. What the allocator
      // writes behind that one must lie before `heapEnd`, too.
      const probe = this.#malloc(LARGE_BLOCK);
      if (probe !== 0) this.#uc._free(probe);
      const used = heapEnd - probe;
      const block = probe === 0 || used < LARGE_BLOCK + PAGE ? 0 : this.#malloc(used + size);
      if (block !== 0 && block <= heapEnd && block + used >= heapEnd) return heapEnd;
      if (block !== 0) this.#uc._free(block);
    }
    // Behind `heapEnd`, too, where the allocator has been by now.
    const written = this.#memory.buffer.byteLength;
    const block = this.#malloc(size + PAGE);
    if (block === 0) return null;
    const aligned = Math.ceil(block / PAGE) * PAGE;
    if (aligned < written) this.view(aligned, Math.min(size, written - aligned)).fill(0);
    return aligned;
  }

  /** 0 where there is not so much; some builds abort instead when the heap cannot grow. */
  #malloc(size: number): Pointer {
    try {
      return this.#uc._malloc(size) >>> 0;
    } catch {
      return 0;
    }
  }

  view(pointer: Pointer, size: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#memory.buffer, pointer, size);
  }

  touched(): null {
    return null;
  }

  memMapPtr(address: bigint, size: number, permissions: number, block: Pointer): UcError {
    const begin = Number(address);
    const end = begin + size;
    for (let at = begin; at < end; ) {
      const next = this.#uc._uc_ctl === undefined ? chunkEnd(at, end) : end;
      const chunk = { address: BigInt(at), size: next - at, permissions, block: block + (at - begin) };
      const error = this.#map(chunk);
      if (error !== 0) return error;
      this.#chunks.push(chunk);
      at = next;
    }
    this.#chunks.sort((a, b) => Number(a.address - b.address));
    return 0;
  }

  regRead(id: number, value: Pointer): UcError {
    return this.#uc._uc_reg_read(this.#handle, id, value);
  }

  regWrite(id: number, value: Pointer): UcError {
    return this.#uc._uc_reg_write(this.#handle, id, value);
  }

  regReadBatch(ids: Pointer, values: Pointer, count: number): UcError {
    return this.#uc._uc_reg_read_batch(this.#handle, ids, values, count);
  }

  /** Dropping translations is dear and mostly asked for where there are none: keep in mind where some are. */
  #watchTranslations(): UcError {
    const entry = this.#uc.addFunction((_uc: number, block: Pointer) => {
      const fields = new DataView(this.#memory.buffer, block, 16);
      const begin = Number(fields.getBigUint64(0, true));
      this.#markTranslated(begin, begin + fields.getUint16(TB_SIZE, true));
      return undefined;
    }, 'viiii');
    const error = this.#uc._uc_hook_add(
      this.#handle,
      this.#scratch,
      HOOK_EDGE_GENERATED,
      entry,
      0,
      1n,
      0n,
      0,
    );
    if (error !== 0) return error;

    // Nothing is told before a first block has ended by running on into the next: have one do so. It also
    // shows whether this build tells at all.
    const page = this.allocate(PAGE);
    if (page === null) return UC_ERR_NOMEM;
    const JUMP_TO_NEXT = [0xeb, 0x00];
    this.view(page, JUMP_TO_NEXT.length).set(JUMP_TO_NEXT);
    const code = { address: 0n, size: PAGE, permissions: UC_PROT_ALL, block: page };
    const failed =
      this.#map(code) ||
      this.#uc._uc_emu_start(this.#handle, 0n, BigInt(JUMP_TO_NEXT.length), 0n, 0) ||
      this.#uc._uc_mem_unmap(this.#handle, 0n, BigInt(PAGE));
    this.view(page, 8).fill(0);
    this.#knowsTranslations = this.#translatedPages.size > 0;
    this.#translatedPages.clear();
    return failed || this.regWrite(UC_X86_REG_RIP, page);
  }

  #markTranslated(begin: number, end: number): void {
    this.#translatedPages.add(Math.floor(begin / PAGE));
    this.#translatedPages.add(Math.floor((end - 1) / PAGE));
  }

  #hasTranslations(begin: bigint, end: bigint): boolean {
    if (!this.#knowsTranslations) return true;
    const first = Number(begin / BigInt(PAGE));
    const last = Number((end - 1n) / BigInt(PAGE));
    if (last - first < this.#translatedPages.size) {
      for (let page = first; page <= last; page++) if (this.#translatedPages.has(page)) return true;
      return false;
    }
    for (const page of this.#translatedPages) if (page >= first && page <= last) return true;
    return false;
  }

  emuStart(begin: bigint, until: bigint): UcError {
    try {
      return this.#uc._uc_emu_start(this.#handle, begin, until, 0n, 0);
    } catch (cause) {
      this.#broken = this.#reason(cause);
      return UC_ERR_BROKEN;
    }
  }

  get broken(): string | null {
    return this.#broken;
  }

  /** Of a trap or abort() of the module, which leaves the instance unusable. */
  #reason(cause: unknown): string {
    // Measured with 2.1.4: 116 loads or stores with no jump between them are too much for its translator.
    return this.#lastError() || String(cause);
  }

  emuStop(): UcError {
    return this.#uc._uc_emu_stop(this.#handle);
  }

  hookAdd<K extends HookShape>(
    shape: K,
    type: number,
    begin: bigint,
    end: bigint,
    instruction: number,
    callback: HookShapes[K],
  ): { readonly error: UcError; readonly hook: Pointer } {
    const target = { call: callback };
    const entry = this.#uc.addFunction(ADAPTERS[shape](target), SIGNATURES[shape]);
    const scratch = this.#scratch;
    new Int32Array(this.#memory.buffer, scratch, 4)[2] = instruction;
    const error = this.#uc._uc_hook_add(this.#handle, scratch, type, entry, 0, begin, end, scratch + 8);
    if (error !== 0) return { error, hook: 0 };
    const hook = this.#scratchPointer();
    this.#hooks.set(hook, () => {
      target.call = DEAD[shape];
    });
    return { error, hook };
  }

  hookAddCounted(
    period: number,
    callback: HookShapes['code'],
  ): { readonly error: UcError; readonly hook: Pointer } | null {
    if (!(this.#memory instanceof webAssembly.Memory)) return null;
    const target = { call: callback };
    if (this.#counter === 0) this.#counter = this.#uc._malloc(16);
    const reset = () => {
      new Uint32Array(this.#memory.buffer, this.#counter, 1)[0] = period;
    };
    reset();
    const error = this.#addWasmHook(COUNTING_HOOK_WASM, this.#counter, (address, size) => {
      reset();
      target.call(address, size);
    });
    if (error !== 0) return { error, hook: 0 };
    const hook = this.#scratchPointer();
    this.#hooks.set(hook, () => {
      target.call = DEAD.code;
    });
    return { error, hook };
  }

  hookAddBlockCounter(
    ram: Pointer,
    ramSize: number,
    missed: HookShapes['code'],
  ): { readonly error: UcError; readonly state: Pointer } | null {
    if (!(this.#memory instanceof webAssembly.Memory)) return null;
    const state = this.allocate(STATE_SIZE);
    if (state === null) return null;
    prepareBlockCounter(this.view(state, STATE_SIZE), ram, ramSize);
    return { error: this.#addWasmHook(BLOCK_COUNTER_WASM, state, missed), state };
  }

  readonly controlFunction = 0n;

  makeStepsHook(
    ram: Pointer,
    ramSize: number,
    ids: readonly number[],
    callback: HookShapes['code'],
  ): ReturnType<Transport['makeStepsHook']> {
    if (!(this.#memory instanceof webAssembly.Memory)) return null;
    const size = stepBufferSize(ids.length);
    const state = this.allocate(size);
    if (state === null) return null;
    const buffer = new StepBuffer(() => this.view(state, size), ids, {
      ...{ state, ram, ramSize, readBatch: 0n, pointerSize: this.pointerSize },
    });
    const target = { call: callback };
    const call: HookShapes['code'] = (address, length) => target.call(address, length);
    const add = () => {
      // What some builds export is a JavaScript function that puts the module's own in its place when it is called.
      this.#uc._uc_reg_read_batch(this.#handle, 0, 0, 0);
      const error = this.#addWasmHook(STEP_HOOK_WASM, state, call, UC_HOOK_CODE);
      if (error !== 0) return { error, hook: 0 };
      const hook = this.#scratchPointer();
      this.#hooks.set(hook, () => {
        target.call = DEAD.code;
      });
      return { error, hook };
    };
    return { buffer, add };
  }

  /**
   * Hooks every block, or instruction, with the function of a module that gets the heap, a callback and `uc_reg_read_batch`; leaves
   * the hook in the scratch memory.
   */
  #addWasmHook(
    code: Uint8Array<ArrayBuffer>,
    userData: Pointer,
    callback: HookShapes['code'],
    type = UC_HOOK_BLOCK,
  ): UcError {
    const imports = {
      m: this.#memory,
      r: this.#uc._uc_reg_read_batch,
      f: (_uc: number, address: bigint, size: number) => callback(BigInt.asUintN(64, address), size),
    };
    const module = new webAssembly.Instance(new webAssembly.Module(code), { e: imports });
    const entry = this.#uc.addFunction(module.exports.g as Callback, SIGNATURES.code);
    const { _uc_hook_add } = this.#uc;
    return _uc_hook_add(this.#handle, this.#scratch, type, entry, userData, 1n, 0n, 0);
  }

  callCounted(): void {
    if (this.#counter !== 0) new Uint32Array(this.#memory.buffer, this.#counter, 1)[0] = 1;
  }

  hookDel(hook: Pointer): UcError {
    if (this.#broken !== null) return 0;
    const error = this.#uc._uc_hook_del(this.#handle, hook);
    // The table entry stays: a translation that was not dropped would call into nothing, and trap.
    this.#hooks.get(hook)?.();
    this.#hooks.delete(hook);
    return error;
  }

  removeCache(begin: bigint, end: bigint): UcError {
    if (this.#broken !== null) return 0;
    if (!this.#hasTranslations(begin, end)) return 0;
    if (this.#uc._uc_ctl !== undefined) {
      const range = new BigInt64Array(this.#memory.buffer, this.#scratch, 2);
      range[0] = begin;
      range[1] = end;
      return this.#uc._uc_ctl(this.#handle, CTL_REMOVE_CACHE, this.#scratch);
    }
    for (const chunk of this.#chunks) {
      if (chunk.address >= end) break;
      const limit = chunk.address + BigInt(chunk.size);
      if (limit <= begin || !this.#hasTranslations(chunk.address, limit)) continue;
      for (const page of this.#translatedPages) {
        if (page >= Number(chunk.address) / PAGE && page < Number(limit) / PAGE)
          this.#translatedPages.delete(page);
      }
      const error =
        this.#uc._uc_mem_unmap(this.#handle, chunk.address, BigInt(chunk.size)) || this.#map(chunk);
      if (error !== 0) return error;
    }
    return 0;
  }

  flushCache(): UcError {
    if (this.#broken !== null) return 0;
    // Not UC_CTL_TB_FLUSH: it zeroes the library's whole code buffer, most of which is never touched otherwise.
    for (const { address, size } of this.#chunks) {
      const error = this.removeCache(address, address + BigInt(size));
      if (error !== 0) return error;
    }
    return 0;
  }

  contextAlloc(): Pointer | null {
    if (this.#uc._uc_context_alloc(this.#handle, this.#scratch) !== 0) return null;
    const context = this.#scratchPointer();
    // `uc_context_size` is not exported; the size of the CPU state is the first field of a new context.
    const state = new Uint32Array(this.#memory.buffer, context, 1)[0] ?? 0;
    this.#contextSize = state < MAX_CONTEXT ? state + CONTEXT_HEADER : 0;
    return context;
  }

  contextSize(): number {
    if (this.#contextSize === 0) {
      const context = this.contextAlloc();
      if (context !== null) this.contextFree(context);
    }
    return this.#contextSize;
  }

  contextSave(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#uc._uc_context_save(this.#handle, context);
  }

  contextRestore(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#uc._uc_context_restore(this.#handle, context);
  }

  contextFree(context: Pointer): UcError {
    if (this.#broken !== null) return 0;
    return this.#uc._uc_context_free(context);
  }

  #map(chunk: MappedChunk): UcError {
    const { address, size, permissions, block } = chunk;
    return this.#uc._uc_mem_map_ptr(this.#handle, address, BigInt(size), permissions, block);
  }

  /** The pointer that a call has left in the scratch memory. */
  #scratchPointer(): Pointer {
    return new Uint32Array(this.#memory.buffer, this.#scratch, 1)[0] ?? 0;
  }
}
