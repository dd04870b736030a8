// One boot from the first instruction to the jump into the kernel: loads the image, runs the CPU, and watches for the
// points where a phase begins. The methods stand in the order of the boot.

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Cpu, Unhook } from '../cpu/cpu.ts';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import {
  type Extraction,
  type ExtractionContext,
  extractKernel,
  type KaslrRequest,
} from '../decompressor/extract-kernel.ts';
import { findStub } from '../decompressor/find-stub.ts';
import { type KernelFileParts, readKernelFileParts } from '../decompressor/kernel-sections.ts';
import { locateKernel } from '../decompressor/locate-kernel.ts';
import type { PayloadAhead } from '../decompressor/payload-ahead.ts';
import type { StubLayout } from '../decompressor/stub.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { readKernelInMemory } from '../image/floppy-image.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { holdsSetupHeader } from '../image/rebuild-image.ts';
import type { MachineEvent } from '../machine/events.ts';
import { Machine } from '../machine/machine.ts';
import type {
  BootEvent,
  BootTrace,
  CpuMode,
  KernelAtJump,
  MemoryRegion,
  Overwrite,
  Phase,
  PhaseName,
  RegisterSnapshot,
} from '../trace/boot-trace.ts';
import { findHazards } from '../trace/hazards.ts';
import { findOverwrites } from '../trace/overwrites.ts';
import { TraceRecorder } from '../trace/recorder.ts';
import { type LayoutFacts, type MemoryWrite, regionsAt } from '../trace/regions.ts';
import { CR0_PE, EFER_LMA } from '../x86/control-registers.ts';
import { type PageTable, type PageTableWalk, walkPageTables } from '../x86/page-tables.ts';
import { blockDecoder } from './block-decoder.ts';
import { enterLong64, enterProt32, loadWithBootParams } from './boot-params.ts';
import { enterBootSector, loadBootSector } from './boot-sector.ts';
import { CpuModeReader } from './cpu-mode.ts';
import { findFillLoops, hookFillLoop } from './fill-loops.ts';
import { Hold } from './hold.ts';
import { type InstructionListener, InstructionStream } from './instruction-stream.ts';
import { cmdlineForGuest, kaslrRequest, machineSeed } from './kaslr-request.ts';
import { layoutFacts, placementRules } from './layout-facts.ts';
import type { LoadedImage } from './loaded-image.ts';
import type { BootOptions } from './options.ts';
import { enterReal16, loadReal16, SETUP_ADDRESS, ZIMAGE_RUN_ADDRESS } from './real16.ts';
import { findRepInstructions, hookStringInstruction, type StringOperation } from './string-instructions.ts';
import { findSystemInstructions, SystemEvents } from './system-events.ts';

/** Kernels choose a random address from 3.14 on; protocol 2.12 came with 3.8, so all of those have it. */
const FIRST_PROTOCOL_WITH_KASLR = 0x020c;

/** How often the host looks at the clock while the guest runs. */
const SLICE_MILLISECONDS = 250;
/** An image without a kernel may run for ever; decompressing on the CPU takes minutes on a slow host. */
const PATIENCE_WITHOUT_KERNEL = 10;
const PATIENCE_HOOKED = 60;
const PATIENCE_EMULATED = 1800;
const ONE_MIB = 0x100000;
/** INT 13h. */
const DISK_SERVICES = 0x13;
/** Where boot.rst puts the 64-bit entry, for stubs whose code does not show it. */
const STARTUP_64 = 0x200;
/** Bytes of stub code that may hold `rep` instructions of its assembly part: before the payload (where its place is
 * not known), and behind it. */
const HEAD_SEARCH = 0x10000;
const TAIL_SEARCH = 0x400;
/** `jmp *%rax`, `jmp *%eax` in 32-bit code. */
const JMP_RAX = [0xff, 0xe0] as const;
/** Bytes at a label that are compared to tell whether it was copied. */
const COMPARED_LABEL = 16;

/** What is done between two runs of the CPU. */
interface Action {
  readonly act: () => Promise<void> | void;
  /** It changes the guest, so that a boot that is held does not do it; otherwise it only notes what is there. */
  readonly changes: boolean;
}

const END_OF_MEMORY = 0xffff_ffff_ffff_ffffn;

