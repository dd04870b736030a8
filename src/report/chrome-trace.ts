// A trace in the Trace Event Format that Perfetto (ui.perfetto.dev) and chrome://tracing open: phases and CPU modes as
// slices, events as instants, the bytes of each kind of region as counters.

import { hex } from '../hex.ts';
import type { Json } from './json.ts';
import { kindLabel } from './region-kinds.ts';
import type { ModelEvent, ModelPhase, ReportModel } from './report-model.ts';

const PROCESS = 1;
const PHASES_THREAD = 1;
const MODES_THREAD = 2;
const FIRST_EVENTS_THREAD = 10;

/** Microseconds that a phase lasts in the file where its instructions were not counted. */
const NOMINAL_PHASE = 1000;
/** A phase without an instruction of the guest lasts this part of the whole boot. */
const EMPTY_PHASE = 1 / 50;

type TraceEvent = { readonly ts: number; readonly dur?: number } & { readonly [key: string]: Json };

/**
 * One microsecond stands for one instruction where instructions were counted; a phase in which the guest executed none,
 * because its work was done on the host, is given a width of its own. Where nothing was counted each phase lasts a nominal
 * millisecond and its events are spread over it in their order. Host time is left out, so that the same boot gives the same
 * file.
 */
export function chromeTrace(model: ReportModel): Json {
  const timeline = new Timeline(model);
  const events: TraceEvent[] = [];
  for (const [index, phase] of model.phases.entries()) {
    const ts = timeline.start(index);
    events.push({
      ph: 'X',
      pid: PROCESS,
      tid: PHASES_THREAD,
      ts,
      dur: timeline.end(index) - ts,
      name: phase.name,
      cat: 'phase',
      args: {
        address: phase.address,
        ...(phase.symbol === null ? {} : { symbol: phase.symbol }),
        summary: phase.summary,
        instructions: phase.instructions,
        registers: Object.fromEntries(phase.registers.map(({ name, value }) => [name, value])),
        overwritten: phase.overwritten.map(
          ({ region, by, start, end }) => `${region} ${hex(start)}..${hex(end)} by ${by}`,
        ),
      },
    });
  }
  events.push(...modeSlices(model, timeline), ...counters(model, timeline));
  const kinds = [...new Set(model.events.map((event) => event.kind))];
  for (const [index, event] of model.events.entries()) {
    events.push({
      ph: 'i',
      s: 't',
      pid: PROCESS,
      tid: FIRST_EVENTS_THREAD + kinds.indexOf(event.kind),
      ts: timeline.ofEvent(index),
      name: event.text,
      cat: event.kind,
      args: {
        address: event.address,
        ...(event.symbol === null ? {} : { symbol: event.symbol }),
        ...(event.details ?? {}),
      },
    });
  }
  return {
    traceEvents: [
      metadata('process_name', 0, {
        name: `Linux ${model.image.kernelVersion?.split(' ')[0] ?? model.image.path}`,
      }),
      ...thread(PHASES_THREAD, 'phases'),
      ...thread(MODES_THREAD, 'CPU mode'),
      ...kinds.flatMap((kind, index) => thread(FIRST_EVENTS_THREAD + index, `events: ${kind}`)),
      ...events.sort((a, b) => a.ts - b.ts || (b.dur ?? 0) - (a.dur ?? 0)),
    ],
    displayTimeUnit: 'ms',
    otherData: {
      tool: 'bootscope',
      image: model.image.path,
      time: timeline.counted
        ? 'one microsecond is one instruction; phases without one have a nominal width'
        : 'nominal: one millisecond a phase',
      stopped: model.stopped,
    },
  };
}

function metadata(name: string, tid: number, args: Json): Json {
  return { ph: 'M', pid: PROCESS, tid, ts: 0, name, args };
}

/** Name and place of a row; without the place viewers sort by name. */
function thread(tid: number, name: string): readonly Json[] {
  return [metadata('thread_name', tid, { name }), metadata('thread_sort_index', tid, { sort_index: tid })];
}

