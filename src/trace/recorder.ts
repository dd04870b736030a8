// Collects phases and events while a boot runs; the finished trace is read from it at the end.

import type { BootEvent, EventKind, MemoryRegion, Overwrite, Phase, PhaseName } from './boot-trace.ts';
import { type EventChoice, isChosen } from './event-choice.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Events kept at most; a guest that does more is counted, not stored. */
const MAX_EVENTS = 20_000;

export class TraceRecorder {
  readonly #phases: Mutable<Phase>[] = [];
  readonly #events: BootEvent[] = [];
  readonly #notices: string[] = [];
  readonly #counts = new Map<EventKind, number>();
  #dropped = 0;

  /** What another one has collected so far, in place of what this one has. */
  copyFrom(other: TraceRecorder): void {
    this.#phases.splice(0, this.#phases.length, ...other.#phases.map((phase) => ({ ...phase })));
    this.#events.splice(0, this.#events.length, ...other.#events);
    this.#notices.splice(0, this.#notices.length, ...other.#notices);
    this.#counts.clear();
    for (const [kind, count] of other.#counts) this.#counts.set(kind, count);
    this.#dropped = other.#dropped;
  }

  get phases(): readonly Phase[] {
    return this.#phases;
  }

  get events(): readonly BootEvent[] {
    return this.#events;
  }

  /** What the user should know, each once. */
  get notices(): readonly string[] {
    return this.#dropped === 0
      ? this.#notices
      : [...this.#notices, `${this.#dropped} events after the first ${MAX_EVENTS} were not recorded`];
  }

  get current(): PhaseName | null {
    return this.#phases.at(-1)?.name ?? null;
  }

  begin(phase: Phase): void {
    this.#phases.push(phase);
  }

  /** Completes the running phase, when what happened in it is known. */
  complete(summary: string): void {
    const phase = this.#phases.at(-1);
    if (phase !== undefined) phase.summary = summary;
  }

  /** Completes the phase at `index` with its regions, and what the phase before it overwrote. */
  setLayout(index: number, regions: readonly MemoryRegion[], overwritten: readonly Overwrite[]): void {
    const phase = this.#phases[index];
    if (phase === undefined) return;
    phase.regions = regions;
    phase.overwritten = overwritten;
  }

  event(event: BootEvent): void {
    this.#counts.set(event.kind, this.count({ event: event.kind }) + 1);
    if (this.#events.length < MAX_EVENTS) this.#events.push(event);
    else this.#dropped++;
  }

  /** How many there were; of those that are chosen by more than their kind, how many were kept. */
  count(choice: EventChoice): number {
    if (choice.of === undefined) return this.#counts.get(choice.event) ?? 0;
    return this.#events.filter((event) => isChosen(event, choice)).length;
  }

  notice(text: string): void {
    if (!this.#notices.includes(text)) this.#notices.push(text);
  }
}
