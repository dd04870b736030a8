// What init_size of the setup header must hold at least. A stub that copies itself ends its copy at the end of init_size and
// unpacks the kernel to the start, so too small a number makes one of them overwrite the other.

import type { KernelImage } from '../image/kernel-image.ts';
import type { ExtractedSegment } from './extraction.ts';
import type { StubDetails } from './stub.ts';

/** A number of bytes, and what has that size. */
export interface InitSizeNeed {
  readonly bytes: number;
  readonly what: string;
}

/**
 * @param details - null where the stub was not recognised
 * @param segments - of the kernel, as far as they are known
 * @returns all that is known; none for a stub that does not work with init_size
 */
export function initSizeNeeds(
  image: KernelImage,
  details: StubDetails | null,
  segments: readonly Pick<ExtractedSegment, 'paddr' | 'memsz'>[],
): readonly InitSizeNeed[] {
  const needs: InitSizeNeed[] = [];
  const end = details?.end ?? null;
  const { payload } = image;
  if (end !== null && details !== null && details.linkBase === 0) {
    needs.push({ bytes: end, what: 'the stub has with bss, heap and stack' });
    if (payload?.outputLength != null) {
      // Both streams run upwards: the output may not overtake the input, at the latest at its end.
      const behindInput = end - (payload.offset + payload.length);
      needs.push({
        bytes: payload.outputLength + behindInput,
        what: 'the kernel takes as it is decompressed, with the code that does so behind it',
      });
    }
  }
  if (segments.length > 0) {
    const starts = segments.map(({ paddr }) => Number(paddr));
    const ends = segments.map(({ paddr, memsz }) => Number(paddr + memsz));
    const bytes = Math.max(...ends) - Math.min(...starts);
    needs.push({ bytes, what: "the kernel's segments take" });
  }
  return needs;
}
