// One boot in progress: a machine with an image, and the loop that runs its CPU. What enters it (entries/) and what recognises
// the points of the boot (watch/) hook instructions here; what they do happens between two runs of the CPU, in order.

import { blockDecoder } from '../cpu/block-decoder.ts';
import type { Cpu, Unhook } from '../cpu/cpu.ts';
import type { Extraction, KaslrRequest } from '../decompressor/extract-kernel.ts';
import { findStub } from '../decompressor/find-stub.ts';
import type { KernelFileParts } from '../decompressor/kernel-sections.ts';
import type { PayloadAhead } from '../decompressor/payload-ahead.ts';
import type { StubLayout } from '../decompressor/stub.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { monotonicTime, nextTurn } from '../host/host.ts';
import { isBootDisk } from '../image/boot-disk.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { LOOKED_AT, loopFromHere, RecentInstructions } from '../machine/loop.ts';
import { Machine, type MachineOptions } from '../machine/machine.ts';
import type { BootParamsAtJump, Hazard, KernelAtJump, Phase, PhaseName } from '../trace/boot-trace.ts';
import type { TableMemory } from '../x86/page-tables.ts';
import { AccessObserver, type ObservedAccess } from './access-observer.ts';
import { BootRecord } from './boot-record.ts';
import { CODE_BITS, CpuModeReader, codeSegmentBase } from './cpu-mode.ts';
import { DataPages } from './data-pages.ts';
import type { LoadedImage } from './entries/loaded-image.ts';
import { Hold } from './hold.ts';
import { type InstructionListener, InstructionStream } from './instruction-stream.ts';
import { kaslrRequest, machineSeed } from './kaslr-request.ts';
import { type BootOptions, diskProblems } from './options.ts';
import type { Snapshots } from './snapshots.ts';
import type { WatchedRange } from './stop.ts';
import { ukiNotices } from './uki-sections.ts';

/** An image without a kernel may run for ever; decompressing on the CPU takes minutes on a slow host. */
const PATIENCE_WITHOUT_KERNEL = 10;
const PATIENCE_HOOKED = 60;
/** A boot loader copies kernel and initrd byte by byte. */
const PATIENCE_LOADER = 300;
const PATIENCE_EMULATED = 1800;
const END_OF_MEMORY = 0xffff_ffff_ffff_ffffn;

/** Those of a boot loader that a BIOS has started. */
const LOADER_PHASES: ReadonlySet<PhaseName> = new Set(['boot-sector', 'stage1.5', 'stage2']);

type Act = () => Promise<void> | void;

/** What is done between two runs of the CPU. */
interface Action {
  readonly act: Act;
  /** It changes the guest, so that a boot that is held does not do it; otherwise it only notes what is there. */
  readonly changes: boolean;
}

/** What is known of a boot so far; null for what has not been seen. */
interface Findings {
  loaded: LoadedImage | null;
  /** Physical address of the protected-mode code that runs now: as loaded, later the copy. */
  zo: number | null;
  /** Where it has copied itself to. */
  copyAddress: number | null;
  bootParams: number | null;
  extraction: Extraction | null;
  /** The ELF file that nobody here decompressed: the guest did, or it was loaded as it is. */
  kernelFile: KernelFileParts | null;
  kernel: KernelAtJump | null;
  /** What was wrong with what the loader has left, before the first instruction. */
  fromLoader: readonly Hazard[];
  /** As the kernel gets it. */
  bootParamsAtJump: BootParamsAtJump | null;
}

/** Bits that have to be set in CR0 and EFER. */
interface ModeBits {
  readonly cr0?: bigint;
  readonly efer?: bigint;
}

