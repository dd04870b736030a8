// A boot that is held: opened, run until something, stepped, looked at, resumed, gone back in, asked for its trace at any stop.

import { openCpu } from '#open-cpu';
import type { Cpu } from '../cpu/cpu.ts';
import { linearToPhysical } from '../cpu/translate.ts';
import { PayloadAhead } from '../decompressor/payload-ahead.ts';
import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import { entryCommandLine } from '../machine/uefi/boot-manager.ts';
import {
  type BootEvent,
  type BootTrace,
  type MemoryRegion,
  PHASE_NAMES,
  type PhaseName,
  type RegisterSnapshot,
} from '../trace/boot-trace.ts';
import { type Place, parsePlace, placeName } from '../trace/place.ts';
import { type PageTableWalk, walkPageTables } from '../x86/page-tables.ts';
import type { ObservedAccess } from './access-observer.ts';
import { snapshot } from './boot-record.ts';
import { BootRun } from './boot-run.ts';
import { layoutOf, traceOf } from './boot-trace.ts';
import { entryOfState, fromState, optionsOfState } from './entries/from-state.ts';
import { enterBy, findEntry } from './entries/table.ts';
import type { HandoverEntry } from './handover-rules.ts';
import type { HoldConditions } from './hold.ts';
import type { InstructionListener, InstructionStream } from './instruction-stream.ts';
import { cmdlineForGuest } from './kaslr-request.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { Snapshots } from './snapshots.ts';
import type { PlaceOrText, RunOptions, Stop, StopCause, WatchedRange } from './stop.ts';
import { withUkiSections } from './uki-sections.ts';
import { hashKernel } from './watch/kernel.ts';

/** Physical memory of a held boot, little endian. @throws BootscopeError `machine-address` outside of RAM */
export interface SessionMemory {
  /** Bytes of RAM, from address 0. */
  readonly size: number;
  /** A copy of [address, address + length). */
  read(address: number | bigint, length: number): Uint8Array;
  /** A patch: the guest goes on with it. Going back forgets it. */
  write(address: number | bigint, bytes: Uint8Array): void;
  u8(address: number | bigint): number;
  u16(address: number | bigint): number;
  u32(address: number | bigint): number;
  u64(address: number | bigint): bigint;
  /** Physical address of a linear one, as the CPU's page tables map it now; null where they do not. */
  physical(linear: number | bigint): number | null;
}

/**
 * One boot, held between two instructions. `run`, `step` and `goTo` may not overlap. Going back runs the boot again, on another
 * machine: what was taken from `machine` and `memory` before is stale then.
 */
export interface BootSession extends Disposable {
  readonly options: BootOptions;
  readonly machine: Machine;
  /** Where it stands, and why. */
  readonly stop: Stop;
  readonly phase: PhaseName | null;
  /** As `Position.instructions`. */
  readonly instructions: number | null;
  /** As they are now. */
  readonly registers: RegisterSnapshot;
  readonly memory: SessionMemory;
  /** So far. */
  readonly events: readonly BootEvent[];
  /** Address of the protected-mode code that runs now, as loaded or as copied; null before it runs. */
  readonly zo: number | null;

  /**
   * Runs until one of the options says stop, or to the end of the boot.
   * @throws BootscopeError `place` for a text that is none, `session-count` for a count where this host cannot count,
   *   `session-closed`
   */
  run(options?: RunOptions): Promise<Stop>;
  /** Executes so many instructions; a repeated string instruction is one. */
  step(instructions?: number): Promise<Stop>;
  /**
   * Goes to where so many instructions have been executed (or another place, from the entry), backwards by running again.
   */
  goTo(place: number | PlaceOrText): Promise<Stop>;
  /** Stops at the beginning of each phase from here on, and at the end. */
  phases(options?: Pick<RunOptions, 'signal'>): AsyncIterableIterator<Stop>;
  /** What lies where now. */
  layout(): readonly MemoryRegion[];
  /** What CR3 points to now; its mode is `off` without paging. */
  pageTables(): PageTableWalk;
  /** What was observed up to here. */
  trace(): BootTrace;
  /**
   * Tells of each instruction that is executed from here on, until `finish` of what it returns; one at a time. Going back ends it.
   */
  stream<T>(listener: InstructionListener<T>): InstructionStream<T>;
  /**
   * Tells of each access to a range of RAM from here on, until what it returns is called; accesses of the host in place of the
   * guest are told of where they write. Going back ends it.
   * @throws BootscopeError `machine-address` where the range is not all RAM
   */
  observe(range: WatchedRange, access: 'read' | 'write', tell: (access: ObservedAccess) => void): () => void;
  /** Frees the machine; what was read from it stays, `machine` and `memory` do not. */
  close(): void;
}

