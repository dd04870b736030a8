// The same calls to Bootscope's BIOS and to SeaBIOS in QEMU: a boot sector makes them and sends each result through port E9h.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { noQemu } from '../../../test/witnesses.ts';
import { enterRealMode } from '../../cpu/enter-mode.ts';
import { openCpu } from '../../cpu/open.ts';
import { diskOfBytes } from '../../image/disk-image.ts';
import { Machine } from '../machine.ts';
import { call } from '../real-mode-program.ts';

const MIB = 1024 * 1024;
const SMAP = 0x534d4150;
const DEBUG_PORT = 0xe9;
const EXIT_PORT = 0x501;
const PROGRAM = 0x8000;
const REPORT = 0x7d00;
const RECORD_SIZE = 40;
const FLAG_CF = 0x01;
const FLAG_ZF = 0x40;

const NOTHING = { es: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, esi: 0, edi: 0 };
type Registers = Parameters<typeof call>[1];
type Result = 'eax' | 'ebx' | 'ecx' | 'edx' | 'esi' | 'edi' | 'es' | 'cf' | 'zf';

/** What is asked, and where the answers may differ: addresses of tables, and what the two PCs differ in. */
const CALLS: readonly (readonly [
  name: string,
  vector: number,
  registers: Registers,
  mayDiffer?: readonly Result[],
])[] = [
  ['conventional memory', 0x12, { eax: 0x1234 }],
  ['reset the floppy', 0x13, { eax: 0, edx: 0 }],
  ['read 5 sectors', 0x13, { eax: 0x0205, ebx: 0xa000, ecx: 2, edx: 0 }],
  ['read sector 36', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0x24, edx: 0 }],
  ['read sector 18', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0x12, edx: 0 }],
  ['read sector 19', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0x13, edx: 0 }],
  ['read cylinder 80', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0x5001, edx: 0 }],
  ['read head 2', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 1, edx: 0x200 }],
  ['read over the end of a track', 0x13, { eax: 0x0213, ebx: 0xa000, ecx: 1, edx: 0 }],
  ['read over the end of a cylinder', 0x13, { eax: 0x0202, ebx: 0xa000, ecx: 0x12, edx: 0x100 }],
  ['read no sectors', 0x13, { eax: 0x0200, ebx: 0xa000, ecx: 1, edx: 0 }],
  ['read across 64 KiB', 0x13, { eax: 0x0202, ebx: 0xff00, ecx: 1, edx: 0 }],
  ['read the second floppy', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 1, edx: 1 }],
  ['read a hard disk', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 1, edx: 0x80 }],
  ['verify', 0x13, { eax: 0x0402, ebx: 0xa000, ecx: 1, edx: 0 }],
  ['floppy parameters', 0x13, { eax: 0x0800, ebx: 0, ecx: 0, edx: 0, edi: 0 }, ['edi']],
  ['hard disk parameters', 0x13, { eax: 0x0800, edx: 0x80 }],
  ['floppy type', 0x13, { eax: 0x1500, ecx: 0xffff, edx: 0 }],
  ['hard disk type', 0x13, { eax: 0x1500, ecx: 0xffff, edx: 0x81 }],
  ['disk change', 0x13, { eax: 0x1600, edx: 0 }],
  ['EDD present', 0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x80 }],
  ['EDD parameters', 0x13, { eax: 0x4800, edx: 0x80, esi: 0x600 }],
  ['E820 from the start', 0x15, { eax: 0xe820, ebx: 0, ecx: 20, edx: SMAP, edi: 0x600 }],
  ['E820 with 24 bytes', 0x15, { eax: 0xe820, ebx: 3, ecx: 24, edx: SMAP, edi: 0x600 }],
  ['E820 without signature', 0x15, { eax: 0xe820, ebx: 0, ecx: 20, edx: 0, edi: 0x600 }],
  ['E820 past the end', 0x15, { eax: 0xe820, ebx: 77, ecx: 20, edx: SMAP, edi: 0x600 }],
  ['E801', 0x15, { eax: 0xe801, ebx: 0, ecx: 0, edx: 0 }],
  ['88h', 0x15, { eax: 0x8800 }],
  ['E881', 0x15, { eax: 0xe881 }],
  ['A20 off', 0x15, { eax: 0x2400 }],
  ['A20 status when off', 0x15, { eax: 0x2402 }],
  ['A20 on', 0x15, { eax: 0x2401 }],
  ['A20 status when on', 0x15, { eax: 0x2402 }],
  ['A20 support', 0x15, { eax: 0x2403, ebx: 0 }],
  ['A20 unknown', 0x15, { eax: 0x2404 }],
  ['target mode', 0x15, { eax: 0xec00, ebx: 2 }],
  ['SpeedStep', 0x15, { eax: 0xe980, edx: 0x47534943 }],
  ['configuration table', 0x15, { eax: 0xc000, ebx: 0 }, ['ebx']],
  ['EBDA', 0x15, { eax: 0xc100 }],
  ['keyboard intercept', 0x15, { eax: 0x4f1e }],
  ['device busy', 0x15, { eax: 0x9000 }],
  ['wait', 0x15, { eax: 0x8600, ecx: 0, edx: 100 }],
  ['APM present', 0x15, { eax: 0x5300, ebx: 0, ecx: 0 }],
  ['APM disconnect', 0x15, { eax: 0x5304, ebx: 0 }],
  ['APM connect', 0x15, { eax: 0x5303, ebx: 0, ecx: 0, edx: 0, esi: 0, edi: 0 }, ['ebx']],
  ['nothing known', 0x15, { eax: 0x7777 }],
  ['key waiting', 0x16, { eax: 0x0100 }],
  ['shift flags', 0x16, { eax: 0x0200 }],
  ['typematic rate', 0x16, { eax: 0x0305, ebx: 0 }],
  ['extended shift flags', 0x16, { eax: 0x1200 }],
  ['keyboard functions', 0x16, { eax: 0x0900 }],
  ['set mode 3', 0x10, { eax: 0x0003 }],
  ['cursor', 0x10, { eax: 0x0300, ebx: 0, ecx: 0, edx: 0 }],
  ['mode', 0x10, { eax: 0x0f00, ebx: 0xff00 }],
  ['EGA information', 0x10, { eax: 0x1200, ebx: 0x10, ecx: 0 }],
  ['display combination', 0x10, { eax: 0x1a00, ebx: 0 }],
  ['font', 0x10, { eax: 0x1130, ebx: 0x0600, ecx: 0, edx: 0 }, ['es']],
  ['character under the cursor', 0x10, { eax: 0x0800, ebx: 0 }],
  ['VBE', 0x10, { eax: 0x4f00, edi: 0x600 }],
  ['VBE mode', 0x10, { eax: 0x4f03, ebx: 0 }],
  ['VBE mode 112h', 0x10, { eax: 0x4f01, ecx: 0x112, edi: 0x600 }],
  ['VBE mode 1FFh', 0x10, { eax: 0x4f01, ecx: 0x1ff, edi: 0x600 }],
  ['DDC', 0x10, { eax: 0x4f15, ebx: 0 }],
  ['EDID', 0x10, { eax: 0x4f15, ebx: 1, edx: 0, edi: 0x600 }],
  ['protected mode interface', 0x10, { eax: 0x4f0a, ebx: 0 }],
  ['8x8 font', 0x10, { eax: 0x1112, ebx: 0 }],
  ['font then', 0x10, { eax: 0x1130, ebx: 0x0100, ecx: 0, edx: 0 }, ['es']],
  ['set ticks', 0x1a, { eax: 0x0100, ecx: 0, edx: 100 }],
  ['serial status', 0x14, { eax: 0x0300, edx: 0 }],
];