export class BootRun {
  readonly machine: Machine;
  readonly cpu: Cpu;
  readonly options: BootOptions;
  readonly mode: CpuModeReader;
  readonly record: BootRecord;
  /** Where a run ends before the end of the boot. */
  readonly hold: Hold;
  readonly kaslr: KaslrRequest;
  /** The payload, decompressed while the guest runs. */
  readonly ahead: PayloadAhead | null;
  /** Who keeps what has changed while the guest decompresses; null for nobody. */
  snapshots: Snapshots | null = null;
  #dataPages: DataPages | null = null;
  /** Phases that have begun and that nobody was told of. */
  readonly begun: Phase[] = [];
  readonly found: Findings = {
    ...{ loaded: null, zo: null, copyAddress: null, bootParams: null },
    ...{ extraction: null, kernelFile: null, kernel: null },
    ...{ fromLoader: [], bootParamsAtJump: null },
  };
  #image: KernelImage;
  #stub: StubLayout | null;
  /** Host time that it has run for, in milliseconds. */
  #ran = 0;
  /** What begins at an address, until it has. */
  readonly #watched = new Map<number, () => void>();
  /** What to do once the CPU has stopped for it, in order. */
  readonly #queue: Action[] = [];
  /** What runs last before the boot ends for the count of its instructions. */
  #recent: RecentInstructions | null = null;
  #stopped: string | null = null;
  #finished = false;
  /** Names of the boot loader's programs whose code has run. */
  readonly loaderPrograms = new Set<string>();
  /** What it means that the CPU comes to address 0, where no hook can be: nothing good, unless the kernel is there. */
  whenAtZero: Act | null = null;
  /** Whoever is told of each instruction. */
  #stream: Pick<InstructionStream<never>, 'resumed' | 'arrive' | 'drop'> | null = null;
  readonly #unhooks: Unhook[] = [];

