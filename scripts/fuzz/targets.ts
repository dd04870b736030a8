// What is fuzzed: each target makes one hostile input from its dice and hands it to the code that has to bear it.
// A target gives back what came out, as text; an error that Bootscope may throw is part of that, any other is a find.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { boot } from '../../src/boot/boot.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../../src/boot/options.ts';
import { openBoot } from '../../src/boot/session.ts';
import { CODEC_NAMES, codecByName } from '../../src/codecs/registry.ts';
import { findAccessors } from '../../src/debug/writers.ts';
import { parseKaslrOption } from '../../src/decompressor/kaslr-entropy.ts';
import { readFloppyImage } from '../../src/image/boot-disk.ts';
import { readKernelFile } from '../../src/image/describe-file.ts';
import { readEfiImage } from '../../src/image/efi-program.ts';
import { elfFileLength, readElf, readElfNotes, readElfSymbols } from '../../src/image/elf.ts';
import { extractVmlinux } from '../../src/image/extract-vmlinux.ts';
import { takeApart } from '../../src/image/image-parts.ts';
import { type KernelImage, readKernelImage } from '../../src/image/kernel-image.ts';
import { packImage } from '../../src/image/pack.ts';
import { makeManifest, parseManifest } from '../../src/image/part-manifest.ts';
import { readPe } from '../../src/image/pe.ts';
import { makeDeviceTree, makeElf, makePe, noise } from '../../src/image/test-images.ts';
import { readUImage } from '../../src/image/uimage.ts';
import { ovmfMemoryMap } from '../../src/machine/uefi/ovmf-map.ts';
import { efiProgram, ProgramWriter } from '../../src/machine/uefi/test-program.ts';
import { parseEfiMemoryMap } from '../../src/protocol/efi-memory-map.ts';
import { BOOT_SERVICES, RUNTIME_SERVICES, TABLE_HEADER_SIZE } from '../../src/protocol/efi-tables.ts';
import { readMemoryMap } from '../../src/protocol/memory-map-text.ts';
import { compareTraces } from '../../src/report/difference.ts';
import { type Json, traceToJson } from '../../src/report/json.ts';
import { compareWithReference } from '../../src/report/reference.ts';
import { parseTraceJson } from '../../src/report/trace-json.ts';
import { findKallsyms } from '../../src/trace/kallsyms.ts';
import { walkPageTables } from '../../src/x86/page-tables.ts';
import { PhysicalMemory } from '../../src/x86/physical-memory.ts';
import type { Dice } from './dice.ts';
import { DISK_READERS } from './disks.ts';
import {
  changeAny,
  changeBytes,
  changeCode,
  changeFields,
  changeLength,
  changeText,
  headerFields,
  SETUP_FIELDS,
} from './mutate.ts';