/** Of sessions that say nothing else. */
export const SNAPSHOT_MEMORY: number = 256 * 1024 * 1024;

/**
 * Opens a boot that stands before its first instruction.
 *
 * @param options - what differs from {@link DEFAULT_BOOT_OPTIONS}
 * @throws {@link BootscopeError} when image and options do not go together, or no engine is there
 * @example
 * ```ts
 * import { readKernelImage } from 'bootscope';
 * import { openBoot } from 'bootscope/session';
 *
 * const session = await openBoot(await readKernelImage('demo-gzip.bzImage'));
 * const stop = await session.run({ until: 'startup_32' });
 * await session.step(3);
 * console.log(stop.phase, session.registers.rip - stop.address, 'bytes of code executed');
 * await session.goTo(stop.instructions ?? 0);
 * session.close();
 * ```
 */
export function openBoot(image: KernelImage, options: Partial<BootOptions> = {}): Promise<BootSession> {
  return HeldBoot.open(image, { ...DEFAULT_BOOT_OPTIONS, snapshotMemory: SNAPSHOT_MEMORY, ...options });
}

const DISPOSE: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for('Symbol.dispose');

/** Everything of a session that can be thrown away and made again. */
interface Attempt {
  readonly cpu: Cpu;
  readonly run: BootRun;
}

/** A session with what the rest of this folder needs of it. */
export class HeldBoot implements BootSession {
  readonly options: BootOptions;
  readonly #image: KernelImage;
  #ahead: PayloadAhead | null;
  #attempt: Attempt;
  readonly #snapshots: Snapshots | null;
  #stop: Stop;
  #busy = false;
  #closed = false;
  readonly memory: SessionMemory;

  private constructor(
    image: KernelImage,
    options: BootOptions,
    ahead: PayloadAhead | null,
    attempt: Attempt,
  ) {
    this.#image = image;
    this.options = options;
    this.#ahead = ahead;
    this.#attempt = attempt;
    this.#snapshots = options.snapshotMemory > 0 ? new Snapshots(options.snapshotMemory) : null;
    attempt.run.snapshots = this.#snapshots;
    this.#stop = this.#stand({ reason: 'opened' });
    this.memory = sessionMemory(
      () => this.machine,
      () => hashKernel(this.boot),
    );
  }

  /** @param decompressAhead - whether the payload is wanted, so that decompressing it may begin at once */
  static async open(given: KernelImage, options: BootOptions, decompressAhead = true): Promise<HeldBoot> {
    // The guest's own code draws unless it is told not to.
    const { state } = options;
    const entry = findEntry(
      given,
      state === null ? options.entry : entryOfState(state, given, options.entry),
    );
    const image = entry.prepare === undefined ? given : await entry.prepare(given);
    // An EFI boot runs systemd-stub, which takes the sections by itself.
    const whole =
      state !== null
        ? optionsOfState(state, image, options, entry.name as HandoverEntry)
        : entry.name === 'efi'
          ? options
          : withUkiSections(given, options);
    const { esp, efiVariables } = options;
    const fromEntry = esp !== null && options.cmdline === '' && image.kind !== 'efi-program';
    const told = fromEntry ? { ...whole, cmdline: entryCommandLine(esp, efiVariables) } : whole;
    const guestDraws = options.decompress === 'emulated' || entry.drawsItself === true;
    const cmdline = guestDraws && state === null ? cmdlineForGuest(image, told) : told.cmdline;
    const own = { ...whole, cmdline, entry: entry.name };
    const wanted = decompressAhead && options.decompress === 'hooked';
    const ahead = wanted ? await PayloadAhead.begin(image) : null;
    try {
      return new HeldBoot(image, own, ahead, await attempt(image, own, ahead));
    } catch (error) {
      await ahead?.close();
      throw error;
    }
  }

