// What the explorer's page shows of a boot: a time line over the whole boot, the memory map of the moment that it is held at, and panels to look into it.

import { Component, type JSX, render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { card, h } from '../../report/page/dom.ts';
import { type EventsPanel, eventsPanel } from '../../report/page/events-panel.ts';
import { type MapView, mapView } from '../../report/page/map-view.ts';
import type { ViewState } from '../../report/page/state.ts';
import { wordsDialog } from '../../report/page/words-dialog.ts';
import type { ModelRegion, ReportModel } from '../../report/report-model.ts';
import type { Moment } from '../protocol.ts';
import { Connection, type Line, RequestError } from './connection.ts';
import { HelpDialog, TourDialog } from './dialogs.tsx';
import { Explorer, type View } from './explorer.ts';
import {
  CodePanel,
  FindPanel,
  MemoryPanel,
  type PanelProps,
  RegistersPanel,
  StopsPanel,
  StructuresPanel,
  WhoPanel,
} from './panels.tsx';
import { TimeLine } from './time-line.tsx';

function App({ view, explorer }: { readonly view: View; readonly explorer: Explorer }): JSX.Element {
  const [dialog, setDialog] = useState<'help' | 'tour' | null>(firstVisit() ? 'tour' : null);
  const placeInput = useRef<HTMLInputElement>(null);
  const findInput = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]') !== null)
        return;
      const target = event.target instanceof HTMLElement ? event.target : null;
      if (target?.closest('input, textarea, select') != null) {
        if (event.key === 'Escape') target.blur();
        return;
      }
      const action = KEYS[event.key];
      if (action === undefined) return;
      event.preventDefault();
      if (action === 'help') setDialog('help');
      else if (action === 'place') placeInput.current?.focus();
      else if (action === 'find') findInput.current?.focus();
      else void action(explorer);
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [explorer]);
  // Where the boot stands is on the screen before all that there is to see of it.
  const [complete, setComplete] = useState(false);
  useEffect(() => {
    if (view.opened !== null) setComplete(true);
  }, [view.opened]);
  const of = { view, explorer };
  return (
    <>
      <Header view={view} open={setDialog} />
      {view.opened === null ? null : <TimeLine {...of} placeInput={placeInput} />}
      <Status {...of} />
      {!complete ? null : (
        <main>
          <div class="layout-grid">
            <div class="panel">
              <Part of={MapPanel} shows={['opened', 'moment', 'survey']} {...of} />
              <Part of={StopsPanel} shows={['breakpoints']} {...of} />
              <FindPanel explorer={explorer} input={findInput} />
            </div>
            <div class="panel">
              <Part of={CodePanel} shows={['moment', 'breakpoints']} {...of} />
              <Part of={RegistersPanel} shows={['moment']} {...of} />
            </div>
          </div>
          <Part of={MemoryPanel} shows={['moment', 'memory', 'memoryAt']} {...of} />
          <Part of={WhoPanel} shows={['who']} {...of} />
          <Part of={StructuresPanel} shows={['moment']} {...of} />
          <Part of={EventsCard} shows={['moment', 'survey']} {...of} />
          <Part of={ConsoleCard} shows={['moment']} {...of} />
        </main>
      )}
      {dialog === 'help' ? <HelpDialog close={() => setDialog(null)} /> : null}
      {dialog === 'tour' ? <TourDialog close={() => setDialog(null)} /> : null}
    </>
  );
}

/** A panel that is drawn anew when what it shows has changed: most of what happens changes few of them. */
class Part extends Component<
  PanelProps & {
    readonly of: (props: PanelProps) => JSX.Element | null;
    readonly shows: readonly (keyof View)[];
  }
> {
  override shouldComponentUpdate(next: Readonly<Part['props']>): boolean {
    return next.shows.some((part) => next.view[part] !== this.props.view[part]);
  }

  override render(): JSX.Element {
    const { of: Panel, view, explorer } = this.props;
    return <Panel view={view} explorer={explorer} />;
  }
}

/** As in debuggers; capitals go the other way. */
const KEYS: Readonly<Record<string, 'help' | 'place' | 'find' | ((explorer: Explorer) => Promise<void>)>> = {
  s: (explorer) => explorer.step(1),
  S: (explorer) => explorer.step(-1),
  n: (explorer) => explorer.stepOver(),
  c: (explorer) => explorer.continue(),
  C: (explorer) => explorer.goTo('#0'),
  p: (explorer) => explorer.goToPhase(1),
  P: (explorer) => explorer.goToPhase(-1),
  Escape: (explorer) =>
    explorer.view.busy === null ? Promise.resolve(explorer.dismissError()) : explorer.cancel(),
  t: async () => toggleTheme(),
  w: async () => showWords(),
  g: 'place',
  '/': 'find',
  '?': 'help',
};

