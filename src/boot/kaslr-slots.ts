// What KASLR can choose from at one boot, and what many boots choose: one boot up to extract_kernel serves all draws.

import { foreseeKaslr, type KaslrProspect } from '../decompressor/choose-location.ts';
import { findDecompressKernel } from '../decompressor/find-decompress-kernel.ts';
import { drawLocation } from '../decompressor/kaslr.ts';
import { type EntropySource, listedEntropy } from '../decompressor/kaslr-entropy.ts';
import { findKaslrSlots, type KaslrSlots } from '../decompressor/kaslr-slots.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import { findEntry } from './entries/table.ts';
import { machineEntropy } from './kaslr-request.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from './options.ts';
import { HeldBoot } from './session.ts';
import { extractionContext } from './watch/extract-kernel.ts';

/** Values of RDTSC that are tried for an address: some dozen times as many as there are slots. */
const MOST_TRIES = 1_000_000n;

/** One boot's choice; null where nothing is drawn. `virtual` counts from __START_KERNEL_map. */
export interface KaslrLocation {
  readonly physical: number | null;
  readonly virtual: number | null;
}

/** Where KASLR may put a kernel, and where it does put it. */
export interface KaslrSurvey {
  readonly slots: KaslrSlots;
  /** 32 or 64. */
  readonly bits: 32 | 64;
  /** Where the kernel goes without KASLR. */
  readonly output: number;
  /** One a seed, for the seeds 1, 2, 3 and so on. */
  readonly draws: readonly KaslrLocation[];
}

/**
 * Where KASLR may put a kernel on this machine, and where it does.
 *
 * @param draws - how many boots to draw for; boot n has the machine of a boot with the seed n
 * @throws {@link BootscopeError} `kaslr-none` for a kernel without KASLR, `kaslr-not-reached` when extract_kernel was not
 *   reached
 * @example
 * ```ts
 * import { BootscopeError, readKernelImage, surveyKaslr } from 'bootscope';
 *
 * try {
 *   const { draws } = await surveyKaslr(await readKernelImage('demo-xz.bzImage'), { memory: 1 << 30 }, 100);
 *   console.log(draws[0]);
 * } catch (error) {
 *   // The demo kernels are built without KASLR.
 *   console.assert(error instanceof BootscopeError && error.code === 'kaslr-none');
 * }
 * ```
 */
export async function surveyKaslr(
  image: KernelImage,
  asked: Partial<BootOptions>,
  draws: number,
): Promise<KaslrSurvey> {
  const options = { ...DEFAULT_BOOT_OPTIONS, ...asked };
  if (await drawsInEfiStub(image, options)) {
    const { surveyEfiKaslr } = await import('./efi-slots.ts');
    return surveyEfiKaslr(image, options, draws);
  }
  // A stub that draws by itself, or one that is told not to by the machine's seed, is let draw.
  const whole = { ...options, decompress: 'hooked', kaslr: { kind: 'seed', seed: 0n } } as const;
  using session = await HeldBoot.open(image, whole, false);
  await session.run({ until: 'extract_kernel' });
  const context = extractionContext(session.boot);
  if (context === null) {
    const { stopped, notices } = session.trace();
    throw new BootscopeError(
      'kaslr-not-reached',
      `${image.path}: the call of extract_kernel was not reached: ${stopped ?? notices.join('; ')}`,
    );
  }
  const times: number[] = [];
  const prospect = await foreseeKaslr(context, noteTimes(session.machine, times));
  if (prospect === null) {
    throw new BootscopeError('kaslr-none', `${image.path}: this kernel was built without KASLR`);
  }
  const { input } = prospect;
  const slots = findKaslrSlots(input);
  return {
    slots,
    bits: input.bits,
    output: input.output,
    draws: slots.disabled === null ? drawMany(session.machine, slots, prospect, times, draws) : [],
  };
}

/**
 * Values of RDTSC with which the stub draws the given addresses by itself, in the order in which it reads them.
 *
 * @throws BootscopeError `kaslr-slot` where one is none of its slots, or not drawn; `kaslr-none`, `kaslr-not-reached`
 */
