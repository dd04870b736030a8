// Copying what was decompressed before to behind it, the step that all dictionary coders share.

/**
 * Appends to output[0, written) the `length` bytes that start `distance` bytes back; where that is fewer
 * than `length`, they repeat. The caller has checked that both lie in `output`.
 */
export function copyMatch(output: Uint8Array, written: number, distance: number, length: number): void {
  if (length < CALL_PAYS) {
    for (let i = written; i < written + length; i++) output[i] = output[i - distance]!;
    return;
  }
  if (distance === 1) {
    output.fill(output[written - 1]!, written, written + length);
    return;
  }
  // Each copy doubles what is there to copy from.
  for (let copied = 0; copied < length; ) {
    const count = Math.min(distance + copied, length - copied);
    output.copyWithin(written + copied, written - distance, written - distance + count);
    copied += count;
  }
}

/** From this length on a call of copyWithin costs less than a loop. */
const CALL_PAYS = 48;
