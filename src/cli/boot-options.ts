// The options of every subcommand that boots an image, and how their texts become numbers.

import { type Command, InvalidArgumentError, Option } from 'commander';

import { ENTRIES } from '../boot/entries/table.ts';
import { imageOfDrives } from '../boot/image-of-drives.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS, HANDOVER_ROOMS, readEfiFaults } from '../boot/options.ts';
import type { EngineName } from '../cpu/cpu.ts';
import { type KaslrOption, parseKaslrOption } from '../decompressor/kaslr-entropy.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { readFloppyImage } from '../image/boot-disk.ts';
import { openDisk } from '../image/disk-file.ts';
import { readEfiImage } from '../image/efi-program.ts';
import { openEsp } from '../image/esp.ts';
import { readImageFile } from '../image/image-file.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { cpuProfiles } from '../machine/cpu-profiles.ts';
import { BOOT_DEVICES, type BootDevice } from '../machine/drives.ts';
import { parseKeys } from '../machine/keys.ts';
import { MACHINE_MODELS } from '../machine/memory-map.ts';
import { OPTIONAL_PROTOCOLS, type OptionalProtocol } from '../machine/uefi/optional-protocols.ts';
import { FIRMWARE_MEMMAP_LOOP, readMemoryMap } from '../protocol/memory-map-text.ts';
import type { EntryPoint } from '../trace/boot-trace.ts';
import {
  BOOT_OPTIONS_HEADING,
  parseAddress,
  parseSeconds,
  parseSize,
  repeatable,
  SHOW_ALL_OPTIONS,
  wholeNumber,
} from './common-options.ts';
import { printError } from './standard-output.ts';

/** What commander hands over; see `addBootOptions`. */
export interface BootFlags {
  readonly cmdline: string;
  /** Commands leave out what they decide themselves. */
  readonly kaslr?: KaslrOption;
  readonly initrd?: string;
  readonly floppy?: string;
  readonly disk?: readonly string[];
  readonly cdrom?: string;
  readonly esp?: string;
  readonly efiVars?: string;
  readonly keys?: BootOptions['keys'];
  readonly bootOrder?: BootOptions['bootOrder'];
  readonly machine?: BootOptions['machine'];
  readonly memory: number;
  readonly engine: 'auto' | EngineName;
  readonly cpu: string;
  readonly entry?: EntryPoint;
  readonly decompress?: BootOptions['decompress'];
  readonly loadAddress?: number;
  readonly initrdAddress?: number;
  readonly cmdlineAddress?: number;
  readonly bootParamsAddress?: number;
  readonly memoryMap?: string;
  readonly efiProtocol?: readonly OptionalProtocol[];
  readonly fromState?: string;
  readonly efiNx?: boolean;
  readonly handoverRoom?: BootOptions['handoverRoom'];
  /** As they were typed: reading them takes the firmware's code. */
  readonly efiFail?: readonly string[];
  readonly hash?: boolean;
  readonly shortcuts?: boolean;
  readonly maxInstructions?: number;
  readonly timeout?: number;
}

/** As commander calls them. */
const BOOT_OPTION_NAMES: readonly (keyof BootFlags)[] = [
  ...(['cmdline', 'kaslr', 'initrd', 'machine', 'memory', 'engine', 'cpu', 'entry', 'decompress'] as const),
  ...(['floppy', 'disk', 'cdrom', 'esp', 'efiVars', 'keys', 'bootOrder'] as const),
  ...(['loadAddress', 'initrdAddress', 'cmdlineAddress', 'bootParamsAddress'] as const),
  ...(['memoryMap', 'fromState', 'efiProtocol', 'efiNx', 'handoverRoom', 'efiFail'] as const),
  ...(['hash', 'shortcuts', 'maxInstructions', 'timeout'] as const),
];

/** How a command's boot options differ from those of `boot`. */
export interface BootOptionChoices {
  /** Default time limits, for the help. */
  readonly timeouts?: string;
  /** Options that change nothing in this command. */
  readonly without?: readonly (keyof BootFlags)[];
}

/** What the short help shows: what makes one boot another. */
const COMMON: ReadonlySet<string> = new Set(['cmdline', 'initrd', 'kaslr', 'memory', 'entry']);

