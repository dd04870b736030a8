// The PC around the CPU: RAM, firmware, devices and their wiring. Read it as the list of parts.
// Long, for it is one list: every part and its wiring.

import type { Cpu, InvalidAccess, RunEnd } from '../cpu/cpu.ts';
import { linearToPhysical } from '../cpu/translate.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { E820Entry } from '../protocol/e820.ts';
import { formatSize } from '../size.ts';
import { CR0_PE, EFER_LMA } from '../x86/control-registers.ts';
import { instructionLength } from '../x86/instruction.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import { isFarOfRegister, nameInstruction } from '../x86/undefined-instruction.ts';
import { Bios } from './bios/bios.ts';
import { diskVector } from './bios/disk.ts';
import { keyboardVector, pushKey } from './bios/keyboard.ts';
import { BDA_HARD_DISKS, COM1_PORT, equipmentWord, installFirmware } from './bios/rom.ts';
import { linear } from './bios/service.ts';
import { smallVectors } from './bios/small-services.ts';
import { systemVector } from './bios/system.ts';
import { TickCount, timerVectors, timeVector } from './bios/time.ts';
import { videoVector } from './bios/video.ts';
import { Clock, TSC_HZ } from './clock.ts';
import { CMOS_INDEX, Cmos } from './cmos.ts';
import {
  Cpuid,
  type CpuProfile,
  DEFAULT_CPU_PROFILE,
  findCpuProfile,
  isAmd,
  physicalAddressBits,
} from './cpu-profiles.ts';
import { type BootCode, type BootDevice, bootCodeEntry, type DriveImages, Drives } from './drives.ts';
import { Entropy } from './entropy.ts';
import type { MachineEvent } from './events.ts';
import { FDC_DIGITAL_INPUT, FDC_DIGITAL_OUTPUT, FloppyController } from './floppy-controller.ts';
import { Interrupts } from './interrupts.ts';
import { KBC_DATA, KBC_STATUS_COMMAND, KeyboardController } from './keyboard-controller.ts';
import type { Key } from './keys.ts';
import {
  EBDA_ADDRESS,
  highestRam,
  type MachineModel,
  machineMemoryMap,
  type RamSizes,
  ramOfMap,
  ramSizes,
} from './memory-map.ts';
import { NoticeList } from './notices.ts';
import { PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA, PciConfig } from './pci.ts';
import { MASTER_PIC, Pic, SLAVE_PIC } from './pic.ts';
import { PIT_CONTROL, PIT_COUNTER_0, Pit } from './pit.ts';
import { PortBus } from './port-bus.ts';
import { Progress, SLICE } from './progress.ts';
import { emulateRdrand } from './rdrand.ts';
import {
  PlainRegisters,
  RESET_CONTROL,
  SYSTEM_CONTROL_A,
  SYSTEM_CONTROL_B,
  SystemControlA,
  SystemControlB,
} from './system-control.ts';
import { TextScreen } from './text-screen.ts';
import { TimerLine } from './timer-line.ts';
import { Uart } from './uart.ts';
import type { UefiFirmware } from './uefi/firmware.ts';
import { VGA_FIRST_PORT, VGA_LAST_PORT, Vga } from './vga.ts';

const MIB = 1024 * 1024;
export const MINIMUM_MEMORY = 4 * MIB;
/** What the heap of the WASM engine has room for. */
const WASM_MEMORY = 1900 * MIB;
const PAGE = 4096;
const FOUR_GIB = 0x1_0000_0000n;
/** From here to 4 GiB a PC has its devices; no RAM of this machine reaches so far. */
const DEVICES_START = 0xc000_0000n;
/** Pages without memory that a guest may look at; one that wants more has lost its way. */
const MAXIMUM_BUS_PAGES = 1024;

const TIMER_VECTOR = 0x08;
/** Bytes from RIP on that are looked at for what broke the engine down. */
const TRANSLATED = 64;
/** #UD. */
const INVALID_OPCODE = 6;
/** Instructions from tick to tick for a guest that waits for the timer in a loop: as many as a PC of 1990 did. */
const INSTRUCTIONS_A_TICK = 100_000;
/** Of the host's time, after which a slice ends early: whoever waits for the boot has a say between two slices. */
const SLICE_MILLISECONDS = 250;
const SHORTEST_MILLISECONDS = 1;
/** Most that the seed moves the TSC and the PIT ahead at power-on, in nanoseconds and in pulses. */
const TSC_PHASES = 1n << 40n;
const PIT_PHASES = 0x10000n;