/** In the boot sector: a packet for 42h and room for what 48h tells. */
const PACKET = 0x7d80;
const PARAMETERS = 0x7da0;
const PARAMETERS_SIZE = 74;

const HARD_DISK_CALLS: typeof CALLS = [
  ['reset', 0x13, { eax: 0, edx: 0x80 }],
  ['read the first sector', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 1, edx: 0x80 }],
  ['read 3 sectors of the next head', 0x13, { eax: 0x0203, ebx: 0xa000, ecx: 0x3f, edx: 0x180 }],
  ['read sector 64', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0x40, edx: 0x80 }],
  ['read head 16', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 1, edx: 0x1080 }],
  ['read behind the last cylinder', 0x13, { eax: 0x0201, ebx: 0xa000, ecx: 0xffc1, edx: 0x80 }],
  ['read no sectors', 0x13, { eax: 0x0200, ebx: 0xa000, ecx: 1, edx: 0x80 }],
  ['verify', 0x13, { eax: 0x0402, ebx: 0xa000, ecx: 1, edx: 0x80 }],
  ['parameters', 0x13, { eax: 0x0800, edx: 0x80 }],
  ['parameters of the second', 0x13, { eax: 0x0800, edx: 0x81 }],
  ['kind', 0x13, { eax: 0x1500, ecx: 0xffff, edx: 0x80 }],
  ['kind of the second', 0x13, { eax: 0x1500, ecx: 0xffff, edx: 0x81 }],
  ['EDD present', 0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x80 }],
  ['EDD present without magic', 0x13, { eax: 0x4100, ebx: 0, edx: 0x80 }],
  ['EDD of the second', 0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x81 }],
  ['EDD read', 0x13, { eax: 0x4200, edx: 0x80, esi: PACKET }],
  ['EDD seek', 0x13, { eax: 0x4700, edx: 0x80, esi: PACKET }],
  ['EDD parameters', 0x13, { eax: 0x4800, edx: 0x80, esi: PARAMETERS }],
  ['no CD was booted', 0x13, { eax: 0x4b01, edx: 0x80, esi: 0x600 }],
  ['an unknown function', 0x13, { eax: 0x7700, edx: 0x80 }],
  ['its status', 0x13, { eax: 0x0100, edx: 0x80 }],
];

