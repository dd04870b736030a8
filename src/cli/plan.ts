// `bootscope plan IMAGE`: what a boot loader must know and keep free, by each way into the kernel.

import type { Command } from 'commander';
import { type EntryPlan, type PlannedPart, planLoading } from '../boot/loader-plan.ts';
import { hex } from '../hex.ts';
import { readImageFile } from '../image/image-file.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { formatColumns } from '../report/table.ts';
import { formatSize } from '../size.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { printJson, printText } from './text-output.ts';

/** Adds the subcommand `plan`. */
export function registerPlan(program: Command): void {
  const command = program
    .command('plan')
    .description(
      'say what a boot loader must know and keep free: by each entry what goes where, and what is overwritten',
    )
    .argument('<image>', 'bzImage, zImage or vmlinux');
  addExamples(command, [
    ['bootscope plan vmlinuz', 'every way in, with the ranges, alignments and the state of the CPU'],
    [
      'bootscope plan vmlinuz --json | jq \'.entries[] | select(.entry == "long64")\'',
      'one of them, for a script',
    ],
  ]);
  addJsonOption(command, 'the plan').action(async (path: string, flags: { readonly json?: boolean }) => {
    const image = await readKernelImage(path, await readImageFile(path));
    const entries = await planLoading(image);
    if (flags.json === true) printJson(jsonOf(image, entries));
    else printText(textOf(image, entries));
  });
}

/** Null: no limit but the processor's. */
function limit(address: number): string | null {
  return address === Number.MAX_SAFE_INTEGER ? null : hex(address);
}

function jsonOf({ path, kind, header }: KernelImage, entries: readonly EntryPlan[]): unknown {
  return {
    image: { path, kind, bootProtocol: header.version },
    entries: entries.map(({ parts, overwrites, ...entry }) => ({
      ...entry,
      parts: parts.map(({ what, size, from, to, alignment, note }) => ({
        ...{ what, size: size === null ? null : hex(size), from: hex(from), to: limit(to) },
        ...{ alignment: hex(alignment), note },
      })),
      overwrites: overwrites.map(({ start, end, by, when }) => ({
        start: hex(start),
        end: hex(end),
        by,
        when,
      })),
    })),
  };
}

function textOf({ path, kind, header }: KernelImage, entries: readonly EntryPlan[]): string {
  const blocks = entries.map((entry) => {
    if (entry.unavailable !== null) return `${entry.entry}: not this image: ${entry.unavailable}\n`;
    const { parts, overwrites, fields, cpu, notes } = entry;
    let text = `${entry.entry}: entered at ${entry.jump}\n`;
    if (parts.length > 0) {
      text += formatColumns(
        [['PART', 'SIZE', 'FROM', 'TO', 'ALIGN', 'HOW'], ...parts.map(row)],
        [1, 2, 3, 4],
      );
    }
    for (const { start, end, by, when } of overwrites)
      text += `overwritten: ${hex(start)}..${hex(end)} (${by}), ${when}\n`;
    for (const line of fields) text += `field: ${line}\n`;
    for (const line of cpu) text += `CPU: ${line}\n`;
    for (const line of notes) text += `note: ${line}\n`;
    return text;
  });
  return `${path}: ${kind}, boot protocol ${header.version ?? 'before 2.00'}\n\n${blocks.join('\n')}`;
}

function row({ what, size, from, to, alignment, note }: PlannedPart): readonly string[] {
  return [
    what,
    size === null ? '' : formatSize(size),
    hex(from),
    limit(to) ?? '',
    alignment === 1 ? '' : hex(alignment),
    note ?? '',
  ];
}