/** Adds them, with the defaults of `DEFAULT_BOOT_OPTIONS`, in a group of their own. */
export function addBootOptions(
  command: Command,
  { timeouts = '60; 1800 emulated; 10 without a kernel', without = [] }: BootOptionChoices = {},
): Command {
  for (const option of bootOptionList(timeouts)) {
    if (without.some((name) => name === option.attributeName())) continue;
    option.helpGroup(BOOT_OPTIONS_HEADING).hideHelp(!SHOW_ALL_OPTIONS && !COMMON.has(option.attributeName()));
    command.addOption(option);
  }
  if (!SHOW_ALL_OPTIONS) {
    command.addHelpText(
      'after',
      '\n--help-all lists all boot options: addresses, memory map, CPU, engine, disk.',
    );
  }
  return command;
}

function bootOptionList(timeouts: string): readonly Option[] {
  const defaults = DEFAULT_BOOT_OPTIONS;
  const profiles = cpuProfiles().map(({ name }) => name);
  return [
    new Option('--cmdline <text>', 'kernel command line').default(defaults.cmdline),
    new Option('--initrd <file>', 'initial RAM disk'),
    new Option(
      '--kaslr <choice>',
      'off, seed:N, entropy:RDTSC1,RDTSC2 (with ,rng:HEX for EFI) or phys:ADDR,virt:ADDR',
    )
      .argParser(parseKaslrOption)
      .default(defaults.kaslr, 'off'),
    new Option('--machine <model>', "QEMU's machine that RAM and its map follow")
      .choices(MACHINE_MODELS)
      .default(defaults.machine),
    new Option('--memory <size>', 'guest RAM, from 4M to what the processor can address')
      .argParser(parseSize)
      .default(defaults.memory, '512M'),
    new Option(
      '--entry <point>',
      'how the image is entered; by default real16, a vmlinux by its own width',
    ).choices([...new Set(ENTRIES.map(({ name }) => name))]),
    new Option('--decompress <way>', 'hooked: in TypeScript; emulated: by the guest, on the CPU')
      .choices(['hooked', 'emulated'])
      .default(defaults.decompress),
    new Option('--floppy <file>', 'disk in drive A; without an image, the machine boots from it'),
    repeatable(
      new Option(
        '--disk <file>',
        'raw hard disk, the next one from drive 80h on; it is read as it is asked for, and never written',
      ).argParser(collect),
    ),
    new Option('--cdrom <file>', 'ISO image in the CD drive'),
    new Option(
      '--esp <folder or file>',
      'EFI system partition, as a folder or a disk; firmware boots it without an image',
    ),
    new Option(
      '--efi-vars <file>',
      'EFI variables, BootOrder and boot entries among them: JSON of virt-fw-vars or QEMU, or a VARS.fd of OVMF',
    ),
    new Option(
      '--keys <keys>',
      'pressed as the guest asks for keys: down,enter or a text; esc, tab, space, up, left, f10 are others',
    ).argParser(parseKeys),
    new Option(
      '--boot-order <devices>',
      `where the BIOS looks for a boot loader: ${BOOT_DEVICES.join(', ')}; without an image it boots from there`,
    )
      .argParser(parseBootOrder)
      .default(defaults.bootOrder, defaults.bootOrder.join(',')),
    new Option('--engine <name>', 'the Unicorn to run on; auto takes WASM where it is installed')
      .choices(['auto', 'wasm', 'native'])
      .default(defaults.engine),
    new Option('--cpu <profile>', `what CPUID reports: ${profiles.join(', ')}`).default(defaults.cpu),
    new Option('--load-address <address>', 'where prot32 and long64 load the protected-mode code').argParser(
      parseAddress,
    ),
    new Option('--initrd-address <address>', 'where the initrd goes').argParser(parseAddress),
    new Option('--cmdline-address <address>', 'where the command line goes').argParser(parseAddress),
    new Option('--boot-params-address <address>', 'where prot32 and long64 put boot_params').argParser(
      parseAddress,
    ),
    new Option(
      '--memory-map <file>',
      'memory map: lines of START END TYPE (END exclusive), a log with BIOS-e820 or efi: mem lines, /proc/iomem, ' +
        `/sys/kernel/boot_params/data, or the output of: ${FIRMWARE_MEMMAP_LOOP}`,
    ),
    new Option(
      '--from-state <folder>',
      'go on from what another loader has left: an ELF core of dump-guest-memory, or state.json with memory dumps',
    ),
    repeatable(
      new Option('--efi-protocol <name>', 'what the EFI firmware has beside what all have')
        .choices(OPTIONAL_PROTOCOLS)
        .argParser(protocol),
    ),
    new Option('--efi-nx', 'EFI firmware that lets nothing run in memory that nobody has said to be code'),
    new Option(
      '--handover-room <size>',
      'what the boot loader of efi-handover allocates: init_size of the header, or the size of the file',
    )
      .choices(HANDOVER_ROOMS)
      .default(defaults.handoverRoom),
    repeatable(
      new Option(
        '--efi-fail <service[:n]=status>',
        'let an EFI service fail, or its nth call only: ExitBootServices:1=INVALID_PARAMETER',
      ).argParser(collect),
    ),
    new Option('--hash', 'SHA-256 of image and segments (the default where JSON is written)'),
    new Option('--no-hash', 'leave them out'),
    new Option('--no-shortcuts', 'leave to the CPU what the host does quicker with the same result'),
    new Option('--max-instructions <n>', 'end a boot that has executed so many').argParser(
      wholeNumber('instructions', 1, Number.MAX_SAFE_INTEGER),
    ),
    new Option('--timeout <seconds>', `end a boot that got nowhere (${timeouts})`).argParser(parseSeconds),
  ];
}

