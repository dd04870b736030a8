// How each kind of region is called and coloured, in the light and in the dark theme: relatives share a hue.

import type { RegionKind } from '../trace/boot-trace.ts';

export interface KindStyle {
  readonly label: string;
  /** Fill colours. */
  readonly light: string;
  readonly dark: string;
}

export const REGION_KIND_STYLES: Readonly<Record<RegionKind, KindStyle>> = {
  kernel: { label: 'kernel', light: '#7fc08e', dark: '#3d8b58' },
  relocations: { label: 'relocation lists', light: '#b9d97a', dark: '#6f9430' },
  'compressed-kernel': { label: 'compressed kernel (ZO)', light: '#c9b6ea', dark: '#6a4fa3' },
  payload: { label: 'payload', light: '#a98be0', dark: '#8a68cf' },
  stub: { label: 'boot stub', light: '#e3a6d8', dark: '#a2579a' },
  buffer: { label: 'buffer', light: '#e9ecf1', dark: '#262d38' },
  setup: { label: 'setup', light: '#8fbfee', dark: '#3577b5' },
  'boot-sector': { label: 'boot sector', light: '#5f9fdc', dark: '#2b5f96' },
  loader: { label: 'boot loader', light: '#7aa7e8', dark: '#3a5fb0' },
  bss: { label: 'bss', light: '#b8d8f2', dark: '#466d8c' },
  heap: { label: 'heap', light: '#93d3d6', dark: '#2f8287' },
  stack: { label: 'stack', light: '#5fb9b4', dark: '#22a099' },
  'boot-params': { label: 'boot_params', light: '#f3c65e', dark: '#b98518' },
  'command-line': { label: 'command line', light: '#f0a05a', dark: '#c26b21' },
  'setup-data': { label: 'setup_data', light: '#f5dc93', dark: '#8f7429' },
  'descriptor-table': { label: 'descriptor table', light: '#e58f74', dark: '#b65338' },
  'page-table': { label: 'page tables', light: '#ef9aa6', dark: '#b84f61' },
  initrd: { label: 'initrd', light: '#ee7fb5', dark: '#c23c80' },
  firmware: { label: 'firmware', light: '#b9bfc8', dark: '#59626f' },
  reserved: { label: 'reserved', light: '#d5d9df', dark: '#3e4652' },
  video: { label: 'video memory', light: '#a7b5bf', dark: '#4b5d6b' },
};

/** A kind that a trace of a later version may bring is drawn as reserved. */
export function kindLabel(kind: string): string {
  return REGION_KIND_STYLES[kind as RegionKind]?.label ?? kind;
}

/** Style rules of the classes `k-…` that pictures and swatches have. */
export function kindStyles(): string {
  return Object.entries(REGION_KIND_STYLES)
    .map(
      ([kind, { light, dark }]) =>
        `.k-${kind}{fill:light-dark(${light},${dark});background-color:light-dark(${light},${dark})}`,
    )
    .join('');
}
