// What the KASLR option means for one boot: which entropy the stub's random numbers are made of, and where it comes from.

import { hasOption } from '../decompressor/command-line.ts';
import type { KaslrRequest } from '../decompressor/extract-kernel.ts';
import { findStub } from '../decompressor/find-stub.ts';
import { type EntropySource, type KaslrOption, listedEntropy } from '../decompressor/kaslr-entropy.ts';
import { findKaslr } from '../decompressor/kaslr-generation.ts';
import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { Machine } from '../machine/machine.ts';
import type { DecompressMode } from '../trace/boot-trace.ts';
import type { BootOptions } from './options.ts';

const PIT_CONTROL = 0x43;
const PIT_COUNTER_0 = 0x40;
/** Read-back of status and count of counter 0. */
const READ_BACK_COUNTER_0 = 0xc2;
/** The counter holds no count yet. */
const STATUS_NULL_COUNT = 0x40;

/**
 * The command line under which the guest's own code does what the KASLR option says: with `off`, a kernel that would draw an
 * address gets `nokaslr`.
 */
export function cmdlineForGuest(image: KernelImage, options: Pick<BootOptions, 'cmdline' | 'kaslr'>): string {
  const { cmdline, kaslr } = options;
  if (kaslr.kind !== 'off' || hasOption(cmdline, 'nokaslr')) return cmdline;
  const stub = findStub(image);
  if (stub === null || findKaslr(image, stub) === null) return cmdline;
  return `${cmdline} nokaslr`.trim();
}

/** The seed of the machine's entropy; 0 where the user names none. */
export function machineSeed(option: KaslrOption): bigint {
  return option.kind === 'seed' ? option.seed : 0n;
}

/**
 * @throws BootscopeError `kaslr-emulated` for what only works when extract_kernel is done in TypeScript
 */
export function kaslrRequest(
  option: KaslrOption,
  machine: Machine,
  decompress: DecompressMode,
): KaslrRequest {
  const { cpuid } = machine;
  if (decompress === 'emulated' && option.kind === 'entropy' && cpuid.hasTsc && !cpuid.hasRdrand) {
    // The guest's own RDTSC gives them.
    const values = [...option.rdtsc];
    machine.timeStamps = () => values.shift() ?? null;
    return { kind: 'draw', entropy: machineEntropy(machine) };
  }
  if (decompress === 'emulated' && (option.kind === 'entropy' || option.kind === 'forced')) {
    throw new BootscopeError(
      'kaslr-emulated',
      `the guest draws its own addresses where it decompresses by itself; KASLR by ${option.kind === 'forced' ? 'phys:' : 'entropy: on a processor with RDRAND or without TSC'} ` +
        'needs hooked decompression, by seed: it works with both',
    );
  }
  switch (option.kind) {
    case 'seed':
      return { kind: 'draw', entropy: machineEntropy(machine) };
    case 'entropy':
      return { kind: 'draw', entropy: listedEntropy(option.rdtsc) };
    default:
      return option;
  }
}

/** The sources the guest's own code would ask, by the same accesses in the same order. */
export function machineEntropy(machine: Machine): EntropySource {
  const { cpuid, ports } = machine;
  return {
    rdrand: () => (cpuid.hasRdrand ? machine.rdrand() : null),
    rdtsc: (announce) => {
      if (!cpuid.hasTsc) return null;
      announce?.();
      return machine.rdtsc();
    },
    i8254: (swapped) => {
      for (;;) {
        if (swapped) ports.write(READ_BACK_COUNTER_0, 1, PIT_CONTROL);
        else ports.write(PIT_CONTROL, 1, READ_BACK_COUNTER_0);
        const status = ports.read(PIT_COUNTER_0, 1);
        const count = ports.read(PIT_COUNTER_0, 1) | (ports.read(PIT_COUNTER_0, 1) << 8);
        if ((status & STATUS_NULL_COUNT) === 0) return count;
      }
    },
  };
}