  /** @param machine - what the entry wants of the machine */
  constructor(
    cpu: Cpu,
    image: KernelImage,
    options: BootOptions,
    machine: Partial<MachineOptions> = {},
    ahead: PayloadAhead | null = null,
  ) {
    this.ahead = ahead;
    this.cpu = cpu;
    this.#image = image;
    this.options = options;
    this.machine = new Machine(cpu, {
      memory: options.memory,
      cpuProfile: options.cpu,
      model: options.machine,
      seed: machineSeed(options.kaslr),
      ...(options.floppy === null ? {} : { floppy: options.floppy }),
      disks: options.disks,
      keys: options.keys,
      ...(options.cdrom === null ? {} : { cdrom: options.cdrom }),
      ...(options.memoryMap === null ? {} : { memoryMap: options.memoryMap }),
      ...machine,
      onEvent: (event) => this.record.onMachineEvent(event),
    });
    this.mode = new CpuModeReader(cpu);
    this.hold = new Hold(cpu, (address) => this.#arrived(address));
    this.record = new BootRecord(this);
    this.#stub = findStub(image);
    this.kaslr = kaslrRequest(options.kaslr, this.machine, this.decompress);
    for (const problem of diskProblems(options)) this.record.notice(problem);
    this.#noticeWhatIsMissing();
  }

  #noticeWhatIsMissing(): void {
    if (isBootDisk(this.#image) || ['vmlinux', 'efi-program'].includes(this.#image.kind)) return;
    const { header, program } = this.#image;
    if (this.options.entry !== 'efi') {
      for (const notice of ukiNotices(this.#image, this.options)) this.record.notice(notice);
    }
    if (!this.holdsKernel) {
      this.record.notice(
        header.protocol === 0
          ? 'this kernel is from before the boot protocol and is not compressed: it is entered where setup moves it, at 0x0'
          : program === null
            ? 'this image speaks the boot protocol but holds no compressed kernel: it runs as far as it goes'
            : `this is no kernel but a program that speaks the boot protocol (${program}): it runs as far as it goes, and a kernel that it starts is followed`,
      );
    } else if (this.decompress === 'emulated' && this.options.decompress === 'hooked') {
      this.record.notice(
        this.#stub === null
          ? 'the call of extract_kernel was not recognised in this stub: the guest decompresses by itself'
          : 'the payload is in no known format: the guest decompresses by itself',
      );
    }
  }

  get image(): KernelImage {
    return this.#image;
  }

  /** Null where its structure was not recognised, or where there is none. */
  get stub(): StubLayout | null {
    return this.#stub;
  }

  /** A boot loader has brought a kernel that the image did not show. */
  changeImage(image: KernelImage): void {
    this.#image = image;
    this.#stub = findStub(image);
  }

  get decompress(): 'hooked' | 'emulated' {
    return this.#stub === null || this.#image.payload === null ? 'emulated' : this.options.decompress;
  }

  /** Whether the image says that it holds a compressed kernel; others speak the boot protocol without one. */
  get holdsKernel(): boolean {
    return this.#image.payload !== null || this.#image.header.get('payload_length') > 0;
  }

  /** Seconds that a boot may take when nobody says otherwise. */
  get #patience(): number {
    if (isBootDisk(this.#image) || this.options.esp !== null) return PATIENCE_LOADER;
    if (!this.holdsKernel) return PATIENCE_WITHOUT_KERNEL;
    return this.decompress === 'emulated' ? PATIENCE_EMULATED : PATIENCE_HOOKED;
  }

  /** The jump into the kernel was reached, or the guest has stopped. */
  get ended(): boolean {
    return this.#finished || this.#stopped !== null;
  }

  /** Why it ended before the jump; null where it has not. */
  get stopped(): string | null {
    return this.#stopped;
  }

  /** Linear address of the instruction that runs next. */
  get address(): number {
    const rip = this.cpu.readRegister('rip');
    const mode = this.mode.read();
    if (CODE_BITS[mode] !== 16) return Number(rip);
    return Number(codeSegmentBase(this.cpu, mode) + (rip & 0xffffn));
  }

  /** The jump into the kernel was reached. */
  finish(): void {
    this.#finished = true;
  }

  /** From here on: what brought the CPU to its entry is ours. */
  countInstructions(): void {
    const decode = blockDecoder(this.machine.memory, () => this.mode.readBits());
    this.cpu.countInstructions(decode);
  }

  /** @param program - of a boot loader, which begins there */
  beginPhase(name: PhaseName, address = this.address, program: string | null = null): void {
    const phase = this.record.beginPhase(name, address, program);
    this.#stream?.arrive(address);
    // The steps of a trapped extract_kernel have its address, and nobody sees the kernel's first instruction run.
    if (name === 'decompressed' || name === 'kernel') this.#stream?.drop(address);
    this.begun.push(phase);
    if (this.hold.onPhase(name)) this.hold.hold({ reason: 'phase' });
  }

  /** Whoever is told of each instruction now. */
  get stream(): object | null {
    return this.#stream;
  }

  openStream<T>(listener: InstructionListener<T>): InstructionStream<T> {
    const stream = new InstructionStream(this.machine, listener);
    stream.start();
    this.#stream = stream;
    return stream;
  }

  /** Tells of each access to a range of RAM from here on, until what it returns is called. */
  observe(range: WatchedRange, access: 'read' | 'write', tell: (access: ObservedAccess) => void): () => void {
    const parts = {
      cpu: this.cpu,
      address: () => this.address,
      mode: () => this.mode.read(),
      phase: () => this.record.phase,
    };
    const observer = new AccessObserver(parts, range, access, tell);
    this.hold.listeners.add(observer);
    return () => {
      this.hold.listeners.delete(observer);
      observer.end();
    };
  }

  /**
   * Stops for `act` the first time the instruction at `address` is about to run with the given bits set; also where the boot is
   * held there: what begins there has begun then.
   */
  watch(address: number, act: Act, { cr0 = 0n, efer = 0n }: ModeBits = {}): void {
    this.#watched.set(address, () => {
      if (cr0 !== 0n && (this.cpu.readRegister('cr0') & cr0) !== cr0) return;
      if (efer !== 0n && (this.cpu.readRegister('efer') & efer) !== efer) return;
      this.#watched.delete(address);
      this.defer(act);
    });
    this.keep(
      this.cpu.hookCode(BigInt(address), BigInt(address), () => {
        // The first hook that stops the CPU is the last that is called.
        this.hold.before(address);
        this.#arrived(address);
      }),
    );
  }

  #arrived(address: number): void {
    this.#watched.get(address)?.();
  }

  /** Calls `hook` each time the instruction is about to run. */
  hookInstruction(address: number, hook: () => void): void {
    this.keep(
      this.cpu.hookCode(BigInt(address), BigInt(address), () => {
        if (!this.hold.before(address)) hook();
      }),
    );
  }

  /**
   * Calls `hook` each time a block begins there; `dropHooks` leaves it.
   * @param last - inclusive; null: to the end of memory
   */
  hookBlocks(first: number, last: number | null, hook: (address: number) => void): Unhook {
    return this.cpu.hookBlock(BigInt(first), last === null ? END_OF_MEMORY : BigInt(last), (at) => {
      if (!this.hold.before(Number(at))) hook(Number(at));
    });
  }

  /** Calls `hook` before each block that runs for the first time where it lies; the hook may be called for one again. */
  hookNewCode(hook: (address: number) => void): Unhook {
    return this.cpu.hookNewCode((address) => {
      if (!this.hold.before(address)) hook(address);
    });
  }

  /** Takes these away with all other hooks on single instructions. */
  keep(...unhooks: readonly Unhook[]): void {
    this.#unhooks.push(...unhooks);
  }

  /** The CPU is several times faster without hooks on single instructions. */
  dropHooks(): void {
    for (const unhook of this.#unhooks.splice(0)) unhook();
  }

  /** The guest's page tables as the CPU uses them now. */
  get pageTables(): TableMemory {
    return this.#dataPages?.tables ?? this.machine.memory;
  }

  /** From here on the guest decompresses by itself. */
  beginDataPages(): void {
    if (this.options.shortcuts !== true || !this.cpu.storesFasterToData || this.cpu.watcher !== null) return;
    const pages = new DataPages(this.cpu, () => this.#stream === null && !this.hold.watchesAll);
    this.#dataPages = pages;
    this.cpu.watcher = pages;
    this.cpu.hookInstruction('rdmsr', () => pages.giveBack());
    this.machine.interrupts.intercept = (vector, errorCode) => pages.onException(vector, errorCode);
  }

  /** Something waits to be done. */
  get busy(): boolean {
    return this.#queue.length > 0;
  }

  /** Stops the CPU and does it then: hooks are not added inside hooks. */
  defer(act: Act): void {
    this.#queue.push({ act, changes: false });
    this.cpu.stop();
  }

  /** As `defer`, for what changes the guest: it is not done where the boot is held before it. */
  deferChange(act: Act): void {
    this.#queue.push({ act, changes: true });
    this.cpu.stop();
  }

  /**
   * Runs until the boot is held or has ended, the guest stops, or time is up.
   * @param budget - seconds of host time after which it is held; null for none
   */
  async run(budget: number | null): Promise<void> {
    const seconds = this.options.timeoutSeconds ?? this.#patience;
    const begunAt = monotonicTime();
    const startedAt = begunAt - this.#ran;
    await this.#drain();
    while (!this.ended && this.hold.found === null) {
      const { maxInstructions } = this.options;
      if (maxInstructions !== null && (this.cpu.instructions ?? 0) >= maxInstructions) {
        this.#stopAt(
          `it had executed ${this.cpu.instructions} instructions, and was to end after ${maxInstructions}${this.#recent?.end() ?? ''}`,
        );
        break;
      }
      this.#stream?.resumed();
      const { limit } = this.hold;
      const most = this.#watchLast(maxInstructions);
      const last = limit === null || most === null ? (limit ?? most) : Math.min(limit, most);
      // Snapshots are taken between slices.
      const end = this.machine.run(
        last,
        seconds * 1000 - this.#ran,
        (instructions) => this.snapshots === null || !this.snapshots.isDue(instructions),
      );
      if (this.#queue.length > 0) {
        await this.#drain();
      } else if (end.kind === 'slice') {
        this.hold.onSlice();
        this.snapshots?.onSlice();
        await nextTurn();
      } else if (end.kind === 'halted') {
        if (!this.machine.idle()) this.#stopAt(this.machine.stopReason ?? 'the guest halted');
        // What a service of the firmware's has shown.
        await this.#drain();
      } else if (end.kind === 'error' && this.whenAtZero !== null && this.address === 0) {
        await this.#attempt(this.whenAtZero);
      } else if (end.kind === 'error') {
        this.#stopAt(end.error);
      } else if (this.hold.found === null && this.whenAtZero !== null && this.address === 0) {
        await this.#attempt(this.whenAtZero);
      } else if (this.hold.found === null) {
        this.#stopAt(this.machine.stopReason ?? 'the CPU stopped without a reason');
      }
      this.#ran = monotonicTime() - startedAt;
      if (budget !== null && monotonicTime() - begunAt > budget * 1000) {
        this.hold.hold({ reason: 'budget', budget: 'seconds' });
      }
      if (!this.ended && this.hold.found === null && this.#ran > seconds * 1000) {
        const loop = this.cpu.instructions === null ? '' : loopFromHere(this.cpu);
        this.#stopAt(`it was still running after ${seconds} s, which was its timeout${loop}`);
      }
    }
  }

  /** The count that the CPU may run to: before the last one, up to where the instructions are noted that may be a loop's. */
  #watchLast(maxInstructions: number | null): number | null {
    if (maxInstructions === null || this.#recent !== null) return maxInstructions;
    const first = maxInstructions - LOOKED_AT;
    if ((this.cpu.instructions ?? 0) < first) return first;
    this.#recent = new RecentInstructions(this.cpu);
    return maxInstructions;
  }

  /** Does what waits, up to where somebody wants to hold the boot. */
  async #drain(): Promise<void> {
    for (;;) {
      const action = this.#queue[0];
      if (action === undefined || this.ended || (action.changes && this.hold.found !== null)) return;
      this.#queue.shift();
      await this.#attempt(action.act);
      this.hold.takeAccess();
    }
  }

  /** A payload that cannot be decompressed ends the boot as it would in the guest: with a trace up to there. */
  async #attempt(act: Act): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      this.#stopped = error.message;
    }
  }

