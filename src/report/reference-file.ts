// References of boots: made of a trace, read from a file, and a boot checked against one.

import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { type Json, traceToJson } from './json.ts';
import {
  compareWithReference,
  type Reference,
  type ReferenceDifference,
  unknownPatterns,
} from './reference.ts';
import { findGrowth, type Growth, type GrowthLimit, imageSizes, isLimited } from './size-limits.ts';

/** The trace as a reference holds it: with the sizes that limits can be set on. */
function recordedTrace(trace: BootTrace, image: KernelImage): { readonly [key: string]: Json } {
  const json = traceToJson(trace) as { readonly [key: string]: Json };
  return { ...json, image: { ...(json.image as object), sizes: imageSizes(image) } };
}

/**
 * A boot as a reference for later ones, to be written as JSON.
 *
 * @param options - how the boot was made, as `recordedOptions` gives it
 * @param ignore - fields that checks leave out: `image`, `segments.sha256`
 * @throws {@link BootscopeError} `check-ignore` for a field that the boot does not have
 * @example
 * ```ts
 * import { boot, checkAgainstReference, makeReference, optionsOf, readKernelImage, recordedOptions } from 'bootscope';
 *
 * const image = await readKernelImage('demo-lz4.bzImage');
 * const { options, trace, close } = await boot(image, { cmdline: 'quiet' });
 * close();
 * const reference = makeReference(trace, image, recordedOptions(options, trace.machine.entry, null), ['registers']);
 *
 * const other = await readKernelImage('demo-zstd.bzImage');
 * const again = await boot(other, await optionsOf('ref.json', reference));
 * again.close();
 * const findings = checkAgainstReference(again.trace, other, reference, { limits: [{ name: 'payload', percent: 10 }] });
 * console.log(findings.length, findings[0]?.path);
 * ```
 */
export function makeReference(
  trace: BootTrace,
  image: KernelImage,
  options: object,
  ignore: readonly string[] = [],
): Reference {
  const json = recordedTrace(trace, image);
  const unknown = unknownPatterns(ignore, json);
  if (unknown.length > 0) throw nothingToIgnore('the boot has', unknown);
  return { options, policy: { ignore }, ...json };
}

/** What a check leaves out or allows, beyond what the reference says. */
export interface CheckOptions {
  /** Fields that are not compared: `image`, `segments.sha256`, `phases.startup_64.address`. */
  readonly ignore?: readonly string[];
  /** How much what may have grown. */
  readonly limits?: readonly GrowthLimit[];
  /** Options of the boot that were asked to be other than the reference's: `memory`, `cpu`. */
  readonly otherwise?: readonly string[];
}

/** Boot options that have another name in the trace. */
const MACHINE_FIELDS: Readonly<Record<string, string>> = { memory: 'ram' };

/**
 * What differs between a boot and the reference, what has grown too much first; none: it is as recorded.
 *
 * @throws {@link BootscopeError} `check-ignore` for a field that neither has, `reference-unknown-size` for a limit on nothing
 */
export function checkAgainstReference(
  trace: BootTrace,
  image: KernelImage,
  reference: Reference,
  { ignore = [], limits = [], otherwise = [] }: CheckOptions = {},
): readonly (ReferenceDifference | Growth)[] {
  const actual = recordedTrace(trace, image);
  const unknown = unknownPatterns(ignore, actual, reference);
  if (unknown.length > 0) throw nothingToIgnore('neither the boot nor its reference has', unknown);
  const asked = otherwise.map((name) => `machine.${MACHINE_FIELDS[name] ?? name}`);
  const differences = compareWithReference(actual, reference, [...ignore, ...asked]);
  return [
    ...findGrowth(actual, reference as unknown as Json, limits),
    ...differences.filter((difference) => !isLimited(difference, limits)),
  ];
}

function nothingToIgnore(who: string, unknown: readonly string[]): BootscopeError {
  return new BootscopeError('check-ignore', `${who} no field ${unknown.join(' or ')} that could be ignored`, {
    data: { field: unknown[0]! },
  });
}

/**
 * Reads a reference from a file.
 *
 * @throws {@link BootscopeError} `reference-unusable` where the file is no reference
 */
export async function readReference(path: string): Promise<Reference> {
  const text = new TextDecoder().decode(await readImageFile(path, { what: 'reference' }));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BootscopeError(
      'reference-unusable',
      `${path} is no reference, which is JSON: ${(error as Error).message}`,
    );
  }
  const usable = typeof value === 'object' && value !== null && 'image' in value && 'phases' in value;
  if (!usable) {
    throw new BootscopeError(
      'reference-unusable',
      `${path} is no reference: it has no image and phases (bootscope record writes one)`,
    );
  }
  return value as Reference;
}
