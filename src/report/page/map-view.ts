// The memory map: the picture with its tool bar, zoom by button, wheel and key, panning, and choosing a region.

import { type AddressScale, addressScale, SCALE_MODES, type ScaleMode } from '../address-scale.ts';
import { drawAllPhases, drawPhase } from '../layout-picture.ts';
import { kindLabel } from '../region-kinds.ts';
import type { ModelRegion, ReportModel } from '../report-model.ts';
import { card, fill, h } from './dom.ts';
import type { ViewState } from './state.ts';

export interface MapView {
  readonly element: HTMLElement;
  draw(): void;
  /** Zooms by a factor around a position in the view, 0 at its top and 1 at its bottom. */
  zoom(factor: number, around?: number): void;
  /** Moves the view by a part of its height. */
  pan(part: number): void;
  resetZoom(): void;
  zoomTo(region: ModelRegion): void;
  setScale(mode: ScaleMode): void;
}

export interface MapCallbacks {
  readonly choosePhase: (index: number) => void;
  readonly chooseRegion: (name: string | null) => void;
  readonly changed: () => void;
}

const SCALE_LABELS: Readonly<Record<ScaleMode, { readonly label: string; readonly hint: string }>> = {
  folded: {
    label: 'Folded',
    hint: 'to scale, each occupied stretch to its own, with unused memory folded away',
  },
  even: { label: 'Even', hint: 'room for each piece between two boundaries; not to scale' },
  log: { label: 'Log', hint: 'the same height for each doubling of the address above 64 KiB' },
  linear: { label: 'Linear', hint: 'true to scale' },
};

const SMALLEST_VIEW = 1e-7;

