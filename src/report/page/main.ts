// The script of the report page: reads the model that the page carries, builds the view, and listens to keys.

import { hex, withSymbol } from '../../hex.ts';
import { formatSize } from '../../size.ts';
import { SCALE_MODES, type ScaleMode } from '../address-scale.ts';
import type { ModelRegion, ModelTable, ReportModel } from '../report-model.ts';
import { card, fill, h } from './dom.ts';
import { eventsPanel } from './events-panel.ts';
import { mapView } from './map-view.ts';
import { changesCard, pageTablesCard, regionsCard, registersCard, summaryCard } from './phase-panel.ts';
import { printView } from './print-view.ts';
import { readState, writeState } from './state.ts';
import { wordsDialog } from './words-dialog.ts';

interface PageData {
  readonly model: ReportModel;
  readonly scale: ScaleMode;
}

const data = JSON.parse(document.getElementById('data')?.textContent ?? '') as PageData;
const { model } = data;
const state = readState(model, location.hash, data.scale);
let showSections = false;

const map = mapView(model, state, {
  choosePhase,
  chooseRegion,
  changed: () => draw(['map']),
});
const events = eventsPanel(model, (index) => {
  choosePhase(index);
  map.element.scrollIntoView({ block: 'nearest' });
});
const panel = h('div', { class: 'panel', id: 'panel' });
const regions = h('div', { id: 'regions-slot' });
const paper = h('div', { class: 'paper', id: 'paper' });
const announcement = h('div', { class: 'visually-hidden', 'aria-live': 'polite', id: 'announcement' });
const stepButtons = model.phases.map((phase, index) =>
  h(
    'button',
    {
      type: 'button',
      class: `step mode-${phase.mode}`,
      'data-step': String(index),
      onclick: () => choosePhase(index),
    },
    h('span', { class: 'step-name' }, phase.name),
    h('span', { class: 'step-address mono' }, phase.address),
    h(
      'span',
      { class: 'step-marks' },
      h('span', { class: 'step-mode' }, phase.mode),
      ...stepMarks(index).map(([mark, text]) => h('span', { class: `step-mark mark-${mark}` }, text)),
    ),
  ),
);
const help = helpDialog();
const words = wordsDialog();

function stepMarks(index: number): readonly (readonly [string, string])[] {
  const phase = model.phases[index]!;
  const added = phase.regions.filter((region) => region.change === 'new').length;
  const moved = phase.regions.filter(
    (region) => region.change === 'moved' || region.change === 'resized',
  ).length;
  const marks: (readonly [string, string])[] = [];
  if (added > 0) marks.push(['new', `+${added}`]);
  if (moved > 0) marks.push(['moved', `→${moved}`]);
  if (phase.overwritten.length > 0) marks.push(['lost', `✕${phase.overwritten.length}`]);
  return marks;
}

function choosePhase(index: number): void {
  if (model.phases[index] === undefined) return;
  state.phase = index;
  const phase = model.phases[index];
  announcement.textContent = `Phase ${index + 1} of ${model.phases.length}: ${phase.name}`;
  draw(['map', 'phase']);
  const step = stepButtons[index]!;
  const strip = step.closest('ol');
  strip?.scrollTo({
    left: (step.parentElement?.offsetLeft ?? 0) - strip.clientWidth / 2 + step.clientWidth / 2,
  });
}

function chooseRegion(name: string | null): void {
  state.region = name;
  draw(['map', 'phase']);
  // From the list below, or on a phone, what was chosen would be told out of sight.
  document.getElementById('chosen')?.scrollIntoView({ block: 'nearest' });
}

function zoomTo(region: ModelRegion): void {
  state.all = false;
  map.zoomTo(region);
  map.element.scrollIntoView({ block: 'start' });
}

function draw(parts: readonly ('map' | 'phase')[]): void {
  const phase = model.phases[state.phase];
  if (phase === undefined) return;
  if (parts.includes('phase')) {
    for (const [index, button] of stepButtons.entries()) {
      if (index === state.phase) button.setAttribute('aria-current', 'step');
      else button.removeAttribute('aria-current');
    }
    fill(
      panel,
      summaryCard(model, state.phase, state.region, chooseRegion, zoomTo),
      changesCard(model, state.phase, chooseRegion),
      registersCard(model, state.phase),
      pageTablesCard(phase.pageTables),
    );
    fill(
      regions,
      regionsCard(phase, state.region, showSections, chooseRegion, () => {
        showSections = !showSections;
        draw(['phase']);
      }),
    );
    events.draw(state.phase);
  }
  // The picture asks how wide it may be, so the columns come first.
  layout.classList.toggle('stacked', state.all);
  if (parts.includes('map')) map.draw();
  writeState(model, state);
}

