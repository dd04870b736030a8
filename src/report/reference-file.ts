// Reference files on disk: what `record` writes and `check` reads.

import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { type Json, traceToJson } from './json.ts';
import type { Reference } from './reference.ts';
import { imageSizes } from './size-limits.ts';

/** The trace as a reference holds it: with the sizes that limits can be set on. */
export function recordedTrace(trace: BootTrace, image: KernelImage): { readonly [key: string]: Json } {
  const json = traceToJson(trace) as { readonly [key: string]: Json };
  return { ...json, image: { ...(json.image as object), sizes: imageSizes(image) } };
}

/**
 * @throws BootscopeError `reference-unusable` where the file is no reference
 */
export async function readReference(path: string): Promise<Reference> {
  const text = new TextDecoder().decode(await readImageFile(path, { what: 'reference' }));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BootscopeError('reference-unusable', `${path} is no JSON: ${(error as Error).message}`);
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
