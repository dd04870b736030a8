// What the reader looks at: phase, region, scale, zoom. It is kept in the address bar, so that a link leads to the same view.

import { SCALE_MODES, type ScaleMode } from '../address-scale.ts';
import type { ScaleView } from '../place-regions.ts';
import type { ReportModel } from '../report-model.ts';

export interface ViewState {
  phase: number;
  scale: ScaleMode;
  view: ScaleView;
  all: boolean;
  region: string | null;
}

export function readState(model: ReportModel, hash: string, scale: ScaleMode): ViewState {
  const asked = new URLSearchParams(hash.replace(/^#/, ''));
  const phase = model.phases.findIndex(({ name }) => name === asked.get('phase'));
  return {
    phase: Math.max(0, phase),
    scale: SCALE_MODES.find((mode) => mode === asked.get('scale')) ?? scale,
    view: { from: 0, to: 1 },
    all: asked.get('view') === 'all',
    region: asked.get('region'),
  };
}

export function writeState(model: ReportModel, state: ViewState): void {
  const hash = new URLSearchParams();
  const phase = model.phases[state.phase];
  if (phase !== undefined) hash.set('phase', phase.name);
  hash.set('scale', state.scale);
  if (state.all) hash.set('view', 'all');
  if (state.region !== null) hash.set('region', state.region);
  try {
    history.replaceState(null, '', `#${hash}`);
  } catch {
    // A page that is shown inside another may not touch the address bar.
  }
}