  get boot(): BootRun {
    if (this.#closed)
      throw new BootscopeError('session-closed', 'this boot was closed: it cannot be used any more');
    return this.#attempt.run;
  }

  get machine(): Machine {
    return this.boot.machine;
  }

  get stop(): Stop {
    return this.#stop;
  }

  get phase(): PhaseName | null {
    return this.#busy ? this.boot.record.phase : this.#stop.phase;
  }

  get instructions(): number | null {
    return this.machine.cpu.instructions;
  }

  get registers(): RegisterSnapshot {
    return snapshot(this.machine.cpu);
  }

  get events(): readonly BootEvent[] {
    return this.boot.record.events;
  }

  get zo(): number | null {
    return this.boot.found.zo;
  }

  layout(): readonly MemoryRegion[] {
    return layoutOf(this.boot);
  }

  pageTables(): PageTableWalk {
    return walkPageTables(this.machine.memory, this.registers);
  }

  trace(): BootTrace {
    return traceOf(this.boot);
  }

  stream<T>(listener: InstructionListener<T>): InstructionStream<T> {
    return this.boot.openStream(listener);
  }

  observe(range: WatchedRange, access: 'read' | 'write', tell: (access: ObservedAccess) => void): () => void {
    return this.boot.observe(range, access, tell);
  }

  run(options: RunOptions = {}): Promise<Stop> {
    return this.#alone(() => this.#run(options));
  }

  step(instructions = 1): Promise<Stop> {
    return this.#alone(async () => {
      const count = this.#counted('a step') + instructions;
      return this.#runUntil(conditions({ count, countCause: { reason: 'count' } }), {});
    });
  }

  goTo(place: number | PlaceOrText): Promise<Stop> {
    const to = typeof place === 'number' ? countPlace(place) : placeOf(place);
    return this.#alone(() => (to.kind === 'count' ? this.#goToCount(to.instructions) : this.#goToPlace(to)));
  }

  async *phases(options: Pick<RunOptions, 'signal'> = {}): AsyncGenerator<Stop, undefined> {
    for (;;) {
      const stop = await this.run({ ...options, until: PHASE_NAMES });
      yield stop;
      if (stop.reason === 'ended' || stop.reason === 'aborted') return;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#attempt.cpu.close();
    void this.#ahead?.close();
  }

  [DISPOSE](): void {
    this.close();
  }

  /** One at a time. */
  async #alone(action: () => Promise<Stop>): Promise<Stop> {
    if (this.#busy)
      throw new BootscopeError('session-busy', 'this boot is running: it can be told to run when it stands');
    this.#busy = true;
    try {
      return await action();
    } finally {
      this.#busy = false;
    }
  }

  #counted(what: string): number {
    const { instructions } = this;
    if (instructions === null) {
      throw new BootscopeError(
        'session-count',
        `${what} needs instructions to be counted: this boot was opened without that, or this host cannot do it`,
      );
    }
    return instructions;
  }

  #run(options: RunOptions): Promise<Stop> {
    const places = [options.until ?? []].flat().map(placeOf);
    const writes = [options.writes ?? []].flat();
    const reads = [options.reads ?? []].flat();
    const counts = places.filter((place) => place.kind === 'count').map((place) => place.instructions);
    const count = counts.length > 0 ? Math.min(...counts) : null;
    if (count !== null && count < this.#counted(`#${count}`)) {
      throw new BootscopeError(
        'session-past',
        `#${count} lies behind: ${this.instructions} instructions have been executed, and a run goes forward only`,
      );
    }
    const budget =
      options.instructions === undefined ? null : this.#counted('a budget') + options.instructions;
    const isBudget = budget !== null && (count === null || budget < count);
    return this.#runUntil(
      conditions({
        addresses: places.filter((place) => place.kind === 'address'),
        phases: places.filter((place) => place.kind === 'phase').map(({ phase }) => phase),
        events: places.filter((place) => place.kind === 'event'),
        // Where a boot was told to stop, or has been moved to, it is not held once more.
        eventsFrom: (this.instructions ?? 0) + (['opened', 'phase'].includes(this.#stop.reason) ? 0 : 1),
        writes,
        reads,
        count: isBudget ? budget : count,
        countCause: isBudget ? { reason: 'budget', budget: 'instructions' } : { reason: 'count' },
      }),
      options,
    );
  }

  async #runUntil(wanted: HoldConditions, options: Pick<RunOptions, 'seconds' | 'signal'>): Promise<Stop> {
    const run = this.boot;
    const told = this.#nextPhase(wanted.phases);
    if (told !== null) return this.#stopFor({ reason: 'phase' }, told);
    if (run.ended) return this.#stopFor({ reason: 'ended', stopped: run.stopped });
    const signals = [options.signal, this.options.signal].filter((signal) => signal !== undefined);
    if (signals.some(({ aborted }) => aborted)) return this.#stopFor({ reason: 'aborted' });
    if (wanted.count !== null && this.instructions! >= wanted.count) return this.#stopFor(wanted.countCause);
    const abort = (): void => run.hold.hold({ reason: 'aborted' });
    for (const signal of signals) signal.addEventListener('abort', abort);
    run.hold.begin(wanted, run.address);
    try {
      await run.run(options.seconds ?? null);
    } finally {
      run.hold.end();
      for (const signal of signals) signal.removeEventListener('abort', abort);
    }
    const cause = run.hold.found;
    if (cause?.reason === 'phase') return this.#stopFor(cause, this.#nextPhase(wanted.phases));
    run.begun.length = 0;
    // What it was held for may be the last that happened.
    if (cause === null || run.ended) return this.#stopFor({ reason: 'ended', stopped: run.stopped });
    if (cause.reason !== 'event') return this.#stopFor(cause);
    const { instructions } = cause.event;
    if (instructions !== null && instructions !== this.instructions) await this.#goToCount(instructions);
    return this.#stopFor(cause);
  }

  /** A phase that has begun and nobody was told of: of several that began at once, one after the other. */
  #nextPhase(wanted: readonly PhaseName[]): PhaseName | null {
    const { begun } = this.boot;
    while (begun.length > 0) {
      const { name } = begun.shift()!;
      if (wanted.includes(name)) return name;
    }
    return null;
  }

  async #goToCount(instructions: number): Promise<Stop> {
    const now = this.#counted(`#${instructions}`);
    const snapshot = this.#snapshots?.before(instructions) ?? null;
    if (snapshot !== null && (instructions < now || snapshot.instructions > now)) {
      await this.#again();
      await this.#runUntil(conditions({ phases: ['extract_kernel'] }), {});
      this.#snapshots!.restore(this.boot, snapshot);
    } else if (instructions < now) {
      await this.#again();
    }
    return this.#runUntil(conditions({ count: instructions, countCause: { reason: 'count' } }), {});
  }

  async #goToPlace(place: Place): Promise<Stop> {
    await this.#again();
    const first = this.boot.begun.shift();
    if (place.kind === 'phase' && place.phase === first?.name) return this.#stopFor({ reason: 'phase' });
    return this.#run({ until: place });
  }

  /** Back before the first instruction, on a new machine. */
  async #again(): Promise<void> {
    this.#attempt.cpu.close();
    this.#snapshots?.forgetMachine();
    if (this.options.decompress === 'hooked' && this.#ahead?.isMoved !== false) {
      await this.#ahead?.close();
      this.#ahead = await PayloadAhead.now(this.#image);
    }
    this.#attempt = await attempt(this.#image, this.options, this.#ahead);
    this.#attempt.run.snapshots = this.#snapshots;
    this.#stop = this.#stand({ reason: 'opened' });
  }

  #stopFor(cause: StopCause, phase: PhaseName | null = null): Stop {
    this.#stop = { ...this.#stand(cause), ...(phase === null ? {} : { phase }) };
    return this.#stop;
  }

  #stand(cause: StopCause): Stop {
    const { run, cpu } = this.#attempt;
    return {
      ...cause,
      phase: run.record.phase,
      address: BigInt(run.address),
      mode: run.mode.read(),
      instructions: cpu.instructions,
    };
  }
}

