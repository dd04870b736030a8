// What goes to paper: every phase, one below the other, since nobody can click there. It is built when the browser prints.

import { addressScale, type ScaleMode } from '../address-scale.ts';
import { drawAllPhases, drawPhase, type PictureOptions } from '../layout-picture.ts';
import type { ReportModel } from '../report-model.ts';
import { h } from './dom.ts';
import { legend } from './map-view.ts';
import { changesCard, pageTablesCard, regionsCard, registersCard, summaryCard } from './phase-panel.ts';

/** Pixels of a picture; the style shrinks it to the paper's width. */
const PICTURE_WIDTH = 720;
const PICTURE_HEIGHT = 600;
/** Wide enough for the names in the columns. */
const COLUMN_WIDTH = 112;

/** An overview of all phases, then a part for each phase. */
export function printView(model: ReportModel, mode: ScaleMode, sections: boolean): readonly HTMLElement[] {
  const regions = model.phases.flatMap((phase) => phase.regions);
  const scale = addressScale(mode, regions);
  const options = (width: number, ids: string): PictureOptions => ({
    scale,
    view: { from: 0, to: scale.initialEnd },
    width,
    height: PICTURE_HEIGHT,
    highlight: null,
    ids,
  });
  const overviewWidth = Math.max(PICTURE_WIDTH, 100 + model.phases.length * COLUMN_WIDTH);
  const nothing = (): void => undefined;
  return [
    sheet(
      'print-all',
      picture(drawAllPhases(model, null, options(overviewWidth, 'print-all'))),
      legend(regions),
    ),
    ...model.phases.map((phase, index) =>
      sheet(
        `print-${index}`,
        summaryCard(model, index, null, nothing, nothing),
        picture(drawPhase(model, index, options(PICTURE_WIDTH, `print-${index}`))),
        changesCard(model, index, nothing),
        registersCard(model, index),
        pageTablesCard(phase.pageTables),
        regionsCard(phase, null, sections, nothing, nothing),
      ),
    ),
  ];
}

function sheet(id: string, ...parts: readonly HTMLElement[]): HTMLElement {
  for (const part of parts) {
    // The same cards are on the screen, under the same ids.
    for (const element of [part, ...part.querySelectorAll<HTMLElement>('section, h2')]) {
      element.removeAttribute('id');
      element.removeAttribute('aria-labelledby');
    }
  }
  return h('section', { class: 'sheet', id }, ...parts);
}

function picture(svg: string): HTMLElement {
  const element = h('div', { class: 'picture' });
  // The picture escapes all that it shows; see `escapeXml`.
  element.innerHTML = svg;
  return element;
}