export interface Target {
  readonly name: string;
  /** A whole boot on the CPU. */
  readonly boots: boolean;
  /** @throws BootscopeError for an input that is refused */
  readonly run: (dice: Dice) => Promise<string>;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CODECS = ['gzip', 'bzip2', 'lzma', 'xz', 'lzo', 'lz4', 'zstd'] as const;
const MIB = 2 ** 20;
const OUTPUT_LIMIT = 4 * MIB;
/** Of the demo images: setup, and the head of the stub before the payload. */
const BOOT_SECTOR = 512;
const ELF_HEADER = 64;

const demos = new Map<string, Uint8Array>();
function demo(name: string): Uint8Array {
  const known = demos.get(name) ?? new Uint8Array(readFileSync(join(ROOT, 'images/demo', name)));
  demos.set(name, known);
  return known;
}
const BZIMAGES = [...CODECS.map((codec) => `demo-${codec}.bzImage`), 'demo-i386.bzImage'];
const IMAGES = [...BZIMAGES, 'demo.zImage'];

function text(value: unknown): string {
  return JSON.stringify(value, (_key, field) =>
    typeof field === 'bigint' ? `0x${field.toString(16)}` : field,
  );
}

// ---------------------------------------------------------------- readers

function reader(name: string, run: (dice: Dice) => unknown): Target {
  return {
    name,
    boots: false,
    run: async (dice) => text(await run(dice)) ?? 'nothing',
  };
}

/** Every kind of file that a kernel comes in. */
function containers(): readonly Uint8Array[] {
  const bzImage = demo('demo-gzip.bzImage');
  const elf64 = makeElf(64, noise(900));
  const uimage = new Uint8Array(64 + bzImage.length);
  uimage.set(Buffer.from('27051956', 'hex'));
  uimage.set([0, 0, bzImage.length >> 8, bzImage.length & 0xff], 12);
  uimage.set([5, 2, 2, 0], 28);
  uimage.set(bzImage, 64);
  return [
    ...IMAGES.map(demo),
    elf64,
    makeElf(32, noise(600)),
    makePe({ '.cmdline': Buffer.from('quiet'), '.linux': bzImage, '.osrel': Buffer.from('ID=x\n') }),
    makePe({ '.text': noise(700) }, 0xaa64),
    gzipSync(bzImage),
    gzipSync(elf64),
    uimage,
    Uint8Array.from(
      Buffer.concat([
        new Uint8Array(36),
        Buffer.from('18286f01', 'hex'),
        new Uint8Array(8),
        gzipSync(noise(900)),
      ]),
    ),
    Uint8Array.from(Buffer.concat([Buffer.from('070701'), Buffer.from('0'.repeat(104)), noise(50)])),
    Uint8Array.from(Buffer.concat([Buffer.from('d00dfeed', 'hex'), noise(300)])),
    fitOf(bzImage),
    Uint8Array.from(Buffer.concat([Buffer.from('ANDROID!'), noise(1600), bzImage])),
    noise(2000),
  ];
}

/** A FIT image with a kernel, a device tree, their hashes and a configuration. */
function fitOf(kernel: Uint8Array): Uint8Array {
  const tree = makeDeviceTree({ model: 'A board', compatible: 'maker,board' });
  const image = (data: Uint8Array, type: string, compression: string) => ({
    ...{ data, type, compression, arch: 'x86', os: 'linux', load: Uint8Array.of(0, 0x10, 0, 0) },
    'hash-1': { algo: 'sha1', value: noise(20) },
  });
  return makeDeviceTree({
    description: 'fit',
    images: { kernel: image(gzipSync(kernel), 'kernel', 'gzip'), fdt: image(tree, 'flat_dt', 'none') },
    configurations: { default: 'conf', conf: { kernel: 'kernel', fdt: 'fdt' } },
  });
}

/** Takes a file apart, and puts it together again: the same bytes, from files that stay in their folder. */
async function unpackAndPack(bytes: Uint8Array): Promise<string> {
  const apart = await takeApart('input', bytes);
  const manifest = parseManifest('manifest', text(makeManifest('input', apart)));
  const files = new Map<string, Uint8Array>();
  for (const { file, offset, length } of apart.parts) {
    files.set(file, apart.bytes.subarray(offset, offset + length));
  }
  for (const { file, bytes: content } of apart.unpacked) files.set(file, content);
  const none = { kernel: null, relocations: null, level: null, stub: null, codec: null, cmdline: null };
  const packed = await packImage(manifest, async (file) => files.get(file)!, { ...none, fields: [] });
  if (Buffer.compare(packed.bytes, apart.bytes) !== 0)
    throw new Error('packing does not give the same bytes');
  return `${apart.kind} ${apart.parts.length}`;
}

let containerList: readonly Uint8Array[] | null = null;
function container(dice: Dice): Uint8Array {
  containerList ??= containers();
  const bytes = dice.pick(containerList);
  return changeAny(bytes, dice, headerFields(0, Math.min(bytes.length, 0x280)));
}

const streams = new Map<string, Uint8Array>();
/** The payload of the codec's demo image. */
async function stream(codec: (typeof CODECS)[number]): Promise<Uint8Array> {
  const known = streams.get(codec);
  if (known !== undefined) return known;
  const image = await readKernelImage(codec, demo(`demo-${codec}.bzImage`));
  const { offset, length } = image.payload!;
  const bytes = image.protectedModeCode.slice(offset, offset + length);
  streams.set(codec, bytes);
  return bytes;
}

function codecTarget(name: (typeof CODECS)[number], portable: boolean): Target {
  return reader(`codec-${name}${portable ? '-portable' : ''}`, async (dice) => {
    const good = await stream(name);
    const bytes = changeAny(good, dice, headerFields(0, Math.min(good.length, 64)));
    const output = new Uint8Array(dice.once(4) ? dice.below(0x10000) : OUTPUT_LIMIT);
    const codec = await codecByName(name);
    return codec.decompress(bytes, output, { portable, unchecked: dice.once(4) });
  });
}

let vmlinux: Uint8Array | null = null;
async function demoVmlinux(): Promise<Uint8Array> {
  vmlinux ??= (await extractVmlinux(await readKernelImage('demo', demo('demo-gzip.bzImage')))).bytes;
  return vmlinux;
}

let traceText: string | null = null;
async function demoTrace(): Promise<string> {
  traceText ??= text(await bootJson(await readKernelImage('demo', demo('demo-lz4.bzImage')), {}));
  return traceText;
}

const KASLR_TEXTS = [
  'off',
  'seed:1',
  'entropy:0x1,2',
  'phys:0x2000000,virt:0xffffffff9a000000',
  'virt:0x1a000000',
];
const E820_TEXT = '0x0 0x9fc00 1\n0x9fc00 0xa0000 2 # EBDA\n0x100000 0x8000000 1\n0xfffc0000 0x100000000 2\n';

const readers: readonly Target[] = [
  reader('kernel-file', (dice) => readKernelFile('input', container(dice))),
  reader(
    'extract',
    async (dice) => (await extractVmlinux(await readKernelImage('input', container(dice)))).bytes.length,
  ),
  reader('fit', (dice) => {
    const fit = fitOf(demo(dice.pick(BZIMAGES)));
    // The structure is small beside the data in it.
    return readKernelFile('input', changeAny(fit, dice, headerFields(0, dice.once(2) ? 40 : 400)));
  }),
  reader('unpack', (dice) => unpackAndPack(container(dice))),
  reader('elf', async (dice) => {
    const good = dice.once(2) ? await demoVmlinux() : makeElf(dice.once(2) ? 32 : 64, noise(500));
    const elf = readElf(changeAny(good, dice, headerFields(0, ELF_HEADER + 2 * 56)));
    return [readElfSymbols(elf).length, readElfNotes(elf).length, elfFileLength(elf)];
  }),
  reader('kallsyms', async (dice) => {
    const elf = readElf(changeBytes(await demoVmlinux(), dice, ELF_HEADER));
    return findKallsyms(elf)?.size ?? null;
  }),
  reader('pe', (dice) =>
    readPe(changeAny(makePe({ '.linux': noise(300), '.a': noise(9) }), dice, headerFields(0, 0x200))),
  ),
  reader('uimage', (dice) => {
    const bytes = Uint8Array.from(Buffer.concat([Buffer.from('27051956', 'hex'), noise(200)]));
    return readUImage(changeAny(bytes, dice, headerFields(0, 64)));
  }),
  ...Object.entries(DISK_READERS).map(([name, run]) => reader(name, run)),
  reader('page-tables', (dice) => {
    const ram = new Uint8Array(0x40000);
    for (let entry = 0; entry < 600; entry++) ram.set(dice.bytes(5), dice.below(ram.length / 8 - 1) * 8);
    const bits = dice.below(8);
    const registers = {
      cr0: bits & 1 ? 0x80000011n : 0x80000001n,
      cr3: BigInt(dice.below(0x40) << 12),
      cr4: (bits & 2 ? 0x20n : 0n) | (bits & 4 ? 0x1000n : 0x10n),
      efer: bits & 1 ? 0xd00n : 0n,
    };
    return walkPageTables(PhysicalMemory.of(ram), registers as never)?.tables.length ?? null;
  }),
  reader('trace-json', async (dice) => {
    const other = parseTraceJson('b', await demoTrace());
    const ours = parseTraceJson(
      'a',
      dice.once(3) ? changeText(await demoTrace(), dice) : changedValues(await demoTrace(), dice),
    );
    return compareTraces(ours, other, { strict: dice.once(2) }).length;
  }),
  reader('reference', async (dice) => {
    const reference = JSON.parse(changedValues(await demoTrace(), dice)) as never;
    return compareWithReference(JSON.parse(await demoTrace()) as Json, reference, ['registers', '*.sha256'])
      .length;
  }),
  reader('kaslr-option', (dice) => parseKaslrOption(changeText(dice.pick(KASLR_TEXTS), dice))),
  reader('memory-map', (dice) =>
    readMemoryMap(
      'map',
      new TextEncoder().encode(dice.once(2) ? changeText(E820_TEXT, dice) : changeMap(dice)),
    ),
  ),
  ...CODEC_NAMES.flatMap((name) => [codecTarget(name, false), codecTarget(name, true)]),
];

/** JSON that stays JSON: numbers and strings changed in place. */
function changedValues(json: string, dice: Dice): string {
  let seen = 0;
  const chosen = dice.below(400);
  return json.replace(/:("[^"]*"|-?\d+|null|true|\[\]|\{\})/g, (all) =>
    seen++ === chosen
      ? `:${dice.pick(['null', '0', '-1', '"0x10"', '[]', '{}', '[null]', '"x"', 'true'])}`
      : all,
  );
}

// ---------------------------------------------------------------- whole boots

async function bootJson(image: KernelImage, options: Partial<BootOptions>): Promise<unknown> {
  const finished = await boot(image, {
    ...DEFAULT_BOOT_OPTIONS,
    memory: 64 * MIB,
    timeoutSeconds: 5,
    ...options,
  });
  try {
    const json = traceToJson(finished.trace) as Record<string, unknown>;
    const { engine: _, engineVersion: __, ...machine } = json.machine as Record<string, unknown>;
    return { ...json, machine };
  } finally {
    finished.close();
  }
}

/** How the input is booted: mostly as the command does by default. */
function randomOptions(dice: Dice): Partial<BootOptions> {
  return {
    ...(dice.once(4) ? { entry: dice.pick(['prot32', 'long64'] as const) } : {}),
    ...(dice.once(6) ? { decompress: 'emulated' as const } : {}),
    ...(dice.once(3) ? { kaslr: { kind: 'seed' as const, seed: BigInt(dice.below(1000)) } } : {}),
    ...(dice.once(8)
      ? { cmdline: dice.pick(['nokaslr', 'mem=32M', 'memmap=1M$16M', 'earlyprintk=serial']) }
      : {}),
  };
}

function bootTarget(
  name: string,
  make: (dice: Dice) => Promise<{ readonly bytes: Uint8Array; readonly options?: Partial<BootOptions> }>,
): Target {
  return {
    name: `boot-${name}`,
    boots: true,
    run: async (dice) => {
      const { bytes, options } = await make(dice);
      const chosen = { ...randomOptions(dice), ...options };
      const image = chosen.floppy
        ? await readFloppyImage('input', bytes)
        : await readKernelImage('input', bytes);
      return text(await bootJson(image, chosen));
    },
  };
}

interface Parts {
  readonly bytes: Uint8Array;
  /** Offset of the protected-mode code in the file. */
  readonly code: number;
  /** The payload's offset in the file and its length. */
  readonly payload: number;
  readonly payloadLength: number;
}

async function parts(name: string): Promise<Parts> {
  const bytes = demo(name);
  const image = await readKernelImage(name, bytes);
  const code = image.setupSize;
  return { bytes, code, payload: code + image.payload!.offset, payloadLength: image.payload!.length };
}

/** The demo's kernel with damage, compressed again into the payload's place. */
async function changedKernel(dice: Dice): Promise<Uint8Array> {
  const { bytes, payload, payloadLength } = await parts('demo-gzip.bzImage');
  const good = await demoVmlinux();
  const elf = dice.once(3)
    ? changeCode(good, dice, ELF_HEADER, good.length)
    : changeFields(good, dice, headerFields(0, ELF_HEADER + 3 * 56));
  const whole = Uint8Array.from(bytes);
  const header = bytes.subarray(payload, payload + 10);
  const body = deflateRawSync(elf, { level: 9 });
  const fits = 10 + body.length + 8 <= payloadLength;
  // A gzip stream without its trailer's truth: the kernel reads neither.
  if (fits) whole.set(Buffer.concat([header, body]), payload);
  return whole;
}

const boots: readonly Target[] = [
  bootTarget('header', async (dice) => ({
    bytes: changeFields(demo(dice.pick(IMAGES)), dice, SETUP_FIELDS),
  })),
  bootTarget('setup-code', async (dice) => {
    const { bytes, code } = await parts(dice.pick(BZIMAGES));
    return { bytes: changeCode(bytes, dice, BOOT_SECTOR, code), options: { entry: 'real16' } };
  }),
  bootTarget('stub-head', async (dice) => {
    const { bytes, code, payload } = await parts(dice.pick(BZIMAGES));
    return { bytes: changeCode(bytes, dice, code, payload) };
  }),
  bootTarget('stub-tail', async (dice) => {
    const { bytes, payload, payloadLength } = await parts(dice.pick(BZIMAGES));
    return { bytes: changeCode(bytes, dice, payload + payloadLength, bytes.length) };
  }),
  bootTarget('payload', async (dice) => {
    const { bytes, payload, payloadLength } = await parts(dice.pick(BZIMAGES));
    return { bytes: changeBytes(bytes, dice, payload, payload + payloadLength) };
  }),
  bootTarget('kernel-elf', async (dice) => ({ bytes: await changedKernel(dice) })),
  {
    name: 'boot-who',
    boots: true,
    run: async (dice) => {
      const { bytes, code, payload } = await parts(dice.pick(BZIMAGES));
      const changed = dice.once(2) ? bytes : changeCode(bytes, dice, code, payload);
      const image = await readKernelImage('input', changed);
      const options = {
        ...DEFAULT_BOOT_OPTIONS,
        memory: 64 * MIB,
        timeoutSeconds: 5,
        // Each access to the range is told of, which takes its time.
        maxInstructions: 1_000_000,
        ...randomOptions(dice),
      };
      const session = await openBoot(image, options);
      try {
        const start = Number(dice.number(4, 0x100000n)) % (64 * MIB);
        const end = Math.min(64 * MIB, start + dice.small(0x2000) + 1);
        const phase = dice.pick(['setup', 'startup_32', 'extract_kernel', 'kernel'] as const);
        const access = dice.once(3) ? 'read' : 'write';
        const place = { kind: 'phase', phase } as const;
        const { accessors } = await findAccessors(session, image, { start, end }, access, place);
        return text({ accessors, stopped: session.trace().stopped });
      } finally {
        session.close();
      }
    },
  },
  bootTarget('any-bytes', async (dice) => ({ bytes: changeAny(demo(dice.pick(IMAGES)), dice) })),
  bootTarget('zimage', async (dice) => {
    const bytes = demo('demo.zImage');
    return {
      bytes: dice.once(2)
        ? changeFields(bytes, dice, SETUP_FIELDS)
        : changeCode(bytes, dice, 0, bytes.length),
      options: dice.once(2) ? { entry: 'boot-sector' } : {},
    };
  }),
  bootTarget('floppy', async (dice) => {
    const disk = new Uint8Array(1440 * 1024);
    disk.set(demo('demo.zImage'));
    if (dice.once(3)) disk.set(dice.bytes(BOOT_SECTOR - 2));
    disk.set([0x55, 0xaa], BOOT_SECTOR - 2);
    const floppy = changeCode(changeBytes(disk, dice, 0, 0x2000), dice, 0, BOOT_SECTOR - 2);
    return { bytes: floppy, options: { floppy, entry: 'boot-sector' } };
  }),
  bootTarget('surroundings', async (dice) => {
    const bytes = demo(dice.pick(IMAGES));
    const address = (): number | null => (dice.once(2) ? null : Number(dice.number(4, 0x100000n)));
    return {
      bytes,
      options: {
        cmdline: changeText(`console=ttyS0 memmap=2M$32M mem=${dice.below(99)}M nokaslr`, dice),
        initrd: { path: 'initrd', bytes: changeLength(noise(dice.small(0x8000) + 1), dice) },
        initrdAddress: address(),
        cmdlineAddress: address(),
        bootParamsAddress: address(),
        loadAddress: dice.once(2) ? null : dice.below(32) * 0x200000,
        ...(dice.once(2)
          ? { memoryMap: readMemoryMap('map', new TextEncoder().encode(changeMap(dice))).entries }
          : {}),
      },
    };
  }),
];

// ---------------------------------------------------------------- booted by EFI

const EFI_MEMORY = 128 * MIB;
/** The headers of `efiProgram`: DOS, PE, and the section table. */
const PE_HEADERS = 0x180;

/** A program that calls services with what a guest that has gone wrong would give them. */
function hostileProgram(dice: Dice): Uint8Array {
  const program = new ProgramWriter();
  const pointer = (): number => dice.pick([0, 1, 0x1000, 0x160_0000, 0x7ff_ff00, 0xffff_f000, 0x7fff_fff0]);
  const argument = (): bigint | number =>
    dice.pick([
      pointer(),
      pointer(),
      dice.below(20),
      dice.number(4, 0x1000n),
      0xffff_ffffn,
      0x7fff_ffff_ffff_ffffn,
      0xffff_ffff_ffff_ffffn,
    ]);
  for (let call = 1 + dice.below(6); call > 0; call--) {
    const [table, count] = dice.pick([
      ['boot', BOOT_SERVICES.length],
      ['runtime', RUNTIME_SERVICES.length],
    ] as const);
    const args = Array.from({ length: dice.below(7) }, (_, index) =>
      index === 0 && dice.once(3) ? 'handle' : argument(),
    );
    program.call(table, TABLE_HEADER_SIZE + dice.below(count) * 8, ...args);
  }
  return efiProgram(program.halt(), dice.once(3) ? dice.bytes(64) : null);
}

function changeEfiMap(dice: Dice): string {
  const { map } = ovmfMemoryMap(EFI_MEMORY, { fileSize: 0x1200, imageSize: 0x2000 });
  const kept = map.filter(() => !dice.once(200));
  const lines = kept.map(({ start, end, type, attributes }) => {
    const number = (value: number): string =>
      `0x${(dice.once(400) ? dice.number(8, BigInt(value)) : BigInt(value)).toString(16)}`;
    const kind = dice.once(200) ? dice.pick(['Conventional', 'LoaderCode', 'Mmio', 'Persistent']) : type;
    return `${number(start)} ${number(end)} ${kind} 0x${attributes.toString(16)}`;
  });
  return dice.once(4) ? changeText(lines.join('\n'), dice) : lines.join('\n');
}

function efiTarget(
  name: string,
  make: (dice: Dice) => { readonly bytes: Uint8Array; readonly options?: Partial<BootOptions> },
): Target {
  return {
    name: `efi-${name}`,
    boots: true,
    run: async (dice) => {
      const { bytes, options } = make(dice);
      const image = await readEfiImage('input', bytes);
      return text(await bootJson(image, { entry: 'efi', memory: EFI_MEMORY, ...options }));
    },
  };
}

const efi: readonly Target[] = [
  efiTarget('headers', (dice) => ({
    bytes: changeFields(hostileProgram(dice), dice, headerFields(0, PE_HEADERS)),
  })),
  efiTarget('services', (dice) => ({
    bytes: hostileProgram(dice),
    options: {
      efiNx: dice.once(4),
      efiProtocols: dice.once(2) ? ['rng', 'tcg', 'tcg2', 'memory-attribute'] : [],
    },
  })),
  efiTarget('memory-map', (dice) => ({
    bytes: hostileProgram(dice),
    options: { efiMemoryMap: parseEfiMemoryMap(changeEfiMap(dice)) },
  })),
];

function changeMap(dice: Dice): string {
  const lines = E820_TEXT.split('\n').filter(Boolean);
  return lines
    .map((line) =>
      line.replace(/0x[0-9a-f]+/g, (old) =>
        dice.once(6) ? `0x${dice.number(4, BigInt(old)).toString(16)}` : old,
      ),
    )
    .join('\n');
}

export const TARGETS: readonly Target[] = [...readers, ...boots, ...efi];
