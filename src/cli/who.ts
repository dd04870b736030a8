// `bootscope who IMAGE RANGE`: every writer of a range of memory up to a place in the boot, the last first.

import { type Command, Option } from 'commander';
import { type BootSession, openBoot } from '../boot/session.ts';
import { type AccessorNames, accessorJson, accessorLine } from '../debug/accessor-lines.ts';
import { codeNames } from '../debug/code-names.ts';
import { type Accessor, type Accessors, findAccessors } from '../debug/writers.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import {
  readKernelNames,
  readKernelSymbols,
  readSetupSymbols,
  readStubSymbols,
} from '../trace/kernel-names.ts';
import { type MemoryRange, parseRange, RANGE_HELP } from '../trace/memory-range.ts';
import { type Place, placeName } from '../trace/place.ts';
import {
  addBootOptions,
  type BootFlags,
  IMAGE_ARGUMENT,
  imageAndRange,
  readBootRequest,
} from './boot-options.ts';
import { addExamples, addJsonOption, wholeNumber } from './common-options.ts';
import { addPlaceOption, goToPlace, type PlaceFlags } from './place-option.ts';
import {
  addCodeSymbolOptions,
  addKernelSymbolOptions,
  type CodeSymbolFlags,
  type KernelSymbolFlags,
} from './symbol-options.ts';
import { printJson, printText } from './text-output.ts';

const SHOWN = 20;

interface Flags extends BootFlags, PlaceFlags, CodeSymbolFlags, KernelSymbolFlags {
  readonly readers?: boolean;
  readonly limit: number;
  readonly json?: boolean;
}

export function registerWho(program: Command): void {
  const command = program
    .command('who')
    .description('boot IMAGE to a place and list who wrote a range of memory before it, the last first')
    .argument(...IMAGE_ARGUMENT)
    .argument('[range]', `physical: ${RANGE_HELP} of this place or before`);
  addExamples(command, [
    [
      'bootscope who vmlinuz 0x94998 --at startup_32',
      'which instruction wrote this byte, and what it was before',
    ],
    ['bootscope who vmlinuz initrd --initrd initrd.img', 'what has come over the initrd'],
  ]);
  addKernelSymbolOptions(addCodeSymbolOptions(addBootOptions(command, { without: ['hash'] })));
  addPlaceOption(command, 'the jump into the kernel')
    .option('--readers', 'who read it instead, but for firmware')
    .addOption(
      new Option('--limit <n>', 'so many of them')
        .argParser(wholeNumber('lines', 1, 1_000_000))
        .default(SHOWN),
    );
  addJsonOption(command, 'them').action(
    async (path: string | undefined, text: string | undefined, flags: Flags) => {
      const [imagePath, rangeText] = imageAndRange(flags, path, text);
      if (rangeText === undefined)
        throw new BootscopeError('cli-range', `name what was written: ${RANGE_HELP}`);
      const { image, options } = await readBootRequest(imagePath, flags);
      const stub = await readStubSymbols(flags);
      const setup = await readSetupSymbols(flags.setupElf);
      const kernel = await readKernelSymbols(flags);
      const place: Place = flags.at ?? { kind: 'phase', phase: 'kernel' };
      const session = await openBoot(image, { ...options, hash: false });
      try {
        const range = await findRange(session, rangeText, place);
        const found = await findAccessors(
          session,
          image,
          range,
          flags.readers === true ? 'read' : 'write',
          place,
        );
        const codeName = codeNames(session, { setup, stub });
        const named = kernel !== null || flags.symbols === true;
        const kernelName = named ? await readKernelNames(kernel, image, session.trace()) : null;
        const nameOf = ({ instruction, phase, at }: Accessor): AccessorNames => ({
          instruction: instruction === null ? null : codeName(instruction.address, phase),
          target: kernelName?.(BigInt(at)) ?? null,
        });
        if (flags.json === true) printJson(asJson(found, flags, nameOf));
        else printText(asText(found, flags, place, nameOf));
      } finally {
        session.close();
      }
    },
  );
}

/** A region may be gone at the place: then where it was last. */
async function findRange(session: BootSession, text: string, place: Place): Promise<MemoryRange> {
  await goToPlace(session, place);
  const now = session.layout();
  const earlier = session
    .trace()
    .phases.toReversed()
    .flatMap(({ regions }) => regions);
  const names = new Set(now.map(({ name }) => name));
  const gone = earlier.filter(({ name }) => !names.has(name) && names.add(name));
  return parseRange(text, [...now, ...gone], 1);
}

type NameOf = (accessor: Accessor) => AccessorNames;

function asText(
  { range, accessors, dropped }: Accessors,
  { limit, readers }: Flags,
  place: Place,
  nameOf: NameOf,
): string {
  const verb = readers === true ? 'read' : 'wrote';
  const title = `${hex(range.start)}..${hex(range.end)}, up to ${placeName(place)}`;
  if (accessors.length === 0) return `${title}: nobody ${verb} it\n`;
  const rows = accessors.toReversed().slice(0, limit);
  const left = accessors.length + dropped - rows.length;
  const lines = rows.map((accessor) => `${accessorLine(accessor, nameOf(accessor))}\n`);
  const rest = left === 0 ? '' : `and ${left} before\n`;
  return `who ${verb} ${title}, the last first:\n${lines.join('')}${rest}`;
}

function asJson(
  { range, stop, accessors, dropped }: Accessors,
  { limit, readers }: Flags,
  nameOf: NameOf,
): unknown {
  const rows = accessors.toReversed().slice(0, limit);
  const { phase, address, mode, instructions } = stop;
  return {
    ...{ start: hex(range.start), end: hex(range.end), access: readers === true ? 'read' : 'write' },
    at: { phase, address: hex(address), mode, instructions },
    accessors: rows.map((accessor) => accessorJson(accessor, nameOf(accessor))),
    left: accessors.length + dropped - rows.length,
  };
}
