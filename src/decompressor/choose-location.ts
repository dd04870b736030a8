// Where extract_kernel puts the kernel: what keeps KASLR from choosing, what it chooses, or the addresses that a user forces.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';
import { hasOption } from './command-line.ts';
import { type ExtractArguments, readArguments } from './extract-arguments.ts';
import { type ExtractionContext, type KaslrRequest, loadPhysicalAddressOf } from './extraction.ts';
import { beginExtraction, type ExtractionState } from './extraction-state.ts';
import { findStubDetails } from './find-stub.ts';
import { payloadBytes } from './guest-halt.ts';
import { chooseRandomLocation, type KaslrOutput, type KaslrSeeds, kaslrSeeds } from './kaslr.ts';
import type { EntropySource } from './kaslr-entropy.ts';
import { findKaslr, KASLR_FLAG, type KaslrGeneration } from './kaslr-generation.ts';
import { mapForKaslr } from './kaslr-page-tables.ts';
import type { KaslrInput } from './kaslr-slots.ts';
import { findKernelTotalSize } from './kernel-size.ts';
import { type KernelElf, readKernelElf, startsWithElf } from './place-kernel.ts';
import { prepareBootParams } from './prepare-boot-params.ts';
import { findStrayStores } from './stray-stores.ts';
import { findTrampolineVariable } from './stub-messages.ts';
import { stubHasText } from './stub-text.ts';

const LOADFLAGS = bootParamsOffset('loadflags');
/** Room for a kernel whose size nothing tells. */
export const LONGEST_KERNEL = 2 ** 31;

export function kaslrMode(state: ExtractionState): KaslrRequest {
  const request = state.context.kaslr ?? { kind: 'off' };
  if (request.kind === 'draw' && findKaslr(state.context.image, state.context.stub) === null) {
    state.notices.push('this stub was built without CONFIG_RANDOMIZE_BASE: nothing is drawn');
    return { kind: 'off' };
  }
  return request;
}

/** Prints what the stub says when the command line keeps it from randomising; null where it says nothing. */
export function disabledMessage(state: ExtractionState): (() => void) | null {
  const { image } = state.context;
  const warnings = {
    optIn: "KASLR disabled: 'kaslr' not on cmdline (hibernation selected).",
    optOut: "KASLR disabled: 'nokaslr' on cmdline.",
  };
  // To 4.6, and only with CONFIG_X86_VERBOSE_BOOTUP.
  const notes = { optIn: 'KASLR disabled by default...\n', optOut: 'KASLR disabled by cmdline...\n' };
  for (const { optIn, optOut } of state.messages.verbose ? [warnings, notes] : [warnings]) {
    const text = stubHasText(image, optIn) ? optIn : optOut;
    const says =
      text === optIn ? !hasOption(state.commandLine, 'kaslr') : hasOption(state.commandLine, 'nokaslr');
    if (says && stubHasText(image, text)) {
      return () => (optIn === warnings.optIn ? state.console.warn(text) : state.console.put(text));
    }
  }
  return null;
}

/** LOAD_PHYSICAL_ADDR as far as the header tells; the decompressed kernel's own where it does not. */
export function loadAddressHint(state: ExtractionState): number | null {
  const preferred = state.context.image.header.get('pref_address');
  return preferred !== 0 ? preferred : null;
}

/** Reports the sizes as a verbose stub does, and finds the place for the kernel. */
export function chooseLocation(
  state: ExtractionState,
  bytes: Uint8Array,
  mode: KaslrRequest,
  disabled: (() => void) | null,
): { physical: number; virtual: number | null } {
  const { image, stub, memory } = state.context;
  const { output, bootParams } = state.passed;
  const unchanged = { physical: output, virtual: loadAddressHint(state) };
  if (!startsWithElf(bytes)) {
    return unchanged;
  }
  const { elf, total, rounded } = reportSizes(state, bytes);
  const generation = findKaslr(image, stub);
  if (mode.kind === 'off') {
    disabled?.();
    return unchanged;
  }
  const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
  const alignment = image.header.get('kernel_alignment') || 2 ** 21;
  if (mode.kind === 'forced') {
    if (generation?.setsFlag === true) {
      memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) | KASLR_FLAG);
    }
    const place = forced(state, mode, rounded, alignment, loadPhysicalAddress);
    if (generation !== null) {
      const input = kaslrInput(state.context, state.passed, generation, elf, bytes.length, total.bytes);
      mapForKaslr(state, input, place.physical, rounded);
    }
    return place;
  }
  if (!total.confirmed && !looksAtLengthAlone(image, generation!)) {
    state.notices.push(
      `the kernel's size with bss (${hex(total.bytes)}) is taken from its program headers; the stub's code does not show it`,
    );
  }
  const input = kaslrInput(state.context, state.passed, generation!, elf, bytes.length, total.bytes);
  const choice = chooseRandomLocation(input, mode.entropy, printer(state));
  if (choice.slots.disabled === null) {
    mapForKaslr(state, input, choice.slots.physicalSlots > 0 ? choice.physical : null, rounded);
  }
  state.kaslr = choice;
  state.notices.push(...choice.slots.notices);
  return { physical: choice.physical, virtual: stub.bits === 64 ? choice.virtual : null };
}

