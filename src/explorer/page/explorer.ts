// What the page knows and does: the moment that is looked at, the time line, stops that were set, and the one thing that runs.

import type { ReportModel } from '../../report/report-model.ts';
import type { StructureName } from '../../trace/decode/decode.ts';
import type { FieldLine, HexRange, Moment, OpenedBoot, WriterLine } from '../protocol.ts';
import { type Connection, RequestError } from './connection.ts';
import { type FoundLine, foundLines } from './found-lines.ts';

/** A stop that somebody has set: a place, among them events of a kind, or a range that is written to. */
export type Breakpoint =
  | { readonly kind: 'place'; readonly place: string }
  | { readonly kind: 'write'; readonly range: HexRange };

export interface View {
  readonly opened: OpenedBoot | null;
  readonly moment: Moment | null;
  /** The one before, to show what has changed. */
  readonly before: Moment | null;
  readonly survey: ReportModel | null;
  /** What runs now; null: the boot is held. */
  readonly busy: Busy | null;
  readonly progress: { readonly phase: string | null; readonly instructions: number | null } | null;
  readonly error: string | null;
  /** The machine is gone, and why. */
  readonly lost: string | null;
  /** Whose writers were asked for; null writers: they are being looked for. */
  readonly who: { readonly range: HexRange; readonly writers: readonly WriterLine[] | null } | null;
  readonly breakpoints: readonly Breakpoint[];
  /** Physical address that the memory panel begins with, a multiple of 16. */
  readonly memoryAt: number;
  readonly memory: ShownMemory | null;
}

interface Busy {
  /** In words. */
  readonly what: string;
  /** Whether it has been running for so long that a person should be told. */
  readonly long: boolean;
}

interface ShownMemory {
  readonly start: number;
  readonly bytes: Uint8Array;
  readonly before: Uint8Array | null;
}

export const MEMORY_LENGTH = 0x200;
const ROW = 16;
/** What takes no longer is shown when it is done: words that come and go at each step would flicker. */
const LONG_MILLISECONDS = 200;

export class Explorer {
  readonly #connection: Connection;
  readonly #changed: (view: View) => void;
  view: View = {
    ...{
      opened: null,
      moment: null,
      before: null,
      survey: null,
      busy: null,
      progress: null,
      error: null,
      lost: null,
    },
    ...{ who: null, breakpoints: [], memoryAt: 0x7c00, memory: null },
  };

  constructor(connection: Connection, changed: (view: View) => void) {
    this.#connection = connection;
    this.#changed = changed;
    connection.onProgress = (progress) => this.#set({ progress });
    connection.onLost = (lost) => this.#set({ lost, busy: null });
  }