/** What a guest asked of a device, or of the processor's clock and source of random numbers. */
export type DeviceUse =
  | { readonly kind: 'in'; readonly port: number; readonly size: 1 | 2 | 4 }
  | { readonly kind: 'out'; readonly port: number; readonly size: 1 | 2 | 4; readonly value: number }
  | { readonly kind: 'rdtsc' | 'rdrand' };

export interface MachineOptions extends DriveImages {
  /** Bytes of RAM, from `MINIMUM_MEMORY` to what the processor can address; a multiple of 4096. */
  readonly memory: number;
  /** Which of QEMU's machines RAM and its map follow. Default `pc`. */
  readonly model?: MachineModel;
  /** Name of a profile in cpu-profiles.ts. */
  readonly cpuProfile?: string;
  /** Pressed one after the other, as the guest asks for them. */
  readonly keys?: readonly Key[];
  /** Determines RDRAND and where TSC and PIT stand at power-on. */
  readonly seed?: bigint;
  /** Replaces the memory map that the BIOS gives out; where it has RAM there is some, too. */
  readonly memoryMap?: readonly E820Entry[];
  /** Without it memory holds no interrupt vectors, data areas and ROM of a BIOS: for UEFI. Default true. */
  readonly bios?: boolean;
  readonly onEvent?: (event: MachineEvent) => void;
}

/** A PC, switched on and through its POST; whoever made it loads something and runs the CPU. */
export class Machine {
  readonly cpu: Cpu;
  readonly memoryMap: readonly E820Entry[];
  readonly clock = new Clock();
  entropy: Entropy;
  readonly cpuid: Cpuid;
  readonly memory: PhysicalMemory;
  readonly ports: PortBus;
  readonly uart = new Uart(COM1_PORT);
  readonly pit: Pit;
  readonly masterPic = new Pic(MASTER_PIC, TIMER_VECTOR, 0xb8);
  readonly slavePic = new Pic(SLAVE_PIC, 0x70, 0x8f);
  readonly cmos: Cmos;
  readonly keyboardController = new KeyboardController();
  readonly systemControlA = new SystemControlA();
  readonly vga = new Vga();
  readonly screen: TextScreen;
  readonly floppyController = new FloppyController();
  readonly drives: Drives;
  readonly bios: Bios;
  readonly interrupts: Interrupts;

  /** The UEFI firmware of a machine that was started as a UEFI PC. */
  uefi: UefiFirmware | null = null;

  readonly #keys: Key[];
  readonly #notices = new NoticeList();
  readonly #ticks: TickCount;
  readonly #timer: TimerLine;
  readonly #progress: Progress;
  /** The count of instructions that the running slice ends at. */
  #sliceEnd = SLICE;
  #emptyCode: number | null = null;
  #deviceUses: DeviceUse[] | null = null;
  #tscReads = 0;
  #tscPhase: bigint;
  #serialText = '';
  #teletypeText = '';
  #listener: ((event: MachineEvent) => void) | null = null;
  #a20 = true;
  #stopReason: string | null = null;
  #busPages = 0;