/** What a verbose stub tells of sizes and addresses, and what of them the choice needs. */
function reportSizes(
  state: ExtractionState,
  bytes: Uint8Array,
): {
  readonly elf: KernelElf;
  readonly total: ReturnType<typeof kernelTotalSize>;
  /** Bytes that the kernel needs, as the stub rounds them. */
  readonly rounded: number;
} {
  const { image, stub, zo, memory } = state.context;
  const { output, inputAddress, inputLength } = state.passed;
  const elf = readKernelElf(bytes);
  const generation = findKaslr(image, stub);
  const total = kernelTotalSize(state.context, state.passed, elf);
  const needed = Math.max(bytes.length, total.bytes);
  const rounded = generation?.roundsSize === false || stub.bits === 32 ? needed : alignTwoMib(needed);
  const variable = state.messages.verbose ? findTrampolineVariable(image, stub) : null;
  state.messages.values(
    {
      input_data: inputAddress,
      input_len: inputLength,
      output,
      output_len: bytes.length,
      run_size: total.bytes,
      kernel_total_size: total.bytes,
      needed_size: rounded,
    },
    variable === null ? null : memory.read64(zo + variable),
  );
  return { elf, total, rounded };
}

function printer(state: ExtractionState): KaslrOutput {
  return {
    warn: (text) => state.console.warn(text),
    debug: (text) => state.messages.debug(text),
  };
}

