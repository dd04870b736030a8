// What a boot leaves behind as it runs: phases with the CPU as they begin, events, writes, notices.

import type { Cpu, Unhook } from '../cpu/cpu.ts';
import { REGISTER_NAMES } from '../cpu/cpu.ts';
import { hex } from '../hex.ts';
import { monotonicTime } from '../host/host.ts';
import type { MachineEvent } from '../machine/events.ts';
import type { Machine } from '../machine/machine.ts';
import type { BootEvent, MemoryWrite, Phase, PhaseName, RegisterSnapshot } from '../trace/boot-trace.ts';
import type { EventChoice } from '../trace/event-choice.ts';
import { Placements } from '../trace/placements.ts';
import { TraceRecorder } from '../trace/recorder.ts';
import { type PageTableWalk, walkPageTables } from '../x86/page-tables.ts';
import type { CpuModeReader } from './cpu-mode.ts';
import type { Hold } from './hold.ts';
import type { BootOptions } from './options.ts';
import type { StringOperation } from './string-instructions.ts';
import {
  findSystemInstructions,
  type PortPlaces,
  type SystemEvent,
  SystemEvents,
  type SystemEventsState,
} from './system-events.ts';

/** INT 13h. */
const DISK_SERVICES = 0x13;

interface RecordedBoot {
  readonly cpu: Cpu;
  readonly machine: Machine;
  readonly mode: CpuModeReader;
  readonly options: BootOptions;
  readonly hold: Hold;
}

/** What a boot has recorded in the phase that runs. */
export interface RecordState {
  readonly events: readonly BootEvent[];
  readonly system: SystemEventsState | null;
}

export class BootRecord {
  readonly #boot: RecordedBoot;
  readonly #recorder = new TraceRecorder();
  #openedAt = monotonicTime();
  readonly #writes: MemoryWrite[] = [];
  readonly #events: SystemEvents | null;
  /** What lies where, recorded as it comes and goes: between two runs of the CPU, before the phase begins that shows it. */
  readonly placements = new Placements(() => ({
    phases: this.phases.length,
    instructions: this.#boot.cpu.instructions,
  }));
  #biosCalls = 0;
  #efiCalls = 0;
  readonly #efiCallsAt: number[] = [];
  #diskCalled = false;

  constructor(boot: RecordedBoot) {
    this.#boot = boot;
    const { cpu, mode, hold } = boot;
    const events = {
      ...{ cpu, mode, hold },
      console: () => this.console,
      record: (event: SystemEvent, ports?: PortPlaces) => {
        // Between two entries of the boot protocol there is code that belongs to no phase.
        const { phase } = this;
        if (phase !== null) this.event({ ...event, phase }, ports);
      },
    };
    this.#events = boot.options.events ? new SystemEvents(events) : null;
  }

  /** What has been recorded in the running phase. */
  saveState(): RecordState {
    const { phase } = this;
    return {
      events: this.events.filter((event) => event.phase === phase),
      system: this.#events?.saveState() ?? null,
    };
  }

  /** In the same phase, with nothing recorded in it yet that `state` does not hold, too. */
  restoreState({ events, system }: RecordState): void {
    const known = this.events.filter((event) => event.phase === this.phase).length;
    for (const event of events.slice(known)) this.#recorder.event(event);
    if (system !== null) this.#events?.restoreState(system);
  }

  /** Goes on where another one, of a boot of the same image, stands at the beginning of a phase. */
  copyFrom(other: BootRecord): void {
    this.#recorder.copyFrom(other.#recorder);
    this.placements.copyFrom(other.placements);
    this.#writes.splice(0, this.#writes.length, ...other.#writes);
    this.#efiCallsAt.splice(0, this.#efiCallsAt.length, ...other.#efiCallsAt);
    this.#openedAt = other.#openedAt;
    this.#biosCalls = other.#biosCalls;
    this.#efiCalls = other.#efiCalls;
    this.#diskCalled = other.#diskCalled;
  }

  get phases(): readonly Phase[] {
    return this.#recorder.phases;
  }

  /** The phase that runs; null before the first of an entry behind setup. */
  get phase(): PhaseName | null {
    return this.#recorder.current;
  }

  get events(): readonly BootEvent[] {
    return this.#recorder.events;
  }

  /** In time's order. */
  get writes(): readonly MemoryWrite[] {
    return this.#writes;
  }

