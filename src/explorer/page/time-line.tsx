// The time line: the phases of the whole boot side by side, a place among their instructions, and the ways to move.

import type { JSX, RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Explorer, View } from './explorer.ts';

/** Each phase is as wide as the others, since most instructions are in two of them; within one, instructions are even. */
const STEPS = 1000;

interface Stretch {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** Where each phase begins and ends, in instructions; those of a trapped call, which has none, are left out. */
function stretches(view: View): readonly Stretch[] {
  const phases = view.survey?.phases ?? [];
  const found: Stretch[] = [];
  for (const [index, { name, instructions }] of phases.entries()) {
    const start = instructions ?? 0;
    const next = phases.slice(index + 1).find((phase) => (phase.instructions ?? 0) > start);
    found.push({ name, start, end: next?.instructions ?? start + 1 });
  }
  return found;
}

function positionOf(all: readonly Stretch[], instructions: number, phase: string | null): number {
  let index = all.findIndex(({ name }) => name === phase);
  if (index < 0)
    index = Math.max(
      0,
      all.findLastIndex(({ start }) => start <= instructions),
    );
  const stretch = all[index];
  if (stretch === undefined) return 0;
  // Nothing that is known comes after where the last phase begins.
  if (index === all.length - 1) return all.length * STEPS - 1;
  const part = Math.min(1, Math.max(0, (instructions - stretch.start) / (stretch.end - stretch.start)));
  return index * STEPS + Math.round(part * (STEPS - 1));
}

function instructionsAt(all: readonly Stretch[], position: number): number {
  const stretch = all[Math.min(all.length - 1, Math.floor(position / STEPS))];
  if (stretch === undefined) return 0;
  if (stretch === all.at(-1)) return stretch.start;
  return Math.round(stretch.start + ((position % STEPS) / STEPS) * (stretch.end - stretch.start));
}

export function TimeLine(props: {
  readonly view: View;
  readonly explorer: Explorer;
  readonly placeInput: RefObject<HTMLInputElement | null>;
}): JSX.Element {
  const { view, explorer, placeInput } = props;
  const { moment } = view;
  const [place, setPlace] = useState('');
  const [dragged, setDragged] = useState<number | null>(null);
  const all = stretches(view);
  const now = positionOf(all, moment?.instructions ?? 0, moment?.phase ?? null);
  const shown = dragged ?? now;
  const busy = view.busy?.long === true || view.lost !== null;
  const strip = useRef<HTMLOListElement>(null);
  useEffect(() => {
    const step = strip.current?.querySelector<HTMLElement>('[aria-current]');
    if (step == null || strip.current === null) return;
    strip.current.scrollTo({ left: step.offsetLeft - strip.current.clientWidth / 2 + step.clientWidth / 2 });
  }, [moment?.phase, view.survey]);
  const go = (event: Event): void => {
    event.preventDefault();
    if (place.trim() !== '') void explorer.goTo(place.trim());
  };
  return (
    <nav class="timeline time-card" aria-label="Time line of the boot">
      <ol ref={strip}>
        {(view.survey?.phases ?? []).map((phase) => (
          <li key={phase.name}>
            <button
              type="button"
              class={`step mode-${phase.mode}`}
              aria-current={phase.name === moment?.phase ? 'step' : undefined}
              onClick={() => explorer.goTo(phase.name)}
            >
              <span class="step-name">{phase.name}</span>
              <span class="step-address mono">{phase.address}</span>
              <span class="step-marks">
                <span class="step-mode">{phase.mode}</span>
              </span>
            </button>
          </li>
        ))}
      </ol>
      <input
        type="range"
        id="scrubber"
        min={0}
        max={Math.max(1, all.length * STEPS - 1)}
        value={shown}
        disabled={all.length === 0}
        aria-label="Moment of the boot"
        aria-valuetext={`${instructionsAt(all, shown).toLocaleString('en')} instructions`}
        onInput={(event) => setDragged(Number(event.currentTarget.value))}
        onChange={(event) => {
          const to = instructionsAt(all, Number(event.currentTarget.value));
          setDragged(null);
          void explorer.goTo(`#${to}`);
        }}
      />
      <div class="toolbar" role="toolbar" aria-label="Moving in the boot">
        <Move
          label="Begin"
          hint="To the first instruction (C)"
          busy={busy}
          action={() => explorer.goTo('#0')}
        />
        <Move
          label="◀◀ Phase"
          hint="To where this phase begins, or the one before (P)"
          busy={busy}
          action={() => explorer.goToPhase(-1)}
        />
        <Move label="◀ Back" hint="One instruction back (S)" busy={busy} action={() => explorer.step(-1)} />
        <Move label="Step ▶" hint="One instruction on (s)" busy={busy} action={() => explorer.step(1)} />
        <Move
          label="Over ▶"
          hint="Behind a call, an interrupt or a repeated instruction (n)"
          busy={busy}
          action={() => explorer.stepOver()}
        />
        <Move
          label="Phase ▶▶"
          hint="To the next phase (p)"
          busy={busy}
          action={() => explorer.goToPhase(1)}
        />
        <Move
          label="Continue"
          hint="To the next stop that is set, or the end (c)"
          busy={busy}
          action={() => explorer.continue()}
        />
        <form class="place" onSubmit={go}>
          <label>
            <span class="visually-hidden">Place to go to</span>
            <input
              ref={placeInput}
              type="search"
              placeholder="startup_64, 0x100000, #4711"
              title="A phase, an address, a number of instructions or an event (g)"
              value={place}
              onInput={(event) => setPlace(event.currentTarget.value)}
            />
          </label>
          <button type="submit" disabled={busy}>
            Go
          </button>
        </form>
      </div>
    </nav>
  );
}

function Move(props: {
  readonly label: string;
  readonly hint: string;
  readonly busy: boolean;
  readonly action: () => void;
}): JSX.Element {
  return (
    <button type="button" title={props.hint} disabled={props.busy} onClick={props.action}>
      {props.label}
    </button>
  );
}