async function attempt(
  image: KernelImage,
  options: BootOptions,
  ahead: PayloadAhead | null,
): Promise<Attempt> {
  const cpu =
    typeof options.engine === 'function' ? await options.engine() : await openCpu({ engine: options.engine });
  try {
    const found = findEntry(image, options.entry);
    const entry = options.state === null ? found : fromState(found, options.state);
    const run = new BootRun(cpu, image, options, entry.machine?.(image, options), ahead);
    enterBy(entry, run);
    return { cpu, run };
  } catch (error) {
    cpu.close();
    throw error;
  }
}

function placeOf(place: PlaceOrText): Place {
  return typeof place === 'string' ? parsePlace(place) : place;
}

function countPlace(instructions: number): Place {
  return parsePlace(placeName({ kind: 'count', instructions }));
}

function conditions(some: Partial<HoldConditions>): HoldConditions {
  return {
    ...{ addresses: [], phases: [], events: [], eventsFrom: 0, writes: [], reads: [] },
    ...{ count: null, countCause: { reason: 'count' } },
    ...some,
  };
}

/** @param beforeWrite - of what is asked for later and has to be known before memory changes */
function sessionMemory(machine: () => Machine, beforeWrite: () => void): SessionMemory {
  const view = (address: number | bigint, length: number): DataView => {
    const bytes = machine().memory.copyOut(Number(address), length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  };
  return {
    get size() {
      return machine().memory.end;
    },
    read: (address, length) => machine().memory.copyOut(Number(address), length),
    write: (address, bytes) => {
      beforeWrite();
      machine().memory.copyIn(Number(address), bytes);
    },
    u8: (address) => view(address, 1).getUint8(0),
    u16: (address) => view(address, 2).getUint16(0, true),
    u32: (address) => view(address, 4).getUint32(0, true),
    u64: (address) => view(address, 8).getBigUint64(0, true),
    physical: (linear) => {
      const physical = linearToPhysical(machine().cpu, BigInt(linear));
      return physical === null ? null : Number(physical);
    },
  };
}