function protocol(text: string, before: readonly OptionalProtocol[] = []): readonly OptionalProtocol[] {
  const found = OPTIONAL_PROTOCOLS.find((name) => name === text.toLowerCase());
  if (found === undefined)
    throw new BootscopeError('efi-protocol', `"${text}" is none of ${OPTIONAL_PROTOCOLS.join(', ')}`);
  return [...before, found];
}

function parseBootOrder(text: string): readonly BootDevice[] {
  return text.split(',').map((word) => {
    const device = BOOT_DEVICES.find((each) => each === word.trim());
    if (device !== undefined) return device;
    throw new InvalidArgumentError(`it is a list of ${BOOT_DEVICES.join(', ')}.`);
  });
}

function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** What is called otherwise in `BootOptions`. */
const OTHER_NAMES: Partial<Record<keyof BootFlags, keyof BootOptions>> = {
  timeout: 'timeoutSeconds',
  efiFail: 'efiFaults',
  efiProtocol: 'efiProtocols',
  efiVars: 'efiVariables',
  disk: 'disks',
};

/** Names of the boot options that the command line gives a value, as `BootOptions` calls them. */
export function givenOptions(command: Command): ReadonlySet<string> {
  const names = BOOT_OPTION_NAMES.filter((name) => command.getOptionValueSource(name) === 'cli');
  return new Set(names.map((name) => OTHER_NAMES[name] ?? name));
}

/** How every command that boots tells of its argument. */
export const IMAGE_ARGUMENT = [
  '[image]',
  'bzImage, zImage, vmlinux, a gzip of one, or a Unified Kernel Image; none to boot from --disk, --floppy, --cdrom or --esp',
] as const;

/** The arguments IMAGE and RANGE: with a disk to boot from, the only one is the range. */
export function imageAndRange(
  { floppy, disk, cdrom, esp }: BootFlags,
  first: string | undefined,
  second: string | undefined,
): readonly [image: string | undefined, range: string | undefined] {
  const namesDisk = [floppy, disk, cdrom, esp].some((each) => each !== undefined);
  return namesDisk && second === undefined ? [undefined, first] : [first, second];
}

/** What a command boots, and how. */
export interface BootRequest {
  readonly image: KernelImage;
  readonly options: BootOptions;
}

/**
 * Reads the files that argument and flags name. With a disk alone that is what boots.
 *
 * @param bytes - of the image, where they have been read
 * @throws BootscopeError `cli-image` where neither image nor disk is named, or more than one disk, or a disk with another entry
 */
export async function readBootRequest(
  path: string | undefined,
  flags: BootFlags,
  bytes: Uint8Array | null = null,
): Promise<BootRequest> {
  const { entry, floppy } = flags;
  if (flags.initrdAddress !== undefined && flags.initrd === undefined) {
    throw new BootscopeError(
      'cli-unused-options',
      `--initrd-address ${hex(flags.initrdAddress)} has no effect without --initrd`,
    );
  }
  if (flags.fromState !== undefined) return readStateRequest(path, flags, flags.fromState);
  if (path !== undefined) {
    if (entry === 'boot-sector' && floppy !== undefined) {
      throw new BootscopeError(
        'cli-image',
        `with --entry boot-sector ${path} is the disk in drive A; leave out --floppy ${floppy}, or name it alone`,
      );
    }
    const image = await readBootImage(path, entry, bytes);
    checkAlignment(image, flags);
    return { image, options: await bootOptions(flags) };
  }
  return readDiskRequest(flags);
}

