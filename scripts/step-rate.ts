// How many instructions a second a boot single-steps, disassembly and register changes included.

import { type DecodedInstruction, InstructionStream } from '../src/boot/instruction-stream.ts';
import { DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import { enterReal16, loadReal16 } from '../src/boot/real16.ts';
import type { EngineName } from '../src/cpu/cpu.ts';
import { openCpu } from '../src/cpu/open.ts';
import type { KernelImage } from '../src/image/kernel-image.ts';
import { Machine } from '../src/machine/machine.ts';

const INSTRUCTIONS = 1_000_000;
const SLICE_MILLISECONDS = 50;

/** Steps through the first million instructions of the boot, from setup's first on. */
export async function measureStepRate(image: KernelImage, engine: EngineName): Promise<number> {
  const cpu = await openCpu({ engine });
  try {
    const machine = new Machine(cpu, { memory: DEFAULT_BOOT_OPTIONS.memory, hideUncontrolledTsc: true });
    enterReal16(machine, loadReal16(machine, image, DEFAULT_BOOT_OPTIONS));
    const stream = new InstructionStream<DecodedInstruction>(machine, {
      syntax: 'intel',
      describe: (instruction) => instruction,
      executed: () => {
        if (stream.count >= INSTRUCTIONS) cpu.stop();
      },
    });
    const startedAt = performance.now();
    stream.start();
    while (stream.count < INSTRUCTIONS) {
      const end = cpu.run({ sliceMilliseconds: SLICE_MILLISECONDS });
      if (end.kind === 'slice') machine.afterSlice();
      else if (end.kind !== 'stopped' || machine.stopReason !== null) break;
    }
    stream.stop();
    return (stream.count / (performance.now() - startedAt)) * 1000;
  } finally {
    cpu.close();
  }
}