export class BootRun {
  readonly machine: Machine;
  /** Where a run ends before the end of the boot. */
  readonly hold: Hold;
  /** Phases that have begun and that nobody was told of. */
  readonly begun: Phase[] = [];
  readonly #cpu: Cpu;
  #image: KernelImage;
  readonly #options: BootOptions;
  #stub: StubLayout | null;
  readonly #mode: CpuModeReader;
  readonly #kaslr: KaslrRequest;
  readonly #recorder = new TraceRecorder();
  readonly #openedAt = performance.now();
  /** Host time that it has run for, in milliseconds. */
  #ran = 0;
  #loaded: LoadedImage | null = null;
  /** Physical address of the protected-mode code that runs now: as loaded, later the copy. */
  #zo = 0;
  #copyAddress: number | null = null;
  #bootParams: number | null = null;
  #extraction: Extraction | null = null;
  #guestFile: KernelFileParts | null = null;
  readonly #writes: MemoryWrite[] = [];
  /** What begins at an address, until it has. */
  readonly #watched = new Map<number, () => void>();
  /** What to do once the CPU has stopped for it, in order. */
  readonly #queue: Action[] = [];
  #kernel: KernelAtJump | null = null;
  #stopped: string | null = null;
  #diskCalled = false;
  #finished = false;
  readonly #events: SystemEvents | null;
  /** Whoever is told of each instruction. */
  #stream: Pick<InstructionStream<never>, 'resumed' | 'arrive' | 'drop'> | null = null;
  /** Takes the hooks on single instructions away. */
  readonly #unhooks: Unhook[] = [];
  #biosCalls = 0;
  readonly #ahead: PayloadAhead | null;

