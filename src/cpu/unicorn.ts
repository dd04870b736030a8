// The engine: the Cpu interface made of raw uc_* calls, with the quirks of Unicorn 2.0 and 2.1 evened out.
// Long, for it is one state: what a hook may do depends on all of it.

import { BootscopeError } from '../error.ts';
import { monotonicTime } from '../host/host.ts';
import { CR0_PE, CR0_PG, EFER_NXE } from '../x86/control-registers.ts';
import { type MemoryBlock, PhysicalMemory } from '../x86/physical-memory.ts';
import type {
  BlockDecoder,
  Cpu,
  CpuState,
  DecodedBlock,
  DescriptorTableRegister,
  EngineName,
  EngineWatcher,
  InvalidAccess,
  RegisterName,
  RunEnd,
  SpecialInstruction,
  Steps,
  Unhook,
} from './cpu.ts';
import { findEnvironment, type GuestEnvironment } from './environment.ts';
import { FarReturns } from './far-returns.ts';
import { GuestBlocks } from './guest-blocks.ts';
import { type BlockWatcher, InstructionCounter } from './instruction-counter.ts';
import { Registers } from './registers.ts';
import type { StepBuffer } from './step-buffer.ts';
import { linearToPhysical } from './translate.ts';
import { type HookShape, type HookShapes, type Pointer, type Transport, versionText } from './transport.ts';

const UC_ARCH_X86 = 4;
const UC_MODE_64 = 8;
const UC_ERR_OK = 0;

const UC_HOOK_INTR = 1;
const UC_HOOK_INSN = 2;
const UC_HOOK_CODE = 4;
const UC_HOOK_BLOCK = 8;
/** UC_HOOK_MEM_{READ,WRITE,FETCH}_{UNMAPPED,PROT}. */
const UC_HOOK_MEM_INVALID = 0x3f0;
const UC_HOOK_MEM_READ = 1024;
const UC_HOOK_MEM_WRITE = 2048;
const UC_HOOK_INSN_INVALID = 1 << 14;
/** Second bytes, behind 0f, of the special instructions: MOV to CR4, WRMSR, RDTSC, RDMSR, RDRAND (group 9). */
const SPECIAL_OPCODES = [0x22, 0x30, 0x31, 0x32, 0xc7] as const;
/** The vector of an undefined instruction (#UD). */
const INVALID_OPCODE = 6;
/** Vectors of exceptions; an `INT n` may have these numbers too. */
const EXCEPTION_VECTORS = 32;

/** `uc_mem_type` of an access that failed. */
const INVALID_ACCESS: Readonly<Record<number, Pick<InvalidAccess, 'type' | 'reason'>>> = {
  19: { type: 'read', reason: 'unmapped' },
  20: { type: 'write', reason: 'unmapped' },
  21: { type: 'fetch', reason: 'unmapped' },
  22: { type: 'write', reason: 'protected' },
  23: { type: 'read', reason: 'protected' },
  24: { type: 'fetch', reason: 'protected' },
};

const UC_X86_INS_CPUID = 113;
const UC_X86_INS_IN = 218;
const UC_X86_INS_OUT = 500;
const UC_X86_INS_RDTSC = 608;
/** 2.1 as `uc_version` >> 16. */
const RIP_IS_OFFSET_SINCE = 0x0201;
/** 2.1 as `uc_version` >> 16: EFER.NXE can be set. */
const KEEPS_NXE_SINCE = 0x0201;
/** 2.1 as `uc_version` >> 16: a page that cannot be executed need not be looked up for code at each store. */
const STORES_FASTER_TO_DATA_SINCE = 0x0201;
const MSR_EFER = 0xc000_0080n;
/** 2.1.2 as `uc_version` >> 8. */
const RDTSC_HOOKABLE_SINCE = 0x020102;

/** By their numbers. */
const SEGMENT_NAMES = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'] as const;
/** Bytes of the widest registers. */
const LONGEST_ACCESS = 64n;
const MAX_64 = 0xffff_ffff_ffff_ffffn;
const MASK_32 = 0xffff_ffffn;
/** What the boot stub's own page tables are made of. */
const LARGE_PAGE = 0x20_0000n;
/** A shorter range of code is dropped as it is; for a longer one everything is. */
const DROPPED_BY_RANGE = 0x100_0000n;
/** Bytes of zeroes that count as code of nobody. */
const EMPTY_CODE = 64;
/** Blocks (or instructions) between two looks at the clock where slices are counted in hooks. */
const HOOKS_PER_LOOK = 2048;

/**
 * A hook comes and goes only while the library isn't running: code and block hooks and the check for write
 * hooks are made part of translated code, and koffi can't call a callback that was made during the running call.
 */
interface HookRecord {
  /** Hooks of the kind 'told' are the counter's to call: the library knows nothing of them. */
  readonly kind: 'code' | 'block' | 'told' | 'access' | 'other';
  readonly begin: bigint;
  readonly end: bigint;
  /** Adds it to the library. */
  readonly add: () => Pointer;
  /** Of a code hook: what the library calls. */
  readonly call: HookShapes['code'] | null;
  /** Null while the library has it not. */
  handle: Pointer | null;
  removed: boolean;
  /** The next call for this address is left out: it was made before the library was stopped for our own ends. */
  skip: bigint | null;
}

type InterruptHook = Parameters<Cpu['hookInterrupt']>[0];
type InstructionHook = Parameters<Cpu['hookInstruction']>[1];

/** The library is to run to `address`, in the middle of a block, and no further. Linear addresses. */
interface Exit {
  readonly address: number;
  readonly blockStart: number;
  readonly blockEnd: number;
}

/** What is called first where a block begins. Others are not called there. */
const CALL_ORDER: Readonly<Record<HookRecord['kind'], number>> = {
  told: 0,
  block: 1,
  code: 2,
  access: 3,
  other: 3,
};

function covers(hook: HookRecord, address: bigint): boolean {
  return hook.begin <= address && address <= hook.end;
}

function isWhole(hook: HookRecord): boolean {
  return hook.begin === 0n && hook.end === MAX_64;
}

/** The methods of Cpu are described there. */
class UnicornCpu implements Cpu, BlockWatcher {
  readonly engine: EngineName;
  readonly engineVersion: string;
  readonly #transport: Transport;
  readonly #version: number;
  readonly #registers: Registers;
  readonly memory = new PhysicalMemory(this);
  watcher: EngineWatcher | null = null;
  readonly #blocks: GuestBlocks;

