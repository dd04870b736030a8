// `bootscope pack DIR -o IMAGE`: puts the parts in a folder together again, also with another kernel, level or header field.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CodecName } from '../codecs/codec.ts';
import { CODEC_NAMES } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { type ElfFile, elfFileLength, isElf, readElf } from '../image/elf.ts';
import { readImageFile } from '../image/image-file.ts';
import { takeApart } from '../image/image-parts.ts';
import { type Packed, packImage } from '../image/pack.ts';
import { MANIFEST_NAME, type PartManifest, parseManifest } from '../image/part-manifest.ts';
import { countRelocationLists, hasRelocations, makeRelocations } from '../image/relocations.ts';
import type { FieldChange } from '../image/repack-x86.ts';
import { SETUP_HEADER_FIELDS, SETUP_HEADER_FLAGS, type SetupHeaderField } from '../protocol/setup-header.ts';
import { addExamples, addOutputOptions, repeatable } from './common-options.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { printError } from './standard-output.ts';

interface PackFlags {
  readonly output: string;
  readonly vmlinux?: string;
  readonly relocs?: string;
  readonly level?: number;
  readonly codec?: CodecName;
  readonly stub?: string;
  readonly cmdline?: string;
  readonly set: readonly FieldChange[];
  readonly force?: boolean;
}

/** Adds the subcommand `pack`. */
export function registerPack(program: Command): void {
  const command = program
    .command('pack')
    .description(
      'put the parts of an image together again: byte for byte the same where nothing changed, else with lengths, checksum and PE header put right',
    )
    .argument('<folder>', 'where `bootscope unpack` wrote the parts')
    .option(
      '--vmlinux <file>',
      'another kernel; its relocation lists are made where it was linked with --emit-relocs',
    )
    .option('--relocs <file>', 'relocation lists to go with it, as arch/x86/tools/relocs writes them')
    .addOption(
      new Option('--level <n>', "compress at that level; the default is the build's own").argParser(
        parseLevel,
      ),
    )
    .addOption(new Option('--codec <name>', "must be the stub's").choices(CODEC_NAMES))
    .option('--stub <image>', 'take setup and boot stub, and so the codec, from another bzImage')
    .option('--cmdline <line>', 'the command line in a Unified Kernel Image')
    .addOption(
      repeatable(
        new Option('--set <name=value>', 'a field of the setup header, vid_mode=normal or root_flags=0')
          .argParser((text: string, before: readonly FieldChange[]) => [...before, parseField(text)])
          .default([] as readonly FieldChange[], 'none'),
      ),
    );
  addExamples(command, [
    ['bootscope pack parts -o vmlinuz.new --vmlinux vmlinux.patched', 'another kernel behind the same stub'],
    ['bootscope pack parts -o vmlinuz.new --set vid_mode=ask', 'a default of the boot loader'],
  ]);
  addOutputOptions(command).action(pack);
}

function parseLevel(text: string): number {
  const level = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(level)) throw new InvalidArgumentError('it is a number such as 9.');
  return level;
}

/** Words for values that people know by name. */
const NAMED_VALUES: Readonly<Record<string, Readonly<Record<string, bigint>>>> = {
  vid_mode: { normal: 0xffffn, extended: 0xfffen, ask: 0xfffdn },
};

function parseField(text: string): FieldChange {
  const [, name = '', value = ''] = /^(\w+)=(.+)$/.exec(text) ?? [];
  const row = SETUP_HEADER_FIELDS.find((field) => field.name === name);
  if (row === undefined) {
    throw new InvalidArgumentError(`it is name=value with a field of the setup header, not ${text}.`);
  }
  const number =
    NAMED_VALUES[name]?.[value] ??
    flagValue(name, value) ??
    (/^(0x[0-9a-f]+|\d+)$/i.test(value) ? BigInt(value) : null);
  if (number === null || number >= 1n << BigInt(row.size * 8)) {
    throw new InvalidArgumentError(`${value} is no value of ${name}, a number of ${row.size} bytes.`);
  }
  return [row.name as SetupHeaderField, number];
}