export function mapView(model: ReportModel, state: ViewState, callbacks: MapCallbacks): MapView {
  const regions = model.phases.flatMap((phase) => phase.regions);
  const scales = new Map<ScaleMode, AddressScale>();
  const scaleOf = (mode: ScaleMode): AddressScale => {
    const known = scales.get(mode) ?? addressScale(mode, regions);
    scales.set(mode, known);
    return known;
  };
  state.view = { from: 0, to: scaleOf(state.scale).initialEnd };

  const picture = h('div', { class: 'picture', id: 'picture' });
  const zoomText = h('output', { class: 'zoom-text', 'aria-live': 'polite' });
  const hint = h('p', { class: 'hint' });
  const scaleButtons = SCALE_MODES.map((mode) =>
    h(
      'button',
      {
        type: 'button',
        'data-scale': mode,
        title: SCALE_LABELS[mode].hint,
        onclick: () => view.setScale(mode),
      },
      SCALE_LABELS[mode].label,
    ),
  );
  const viewButtons = [false, true].map((all) =>
    h(
      'button',
      {
        type: 'button',
        'data-view': all ? 'all' : 'one',
        onclick: () => {
          state.all = all;
          callbacks.changed();
        },
      },
      all ? 'All phases' : 'This phase',
    ),
  );
  const tool = (label: string, title: string, action: () => void): HTMLElement =>
    h('button', { type: 'button', class: 'tool', title, 'aria-label': title, onclick: action }, label);
  const element = card(
    'map',
    'Memory',
    h(
      'div',
      { class: 'toolbar' },
      h('div', { class: 'segmented', role: 'group', 'aria-label': 'What to draw' }, ...viewButtons),
      h('div', { class: 'segmented', role: 'group', 'aria-label': 'Scale' }, ...scaleButtons),
      h(
        'div',
        { class: 'zoom' },
        tool('−', 'Zoom out (−)', () => view.zoom(1 / 2)),
        zoomText,
        tool('+', 'Zoom in (+)', () => view.zoom(2)),
        tool('⤢', 'Whole memory (0)', () => view.resetZoom()),
      ),
    ),
    hint,
    picture,
    legend(regions),
  );

  const view: MapView = {
    element,
    draw() {
      const scale = scaleOf(state.scale);
      const all = state.all;
      for (const button of scaleButtons) {
        button.setAttribute('aria-pressed', String(button.dataset.scale === state.scale));
      }
      for (const button of viewButtons) {
        button.setAttribute('aria-pressed', String((button.dataset.view === 'all') === all));
      }
      const factor = scale.initialEnd / (state.view.to - state.view.from);
      zoomText.textContent = `${factor >= 10 ? Math.round(factor) : Math.round(factor * 10) / 10}×`;
      hint.textContent = `${SCALE_LABELS[state.scale].hint}; low addresses at the top`;
      element.classList.toggle('wide', all);
      const available = Math.max(280, picture.clientWidth);
      const phone = available < 520;
      const width = all ? Math.max(available, 100 + model.phases.length * 112) : available;
      const options = {
        scale,
        view: state.view,
        width,
        height: phone ? 640 : 760,
        highlight: state.region,
      };
      // The picture escapes all that it shows; see `escapeXml`.
      picture.innerHTML = all
        ? drawAllPhases(model, state.phase, options)
        : drawPhase(model, state.phase, options);
    },
    zoom(factor, around = 0.5) {
      const { from, to } = state.view;
      const length = Math.min(1, Math.max(SMALLEST_VIEW, (to - from) / factor));
      const fixed = from + (to - from) * around;
      setView(fixed - length * around, length);
    },
    pan(part) {
      const length = state.view.to - state.view.from;
      setView(state.view.from + length * part, length);
    },
    resetZoom() {
      setView(0, scaleOf(state.scale).initialEnd);
    },
    zoomTo(region) {
      const scale = scaleOf(state.scale);
      const from = scale.toUnit(region.start);
      const length = Math.max(SMALLEST_VIEW, scale.toUnit(region.end) - from);
      setView(from - length * 0.3, length * 1.6);
    },
    setScale(mode) {
      state.scale = mode;
      state.view = { from: 0, to: scaleOf(mode).initialEnd };
      callbacks.changed();
    },
  };

  function setView(from: number, length: number): void {
    const kept = Math.min(1, length);
    const start = Math.min(Math.max(0, from), 1 - kept);
    state.view = { from: start, to: start + kept };
    callbacks.changed();
  }

  const targetOf = (event: Event): Element | null => (event.target instanceof Element ? event.target : null);
  picture.addEventListener('click', (event) => {
    if (dragged) return;
    const column = targetOf(event)?.closest('[data-phase]');
    if (column !== null && column !== undefined)
      callbacks.choosePhase(Number(column.getAttribute('data-phase')));
    const name = targetOf(event)?.closest('[data-region]')?.getAttribute('data-region') ?? null;
    if (name !== null || column === null) callbacks.chooseRegion(name);
  });
  picture.addEventListener('dblclick', (event) => {
    const name = targetOf(event)?.closest('[data-region]')?.getAttribute('data-region');
    const region = model.phases[state.phase]?.regions.find((candidate) => candidate.name === name);
    if (region !== undefined) view.zoomTo(region);
  });
  // The plain wheel scrolls the page; with Ctrl (and by pinching a touchpad) it zooms.
  picture.addEventListener(
    'wheel',
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = picture.getBoundingClientRect();
      view.zoom(2 ** (-event.deltaY / 200), (event.clientY - box.top) / box.height);
    },
    { passive: false },
  );
  let dragged = false;
  picture.addEventListener('pointerdown', (event) => {
    dragged = false;
    if (event.button !== 0 || event.pointerType === 'touch') return;
    let last = event.clientY;
    const start = event.clientY;
    const move = (moved: PointerEvent): void => {
      if (Math.abs(moved.clientY - start) > 4) dragged = true;
      if (!dragged) return;
      view.pan((last - moved.clientY) / Math.max(1, picture.clientHeight));
      last = moved.clientY;
    };
    const stop = (): void => {
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', stop);
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', stop);
  });
  return view;
}

/** What the colours and hatchings mean; `regions` says which colours occur. */
export function legend(regions: readonly ModelRegion[]): HTMLElement {
  const kinds = [...new Set(regions.map((region) => region.kind))].sort();
  const item = (swatch: string, text: string): HTMLElement =>
    h('li', {}, h('span', { class: `swatch ${swatch}`, 'aria-hidden': 'true' }), text);
  const list = h('ul', { class: 'legend' }, ...kinds.map((kind) => item(`k-${kind}`, kindLabel(kind))));
  fill(
    list,
    ...list.children,
    item('swatch-changed', 'new, moved or resized'),
    item('swatch-now', 'overwritten since before'),
    item('swatch-lost', 'overwritten earlier'),
    item('swatch-danger', 'in danger'),
    item('swatch-ghost', 'where it was before'),
  );
  return h('details', { class: 'legend-box', open: true }, h('summary', {}, 'Legend'), list);
}