function toggleTheme(): void {
  const root = document.documentElement;
  const dark =
    root.dataset.theme === undefined
      ? matchMedia('(prefers-color-scheme: dark)').matches
      : root.dataset.theme === 'dark';
  root.dataset.theme = dark ? 'light' : 'dark';
}

function showWords(): void {
  const words = document.querySelector<HTMLDialogElement>('#words') ?? wordsDialog();
  document.body.append(words);
  words.showModal();
}

const VISITED = 'bootscope-visited';

/** The tour shows itself once; a link into a moment is no first visit. */
function firstVisit(): boolean {
  if (new URLSearchParams(location.hash.slice(1)).has('at')) return false;
  try {
    const first = localStorage.getItem(VISITED) === null;
    localStorage.setItem(VISITED, '1');
    return first;
  } catch {
    return true;
  }
}

function Header(props: {
  readonly view: View;
  readonly open: (dialog: 'help' | 'tour') => void;
}): JSX.Element {
  const { opened } = props.view;
  const file = opened?.image.split('/').at(-1);
  const release = opened?.kernelVersion?.split(' ')[0];
  return (
    <header class="top">
      <div class="title">
        <h1>{release === undefined ? (file ?? 'Bootscope') : `Linux ${release}`}</h1>
        <p class="facts-line">
          {[file, opened?.engine]
            .filter((text) => text !== undefined)
            .map((text) => (
              <span key={text}>{text}</span>
            ))}
        </p>
      </div>
      <div class="top-tools">
        <button
          type="button"
          class="tool"
          title="Dark or light (t)"
          aria-label="Dark or light"
          onClick={toggleTheme}
        >
          ◐
        </button>
        <button type="button" onClick={() => props.open('tour')}>
          Tour
        </button>
        <button
          type="button"
          class="tool"
          title="Keys (?)"
          aria-label="Keys"
          onClick={() => props.open('help')}
        >
          ?
        </button>
      </div>
    </header>
  );
}

const REASONS: Readonly<Record<string, string>> = {
  opened: 'At the first instruction',
  phase: 'A phase begins',
  breakpoint: 'Stopped at',
  watchpoint: 'Stopped on a write',
  count: 'Held',
  event: 'Stopped before an event',
  aborted: 'Cancelled',
  ended: 'The end of the boot',
};

function Status({ view, explorer }: PanelProps): JSX.Element {
  const { moment, busy, progress, error, lost } = view;
  const doing =
    busy === null || (!busy.long && moment !== null)
      ? null
      : `${busy.what}${progress?.instructions == null ? '' : `, ${progress.instructions.toLocaleString('en')} instructions`}${progress?.phase == null ? '' : `, in ${progress.phase}`}…`;
  return (
    <div class="status card" id="status" aria-busy={busy !== null}>
      <div role="status">
        {doing !== null ? (
          <p>{doing}</p>
        ) : moment === null ? (
          <p>Nothing is open.</p>
        ) : (
          <p>
            <strong>{REASONS[moment.reason] ?? moment.reason}</strong>{' '}
            {moment.detail === '' ? null : <span>{moment.detail}: </span>}
            <span class="mono" id="position">
              {moment.address}
            </span>{' '}
            in <span id="phase-name">{moment.phase ?? 'no phase yet'}</span> ({moment.mode}), after{' '}
            <span id="instructions">{moment.instructions.toLocaleString('en')}</span> instructions
          </p>
        )}
      </div>
      {doing === null ? null : (
        <button type="button" id="cancel" onClick={() => explorer.cancel()}>
          Cancel (Esc)
        </button>
      )}
      {error === null && lost === null ? null : (
        <div class="warning" role="alert">
          {lost === null ? error : `The machine is gone: ${lost}. Load the page anew to start again.`}
        </div>
      )}
    </div>
  );
}

