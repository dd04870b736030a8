// How many instructions a boot single-steps in a second of processor time, as `bootscope trace --decompress emulated` does it:
// disassembled, with the registers they changed, as lines of text in a file.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBoot } from '../src/boot/session.ts';
import { instructionWriter, limitedBatch } from '../src/cli/instruction-lines.ts';
import type { LineText } from '../src/cli/line-memory.ts';
import type { EngineName } from '../src/cpu/cpu.ts';
import type { KernelImage } from '../src/image/kernel-image.ts';

/** With the WASM engine only as many as come before the guest's own decompression, in which it may hang. */
const STEPS: Readonly<Record<EngineName, number>> = { native: 10_000_000, wasm: 300_000 };

/** Steps through the beginning of the boot, from setup's first instruction on, natively far into the guest's own decompression. */
export async function measureStepRate(image: KernelImage, engine: EngineName): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-steps-'));
  try {
    using session = await openBoot(image, {
      ...{ engine, decompress: 'emulated', cmdline: 'nokaslr', timeoutSeconds: null },
      ...{ hash: false, pageTables: false, shortcuts: 'instructions', events: false },
    });
    const writer = instructionWriter(join(folder, 'trace'), false, 'text', false);
    const enough = new AbortController();
    let left = STEPS[engine];
    const wrote = (lines: number): void => {
      left -= lines;
      if (left <= 0) enough.abort();
    };
    const startedAt = process.cpuUsage();
    const stream = session.stream<LineText>({
      syntax: 'gas',
      describe: (instruction) => writer.prefix(instruction, () => null),
      executed: (prefix, iterations, changes, details) => {
        writer.instruction(prefix, iterations, changes, details);
        wrote(1);
      },
      batch: limitedBatch(writer.batch, () => Math.max(0, left), wrote),
    });
    await session.run({ signal: enough.signal });
    stream.finish(Number(session.stop.address));
    writer.output.end();
    const { user, system } = process.cpuUsage(startedAt);
    return (stream.count / (user + system)) * 1e6;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
