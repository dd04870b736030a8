// Limits on how far a boot's sizes may grow beyond a reference: of regions of memory, and of what the image says of itself.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { formatSize } from '../size.ts';
import type { Json } from './json.ts';
import type { ReferenceDifference } from './reference.ts';

/** How much something may be larger than in the reference: by a part of it, or by so many bytes. */
export type GrowthLimit =
  | { readonly name: string; readonly percent: number }
  | { readonly name: string; readonly bytes: number };

type Fields = { readonly [key: string]: Json };

/** `run-area` and `run area` are one name. */
function plain(name: string): string {
  return name.replaceAll('-', ' ').toLowerCase();
}

/** Sizes in bytes that limits can be set on; `init_size` where the header has it. */
export function imageSizes(image: KernelImage): Readonly<Record<string, number>> {
  const { header, payload } = image;
  return {
    file: image.bytes.length,
    setup: image.setupSize,
    ...(payload === null ? {} : { payload: payload.length }),
    ...(payload?.outputLength == null ? {} : { vmlinux: payload.outputLength }),
    ...(header.has('init_size') ? { init_size: Number(header.get('init_size')) } : {}),
  };
}

interface Sized {
  readonly path: string;
  readonly phase: string | null;
  readonly size: number;
}

/** Everything of that name that has a size: `image.sizes` and the regions of every phase. */
function sizesOf(trace: Fields, name: string): readonly Sized[] {
  const found: Sized[] = [];
  const image = (trace.image ?? {}) as Fields;
  for (const [field, size] of Object.entries((image.sizes ?? {}) as Fields)) {
    if (plain(field) === plain(name) && typeof size === 'number')
      found.push({ path: `image.sizes.${field}`, phase: null, size });
  }
  for (const phase of (trace.phases ?? []) as readonly Fields[]) {
    for (const region of (phase.regions ?? []) as readonly Fields[]) {
      if (plain(String(region.name)) !== plain(name)) continue;
      const size = Number(BigInt(String(region.end)) - BigInt(String(region.start)));
      found.push({ path: `phases.${phase.name}.regions.${region.name}`, phase: String(phase.name), size });
    }
  }
  return found;
}

/** Something that has grown beyond its limit. */
export interface Growth extends ReferenceDifference {
  /** One sentence with the sizes and the limit. */
  readonly text: string;
}

/**
 * What has grown beyond its limit; of one name that several phases show, the worst.
 *
 * @throws BootscopeError `reference-unknown-size` where the reference or the boot has nothing of that name
 */
export function findGrowth(actual: Json, reference: Json, limits: readonly GrowthLimit[]): readonly Growth[] {
  return limits.flatMap((limit) => {
    const [before, after] = [sizesOf(reference as Fields, limit.name), sizesOf(actual as Fields, limit.name)];
    for (const [sizes, whose] of [
      [before, 'the reference'],
      [after, 'the boot'],
    ] as const) {
      if (sizes.length > 0) continue;
      throw new BootscopeError('reference-unknown-size', `${whose} has no size of the name ${limit.name}`);
    }
    const worst = after
      .flatMap((now) => {
        const then = before.find(({ path }) => path === now.path);
        return then === undefined ? [] : [{ ...now, was: then.size }];
      })
      .toSorted((x, y) => y.size - y.was - (x.size - x.was))[0];
    if (worst === undefined) return [];
    const { path, phase, size, was } = worst;
    const allowed = 'percent' in limit ? Math.floor((was * limit.percent) / 100) : limit.bytes;
    if (size - was <= allowed) return [];
    const share = was === 0 ? '' : `, ${(((size - was) / was) * 100).toFixed(1)} %`;
    const most = 'percent' in limit ? `${limit.percent} %` : hex(limit.bytes);
    const text =
      `${limit.name} grew from ${hex(was)} (${formatSize(was)}) to ${hex(size)} (${formatSize(size)}): ` +
      `by ${hex(size - was)} bytes${share}, and ${most} is allowed`;
    return [
      {
        area: 'size',
        phase,
        name: limit.name,
        field: null,
        path,
        change: 'changed',
        expected: was,
        actual: size,
        text,
      } as const,
    ];
  });
}

/** Whether a difference is no more than the size of something whose growth has a limit of its own. */
export function isLimited({ path }: ReferenceDifference, limits: readonly GrowthLimit[]): boolean {
  return limits.some(({ name }) => {
    const [, field, last] = /\.(?:regions|sizes)\.(.*?)(\.end)?$/.exec(path) ?? [];
    if (field === undefined || plain(field) !== plain(name)) return false;
    return last === '.end' || path.includes('.sizes.');
  });
}