  #set(part: Partial<View>): void {
    this.view = { ...this.view, ...part };
    this.#changed(this.view);
  }

  /** Opens the boot, and goes where the address bar says. */
  async start(): Promise<void> {
    const asked = new URLSearchParams(location.hash.slice(1));
    // On its way before anything is drawn.
    const answer = this.#connection.request({ do: 'open' });
    await this.#during('opening the boot', async () => {
      const opened = await answer;
      const memoryAt = Number(asked.get('memory') ?? opened.moment.address);
      const row = Number.isSafeInteger(memoryAt) && memoryAt >= 0 ? memoryAt - (memoryAt % ROW) : 0;
      return { opened, moment: opened.moment, memoryAt: row };
    });
    if (this.view.opened === null) return;
    this.#connection.request({ do: 'survey' }).then(
      (survey) => this.#set({ survey }),
      (error: unknown) => this.#tell(error),
    );
    const at = asked.get('at');
    if (at === null) await this.#showMemory();
    else await this.goTo(at);
  }

  /** On to the next stop that was set, or to the end. */
  continue(): Promise<void> {
    const { breakpoints } = this.view;
    const until = breakpoints.flatMap((each) => (each.kind === 'place' ? [each.place] : []));
    const writes = breakpoints.flatMap((each) => (each.kind === 'write' ? [each.range] : []));
    return this.#move('running', () => this.#connection.request({ do: 'run', until, writes }));
  }

  runTo(place: string): Promise<void> {
    return this.#move(`running to ${place}`, () =>
      this.#connection.request({ do: 'run', until: [place], writes: [] }),
    );
  }

  step(instructions: number): Promise<void> {
    const what = instructions < 0 ? 'going back' : 'stepping';
    return this.#move(what, () => this.#connection.request({ do: 'step', instructions }));
  }

  /** Behind a call, an interrupt or a repeated instruction; else one step. */
  stepOver(): Promise<void> {
    const [now, next] = this.view.moment?.code ?? [];
    if (now === undefined || next === undefined || !/^(call|int|rep|loop)/.test(now.text))
      return this.step(1);
    return this.runTo(next.address);
  }

  goTo(place: string): Promise<void> {
    return this.#move(`going to ${place}`, () => this.#connection.request({ do: 'goTo', place }));
  }

  /** To the beginning of the next phase (1) or of this or the one before (-1). */
  async goToPhase(direction: 1 | -1): Promise<void> {
    const { survey, moment } = this.view;
    if (survey === null || moment === null) return;
    const starts = survey.phases.map(({ name, instructions }) => ({ name, at: instructions ?? 0 }));
    const current = starts.findLastIndex(({ name }) => name === moment.phase);
    const target =
      direction === 1
        ? starts[current + 1]
        : starts[current]?.at === moment.instructions
          ? starts[current - 1]
          : starts[current];
    if (target !== undefined) await this.goTo(target.name);
  }

  async cancel(): Promise<void> {
    await this.#connection.request({ do: 'cancel' });
  }

  addBreakpoint(breakpoint: Breakpoint): void {
    if (this.view.breakpoints.some((each) => JSON.stringify(each) === JSON.stringify(breakpoint))) return;
    this.#set({ breakpoints: [...this.view.breakpoints, breakpoint] });
  }

  removeBreakpoint(index: number): void {
    this.#set({ breakpoints: this.view.breakpoints.filter((_, at) => at !== index) });
  }

  async lookAt(address: number): Promise<void> {
    const { memory } = this.view.opened ?? { memory: 0 };
    const last = Math.max(0, memory - MEMORY_LENGTH);
    const memoryAt = Math.min(Math.max(0, address - (address % ROW)), last);
    this.#set({ memoryAt, memory: null });
    await this.#showMemory();
    this.#writeLink();
  }

  /** A structure at this moment. @throws RequestError where there is none yet */
  decode(structure: StructureName): Promise<readonly FieldLine[]> {
    return this.#connection.request({ do: 'decode', structure, start: null });
  }

  /** Who wrote a range of memory up to this moment; shown until somebody asks for another. */
  async askWho(start: number, end: number): Promise<void> {
    const range = { start: `0x${start.toString(16)}`, end: `0x${end.toString(16)}` };
    this.#set({ who: { range, writers: null } });
    try {
      const writers = await this.#connection.request({ do: 'who', ...range });
      this.#set({ who: { range, writers } });
    } catch (error) {
      this.#set({ who: null });
      this.#tell(error);
    }
  }

  /** What has a name or lies at an address; without the kernel's symbols where the machine cannot say. */
  async find(text: string): Promise<readonly FoundLine[]> {
    const regions = this.view.moment?.regions ?? [];
    try {
      return foundLines(text, regions, await this.#connection.request({ do: 'find', text }));
    } catch (error) {
      this.#tell(error);
      return foundLines(text, regions, []);
    }
  }

  forgetWho(): void {
    this.#set({ who: null });
  }

  dismissError(): void {
    this.#set({ error: null });
  }

  /** Of the moment that is shown. */
  async #showMemory(): Promise<void> {
    try {
      this.#set(await this.#readMemory());
    } catch (error) {
      this.#tell(error);
    }
  }

  /** What the memory panel shows when the requests before this one are done; nothing where it was moved meanwhile. */
  async #readMemory(): Promise<{ readonly memory?: ShownMemory }> {
    const start = this.view.memoryAt;
    const answer = await this.#connection.request({
      do: 'read',
      start: `0x${start.toString(16)}`,
      length: MEMORY_LENGTH,
    });
    if (start !== this.view.memoryAt) return {};
    const bytes = Uint8Array.from(atob(answer.bytes), (character) => character.charCodeAt(0));
    const old = this.view.memory;
    return { memory: { start, bytes, before: old !== null && old.start === start ? old.bytes : null } };
  }

  async #move(what: string, request: () => Promise<Moment>): Promise<void> {
    // One thing at a time; keys that are held down would pile up.
    if (this.view.busy !== null || this.view.lost !== null) return;
    await this.#during(what, async () => {
      // Asked for together, so that one look shows both.
      const [moment, memory] = await Promise.all([request(), this.#readMemory()]);
      return { moment, ...memory };
    });
    this.#writeLink();
  }

  async #during(what: string, action: () => Promise<Partial<View>>): Promise<void> {
    this.#set({ busy: { what, long: false }, progress: null, error: null });
    const long = setTimeout(() => this.#set({ busy: { what, long: true } }), LONG_MILLISECONDS);
    const done = { busy: null, progress: null };
    try {
      const part = await action();
      this.#set({ ...part, ...done, before: this.view.moment });
    } catch (error) {
      this.#set(done);
      this.#tell(error);
    } finally {
      clearTimeout(long);
    }
  }

  #tell(error: unknown): void {
    if (!(error instanceof RequestError)) throw error;
    this.#set({ error: error.message });
  }

  /** A link leads to the same moment and the same memory. */
  #writeLink(): void {
    const { moment, memoryAt } = this.view;
    if (moment === null) return;
    const link = new URLSearchParams(location.hash.slice(1));
    link.set('at', `#${moment.instructions}`);
    link.set('memory', `0x${memoryAt.toString(16)}`);
    history.replaceState(null, '', `#${link}`);
  }
}
