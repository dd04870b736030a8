// A boot held in the hand: to startup_64, its page tables, ten instructions, boot_params, and on to the kernel.

import { readFileSync } from 'node:fs';
import { openBoot, readKernelImage } from '../../src/index.ts';

const path = process.argv[2] ?? 'images/demo/demo-lz4.bzImage';
const session = await openBoot(await readKernelImage(path, readFileSync(path)), { cmdline: 'quiet' });
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

await session.run({ until: 'startup_64' });
const { root, ranges } = session.pageTables();
console.log(`CR3 ${hex(session.registers.cr3)}, page tables at ${hex(root)}`);
for (const { start, end, physical } of ranges) console.log(`  ${hex(start)}-${hex(end)} to ${hex(physical)}`);

const { address, instructions } = await session.step(10);
console.log(`ten instructions on: ${hex(address)}, #${instructions}`);

const bootParams = Number(session.registers.rsi);
const cmdLine = session.memory.u32(bootParams + 0x228);
const entries = session.memory.u8(bootParams + 0x1e8);
console.log(`boot_params ${hex(bootParams)}: ${entries} e820 entries, cmd_line_ptr ${hex(cmdLine)}`);

for await (const { reason, phase, address: at, instructions: count } of session.phases())
  console.log(`${reason} ${phase} at ${hex(at)} #${count}`);
session.close();