  #running = false;
  /** The library is between `uc_emu_start` and its return. */
  #emulating = false;
  #stopRequested = false;
  #sliceOver = false;
  #sliceEnd = 0;
  /** RIP as written by a hook; it takes effect when the library has returned. */
  #pendingRip: bigint | null = null;
  /** The first exception thrown in a hook of this run. */
  #thrown: { readonly error: unknown } | null = null;
  /** Linear address of the instruction that a code or block hook is called for; null elsewhere. */
  #hookAddress: bigint | null = null;
  /** Linear address of the code or block hook that asked for a stop: where the CPU goes on. */
  #stoppedAt: bigint | null = null;
  /** The hook that asked for it was a code hook. */
  #stoppedInCode = false;
  /** A stop that has to wait for the next code or block hook, where the library leaves a known RIP. */
  #deferredStop = false;
  /** It was asked for before the block that was to begin. */
  #leftForStop = false;
  #csBase: { readonly selector: bigint; readonly protectedMode: boolean; readonly base: bigint } | null =
    null;

  /** The last settled RIP was written by a hook. */
  #redirected = false;
  #inInterrupt = false;
  #counter: InstructionCounter | null = null;
  /** What notes instructions, and its buffer. */
  #steps: { readonly record: HookRecord; readonly buffer: StepBuffer } | null = null;
  /** Where other code hooks are; null where some have come or gone since this was last looked up. */
  #codeHooked: { readonly addresses: ReadonlySet<bigint>; readonly ranges: readonly HookRecord[] } | null =
    null;
  #lastInstruction = 0n;
  /** Linear address of the IN, OUT, CPUID or access to memory that a hook is called for, where it is known. */
  #accessInstruction: bigint | null = null;
  #inMemoryHook = false;
  #hasInterruptHook = false;
  #invalidInstruction = false;
  readonly #interruptHooks = new Set<InterruptHook>();
  /** In the order they were added, which is the order the library calls them in. */
  #hooks: HookRecord[] = [];
  #currentHook: HookRecord | null = null;
  /** The library has been asked to return so that hooks can come and go; the run then goes on. */
  #restart = false;
  #hooksChanged = false;
  /** Whether code may have been translated, and whether it must be dropped before the next run. */
  #translated = false;
  #flushBeforeRun = false;
  /** Deleted code hooks count as existing until the library has run once more. */
  #dyingCodeHooks = 0;
  /** Likewise those for accesses to memory: what is translated meanwhile goes the long way at each for good. */
  #dyingAccessHooks = false;
  #codeHooks = 0;
  #wholeCodeHooks = 0;
  /** Block hooks that the counter calls. */
  #told: readonly { readonly record: HookRecord; readonly hook: (address: bigint, size: number) => void }[] =
    [];
  /** A hook on every block, for what needs one: see `#watchBlocks`. */
  #blockWatch: HookRecord | null = null;
  #looksLeft = HOOKS_PER_LOOK;
  /** The total of instructions that the run ends at, and the place where it ends once that is known. */
  #lastTotal: number | null = null;
  #further: (() => number) | null = null;
  #exit: Exit | null = null;
  readonly #instructionHooks = new Map<SpecialInstruction['kind'], InstructionHook>();
  /** Linear addresses behind a MOV to CR4. */
  readonly #afterCr4 = new Set<bigint>();
  /** Linear addresses of special instructions that have their hook. */
  readonly #hookedInstructions = new Set<number>();
  /** While reads are hooked. */
  readonly #farReturns: FarReturns;
  #emptyCodeHook: ((address: number) => void) | null = null;
  readonly #newCodeHooks = new Set<(address: number) => void>();
  readonly #eachBlockHooks = new Set<(address: number) => void>();
  #environment: GuestEnvironment | null | undefined;
  #closed = false;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.engine = transport.engine;
    const version = transport.version();
    this.#version = version;
    this.engineVersion = versionText(version);
    const error = transport.open(UC_ARCH_X86, UC_MODE_64);
    if (error !== UC_ERR_OK) {
      throw new BootscopeError('cpu-open', `Unicorn cannot be opened: ${transport.errorText(error)}`);
    }
    this.#registers = new Registers(transport);
    this.#blocks = new GuestBlocks(transport);
    this.#farReturns = new FarReturns({
      cpu: this,
      registers: this.#registers,
      environment: () => this.#hidden(),
      hook: (kind, begin, end, hook) => this.#unhook(this.#addInstructionHook(kind, begin, end, hook)),
      csLoaded: () => {
        this.#csBase = null;
      },
    });
    this.#completeProcessor();
  }

  /** What every version is to do as the architecture has it. */
  #completeProcessor(): void {
    if (this.#version >>> 16 < KEEPS_NXE_SINCE) {
      // WRMSR leaves the bits alone that it takes for reserved, so that this one is in place before.
      this.hookInstruction('wrmsr', () => {
        if ((this.#registers.read('rcx') & MASK_32) !== MSR_EFER) return;
        this.#hidden()?.setNoExecute((this.#registers.read('rax') & EFER_NXE) !== 0n);
      });
    }
    this.hookInstruction('mov-cr4', (address, length) => {
      const next = address + BigInt(length);
      if (this.#afterCr4.has(next)) return;
      this.#afterCr4.add(next);
      this.hookCode(next, next, () => this.#allowVectorExtensions());
    });
  }

  /**
   * Processors run BMI instructions whatever CR4 says, the engine only while CR4.OSFXSR is set: its hidden copy of that bit
   * stays set. So SSE instructions run, too, where a processor would refuse them.
   */
  #allowVectorExtensions(): void {
    if (this.#hidden()?.allowVectorExtensions() && this.#emulating) this.#requestRestart();
  }

  #check(error: number, what: string): void {
    if (error !== UC_ERR_OK) {
      throw new BootscopeError('cpu-engine', `${what} failed: ${this.#transport.errorText(error)}`);
    }
  }

  mapRam(address: number, size: number): void {
    this.#blocks.map(address, size, true);
  }

  mapDevice(address: number, size: number): Uint8Array<ArrayBuffer> {
    return this.#blocks.map(address, size, false);
  }

  get blocks(): readonly MemoryBlock[] {
    return this.#blocks.ram;
  }

  touched(): readonly MemoryBlock[] {
    return this.#blocks.touched();
  }

  ram(address: number, length?: number): Uint8Array<ArrayBuffer> {
    return this.#blocks.view(address, length);
  }

  readRegisters(names: readonly RegisterName[], values: BigUint64Array): void {
    const { ripIndex, cs, cr0 } = this.#registers.readMany(names, values);
    if (ripIndex < 0) return;
    if (this.#pendingRip !== null) {
      values[ripIndex] = this.#pendingRip;
      return;
    }
    const linear =
      this.#hookAddress ?? this.#accessInstruction ?? (this.#ripIsLinear ? values[ripIndex]! : null);
    if (linear !== null) values[ripIndex] = this.#offsetInCs(linear, cs(), cr0());
  }

  readRegister(name: RegisterName): bigint {
    if (name === 'rip') {
      if (this.#pendingRip !== null) return this.#pendingRip;
      const linear = this.#hookAddress ?? this.#accessInstruction;
      if (linear !== null) return this.#ripOf(linear);
      if (this.#ripIsLinear) return this.#ripOf(this.#registers.read('rip'));
    }
    return this.#registers.read(name);
  }

  writeRegister(name: RegisterName, value: bigint): void {
    if (name === 'rip' && this.#running) {
      // The library's own way (it ends the block and goes on) forgets a stop asked for in the same hook.
      this.#pendingRip = BigInt.asUintN(64, value);
      this.#requestStop();
    } else {
      this.#registers.write(name, value);
    }
  }

  get storesFasterToData(): boolean {
    return this.#version >>> 16 >= STORES_FASTER_TO_DATA_SINCE;
  }

  setNoExecute(enabled: boolean): boolean {
    return this.#hidden()?.setNoExecute(enabled) ?? false;
  }

  readCodeAttributes(): number | null {
    return this.#hidden()?.readCsAttributes() ?? null;
  }

  readSegmentBases(): readonly bigint[] {
    const known = this.#hidden()?.readSegmentBases();
    if (known !== undefined) return known;
    const real = (this.#registers.read('cr0') & CR0_PE) === 0n;
    return SEGMENT_NAMES.map((name) => (real ? this.#registers.read(name) << 4n : 0n));
  }

  readDescriptorTable(name: 'gdtr' | 'idtr'): DescriptorTableRegister {
    return this.#registers.readTable(name);
  }

  writeDescriptorTable(name: 'gdtr' | 'idtr', value: DescriptorTableRegister): void {
    this.#registers.writeTable(name, value);
  }

  /** The hidden CS base, looked up again whenever CS or CR0.PE has changed. */
  #baseOfCs(selector: bigint, cr0: bigint): bigint {
    const protectedMode = (cr0 & CR0_PE) !== 0n;
    const known = this.#csBase;
    if (known !== null && known.selector === selector && known.protectedMode === protectedMode)
      return known.base;
    const base = this.#hidden()?.readCsBase() ?? (protectedMode ? 0n : selector << 4n);
    this.#csBase = { selector, protectedMode, base };
    return base;
  }

  #offsetInCs(linear: bigint, selector: bigint, cr0: bigint): bigint {
    const base = this.#baseOfCs(selector, cr0);
    // Below the base the offset wraps at 64 bits, as the engine's sum of the two does.
    return base === 0n ? linear : BigInt.asUintN(64, linear - base);
  }

  #ripOf(linear: bigint): bigint {
    return this.#offsetInCs(linear, this.#registers.read('cs'), this.#registers.read('cr0'));
  }

  /** The engine's hidden CPU state, null where this build's layout is unknown. */
  #hidden(): GuestEnvironment | null {
    if (this.#environment === undefined)
      this.#environment = findEnvironment(this.#transport, this.#registers.scratch);
    return this.#environment;
  }

  run(options: Parameters<Cpu['run']>[0] = {}): RunEnd {
    if (this.#running) throw new BootscopeError('cpu-nested-run', 'run was called from a hook');
    if (this.#transport.broken !== null) return this.#brokenDown(this.#transport.broken);
    const slice = options.sliceMilliseconds ?? 0;
    this.#lastTotal = null;
    this.#further = options.further ?? null;
    if (options.instructions !== undefined) {
      if (this.#counter === null) throw new BootscopeError('cpu-not-counting', 'No instructions are counted');
      if (options.instructions <= 0) return { kind: 'slice' };
      this.#lastTotal = this.#counter.standing + options.instructions;
    }
    this.#exit = null;
    this.#stopRequested = false;
    this.#sliceOver = false;
    this.#thrown = null;
    this.#pendingRip = null;
    this.#csBase = null;
    this.#redirected = false;
    this.#sliceEnd = slice > 0 ? monotonicTime() + slice : 0;
    this.#looksLeft = HOOKS_PER_LOOK;
    this.#running = true;
    try {
      return this.#runUntilEnd(slice > 0);
    } finally {
      this.#running = false;
      this.#emulating = false;
      this.#pendingRip = null;
      this.#hookAddress = null;
      for (const hook of this.#hooks) hook.skip = null;
    }
  }

  #runUntilEnd(inSlices: boolean): RunEnd {
    let begin = this.#registers.read('rip');
    for (;;) {
      this.#stoppedAt = null;
      this.#deferredStop = false;
      this.#leftForStop = false;
      this.#invalidInstruction = false;
      this.#restart = false;
      this.#changeHooks();
      this.#watchBlocks(inSlices);
      if (this.#dyingAccessHooks) this.#forgetAccessHooks(begin);
      if (this.#flushBeforeRun) {
        this.#flushBeforeRun = false;
        this.invalidateAllCode();
      }
      this.#translated = true;
      const dying = this.#dyingCodeHooks;
      this.#emulating = true;
      // Whether a hook is called for the first instruction once more is decided in JavaScript.
      this.#steps?.buffer.callNext();
      const exit = this.#exit;
      if (this.#counter !== null) {
        // The block that is ended early may count as one more.
        this.#counter.stopAt = exit === null ? this.#lastTotal : this.#lastTotal! + 1;
        this.#counter.tellAll(exit !== null || this.#newCodeHooks.size > 0);
      }
      // Where to end becomes part of the translation.
      if (exit !== null) this.#dropTranslations(BigInt(exit.blockStart), BigInt(exit.blockEnd));
      this.watcher?.before();
      const error = this.#transport.emuStart(begin, BigInt(exit?.address ?? 0));
      this.#emulating = false;
      this.watcher?.after();
      this.#exit = exit === this.#exit ? null : this.#exit;
      this.#dyingCodeHooks -= dying;
      this.#hookAddress = null;
      if (this.#transport.broken !== null) return this.#brokenDown(this.#transport.broken);
      begin = this.#settleRip();
      if (exit !== null && this.#cameTo(exit, begin, error)) return { kind: 'slice' };
      if (this.#invalidInstruction && this.#thrown === null) {
        const moved = this.#reportInvalidInstruction();
        begin = this.#settleRip();
        if (!moved && !this.#stopRequested && this.#thrown === null) {
          return { kind: 'error', error: 'Invalid instruction (UC_ERR_INSN_INVALID)' };
        }
        if (!this.#stopRequested && this.#thrown === null) {
          if (this.#isSliceOver()) return { kind: 'slice' };
          continue;
        }
      }
      if (this.#thrown !== null) throw this.#thrown.error;
      if (this.#stopRequested) return { kind: 'stopped' };
      if (this.#sliceOver) return { kind: 'slice' };
      // Not the place to end a slice: which hooks were called before the restart is forgotten then.
      if (this.#restart) {
        if (this.#isSliceOver()) this.#counter?.lookSoon();
        continue;
      }
      if (this.#redirected) {
        if (this.#isSliceOver()) return { kind: 'slice' };
        continue;
      }
      if (error !== UC_ERR_OK) return { kind: 'error', error: this.#transport.errorText(error) };
      // The library takes an end address that cannot be switched off; it is the linear address 0.
      if (this.#linear(begin) === 0n) return { kind: 'error', error: 'the CPU came to linear address 0' };
      return { kind: 'halted' };
    }
  }

  /** Has the library, at RIP, run no instruction: it gives up deleted hooks when it returns. */
  #forgetAccessHooks(rip: bigint): void {
    this.#dyingAccessHooks = false;
    this.#flushBeforeRun = this.#translated;
    const end = this.#linear(rip);
    if (end === 0n) return;
    // Where to end becomes part of the translation.
    this.#dropTranslations(end, end + 1n);
    this.#transport.emuStart(rip, end);
    this.#dropTranslations(end, end + 1n);
  }

  /** Whether the library ended where it was told to, and nothing else has happened. */
  #cameTo(exit: Exit, rip: bigint, error: number): boolean {
    this.#dropTranslations(BigInt(exit.blockStart), BigInt(exit.blockEnd));
    const interrupted =
      this.#thrown !== null ||
      this.#stopRequested ||
      this.#restart ||
      this.#redirected ||
      this.#invalidInstruction;
    if (interrupted || error !== UC_ERR_OK || this.#linear(rip) !== BigInt(exit.address)) return false;
    this.#counter!.reset(this.#lastTotal!);
    return true;
  }

  isLeft(address: number, size: number, block: DecodedBlock): boolean {
    this.#hookAddress = BigInt(address);
    for (const special of block.special ?? []) this.#hookSpecial(address + special.offset, special);
    if (this.#emptyCodeHook !== null && size >= EMPTY_CODE && this.#isEmpty(address)) {
      try {
        this.#emptyCodeHook(address);
      } catch (error) {
        this.#keep(error);
      }
    }
    for (const hooks of [this.#newCodeHooks, this.#eachBlockHooks]) {
      for (const hook of hooks) {
        try {
          hook(address);
        } catch (error) {
          this.#keep(error);
        }
      }
    }
    this.#hookAddress = null;
    return this.#stoppedAt !== null;
  }

  begins(address: number, size: number): boolean {
    const linear = BigInt(address);
    for (const { record, hook } of this.#told) {
      if (record.handle !== null && !record.removed && covers(record, linear))
        this.#atInstruction(record, linear, size, hook);
    }
    return this.#stoppedAt === null;
  }

  #isEmpty(address: number): boolean {
    return (
      this.memory.contains(address, EMPTY_CODE) &&
      this.memory.view(address, EMPTY_CODE).every((byte) => byte === 0)
    );
  }

  /** The first time that an instruction of a kind with a hook is about to run, it gets a code hook. */
  #hookSpecial(address: number, { kind, length }: SpecialInstruction): void {
    const hook = this.#instructionHooks.get(kind);
    if (hook === undefined || this.#hookedInstructions.has(address)) return;
    this.#hookedInstructions.add(address);
    this.hookCode(BigInt(address), BigInt(address), (linear) => hook(linear, length));
  }

  reached(address: number, size: number, block: DecodedBlock, instructionsLeft: number): boolean {
    this.#hookAddress = BigInt(address);
    if (this.#runsOn()) {
      this.#hookAddress = null;
      return true;
    }
    if (this.#deferredStop) {
      this.#deferredStop = false;
      this.#leftForStop = true;
    }
    // The host may have done more at once than were left.
    else if (instructionsLeft <= 0 || this.#exit !== null) this.#sliceOver = true;
    else {
      const stop = address + block.starts[instructionsLeft]!;
      this.#exit = { address: stop, blockStart: address, blockEnd: address + size };
      this.#restart = true;
    }
    this.#requestStop();
    this.#hookAddress = null;
    return false;
  }

  /** Whether the run goes on behind the instructions that it was to end at. */
  #runsOn(): boolean {
    if (this.#deferredStop || this.#exit !== null || this.#further === null) return false;
    let more = 0;
    try {
      more = this.#further();
    } catch (error) {
      this.#keep(error);
    }
    if (more <= 0) return false;
    this.#lastTotal! += more;
    this.#counter!.stopAt = this.#lastTotal;
    return true;
  }

  isTimeUp(address: number): boolean {
    // A hook that has been called here is not to be called again, which is forgotten at the end of a run.
    if (this.#hooks.some(({ skip }) => skip !== null)) {
      if (this.#isSliceOver()) this.#counter!.lookSoon();
      return false;
    }
    this.#lookAtClock(BigInt(address));
    return this.#sliceOver;
  }

  /** Of use for its registers only from now on. What it broke down over lies at RIP or soon behind it. */
  #brokenDown(reason: string): RunEnd {
    return {
      kind: 'error',
      error: `the engine (Unicorn ${this.engineVersion}) broke down: ${reason}`,
      broken: true,
    };
  }

  /** Puts RIP where a hook left it or a stop belongs, and returns it. */
  #settleRip(): bigint {
    let rip: bigint;
    if (this.#stoppedAt !== null) {
      const done = this.#stoppedInCode && this.#pendingRip !== null;
      this.#counter?.leftBefore(Number(this.#stoppedAt), done);
    }
    this.#redirected = this.#pendingRip !== null;
    if (this.#pendingRip !== null) {
      rip = this.#pendingRip;
      for (const hook of this.#hooks) hook.skip = null;
    } else if (this.#stoppedAt !== null) rip = this.#ripOf(this.#stoppedAt);
    else return this.#registers.read('rip');
    this.#pendingRip = null;
    this.#stoppedAt = null;
    this.#registers.write('rip', rip);
    return rip;
  }

  #linear(rip: bigint): bigint {
    const base = this.#baseOfCs(this.#registers.read('cs'), this.#registers.read('cr0'));
    return BigInt.asUintN(64, rip + base);
  }

  stop(): void {
    if (!this.#running) return;
    this.#stopRequested = true;
    this.#requestStop();
  }

  /**
   * Asks the library to return, at a point where RIP is known. While any code hook exists, the library takes
   * RIP for up to date when it stops between two blocks, which it isn't after a direct jump from block to
   * block (and WASM never brings it up to date): a stop asked for in an IN, OUT, CPUID or memory hook then
   * waits for the hook on the next block or instruction.
   */
  #requestStop(): void {
    if (this.#hookAddress !== null) {
      this.#stoppedAt = this.#hookAddress;
      this.#stoppedInCode = this.#currentHook?.kind === 'code';
      this.#transport.emuStop();
    } else if (this.#stopsExactly() || this.#inInterrupt) {
      this.#transport.emuStop();
    } else {
      this.#deferredStop = true;
      if (this.#blockWatch !== null) this.#transport.callCounted();
      // No block goes beyond it.
      else if (this.#counter !== null) this.#counter.stopAt = 0;
    }
  }

  #stopsExactly(): boolean {
    return this.#codeHooks + this.#dyingCodeHooks === 0 && this.#transport.stopsExactly;
  }

  #keep(error: unknown): void {
    this.#thrown ??= { error };
    this.#requestStop();
  }

  #add<K extends HookShape>(
    shape: K,
    type: number,
    begin: bigint,
    end: bigint,
    instruction: number,
    callback: HookShapes[K],
  ): Pointer {
    const { error, hook } = this.#transport.hookAdd(shape, type, begin, end, instruction, callback);
    this.#check(error, `Adding a hook (${shape})`);
    return hook;
  }

  /** Adds a hook that the library looks for each time it is due, not when it translates. */
  #addHook<K extends HookShape>(
    shape: K,
    type: number,
    instruction: number,
    callback: (record: HookRecord) => HookShapes[K],
  ): Unhook {
    const record = this.#addRecord('other', 1n, 0n, () =>
      this.#add(shape, type, 1n, 0n, instruction, callback(record)),
    );
    return this.#unhook(record);
  }

  #addRecord(
    kind: HookRecord['kind'],
    begin: bigint,
    end: bigint,
    add: (record: HookRecord) => Pointer,
    call: HookShapes['code'] | null = null,
  ): HookRecord {
    const record: HookRecord = {
      ...{ kind, begin, end, call, handle: null, removed: false, skip: null },
      add: () => add(record),
    };
    this.#hooks.push(record);
    this.#hooksChanged = true;
    this.#codeHooked = null;
    if (kind === 'code') this.#farReturns.keepLast(begin, end);
    if (call !== null) this.#steps?.buffer.forget(begin, end);
    if (this.#emulating) this.#requestRestart();
    return record;
  }

  #removeRecord(record: HookRecord): void {
    record.removed = true;
    this.#hooksChanged = true;
    this.#codeHooked = null;
  }

  /** Has the library return so that new hooks can be added; to the hooks it looks as if nothing had happened. */
  #requestRestart(): void {
    if (this.#restart) return;
    this.#restart = true;
    const current = this.#currentHook;
    const address = this.#hookAddress;
    if (current !== null && address !== null) {
      // Each kind is called in the order of adding.
      let called = true;
      for (const hook of this.#hooks) {
        const before = CALL_ORDER[hook.kind] < CALL_ORDER[current.kind];
        const wasCalled = before || (hook.kind === current.kind && called);
        if (wasCalled && covers(hook, address)) hook.skip = address;
        if (hook === current) called = false;
      }
    }
    this.#requestStop();
  }

  /** Adds and deletes what has been asked for, while the library isn't running. */
  #changeHooks(): void {
    if (!this.#hooksChanged) return;
    this.#hooksChanged = false;
    for (const hook of this.#hooks) {
      const wanted = !hook.removed && (hook.call === null || this.#steps === null);
      if (!wanted && hook.handle !== null) {
        if (hook.kind !== 'told') this.#deleteTranslated(hook.handle);
        hook.handle = null;
        if (hook.kind === 'access') this.#dyingAccessHooks = true;
        this.#count(hook, -1);
        if (hook.kind === 'code') this.#dyingCodeHooks++;
      } else if (wanted && hook.handle === null) {
        hook.handle = hook.add();
        this.#count(hook, 1);
        if (hook.kind === 'code' || hook.kind === 'block') this.#retranslate(hook.begin, hook.end);
        // Its range is of data; any code may go there.
        else if (hook.kind === 'access' && this.#translated) this.#flushBeforeRun = true;
      }
    }
    this.#hooks = this.#hooks.filter((hook) => !hook.removed);
    this.#told = this.#told.filter(({ record }) => !record.removed);
    this.#counter?.tell(this.#told.map(({ record }) => record));
  }

  #count(hook: HookRecord, change: number): void {
    if (hook.kind !== 'code') return;
    this.#codeHooks += change;
    if (isWhole(hook)) this.#wholeCodeHooks += change;
  }

  /**
   * The library drops the code the hook is part of, and looks it up as the guest would: a page the guest
   * doesn't map then leaves traces of a page fault.
   */
  #deleteTranslated(handle: Pointer): void {
    if (!this.#isPaging()) {
      this.#transport.hookDel(handle);
      return;
    }
    const cr2 = this.readRegister('cr2');
    this.#transport.hookDel(handle);
    this.writeRegister('cr2', cr2);
    this.#hidden()?.takeException();
  }

  /** Code that was translated before a hook came does not call it. */
  #retranslate(begin: bigint, end: bigint): void {
    if (!this.#translated) return;
    // A block is dropped where it overlaps the range, wherever it starts.
    if (end - begin < DROPPED_BY_RANGE) this.#dropRange(begin, end + 1n);
    else this.#flushBeforeRun = true;
  }

  #addInstructionHook(
    kind: 'code' | 'block',
    begin: bigint,
    end: bigint,
    hook: (address: bigint, size: number) => void,
  ): HookRecord {
    const type = kind === 'code' ? UC_HOOK_CODE : UC_HOOK_BLOCK;
    const call = (address: bigint, size: number): void => {
      if (record.removed) return;
      this.#atInstruction(record, address, size, hook);
      if (countsTime && --this.#looksLeft <= 0) this.#lookAtClock(address);
    };
    const add = () => this.#add('code', type, begin, end, 0, call);
    const record = this.#addRecord(kind, begin, end, add, kind === 'code' ? call : null);
    const countsTime = kind === 'code' && isWhole(record);
    return record;
  }

  /**
   * At an instruction that the hook which notes them is called for: calls the code hooks as the library would, in the order of adding. While it is
   * there, the library has no other, since it calls a single one straight out of the translation and goes through a list of more.
   */
  #atStep(steps: HookRecord, address: bigint, size: number, hook: HookShapes['code']): void {
    if (!this.#hasCodeHook(address)) {
      this.#atInstruction(steps, address, size, hook);
      return;
    }
    for (const record of this.#hooks) {
      if (record.removed) continue;
      if (record === steps) this.#atInstruction(record, address, size, hook);
      else if (covers(record, address)) record.call?.(address, size);
      if (this.#stoppedAt !== null) return;
    }
  }

  #hasCodeHook(address: bigint): boolean {
    if (this.#codeHooked === null) {
      const all = this.#hooks.filter(({ call, removed }) => call !== null && !removed);
      this.#codeHooked = {
        addresses: new Set(all.filter(({ begin, end }) => begin === end).map(({ begin }) => begin)),
        ranges: all.filter(({ begin, end }) => begin !== end),
      };
    }
    const { addresses, ranges } = this.#codeHooked;
    return addresses.has(address) || ranges.some((record) => covers(record, address));
  }

  /** Runs the body of a code or block hook. */
  #atInstruction(
    record: HookRecord,
    address: bigint,
    size: number,
    hook: (address: bigint, size: number) => void,
  ): void {
    // What came before this one, on the same instruction, has sent the CPU elsewhere or has to come first again.
    const isLeft = this.#pendingRip !== null || this.#restart || this.#sliceOver || this.#leftForStop;
    if (this.#stoppedAt !== null && isLeft) return;
    if (record.skip !== null) {
      const skipped = record.skip === address;
      record.skip = null;
      if (skipped) return;
    }
    this.#hookAddress = address;
    this.#lastInstruction = address;
    this.#currentHook = record;
    if (this.#deferredStop) {
      this.#deferredStop = false;
      this.#requestStop();
    } else {
      try {
        hook(address, size);
      } catch (error) {
        this.#keep(error);
      }
    }
    this.#hookAddress = null;
    this.#currentHook = null;
  }

  #unhook(record: HookRecord): Unhook {
    return () => {
      if (record.removed || this.#closed) return;
      this.#removeRecord(record);
    };
  }

  hookCode(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook {
    return this.#unhook(this.#addInstructionHook('code', begin, end, hook));
  }

  hookSteps(
    names: readonly RegisterName[],
    hook: (address: bigint, size: number) => void,
    full: () => void,
  ): Steps | null {
    const block = this.#blocks.at(0);
    const made = this.#transport.makeStepsHook(
      block.pointer,
      block.size,
      Registers.ids(names),
      (address, size) => {
        if (!record.removed) this.#atStep(record, address, size, buffer.full ? full : hook);
      },
    );
    if (made === null) return null;
    const { buffer } = made;
    // Not called for every instruction, so that it is no place to look at the clock: not a whole code hook.
    const record = this.#addRecord('code', 1n, MAX_64, () => {
      const { error, hook: handle } = made.add();
      this.#check(error, 'Adding a hook for steps');
      return handle;
    });
    const removeHook = this.#unhook(record);
    this.#steps = { record, buffer };
    this.#registers.written = () => buffer.readAll();
    return {
      get count() {
        return buffer.count;
      },
      get used() {
        return buffer.used;
      },
      all: buffer.all,
      get addresses() {
        return buffer.addresses;
      },
      get changes() {
        return buffer.changes;
      },
      get values() {
        return buffer.values;
      },
      clear: () => buffer.clear(),
      setLast: (address, flags, changes) => {
        if (flags === null || this.#hasCodeHook(BigInt(address))) buffer.callNext();
        else buffer.setLast(address, flags, changes);
      },
      readAll: () => buffer.readAll(),
      remember: (address, code, flags, changes) => {
        if (!this.#hasCodeHook(BigInt(address))) buffer.remember(address, code, flags, changes);
      },
      setMode: (mode) => buffer.setMode(mode),
      unhook: () => {
        removeHook();
        if (this.#steps?.buffer !== buffer) return;
        this.#steps = null;
        // The library is to have the others again.
        if (this.#emulating) this.#requestRestart();
        this.#registers.written = null;
      },
    };
  }

  hookBlock(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook {
    if (this.#counter !== null) {
      // With two hooks of its own, the library goes through a list of them at each block instead of calling the one.
      const record = this.#addRecord('told', begin, end, () => 0);
      this.#told = [...this.#told, { record, hook }];
      return this.#unhook(record);
    }
    return this.#unhook(this.#addInstructionHook('block', begin, end, hook));
  }

  #isSliceOver(): boolean {
    return this.#sliceEnd !== 0 && monotonicTime() >= this.#sliceEnd;
  }

  #lookAtClock(address: bigint): void {
    this.#looksLeft = HOOKS_PER_LOOK;
    if (this.#stoppedAt !== null || !this.#isSliceOver()) return;
    this.#sliceOver = true;
    this.#hookAddress = address;
    this.#requestStop();
    this.#hookAddress = null;
  }

  /**
   * Hooks every block while it is needed and nobody counts, which calls for each block, too: to end slices, and as the place for
   * deferred stops while code hooks cover only a part of the code.
   */
  #watchBlocks(forSlices: boolean): void {
    const needed =
      this.#wholeCodeHooks === 0 && this.#counter === null && (forSlices || !this.#stopsExactly());
    if (needed === (this.#blockWatch !== null)) return;
    if (this.#blockWatch === null) {
      this.#blockWatch = this.#addBlockWatch();
    } else {
      this.#removeRecord(this.#blockWatch);
      this.#blockWatch = null;
    }
    this.#changeHooks();
  }

  #addBlockWatch(): HookRecord {
    return this.#addRecord('block', 0n, MAX_64, (record) => {
      const look = (address: bigint, size: number) => {
        if (record.removed) return;
        record.skip = null;
        this.#atInstruction(record, address, size, () => this.#lookAtClock(address));
      };
      const counted = this.#transport.hookAddCounted(HOOKS_PER_LOOK, look);
      if (counted === null) {
        return this.#add('code', UC_HOOK_BLOCK, 0n, MAX_64, 0, (address, size) => {
          if (--this.#looksLeft <= 0 || this.#deferredStop) look(address, size);
        });
      }
      this.#check(counted.error, 'Adding a counted hook');
      return counted.hook;
    });
  }

  hookInterrupt(hook: InterruptHook): Unhook {
    if (this.#interruptHooks.size === 0 && !this.#hasInterruptHook) {
      this.#hasInterruptHook = true;
      this.#addHook('interrupt', UC_HOOK_INTR, 0, () => (vector) => {
        this.#inInterrupt = true;
        try {
          const details = vector < EXCEPTION_VECTORS ? this.#hidden()?.takeException() : undefined;
          const exception =
            details === undefined || details.isSoftware ? null : { errorCode: details.errorCode };
          if (exception !== null) this.#counter?.faulted(Number(this.#linear(this.#registers.read('rip'))));
          for (const each of this.#interruptHooks) each(vector, exception);
          // It is not certain any more that the block is gone through to there.
          if (this.#exit !== null) {
            this.#restart = true;
            this.#requestStop();
          }
        } catch (error) {
          this.#keep(error);
        }
        this.#inInterrupt = false;
      });
      // The library reports undefined instructions apart from all other exceptions.
      this.#addHook('instruction', UC_HOOK_INSN_INVALID, 0, () => () => {
        this.#invalidInstruction = true;
        this.#transport.emuStop();
        return 1;
      });
    }
    // The same function may be given twice.
    const each: InterruptHook = (vector, exception) => hook(vector, exception);
    this.#interruptHooks.add(each);
    return () => {
      this.#interruptHooks.delete(each);
    };
  }

  /** Calls the interrupt hooks for #UD after the library has returned; true when they moved RIP. */
  #reportInvalidInstruction(): boolean {
    this.#inInterrupt = true;
    try {
      for (const each of this.#interruptHooks) each(INVALID_OPCODE, { errorCode: 0 });
    } catch (error) {
      this.#thrown ??= { error };
    }
    this.#inInterrupt = false;
    return this.#pendingRip !== null;
  }

  hookIn(hook: (port: number, size: 1 | 2 | 4) => number): Unhook {
    return this.#addHook('in', UC_HOOK_INSN, UC_X86_INS_IN, (record) => (port, size) => {
      if (record.removed) return 0;
      this.#accessInstruction = this.#addressOfHooked('ports');
      try {
        return hook(port, size as 1 | 2 | 4) >>> 0;
      } catch (error) {
        this.#keep(error);
        return 0;
      } finally {
        this.#accessInstruction = null;
      }
    });
  }

  hookOut(hook: (port: number, size: 1 | 2 | 4, value: number) => void): Unhook {
    return this.#addHook('out', UC_HOOK_INSN, UC_X86_INS_OUT, (record) => (port, size, value) => {
      if (record.removed) return;
      this.#accessInstruction = this.#addressOfHooked('ports');
      try {
        hook(port, size as 1 | 2 | 4, value);
      } catch (error) {
        this.#keep(error);
      } finally {
        this.#accessInstruction = null;
      }
    });
  }

  #addressOfHooked(kind: 'ports' | 'cpuids'): bigint | null {
    if (this.#wholeCodeHooks > 0) return this.#lastInstruction;
    const address = this.#counter?.hookedInstruction(kind) ?? null;
    return address === null ? null : BigInt(address);
  }

  hookCpuid(hook: (leaf: number, subleaf: number) => readonly [number, number, number, number]): Unhook {
    return this.#addHook('instruction', UC_HOOK_INSN, UC_X86_INS_CPUID, (record) => () => {
      if (record.removed) return 0;
      this.#accessInstruction = this.#addressOfHooked('cpuids');
      try {
        const leaf = Number(this.readRegister('rax') & MASK_32);
        const subleaf = Number(this.readRegister('rcx') & MASK_32);
        const [eax, ebx, ecx, edx] = hook(leaf, subleaf);
        this.writeRegister('rax', BigInt(eax >>> 0));
        this.writeRegister('rbx', BigInt(ebx >>> 0));
        this.writeRegister('rcx', BigInt(ecx >>> 0));
        this.writeRegister('rdx', BigInt(edx >>> 0));
      } catch (error) {
        this.#keep(error);
      } finally {
        this.#accessInstruction = null;
      }
      return 1;
    });
  }

  hookRdtsc(hook: () => bigint): void {
    if (this.#version >>> 8 < RDTSC_HOOKABLE_SINCE) {
      this.hookInstruction('rdtsc', (_address, length) => {
        this.#giveTimeStamp(hook());
        this.writeRegister('rip', this.readRegister('rip') + BigInt(length));
      });
      return;
    }
    this.#addHook('instruction', UC_HOOK_INSN, UC_X86_INS_RDTSC, (record) => () => {
      if (record.removed) return 0;
      try {
        this.#giveTimeStamp(hook());
      } catch (error) {
        this.#keep(error);
      }
      return 1;
    });
  }

  #giveTimeStamp(stamp: bigint): void {
    this.writeRegister('rax', stamp & MASK_32);
    this.writeRegister('rdx', (stamp >> 32n) & MASK_32);
  }

  hookMemoryWrite(
    begin: bigint,
    end: bigint,
    hook: (address: bigint, size: number, value: bigint) => void,
  ): Unhook {
    return this.#hookMemory(UC_HOOK_MEM_WRITE, begin, end, (address, size, value) =>
      hook(address, size, BigInt.asUintN(size * 8, value)),
    );
  }

  hookMemoryRead(begin: bigint, end: bigint, hook: (address: bigint, size: number) => void): Unhook {
    const unhook = this.#hookMemory(UC_HOOK_MEM_READ, begin, end, hook);
    const untell = this.#farReturns.tell({ begin, end, hook });
    return () => {
      unhook();
      untell();
    };
  }

  #hookMemory(
    type: number,
    begin: bigint,
    end: bigint,
    hook: (address: bigint, size: number, value: bigint) => void,
  ): Unhook {
    // The library looks at the first byte of an access alone.
    const first = begin < LONGEST_ACCESS ? 0n : begin - LONGEST_ACCESS + 1n;
    const record = this.#addRecord('access', begin, end, () =>
      this.#add('memory', type, first, end, 0, (_type, address, size, value) => {
        if (record.removed || address + BigInt(size) <= begin) return;
        this.#inMemoryHook = true;
        if (this.#wholeCodeHooks > 0) this.#accessInstruction = this.#lastInstruction;
        try {
          hook(address, size, value);
        } catch (error) {
          this.#keep(error);
        }
        this.#accessInstruction = null;
        this.#inMemoryHook = false;
      }),
    );
    return this.#unhook(record);
  }

  hookInvalidAccess(hook: (access: InvalidAccess) => boolean): Unhook {
    const record = this.#addRecord('other', 1n, 0n, () => {
      // No access to RAM is invalid, and where there is such a hook all stores take the engine's long way.
      const ram = BigInt(this.#blocks.ram.find(({ start }) => start === 0)?.end ?? 0);
      const first = ram < LONGEST_ACCESS ? 0n : ram - LONGEST_ACCESS + 1n;
      return this.#add('invalid', UC_HOOK_MEM_INVALID, first, MAX_64, 0, (type, address, size) => {
        const kind = INVALID_ACCESS[type];
        if (record.removed || kind === undefined) return false;
        try {
          return hook({ ...kind, address, size });
        } catch (error) {
          this.#keep(error);
          return false;
        }
      });
    });
    return this.#unhook(record);
  }

  countInstructions(decode: BlockDecoder): void {
    const block = this.#blocks.at(0);
    const missed = (address: bigint, size: number): void => {
      try {
        this.#counter?.missed(Number(address), size);
      } catch (error) {
        this.#hookAddress = address;
        this.#keep(error);
        this.#hookAddress = null;
      }
    };
    const added = this.#transport.hookAddBlockCounter(block.pointer, block.size, missed);
    if (added === null) throw new BootscopeError('cpu-memory', 'The host has no memory left for counting');
    this.#check(added.error, 'Adding a hook that counts');
    this.#counter = new InstructionCounter(
      this.#transport,
      added.state,
      this.memory,
      decode,
      this,
      SPECIAL_OPCODES,
    );
    if (this.#translated) this.#flushBeforeRun = true;
    this.#allowVectorExtensions();
    // Ours has to be called first: the next run adds this one behind it.
    if (this.#blockWatch !== null) this.#removeRecord(this.#blockWatch);
    this.#blockWatch = null;
  }

  hookInstruction(kind: SpecialInstruction['kind'], hook: InstructionHook): void {
    this.#instructionHooks.set(kind, hook);
  }

  hookEmptyCode(hook: (address: number) => void): void {
    this.#emptyCodeHook = hook;
  }

  hookNewCode(hook: (address: number) => void): Unhook {
    // The same function may be given twice.
    const each = (address: number): void => hook(address);
    this.#newCodeHooks.add(each);
    return () => {
      this.#newCodeHooks.delete(each);
    };
  }

  hookEachBlock(hook: (address: number) => void): Unhook {
    if (this.#counter === null) return this.hookBlock(0n, MAX_64, (address) => hook(Number(address)));
    const hooks = this.#eachBlockHooks;
    // The same function may be given twice.
    const each = (address: number): void => hook(address);
    hooks.add(each);
    this.#counter.tellEach(true);
    return () => {
      if (hooks.delete(each) && hooks.size === 0) this.#counter?.tellEach(false);
    };
  }

  /** Linear address of the instruction that accesses memory now. In these hooks Unicorn 2.0's own RIP is that. */
  #memoryInstruction(): bigint {
    const rip = this.#registers.read('rip');
    return this.#ripIsLinear ? rip : this.#linear(rip);
  }

  get #ripIsLinear(): boolean {
    return this.#inMemoryHook && this.#version >>> 16 < RIP_IS_OFFSET_SINCE;
  }

  addInstructions(count: number): void {
    this.#counter?.add(count);
  }

  get instructions(): number | null {
    const counter = this.#counter;
    if (counter === null) return null;
    if (this.#inInterrupt) return counter.total - 1;
    const linear = this.#emulating
      ? (this.#hookAddress ??
        this.#accessInstruction ??
        (this.#inMemoryHook ? this.#memoryInstruction() : null))
      : null;
    if (linear !== null) return counter.before(Number(linear));
    return this.#emulating ? counter.total : counter.standing;
  }

  saveState(): CpuState {
    const context = this.#withContext((pointer, size) => {
      this.#check(this.#transport.contextSave(pointer), 'Saving the state of the CPU');
      return this.#transport.view(pointer, size).slice();
    });
    return { context, instructions: this.instructions };
  }

  restoreState(state: CpuState): void {
    this.#withContext((pointer, size) => {
      if (state.context.length !== size) {
        throw new BootscopeError(
          'cpu-state',
          `A state of ${state.context.length} bytes is no state of this engine, whose states have ${size}`,
        );
      }
      this.#transport.view(pointer, size).set(state.context);
      this.#check(this.#transport.contextRestore(pointer), 'Restoring the state of the CPU');
    });
    // Drops what the engine remembers of the page tables.
    this.writeRegister('cr3', this.readRegister('cr3'));
    this.#csBase = null;
    if (state.instructions !== null) this.#counter?.reset(state.instructions);
  }

  #withContext<T>(use: (pointer: Pointer, size: number) => T): T {
    const pointer = this.#transport.contextAlloc();
    if (pointer === null)
      throw new BootscopeError('cpu-memory', "The host has no memory for the CPU's state");
    try {
      return use(pointer, this.#transport.contextSize());
    } finally {
      this.#transport.contextFree(pointer);
    }
  }

  invalidateCode(address: number, length: number): void {
    if (length <= 0) return;
    this.#dropTranslations(BigInt(address), BigInt(address) + BigInt(length));
  }

  /**
   * The library looks up the page of `begin` as the guest would. Where the guest has not mapped it, that
   * raises a page fault which is then taken for the guest's own, so it isn't tried; nothing can run there.
   */
  #dropTranslations(begin: bigint, end: bigint): void {
    if (this.#isPaging() && linearToPhysical(this, begin) === null) return;
    this.#transport.removeCache(begin, end);
  }

  invalidateAllCode(): void {
    if (!this.#isPaging()) {
      this.#check(this.#transport.flushCache(), 'Dropping translated code');
      return;
    }
    // A walk of the guest's tables would mark what it comes by as accessed; what the engine remembers of them goes before and after.
    this.writeRegister('cr3', this.readRegister('cr3'));
    let error = 0;
    const dropped = this.#hidden()?.withoutPaging(() => {
      error = this.#transport.flushCache();
    });
    this.writeRegister('cr3', this.readRegister('cr3'));
    this.#check(error, 'Dropping translated code');
    if (dropped === true) return;
    for (const { address, size } of this.#blocks) this.#dropRange(BigInt(address), BigInt(address + size));
  }

  /** For what may reach over several of the guest's pages: one piece may be mapped where another is not. */
  #dropRange(begin: bigint, end: bigint): void {
    for (let start = begin; start < end; ) {
      const next = (start / LARGE_PAGE + 1n) * LARGE_PAGE;
      this.#dropTranslations(start, next < end ? next : end);
      start = next;
    }
  }

  #isPaging(): boolean {
    return this.#blocks.ram.length > 0 && (this.readRegister('cr0') & CR0_PG) !== 0n;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Its fields lie in memory that goes now.
    this.#counter = null;
    this.#blocks.clear();
    this.#transport.close();
  }
}

/** An opened CPU over a transport that has no instance yet. */
export function createUnicorn(transport: Transport): Cpu {
  return new UnicornCpu(transport);
}