/** Without an image the machine boots by its BIOS, from the first device in its order that there is. */
async function readDiskRequest(flags: BootFlags): Promise<BootRequest> {
  const { entry, floppy, disk, cdrom, esp } = flags;
  if (esp !== undefined) return readEspRequest(esp, flags);
  const there = [floppy, disk?.[0], cdrom].filter((path) => path !== undefined);
  if (there.length === 0) {
    throw new BootscopeError(
      'cli-image',
      'name an image to boot, or a disk with --disk, --floppy, --cdrom or --esp',
    );
  }
  if (entry !== undefined && entry !== 'real16' && entry !== 'boot-sector') {
    throw new BootscopeError(
      'cli-image',
      `--entry ${entry} needs an image; without one the machine boots from the disk ${there.join(', ')}`,
    );
  }
  const options = await bootOptions({ ...flags, entry: 'boot-sector' });
  return { image: (await imageOfDrives(options, floppy))!, options };
}

/** What a state decides, with the options that would say something else. */
const DECIDED_BY_STATE = [
  ...(['cmdline', 'initrd', 'floppy', 'loadAddress', 'initrdAddress'] as const),
  ...(['cmdlineAddress', 'bootParamsAddress', 'efiProtocol', 'efiFail', 'efiVars'] as const),
] as const satisfies readonly (keyof BootFlags)[];

/** @throws BootscopeError `cli-unused-options`, `cli-image`, and those of `readLoaderState` */
async function readStateRequest(
  path: string | undefined,
  flags: BootFlags,
  folder: string,
): Promise<BootRequest> {
  const unused = DECIDED_BY_STATE.find((name) => flags[name] !== undefined && flags[name] !== '');
  if (unused !== undefined) {
    const option = unused.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new BootscopeError(
      'cli-unused-options',
      `--${option} has no effect with --from-state ${folder}: the loader has decided it`,
    );
  }
  const { readLoaderState } = await import('../image/loader-state.ts');
  const state = readLoaderState(folder);
  const file = path ?? state.image;
  if (file === null) {
    throw new BootscopeError(
      'cli-image',
      `${folder} does not name the kernel that was loaded: name its file, too`,
    );
  }
  return { image: await readBootImage(file, flags.entry), options: { ...(await bootOptions(flags)), state } };
}

/** Without an image UEFI firmware boots what it boots of a removable disk. */
async function readEspRequest(path: string, flags: BootFlags): Promise<BootRequest> {
  const { entry, disk, floppy, cdrom } = flags;
  const other = disk?.[0] ?? floppy ?? cdrom;
  if (other !== undefined) {
    throw new BootscopeError(
      'cli-image',
      `firmware is a BIOS or UEFI: --esp ${path} boots by UEFI, ${other} by a BIOS; name one of them`,
    );
  }
  if (entry !== undefined && entry !== 'efi') {
    throw new BootscopeError('cli-image', `--entry ${entry} needs an image; --esp ${path} boots by UEFI`);
  }
  const options = await bootOptions({ ...flags, entry: 'efi' });
  return { image: (await imageOfDrives(options))!, options };
}

/** MIN_KERNEL_ALIGN of arch/x86/include/asm/boot.h where the header does not say more: of every stub that draws an address. */
const LEAST_PHYSICAL_ALIGNMENT = 0x2000;

/** The stub is linked with its sections on whole pages; more than that it makes up for itself. */
const PAGE = 0x1000;

/**
 * Addresses that the kernel cannot be put at, before anything is booted.
 *
 * @throws BootscopeError `cli-alignment`
 */
function checkAlignment({ header, kind }: KernelImage, { kaslr, loadAddress, entry }: BootFlags): void {
  if (kind !== 'bzImage') return;
  const check = (option: string, address: number, alignment: number): void => {
    if (address % alignment === 0) return;
    throw new BootscopeError(
      'cli-alignment',
      `${option}${hex(address)} is no multiple of ${hex(alignment)}, as this kernel needs; ` +
        `${hex(Math.floor(address / alignment) * alignment)} is`,
    );
  };
  if (kaslr?.kind === 'forced' && kaslr.physical !== null) {
    check('--kaslr phys:', kaslr.physical, header.get('kernel_alignment') || LEAST_PHYSICAL_ALIGNMENT);
  }
  if (loadAddress !== undefined && entry !== 'real16') check('--load-address ', loadAddress, PAGE);
}