  get notices(): readonly string[] {
    return [...this.#recorder.notices, ...this.#boot.machine.notices];
  }

  /** All that the guest has printed. */
  get console(): string {
    return this.#boot.machine.consoleText;
  }

  /** The guest has asked the BIOS for the disk. */
  get diskCalled(): boolean {
    return this.#diskCalled;
  }

  /** Snapshots the CPU as the phase begins. */
  beginPhase(name: PhaseName, address: number, program: string | null = null): Phase {
    const { cpu, mode } = this.#boot;
    this.#events?.flush(BigInt(address));
    this.completePhase(this.#summary());
    this.#biosCalls = 0;
    this.#efiCalls = 0;
    const registers = snapshot(cpu);
    const phase: Phase = {
      name,
      address: BigInt(address),
      ...(program === null ? {} : { program }),
      mode: mode.read(),
      registers,
      gdtr: cpu.readDescriptorTable('gdtr'),
      idtr: cpu.readDescriptorTable('idtr'),
      instructions: cpu.instructions,
      regions: [],
      overwritten: [],
      pageTables: this.#walkPageTables(name, registers),
      summary: '',
      milliseconds: monotonicTime() - this.#openedAt,
    };
    this.#recorder.begin(phase);
    this.#efiCallsAt.push(this.#boot.machine.uefi?.calls ?? 0);
    return phase;
  }

  /** EFI services that had been called when the phase at `index` began. */
  efiCallsAt(index: number): number {
    return this.#efiCallsAt[index] ?? 0;
  }

  /** What happened in the running phase, in a few words. */
  completePhase(summary: string): void {
    this.#recorder.complete(summary);
  }

  /** Completes the phase at `index` with what a layout says of it. */
  setLayout(...layout: Parameters<TraceRecorder['setLayout']>): void {
    this.#recorder.setLayout(...layout);
  }

  #summary(): string {
    const phase = this.#recorder.phases.at(-1);
    if (phase === undefined || phase.summary !== '') return phase?.summary ?? '';
    const calls = this.#callsText();
    const { program } = phase;
    return program === undefined ? calls : calls === '' ? program : `${program}; ${calls}`;
  }

  #callsText(): string {
    const [count, what] =
      this.#efiCalls > 0 ? [this.#efiCalls, 'EFI service call'] : [this.#biosCalls, 'BIOS call'];
    return count === 0 ? '' : `${count} ${what}${count === 1 ? '' : 's'}`;
  }

  /** The tables in force; the steps of a trapped extract_kernel share one walk. */
  #walkPageTables(name: PhaseName, registers: RegisterSnapshot): PageTableWalk | null {
    if (!this.#boot.options.pageTables) return null;
    const inCall = name === 'parse_elf' || name === 'handle_relocations';
    const before = this.#recorder.phases.at(-1)?.pageTables ?? null;
    return inCall && before !== null ? before : walkPageTables(this.#boot.machine.memory, registers);
  }

  /** @param ports - of an event that is several accesses, where the first to each port was */
  event(event: BootEvent, ports?: PortPlaces): void {
    this.#recorder.event(event);
    const placeFor = ({ of = '' }: EventChoice): BootEvent => ({ ...event, ...ports?.get(of) });
    this.#boot.hold.onEvent(event, (choice) => this.#recorder.count(choice), placeFor);
  }

  notice(text: string): void {
    this.#recorder.notice(text);
  }

  wrote(write: Omit<MemoryWrite, 'during'>): void {
    this.#writes.push({ ...write, during: this.phases.length - 1 });
  }

  stringOperation(operation: StringOperation): void {
    const { kind, address, source, target, length } = operation;
    if (kind === 'fill') {
      this.wrote({ start: target, end: target + length, role: 'stub-zeroes', what: 'zeroes of the stub' });
    }
    if (!this.#boot.options.events) return;
    const range = (start: number): string => `${hex(start)}..${hex(start + length)}`;
    this.event({
      kind,
      phase: this.phase!,
      address: BigInt(address),
      instructions: this.#boot.cpu.instructions,
      text: source === null ? `fill ${range(target)}` : `copy ${range(source)} to ${range(target)}`,
      details: { source, target, length },
    });
  }

  onMachineEvent(event: MachineEvent): void {
    if (event.kind === 'bios') {
      this.#biosCalls++;
      if (event.vector === DISK_SERVICES) this.#diskCalled = true;
      this.#boot.hold.onFirmware();
    } else if (event.kind === 'efi') {
      this.#efiCalls++;
      this.#boot.hold.onFirmware();
    }
    this.#events?.onMachineEvent(event);
  }

  /**
   * Events of the system instructions in code[from, to), which runs at `address`.
   * @param everything - as for `findSystemInstructions`
   */
  watchSystemInstructions(
    address: number,
    code: Uint8Array,
    from: number,
    to: number,
    everything: boolean,
  ): Unhook[] {
    return this.#events?.watch(address, findSystemInstructions(code, from, to, everything)) ?? [];
  }
}

export function snapshot(cpu: Cpu): RegisterSnapshot {
  const values = new BigUint64Array(REGISTER_NAMES.length);
  cpu.readRegisters(REGISTER_NAMES, values);
  return Object.fromEntries(REGISTER_NAMES.map((name, index) => [name, values[index]!])) as RegisterSnapshot;
}
