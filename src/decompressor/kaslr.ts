// choose_random_location of the boot stub (choose_kernel_location before 4.7) in TypeScript: which of the addresses that a kernel
// can get it gets for given entropy.

import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';
import type { EntropySource } from './kaslr-entropy.ts';
import { KASLR_FLAG } from './kaslr-generation.ts';
import { bootSeed, drawRandom, type KaslrDraw } from './kaslr-seed.ts';
import { findKaslrSlots, type KaslrInput, type KaslrSlots, physicalSlot } from './kaslr-slots.ts';

const LOADFLAGS = bootParamsOffset('loadflags');

/** What was chosen. */
export interface KaslrChoice {
  /** The kernel's physical address: the given output where nothing was chosen. */
  readonly physical: number;
  /** What handle_relocations works with: an address in [0, 1 GiB) counted from __START_KERNEL_map. */
  readonly virtual: number;
  readonly slots: KaslrSlots;
  readonly draws: readonly KaslrDraw[];
  /** What the stub says with warn(), in order. */
  readonly warnings: readonly string[];
}

/** The seeds of a boot's draws; that of a draw that is not made is 0. */
export interface KaslrSeeds {
  readonly physical: bigint;
  readonly virtual: bigint;
}

/**
 * The seeds of a boot that stands before its choice: boot_params as they are then, with KASLR_FLAG, and as what is printed
 * between the draws changes them. Leaves boot_params as they were.
 */
export function kaslrSeeds(
  input: KaslrInput,
  entropy: EntropySource,
  output: KaslrOutput = { warn: () => {}, debug: () => {} },
): KaslrSeeds {
  const { memory, bootParams } = input;
  const before = memory.copyOut(bootParams, BOOT_PARAMS_SIZE);
  const { draws } = chooseRandomLocation(input, entropy, output);
  memory.view(bootParams, BOOT_PARAMS_SIZE).set(before);
  const seedOf = (wanted: KaslrDraw['purpose']): bigint =>
    draws.find(({ purpose }) => purpose === wanted)?.seed ?? 0n;
  return { physical: seedOf('Physical'), virtual: seedOf('Virtual') };
}

/**
 * One boot's draws over slots and seeds that are known already: the fast way to many.
 *
 * @returns null for an address that is not drawn
 */
export function drawLocation(
  slots: KaslrSlots,
  seeds: KaslrSeeds,
  input: KaslrInput,
  entropy: EntropySource,
): { readonly physical: number | null; readonly virtual: number | null } {
  const { bits, generation } = input;
  const draw = (seed: bigint, count: number): number =>
    Number(drawRandom(seed, bits, entropy, generation.i8254Swapped).random % BigInt(count));
  const physical =
    slots.physicalSlots > 0 ? physicalSlot(slots, draw(seeds.physical, slots.physicalSlots)) : null;
  const virtual =
    generation.kind === 'separate' && slots.virtualSlots > 0
      ? slots.virtualStart + draw(seeds.virtual, slots.virtualSlots) * slots.alignment
      : null;
  return { physical, virtual };
}

/** What `chooseRandomLocation` calls while it works, so that what is printed counts in the next seed as in the guest. */
export interface KaslrOutput {
  /** warn(): printed always. */
  warn(text: string): void;
  /** debug_putstr: printed by stubs with CONFIG_X86_VERBOSE_BOOTUP. */
  debug(text: string): void;
}

/**
 * choose_random_location: sets KASLR_FLAG in boot_params, finds the slots and draws.
 *
 * @param entropy - asked in the stub's order and exactly as often
 */
export function chooseRandomLocation(
  input: KaslrInput,
  entropy: EntropySource,
  output: KaslrOutput = { warn: () => {}, debug: () => {} },
): KaslrChoice {
  const { generation, bits, memory, bootParams } = input;
  const warnings: string[] = [];
  const warn = (text: string): void => {
    warnings.push(text);
    output.warn(text);
  };
  const separate = generation.kind === 'separate';
  const unchanged = { physical: input.output, virtual: input.loadPhysicalAddress };
  const planned = findKaslrSlots(input);
  if (planned.disabled !== null) {
    if (generation.avoids === 'whole') {
      warn(
        generation.optIn
          ? "KASLR disabled: 'kaslr' not on cmdline (hibernation selected)."
          : "KASLR disabled: 'nokaslr' on cmdline.",
      );
    } else {
      output.debug(generation.optIn ? 'KASLR disabled by default...\n' : 'KASLR disabled by cmdline...\n');
    }
    return { ...unchanged, slots: planned, draws: [], warnings };
  }
  if (generation.setsFlag) {
    memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) | KASLR_FLAG);
  }
  if (generation.reportsEntry) {
    output.debug(`booted via startup_${input.startedAt32 === false ? 64 : 32}()\n`);
  }
  for (const text of planned.warnings) {
    warn(text);
  }
  if (planned.tooManyMemmaps) {
    output.debug('Aborted memory entries scan (more than 4 memmap= args)!\n');
  }
  if (planned.aborted) {
    output.debug(`Aborted ${planned.memoryMap} scan (slot_areas full)!\n`);
  }
  const params = memory.view(bootParams, BOOT_PARAMS_SIZE);
  const draws: KaslrDraw[] = [];
  const draw = (purpose: 'Physical' | 'Virtual', count: number): number => {
    const seed = bootSeed(generation.buildString, params, bits);
    if (separate) output.debug(purpose);
    output.debug(separate ? ' KASLR using' : 'KASLR using');
    const numbers = drawRandom(
      seed,
      bits,
      {
        rdrand: () => {
          const value = entropy.rdrand();
          if (value !== null) {
            output.debug(' RDRAND');
          }
          return value;
        },
        rdtsc: () => entropy.rdtsc(() => output.debug(' RDTSC')),
        i8254: (swapped) => {
          output.debug(' i8254');
          return entropy.i8254(swapped);
        },
      },
      generation.i8254Swapped,
    );
    output.debug('...\n');
    const slot = Number(numbers.random % BigInt(count));
    draws.push({ purpose, ...numbers, slots: count, slot });
    return slot;
  };

  let physical = 0;
  if (planned.physicalSlots > 0) {
    physical = physicalSlot(planned, draw('Physical', planned.physicalSlots));
  }
  if (!separate) {
    if (physical === 0 && generation.avoids === 'whole') {
      warn(generation.noRegionWarning);
    } else if (physical === 0) {
      output.debug('KASLR could not find suitable E820 region...\n');
    }
    if (physical < input.output) {
      return { ...unchanged, slots: planned, draws, warnings };
    }
    // One offset for both: the kernel's map moves with its physical address.
    return {
      physical,
      virtual: physical === input.output ? input.loadPhysicalAddress : physical,
      slots: planned,
      draws,
      warnings,
    };
  }
  if (physical === 0) {
    const looked = !planned.tooManyMemmaps && planned.minimum + planned.imageSize <= planned.limit;
    if (generation.since510 && looked) {
      warn('Invalid physical address chosen!\n');
    }
    warn(generation.noRegionWarning);
  }
  const virtual =
    bits === 64 && planned.virtualSlots > 0
      ? planned.virtualStart + draw('Virtual', planned.virtualSlots) * planned.alignment
      : physical;
  return { physical: physical === 0 ? input.output : physical, virtual, slots: planned, draws, warnings };
}