/** The report's map, with the moment as one more phase: the scale is that of the whole boot, so that nothing jumps. */
function MapPanel({ view, explorer }: PanelProps): JSX.Element {
  const slot = useRef<HTMLDivElement>(null);
  const drawn = useRef<{
    map: MapView;
    model: Mutable<ReportModel>;
    state: ViewState;
    survey: ReportModel | null;
  } | null>(null);
  const { moment, before, survey, opened } = view;
  useEffect(() => {
    if (moment === null || opened === null || slot.current === null) return;
    const phase = momentPhase(moment, before);
    if (drawn.current === null || drawn.current.survey !== survey) {
      const model = emptyModel([...(survey?.phases ?? []), phase]);
      const state: ViewState = {
        ...{ phase: model.phases.length - 1, scale: 'folded', view: { from: 0, to: 1 } },
        ...{ all: false, region: null },
      };
      const map = mapView(model, state, {
        choosePhase: (index) => {
          const name = model.phases[index]?.name;
          if (name !== undefined && index < model.phases.length - 1) void explorer.goTo(name);
        },
        chooseRegion: (name) => {
          state.region = name;
          const region = model.phases.at(-1)?.regions.find((each) => each.name === name);
          if (region !== undefined) void explorer.lookAt(region.start);
          map.draw();
        },
        changed: () => map.draw(),
      });
      drawn.current = { map, model, state, survey };
      slot.current.replaceChildren(map.element);
    }
    const { map, model } = drawn.current;
    model.phases = [...model.phases.slice(0, -1), phase];
    map.draw();
  }, [moment, survey, opened]);
  return <div ref={slot} />;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function emptyModel(phases: ReportModel['phases']): Mutable<ReportModel> {
  return {
    ...{
      image: null as never,
      machine: null as never,
      kernel: null,
      tables: [],
      stopped: null,
      hazards: [],
      notices: [],
      console: '',
    },
    ...{ phases, events: [], eventsLeftOut: 0, detailsLeftOut: false },
  };
}

function momentPhase(moment: Moment, before: Moment | null): ReportModel['phases'][number] {
  const earlier = new Map((before?.regions ?? moment.regions).map((region) => [region.name, region]));
  return {
    ...{ name: moment.phase ?? 'entry', address: moment.address, symbol: null, mode: moment.mode as never },
    ...{
      instructions: moment.instructions,
      summary: '',
      registers: [],
      gone: [],
      overwritten: [],
      lost: [],
      endangered: [],
    },
    pageTables: null,
    regions: moment.regions.map((region) => changedRegion(region, earlier.get(region.name))),
  };
}

function changedRegion(region: ModelRegion, old: ModelRegion | undefined): ModelRegion {
  if (old === undefined) return { ...region, change: 'new' };
  if (old.start === region.start && old.end === region.end) return region;
  const resized = old.start === region.start || old.end === region.end;
  return { ...region, change: resized ? 'resized' : 'moved', before: { start: old.start, end: old.end } };
}

/** The report's list of events; choosing one goes to its moment. */
function EventsCard({ view, explorer }: PanelProps): JSX.Element {
  const slot = useRef<HTMLDivElement>(null);
  const panel = useRef<EventsPanel | null>(null);
  const { survey, moment } = view;
  useEffect(() => {
    if (slot.current === null) return;
    if (survey === null) {
      slot.current.replaceChildren(
        card('events', 'Events', h('p', { class: 'hint' }, 'The whole boot is being run for them.')),
      );
      return;
    }
    panel.current = eventsPanel(
      survey,
      (index) => {
        const phase = survey.phases[index];
        if (phase !== undefined) void explorer.goTo(phase.name);
      },
      (instructions) => void explorer.goTo(`#${instructions}`),
    );
    slot.current.replaceChildren(panel.current.element);
  }, [survey]);
  useEffect(() => {
    const index = survey?.phases.findIndex(({ name }) => name === moment?.phase) ?? -1;
    panel.current?.draw(Math.max(0, index));
  }, [survey, moment?.phase]);
  return <div ref={slot} />;
}

function ConsoleCard({ view: { moment } }: PanelProps): JSX.Element | null {
  if (moment === null || moment.console === '') return null;
  return (
    <section class="card" id="console" aria-labelledby="console-title">
      <h2 id="console-title">Console</h2>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, also by keyboard */}
      <pre tabIndex={0}>{moment.console}</pre>
    </section>
  );
}

/**
 * Shows the boot at the other end of a line, whatever carries it, until `close` of what it returns.
 * @param connect - may fail with a `RequestError`, whose sentence is shown then
 */
export async function showBoot(root: HTMLElement, connect: () => Promise<Line>): Promise<{ close(): void }> {
  let line: Line;
  try {
    line = await connect();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    root.replaceChildren(h('p', { role: 'alert' }, error.message));
    return { close: () => root.replaceChildren() };
  }
  const draw = (view: View): void => render(<App view={view} explorer={explorer} />, root);
  const explorer = new Explorer(new Connection(line), draw);
  const onHash = (): void => {
    const at = new URLSearchParams(location.hash.slice(1)).get('at');
    if (at !== null && at !== `#${explorer.view.moment?.instructions}`) void explorer.goTo(at);
  };
  window.addEventListener('hashchange', onHash);
  void explorer.start();
  return {
    close: () => {
      window.removeEventListener('hashchange', onHash);
      render(null, root);
    },
  };
}
