// A finished trace as text for a terminal: the phases, the kernel's segments and entry, what the guest printed.

import { hex, withSymbol } from '../hex.ts';
import type { BootTrace, EfiMapEntry, EfiMemoryMaps } from '../trace/boot-trace.ts';

/** Rows as columns, separated by two spaces; the last column is not padded. Cells of `right` columns align right. */
export function formatColumns(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  }
  const lines = rows.map((row) =>
    row
      .map((cell, index) => {
        if (right.includes(index)) return cell.padStart(widths[index]!);
        return index === row.length - 1 ? cell : cell.padEnd(widths[index]!);
      })
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

function mebibytes(bytes: bigint | number): string {
  return `${(Number(bytes) / 2 ** 20).toFixed(1)} MiB`;
}

/** By hand: a locale's data takes tens of milliseconds to load. */
function withCommas(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Bytes of each type in the firmware's map, in the order of the map. */
function efiMemory({ atEntry, atExit }: EfiMemoryMaps): string {
  const sums = (map: readonly EfiMapEntry[]): Map<string, bigint> => {
    const bytes = new Map<string, bigint>();
    for (const { start, end, type } of map) bytes.set(type, (bytes.get(type) ?? 0n) + end - start);
    return bytes;
  };
  const [before, after] = [sums(atEntry), sums(atExit ?? [])];
  const rows = [...new Set([...before.keys(), ...after.keys()])].map((type) => [
    type,
    hex(before.get(type) ?? 0n),
    ...(atExit === null ? [] : [hex(after.get(type) ?? 0n)]),
  ]);
  const heading = ['EFI MEMORY', 'AT THE ENTRY', ...(atExit === null ? [] : ['AT EXIT'])];
  return formatColumns([heading, ...rows], [1, 2]);
}

/** The whole report of `bootscope boot`; `time` adds the host's, which is never the same twice. */
export function formatTrace(trace: BootTrace, options: { readonly time?: boolean } = {}): string {
  const { image, machine, kernel } = trace;
  const described = [
    image.kind,
    image.bootProtocol === null ? 'no setup header' : `boot protocol ${image.bootProtocol}`,
    image.codec === null ? null : `${image.codec} payload`,
  ].filter((part) => part !== null);
  let text = `${image.path}: ${described.join(', ')}\n`;
  if (image.kernelVersion !== null) text += `Linux ${image.kernelVersion}\n`;
  text +=
    `${mebibytes(machine.ram)} RAM, ${machine.entry} entry, ${machine.decompress === 'none' ? 'no' : machine.decompress} decompression, ` +
    `Unicorn ${machine.engineVersion} (${machine.engine})\n\n`;

  const time = options.time === true;
  const rows = trace.phases.map((phase) => [
    phase.name,
    hex(phase.address),
    phase.mode,
    phase.instructions === null ? '' : withCommas(phase.instructions),
    ...(time ? [`${phase.milliseconds.toFixed(1)} ms`] : []),
    phase.summary,
  ]);
  const heading = ['PHASE', 'ADDRESS', 'MODE', 'INSTRUCTIONS', ...(time ? ['AT'] : []), 'WHAT HAPPENED'];
  text += formatColumns([heading, ...rows], time ? [1, 3, 4] : [1, 3]);

  if (kernel !== null) {
    const hashed = kernel.segments.some(({ sha256 }) => sha256 !== null);
    const named = kernel.segments.some(({ symbol }) => symbol !== undefined);
    text += `\nkernel entry ${withSymbol(hex(kernel.entry), kernel.entrySymbol)} (${kernel.entryMode}), physical base ${hex(kernel.physicalBase)}, `;
    text += `virtual base ${hex(kernel.virtualBase)}, boot_params ${hex(kernel.bootParams)}\n`;
    text += formatColumns(
      [
        [
          ...['SEGMENT', 'PHYSICAL', 'END', 'VIRTUAL', 'FILESZ', 'MEMSZ', 'FLAGS'],
          ...(hashed ? ['SHA-256'] : []),
          ...(named ? ['STARTS WITH'] : []),
        ],
        ...kernel.segments.map((segment, index) => [
          String(index),
          hex(segment.paddr),
          hex(segment.paddr + segment.memsz),
          hex(segment.vaddr),
          hex(segment.filesz),
          hex(segment.memsz),
          segment.flags,
          ...(hashed ? [segment.sha256?.slice(0, 16) ?? ''] : []),
          ...(named ? [segment.symbol ?? ''] : []),
        ]),
      ],
      [0, 1, 2, 3, 4, 5],
    );
  }
  if (trace.efiMemoryMap !== null) text += `\n${efiMemory(trace.efiMemoryMap)}`;
  if (trace.console !== '') {
    text += '\nconsole:\n';
    for (const line of trace.console.trimEnd().split('\n')) text += `  ${line.replace(/\r/g, '')}\n`;
  }
  if (trace.notices.length > 0) text += '\nnotices:\n';
  for (const notice of trace.notices) text += `  ${notice}\n`;
  if (trace.hazards.length > 0) text += '\nhazards:\n';
  for (const { code, text: what, advice } of trace.hazards) text += `  ${code}: ${what}; ${advice}\n`;
  if (trace.stopped !== null) text += `\nNo kernel was reached: ${trace.stopped}.\n`;
  return text;
}