/** `LOADED_HIGH|CAN_USE_HEAP`; null where the text is no list of the field's flags. */
function flagValue(name: string, text: string): bigint | null {
  let value = 0n;
  for (const word of text.split('|')) {
    const flag = SETUP_HEADER_FLAGS.find((row) => row.field === name && row.name === word.trim());
    if (flag === undefined) return null;
    value |= BigInt(flag.mask);
  }
  return value;
}

async function pack(folder: string, flags: PackFlags): Promise<void> {
  await checkOutput(flags.output, flags.force === true);
  const manifestPath = join(folder, MANIFEST_NAME);
  const manifest = parseManifest(manifestPath, new TextDecoder().decode(await readImageFile(manifestPath)));
  const kernel = flags.vmlinux === undefined ? null : await readVmlinux(flags.vmlinux);
  const relocations = await newRelocations(folder, manifest, kernel, flags.relocs);
  const packed = await packImage(manifest, (file) => readImageFile(join(folder, file)), {
    kernel: kernel?.stripped ?? null,
    relocations: relocations.bytes,
    level: flags.level ?? null,
    stub: flags.stub === undefined ? null : await takeApart(flags.stub, await readImageFile(flags.stub)),
    codec: flags.codec ?? null,
    cmdline: flags.cmdline ?? null,
    fields: flags.set,
  });
  await writeOutput(flags.output, packed.bytes, flags.force === true);
  say(flags.output, packed, relocations.notice);
}

function say(output: string, packed: Packed, notice: string | null): void {
  const target = output === '-' ? 'standard output' : output;
  const what = packed.same ? 'the image as it was, byte for byte' : 'a changed image';
  printError(`${target}: ${packed.bytes.length} bytes, ${what}\n`);
  if (packed.command !== null) printError(`compressed: ${packed.command}\n`);
  for (const text of [...(notice === null ? [] : [notice]), ...packed.notices])
    printError(`notice: ${text}\n`);
}

interface NewKernel {
  /** As the build strips it: what is compressed. */
  readonly stripped: Uint8Array;
  /** As it was linked; null for a flat binary. */
  readonly elf: ElfFile | null;
}

async function readVmlinux(path: string): Promise<NewKernel> {
  const bytes = await readImageFile(path);
  if (!isElf(bytes)) return { stripped: bytes, elf: null };
  const elf = readElf(bytes);
  const isStripped = !elf.sections.some(({ name, type }) => type === 2 || name === '.comment');
  return { stripped: isStripped ? bytes.subarray(0, elfFileLength(elf)) : strip(path), elf };
}

/** OBJCOPYFLAGS_vmlinux.bin of arch/x86/boot/compressed. */
function strip(path: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
  try {
    const stripped = join(folder, 'vmlinux.bin');
    const { status, error, stderr } = spawnSync('objcopy', ['-R', '.comment', '-S', path, stripped], {
      encoding: 'utf8',
    });
    if (status !== 0) {
      throw new BootscopeError(
        'pack-strip',
        `${path} has symbols, and stripping it needs objcopy: ${error?.message ?? stderr.trim()}`,
      );
    }
    return readFileSync(stripped);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Named, or made of the new kernel's ELF file, or the folder's own. */
async function newRelocations(
  folder: string,
  manifest: PartManifest,
  kernel: NewKernel | null,
  path: string | undefined,
): Promise<{ readonly bytes: Uint8Array | null; readonly notice: string | null }> {
  if (path !== undefined) return { bytes: await readImageFile(path), notice: null };
  const old = manifest.unpacked.find(({ role }) => role === 'relocations');
  if (kernel === null || old === undefined) return { bytes: null, notice: null };
  if (kernel.elf !== null && hasRelocations(kernel.elf)) {
    const lists = countRelocationLists(await readImageFile(join(folder, old.file)));
    if (lists === null) throw new BootscopeError('pack-relocs', `${old.file} holds no relocation lists`);
    return { bytes: makeRelocations(kernel.elf, lists), notice: null };
  }
  return {
    bytes: null,
    notice: `the new kernel was not linked with --emit-relocs: ${old.file} of the old one is kept, which is right as long as every address in the kernel is where it was`,
  };
}