function header(): HTMLElement {
  const { image, machine, kernel } = model;
  const release = image.kernelVersion?.split(' ')[0];
  const facts = [
    image.kind,
    image.bootProtocol === null ? 'no setup header' : `boot protocol ${image.bootProtocol}`,
    image.codec === null
      ? null
      : `${image.codec}${image.payload === null ? '' : ` payload of ${formatSize(image.payload.length)}`}`,
    `${formatSize(machine.ram)} RAM`,
    `${machine.entry} entry`,
    `decompression ${machine.decompress}`,
    kernel === null ? null : `kernel entry ${withSymbol(kernel.entry, kernel.entrySymbol)}`,
  ].filter((text) => text !== null);
  return h(
    'header',
    { class: 'top' },
    h(
      'div',
      { class: 'title' },
      h('h1', {}, release === undefined ? (image.path.split('/').at(-1) ?? image.path) : `Linux ${release}`),
      h('p', { class: 'facts-line' }, ...facts.map((text) => h('span', {}, text))),
      machine.cmdline === '' ? null : h('p', { class: 'cmdline mono' }, machine.cmdline),
    ),
    h(
      'div',
      { class: 'top-tools' },
      h(
        'button',
        {
          type: 'button',
          class: 'tool',
          id: 'theme',
          title: 'Dark or light (t)',
          'aria-label': 'Dark or light',
          onclick: toggleTheme,
        },
        '◐',
      ),
      h(
        'button',
        { type: 'button', id: 'words-button', title: 'Words (w)', onclick: () => words.showModal() },
        'Words',
      ),
      h(
        'button',
        {
          type: 'button',
          class: 'tool',
          id: 'help-button',
          title: 'Keys (?)',
          'aria-label': 'Keys',
          onclick: () => help.showModal(),
        },
        '?',
      ),
    ),
  );
}

function toggleTheme(): void {
  const root = document.documentElement;
  const dark =
    root.dataset.theme === undefined
      ? matchMedia('(prefers-color-scheme: dark)').matches
      : root.dataset.theme === 'dark';
  root.dataset.theme = dark ? 'light' : 'dark';
}

function warnings(): HTMLElement | null {
  const items: HTMLElement[] = [];
  if (model.stopped !== null) {
    items.push(
      h('div', { class: 'warning' }, h('strong', {}, 'No kernel was reached: '), `${model.stopped}.`),
    );
  }
  for (const hazard of model.hazards) {
    items.push(
      h(
        'div',
        { class: 'warning' },
        h('strong', {}, `${hazard.code} `),
        h('span', { class: 'mono' }, `${hex(hazard.start)}–${hex(hazard.end)}`),
        ` ${hazard.text} `,
        h('em', {}, hazard.advice),
      ),
    );
  }
  return items.length === 0 ? null : h('div', { class: 'warnings', id: 'warnings' }, ...items);
}

function kernelCard(): HTMLElement | null {
  const { kernel } = model;
  if (kernel === null) return null;
  const named = kernel.segments.some(({ symbol }) => symbol !== null);
  return card(
    'kernel',
    'The kernel at the jump',
    h(
      'p',
      { class: 'hint' },
      `entry ${withSymbol(kernel.entry, kernel.entrySymbol)} (${kernel.entryMode}), physical base ${kernel.physicalBase}, virtual base ${kernel.virtualBase}, boot_params ${kernel.bootParams}`,
    ),
    table(
      ['physical', ...(named ? ['starts with'] : []), ...['virtual', 'file', 'memory', 'flags', 'SHA-256']],
      kernel.segments.map((segment) => [
        `${hex(segment.start)}–${hex(segment.end)}`,
        ...(named ? [segment.symbol ?? ''] : []),
        segment.virtual,
        segment.filesz,
        hex(segment.end - segment.start),
        segment.flags,
        segment.sha256?.slice(0, 16) ?? '',
      ]),
    ),
  );
}

function table(columns: readonly string[], rows: readonly (readonly string[])[]): HTMLElement {
  return h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ...columns.map((text) => h('th', {}, text)))),
      h(
        'tbody',
        {},
        ...rows.map((row) => h('tr', {}, ...row.map((text) => h('td', { class: 'mono' }, text)))),
      ),
    ),
  );
}

/** Rows of a table that are shown without being asked for. */
const ROWS_SHOWN = 24;

function tableCard({ id, title, hint, columns, rows }: ModelTable): HTMLElement {
  const content = table(columns, rows);
  return card(
    id,
    title,
    h('p', { class: 'hint' }, hint),
    rows.length <= ROWS_SHOWN ? content : h('details', {}, h('summary', {}, `${rows.length} rows`), content),
  );
}

function textCard(id: string, title: string, text: string): HTMLElement | null {
  return text === '' ? null : card(id, title, h('pre', { tabindex: '0' }, text));
}

function imageCard(): HTMLElement {
  const { image, machine } = model;
  const rows: readonly (readonly [string, string | null])[] = [
    ['file', image.path],
    ['version', image.kernelVersion],
    ['SHA-256', image.sha256],
    [
      'payload',
      image.payload === null
        ? null
        : `${image.payload.length} bytes at offset ${image.payload.offset} of the protected-mode code`,
    ],
    ['engine', `Unicorn ${machine.engineVersion} (${machine.engine})`],
    ['CPU profile', machine.cpu],
  ];
  return card(
    'image',
    'Image and machine',
    h(
      'dl',
      { class: 'facts' },
      ...rows.flatMap(([name, value]) => (value === null ? [] : [h('dt', {}, name), h('dd', {}, value)])),
    ),
  );
}