function forced(
  state: ExtractionState,
  mode: { readonly physical: number | null; readonly virtual: number | null },
  size: number,
  alignment: number,
  loadPhysicalAddress: number,
): { physical: number; virtual: number } {
  const physical = mode.physical ?? state.passed.output;
  const virtual = mode.virtual ?? loadPhysicalAddress;
  const { memory, stub, zo, image } = state.context;
  for (const [name, value] of [
    ['physical', physical],
    ['virtual', virtual],
  ] as const) {
    if (value % alignment !== 0) {
      throw new BootscopeError(
        'kaslr-forced',
        `the forced ${name} address ${hex(value)} is no multiple of ${hex(alignment)}`,
      );
    }
  }
  if (physical < loadPhysicalAddress && physical < state.passed.output) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced physical address ${hex(physical)} lies below ${hex(loadPhysicalAddress)}, where the kernel may begin`,
    );
  }
  if (!memory.contains(physical, size)) {
    throw new BootscopeError(
      'kaslr-forced',
      `a kernel of ${hex(size)} bytes at ${hex(physical)} does not fit into RAM, which ends at ${hex(memory.end)}`,
    );
  }
  // Decompressing in place is safe at the output alone; elsewhere the kernel must keep clear of the stub.
  const stubEnd = zo + (state.details?.end ?? image.protectedModeCode.length);
  if (physical !== state.passed.output && physical < stubEnd && physical + size > state.passed.inputAddress) {
    throw new BootscopeError(
      'kaslr-forced',
      `a kernel of ${hex(size)} bytes at ${hex(physical)} lies over the compressed one at ${hex(state.passed.inputAddress)} to ${hex(stubEnd)}`,
    );
  }
  if (stub.bits === 64 && (virtual < loadPhysicalAddress || virtual + size > 2 ** 30)) {
    throw new BootscopeError(
      'kaslr-forced',
      `the forced virtual address ${hex(virtual)} is outside ${hex(loadPhysicalAddress)} to ${hex(2 ** 30 - size)}`,
    );
  }
  return { physical, virtual };
}

/** The first kernels with KASLR look at the decompressed length alone, until they are passed run_size too. */
function looksAtLengthAlone(image: KernelImage, generation: KaslrGeneration): boolean {
  return generation.avoids === 'parts' && (findStubDetails(image)?.argumentCount ?? 0) <= 6;
}

/** The kernel's size with bss and brk, as the stub knows it. */
function kernelTotalSize(
  context: ExtractionContext,
  passed: ExtractArguments,
  elf: KernelElf,
): { readonly bytes: number; readonly confirmed: boolean } {
  return passed.runSize === null
    ? findKernelTotalSize(context.image, context.stub, elf)
    : { bytes: passed.runSize, confirmed: true };
}

function kaslrInput(
  context: ExtractionContext,
  passed: ExtractArguments,
  generation: KaslrGeneration,
  elf: KernelElf,
  outputLength: number,
  totalSize: number,
): KaslrInput {
  const { image, stub, zo, memory } = context;
  const details = findStubDetails(image);
  const heap = details?.heap ?? null;
  const stackEnd = details?.stackEnd ?? null;
  const cr3 = stub.bits === 64 ? Number(context.readRegister('cr3')) : 0;
  return {
    bits: stub.bits,
    generation,
    memory,
    bootParams: passed.bootParams,
    input: passed.inputAddress,
    inputLength: passed.inputLength,
    output: passed.output,
    outputSize: looksAtLengthAlone(image, generation) ? outputLength : Math.max(outputLength, totalSize),
    loadPhysicalAddress: loadPhysicalAddressOf(image, elf),
    alignment: image.header.get('kernel_alignment') || 2 ** 21,
    startedAt32: cr3 >= zo && cr3 < zo + (details?.end ?? 0),
    ...(heap !== null && stackEnd !== null ? { heapAndStack: { start: zo + heap, end: zo + stackEnd } } : {}),
  };
}

/** What the stub's console and its variables may touch besides boot_params. */
const VIDEO_MEMORY = { start: 0xb0000, end: 0xc0000 };

/** What KASLR would choose from, and the seeds of what it would draw. */
export interface KaslrProspect {
  readonly input: KaslrInput;
  readonly seeds: KaslrSeeds;
}

/**
 * What KASLR would do in a guest that stands at the first instruction of extract_kernel. Memory is as it was afterwards; the
 * machine's ports have seen what is printed, and the time that it takes is gone.
 *
 * @param entropy - asked once as a boot does: what it has to say decides what is printed, and so the second seed
 * @returns null for a stub without KASLR
 * @throws BootscopeError as `extractKernel`
 */
export async function foreseeKaslr(
  context: ExtractionContext,
  entropy: EntropySource,
): Promise<KaslrProspect | null> {
  const { image, stub, memory } = context;
  const payload = image.payload;
  const generation = payload === null ? null : findKaslr(image, stub);
  if (payload === null || generation === null) {
    return null;
  }
  const passed = readArguments(context, payload.offset, payload.length);
  const state = beginExtraction(context, passed);
  const room = payload.outputLength ?? Math.min(memory.bytesFrom(passed.output), LONGEST_KERNEL);
  const bytes = await state.halt.decompressed(
    payloadBytes(context, passed.inputAddress),
    room,
    passed.inputAddress,
  );
  const stray = findStrayStores(image, state.details);
  const saved = [
    { start: passed.bootParams, end: passed.bootParams + BOOT_PARAMS_SIZE },
    VIDEO_MEMORY,
    ...stray.map(({ address }) => ({ start: address, end: address + 4 })),
  ].map(({ start, end }) => ({ start, bytes: memory.viewUpTo(start, end - start).slice() }));
  try {
    prepareBootParams(state);
    const { elf, total } = reportSizes(state, bytes);
    const input = kaslrInput(context, passed, generation, elf, bytes.length, total.bytes);
    return { input, seeds: kaslrSeeds(input, entropy, printer(state)) };
  } finally {
    for (const piece of saved) memory.viewUpTo(piece.start, piece.bytes.length).set(piece.bytes);
  }
}

function alignTwoMib(value: number): number {
  return Math.ceil(value / 2 ** 21) * 2 ** 21;
}
