// `bootscope unpack IMAGE -o DIR`: writes the pieces that an image's build put together, and a list of them.

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Command } from 'commander';
import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import { type ImageParts, takeApart } from '../image/image-parts.ts';
import { MANIFEST_NAME, makeManifest } from '../image/part-manifest.ts';
import { addExamples, addJsonOption, addOutputOptions } from './common-options.ts';
import { writeKernelProper } from './extract.ts';
import { cannotBeWritten, writeOutput } from './output-file.ts';
import { formatParts, tellStory } from './parts-format.ts';
import { printError } from './standard-output.ts';
import { printJson, printText } from './text-output.ts';

interface UnpackFlags {
  readonly output: string;
  readonly only?: string;
  readonly explain?: boolean;
  readonly json?: boolean;
  readonly force?: boolean;
}

/** Adds the subcommand `unpack`. */
export function registerUnpack(program: Command): void {
  const command = program
    .command('unpack')
    .description(
      'take an image apart into the pieces that its build put together, under their names there, with a list of them',
    )
    .argument(
      '<image>',
      'a bzImage, zImage, Unified Kernel Image or boot program of another machine; - for standard input',
    )
    .option('--only <part>', 'write that one part (vmlinux, setup.bin, …), with -o naming the file')
    .option('--explain', 'tell which part came from which step of the build');
  addJsonOption(command, 'the list of the parts');
  addExamples(command, [
    [
      'bootscope unpack vmlinuz -o parts --explain',
      'setup.bin, vmlinux, vmlinux.relocs, … and manifest.json',
    ],
    ['bootscope pack parts -o vmlinuz.new', 'the same image again, byte for byte'],
  ]);
  addOutputOptions(command, { what: 'folder for the parts' }).action(unpack);
}

async function unpack(path: string, flags: UnpackFlags): Promise<void> {
  const bytes = await readImageFile(path);
  const force = flags.force === true;
  if (flags.only === 'vmlinux') {
    await writeKernelProper(path, bytes, { output: flags.output, force });
    return;
  }
  const apart = await takeApart(path, bytes);
  if (flags.only !== undefined) {
    await writeOutput(flags.output, partBytes(apart, flags.only), force);
    return;
  }
  if (flags.output === '-') {
    throw new BootscopeError(
      'cli-output',
      'the parts of an image go into a folder, not to standard output; --only takes one',
    );
  }
  await checkFolder(flags.output, force);
  const manifest = makeManifest(basename(path), apart);
  for (const { file, offset, length } of apart.parts) {
    await writePart(flags.output, file, apart.bytes.subarray(offset, offset + length));
  }
  for (const { file, bytes: content } of apart.unpacked) await writePart(flags.output, file, content);
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  await writePart(flags.output, MANIFEST_NAME, text);
  if (flags.json === true) printJson(manifest);
  else printText(formatParts(flags.output, manifest));
  if (flags.explain === true) printText(`\n${tellStory(manifest, apart)}`);
  for (const wrapper of apart.wrappers) {
    printError(
      `notice: the image was taken out of its wrapping first (${wrapper}), which packing does not make again\n`,
    );
  }
}

function partBytes(apart: ImageParts, name: string): Uint8Array {
  const piece = apart.parts.find(({ file }) => file === name);
  if (piece !== undefined) return apart.bytes.subarray(piece.offset, piece.offset + piece.length);
  const unpacked = apart.unpacked.find(({ file }) => file === name);
  if (unpacked !== undefined) return unpacked.bytes;
  const names = [...apart.parts, ...apart.unpacked].map(({ file }) => file);
  throw new BootscopeError('cli-part', `${apart.path} has no part ${name}; it has ${names.join(', ')}`);
}

/** A folder that is not there or empty; with `force` also one that has files. */
async function checkFolder(path: string, force: boolean): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    const names = await readdir(path);
    if (names.length > 0 && !force) {
      throw new BootscopeError('cli-output', `${path} is not empty, --force writes over what is in it`);
    }
  } catch (error) {
    throw cannotBeWritten(path, error);
  }
}

async function writePart(folder: string, file: string, content: Uint8Array | string): Promise<void> {
  const path = join(folder, file);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  } catch (error) {
    throw cannotBeWritten(path, error);
  }
}
