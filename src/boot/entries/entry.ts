// What an entry of a boot is: how an image gets into memory and the CPU to its first instruction, and what is watched for then.
// A new one is a file beside this one and a row in table.ts.

import type { KernelImage } from '../../image/kernel-image.ts';
import type { Machine, MachineOptions } from '../../machine/machine.ts';
import type { EntryPoint } from '../../trace/boot-trace.ts';
import type { BootRun } from '../boot-run.ts';
import type { BootOptions } from '../options.ts';
import type { LoadedImage } from './loaded-image.ts';

export interface Entry {
  readonly name: EntryPoint;
  /** What it is, in one clause, for help. */
  readonly summary: string;
  /** Whether it boots such an image; `load` may still refuse one. One name may stand for several rows, each for its own images. */
  accepts(image: KernelImage): boolean;
  /** The guest chooses the kernel's address in code that is never trapped: it is told on the command line not to. */
  readonly drawsItself?: true;
  /** The kernel in an image that it boots, where that is not the image itself. */
  prepare?(image: KernelImage): Promise<KernelImage>;
  /** What the machine must have for it. */
  machine?(image: KernelImage, options: BootOptions): Partial<MachineOptions>;
  /**
   * Puts the image into memory.
   * @throws BootscopeError where image and options do not go together
   */
  load(machine: Machine, image: KernelImage, options: BootOptions): LoadedImage;
  /** Puts the CPU at the first instruction. */
  enter(machine: Machine, loaded: LoadedImage): void;
  /** The CPU stands there: begins the phase, if one begins, and hooks what shows the next. */
  watch(boot: BootRun, loaded: LoadedImage): void;
}

/** It has a setup header, or is from before there was one. */
export function speaksBootProtocol({ kind }: KernelImage): boolean {
  return kind === 'bzImage' || kind === 'zImage';
}
