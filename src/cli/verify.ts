// `bootscope verify IMAGE`: the trap and the guest's own extract_kernel must leave the same memory and registers.

import type { Command } from 'commander';
import { type Verification, verify } from '../boot/verify.ts';
import { hex } from '../hex.ts';
import { type Json, toJson } from '../report/json.ts';
import { formatColumns } from '../report/table.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { withProgress } from './progress.ts';
import { printJson, printText } from './text-output.ts';

interface Flags extends BootFlags {
  readonly json?: boolean;
}

export function registerVerify(program: Command): void {
  const command = program
    .command('verify')
    .description(
      "boot IMAGE both ways, with extract_kernel in TypeScript and with the guest's own, and compare memory and\n" +
        'registers at the jump; exit status 1 when something differs without a reason',
    )
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope verify vmlinuz', "before a new kernel's layout is relied on"],
    ['bootscope verify vmlinuz --kaslr seed:1 --json', 'with KASLR, for a script'],
  ]);
  addBootOptions(command, { without: ['decompress', 'hash', 'fromState'] });
  addJsonOption(command, 'the comparison').action(async (path: string | undefined, flags: Flags) => {
    const { image, options } = await readBootRequest(path, flags);
    // All memory is compared, what the hashes are of with it: they are made where they are shown. Events are shown nowhere.
    const shown = { ...options, hash: flags.json === true, events: false };
    const result = await withProgress(`verifying ${image.path}`, () => verify(image, shown));
    if (flags.json === true) printJson(jsonOf(result, options.shortcuts !== false));
    else printText(textOf(image.path, result, options.shortcuts !== false));
    process.exitCode = result.equal ? 0 : 1;
  });
}

const WITH_SHORTCUTS =
  "emulated: the guest's own code, but large copies and fills by the host, and no look for code at each store to data " +
  '(--no-shortcuts leaves all to the CPU)';
const WITHOUT_SHORTCUTS = "emulated: the guest's own code, all of it on the CPU";

function jsonOf({ equal, problems, memory, registers, hooked }: Verification, shortcuts: boolean): Json {
  const { image, machine, kernel } = hooked;
  return toJson({ equal, shortcuts, image, machine, kernel, problems, memory, registers });
}

function textOf(path: string, result: Verification, shortcuts: boolean): string {
  const { kernel } = result.hooked;
  const nothing = kernel === null && result.emulated.kernel === null;
  const verdict = result.equal ? 'agree' : nothing ? 'reached no kernel, nothing was compared' : 'DIFFER';
  let text = `${path}: hooked and emulated ${verdict}`;
  if (kernel !== null) {
    text += `, entry ${hex(kernel.entry)}, physical base ${hex(kernel.physicalBase)}, virtual base ${hex(kernel.virtualBase)}`;
  }
  text += `\n  ${shortcuts ? WITH_SHORTCUTS : WITHOUT_SHORTCUTS}\n`;
  for (const problem of result.problems) text += `  ${problem}\n`;
  const because = (expected: string | null): string => expected ?? 'NOT EXPECTED';
  if (result.memory.length > 0) {
    text += formatColumns(
      [
        ['MEMORY', 'END', 'BYTES', 'REGION', 'WHY'],
        ...result.memory.map((row) => [
          hex(row.start),
          hex(row.end),
          String(row.bytes),
          row.region,
          because(row.expected),
        ]),
      ],
      [0, 1, 2],
    );
  }
  if (result.registers.length > 0) {
    text += formatColumns([
      ['REGISTER', 'HOOKED', 'EMULATED', 'WHY'],
      ...result.registers.map((row) => [row.name, hex(row.hooked), hex(row.emulated), because(row.expected)]),
    ]);
  }
  return text;
}
