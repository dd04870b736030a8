// Boots an image over and over in one process, as a program does that uses the library: prints the processor time of the first
// boot and of each of the later ones, `openBoot` to the jump, and the peak of memory, as JSON. Run by scripts/bench.ts.

import { readFileSync } from 'node:fs';
import { readKernelImage } from '../dist/index.js';
import { openBoot } from '../dist/session.js';

const [path, engine, cmdline, warmUp, runs] = process.argv.slice(2);

const bytes = readFileSync(path);
const milliseconds = [];
for (let run = 0; run < Number(warmUp) + Number(runs); run++) {
  const startedAt = process.cpuUsage();
  const session = await openBoot(await readKernelImage(path, bytes), { engine, cmdline });
  const stop = await session.run({ until: 'kernel' });
  if (stop.phase !== 'kernel') throw new Error(`the boot ended in ${stop.phase}`);
  session.close();
  const { user, system } = process.cpuUsage(startedAt);
  milliseconds.push((user + system) / 1000);
}
const later = milliseconds.slice(Number(warmUp));
console.log(JSON.stringify({ first: milliseconds[0], later, memory: process.resourceUsage().maxRSS * 1024 }));
