// The options of every subcommand that boots an image, and how their texts become numbers.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../boot/options.ts';
import { type KaslrOption, parseKaslrOption } from '../decompressor/kaslr-entropy.ts';
import { BootscopeError } from '../error.ts';
import { readFloppyImage } from '../image/floppy-image.ts';
import { readImageFile } from '../image/image-file.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { cpuProfiles } from '../machine/cpu-profiles.ts';
import type { E820Entry } from '../machine/events.ts';

/** What commander hands over; see `addBootOptions`. */
export interface BootFlags {
  readonly cmdline: string;
  readonly kaslr: KaslrOption;
  readonly initrd?: string;
  readonly floppy?: string;
  readonly memory: number;
  readonly engine: BootOptions['engine'];
  readonly cpu: string;
  readonly entry: BootOptions['entry'];
  readonly decompress: BootOptions['decompress'];
  readonly loadAddress?: number;
  readonly initrdAddress?: number;
  readonly cmdlineAddress?: number;
  readonly bootParamsAddress?: number;
  readonly e820?: string;
  readonly hash?: boolean;
  readonly timeout?: number;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** `512M`, `1G`, `0x20000000` or bytes. */
export function parseSize(text: string): number {
  const match = /^(0x[0-9a-f]+|\d+)([kmg]?)(?:i?b)?$/i.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('it is a size such as 512M, 1G or 0x20000000.');
  }
  return value;
}

/** `0x1343000` or a decimal number. */
export function parseAddress(text: string): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value) || value > 0xffff_ffff) {
    throw new InvalidArgumentError('it is an address below 4 GiB such as 0x1000000.');
  }
  return value;
}

function parseSeconds(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value))
    throw new InvalidArgumentError('it is a number of seconds above 0.');
  return value;
}

/** Adds them, with the defaults of `DEFAULT_BOOT_OPTIONS`. */
export function addBootOptions(command: Command): Command {
  const defaults = DEFAULT_BOOT_OPTIONS;
  return command
    .option('--cmdline <text>', 'kernel command line', defaults.cmdline)
    .addOption(
      new Option('--kaslr <choice>', 'off, seed:N, entropy:RDTSC1,RDTSC2 or phys:ADDR,virt:ADDR')
        .argParser(parseKaslrOption)
        .default(defaults.kaslr, 'off'),
    )
    .option('--initrd <file>', 'initial RAM disk')
    .option('--floppy <file>', 'disk in drive A; without an image, the machine boots from it')
    .addOption(
      new Option('--memory <size>', 'guest RAM, 64M to 1900M')
        .argParser(parseSize)
        .default(defaults.memory, '512M'),
    )
    .addOption(
      new Option('--engine <name>', 'the Unicorn to run on; auto takes WASM where it is installed')
        .choices(['auto', 'wasm', 'native'])
        .default(defaults.engine),
    )
    .option(
      '--cpu <profile>',
      `what CPUID reports: ${cpuProfiles()
        .map(({ name }) => name)
        .join(', ')}`,
      defaults.cpu,
    )
    .addOption(
      new Option('--entry <point>', "the boot protocol's entry, or the image as a floppy")
        .choices(['real16', 'prot32', 'long64', 'boot-sector'])
        .default(defaults.entry),
    )
    .addOption(
      new Option('--decompress <way>', 'hooked: in TypeScript; emulated: by the guest, on the CPU')
        .choices(['hooked', 'emulated'])
        .default(defaults.decompress),
    )
    .addOption(
      new Option(
        '--load-address <address>',
        'where prot32 and long64 load the protected-mode code',
      ).argParser(parseAddress),
    )
    .addOption(new Option('--initrd-address <address>', 'where the initrd goes').argParser(parseAddress))
    .addOption(
      new Option('--cmdline-address <address>', 'where the command line goes').argParser(parseAddress),
    )
    .addOption(
      new Option('--boot-params-address <address>', 'where prot32 and long64 put boot_params').argParser(
        parseAddress,
      ),
    )
    .option('--e820 <file>', 'memory map: lines of START END TYPE, hexadecimal, END exclusive')
    .option('--hash', 'SHA-256 of image and segments (the default where JSON is written)')
    .option('--no-hash', 'leave them out')
    .addOption(
      new Option(
        '--timeout <seconds>',
        'end a boot that got nowhere (60; 1800 emulated; 10 without a kernel)',
      ).argParser(parseSeconds),
    );
}

/**
 * The image to boot: a kernel, or with `--floppy` alone the disk.
 *
 * @throws BootscopeError `cli-image` where neither is named
 */
export async function readBootImage(path: string | undefined, flags: BootFlags): Promise<KernelImage> {
  if (path !== undefined) {
    const bytes = await readImageFile(path);
    return flags.entry === 'boot-sector' ? readFloppyImage(path, bytes) : readKernelImage(path, bytes);
  }
  if (flags.floppy === undefined)
    throw new BootscopeError('cli-image', 'name an image to boot, or a disk with --floppy');
  return readFloppyImage(flags.floppy, await readImageFile(flags.floppy));
}

/** Reads the files that the flags name. */
export async function bootOptions(flags: BootFlags): Promise<BootOptions> {
  return {
    ...DEFAULT_BOOT_OPTIONS,
    engine: flags.engine,
    memory: flags.memory,
    cpu: flags.cpu,
    floppy: flags.floppy === undefined ? null : await readImageFile(flags.floppy),
    entry: flags.entry,
    decompress: flags.decompress,
    cmdline: flags.cmdline,
    kaslr: flags.kaslr,
    initrd:
      flags.initrd === undefined ? null : { path: flags.initrd, bytes: await readImageFile(flags.initrd) },
    loadAddress: flags.loadAddress ?? null,
    initrdAddress: flags.initrdAddress ?? null,
    cmdlineAddress: flags.cmdlineAddress ?? null,
    bootParamsAddress: flags.bootParamsAddress ?? null,
    e820: flags.e820 === undefined ? null : parseE820(flags.e820, await readImageFile(flags.e820)),
    hash: flags.hash ?? true,
    timeoutSeconds: flags.timeout ?? null,
  };
}

/** One entry a line: start, end (exclusive), type; `#` begins a comment. */
function parseE820(path: string, bytes: Uint8Array): readonly E820Entry[] {
  const entries: E820Entry[] = [];
  for (const [index, line] of new TextDecoder().decode(bytes).split('\n').entries()) {
    const text = line.replace(/#.*/, '').trim();
    if (text === '') continue;
    const match = /^(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+(\d+)$/i.exec(text);
    if (match === null || BigInt(match[2]!) <= BigInt(match[1]!)) {
      throw new BootscopeError(
        'cli-e820',
        `${path}, line ${index + 1}: \`${text}\` is not \`START END TYPE\` such as \`0x100000 0x20000000 1\``,
      );
    }
    const address = BigInt(match[1]!);
    entries.push({ address, size: BigInt(match[2]!) - address, type: Number(match[3]) });
  }
  if (entries.length === 0 || entries.length > 128) {
    throw new BootscopeError('cli-e820', `${path}: ${entries.length} entries; a memory map has 1 to 128`);
  }
  return entries;
}
