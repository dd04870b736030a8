// extract_kernel (decompress_kernel before 4.6) in TypeScript: takes its arguments where the stub put them, checks them as the
// function does, decompresses into guest memory, places the segments, relocates, and says where the kernel begins.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import {
  chooseLocation,
  disabledMessage,
  kaslrMode,
  LONGEST_KERNEL,
  loadAddressHint,
} from './choose-location.ts';
import { readArguments } from './extract-arguments.ts';
import type { Extraction, ExtractionContext } from './extraction.ts';
import { beginExtraction, type ExtractionState } from './extraction-state.ts';
import { payloadBytes } from './guest-halt.ts';
import { decompressMoved } from './move-params.ts';
import { placeExtracted } from './place-extracted.ts';
import { prepareBootParams } from './prepare-boot-params.ts';
import { efiBits } from './root-pointer.ts';

export type {
  ArgumentRegister,
  ExtractedSegment,
  Extraction,
  ExtractionContext,
  ExtractionStep,
  KaslrRequest,
  WrittenRange,
} from './extraction.ts';

/**
 * Does what extract_kernel does, up to its return; the caller then returns to the stub with `returnValue`.
 *
 * Equal to the guest's own function: all memory outside the stub, boot_params, text on screen and serial port, page tables with
 * their accessed and dirty bits, entropy asked for. Different: the stub's own variables, heap and stack, and the registers a
 * function may change. Left out: SEV and TDX, unaccepted memory, immovable
 * memory of ACPI's SRAT.
 *
 * @throws BootscopeError `guest-error` where the guest's function would print an error and halt (the message quotes the
 *   kernel's), `stub-arguments` when the arguments do not fit the image, `stub-memory` when RAM is too small for the output
 */
export async function extractKernel(context: ExtractionContext): Promise<Extraction> {
  const { image, stub } = context;
  const payload = image.payload;
  if (payload === null) {
    throw new BootscopeError(
      'stub-payload',
      'the image has no payload that could be decompressed: no codec magic was found in its protected-mode code',
    );
  }
  if (stub.abi === 'moveparams') {
    return decompressMoved(context);
  }
  const passed = readArguments(context, payload.offset, payload.length);
  return run(beginExtraction(context, passed));
}

/** The steps of the function in its order. */
async function run(state: ExtractionState): Promise<Extraction> {
  const byEfi = efiBits(state.context.memory, state.passed.bootParams) !== null;
  prepareBootParams(state);
  const mode = kaslrMode(state);
  const chooses = mode.kind !== 'off';
  const disabled = disabledMessage(state);
  const { inputAddress, output } = state.passed;
  const input = payloadBytes(state.context, inputAddress);
  if (!chooses && !state.messages.verbose) {
    // Nothing depends on what comes out: straight to its place.
    disabled?.();
    checkDestination(state, output);
    state.messages.decompressing(byEfi);
    const length = await state.halt.decompress(input, destination(state, output), inputAddress);
    return placeExtracted(state, output, loadAddressHint(state), length);
  }
  // The choice needs the size of the kernel, which only its headers tell.
  const { image, memory } = state.context;
  const room = image.payload!.outputLength ?? Math.min(memory.bytesFrom(output), LONGEST_KERNEL);
  const bytes = await state.halt.decompressed(input, room, inputAddress);
  const chosen = chooseLocation(state, bytes, mode, disabled);
  checkDestination(state, chosen.physical);
  state.messages.decompressing(byEfi);
  destination(state, chosen.physical, bytes.length).set(bytes);
  return placeExtracted(state, chosen.physical, chosen.virtual, bytes.length);
}

/** Where the decompressed kernel goes in RAM. */
function destination(
  state: ExtractionState,
  output: number,
  length = state.context.image.payload!.outputLength,
): Uint8Array {
  const { memory } = state.context;
  const room = length ?? memory.bytesFrom(output);
  if (room <= 0 || !memory.contains(output, room)) {
    throw new BootscopeError(
      'stub-memory',
      `the kernel needs ${hex(Math.max(room, 0))} bytes at ${hex(output)}, RAM ends at ${hex(memory.end)}`,
    );
  }
  return memory.view(output, room);
}

/** The checks of extract_kernel between the choice and the decompression. */
function checkDestination(state: ExtractionState, output: number): void {
  const { image, stub, zo } = state.context;
  const { header } = image;
  // MIN_KERNEL_ALIGN; older stubs check against CONFIG_PHYSICAL_ALIGN, which is kernel_alignment.
  const alignment = header.has('min_alignment')
    ? 2 ** header.get('min_alignment')
    : header.get('kernel_alignment');
  if (alignment > 0 && output % alignment !== 0) {
    state.halt.stop(
      [
        'Destination physical address inappropriately aligned',
        'Destination address inappropriately aligned',
        'Destination address not CONFIG_PHYSICAL_ALIGN aligned',
        'Destination address not 2M aligned',
      ],
      `${hex(output)} is no multiple of ${hex(alignment)}`,
    );
  }
  if (stub.bits === 64 && zo > 0x3fffffffffff) {
    state.halt.stop(['Destination address too large'], `the heap lies above ${hex(0x3fffffffffff)}`);
  }
  const preferred = header.get('pref_address');
  const fixed = header.has('relocatable_kernel') && header.get('relocatable_kernel') === 0;
  if (fixed && preferred !== 0 && output !== preferred) {
    state.halt.stop(
      [
        'Destination address does not match LOAD_PHYSICAL_ADDR',
        'Destination virtual address changed when not relocatable',
        'Wrong destination address',
      ],
      `${hex(output)} is not ${hex(preferred)}, and the kernel cannot be moved`,
    );
  }
}