  #stopAt(reason: string): void {
    if (this.#stopped !== null) return;
    if (this.found.kernel !== null) {
      this.record.notice(`the kernel's own start was followed up to ${hex(this.address)}: ${reason}`);
      this.#finished = true;
      return;
    }
    const { phase, diskCalled } = this.record;
    if (phase === 'boot-sector' && !diskCalled) {
      // Where the first kernels had a loader, later ones have a message, the latest nothing.
      const otherwise = isBootDisk(this.#image) ? '' : '; the entry real16 starts it as boot loaders do';
      this.#stopped = `the boot sector loads no kernel: it ended without reading the disk (${reason})${otherwise}`;
      return;
    }
    const mode = this.mode.read();
    const rip = this.cpu.readRegister('rip');
    const where = mode === 'real16' ? `${hex(this.cpu.readRegister('cs'))}:${hex(rip & 0xffffn)}` : hex(rip);
    const causes =
      phase !== null && LOADER_PHASES.has(phase)
        ? this.machine.drives.doubtful.texts(this.loaderPrograms)
        : [];
    this.#stopped = [`${reason}${this.#whyEmpty()}, in phase ${phase} at ${where} (${mode})`, ...causes].join(
      '; ',
    );
  }

  /** Where setup jumped into empty memory, as code32_start told it to. */
  #whyEmpty(): string {
    const { startup32, protectedModeCode } = this.found.loaded ?? {};
    const isThere = startup32 === undefined || startup32 === protectedModeCode?.address;
    if (isThere || this.machine.emptyCode !== startup32) return '';
    return `, code32_start says ${hex(startup32)}, the code is at ${hex(protectedModeCode!.address)}`;
  }
}