  /** @param ahead - the payload, decompressed while the guest runs */
  constructor(cpu: Cpu, image: KernelImage, options: BootOptions, ahead: PayloadAhead | null = null) {
    this.#ahead = ahead;
    this.#cpu = cpu;
    this.#image = image;
    this.#options = options;
    const floppy = options.floppy ?? (options.entry === 'boot-sector' ? image.bytes : null);
    this.machine = new Machine(cpu, {
      memory: options.memory,
      cpuProfile: options.cpu,
      seed: machineSeed(options.kaslr),
      // KASLR reads the TSC; x86-64 kernels from before it refuse a CPU without one.
      hideUncontrolledTsc: image.header.protocol >= FIRST_PROTOCOL_WITH_KASLR,
      ...(floppy === null ? {} : { floppy }),
      ...(options.memoryMap === null ? {} : { memoryMap: options.memoryMap }),
      onEvent: (event) => this.#onMachineEvent(event),
    });
    this.#mode = new CpuModeReader(cpu);
    this.hold = new Hold(
      cpu,
      () => this.machine.ram,
      (address) => this.#arrived(address),
    );
    this.#stub = findStub(image);
    this.#events = options.events ? this.#systemEvents() : null;
    this.#kaslr = kaslrRequest(options.kaslr, this.machine, this.#decompress);
    if (image.kind === 'floppy') return;
    if (!this.#holdsKernel) {
      this.#recorder.notice(
        'this image speaks the boot protocol but holds no compressed kernel: it runs as far as it goes',
      );
    } else if (this.#decompress === 'emulated' && options.decompress === 'hooked') {
      this.#recorder.notice(
        this.#stub === null
          ? 'the call of extract_kernel was not recognised in this stub: the guest decompresses by itself (--decompress emulated)'
          : 'the payload is in no known format: the guest decompresses by itself (--decompress emulated)',
      );
    }
  }

  get #decompress(): 'hooked' | 'emulated' {
    return this.#stub === null || this.#image.payload === null ? 'emulated' : this.#options.decompress;
  }

  /** Whether the image says that it holds a compressed kernel; others speak the boot protocol without one. */
  get #holdsKernel(): boolean {
    return this.#image.payload !== null || this.#image.header.get('payload_length') > 0;
  }

  /** Seconds that a boot may take when nobody says otherwise. */
  get #patience(): number {
    if (this.#image.kind === 'floppy') return PATIENCE_HOOKED;
    if (!this.#holdsKernel) return PATIENCE_WITHOUT_KERNEL;
    return this.#decompress === 'emulated' ? PATIENCE_EMULATED : PATIENCE_HOOKED;
  }

  /** Loads the image and puts the CPU at its entry. */
  enter(): void {
    this.#load();
    const setup = this.#loaded?.setup;
    if (this.#events !== null && setup) {
      const code = this.machine.ram.subarray(setup.address, setup.address + setup.size);
      this.#unhooks.push(
        ...this.#events.watch(setup.address, findSystemInstructions(code, 0, setup.size, true)),
      );
    }
  }

  /** The jump into the kernel was reached, or the guest has stopped. */
  get ended(): boolean {
    return this.#finished || this.#stopped !== null;
  }

  /** Why it ended before the jump; null where it has not. */
  get stopped(): string | null {
    return this.#stopped;
  }

  get phase(): PhaseName | null {
    return this.#recorder.current;
  }

  /** Address of the protected-mode code that runs now; null before it runs. */
  get zo(): number | null {
    return this.#zo === 0 ? null : this.#zo;
  }

  get events(): readonly BootEvent[] {
    return this.#recorder.events;
  }

  /** Linear address of the instruction that runs next. */
  get address(): number {
    return this.#linearRip();
  }

  get mode(): CpuMode {
    return this.#mode.read();
  }

  #systemEvents(): SystemEvents {
    return new SystemEvents({
      cpu: this.#cpu,
      mode: this.#mode,
      ram: () => this.machine.ram,
      console: () => (this.machine.serialText === '' ? this.machine.teletypeText : this.machine.serialText),
      record: (event) => {
        // Between two entries of the boot protocol there is code that belongs to no phase.
        const phase = this.#recorder.current;
        if (phase !== null) this.#recordEvent({ ...event, phase });
      },
      hold: this.hold,
    });
  }

  /** Events of the instructions in protected-mode code [from, to), wherever it runs now. */
  #watchSystemInstructions(from: number, to: number): void {
    if (this.#events === null) return;
    const { protectedModeCode } = this.#image;
    const head = this.#image.payload?.offset ?? HEAD_SEARCH;
    const offsets = findSystemInstructions(protectedModeCode, from, to, from < head);
    this.#unhooks.push(...this.#events.watch(this.#zo, offsets));
  }

  /** By the entry that was asked for; ends with the CPU at its first instruction and that phase begun. */
  #load(): void {
    const { machine } = this;
    const { entry } = this.#options;
    if (entry === 'real16') {
      this.#loaded = loadReal16(machine, this.#image, this.#options);
      enterReal16(machine, this.#loaded);
      this.#countInstructions();
      this.#beginPhase('setup');
    } else if (entry === 'boot-sector') {
      this.#loaded = loadBootSector(machine, this.#image);
      enterBootSector(machine);
      this.#countInstructions();
      this.#beginPhase('boot-sector');
      this.#watch(SETUP_ADDRESS + 0x200, () => {
        // Else the CPU has run through empty memory to there.
        if (this.#diskCalled) this.#beginPhase('setup');
      });
    } else {
      this.#loaded = loadWithBootParams(machine, this.#image, this.#options, entry);
      this.#bootParams = this.#loaded.bootParams;
      if (entry === 'prot32') enterProt32(machine, this.#loaded);
      else enterLong64(machine, this.#loaded);
      this.#countInstructions();
    }
    const { startup32 } = this.#loaded;
    if (this.#image.kind === 'floppy') this.#watchForKernelFromDisk();
    else if (entry === 'long64') this.#watchStub(startup32);
    else this.#watch(startup32, () => this.#onStartup32(startup32), CR0_PE);
  }

  /** From the entry on: what brought the CPU there is ours. */
  #countInstructions(): void {
    if (!this.#options.countInstructions) return;
    const decode = blockDecoder(
      () => this.machine.ram,
      () => this.#mode.readBits(),
    );
    this.#cpu.countInstructions(decode);
  }

  /**
   * A boot loader on a disk puts a kernel into memory and jumps to it: the code that runs at one of the two places with
   * boot_params in ESI. Loaders run code of their own there, too.
   */
  #watchForKernelFromDisk(): void {
    for (const address of [ZIMAGE_RUN_ADDRESS, ONE_MIB]) {
      this.#hookInstruction(address, () => {
        if (this.#image.kind !== 'floppy') return;
        const bootParams = Number(this.#cpu.readRegister('rsi') & 0xffff_ffffn);
        if (!holdsSetupHeader(this.machine.ram, bootParams)) return;
        this.#defer(async () => {
          const image = await readKernelInMemory(this.#image, this.machine.ram, bootParams, address);
          if (image === null) return;
          this.#image = image;
          this.#stub = findStub(image);
          this.#loaded = {
            ...this.#loaded!,
            protectedModeCode: { address, size: image.protectedModeCode.length },
          };
          this.#onStartup32(address);
        });
      });
    }
  }

  #onStartup32(address: number): void {
    this.#zo = address;
    this.#beginPhase('startup_32');
    this.#bootParams = Number(this.#cpu.readRegister('rsi') & 0xffff_ffffn);
    this.#watchStub(address);
  }

  /** What is to come once the protected-mode code runs at `address`. */
  #watchStub(address: number): void {
    this.#zo = address;
    const { startup64, relocated } = this.#stub ?? { startup64: STARTUP_64, relocated: null };
    if (startup64 !== null) {
      this.#watch(address + startup64, () => this.#beginPhase('startup_64'), CR0_PE, EFER_LMA);
    }
    this.#hookStringInstructions(0, this.#image.payload?.offset ?? HEAD_SEARCH);
    this.#watchSystemInstructions(0, this.#image.payload?.offset ?? HEAD_SEARCH);
    this.#watchSystemInstructions(this.#stubTail(), this.#image.protectedModeCode.length);
    if (this.#stub === null && this.#holdsKernel) this.#watchForExitInPlace();
    else if (this.#stub === null) return;
    else if (relocated === null) this.#watchExtractKernel();
    else this.#watchRelocation(relocated);
  }

  /** Offset of the stub's code behind the payload; the end where its place is not known. */
  #stubTail(): number {
    const { payload, protectedModeCode } = this.#image;
    return payload === null ? protectedModeCode.length : payload.offset + payload.length;
  }

  /**
   * The head ends in `jmp *%rax` to `relocated` in the copy it has made; RAX less the label's offset is where the copy
   * lies, however it was copied.
   */
  #watchRelocation(relocated: number): void {
    const code = this.#image.protectedModeCode;
    const head = this.#image.payload?.offset ?? HEAD_SEARCH;
    const label = code.subarray(relocated, relocated + COMPARED_LABEL);
    for (let offset = 0; offset < Math.min(head, code.length - 1); offset++) {
      if (code[offset] !== JMP_RAX[0] || code[offset + 1] !== JMP_RAX[1]) continue;
      this.#hookInstruction(this.#zo + offset, () => {
        const target = Number(this.#cpu.readRegister('rax') & 0xffff_ffffn);
        const there = this.machine.ram.subarray(target, target + COMPARED_LABEL);
        if (this.#copyAddress !== null || Buffer.compare(there, label) !== 0) return;
        this.#defer(() => this.#onCopied(target - relocated));
      });
    }
  }

  /** In a stub that was not recognised the copy shows itself as one big `rep movs` out of the image as loaded. */
  #onStringOperation(operation: StringOperation): void {
    this.#recordStringOperation(operation);
    const { source, target, length } = operation;
    if (this.#stub !== null || !this.#holdsKernel || this.#copyAddress !== null || source === null) return;
    const covers = source >= this.#zo && source <= this.#zo + ONE_MIB / 16;
    if (!covers || length * 2 <= this.#image.protectedModeCode.length) return;
    this.#defer(() => {
      this.#onCopied(this.#zo + target - source);
      this.#watchForExit(this.#zo, target + length);
    });
  }

  #onCopied(address: number): void {
    this.#wrote(address, this.#image.protectedModeCode.length, 'the copy of ZO');
    this.#zo = address;
    this.#copyAddress = address;
    this.#watchSystemInstructions(this.#stubTail(), this.#image.protectedModeCode.length);
    const relocated = this.#stub?.relocated ?? null;
    if (relocated !== null) {
      this.#hookStringInstructions(relocated, relocated + TAIL_SEARCH);
      this.#hookFillLoops(this.#stubTail(), this.#image.protectedModeCode.length);
      this.#watch(address + relocated, () => this.#beginPhase('relocated'));
      this.#watchExtractKernel();
    }
  }

  #watchExtractKernel(): void {
    const stub = this.#stub!;
    this.#watch(this.#zo + stub.extractKernel, () => {
      this.#beginPhase('extract_kernel');
      // An action of its own: the boot may be held before it.
      if (this.#decompress === 'hooked')
        this.#queue.push({ act: () => this.#extractKernel(), changes: true });
      else if (stub.relocated === null) this.#watchForExitInPlace();
      else this.#watchForExit(this.#zo, this.#zo + this.#image.protectedModeCode.length);
    });
  }

  /** What extract_kernel works on, when the CPU stands at its first instruction; null where that was not reached. */
  extractionContext(): ExtractionContext | null {
    if (this.#stub === null || this.#recorder.current !== 'extract_kernel') return null;
    return {
      image: this.#image,
      stub: this.#stub,
      zo: this.#zo,
      memory: this.machine.memory,
      readRegister: (name) => this.#cpu.readRegister(name),
      ports: {
        read: (port) => this.machine.ports.read(port, 1),
        write: (port, value) => this.machine.ports.write(port, 1, value),
      },
      kaslr: this.#kaslr,
      ahead: this.#ahead,
    };
  }

  async #extractKernel(): Promise<void> {
    if (cmdlineForGuest(this.#image, this.#options) !== this.#options.cmdline) {
      this.#recorder.notice(
        'KASLR is off: the kernel goes where nokaslr would put it (--kaslr seed:N draws an address)',
      );
    }
    const extraction = await extractKernel(this.extractionContext()!);
    this.#extraction = extraction;
    if (extraction.clearsIdt) this.#cpu.writeDescriptorTable('idtr', { base: 0n, limit: 0 });
    for (const step of extraction.steps) {
      this.#beginPhase(step.name, Number(step.address));
      this.#recorder.complete(step.summary);
    }
    for (const { start, end } of extraction.writes) {
      this.#cpu.invalidateCode(start, end - start);
      this.hold.onHostWrite(start, end, 'extract_kernel', null);
    }
    for (const notice of extraction.notices) this.#recorder.notice(notice);
    this.#returnFromCall(extraction.returnValue);
    this.#watch(Number(extraction.entry), (address) => this.#onKernel(address));
  }

  /** What RET would do, with the result in RAX. */
  #returnFromCall(result: bigint): void {
    const cpu = this.#cpu;
    const width = this.#stub!.bits / 8;
    const rsp = cpu.readRegister('rsp');
    const view = new DataView(this.machine.ram.buffer, this.machine.ram.byteOffset + Number(rsp), width);
    cpu.writeRegister('rip', width === 8 ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true)));
    cpu.writeRegister('rsp', rsp + BigInt(width));
    cpu.writeRegister('rax', result);
  }

  /**
   * The guest decompresses: the first block above 1 MiB and outside the stub is the kernel's. All other hooks go, since
   * the CPU is several times faster without hooks on single instructions.
   */
  #watchForExit(stubStart: number, stubEnd: number): void {
    for (const unhook of this.#unhooks.splice(0)) unhook();
    const leave = (address: bigint): void => this.#leave(address);
    if (stubStart > ONE_MIB) this.#hookBlocks(ONE_MIB, stubStart - 1, leave);
    this.#hookBlocks(stubEnd, null, leave);
  }

  /**
   * A stub that does not copy itself: a zImage's runs below 1 MiB and leaves upward; a bzImage's leaves through a routine
   * in low memory that moves the kernel over it, and from there upward, or, where it is not recognised, behind itself.
   */
  #watchForExitInPlace(): void {
    if (this.#zo < ONE_MIB) {
      this.#watchForExit(ONE_MIB, ONE_MIB);
      return;
    }
    const codeEnd = this.#zo + this.#image.protectedModeCode.length;
    const unhook = this.#hookBlocks(ZIMAGE_RUN_ADDRESS, SETUP_ADDRESS - 1, () => {
      if (this.#queue.length > 0 || this.#mode.read() !== 'prot32') return;
      this.#defer(() => {
        unhook();
        this.#watchForExit(ONE_MIB, ONE_MIB);
      });
    });
    this.#hookBlocks(codeEnd, null, (address) => {
      if (this.#copyAddress === null) this.#leave(address);
    });
  }

  #leave(address: bigint): void {
    if (this.#queue.length === 0) this.#defer(() => this.#onKernel(Number(address)));
  }

  async #onKernel(address: number): Promise<void> {
    this.#beginPhase('kernel');
    this.#kernel = await this.#describeKernel(address);
    this.#finished = true;
  }

  async #describeKernel(entry: number): Promise<KernelAtJump> {
    const { ram } = this.machine;
    const entryMode = this.#mode.read() === 'long64' ? 'long64' : 'prot32';
    const { output, virtualBase, segments } = this.#extraction ?? (await this.#locate(entry));
    return {
      entry: BigInt(entry),
      physicalBase: output,
      virtualBase,
      bootParams:
        this.#cpu.readRegister('rsi') & (entryMode === 'long64' ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn),
      entryMode,
      segments: segments.map((segment) => ({
        ...segment,
        sha256: this.#options.hash ? sha256(ram, Number(segment.paddr), Number(segment.filesz)) : null,
      })),
    };
  }

  /** Where the kernel lies when the guest has decompressed it: known where its payload can be read here, too. */
  async #locate(entry: number): Promise<Pick<Extraction, 'output' | 'virtualBase' | 'segments'>> {
    const entryAlone = (reason: string) => {
      this.#recorder.notice(`${reason}: the kernel is known by its entry alone, not by its segments`);
      return { output: BigInt(entry), virtualBase: BigInt(entry), segments: [] };
    };
    if (this.#image.payload === null) return entryAlone('the payload is in no known format');
    let bytes: Uint8Array;
    try {
      ({ bytes } = await extractVmlinux(this.#image, { unchecked: true }));
    } catch (error) {
      // Not every decompressor of the kernel's checks all that ours do.
      if (!(error instanceof BootscopeError) || !error.code.startsWith('codec-')) throw error;
      return entryAlone(`the guest took a payload that is damaged (${error.message})`);
    }
    const located = locateKernel(this.#image, bytes, this.machine.memory, entry);
    this.#guestFile = readKernelFileParts(bytes, located.segments);
    return located;
  }

  /**
   * Runs until the boot is held or has ended, the guest stops, or time is up.
   * @param budget - seconds of host time after which it is held; null for none
   */
  async run(budget: number | null): Promise<void> {
    const seconds = this.#options.timeoutSeconds ?? this.#patience;
    const begunAt = performance.now();
    const startedAt = begunAt - this.#ran;
    const slice = Math.min(
      SLICE_MILLISECONDS,
      budget === null ? SLICE_MILLISECONDS : Math.max(1, budget * 1000),
    );
    await this.#drain();
    while (!this.ended && this.hold.found === null) {
      this.#stream?.resumed();
      const end = this.#cpu.run({ sliceMilliseconds: slice });
      if (this.#queue.length > 0) {
        await this.#drain();
      } else if (end.kind === 'slice') {
        this.machine.afterSlice();
        await nextTurn();
      } else if (end.kind === 'halted') {
        if (!this.machine.idle()) this.#stopAt(this.machine.stopReason ?? 'the guest halted');
      } else if (end.kind === 'error') {
        this.#stopAt(end.error);
      } else if (this.hold.found === null) {
        this.#stopAt(this.machine.stopReason ?? 'the CPU stopped without a reason');
      }
      this.#ran = performance.now() - startedAt;
      if (budget !== null && performance.now() - begunAt > budget * 1000) {
        this.hold.hold({ reason: 'budget', budget: 'seconds' });
      }
      if (!this.ended && this.hold.found === null && this.#ran > seconds * 1000) {
        this.#stopAt(`it was still running after ${seconds} s (--timeout gives it more)`);
      }
    }
  }

  /** Does what waits, up to where somebody wants to hold the boot. */
  async #drain(): Promise<void> {
    for (;;) {
      const action = this.#queue[0];
      if (action === undefined || this.ended || (action.changes && this.hold.found !== null)) return;
      this.#queue.shift();
      await this.#attempt(action.act);
      this.hold.takeWrite();
    }
  }

  /** A payload that cannot be decompressed ends the boot as it would in the guest: with a trace up to there. */
  async #attempt(action: Action['act']): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      this.#stopped = error.message;
    }
  }

  #stopAt(reason: string): void {
    if (this.#stopped !== null) return;
    if (this.#recorder.current === 'boot-sector' && !this.#diskCalled) {
      // Where the first kernels had a loader, later ones have a message, the latest nothing.
      const otherwise =
        this.#image.kind === 'floppy' ? '' : '; the entry real16 starts it as boot loaders do';
      this.#stopped = `the boot sector loads no kernel: it ended without reading the disk (${reason})${otherwise}`;
      return;
    }
    const mode = this.#mode.read();
    const rip = this.#cpu.readRegister('rip');
    const where = mode === 'real16' ? `${hex(this.#cpu.readRegister('cs'))}:${hex(rip & 0xffffn)}` : hex(rip);
    this.#stopped = `${reason}, in phase ${this.#recorder.current} at ${where} (${mode})`;
  }

  /**
   * Stops for `action` the first time the instruction at `address` is about to run with the given bits of CR0 and EFER set; also
   * where the boot is held there: what begins there has begun then.
   */
  #watch(address: number, action: (address: number) => Promise<void> | void, cr0 = 0n, efer = 0n): void {
    this.#watched.set(address, () => {
      if (cr0 !== 0n && (this.#cpu.readRegister('cr0') & cr0) !== cr0) return;
      if (efer !== 0n && (this.#cpu.readRegister('efer') & efer) !== efer) return;
      this.#watched.delete(address);
      this.#defer(() => action(address));
    });
    this.#hookCode(address, () => {
      // The first hook that stops the CPU is the last that is called.
      this.hold.before(address);
      this.#arrived(address);
    });
  }

  #arrived(address: number): void {
    this.#watched.get(address)?.();
  }

  #hookInstruction(address: number, hook: () => void): void {
    this.#hookCode(address, () => {
      if (!this.hold.before(address)) hook();
    });
  }

  #hookCode(address: number, hook: () => void): void {
    this.#unhooks.push(this.#cpu.hookCode(BigInt(address), BigInt(address), hook));
  }

  /** @param last - inclusive; null: to the end of memory */
  #hookBlocks(first: number, last: number | null, hook: (address: bigint) => void): Unhook {
    return this.#cpu.hookBlock(BigInt(first), last === null ? END_OF_MEMORY : BigInt(last), (address) => {
      if (!this.hold.before(Number(address))) hook(address);
    });
  }

  /** Stops the CPU and does it then: hooks are not added inside hooks. */
  #defer(act: Action['act']): void {
    this.#queue.push({ act, changes: false });
    this.#cpu.stop();
  }

  /** Hooks those that stand in the protected-mode code at offsets [from, to). */
  #hookStringInstructions(from: number, to: number): void {
    for (const offset of findRepInstructions(this.#image.protectedModeCode, from, to)) {
      const unhook = hookStringInstruction(this.#cpu, this.#zo + offset, {
        fast: this.#options.fastStrings,
        mode: this.#mode,
        onOperation: (operation) => this.#onStringOperation(operation),
        hold: this.hold,
      });
      this.#unhooks.push(unhook);
    }
  }

  /** The memset of the stub's C code clears its page tables a byte at a time, which takes longer than all else that it runs. */
  #hookFillLoops(from: number, to: number): void {
    if (!this.#options.fastStrings) return;
    for (const loop of findFillLoops(this.#image.protectedModeCode, from, to)) {
      const unhook = hookFillLoop(this.#cpu, this.#zo + loop.offset, loop, this.#mode, this.hold);
      this.#unhooks.push(unhook);
    }
  }

  /** Snapshots the CPU as the phase begins. */
  #beginPhase(name: PhaseName, address = this.#linearRip()): void {
    this.#events?.flush(BigInt(address));
    this.#recorder.complete(this.#summary());
    this.#biosCalls = 0;
    const registers = snapshot(this.#cpu);
    const phase: Phase = {
      name,
      address: BigInt(address),
      mode: this.#mode.read(),
      registers,
      gdtr: this.#cpu.readDescriptorTable('gdtr'),
      idtr: this.#cpu.readDescriptorTable('idtr'),
      instructions: this.#cpu.instructions,
      regions: [],
      overwritten: [],
      pageTables: this.#walkPageTables(name, registers),
      summary: '',
      milliseconds: performance.now() - this.#openedAt,
    };
    this.#recorder.begin(phase);
    this.#stream?.arrive(address);
    // The steps of a trapped extract_kernel have its address, and nobody sees the kernel's first instruction run.
    if (name === 'decompressed' || name === 'kernel') this.#stream?.drop(address);
    this.begun.push(phase);
    if (this.hold.onPhase(name)) this.hold.hold({ reason: 'phase' });
  }

  #linearRip(): number {
    const rip = this.#cpu.readRegister('rip');
    if (this.#mode.read() !== 'real16') return Number(rip);
    return Number((this.#cpu.readRegister('cs') << 4n) + (rip & 0xffffn));
  }

  #summary(): string {
    const phase = this.#recorder.phases.at(-1);
    if (phase === undefined || phase.summary !== '') return phase?.summary ?? '';
    return this.#biosCalls > 0 ? `${this.#biosCalls} BIOS calls` : '';
  }

  #onMachineEvent(event: MachineEvent): void {
    if (event.kind === 'bios') {
      this.#biosCalls++;
      if (event.vector === DISK_SERVICES) this.#diskCalled = true;
      this.hold.onFirmware();
    }
    this.#events?.onMachineEvent(event);
  }

  #wrote(start: number, length: number, what: string): void {
    this.#writes.push({ phase: this.#recorder.current!, start, end: start + length, what });
  }

  #recordStringOperation(operation: StringOperation): void {
    if (operation.kind === 'fill') this.#wrote(operation.target, operation.length, 'zeroes of the stub');
    const end = (start: number): string => `${hex(start)}..${hex(start + operation.length)}`;
    if (!this.#options.events) return;
    this.#recordEvent({
      kind: operation.kind,
      phase: this.#recorder.current!,
      address: BigInt(operation.address),
      instructions: this.#cpu.instructions,
      text:
        operation.source === null
          ? `fill ${end(operation.target)}`
          : `copy ${end(operation.source)} to ${end(operation.target)}`,
      details: { source: operation.source, target: operation.target, length: operation.length },
    });
  }

  #recordEvent(event: BootEvent): void {
    this.#recorder.event(event);
    this.hold.onEvent(event, this.#recorder.count(event.kind));
  }

  #layoutFacts(): LayoutFacts {
    return layoutFacts(this.machine, this.#image, {
      loaded: this.#loaded!,
      copyAddress: this.#copyAddress,
      bootParams: this.#bootParams,
      extraction: this.#extraction,
      guestFile: this.#guestFile,
      kernel: this.#kernel,
      writes: this.#writes,
    });
  }

  /** The regions of every phase, from all that is known at the end, and what each phase cost those of the one before. */
  #addRegions(facts: LayoutFacts): void {
    const lost: Overwrite[] = [];
    let before: readonly MemoryRegion[] = [];
    for (const [index, phase] of this.#recorder.phases.entries()) {
      const { mode, registers, gdtr, idtr } = phase;
      const { ss, rsp } = registers;
      const tables = phase.pageTables?.tables ?? [];
      const regions = regionsAt(phase.name, facts, { mode, ss, rsp, gdtr, idtr, tables });
      const earlier = this.#recorder.phases[index - 1]?.name;
      const writes = [
        ...facts.writes.filter((write) => write.phase === earlier),
        ...newTables(tables, before, phase.name),
      ];
      const overwritten = findOverwrites(before, writes, lost);
      this.#recorder.setLayout(index, regions, overwritten);
      lost.push(...overwritten);
      before = regions;
    }
  }

  /** The tables in force; the steps of a trapped extract_kernel share one walk. */
  #walkPageTables(name: PhaseName, registers: RegisterSnapshot): PageTableWalk | null {
    if (!this.#options.pageTables) return null;
    const inCall = name === 'parse_elf' || name === 'handle_relocations';
    const before = this.#recorder.phases.at(-1)?.pageTables ?? null;
    return inCall && before !== null ? before : walkPageTables(this.machine.memory, registers);
  }

  stream<T>(listener: InstructionListener<T>): InstructionStream<T> {
    const stream = new InstructionStream(this.machine, listener);
    stream.start();
    this.#stream = stream;
    return stream;
  }

  /** What lies where as the CPU stands now, in the phase that runs. */
  layout(phase: PhaseName): readonly MemoryRegion[] {
    const { ss, rsp, cr0, cr3, cr4, efer } = this.registers();
    const gdtr = this.#cpu.readDescriptorTable('gdtr');
    const idtr = this.#cpu.readDescriptorTable('idtr');
    const { tables } = walkPageTables(this.machine.memory, { cr0, cr3, cr4, efer });
    return regionsAt(phase, this.#layoutFacts(), { mode: this.mode, ss, rsp, gdtr, idtr, tables });
  }

  registers(): RegisterSnapshot {
    return snapshot(this.#cpu);
  }

  pageTables(): PageTableWalk {
    return walkPageTables(this.machine.memory, snapshot(this.#cpu));
  }

  /** What was observed so far. */
  trace(): BootTrace {
    const facts = this.#layoutFacts();
    this.#addRegions(facts);
    const image = this.#image;
    const { payload } = image;
    return {
      image: {
        path: image.path,
        sha256: this.#options.hash ? createHash('sha256').update(image.bytes).digest('hex') : null,
        kind: image.kind,
        bootProtocol: image.header.version,
        kernelVersion: image.kernelVersion,
        codec: payload?.codec ?? null,
        payload: payload === null ? null : { offset: payload.offset, length: payload.length },
      },
      machine: {
        engine: this.#cpu.engine,
        engineVersion: this.#cpu.engineVersion,
        ram: this.#options.memory,
        cpu: this.#options.cpu,
        entry: this.#options.entry,
        decompress: this.#decompress,
        cmdline: this.#options.cmdline,
      },
      phases: this.#recorder.phases,
      kernel: this.#kernel,
      stopped: this.#stopped,
      hazards: findHazards(facts, placementRules(image, this.#loaded!)),
      events: this.#recorder.events,
      console: this.machine.serialText === '' ? this.machine.teletypeText : this.machine.serialText,
      notices: [...this.#recorder.notices, ...this.machine.notices],
    };
  }
}

/** Page tables that were not in force before were written since. */
function newTables(
  tables: readonly PageTable[],
  before: readonly MemoryRegion[],
  phase: PhaseName,
): readonly MemoryWrite[] {
  const known = before.filter(({ kind }) => kind === 'page-table');
  return tables
    .filter(({ address }) => !known.some(({ start, end }) => address >= start && address < end))
    .map(({ address, size }) => ({
      phase,
      start: Number(address),
      end: Number(address) + size,
      what: 'page tables',
    }));
}

function snapshot(cpu: Cpu): RegisterSnapshot {
  const values = new BigUint64Array(REGISTER_NAMES.length);
  cpu.readRegisters(REGISTER_NAMES, values);
  return Object.fromEntries(REGISTER_NAMES.map((name, index) => [name, values[index]!])) as RegisterSnapshot;
}

function sha256(ram: Uint8Array, start: number, length: number): string {
  return createHash('sha256')
    .update(ram.subarray(start, start + length))
    .digest('hex');
}
