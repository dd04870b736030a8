// What is known of one phase, beside the picture: what changed, registers, page tables, and the list of regions.

import { hex, withSymbol } from '../../hex.ts';
import { formatSize } from '../../size.ts';
import { isSection } from '../address-scale.ts';
import { markSign } from '../layout-picture.ts';
import { kindLabel } from '../region-kinds.ts';
import type { ModelPageTables, ModelPhase, ModelRange, ModelRegion, ReportModel } from '../report-model.ts';
import { card, h } from './dom.ts';
import { registerBits } from './register-bits.ts';

export type ChooseRegion = (name: string | null) => void;

function range(of: ModelRange): HTMLElement {
  return h('span', { class: 'mono range' }, `${hex(of.start)}–${hex(of.end)}`);
}

/** The chosen region, or what the phase is about. */
export function summaryCard(
  model: ReportModel,
  index: number,
  chosen: string | null,
  choose: ChooseRegion,
  zoomTo: (region: ModelRegion) => void,
): HTMLElement {
  const phase = model.phases[index]!;
  const next = model.phases[index + 1];
  const facts = h(
    'dl',
    { class: 'facts' },
    ...fact('begins at', h('span', { class: 'mono' }, withSymbol(phase.address, phase.symbol))),
    ...fact('CPU mode', phase.mode),
    ...(phase.instructions === null
      ? []
      : fact('instructions', instructionText(phase.instructions, next?.instructions ?? null))),
    ...(phase.summary === '' ? [] : fact('in it', phase.summary)),
    ...(next === undefined
      ? []
      : fact('goes on to', `${next.name} at ${withSymbol(next.address, next.symbol)}`)),
  );
  const region = phase.regions.find((candidate) => candidate.name === chosen);
  return card(
    'phase',
    phase.name,
    facts,
    region === undefined ? null : regionDetails(phase, region, choose, zoomTo),
  );
}

/** How many the guest executed before a phase and, where the next one was reached, in it. */
function instructionText(before: number, until: number | null): string {
  const earlier = `${before.toLocaleString('en')} before it`;
  return until === null ? earlier : `${(until - before).toLocaleString('en')} in it, ${earlier}`;
}

function fact(name: string, value: Node | string): readonly [HTMLElement, HTMLElement] {
  return [h('dt', {}, name), h('dd', {}, value)];
}

function regionDetails(
  phase: ModelPhase,
  region: ModelRegion,
  choose: ChooseRegion,
  zoomTo: (region: ModelRegion) => void,
): HTMLElement {
  const sharing = phase.regions.filter(
    (other) => other !== region && other.start < region.end && other.end > region.start && !isSection(other),
  );
  const overwritten = [...phase.overwritten, ...phase.lost].filter((loss) => loss.region === region.name);
  return h(
    'div',
    { class: 'chosen', id: 'chosen' },
    h(
      'div',
      { class: 'chosen-head' },
      h('span', { class: `swatch k-${region.kind}`, 'aria-hidden': 'true' }),
      h('h3', {}, region.name),
      h('button', { type: 'button', onclick: () => zoomTo(region) }, 'Zoom to it'),
      h(
        'button',
        {
          type: 'button',
          class: 'tool',
          'aria-label': 'Close',
          title: 'Close (Esc)',
          onclick: () => choose(null),
        },
        '×',
      ),
    ),
    h(
      'dl',
      { class: 'facts' },
      ...fact('range', range(region)),
      ...fact('size', `${formatSize(region.end - region.start)} (${hex(region.end - region.start)})`),
      ...fact('kind', kindLabel(region.kind)),
      ...fact('known from', region.inferred ? `inferred: ${region.source}` : region.source),
      ...(region.before === null ? [] : fact('before', range(region.before))),
      ...phase.endangered
        .filter((part) => part.region === region.name)
        .flatMap((part) => fact('in danger', h('span', {}, range(part), ` by ${part.code}`))),
      ...overwritten.flatMap((loss) => fact('overwritten', h('span', {}, range(loss), ` by ${loss.by}`))),
      ...(sharing.length === 0
        ? []
        : fact(
            'shares memory with',
            h(
              'span',
              { class: 'links' },
              ...sharing.slice(0, 14).map((other) => regionLink(other.name, choose)),
            ),
          )),
    ),
  );
}

