// What KASLR can choose from where the EFI stub draws by itself, and what many boots choose: one boot up to the kernel shows the map
// that the stub looks at and all that its random numbers are made of.

import { drawEfiLocation, findEfiSlots } from '../decompressor/efi-slots.ts';
import type { EntropySource } from '../decompressor/kaslr-entropy.ts';
import { findKaslr } from '../decompressor/kaslr-generation.ts';
import { bootSeed, drawRandom } from '../decompressor/kaslr-seed.ts';
import { findKernelTotalSize } from '../decompressor/kernel-size.ts';
import { readKernelElf } from '../decompressor/place-kernel.ts';
import { BootscopeError } from '../error.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE } from '../protocol/boot-params.ts';
import type { EfiMemoryDescriptor } from '../protocol/efi-memory-map.ts';
import { EFI_PAGE } from '../protocol/efi-tables.ts';
import { efiProtocolsOf, efiRandom } from './efi-kaslr.ts';
import { machineEntropy } from './kaslr-request.ts';
import type { KaslrSurvey } from './kaslr-slots.ts';
import type { BootOptions } from './options.ts';
import { HeldBoot } from './session.ts';
import { isForKernel } from './watch/efi-kaslr.ts';

/** Bytes that the stub asks the random number protocol for. */
const SEED_SIZE = 8;

interface Asked {
  readonly map: readonly EfiMemoryDescriptor[];
  readonly size: number;
}

/** When the stub reads the time stamp counter, and what could be boot_params then: all pages of LoaderData by address. */
interface TimeStampRead {
  readonly nanoseconds: number;
  readonly pages: ReadonlyMap<number, Uint8Array>;
}

/**
 * @throws BootscopeError `kaslr-none` for a kernel without KASLR, `kaslr-not-reached` where the stub does not come to asking for
 *   memory for the kernel
 */
export async function surveyEfiKaslr(
  given: KernelImage,
  options: BootOptions,
  draws: number,
): Promise<KaslrSurvey> {
  using session = await HeldBoot.open(
    given,
    { ...options, decompress: 'hooked', kaslr: { kind: 'seed', seed: 1n } },
    false,
  );
  const { boot, machine } = session;
  const { image, stub } = boot;
  const generation = stub === null ? null : findKaslr(image, stub);
  if (stub === null || generation === null)
    throw new BootscopeError('kaslr-none', `${image.path}: this kernel was built without KASLR`);
  const firmware = machine.uefi!;
  let asked: Asked | null = null;
  let read: TimeStampRead | null = null;
  firmware.onAllocateAt = (wanted) => {
    if (isForKernel(boot, wanted)) {
      asked ??= { map: firmware.pages.describe(), size: wanted.pages * EFI_PAGE };
    }
    return wanted.address;
  };
  machine.timeStamps = () => {
    if (asked !== null) return null;
    const pages = firmware.allocations.filter(
      ({ type, freedIn, start }) => type === 'LoaderData' && freedIn === null && start % EFI_PAGE === 0,
    );
    read = {
      nanoseconds: machine.clock.nanoseconds,
      pages: new Map(pages.map(({ start }) => [start, machine.memory.copyOut(start, BOOT_PARAMS_SIZE)])),
    };
    return null;
  };
  await session.run({ until: 'kernel' });
  const { map, size } = whatWasAsked(asked, session);
  const { bytes } = await extractVmlinux(image);
  const total = findKernelTotalSize(image, stub, readKernelElf(bytes));
  const slots = findEfiSlots({
    map,
    allocation: size,
    kernelTotalSize: total.bytes,
    loadPhysicalAddress: image.header.get('pref_address'),
    alignment: image.header.get('kernel_alignment'),
    commandLine: options.cmdline,
    softReserve: generation.softReserve,
  });
  const survey = { slots, bits: 64, output: slots.areas[0]?.start ?? 0 } as const;
  const seen = read as TimeStampRead | null;
  const params = seen?.pages.get(Number(session.registers.rsi));
  if (slots.disabled !== null || seen === null || params === undefined) return { ...survey, draws: [] };
  const seed = bootSeed(generation.buildString, params, 64);
  const sources = machineEntropy(machine);
  const entropy: EntropySource = {
    ...sources,
    rdtsc: () =>
      sources.rdtsc(() => {
        machine.clock.nanoseconds = seen.nanoseconds;
      }),
  };
  machine.timeStamps = null;
  const hasRng = efiProtocolsOf(options).includes('rng');
  return {
    ...survey,
    draws: Array.from({ length: draws }, (_, index) => {
      machine.reseed(BigInt(index + 1));
      const rng = hasRng ? littleEndian(efiRandom(machine, options.kaslr)(SEED_SIZE)) : 0n;
      return drawEfiLocation(slots, rng ^ drawRandom(seed, 64, entropy, generation.i8254Swapped).random);
    }),
  };
}

function whatWasAsked(asked: Asked | null, session: HeldBoot): Asked {
  if (asked !== null) return asked;
  const { stopped, notices, hazards } = session.trace();
  const reason = hazards.find(({ code }) => code === 'efi-no-slot')?.text ?? stopped ?? notices.join('; ');
  throw new BootscopeError(
    'kaslr-not-reached',
    `${session.boot.image.path}: the EFI stub asks for no memory for the kernel: ${reason}`,
  );
}

function littleEndian(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}
