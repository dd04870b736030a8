// `bootscope dump IMAGE RANGE`: what is in memory at a place in the boot, as bytes or decoded.

import { type Command, Option } from 'commander';
import { type BootSession, openBoot } from '../boot/session.ts';
import { decodeContext } from '../debug/session-context.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { hexdump } from '../report/hexdump.ts';
import { type Json, toJson } from '../report/json.ts';
import { decodeStructure, STRUCTURE_NAMES, type StructureName } from '../trace/decode/decode.ts';
import { formatDecoded } from '../trace/decode/decoded.ts';
import { type MemoryRange, parseRange, RANGE_HELP } from '../trace/memory-range.ts';
import {
  addBootOptions,
  type BootFlags,
  IMAGE_ARGUMENT,
  imageAndRange,
  readBootRequest,
} from './boot-options.ts';
import { addExamples, addJsonOption, addOutputOptions } from './common-options.ts';
import { showable, withoutControls } from './control-characters.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { addPlaceOption, goToPlace, type PlaceFlags } from './place-option.ts';
import { printText } from './text-output.ts';

/** Bytes that one address alone stands for. */
const SHOWN_OF_ADDRESS = 256;

interface Flags extends BootFlags, PlaceFlags {
  readonly as?: StructureName;
  readonly raw?: boolean;
  readonly json?: boolean;
  readonly output: string;
  readonly force?: boolean;
}

export function registerDump(program: Command): void {
  const command = program
    .command('dump')
    .description(
      'boot IMAGE to a place and show physical memory there: as bytes, or decoded with field names',
    )
    .argument(...IMAGE_ARGUMENT)
    .argument(
      '[range]',
      `physical: ${RANGE_HELP}; with --as the address of the structure, known where there is one`,
    );
  addExamples(command, [
    ['bootscope dump vmlinuz --as e820', 'the memory map that the kernel gets'],
    ['bootscope dump vmlinuz --at startup_32 boot_params --as boot_params', 'what setup has filled in'],
    ['bootscope dump vmlinuz --at startup_64 0x100000+64', 'bytes, wherever they are'],
  ]);
  addBootOptions(command, { without: ['hash'] });
  addPlaceOption(command, 'the jump into the kernel')
    .addOption(new Option('--as <structure>', 'decode it').choices(STRUCTURE_NAMES))
    .option('--raw', 'the bytes themselves');
  addOutputOptions(addJsonOption(command, 'it'), { required: false }).action(
    async (path: string | undefined, text: string | undefined, flags: Flags) => {
      const [imagePath, rangeText] = imageAndRange(flags, path, text);
      if (rangeText === undefined && flags.as === undefined) {
        throw new BootscopeError('cli-range', `name what to show: ${RANGE_HELP}; or a structure with --as`);
      }
      await checkOutput(flags.output, flags.force === true);
      const { image, options } = await readBootRequest(imagePath, flags);
      const session = await openBoot(image, { ...options, hash: false });
      try {
        await goToPlace(session, flags.at ?? { kind: 'phase', phase: 'kernel' });
        const content =
          flags.as === undefined
            ? bytes(session, rangeText!, flags)
            : decoded(session, flags.as, rangeText, flags);
        const isText = flags.raw !== true && flags.json !== true;
        if (flags.output === '-' && isText) printText(content as string);
        else await writeOutput(flags.output, content, flags.force === true);
      } finally {
        session.close();
      }
    },
  );
}

function rangeOf(session: BootSession, text: string): MemoryRange {
  return parseRange(text, session.layout(), SHOWN_OF_ADDRESS);
}

function bytes(session: BootSession, text: string, { raw, json }: Flags): Uint8Array | string {
  const { start, end } = rangeOf(session, text);
  const content = session.memory.read(start, end - start);
  if (raw === true) return content;
  if (json !== true) return hexdump(content, start);
  const rest = { start: hex(start), end: hex(end), bytes: Buffer.from(content).toString('hex') };
  return document({ at: position(session), ...rest });
}

function decoded(
  session: BootSession,
  name: StructureName,
  text: string | undefined,
  { raw, json }: Flags,
): string {
  if (raw === true)
    throw new BootscopeError('cli-range', '--raw writes bytes and --as decodes them: take one');
  const address = text === undefined ? null : rangeOf(session, text).start;
  const fields = decodeStructure(name, decodeContext(session, address));
  if (json !== true) return withoutControls(formatDecoded(fields));
  const listed = fields.map((field) => ({ ...field, address: hex(field.address) }));
  return document({ at: position(session), structure: name, fields: toJson(listed) });
}

function position({ stop, instructions }: BootSession): Json {
  const { phase, address, mode } = stop;
  return { phase, address: hex(address), mode, instructions };
}

function document(value: Json): string {
  return `${showable(JSON.stringify(value, null, 2))}\n`;
}