function word(value: number): readonly number[] {
  return [value & 0xff, value >>> 8];
}

/** A 1.44M disk: the boot sector reads the program to 8000h, and the program makes the calls. */
function makeDisk(calls: typeof CALLS): Uint8Array {
  const start = [
    ...[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c], // DS = ES = SS = 0, SP = 7C00h
    ...[0xb8, 0x10, 0x02, 0xbb, ...word(PROGRAM), 0xb9, 0x02, 0x00, 0x31, 0xd2, 0xcd, 0x13], // read 16 sectors
    ...[0xea, ...word(PROGRAM), 0x00, 0x00],
  ];
  const report = [
    ...[0x66, 0x9c, 0x66, 0x60, 0x06, 0x1e], // pushfd; pushad; push es; push ds
    ...[0x31, 0xc0, 0x8e, 0xd8, 0x89, 0xe6, 0xfc, 0xb9, RECORD_SIZE, 0x00], // DS:SI = stack
    ...[0xac, 0xe6, DEBUG_PORT, 0xe2, 0xfb], // lodsb; out; loop
    ...[0x1f, 0x07, 0x66, 0x61, 0x66, 0x9d, 0xc3],
  ];
  const program: number[] = [];
  for (const [, vector, registers] of calls) {
    program.push(...call(vector, { ...NOTHING, ...registers }));
    program.push(0xe8, ...word((REPORT - (PROGRAM + program.length + 3)) & 0xffff));
  }
  // Behind the records, what 48h has told.
  program.push(0xbe, ...word(PARAMETERS), 0xb9, ...word(PARAMETERS_SIZE), 0xac, 0xe6, DEBUG_PORT, 0xe2, 0xfb);
  program.push(0xba, ...word(EXIT_PORT), 0xee, 0xfa, 0xf4);
  if (program.length > 16 * 512) {
    throw new Error(`the program has ${program.length} bytes, the boot sector reads 8192`);
  }
  const disk = new Uint8Array(1_474_560);
  disk.set(start);
  disk.set(report, REPORT - 0x7c00);
  disk.set([16, 0, 2, 0, ...word(0xa000), 0, 0, 5], PACKET - 0x7c00);
  disk.set(word(PARAMETERS_SIZE), PARAMETERS - 0x7c00);
  disk.set([0x55, 0xaa], 510);
  disk.set(program, 512);
  return disk;
}

/** A hard disk of 40 MiB with a partition, whose sectors begin with their numbers. */
function makeHardDisk(): Uint8Array {
  const disk = new Uint8Array(40 * MIB);
  const view = new DataView(disk.buffer);
  for (let at = 0; at < disk.length; at += 512) view.setUint32(at, at / 512, true);
  disk.set([0x80, 0x20, 0x21, 0, 0x83, 15, 63, 80, 0, 8, 0, 0, 0, 0x30, 1, 0], 446);
  disk.set([0x55, 0xaa], 510);
  return disk;
}