function regionLink(name: string, choose: ChooseRegion): HTMLElement {
  return h('button', { type: 'button', class: 'link', onclick: () => choose(name) }, name);
}

/** What the phase found changed since the one before. */
export function changesCard(model: ReportModel, index: number, choose: ChooseRegion): HTMLElement {
  const phase = model.phases[index]!;
  const items: HTMLElement[] = [];
  const item = (mark: string, word: string, ...content: readonly (Node | string)[]): void => {
    items.push(
      h(
        'li',
        { class: `change mark-${mark}` },
        h('span', { class: 'change-word' }, markSign(mark) === '' ? word : `${markSign(mark)} ${word}`),
        h('span', { class: 'change-text' }, ...content),
      ),
    );
  };
  const dangers = new Set(
    (model.phases[index - 1]?.endangered ?? []).map(({ region, code }) => `${region} ${code}`),
  );
  for (const part of phase.endangered) {
    if (dangers.has(`${part.region} ${part.code}`)) continue;
    item('danger', 'in danger', regionLink(part.region, choose), ' ', range(part), ` by ${part.code}`);
  }
  for (const loss of phase.overwritten) {
    item('lost', 'overwritten', regionLink(loss.region, choose), ' ', range(loss), ` by ${loss.by}`);
  }
  const sections = phase.regions.filter((region) => isSection(region) && region.change === 'new').length;
  for (const region of phase.regions) {
    if (isSection(region)) continue;
    if (region.change === 'new') {
      item(
        'new',
        'new',
        regionLink(region.name, choose),
        ' ',
        range(region),
        `, ${formatSize(region.end - region.start)}`,
      );
    } else if (region.change === 'moved' && region.before !== null) {
      item(
        'moved',
        'moved',
        regionLink(region.name, choose),
        ' ',
        range(region.before),
        ' to ',
        range(region),
      );
    } else if (region.change === 'resized' && region.before !== null) {
      item(
        'resized',
        'resized',
        regionLink(region.name, choose),
        ' ',
        range(region.before),
        ' to ',
        range(region),
      );
    }
  }
  if (sections > 0) item('new', 'new', `${sections} sections of the kernel`);
  for (const gone of phase.gone) item('gone', '− gone', gone.name, ' ', range(gone));
  const first = index === 0;
  return card(
    'changes',
    first ? 'What changed' : `What changed since ${model.phases[index - 1]!.name}`,
    items.length === 0
      ? h('p', { class: 'hint' }, first ? 'The boot begins here.' : 'No region changed.')
      : h('ul', { class: 'changes' }, ...items),
  );
}

export function registersCard(model: ReportModel, index: number): HTMLElement {
  const phase = model.phases[index]!;
  const changed = phase.registers.filter((register) => register.before !== null).length;
  return card(
    'registers',
    'Registers',
    index === 0
      ? null
      : h(
          'p',
          { class: 'hint' },
          changed === 0 ? 'as in the phase before' : `${changed} changed since the phase before`,
        ),
    h(
      'div',
      { class: 'registers' },
      ...phase.registers.map((register) => {
        const bits = registerBits(register.name, register.value);
        return h(
          'div',
          {
            class: [
              'register',
              ...(register.before === null ? [] : ['register-changed']),
              ...(bits === '' && !register.name.endsWith('dtr') ? [] : ['register-wide']),
              ...(register.value.length > 10 ? ['register-long'] : []),
            ].join(' '),
            ...(register.before === null ? {} : { title: `before: ${register.before}` }),
          },
          h('span', { class: 'register-name' }, register.name),
          h('span', { class: 'mono' }, register.value),
          bits === '' ? null : h('span', { class: 'bits' }, bits),
        );
      }),
    ),
  );
}

const SHOWN_MAPPINGS = 64;

