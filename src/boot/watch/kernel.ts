// The jump into the kernel: where it lies, with what addresses, and what its segments hold.

import type { Extraction } from '../../decompressor/extract-kernel.ts';
import { readKernelFileParts } from '../../decompressor/kernel-sections.ts';
import { locateKernel } from '../../decompressor/locate-kernel.ts';
import { BootscopeError } from '../../error.ts';
import { sha256Hex } from '../../host/host.ts';
import { extractVmlinux } from '../../image/extract-vmlinux.ts';
import type { KernelAtJump } from '../../trace/boot-trace.ts';
import { bootParamsAtJump } from '../../trace/decode/boot-params.ts';
import type { BootRun } from '../boot-run.ts';
import { recordGuestKernel, recordKernel } from '../record-placements.ts';

type Placed = Pick<Extraction, 'output' | 'virtualBase' | 'segments'>;

/**
 * The CPU stands at the kernel's first instruction.
 * @param placed - where the kernel lies, for whom it has loaded itself
 */
export async function onKernel(boot: BootRun, entry: number, placed: Placed | null = null): Promise<void> {
  await describeEntry(boot, entry, placed);
  boot.finish();
}

/** The same for a kernel that goes on. */
export async function enterKernel(boot: BootRun, entry: number, placed: Placed | null): Promise<void> {
  await describeEntry(boot, entry, placed);
  hashKernel(boot);
}

async function describeEntry(boot: BootRun, entry: number, placed: Placed | null): Promise<void> {
  const { extraction } = boot.found;
  const there = placed ?? extraction ?? (await locate(boot, entry));
  const isPlaced = boot.record.placements.present.some(({ role }) => role === 'kernel-segment');
  if (!isPlaced && extraction !== null) recordKernel(boot, extraction);
  else if (!isPlaced) recordGuestKernel(boot, there);
  boot.beginPhase('kernel');
  boot.found.kernel = describeKernel(boot, entry, there);
  // By PVH the kernel makes them itself.
  if (boot.found.loaded!.entry === 'pvh') return;
  boot.found.bootParamsAtJump = bootParamsAtJump(boot.machine.memory, boot.found.kernel.bootParams);
}

function describeKernel(boot: BootRun, entry: number, placed: Placed): KernelAtJump {
  const entryMode = boot.mode.read() === 'long64' ? 'long64' : 'prot32';
  const rsi = boot.cpu.readRegister('rsi');
  return {
    entry: BigInt(entry),
    physicalBase: placed.output,
    virtualBase: placed.virtualBase,
    bootParams: entryMode === 'long64' ? rsi : rsi & 0xffff_ffffn,
    entryMode,
    segments: placed.segments.map((segment) => ({ ...segment, sha256: null })),
  };
}

/**
 * Hashes the kernel's segments as they lie in memory, once: before anything changes there after the jump, and for who wants to
 * know. It takes longer than a small kernel's boot.
 */
export function hashKernel(boot: BootRun): void {
  const { kernel } = boot.found;
  if (kernel === null || !boot.options.hash) return;
  const { memory } = boot.machine;
  boot.found.kernel = {
    ...kernel,
    segments: kernel.segments.map((segment) => ({
      ...segment,
      sha256: segment.sha256 ?? sha256Hex(memory.viewUpTo(Number(segment.paddr), Number(segment.filesz))),
    })),
  };
}

/** Where the kernel lies when the guest has decompressed it: known where its payload can be read here, too. */
async function locate({ image, machine, record, found }: BootRun, entry: number): Promise<Placed> {
  const entryAlone = (reason: string): Placed => {
    record.notice(`${reason}: the kernel is known by its entry alone, not by its segments`);
    return { output: BigInt(entry), virtualBase: BigInt(entry), segments: [] };
  };
  if (image.payload === null) return entryAlone('the payload is in no known format');
  let bytes: Uint8Array;
  try {
    ({ bytes } = await extractVmlinux(image, { unchecked: true }));
  } catch (error) {
    // Not every decompressor of the kernel's checks all that ours do.
    if (!(error instanceof BootscopeError) || !error.code.startsWith('codec-')) throw error;
    return entryAlone(`the guest took a payload that is damaged (${error.message})`);
  }
  const located = locateKernel(image, bytes, machine.memory, entry);
  found.kernelFile = readKernelFileParts(bytes, located.segments);
  return located;
}