export async function entropyFor(
  image: KernelImage,
  options: BootOptions,
  { physical, virtual }: KaslrLocation,
): Promise<readonly bigint[]> {
  const whole = { ...options, decompress: 'hooked', kaslr: { kind: 'seed', seed: 0n } } as const;
  using session = await HeldBoot.open(image, whole, false);
  await session.run({ until: 'extract_kernel' });
  const context = extractionContext(session.boot);
  const prospect = context === null ? null : await foreseeKaslr(context, machineEntropy(session.machine));
  if (prospect === null) {
    throw new BootscopeError(
      'kaslr-none',
      `${image.path}: there is no KASLR here whose choice could be made`,
    );
  }
  const { input, seeds } = prospect;
  const slots = findKaslrSlots(input);
  const find = (
    which: 'physical' | 'virtual',
    wanted: number,
    rdtsc: (value: bigint) => readonly bigint[],
  ): bigint => {
    for (let value = 1n; value < MOST_TRIES; value++) {
      if (drawLocation(slots, seeds, input, listedEntropy(rdtsc(value)))[which] === wanted) return value;
    }
    throw new BootscopeError(
      'kaslr-slot',
      `${image.path}: KASLR does not draw ${hex(wanted)} as ${which} address here; it draws from ${slots.physicalSlots} physical and ` +
        `${slots.virtualSlots} virtual slots`,
    );
  };
  const drawsBoth = slots.virtualSlots > 0 && slots.physicalSlots > 0;
  if (physical === null || (drawsBoth && virtual === null)) {
    throw new BootscopeError(
      'kaslr-slot',
      `${image.path}: the guest's own code draws ${drawsBoth ? 'a physical and a virtual address: give both' : 'a physical address: give it'}`,
    );
  }
  const first = find('physical', physical, (value) => [value, 0n]);
  if (!drawsBoth || virtual === null) return [first];
  return [first, find('virtual', virtual, (value) => [0n, value])];
}

/** Whether the image is started by UEFI firmware, with a stub that chooses before it decompresses by itself. */
async function drawsInEfiStub(image: KernelImage, options: BootOptions): Promise<boolean> {
  const entry = findEntry(image, options.entry);
  if (entry.name !== 'efi' && entry.name !== 'efi-handover') return false;
  return findDecompressKernel((await entry.prepare?.(image)) ?? image) !== null;
}

/** The machine's sources; when each is read is noted: the machine's nanoseconds, behind what is printed. */
function noteTimes(machine: Machine, times: number[]): EntropySource {
  const entropy = machineEntropy(machine);
  const note = (): void => {
    times.push(machine.clock.nanoseconds);
  };
  return {
    rdrand: () => entropy.rdrand(),
    rdtsc: (announce) =>
      entropy.rdtsc(() => {
        announce?.();
        note();
      }),
    i8254: (swapped) => {
      note();
      return entropy.i8254(swapped);
    },
  };
}

/** @param times - when the sources are read in a boot of this guest: the time stamp counter and the i8254 go by it */
function drawMany(
  machine: Machine,
  slots: KaslrSlots,
  { input, seeds }: KaslrProspect,
  times: readonly number[],
  count: number,
): KaslrLocation[] {
  const sources = machineEntropy(machine);
  let reading = 0;
  const setTime = (): void => {
    machine.clock.nanoseconds = times[reading++]!;
  };
  const entropy: EntropySource = {
    rdrand: () => sources.rdrand(),
    rdtsc: () => sources.rdtsc(setTime),
    i8254: (swapped) => {
      setTime();
      return sources.i8254(swapped);
    },
  };
  const draws: KaslrLocation[] = [];
  for (let boot = 1; boot <= count; boot++) {
    reading = 0;
    machine.reseed(BigInt(boot));
    draws.push(drawLocation(slots, seeds, input, entropy));
  }
  return draws;
}