export function pageTablesCard(tables: ModelPageTables | null): HTMLElement {
  if (tables === null) {
    return card('page-tables', 'Page tables', h('p', { class: 'hint' }, 'They were not looked at.'));
  }
  if (tables.levels === 0) {
    return card(
      'page-tables',
      'Page tables',
      h('p', { class: 'hint' }, 'Paging is off: a linear address is a physical address.'),
    );
  }
  const rows = tables.ranges
    .slice(0, SHOWN_MAPPINGS)
    .map((mapped) =>
      h(
        'tr',
        {},
        h('td', { class: 'mono' }, `${mapped.start}–${mapped.end}`),
        h('td', { class: 'mono' }, mapped.identity ? 'itself' : mapped.physical),
        h('td', { class: 'mono' }, mapped.rights),
        h('td', {}, formatSize(mapped.pageSize)),
      ),
    );
  const more = tables.ranges.length - rows.length;
  return card(
    'page-tables',
    'Page tables',
    h(
      'p',
      { class: 'hint' },
      `${tables.mode} paging, ${tables.tables} ${tables.tables === 1 ? 'table' : 'tables'}, root ${tables.root}; ` +
        (tables.identity
          ? 'every mapped address leads to itself'
          : 'not all mapped addresses lead to themselves'),
    ),
    h(
      'div',
      { class: 'scroll' },
      h(
        'table',
        {},
        h(
          'thead',
          {},
          h('tr', {}, ...['linear', 'leads to', 'rights', 'pages'].map((text) => h('th', {}, text))),
        ),
        h('tbody', {}, ...rows),
      ),
    ),
    more > 0 || tables.truncated
      ? h(
          'p',
          { class: 'hint' },
          more > 0 ? `${more} more ranges` : 'the walk ended at its limit; there is more',
        )
      : null,
  );
}

/** Each region with its parts behind it, which else order by address parts from it. */
function inTreeOrder(regions: readonly ModelRegion[]): readonly ModelRegion[] {
  const names = new Set(regions.map((region) => region.name));
  const parts = new Map<string, ModelRegion[]>();
  const roots: ModelRegion[] = [];
  for (const region of regions) {
    if (region.parent === null || !names.has(region.parent)) roots.push(region);
    else parts.set(region.parent, [...(parts.get(region.parent) ?? []), region]);
  }
  const listed = new Set<ModelRegion>();
  const list = (region: ModelRegion): void => {
    if (listed.has(region)) return;
    listed.add(region);
    for (const part of parts.get(region.name) ?? []) list(part);
  };
  for (const root of roots) list(root);
  return [...listed];
}

export function regionsCard(
  phase: ModelPhase,
  chosen: string | null,
  showSections: boolean,
  choose: ChooseRegion,
  toggleSections: () => void,
): HTMLElement {
  const lost = new Set(phase.overwritten.map((loss) => loss.region));
  const endangered = new Set(phase.endangered.map((part) => part.region));
  const byName = new Map(phase.regions.map((region) => [region.name, region]));
  const depth = (region: ModelRegion): number => {
    let levels = 0;
    for (let at = region; at.parent !== null && levels < 4; levels++) {
      const parent = byName.get(at.parent);
      if (parent === undefined) break;
      at = parent;
    }
    return levels;
  };
  const sections = phase.regions.filter(isSection).length;
  const rows = inTreeOrder(phase.regions)
    .filter((region) => showSections || !isSection(region) || region.name === chosen)
    .map((region) => {
      const mark = lost.has(region.name) ? 'lost' : endangered.has(region.name) ? 'danger' : region.change;
      const word = { lost: 'overwritten', danger: 'in danger', first: '', same: '' }[mark as string] ?? mark;
      return h(
        'li',
        {},
        h(
          'button',
          {
            type: 'button',
            class: `region-row depth-${depth(region)} mark-${mark}`,
            'data-region': region.name,
            'aria-pressed': String(region.name === chosen),
            onclick: () => choose(region.name === chosen ? null : region.name),
          },
          h('span', { class: `swatch k-${region.kind}`, 'aria-hidden': 'true' }),
          h('span', { class: 'region-name' }, region.name),
          h('span', { class: 'mono region-range' }, `${hex(region.start)}–${hex(region.end)}`),
          h('span', { class: 'region-size' }, formatSize(region.end - region.start)),
          h('span', { class: 'region-mark' }, `${markSign(mark)} ${word}`.trim()),
          h(
            'span',
            { class: 'region-source' },
            region.inferred ? `inferred: ${region.source}` : region.source,
          ),
        ),
      );
    });
  return card(
    'regions',
    'Regions',
    sections === 0
      ? null
      : h(
          'p',
          { class: 'hint' },
          h(
            'button',
            { type: 'button', class: 'link', 'aria-pressed': String(showSections), onclick: toggleSections },
            showSections ? 'Hide the sections of the kernel' : `Show ${sections} sections of the kernel`,
          ),
        ),
    h('ul', { class: 'region-list' }, ...rows),
  );
}