function helpDialog(): HTMLDialogElement {
  const keys: readonly (readonly [string, string])[] = [
    ['← →', 'phase before, phase after'],
    ['Home End', 'first phase, last phase'],
    ['1 … 9', 'phase by its number'],
    ['a', 'all phases side by side, or this one'],
    ['s', 'next scale'],
    ['+ − 0', 'zoom in, zoom out, whole memory'],
    ['↑ ↓', 'move the view while zoomed in'],
    ['/', 'search events'],
    ['t', 'dark or light'],
    ['w', 'what the words mean'],
    ['Esc', 'let go of the chosen region'],
    ['?', 'this list'],
  ];
  const dialog = h(
    'dialog',
    { id: 'help', 'aria-labelledby': 'help-title' },
    h('h2', { id: 'help-title' }, 'Keys'),
    h(
      'dl',
      { class: 'keys' },
      ...keys.flatMap(([key, text]) => [
        h('dt', {}, ...key.split(' ').map((k) => (k === '…' ? k : h('kbd', {}, k)))),
        h('dd', {}, text),
      ]),
    ),
    h(
      'p',
      { class: 'hint' },
      'Ctrl and the wheel zoom in the picture, dragging moves it, a double click zooms to a region.',
    ),
    h('form', { method: 'dialog' }, h('button', {}, 'Close')),
  );
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}

const layout = h('div', { class: 'layout-grid' }, map.element, panel);
document.body.prepend(
  header(),
  ...[warnings()].filter((element) => element !== null),
  h(
    'nav',
    { class: 'timeline', 'aria-label': 'Phases of the boot' },
    h('ol', {}, ...stepButtons.map((button) => h('li', {}, button))),
  ),
  h(
    'main',
    {},
    layout,
    regions,
    paper,
    events.element,
    ...[
      kernelCard(),
      ...model.tables.map(tableCard),
      textCard('console', 'Console', model.console),
      textCard('notices', 'Notices', model.notices.join('\n')),
      imageCard(),
    ].filter((element) => element !== null),
  ),
  announcement,
  help,
  words,
);
if (model.phases.length === 0) fill(layout, h('p', { class: 'hint' }, 'No phase was reached.'));
choosePhase(state.phase);

let resizeTimer: ReturnType<typeof setTimeout> | undefined;
let drawnWidth = innerWidth;
window.addEventListener('resize', () => {
  if (innerWidth === drawnWidth) return;
  drawnWidth = innerWidth;
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => map.draw(), 80);
});

window.addEventListener('beforeprint', () => {
  fill(paper, ...printView(model, state.scale, showSections));
  events.showAll(true);
});
window.addEventListener('afterprint', () => {
  fill(paper);
  events.showAll(false);
});

/** What each key does; a key that does nothing here is left to the browser. */
function onKey(key: string): boolean {
  const zoomed = state.view.to - state.view.from < 0.999;
  switch (key) {
    case 'ArrowRight':
      choosePhase(Math.min(state.phase + 1, model.phases.length - 1));
      return true;
    case 'ArrowLeft':
      choosePhase(Math.max(state.phase - 1, 0));
      return true;
    case 'Home':
      choosePhase(0);
      return true;
    case 'End':
      choosePhase(model.phases.length - 1);
      return true;
    case 'ArrowUp':
    case 'ArrowDown':
      if (!zoomed) return false;
      map.pan(key === 'ArrowUp' ? -0.15 : 0.15);
      return true;
    case 'a':
      state.all = !state.all;
      draw(['map']);
      return true;
    case 's':
      map.setScale(SCALE_MODES[(SCALE_MODES.indexOf(state.scale) + 1) % SCALE_MODES.length]!);
      return true;
    case '+':
    case '=':
      map.zoom(2);
      return true;
    case '-':
      map.zoom(1 / 2);
      return true;
    case '0':
      map.resetZoom();
      return true;
    case '/':
      events.search.focus({ preventScroll: true });
      events.element.scrollIntoView({ block: 'start' });
      return true;
    case 't':
      toggleTheme();
      return true;
    case 'w':
      words.showModal();
      return true;
    case '?':
      help.showModal();
      return true;
    case 'Escape':
      chooseRegion(null);
      return true;
    default:
      if (!/^[1-9]$/.test(key)) return false;
      choosePhase(Number(key) - 1);
      return true;
  }
}

window.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open || words.open) return;
  const target = event.target instanceof HTMLElement ? event.target : null;
  if (target?.closest('input, textarea, select') != null) {
    if (event.key === 'Escape') target.blur();
    return;
  }
  if (onKey(event.key)) event.preventDefault();
});
