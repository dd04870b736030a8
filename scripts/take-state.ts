// Boots an image in QEMU up to where a loader hands over to the kernel, and writes what its machine held there into a folder that
// `bootscope boot --from-state` and `lint --from-state` read: an ELF core of QEMU's own making, and which image it was. Or takes it
// from another virtual machine monitor that stands at its entry behind a gdb stub, as Firecracker does (its docs/gdb-debugging.md).

import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { PT_LOAD, readElf } from '../src/image/elf.ts';
import { readImageFile } from '../src/image/image-file.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { readXenNotes } from '../src/image/vmlinux.ts';
import { GdbRemote } from './gdb-remote.ts';
import { QemuMachine } from './reference/qemu-machine.ts';

export interface TakeStateOptions {
  readonly entry: 'real16' | 'prot32' | 'pvh';
  readonly at?: bigint;
  readonly cmdline: string;
  readonly initrd?: string;
  readonly machine: string;
  readonly memory: number;
  readonly cpu: string;
  readonly timeout: number;
}

/** Where QEMU's option ROM enters setup: at 0x10000, or at 0x90000 below protocol 2.02 and for a zImage. */
const SETUP_ENTRIES = [0x10200n, 0x90200n];
const CODE_32 = 0x100000n;

async function placesOf(image: string, { entry, at }: TakeStateOptions): Promise<readonly bigint[]> {
  if (at !== undefined) return [at];
  if (entry === 'real16') return SETUP_ENTRIES;
  const read = await readKernelImage(image, await readImageFile(image));
  if (entry === 'prot32') return [BigInt(read.header.get('code32_start')) || CODE_32];
  const note = read.kind === 'vmlinux' ? readXenNotes(readElf(read.bytes)).pvhEntry : null;
  if (note === null) throw new Error(`${image} is no vmlinux with a PVH entry`);
  return [note];
}

/** @returns where it stopped */
export async function takeState(image: string, folder: string, options: TakeStateOptions): Promise<bigint> {
  const { cmdline, initrd, machine, memory, cpu, timeout } = options;
  const places = await placesOf(image, options);
  mkdirSync(folder, { recursive: true });
  const qemu = await QemuMachine.start(
    {
      ...{ start: 'kernel', image, cmdline, initrd: initrd ?? null, memoryMegabytes: memory, cpu },
      ...{ timeout: timeout * 1000, extra: ['-M', machine] },
    },
    true,
  );
  try {
    const stopped = await qemu.runTo(places);
    await qemu.dumpMemory(join(resolve(folder), 'memory.elf'));
    writeFileSync(join(folder, 'state.json'), `${JSON.stringify({ image: resolve(image) }, null, 2)}\n`);
    return stopped;
  } finally {
    await qemu.close();
  }
}

export interface StubOptions {
  /** Path of the socket that the stub listens on. */
  readonly socket: string;
  readonly entry: 'long64' | 'pvh';
  /** Run there first; else it stands at the entry. */
  readonly at?: bigint;
  /** What else to take: an initrd, a command line above 1 MiB. Ends are exclusive. */
  readonly ranges?: readonly (readonly [start: bigint, end: bigint])[];
}

