// The events of the boot as a list that can be searched and narrowed by kind and phase.

import { hex } from '../../hex.ts';
import { formatSize } from '../../size.ts';
import type { ModelEvent, ReportModel } from '../report-model.ts';
import { card, fill, h } from './dom.ts';

export interface EventsPanel {
  readonly element: HTMLElement;
  readonly search: HTMLInputElement;
  /** Draws the list; `phase` is the one that is looked at. */
  draw(phase: number): void;
  /** Whether every event that was found is listed, as on paper, or the first of them. */
  showAll(all: boolean): void;
}

/** Rows that are added at once: a boot can have thousands. */
const BATCH = 200;

/** @param chooseMoment - where one can go to where so many instructions have been executed */
export function eventsPanel(
  model: ReportModel,
  choosePhase: (index: number) => void,
  chooseMoment?: (instructions: number) => void,
): EventsPanel {
  const counts = new Map<string, number>();
  for (const event of model.events) counts.set(event.kind, (counts.get(event.kind) ?? 0) + 1);
  const kinds = [...counts.keys()].sort();
  const off = new Set<string>();
  let onlyPhase = false;
  /** Null until something is drawn. */
  let current: number | null = null;
  let shown = BATCH;

  const search = h('input', {
    type: 'search',
    id: 'event-search',
    placeholder: 'Search events',
    'aria-label': 'Search events',
    autocomplete: 'off',
    spellcheck: 'false',
    oninput: () => {
      shown = BATCH;
      drawList();
    },
  });
  const count = h('output', { class: 'hint', id: 'event-count', 'aria-live': 'polite' });
  const counted = model.events.some((event) => event.instructions !== null);
  const list = h('ol', { class: 'events', id: 'event-list' });
  const head = h(
    'div',
    { class: 'event-head hint', 'aria-hidden': 'true' },
    ...['phase', 'address', ...(counted ? ['instructions'] : []), 'kind', 'event'].map((text) =>
      h('span', text === 'instructions' ? { class: 'event-instructions' } : {}, text),
    ),
  );
  const more = h(
    'button',
    {
      type: 'button',
      id: 'more-events',
      onclick: () => {
        shown += BATCH * 5;
        drawList();
      },
    },
    'Show more',
  );
  const chips = kinds.map((kind) =>
    h(
      'button',
      {
        type: 'button',
        class: 'chip',
        'data-kind': kind,
        'aria-pressed': 'true',
        onclick: () => {
          if (off.has(kind)) off.delete(kind);
          else off.add(kind);
          shown = BATCH;
          drawList();
        },
      },
      `${kind} ${counts.get(kind)}`,
    ),
  );
  const phaseChip = h(
    'button',
    {
      type: 'button',
      class: 'chip',
      id: 'only-phase',
      'aria-pressed': 'false',
      onclick: () => {
        onlyPhase = !onlyPhase;
        shown = BATCH;
        drawList();
      },
    },
    'this phase only',
  );

  function matches(event: ModelEvent, words: readonly string[]): boolean {
    if (off.has(event.kind) || (onlyPhase && event.phase !== current)) return false;
    if (words.length === 0) return true;
    const name = model.phases[event.phase]?.name ?? '';
    const text =
      `${event.kind} ${name} ${event.address} ${event.symbol ?? ''} ${event.text} ${details(event)}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function drawList(): void {
    const words = search.value
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    const found = model.events.filter((event) => matches(event, words));
    for (const chip of chips) chip.setAttribute('aria-pressed', String(!off.has(chip.dataset.kind ?? '')));
    phaseChip.setAttribute('aria-pressed', String(onlyPhase));
    const total = model.events.length;
    count.textContent =
      (found.length === total ? `${total} events` : `${found.length} of ${total} events`) +
      (model.eventsLeftOut > 0 ? `; ${model.eventsLeftOut} more are left out here` : '') +
      (model.detailsLeftOut ? '; their details are left out here' : '') +
      (model.eventsLeftOut > 0 || model.detailsLeftOut ? ', the JSON has them' : '');
    fill(list, ...found.slice(0, shown).map(row));
    more.hidden = found.length <= shown;
  }

  function markCurrent(): void {
    for (const item of list.children) {
      const of = item instanceof HTMLElement ? item.dataset.phase : undefined;
      item.classList.toggle('event-current', of === String(current));
    }
  }

  function row(event: ModelEvent): HTMLElement {
    const phase = model.phases[event.phase];
    const extra = details(event);
    return h(
      'li',
      { class: event.phase === current ? 'event event-current' : 'event', 'data-phase': String(event.phase) },
      h(
        'button',
        {
          type: 'button',
          class: 'link event-phase',
          title: 'Go to this phase',
          onclick: () => choosePhase(event.phase),
        },
        phase?.name ?? '',
      ),
      h('span', { class: 'mono event-address' }, event.address),
      counted ? countOf(event) : null,
      h('span', { class: 'event-kind' }, event.kind),
      h(
        'span',
        { class: 'event-text' },
        event.text,
        event.symbol === null ? null : h('span', { class: 'event-symbol mono' }, ` <${event.symbol}>`),
        extra === '' ? null : h('span', { class: 'event-details mono' }, ` ${extra}`),
      ),
    );
  }

  function countOf({ instructions }: ModelEvent): HTMLElement {
    const text = instructions?.toLocaleString('en') ?? '';
    if (instructions === null || chooseMoment === undefined) {
      const title = 'instructions executed before it';
      return h('span', { class: 'mono event-instructions', title }, text);
    }
    const go = { type: 'button', class: 'link', title: 'Go to just before it' };
    const button = h('button', { ...go, onclick: () => chooseMoment(instructions) }, text);
    return h('span', { class: 'mono event-instructions' }, button);
  }

  return {
    element: card(
      'events',
      'Events',
      h('div', { class: 'event-tools' }, search, h('div', { class: 'chips' }, phaseChip, ...chips)),
      count,
      h('div', counted ? { class: 'events-counted' } : {}, head, list),
      more,
    ),
    search,
    showAll(all) {
      shown = all ? Number.POSITIVE_INFINITY : BATCH;
      drawList();
    },
    draw(phase) {
      const drawn = current;
      current = phase;
      if (drawn === null || onlyPhase) drawList();
      else if (drawn !== phase) markCurrent();
    },
  };
}

function details(event: ModelEvent): string {
  if (event.details === null) return '';
  // What is a phrase for people is told by the text already.
  const told = (value: unknown): boolean =>
    typeof value === 'string' && value.includes(' ') && event.text.includes(value);
  return Object.entries(event.details)
    .filter(([, value]) => value !== null && !told(value))
    .map(([key, value]) => {
      if (typeof value !== 'number') return `${key}=${value}`;
      return key === 'length' ? `${key}=${hex(value)} (${formatSize(value)})` : `${key}=${hex(value)}`;
    })
    .join(' ');
}
