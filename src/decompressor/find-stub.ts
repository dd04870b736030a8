// Finds the call of extract_kernel (decompress_kernel before 4.6) in a boot stub without symbols, by the shape of its code.
// Three shapes exist, a file each: the 64-bit and the 32-bit stub that copy themselves before decompressing, and the older one
// that hands over a struct moveparams. An image is recognised when exactly one of them fits and its arguments agree with the
// payload.

import type { KernelImage } from '../image/kernel-image.ts';
import { findCopyingStub32 } from './copying-stub-32.ts';
import { findCopyingStub64 } from './copying-stub-64.ts';
import { findMoveParamsStub } from './move-params-stub.ts';
import type { StubDetails, StubLayout } from './stub.ts';
import { walk } from './stub-walk.ts';

/**
 * Finds where the stub calls extract_kernel and how it passes arguments.
 *
 * @returns null when the stub has none of the known shapes, or more than one, or when what it passes does not agree with the
 *   image's payload
 */
export function findStub(image: KernelImage): StubLayout | null {
  return findStubDetails(image)?.layout ?? null;
}

/** Several steps of a boot ask for the same image, and walking the code takes milliseconds. */
const known = new WeakMap<KernelImage, StubDetails | null>();

/** `findStub` with what else the stub's code tells. An image is walked once; its bytes must not change afterwards. */
export function findStubDetails(image: KernelImage): StubDetails | null {
  let details = known.get(image);
  if (details === undefined) {
    details = walkStub(image);
    known.set(image, details);
  }
  return details;
}

function walkStub(image: KernelImage): StubDetails | null {
  const code = image.protectedModeCode;
  const startup32 = walk(code, 0, 32);
  const found = [
    findCopyingStub64(image, startup32),
    findCopyingStub32(image, startup32),
    findMoveParamsStub(image, startup32),
  ].filter((details) => details !== null);
  return found.length === 1 ? found[0]! : null;
}