/** What Firecracker sets (src/vmm/src/arch/x86_64: regs.rs, gdt.rs); its stub shows no control registers. */
const FIRECRACKER = {
  gdtr: { base: '0x500', limit: '0x1f' },
  long64: { cr0: '0x80000011', cr3: '0x9000', cr4: '0x20', efer: '0x500' },
  pvh: { cr0: '0x11', cr4: '0x0', efer: '0x0' },
} as const;
/** As gdb's x86-64 description has them, in packet `g`: 8 bytes each, from EFLAGS on 4. */
const STUB_REGISTERS = [
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip'] as const),
] as const;
const STUB_SMALL_REGISTERS = ['rflags', 'cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;
/** Boot_params, GDT, page tables, command line, ACPI's root pointer: all that loaders put below. */
const LOW_END = 0x100000n;
/** No stub answers a packet of more than 4096 characters. */
const STUB_READ = 2032n;

/** Takes registers and memory from a machine behind a gdb stub. @returns where it stands */
export async function takeStateFromStub(
  image: string,
  folder: string,
  { socket, entry, at, ranges = [] }: StubOptions,
): Promise<bigint> {
  const connection = connect(socket);
  await once(connection, 'connect');
  const stub = new GdbRemote(connection);
  try {
    if (at !== undefined) {
      await stub.demand(`Z0,${at.toString(16)},1`);
      const stop = await stub.request('c');
      if (!/^[TS]05/.test(stop))
        throw new Error(`it stopped with "${stop}" instead of at 0x${at.toString(16)}`);
      await stub.demand(`z0,${at.toString(16)},1`);
    }
    const bytes = Buffer.from(await stub.request('g'), 'hex');
    const registers = Object.fromEntries([
      ...STUB_REGISTERS.map((name, index) => [name, bytes.readBigUInt64LE(index * 8)] as const),
      ...STUB_SMALL_REGISTERS.map(
        (name, index) => [name, BigInt(bytes.readUInt32LE(STUB_REGISTERS.length * 8 + index * 4))] as const,
      ),
    ]);
    mkdirSync(folder, { recursive: true });
    const segments = readElf(await readImageFile(image)).programHeaders.filter(
      ({ type, filesz }) => type === PT_LOAD && filesz > 0n,
    );
    const memory: { file: string; address: string }[] = [];
    const all = [
      [0n, LOW_END] as const,
      ...segments.map(({ paddr, filesz }) => [paddr, paddr + filesz] as const),
      ...ranges,
    ];
    for (const [start, end] of all) {
      const address = `0x${start.toString(16)}`;
      writeFileSync(join(folder, address), await readStub(stub, start, end));
      memory.push({ file: address, address });
    }
    const texts = Object.entries(registers).map(([name, value]) => [name, `0x${value.toString(16)}`]);
    const state = {
      image: resolve(image),
      registers: { ...Object.fromEntries(texts), ...FIRECRACKER[entry] },
      gdtr: FIRECRACKER.gdtr,
      memory,
    };
    writeFileSync(join(folder, 'state.json'), `${JSON.stringify(state, null, 2)}\n`);
    return registers.rip!;
  } finally {
    stub.close();
  }
}

async function readStub(stub: GdbRemote, start: bigint, end: bigint): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let at = start; at < end; at += STUB_READ) {
    const length = end - at < STUB_READ ? end - at : STUB_READ;
    const reply = await stub.request(`m${at.toString(16)},${length.toString(16)}`);
    const piece = Buffer.from(reply, 'hex');
    if (BigInt(piece.length) !== length)
      throw new Error(`it answered "${reply}" for memory at 0x${at.toString(16)}`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function rangeOf(
  text: string,
  before: readonly (readonly [bigint, bigint])[],
): (readonly [bigint, bigint])[] {
  const [, start, end] = /^(0x[0-9a-f]+)\.\.(0x[0-9a-f]+)$/i.exec(text) ?? [];
  if (start === undefined || end === undefined || BigInt(end) <= BigInt(start)) {
    throw new InvalidArgumentError('it is a range such as 0x1000000..0x1200000.');
  }
  return [...before, [BigInt(start), BigInt(end)]];
}

function addressOf(text: string): bigint {
  if (!/^0x[0-9a-f]+$/i.test(text)) throw new InvalidArgumentError('it is an address such as 0x100000.');
  return BigInt(text);
}

function numberOf(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('it is a number from 1 on.');
  return Number(text);
}

interface CommandOptions extends Omit<TakeStateOptions, 'entry'> {
  readonly entry: TakeStateOptions['entry'] | 'long64';
  readonly gdb?: string;
  readonly range: readonly (readonly [bigint, bigint])[];
}

if (process.argv[1]?.endsWith('take-state.ts')) {
  const program = new Command('take-state')
    .description('boots IMAGE in QEMU up to the jump into the kernel and writes the state there into FOLDER')
    .argument('<image>', 'bzImage, zImage, or a vmlinux for pvh')
    .argument('<folder>', 'where memory.elf and state.json go')
    .addOption(
      new Option(
        '--entry <point>',
        "which jump: QEMU's option ROM to setup, setup to startup_32, or PVH's; with --gdb long64 or pvh",
      )
        .choices(['real16', 'prot32', 'long64', 'pvh'])
        .default('real16'),
    )
    .option(
      '--gdb <socket>',
      'take it from the machine behind this socket of a gdb stub, by default where it stands',
    )
    .option(
      '--range <start..end>',
      'memory to take by --gdb beside the first MiB and the kernel',
      rangeOf,
      [],
    )
    .option('--at <address>', 'stop at this linear address instead', addressOf)
    .option('--cmdline <text>', 'kernel command line', '')
    .option('--initrd <file>', 'initial RAM disk')
    .option('--machine <model>', "QEMU's machine", 'pc')
    .option('--memory <megabytes>', 'guest RAM; the core has as much', numberOf, 512)
    .option('--cpu <model>', "QEMU's processor", 'qemu64')
    .option('--timeout <seconds>', 'end QEMU after so long', numberOf, 120)
    .action(async (image: string, folder: string, options: CommandOptions) => {
      const { gdb, entry, range, ...forQemu } = options;
      const stubEntry = entry === 'pvh' ? 'pvh' : 'long64';
      if (gdb === undefined && entry === 'long64')
        throw new Error('QEMU enters no kernel by long64; --gdb does');
      const stopped =
        gdb === undefined
          ? await takeState(image, folder, { ...forQemu, entry: entry as TakeStateOptions['entry'] })
          : await takeStateFromStub(image, folder, {
              ...{ socket: gdb, entry: stubEntry, ranges: range },
              ...(options.at === undefined ? {} : { at: options.at }),
            });
      process.stdout.write(`${folder}: the state at 0x${stopped.toString(16)}\n`);
    });
  program.parseAsync().catch((error: Error) => {
    process.stderr.write(`take-state: ${error.message}\n`);
    process.exitCode = 1;
  });
}
