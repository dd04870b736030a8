// Events and timers (UEFI 2.10, 7.1), as far as boot loaders use them: signalled by hand, by the clock, or with a group.

export interface EfiEvent {
  readonly id: bigint;
  readonly type: number;
  readonly notify: bigint;
  readonly context: bigint;
  readonly group: string | null;
  signalled: boolean;
  /** Clock's nanoseconds when the timer is due; null without one. */
  due: number | null;
  /** Nanoseconds between two signals of a periodic timer. */
  period: number | null;
  /** What lasts as long as something is there, as a key that has not been read; missing for what is signalled once. */
  readonly isReady?: () => boolean;
}

export const EVT_TIMER = 0x8000_0000;
export const EVT_NOTIFY_WAIT = 0x100;
export const EVT_NOTIFY_SIGNAL = 0x200;

export class EventList {
  readonly #events = new Map<bigint, EfiEvent>();

  create(id: bigint, parts: Pick<EfiEvent, 'type' | 'notify' | 'context' | 'group' | 'isReady'>): void {
    this.#events.set(id, { ...parts, id, signalled: false, due: null, period: null });
  }

  get(id: bigint): EfiEvent | undefined {
    return this.#events.get(id);
  }

  close(id: bigint): boolean {
    return this.#events.delete(id);
  }

  /** Whether an event is signalled, which it then is no longer. */
  take(id: bigint): boolean {
    const event = this.#events.get(id);
    if (event === undefined) return false;
    const { signalled } = event;
    event.signalled = false;
    return signalled || event.isReady?.() === true;
  }

  /** Signals the timers that are due. */
  advance(now: number): void {
    for (const event of this.#events.values()) {
      if (event.due === null || event.due > now) continue;
      event.signalled = true;
      event.due = event.period === null ? null : now + event.period;
    }
  }

  /** When the next of these timers is due; null where none will be. */
  nextDue(ids: readonly bigint[]): number | null {
    const times = ids.flatMap((id) => this.#events.get(id)?.due ?? []);
    return times.length === 0 ? null : Math.min(...times);
  }

  /** Events of a group, or of type signal-at-exit, that have something to call. */
  ofGroup(group: string): readonly EfiEvent[] {
    return [...this.#events.values()].filter((event) => event.group === group && event.notify !== 0n);
  }
}
