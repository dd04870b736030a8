// `bootscope kaslr IMAGE`: every place KASLR can choose, what it avoids and why, and what many boots draw.

import { type Command, Option } from 'commander';
import { type KaslrLocation, type KaslrSurvey, surveyKaslr } from '../boot/kaslr-slots.ts';
import { physicalSlot } from '../decompressor/kaslr-slots.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { formatColumns } from '../report/table.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption, repeatable, wholeNumber } from './common-options.ts';
import { parseOwnOptions } from './own-options.ts';
import { withProgress } from './progress.ts';
import { printJson, printText } from './text-output.ts';

interface Flags extends BootFlags {
  readonly draws: number;
  readonly slots?: boolean;
  readonly csv?: boolean;
  /** Each as it was typed. */
  readonly vs?: readonly string[];
  readonly json?: boolean;
}

const MAX_DRAWS = 1_000_000;
const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
/** Bars of the picture: neighbouring slots are put together until there are no more than this. */
const BARS = 32;
const BAR_WIDTH = 40;

export function registerKaslr(program: Command): void {
  const command = program
    .command('kaslr')
    .description('list the addresses that KASLR chooses from, what it avoids, and what many boots draw')
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope kaslr vmlinuz --memory 1G', 'the slots, and what the kernel keeps clear of'],
    ['bootscope kaslr vmlinuz --draws 10000', 'how evenly 10000 boots choose among them'],
    ['bootscope kaslr vmlinuz --vs "--memory 8G" --vs "--cmdline mem=1G"', 'bits of entropy side by side'],
  ]);
  addBootOptions(command, { without: ['kaslr', 'decompress', 'hash'] })
    .addOption(
      new Option('--draws <n>', 'draw for n boots, with the seeds 1 to n')
        .argParser(wholeNumber('boots', 0, MAX_DRAWS))
        .default(0),
    )
    .option('--slots', 'list every slot and not only the areas')
    .option(
      '--csv',
      'print every slot as CSV, with how many of the draws took it; with --vs a line a setting',
    )
    .addOption(
      repeatable(
        new Option('--vs <options>', 'compare with other boot options, such as "--memory 1G"').argParser(
          (text: string, before: readonly string[] = []) => [...before, text],
        ),
      ),
    );
  addJsonOption(command, 'all of it').action(async (path: string | undefined, flags: Flags) => {
    if (flags.vs !== undefined) {
      await compareSettings(path, flags, flags.vs);
      return;
    }
    const { image, options } = await readBootRequest(path, flags);
    const survey = await withProgress(`surveying ${image.path}`, () =>
      surveyKaslr(image, options, flags.draws),
    );
    if (flags.json === true) printJson(jsonOf(survey));
    else if (flags.csv === true) printText(csvOf(survey));
    else printText(textOf(image.path, survey, flags.slots === true));
  });
}

/** One of the settings that are compared. */
interface Setting {
  /** As typed; empty for the options of the command itself. */
  readonly options: string;
  readonly survey: KaslrSurvey;
}

/** Surveys one image under several settings; the others differ from the command's own by what their text says. */
async function compareSettings(
  path: string | undefined,
  flags: Flags,
  others: readonly string[],
): Promise<void> {
  if (flags.slots === true) {
    throw new BootscopeError('cli-unused-options', '--slots lists the slots of one setting; leave out --vs');
  }
  const settings: Setting[] = [];
  let name = '';
  for (const text of ['', ...others]) {
    const own = text === '' ? {} : parseOwnOptions(text, '--vs');
    const { image, options } = await readBootRequest(path, { ...flags, ...own });
    name = image.path;
    const survey = await withProgress(`surveying ${image.path} ${text}`.trim(), () =>
      surveyKaslr(image, options, flags.draws),
    );
    settings.push({ options: text, survey });
  }
  if (flags.json === true) {
    printJson(settings.map(({ options, survey }) => ({ options, ...jsonOf(survey) })));
  } else if (flags.csv === true) {
    printText(comparisonCsv(settings));
  } else printText(comparisonText(name, settings));
}

/** Why nothing is drawn; null where something is. */
function reasonOf({ slots }: KaslrSurvey): string | null {
  return slots.disabled ?? (slots.notices.length > 0 ? slots.notices.join('; ') : null);
}

function slotCounts({ slots }: KaslrSurvey): { readonly physical: number; readonly virtual: number } {
  return slots.disabled === null
    ? { physical: slots.physicalSlots, virtual: slots.virtualSlots }
    : { physical: 0, virtual: 0 };
}