/**
 * An image file: any disk where it is to boot by its boot sector, else a kernel.
 * @param bytes - of the file, where it has been read
 */
export async function readBootImage(
  path: string,
  entry: EntryPoint | undefined | null,
  bytes: Uint8Array | null = null,
): Promise<KernelImage> {
  const content = bytes ?? (await readImageFile(path));
  if (entry === 'boot-sector') return readFloppyImage(path, content);
  return entry === 'efi' ? readEfiImage(path, content) : readKernelImage(path, content);
}

/** Reads the files that the flags name. */
export async function bootOptions(flags: BootFlags): Promise<BootOptions> {
  return {
    ...DEFAULT_BOOT_OPTIONS,
    engine: flags.engine,
    machine: flags.machine ?? DEFAULT_BOOT_OPTIONS.machine,
    memory: flags.memory,
    cpu: flags.cpu,
    floppy: flags.floppy === undefined ? null : await readImageFile(flags.floppy, { what: 'floppy disk' }),
    disks: (flags.disk ?? []).map(openDisk),
    cdrom: flags.cdrom === undefined ? null : openDisk(flags.cdrom),
    keys: flags.keys ?? [],
    esp: flags.esp === undefined ? null : openEsp(flags.esp),
    efiVariables: flags.efiVars === undefined ? [] : await readVariables(flags.efiVars),
    bootOrder: flags.bootOrder ?? DEFAULT_BOOT_OPTIONS.bootOrder,
    entry: flags.entry ?? null,
    decompress: flags.decompress ?? DEFAULT_BOOT_OPTIONS.decompress,
    cmdline: flags.cmdline,
    kaslr: flags.kaslr ?? DEFAULT_BOOT_OPTIONS.kaslr,
    initrd:
      flags.initrd === undefined
        ? null
        : { path: flags.initrd, bytes: await readImageFile(flags.initrd, { what: 'initrd' }) },
    loadAddress: flags.loadAddress ?? null,
    initrdAddress: flags.initrdAddress ?? null,
    cmdlineAddress: flags.cmdlineAddress ?? null,
    bootParamsAddress: flags.bootParamsAddress ?? null,
    ...(flags.memoryMap === undefined ? {} : await readMemoryMapFile(flags.memoryMap, flags)),
    efiProtocols: flags.efiProtocol ?? [],
    efiNx: flags.efiNx ?? false,
    handoverRoom: flags.handoverRoom ?? DEFAULT_BOOT_OPTIONS.handoverRoom,
    efiFaults: flags.efiFail === undefined ? [] : await readEfiFaults(flags.efiFail),
    hash: flags.hash ?? true,
    shortcuts: flags.shortcuts ?? true,
    maxInstructions: flags.maxInstructions ?? null,
    timeoutSeconds: flags.timeout ?? null,
  };
}

async function readVariables(path: string): Promise<BootOptions['efiVariables']> {
  const { readEfiVariables } = await import('../image/efi-variable-file.ts');
  return readEfiVariables(path, await readImageFile(path, { what: 'file of EFI variables' }));
}

/** Reads a machine's memory map, and says what else its source tells that no option uses. */
async function readMemoryMapFile(
  path: string,
  flags: BootFlags,
): Promise<Pick<BootOptions, 'memoryMap' | 'efiMemoryMap'>> {
  const { entries, efiMap, commandLine, initrd, bootedByEfi } = readMemoryMap(
    path,
    await readImageFile(path, { what: 'memory map' }),
  );
  const notice = (text: string): void => printError(`notice: ${path} ${text}\n`);
  if (commandLine !== null && flags.cmdline === '') {
    notice(`has a command line, too: --cmdline '${commandLine.replaceAll("'", "'\\''")}'`);
  }
  if (initrd !== null && flags.initrdAddress === undefined) {
    const where = `${hex(initrd.address)}..${hex(initrd.address + initrd.size)}`;
    notice(`had its initrd at ${where}: --initrd FILE --initrd-address ${hex(initrd.address)}`);
  }
  if (bootedByEfi && efiMap === null) {
    notice('is of a boot through EFI, without the map of EFI itself, which the kernel prints with efi=debug');
  }
  return { memoryMap: entries, efiMemoryMap: efiMap };
}