  /**
   * Maps the RAM and installs the interrupt, IN, OUT, CPUID, invalid-access and (where the engine can) RDTSC hooks.
   * @param cpu - freshly opened, without RAM
   * @throws BootscopeError `machine-memory`, `machine-cpu-profile`, `machine-floppy-size`
   */
  constructor(cpu: Cpu, options: MachineOptions) {
    const profile = findCpuProfile(options.cpuProfile ?? DEFAULT_CPU_PROFILE);
    const model = options.model ?? 'pc';
    const amd = isAmd(profile);
    const sizes = ramSizes(model, options.memory);
    const told = ramOfMap(options.memoryMap ?? []);
    const ram = { low: Math.max(sizes.low, told.low), high: Math.max(sizes.high, told.high) };
    checkMemory(options.memory, ram, profile);
    this.cpu = cpu;
    this.drives = new Drives(options);
    this.#keys = [...(options.keys ?? [])];
    this.memoryMap = options.memoryMap ?? machineMemoryMap(model, sizes, amd);

    mapRam(cpu, ram, this.#notices);
    this.memory = cpu.memory;
    const floppyGeometry = this.drives.floppy?.geometry ?? null;
    if (options.bios !== false) {
      installFirmware(this.memory, { floppy: floppyGeometry, hardDisks: this.drives.hardDisks });
    }

    this.entropy = new Entropy(options.seed ?? 0n);
    this.#tscPhase = this.entropy.next64() % TSC_PHASES;
    this.pit = new Pit(this.clock, Number(this.entropy.next64() % PIT_PHASES));
    this.cmos = new Cmos(this.clock, {
      ram: sizes,
      equipment: equipmentWord({ floppy: floppyGeometry }),
      floppyType: floppyGeometry?.driveType ?? 0,
    });
    this.screen = new TextScreen(this.memory, this.vga);
    this.#ticks = new TickCount(this.memory, this.clock);
    this.ports = this.#attachPorts();
    this.bios = this.#makeBios();
    this.interrupts = new Interrupts({
      cpu,
      bios: this.bios,
      stop: (reason) => this.#stop(reason),
      afterService: () => this.#timer.afterService(),
    });
    this.#timer = new TimerLine({
      cpu,
      clock: this.clock,
      pic: this.masterPic,
      interrupts: this.interrupts,
      ticks: this.#ticks,
      activity: () => this.ports.accesses + this.bios.calls,
      stop: (reason) => this.#stop(reason),
    });
    this.#progress = new Progress({
      cpu,
      clock: this.clock,
      ram: () => this.ram,
      activity: () => ({ ports: this.ports.accesses + this.#tscReads, biosCalls: this.bios.calls }),
      waitedTicks: () => this.#timer.waitedTicks,
      ticksMatterTo: (touched) => this.#timer.mattersTo(touched),
      printed: () => this.consoleText,
      stop: (reason) => this.#stop(reason),
    });
    this.#wire();
    this.cpuid = new Cpuid(profile);
    this.#installHooks();
    this.onEvent = options.onEvent ?? null;
  }

  /** Who listens to firmware calls, port accesses and exceptions. Nothing is allocated for events without a listener. */
  set onEvent(listener: ((event: MachineEvent) => void) | null) {
    this.#listener = listener;
    this.ports.onEvent = listener;
    this.bios.onEvent = listener;
    this.interrupts.onEvent = listener;
  }

  /** RAM from address 0; take it anew after each run. */
  get ram(): Uint8Array {
    return this.cpu.ram(0);
  }

  /** Where conventional memory ends. */
  get ebdaAddress(): number {
    return EBDA_ADDRESS;
  }

  /**
   * Does what INT 19h does but for the jump: the first sectors of what can be booted are in memory then.
   *
   * @throws BootscopeError `machine-boot` where nothing can be booted
   */
  loadBootCode(order: readonly BootDevice[]): BootCode {
    return this.#placeBootCode(this.drives.boot(order));
  }

  #placeBootCode(code: BootCode): BootCode {
    this.memory.copyIn(code.address, code.bytes);
    this.memory.write8(BDA_HARD_DISKS, this.drives.hardDisks);
    return code;
  }

  /** Where an IRET of the ROM leads is changed to what is booted next; its drive, or null. */
  #bootNext(): number | null {
    const next = this.drives.bootNext();
    if (next === null) return null;
    const { address, drive } = this.#placeBootCode(next);
    const { cs, ip } = bootCodeEntry(address);
    const frame = linear(Number(this.cpu.readRegister('ss')), Number(this.cpu.readRegister('rsp') & 0xffffn));
    this.memory.write16(frame, ip);
    this.memory.write16(frame + 2, cs);
    return drive;
  }

  /** What the guest sent through the first serial port. */
  get serialText(): string {
    return this.#serialText;
  }

  /** What the guest printed through INT 10h, in order, without carriage returns. */
  get teletypeText(): string {
    return this.#teletypeText;
  }

  /** What a person would have read: the serial line where it was used, else the screen. */
  get consoleText(): string {
    return this.#serialText === '' ? this.#teletypeText : this.#serialText;
  }

  /** What stands on the text screen now, a line a row. */
  screenText(): string {
    return this.screen.text;
  }

  /** Ports and services the guest asked for and the machine does not have, each once. */
  get notices(): readonly string[] {
    return [...this.#notices.texts, ...(this.uefi?.notices ?? [])];
  }

  /** Why the machine stopped the CPU for good, in one sentence; null while it did not. */
  get stopReason(): string | null {
    return this.#stopReason;
  }

  /** Asked before the time stamp counter is read: what it says in the clock's place; null for the clock. */
  timeStamps: (() => bigint | null) | null = null;

  /** The time stamp counter. */
  rdtsc(): bigint {
    this.#tscReads++;
    const given = this.timeStamps?.() ?? null;
    if (given !== null) return given;
    this.clock.advance(1);
    return BigInt(Math.floor(this.clock.nanoseconds * (TSC_HZ / 1e9))) + this.#tscPhase;
  }

  /** Sets the sources of randomness as if the machine had been made with this seed; the clock goes on. */
  reseed(seed: bigint): void {
    this.entropy = new Entropy(seed);
    this.#tscPhase = this.entropy.next64() % TSC_PHASES;
    this.pit.phase = Number(this.entropy.next64() % PIT_PHASES);
  }

  /** What the next RDRAND gives. */
  rdrand(): bigint {
    return this.entropy.next64();
  }

  /** The next of the keys that are to be pressed; null where there is none any more. */
  nextKey(): Key | null {
    return this.#keys.shift() ?? null;
  }

  /** Whether one is left. */
  get hasKey(): boolean {
    return this.#keys.length > 0;
  }

  /** Presses keys for INT 16h, as many as the BIOS's buffer takes (15). ASCII only. */
  typeKeys(text: string): void {
    for (const character of text) {
      pushKey(this.memory, character.charCodeAt(0) & 0x7f);
    }
  }

  /**
   * Runs the CPU up to what its hooks stop it for, or to the end of a slice: a fixed number of instructions where they are
   * counted, after which the timer may get in, and a guest that will never do anything again is stopped (`stopReason`).
   *
   * A slice that takes long ends early, as often as it has to.
   *
   * @param last - the count of instructions that it ends at if it gets so far, where they are counted
   * @param rest - milliseconds of the host's that are left for all of the boot
   * @param mayRunOn - whether it need not return at this count, the end of a slice after which there is nothing to be done here
   */
  run(
    last: number | null = null,
    rest = Number.POSITIVE_INFINITY,
    mayRunOn = (_instructions: number): boolean => false,
  ): RunEnd {
    const { cpu } = this;
    const sliceMilliseconds = Math.min(SLICE_MILLISECONDS, Math.max(rest, SHORTEST_MILLISECONDS));
    if (cpu.instructions === null) {
      const end = cpu.run({ sliceMilliseconds });
      if (end.kind === 'slice') this.afterSlice();
      return end;
    }
    if (cpu.instructions >= this.#sliceEnd) this.#nextSlice();
    if (this.#stopReason !== null) return { kind: 'stopped' };
    const left = Math.min(this.#sliceEnd, last ?? this.#sliceEnd) - cpu.instructions;
    const further = (): number => (mayRunOn(this.#sliceEnd) ? this.#runOn(last) : 0);
    // What a probe sees is not to depend on the host.
    const end = this.#progress.isProbeDue
      ? this.#progress.probe(left, rest)
      : cpu.run({ instructions: left, sliceMilliseconds, further });
    if (end.kind === 'error' && end.broken) return this.#explain(end.error);
    return this.#stopReason === null || end.kind !== 'slice' ? end : { kind: 'stopped' };
  }

  /** What the engine broke down over: it is translating what comes next, so that this lies at RIP or soon behind it. */
  #explain(error: string): RunEnd {
    const { cpu } = this;
    const isReal = !this.#inProtectedMode;
    const rip = Number(cpu.readRegister('rip'));
    const address = isReal ? linear(Number(cpu.readRegister('cs')), rip) : rip;
    const bits = isReal ? 16 : cpu.readRegister('efer') & EFER_LMA ? 64 : 32;
    const code = cpu.memory.viewUpTo(address, TRANSLATED);
    if (code.length === TRANSLATED && code.every((byte) => byte === 0)) {
      this.#emptyCode ??= address;
      this.#stop(`the CPU runs through empty memory from ${hex(address)} on`);
      return { kind: 'stopped' };
    }
    let at = 0;
    while (at < code.length && !isFarOfRegister(code, at, bits)) at += instructionLength(code, at, bits);
    if (at >= code.length) at = 0;
    const where =
      code.length === 0 ? '' : ` over ${nameInstruction(code.subarray(at), bits)} at ${hex(address + at)}`;
    return { kind: 'error', error: `${error}${where}`, broken: true };
  }

  /**
   * In a hook, at the end of a slice: how many instructions the next one has where nothing is to be done between the two, so that
   * the engine, for which going in and out costs as much as thousands of instructions, may run through; else 0.
   */
  #runOn(last: number | null): number {
    const end = this.#sliceEnd;
    if ((last !== null && last <= end) || this.#timer.isDue) return 0;
    this.#nextSlice(end);
    if (this.#progress.isProbeDue) return 0;
    return Math.min(this.#sliceEnd, last ?? this.#sliceEnd) - end;
  }

  /** @param instructions - count that the last one ended at */
  #nextSlice(instructions = this.cpu.instructions!): void {
    this.afterSlice();
    this.#progress.afterSlice(instructions);
    const size = this.#timer.waitedTicks > 0 ? INSTRUCTIONS_A_TICK : SLICE;
    this.#sliceEnd = (Math.floor(instructions / size) + 1) * size;
  }

  /** Where the guest ran into memory with nothing in it; null where it did not. */
  get emptyCode(): number | null {
    return this.#emptyCode;
  }

  /**
   * After a HLT: does the UEFI service that it stands for, or lets time pass to the next timer interrupt and delivers it.
   * @returns false, with the reason in `stopReason`, where the guest will never do anything again: no
   *   interrupt can come, or a minute of timer interrupts has made no difference
   */
  idle(): boolean {
    if (this.uefi?.serve()) return this.#stopReason === null;
    return this.#timer.idle();
  }

  /**
   * After a slice of a run: lets a waiting timer interrupt in. A real-mode guest that has had interrupts on and
   * done nothing outside the CPU for some slices may be waiting for the timer in a loop, so it gets a tick too.
   */
  afterSlice(): void {
    this.#timer.afterSlice();
  }

  /** Notes from here on, behind `uses`, what the guest asks of devices by itself; firmware is not to be called meanwhile. */
  noteDeviceUses(uses: DeviceUse[]): void {
    this.#deviceUses = uses;
  }

  /** What was noted; null where nobody asked for it. */
  get deviceUses(): readonly DeviceUse[] | null {
    return this.#deviceUses;
  }

  /** Has the devices do again what they were asked, unnoticed, so that they come to the same state. */
  repeatDeviceUses(uses: readonly DeviceUse[]): void {
    const listener = this.#listener;
    this.onEvent = null;
    for (const use of uses) {
      if (use.kind === 'in') this.ports.read(use.port, use.size);
      else if (use.kind === 'out') this.ports.write(use.port, use.size, use.value);
      else if (use.kind === 'rdtsc') this.rdtsc();
      else this.rdrand();
    }
    this.onEvent = listener;
    this.#deviceUses = [...uses];
  }

  /** Tells whoever listens of what other parts of the machine than its own do. */
  tell(event: MachineEvent): void {
    this.#listener?.(event);
  }

  /** What firmware prints on the console. */
  print(text: string): void {
    this.#teletypeText += text;
  }

  /** Ends the run for good. */
  halt(reason: string): void {
    this.#stop(reason);
  }

  get #inProtectedMode(): boolean {
    return (this.cpu.readRegister('cr0') & CR0_PE) !== 0n;
  }

  #stop(reason: string): void {
    this.#stopReason ??= reason;
    this.cpu.stop();
  }

  #attachPorts(): PortBus {
    const ports = new PortBus(this.clock, this.#notices);
    ports.uncountedPort = MASTER_PIC;
    const dma = new PlainRegisters('DMA');
    const fpu = new PlainRegisters('FPU');
    const pci = new PciConfig();
    ports.attach(dma, 0x00, 0x0f);
    ports.attach(this.masterPic, MASTER_PIC, MASTER_PIC + 1);
    ports.attach(this.pit, PIT_COUNTER_0, PIT_CONTROL);
    ports.attach(this.keyboardController, KBC_DATA);
    ports.attach(new SystemControlB(this.clock, this.pit), SYSTEM_CONTROL_B);
    ports.attach(this.keyboardController, KBC_STATUS_COMMAND);
    ports.attach(this.cmos, CMOS_INDEX, CMOS_INDEX + 1);
    ports.attach(dma, 0x81, 0x8f);
    ports.attach(new PlainRegisters('POST'), 0x80);
    ports.attach(this.systemControlA, SYSTEM_CONTROL_A);
    ports.attach(this.slavePic, SLAVE_PIC, SLAVE_PIC + 1);
    ports.attach(dma, 0xc0, 0xdf);
    ports.attach(new PlainRegisters('I/O delay'), 0xed);
    ports.attach(fpu, 0xf0, 0xf1);
    ports.attach(this.vga, VGA_FIRST_PORT, VGA_LAST_PORT);
    ports.attach(this.floppyController, FDC_DIGITAL_OUTPUT, FDC_DIGITAL_INPUT);
    ports.attach(this.uart, COM1_PORT, COM1_PORT + 7);
    ports.attach(pci, PCI_CONFIG_ADDRESS, PCI_CONFIG_ADDRESS + 3);
    ports.attach(this.systemControlA, RESET_CONTROL);
    ports.attach(pci, PCI_CONFIG_DATA, PCI_CONFIG_DATA + 3);
    return ports;
  }

  #makeBios(): Bios {
    const { memory, clock, cmos, screen, uart, vga } = this;
    const stop = (reason: string): void => this.#stop(reason);
    const time = { memory, clock, cmos, pic: this.masterPic };
    return new Bios(
      this.cpu,
      [
        ...timerVectors(time, this.#ticks),
        videoVector({ memory, screen, vga, onCharacter: (code) => this.#onCharacter(code) }),
        diskVector({ memory, controller: this.floppyController, drives: this.drives }),
        systemVector({
          memory,
          clock,
          memoryMap: this.memoryMap,
          a20Enabled: () => this.#a20,
          setA20: (enabled) => this.#setA20(enabled),
          stop,
        }),
        keyboardVector({ memory, clock, stop, nextKey: () => this.nextKey() }),
        timeVector(time, this.#ticks),
        ...smallVectors({ memory, uart, bootNext: () => this.#bootNext(), stop }),
      ],
      this.#notices,
    );
  }

  #wire(): void {
    this.uart.onByte = (byte) => {
      if (byte !== 0x0d) {
        this.#serialText += String.fromCharCode(byte);
        this.#progress.afterCharacter();
      }
    };
    for (const device of [this.keyboardController, this.systemControlA]) {
      device.onA20 = (enabled) => this.#setA20(enabled);
      device.onReset = () => this.#stop('the guest reset the machine');
    }
  }

  #installHooks(): void {
    const { cpu, ports, cpuid } = this;
    cpu.hookInterrupt((vector, exception) => this.interrupts.handle(vector, exception));
    cpu.hookIn((port, size) => {
      this.#deviceUses?.push({ kind: 'in', port, size });
      return ports.read(port, size);
    });
    cpu.hookOut((port, size, value) => {
      this.#deviceUses?.push({ kind: 'out', port, size, value });
      ports.write(port, size, value);
    });
    cpu.hookCpuid((leaf, subleaf) => {
      const result = cpuid.read(leaf, subleaf);
      this.#listener?.({ kind: 'cpuid', leaf: leaf >>> 0, subleaf, result });
      return result;
    });
    cpu.hookRdtsc(() => {
      this.#deviceUses?.push({ kind: 'rdtsc' });
      return this.rdtsc();
    });
    cpu.hookInstruction('rdrand', (address) => this.#rdrand(Number(address)));
    cpu.hookInvalidAccess((access) => this.#openBus(access));
    cpu.hookEmptyCode((address) => {
      this.#emptyCode ??= address;
      this.#stop(`the CPU runs through empty memory from 0x${address.toString(16)} on`);
    });
  }

  /**
   * Where there is no memory, reads give all ones, and so does the range of devices below 4 GiB to the end
   * (what is written there stays in the page, which a PC would lose). A guest that writes between the
   * end of RAM and there, or jumps out of memory, has gone wrong: the run ends with a sentence.
   */
  #openBus(access: InvalidAccess): boolean {
    const { cpu, memory } = this;
    const { type, address } = access;
    if (access.reason !== 'unmapped') {
      return false;
    }
    const lost = type === 'fetch' || (type === 'write' && address < DEVICES_START);
    if (lost || address >= FOUR_GIB || this.#busPages >= MAXIMUM_BUS_PAGES) {
      const verb = type === 'fetch' ? 'jumped to' : type === 'write' ? 'wrote to' : 'read from';
      const physical = cpu.engineVersion.startsWith('2.0.') ? linearToPhysical(cpu, address) : null;
      // Unicorn 2.0 walks the tables, and then takes the linear address for the physical one.
      const why =
        physical !== null && physical !== address && physical < BigInt(memory.end)
          ? `which the page tables map to ${hex(physical)}, and Unicorn ${cpu.engineVersion} does not: 2.1 does`
          : `where there is no memory: RAM ends at ${hex(memory.end)}`;
      this.#stop(`the guest ${verb} ${hex(address)}, ${why}`);
      return false;
    }
    const page = Number(address) - (Number(address) % PAGE);
    this.#busPages++;
    cpu.mapDevice(page, PAGE).fill(0xff);
    this.#notices.addMemory(page);
    return true;
  }

  #onCharacter(code: number): void {
    if (code !== 0x0d) {
      this.#teletypeText += String.fromCharCode(code);
      this.#progress.afterCharacter();
    }
  }

  #setA20(enabled: boolean): void {
    this.#a20 = enabled;
    this.keyboardController.setA20(enabled);
    this.systemControlA.setA20(enabled);
  }

  /** Some engines do not know it, others draw from the host. */
  #rdrand(address: number): void {
    const { cpu } = this;
    if (!this.cpuid.hasRdrand) {
      this.interrupts.handle(INVALID_OPCODE, { errorCode: 0 });
      return;
    }
    const bits = !this.#inProtectedMode ? 16 : cpu.readRegister('efer') & EFER_LMA ? 64 : 32;
    this.#deviceUses?.push({ kind: 'rdrand' });
    emulateRdrand(cpu, this.memory, this.entropy, address, bits);
  }
}

function checkMemory(memory: number, ram: RamSizes, profile: CpuProfile): void {
  if (memory < MINIMUM_MEMORY || memory % PAGE !== 0) {
    throw new BootscopeError(
      'machine-memory',
      `memory of ${memory} ${memory === 1 ? 'byte' : 'bytes'} is less than ${formatSize(MINIMUM_MEMORY)}, or not whole pages`,
    );
  }
  const end = ram.high > 0 ? Number(FOUR_GIB) + ram.high : ram.low;
  const limit = highestRam(physicalAddressBits(profile), isAmd(profile));
  if (end > limit) {
    const why =
      limit < 2 ** physicalAddressBits(profile)
        ? 'keeps addresses from there on for HyperTransport'
        : `has ${physicalAddressBits(profile)} physical address bits`;
    throw new BootscopeError(
      'machine-memory',
      `memory of ${formatSize(memory)} would reach to ${hex(end)}; the processor ${profile.name} ${why}, so its RAM ends ` +
        `at ${hex(limit)}`,
    );
  }
}

/** Maps RAM below and from 4 GiB on. Of what the WASM engine has no room for the guest is told, but it is not there. */
function mapRam(cpu: Cpu, { low, high }: RamSizes, notices: NoticeList): void {
  if (cpu.engine !== 'wasm') {
    cpu.mapRam(0, low);
    if (high > 0) cpu.mapRam(Number(FOUR_GIB), high);
    return;
  }
  const mapped = Math.min(low, WASM_MEMORY);
  cpu.mapRam(0, mapped);
  if (mapped < low || high > 0) {
    notices.setMissingRam(
      `the WASM engine's heap holds the first ${formatSize(mapped)} of ${formatSize(low + high)} RAM; the native engine has all of it`,
    );
  }
}