function comparisonText(path: string, settings: readonly Setting[]): string {
  const rows = settings.map(({ options, survey }) => {
    const { physical, virtual } = slotCounts(survey);
    const { areas, alignment } = survey.slots;
    const lasts = areas.map(({ start, count }) => start + (count - 1) * alignment);
    return [
      options === '' ? '(as given)' : options,
      ...[String(physical), bitsText(physical), String(virtual), bitsText(virtual)],
      (bitsOf(physical) + bitsOf(virtual)).toFixed(1),
      physical === 0 ? '' : hex(Math.min(...areas.map(({ start }) => start))),
      physical === 0 ? '' : hex(Math.max(...lasts)),
    ];
  });
  const head = ['SETTING', 'PHYSICAL', 'BITS', 'VIRTUAL', 'BITS', 'BOTH', 'LOWEST', 'HIGHEST'];
  let text = `${path}: slots of KASLR and their entropy\n${formatColumns([head, ...rows], [1, 2, 3, 4, 5, 6, 7])}`;
  for (const { options, survey } of settings) {
    const reason = reasonOf(survey);
    if (reason !== null) text += `${options === '' ? '(as given)' : options}: ${reason}\n`;
  }
  return text;
}

function comparisonCsv(settings: readonly Setting[]): string {
  const lines = settings.map(({ options, survey }) => {
    const { physical, virtual } = slotCounts(survey);
    const bits = [bitsOf(physical), bitsOf(virtual), bitsOf(physical) + bitsOf(virtual)];
    const [first, second, both] = bits.map((value) => value.toFixed(3));
    return [`"${options.replaceAll('"', '""')}"`, physical, first, virtual, second, both].join(',');
  });
  return `setting,physical slots,physical bits,virtual slots,virtual bits,bits\n${lines.join('\n')}\n`;
}

function virtualAddress(survey: KaslrSurvey, fromMap: number): string {
  return survey.bits === 64 ? hex(START_KERNEL_MAP + BigInt(fromMap)) : hex(fromMap);
}

/** Entropy of one choice among so many equally likely slots. */
function bitsOf(slots: number): number {
  return slots > 1 ? Math.log2(slots) : 0;
}

function bitsText(slots: number): string {
  return bitsOf(slots).toFixed(1);
}

function jsonOf(survey: KaslrSurvey) {
  const { slots, output, draws } = survey;
  return {
    disabled: slots.disabled,
    alignment: hex(slots.alignment),
    imageSize: hex(slots.imageSize),
    output: hex(output),
    minimum: hex(slots.minimum),
    limit: hex(slots.limit),
    physical: {
      slots: slots.physicalSlots,
      areas: slots.areas.map(({ start, count }) => ({ start: hex(start), count })),
    },
    bits: {
      physical: bitsOf(slots.physicalSlots),
      virtual: bitsOf(slots.virtualSlots),
      both: bitsOf(slots.physicalSlots) + bitsOf(slots.virtualSlots),
    },
    virtual: { slots: slots.virtualSlots, start: virtualAddress(survey, slots.virtualStart) },
    avoided: slots.avoided.map(({ start, end, reason }) => ({ start: hex(start), end: hex(end), reason })),
    warnings: slots.warnings,
    notices: slots.notices,
    draws: draws.map(({ physical, virtual }) => ({
      physical: physical === null ? null : hex(physical),
      virtual: virtual === null ? null : virtualAddress(survey, virtual),
    })),
  };
}

/** A line a slot, for a spreadsheet or a plot; the choice that is not made has no lines. */
function csvOf(survey: KaslrSurvey): string {
  const { slots, draws } = survey;
  const lines = ['choice,slot,address,boots'];
  const [physical, virtual] = [counts(draws, 'physical'), counts(draws, 'virtual')];
  for (let slot = 0; slot < slots.physicalSlots; slot++) {
    const address = physicalSlot(slots, slot);
    lines.push(`physical,${slot},${hex(address)},${physical.get(address) ?? 0}`);
  }
  for (let slot = 0; slot < slots.virtualSlots; slot++) {
    const address = slots.virtualStart + slot * slots.alignment;
    lines.push(`virtual,${slot},${virtualAddress(survey, address)},${virtual.get(address) ?? 0}`);
  }
  return `${lines.join('\n')}\n`;
}

