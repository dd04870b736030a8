// A trace in the Trace Event Format that Perfetto (ui.perfetto.dev) and chrome://tracing open: phases and CPU modes as
// slices, events as instants, the bytes of each kind of region as counters.

import type { Json } from './json.ts';
import { kindLabel } from './region-kinds.ts';
import type { ModelPhase, ReportModel } from './report-model.ts';

const PROCESS = 1;
const PHASES_THREAD = 1;
const MODES_THREAD = 2;
const FIRST_EVENTS_THREAD = 10;

/** Microseconds that a phase lasts in the file where its instructions were not counted. */
const NOMINAL_PHASE = 1000;

/**
 * One microsecond stands for one instruction where instructions were counted; else each phase lasts a nominal millisecond
 * and its events are spread over it in their order. Host time is left out, so that the same boot gives the same file.
 */
export function chromeTrace(model: ReportModel): Json {
  const counted = model.phases.every((phase) => phase.instructions !== null);
  const starts = phaseStarts(model.phases, counted);
  const end = (index: number): number => starts[index + 1] ?? starts[index]! + NOMINAL_PHASE;
  const events: Json[] = [
    metadata('process_name', 0, `Linux ${model.image.kernelVersion?.split(' ')[0] ?? model.image.path}`),
    metadata('thread_name', PHASES_THREAD, 'phases'),
    metadata('thread_name', MODES_THREAD, 'CPU mode'),
  ];
  for (const [index, phase] of model.phases.entries()) {
    const slice = { ph: 'X', pid: PROCESS, ts: starts[index]!, dur: end(index) - starts[index]! };
    events.push({
      ...slice,
      tid: PHASES_THREAD,
      name: phase.name,
      cat: 'phase',
      args: {
        address: phase.address,
        summary: phase.summary,
        instructions: phase.instructions,
        registers: Object.fromEntries(phase.registers.map(({ name, value }) => [name, value])),
        overwritten: phase.overwritten.map(
          ({ region, by, start, end }) => `${region} 0x${start.toString(16)}..0x${end.toString(16)} by ${by}`,
        ),
      },
    });
    events.push({ ...slice, tid: MODES_THREAD, name: phase.mode, cat: 'mode' });
    events.push({
      ph: 'C',
      pid: PROCESS,
      ts: starts[index]!,
      name: 'bytes by kind of region',
      args: bytesByKind(phase),
    });
  }
  const kinds = [...new Set(model.events.map((event) => event.kind))];
  for (const [index, kind] of kinds.entries()) {
    events.push(metadata('thread_name', FIRST_EVENTS_THREAD + index, `events: ${kind}`));
  }
  const totals = new Map<number, number>();
  for (const event of model.events) totals.set(event.phase, (totals.get(event.phase) ?? 0) + 1);
  const seen = new Map<number, number>();
  for (const event of model.events) {
    const nth = (seen.get(event.phase) ?? 0) + 1;
    seen.set(event.phase, nth);
    const phase = Math.max(0, event.phase);
    const spread =
      (starts[phase] ?? 0) +
      ((end(phase) - (starts[phase] ?? 0)) * nth) / ((totals.get(event.phase) ?? 0) + 1);
    events.push({
      ph: 'i',
      s: 't',
      pid: PROCESS,
      tid: FIRST_EVENTS_THREAD + kinds.indexOf(event.kind),
      ts: counted && event.instructions !== null ? event.instructions : spread,
      name: event.text,
      cat: event.kind,
      args: { address: event.address, ...(event.details ?? {}) },
    });
  }
  return {
    traceEvents: events,
    displayTimeUnit: 'ms',
    otherData: {
      tool: 'bootscope',
      image: model.image.path,
      time: counted ? 'one microsecond is one instruction' : 'nominal: one millisecond a phase',
      stopped: model.stopped,
    },
  };
}

function metadata(name: string, thread: number, value: string): Json {
  return { ph: 'M', pid: PROCESS, tid: thread, ts: 0, name, args: { name: value } };
}

function phaseStarts(phases: readonly ModelPhase[], counted: boolean): readonly number[] {
  return phases.map((phase, index) => (counted ? phase.instructions! : index * NOMINAL_PHASE));
}

/** Regions that are no part of another, by kind. */
function bytesByKind(phase: ModelPhase): { readonly [key: string]: number } {
  const bytes: Record<string, number> = {};
  for (const region of phase.regions) {
    if (region.parent !== null || region.kind === 'reserved') continue;
    const label = kindLabel(region.kind);
    bytes[label] = (bytes[label] ?? 0) + region.end - region.start;
  }
  return bytes;
}