/** When phases and events are, in microseconds. */
class Timeline {
  readonly counted: boolean;
  readonly #model: ReportModel;
  /** Where each phase begins, and behind them the end of the last. */
  readonly #starts: readonly number[];
  /** For each event its place among those of its phase, and how many those are. */
  readonly #places: readonly (readonly [nth: number, of: number])[];

  constructor(model: ReportModel) {
    this.#model = model;
    const { phases } = model;
    this.counted = phases.every((phase) => phase.instructions !== null);
    const total = (phases.at(-1)?.instructions ?? 0) - (phases[0]?.instructions ?? 0);
    const empty = Math.max(1, Math.ceil(total * EMPTY_PHASE));
    const starts = [0];
    for (const [index, phase] of phases.entries()) {
      const next = phases[index + 1];
      let length = NOMINAL_PHASE;
      if (this.counted && next !== undefined) {
        const executed = next.instructions! - phase.instructions!;
        length = executed > 0 ? executed : empty;
      }
      starts.push(starts.at(-1)! + length);
    }
    this.#starts = starts;
    const totals = new Map<number, number>();
    const nth = model.events.map(({ phase }) => {
      totals.set(phase, (totals.get(phase) ?? 0) + 1);
      return totals.get(phase)!;
    });
    this.#places = model.events.map(({ phase }, index) => [nth[index]!, totals.get(phase)!]);
  }

  start(phase: number): number {
    return this.#starts[phase]!;
  }

  end(phase: number): number {
    return this.#starts[phase + 1]!;
  }

  ofEvent(index: number): number {
    const event: ModelEvent = this.#model.events[index]!;
    const at = Math.max(0, event.phase);
    const phase = this.#model.phases[at];
    if (phase === undefined) return 0;
    const [start, end] = [this.start(at), this.end(at)];
    if (this.counted && event.instructions !== null) {
      return Math.min(Math.max(start, start + event.instructions - phase.instructions!), end);
    }
    const [nth, of] = this.#places[index]!;
    return start + ((end - start) * nth) / (of + 1);
  }
}

/** A slice for each mode that the CPU was in: as the phases begin, and at the switches between. */
function modeSlices(model: ReportModel, timeline: Timeline): readonly TraceEvent[] {
  if (model.phases.length === 0) return [];
  const seen = [
    ...model.phases.map(({ mode }, index) => ({ ts: timeline.start(index), mode: mode as string })),
    ...model.events.flatMap(({ kind, details }, index) =>
      kind === 'mode' && typeof details?.to === 'string'
        ? [{ ts: timeline.ofEvent(index), mode: details.to }]
        : [],
    ),
  ].sort((a, b) => a.ts - b.ts);
  const switches = seen.filter(({ mode }, index) => mode !== seen[index - 1]?.mode);
  const end = timeline.end(model.phases.length - 1);
  return switches.map(({ ts, mode }, index) => ({
    ph: 'X',
    pid: PROCESS,
    tid: MODES_THREAD,
    ts,
    dur: (switches[index + 1]?.ts ?? end) - ts,
    name: mode,
    cat: 'mode',
  }));
}

/** Each names all kinds: a viewer goes on with the last number of one that is not named. */
function counters(model: ReportModel, timeline: Timeline): readonly TraceEvent[] {
  const bytes = model.phases.map(bytesByKind);
  const kinds = new Set(bytes.flatMap((of) => [...of.keys()]));
  return bytes.map((of, index) => ({
    ph: 'C',
    pid: PROCESS,
    tid: 0,
    ts: timeline.start(index),
    name: 'bytes by kind of region',
    args: Object.fromEntries([...kinds].map((kind) => [kind, of.get(kind) ?? 0])),
  }));
}

/** Regions that are no part of another, by kind. */
function bytesByKind(phase: ModelPhase): ReadonlyMap<string, number> {
  const bytes = new Map<string, number>();
  for (const region of phase.regions) {
    if (region.parent !== null || region.kind === 'reserved') continue;
    const label = kindLabel(region.kind);
    bytes.set(label, (bytes.get(label) ?? 0) + region.end - region.start);
  }
  return bytes;
}
