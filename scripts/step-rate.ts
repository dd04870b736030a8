// How many instructions a boot single-steps in a second of processor time, as `bootscope trace` does it: disassembled, with the
// registers they changed, as lines of text in a file.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { enterReal16, loadReal16 } from '../src/boot/entries/real16.ts';
import { InstructionStream } from '../src/boot/instruction-stream.ts';
import { DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import { instructionWriter, type LinePiece } from '../src/cli/instruction-lines.ts';
import { LineOutput } from '../src/cli/line-output.ts';
import type { EngineName } from '../src/cpu/cpu.ts';
import { openCpu } from '../src/cpu/open.ts';
import type { KernelImage } from '../src/image/kernel-image.ts';
import { Machine } from '../src/machine/machine.ts';

/** With the WASM engine only as many as take some seconds; most of these go by in iterations of repeated strings. */
const INSTRUCTIONS: Readonly<Record<EngineName, number>> = { native: 2_000_000, wasm: 300_000 };
const SLICE_MILLISECONDS = 50;

/** Steps through the beginning of the boot, from setup's first instruction on, natively into the guest's own decompression. */
export async function measureStepRate(image: KernelImage, engine: EngineName): Promise<number> {
  const instructions = INSTRUCTIONS[engine];
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-steps-'));
  const cpu = await openCpu({ engine });
  try {
    const machine = new Machine(cpu, { memory: DEFAULT_BOOT_OPTIONS.memory });
    enterReal16(machine, loadReal16(machine, image, DEFAULT_BOOT_OPTIONS));
    const output = new LineOutput(join(folder, 'trace'), false);
    const writer = instructionWriter(output, 'text', false);
    const stream = new InstructionStream<LinePiece>(machine, {
      syntax: 'gas',
      describe: (instruction) => writer.prefix(instruction, () => null),
      executed: (prefix, iterations, changes, details) => {
        writer.instruction(prefix, iterations, changes, details);
        if (stream.count >= instructions) cpu.stop();
      },
    });
    const startedAt = process.cpuUsage();
    stream.start();
    while (stream.count < instructions) {
      stream.resumed();
      const end = cpu.run({ sliceMilliseconds: SLICE_MILLISECONDS });
      if (end.kind === 'slice') machine.afterSlice();
      else if (end.kind !== 'stopped' || machine.stopReason !== null) break;
    }
    stream.finish(Number(cpu.readRegister('rip')));
    output.end();
    const { user, system } = process.cpuUsage(startedAt);
    return (stream.count / (user + system)) * 1e6;
  } finally {
    cpu.close();
    rmSync(folder, { recursive: true });
  }
}