function textOf(path: string, survey: KaslrSurvey, everySlot: boolean): string {
  const { slots, draws } = survey;
  if (slots.disabled !== null) return `${path}: KASLR chooses nothing: ${slots.disabled}\n`;
  let text =
    `${path}: ${slots.physicalSlots} physical and ${slots.virtualSlots} virtual slots, ${hex(slots.alignment)} apart, ` +
    `for an image of ${hex(slots.imageSize)} bytes\n` +
    `entropy: ${bitsText(slots.physicalSlots)} bits physical, ${bitsText(slots.virtualSlots)} virtual\n` +
    `physical: from ${hex(slots.minimum)}, below ${hex(slots.limit)}; without KASLR the kernel goes to ${hex(survey.output)}\n`;
  if (slots.virtualSlots > 0) {
    const last = slots.virtualStart + (slots.virtualSlots - 1) * slots.alignment;
    text += `virtual: ${virtualAddress(survey, slots.virtualStart)} to ${virtualAddress(survey, last)}\n`;
  }
  text += `\n${formatColumns(
    [
      ['FIRST SLOT', 'LAST SLOT', 'SLOTS'],
      ...slots.areas.map(({ start, count }) => [
        hex(start),
        hex(start + (count - 1) * slots.alignment),
        String(count),
      ]),
    ],
    [0, 1, 2],
  )}`;
  if (everySlot) {
    text += '\nphysical slots:\n';
    for (let slot = 0; slot < slots.physicalSlots; slot++)
      text += `  ${slot}\t${hex(physicalSlot(slots, slot))}\n`;
    if (slots.virtualSlots > 0) text += '\nvirtual slots:\n';
    for (let slot = 0; slot < slots.virtualSlots; slot++) {
      text += `  ${slot}\t${virtualAddress(survey, slots.virtualStart + slot * slots.alignment)}\n`;
    }
  }
  text += `\n${formatColumns(
    [
      ['AVOIDED', 'END', 'BECAUSE'],
      ...slots.avoided.map(({ start, end, reason }) => [hex(start), hex(end), reason]),
    ],
    [0, 1],
  )}`;
  for (const line of [...slots.warnings, ...slots.notices]) text += `${line}\n`;
  if (draws.length > 0) text += drawsText(survey);
  return text;
}

function drawsText(survey: KaslrSurvey): string {
  const { slots, draws } = survey;
  const physical = counts(draws, 'physical');
  const all = Array.from({ length: slots.physicalSlots }, (_, slot) => physicalSlot(slots, slot));
  let text = `\n${draws.length} boots\n`;
  text += distribution('physical', all, physical, hex);
  if (slots.virtualSlots > 0) {
    const places = Array.from(
      { length: slots.virtualSlots },
      (_, slot) => slots.virtualStart + slot * slots.alignment,
    );
    text += distribution('virtual', places, counts(draws, 'virtual'), (place) =>
      virtualAddress(survey, place),
    );
  }
  return text;
}

function counts(draws: readonly KaslrLocation[], which: 'physical' | 'virtual'): Map<number, number> {
  const found = new Map<number, number>();
  for (const draw of draws) {
    const place = draw[which];
    if (place !== null) found.set(place, (found.get(place) ?? 0) + 1);
  }
  return found;
}

/**
 * A table of bars with the chi-square statistic against equal chances. Its expectation is the degrees of freedom, its
 * standard deviation the root of twice that.
 */
function distribution(
  name: string,
  places: readonly number[],
  found: ReadonlyMap<number, number>,
  show: (place: number) => string,
): string {
  const drawn = [...found.values()].reduce((sum, count) => sum + count, 0);
  if (places.length === 0 || drawn === 0) return `${name}: nothing is drawn\n`;
  const expected = drawn / places.length;
  let chiSquare = 0;
  for (const place of places) chiSquare += ((found.get(place) ?? 0) - expected) ** 2 / expected;
  const freedom = places.length - 1;
  const deviation = freedom === 0 ? 0 : (chiSquare - freedom) / Math.sqrt(2 * freedom);
  const each = Math.ceil(places.length / BARS);
  const bars: { readonly first: number; readonly slots: number; readonly count: number }[] = [];
  for (let index = 0; index < places.length; index += each) {
    const group = places.slice(index, index + each);
    const count = group.reduce((sum, place) => sum + (found.get(place) ?? 0), 0);
    bars.push({ first: group[0]!, slots: group.length, count });
  }
  const highest = Math.max(...bars.map(({ count, slots }) => count / slots));
  const rows = bars.map(({ first, slots, count }) => [
    show(first),
    String(slots),
    String(count),
    '█'.repeat(Math.round((BAR_WIDTH * count) / slots / highest)),
  ]);
  return (
    `\n${name}: ${found.size} of ${places.length} slots drawn, ${expected.toFixed(1)} times each expected; ` +
    `chi-square ${chiSquare.toFixed(1)} with ${freedom} degrees of freedom (${deviation.toFixed(2)} standard deviations)\n` +
    formatColumns([['FROM', 'SLOTS', 'BOOTS', ''], ...rows], [0, 1, 2])
  );
}