function parseRecords(bytes: Uint8Array): readonly Readonly<Record<Result, number>>[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.length / RECORD_SIZE) }, (_, index) => {
    const at = index * RECORD_SIZE;
    const register = (offset: number) => view.getUint32(at + offset, true);
    const flags = register(36);
    return {
      es: view.getUint16(at + 2, true),
      edi: register(4),
      esi: register(8),
      ebx: register(20),
      edx: register(24),
      ecx: register(28),
      eax: register(32),
      cf: flags & FLAG_CF,
      zf: (flags & FLAG_ZF) >>> 6,
    };
  });
}

async function runHere(disk: Uint8Array, hardDisk: Uint8Array | null): Promise<Uint8Array> {
  const cpu = await openCpu();
  const output: number[] = [];
  const machine = new Machine(cpu, {
    memory: 512 * MIB,
    floppy: disk,
    disks: hardDisk === null ? [] : [diskOfBytes('disk.img', hardDisk)],
    onEvent: (event) => {
      if (event.kind === 'port' && event.port === DEBUG_PORT) {
        output.push(event.value);
      }
    },
  });
  machine.ram.set(disk.subarray(0, 512), 0x7c00);
  enterRealMode(cpu, {
    ...{ cs: 0, ip: 0x7c00, ss: 0, sp: 0x7c00, ds: 0, es: 0, flags: 0x200 },
  });
  cpu.run({ sliceMilliseconds: 20_000 });
  cpu.close();
  return Uint8Array.from(output);
}

function runInQemu(disk: Uint8Array, hardDisk: Uint8Array | null): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-seabios-'));
  try {
    const [image, output] = [join(folder, 'disk.img'), join(folder, 'output')];
    writeFileSync(image, disk);
    const second = join(folder, 'hard-disk.img');
    if (hardDisk !== null) writeFileSync(second, hardDisk);
    spawnSync(
      'qemu-system-x86_64',
      [
        ...['-M', 'pc', '-m', '512', '-nodefaults', '-vga', 'std', '-serial', 'null', '-display', 'none'],
        ...['-drive', `if=floppy,format=raw,file=${image}`, '-boot', 'a'],
        ...(hardDisk === null ? [] : ['-drive', `if=ide,format=raw,file=${second}`]),
        ...['-debugcon', `file:${output}`, '-device', `isa-debug-exit,iobase=${EXIT_PORT}`],
      ],
      { timeout: 60_000, stdio: 'ignore' },
    );
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const suite = noQemu === null ? describe : describe.skip;

suite.each([
  ['', CALLS, null],
  [' with a hard disk', HARD_DISK_CALLS, makeHardDisk()],
] as const)(
  `BIOS calls answered as by SeaBIOS%s${noQemu === null ? '' : ` (left out: ${noQemu})`}`,
  (_, calls, hardDisk) => {
    let ours: ReturnType<typeof parseRecords> = [];
    let theirs: ReturnType<typeof parseRecords> = [];
    let told: readonly Uint8Array[] = [];

    beforeAll(async () => {
      const disk = makeDisk(calls);
      const [here, there] = [await runHere(disk, hardDisk), runInQemu(disk, hardDisk)];
      const records = calls.length * RECORD_SIZE;
      ours = parseRecords(here.subarray(0, records));
      theirs = parseRecords(there.subarray(0, records));
      told = [here, there].map((bytes) => bytes.slice(records));
    });

    it('come back from every call in both', () => {
      expect([ours.length, theirs.length]).toEqual([calls.length, calls.length]);
    });

    it('tell the same of the drive, but for where a table lies', () => {
      const [here, there] = told.map((bytes) => [...bytes.fill(0, 26, 30)]);
      expect(here).toEqual(there);
    });

    it.each(calls.map(([name, , , mayDiffer], index) => ({ name, index, mayDiffer: mayDiffer ?? [] })))(
      '$name',
      ({ index, mayDiffer }) => {
        const compared = (record: Readonly<Record<Result, number>> | undefined) =>
          Object.fromEntries(
            Object.entries(record ?? {})
              .filter(([name]) => !mayDiffer.includes(name as Result))
              .map(([name, value]) => [name, value.toString(16)]),
          );
        expect(compared(ours[index])).toEqual(compared(theirs[index]));
      },
    );
  },
);
