// What runs of boot loaders, with boot sectors that are made here; those of others are compared in test/loader-references.test.ts.

import { describe, expect, it } from 'vitest';
import { bootDisk } from '../../image/boot-disk.ts';
import { diskOfBytes } from '../../image/disk-image.ts';
import type { FileNode } from '../../image/file-tree.ts';
import { makePe, makeSegmentedElf, noise } from '../../image/test-images.ts';
import type { ReadFile } from '../../machine/sector-loads.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { openBoot } from '../session.ts';
import { FileSearch } from './loader-programs.ts';
import { loaderDisk } from './test-loader-disk.ts';

/** A disk with code in its first sector, and more behind it. */
function disk(code: readonly number[], size = 2880 * 512): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(code);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

const INT_18H = [0xcd, 0x18];
const CLI_HLT = [0xfa, 0xf4];

async function programsOf(...given: Parameters<typeof openBoot>) {
  using session = await openBoot(...given);
  await session.run();
  const { phases, stopped } = session.trace();
  return {
    stopped,
    phases: phases.map(({ name, program, registers }) => [name, program, Number(registers.rdx & 0xffn)]),
  };
}

describe('the programs of a boot loader', () => {
  it('are followed to the next device, where the first gives up by INT 18h', async () => {
    const disks = [diskOfBytes('first.img', disk(INT_18H))];
    const { phases, stopped } = await programsOf(bootDisk('first.img', 'disk'), {
      ...{ disks, floppy: disk(CLI_HLT), bootOrder: ['disk', 'floppy'], entry: 'boot-sector' },
    });
    expect(phases).toEqual([
      ['boot-sector', 'boot sector', 0x80],
      ['boot-sector', 'boot sector', 0],
    ]);
    expect(stopped).toContain('halted with interrupts off');
  });

  it('end where there is no next device', async () => {
    const disks = [diskOfBytes('only.img', disk(INT_18H))];
    const { stopped } = await programsOf(bootDisk('only.img', 'disk'), {
      ...{ disks, entry: 'boot-sector' },
    });
    expect(stopped).toContain('INT 18h: it found nothing to boot');
  });

  it('are known by where INT 13h has read them to', async () => {
    // mov ax, 0201h; mov cx, 2; mov bx, 8000h; int 13h; jmp 0:8000h
    const read = [0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xbb, 0x00, 0x80, 0xcd, 0x13, 0xea, 0x00, 0x80, 0, 0];
    const bytes = disk(read);
    bytes.set(CLI_HLT, 512);
    const disks = [diskOfBytes('two.img', bytes)];
    const { phases } = await programsOf(bootDisk('two.img', 'disk'), { ...{ disks, entry: 'boot-sector' } });
    expect(phases.map(([name, program]) => [name, program])).toEqual([
      ['boot-sector', 'boot sector'],
      ['stage1.5', 'no file system'],
    ]);
  });
});

describe('what a boot loader has read and unpacked', () => {
  /** `ljmp 0:0x8000` */
  const GO = 'ea00800000';

  async function regionsOf(disk: Uint8Array) {
    const disks = [diskOfBytes('made.img', disk)];
    using session = await openBoot(bootDisk('made.img', 'disk'), {
      disks,
      entry: 'boot-sector',
      memory: 64 << 20,
    });
    await session.run();
    const { phases, stopped } = session.trace();
    const regions = session.layout().filter(({ kind }) => kind === 'loader');
    return {
      phases: phases.map(({ name, address, summary }) => [name, Number(address), summary]),
      regions: regions.map(({ name, start, end }) => [name, Number(start), Number(end)]),
      stopped,
    };
  }

  it('is followed above 1 MiB, page by page, and no further than code of it may lie', async () => {
    // Unpacks what lies behind it, by NOT, to 0x200000 and 0x203000, and leaves `cli; hlt` at 0x230000.
    const stage = Buffer.from(
      'fa0f011680800f20c00c010f22c066ea168000000800b8100000008ed88ec08ed0bc007c0000be86800000bf00002000b940000000acf6d0aae2fabec6800000bf00302000b940000000acf6d0aae2fac60500002300fac60501002300f4b800002000ffe09090900000000000000000ffff0000009acf00ffff00000092cf00170068800000',
      'hex',
    );
    // Four registers are loaded, then on to 0x203000; the same there, and on to 0x230000.
    const packed = [
      'b811111111bb22222222b933333333ba44444444b800302000ffe090909090909090909090909090909090909090909090909090909090909090909090909090',
      'b855555555bb66666666b977777777ba88888888b800002300ffe090909090909090909090909090909090909090909090909090909090909090909090909090',
    ].map((hex) => Buffer.from(hex, 'hex').map((byte) => ~byte & 0xff));
    const { phases, regions, stopped } = await regionsOf(
      loaderDisk([[0x8000, Buffer.concat([stage, ...packed])]], GO),
    );
    expect(phases).toEqual([
      ['boot-sector', 0x7c00, 'boot sector; 1 BIOS call'],
      ['stage1.5', 0x8000, 'no file system'],
      ['stage2', 0x200000, ''],
    ]);
    expect(regions).toEqual([
      ['no file system', 0x8000, 0x8200],
      ['what no file system has unpacked', 0x200000, 0x204000],
    ]);
    expect(stopped).toContain('in phase stage2 at 0x230002 (prot32)');
  });

  it('is known wherever in what was read it begins', async () => {
    const late = Buffer.alloc(512);
    for (let index = 0; index < 0x40; index++) late[index] = index;
    late.set([0xb8, 0x34, 0x12, 0xbb, 0x78, 0x56, 0xb9, 0xbc, 0x9a, ...CLI_HLT], 0x40);
    const { phases, regions } = await regionsOf(loaderDisk([[0x8000, late]], 'ea40800000'));
    expect(phases.map(([name, address]) => [name, address])).toEqual([
      ['boot-sector', 0x7c00],
      ['stage1.5', 0x8040],
    ]);
    expect(regions).toEqual([['no file system', 0x8000, 0x8200]]);
  });

  it('is none where other code has taken its place', async () => {
    // Overwrites its second half by what is no part of the disk, and goes there.
    const first = Buffer.alloc(512);
    first.set([
      0xbf, 0x00, 0x81, 0xb8, 0xfa, 0xf4, 0xb9, 0x40, 0x00, 0xf3, 0xab, 0xea, 0x00, 0x81, 0x00, 0x00,
    ]);
    const { phases, regions } = await regionsOf(loaderDisk([[0x8000, first]], 'ea00800000'));
    expect(phases).toHaveLength(2);
    expect(regions).toEqual([['no file system', 0x8000, 0x8200]]);
  });

  it('is one program where it grows downward', async () => {
    // Reads a sector, `cli; hlt`, below itself, and jumps there.
    const down = Buffer.alloc(5 * 512);
    down.write('b80102b90700ba8000bb007ecd13ea007e0000', 0, 'hex');
    down.set(CLI_HLT, 4 * 512);
    const { phases, regions, stopped } = await regionsOf(
      loaderDisk(
        [
          [0x8000, down.subarray(0, 512)],
          [0x20000, down],
        ],
        GO,
      ),
    );
    expect(phases.map(([name]) => name)).toEqual(['boot-sector', 'stage1.5']);
    expect(regions).toEqual([['no file system', 0x7e00, 0x8200]]);
    expect(stopped).toContain('in phase stage1.5 at 0x0:0x7e02 (real16)');
  });
});

describe('a boot sector that loads nothing', () => {
  it('is said to be one, unless it has asked for the disk', async () => {
    const reason = async (code: readonly number[]): Promise<string | null> => {
      const disks = [diskOfBytes('made.img', disk(code))];
      return (await programsOf(bootDisk('made.img', 'disk'), { disks, entry: 'boot-sector' })).stopped;
    };
    expect(await reason(CLI_HLT)).toMatch(
      /^the boot sector loads no kernel: it ended without reading the disk \(.*halted with interrupts off.*\)$/,
    );
    // AH=08h of INT 10h is no disk's, AH=00h of INT 13h is.
    expect(await reason([0xb4, 0x08, 0xcd, 0x10, ...CLI_HLT])).toMatch(/^the boot sector loads no kernel/);
    expect(await reason([0xb4, 0x00, 0xcd, 0x13, ...CLI_HLT])).toMatch(
      /, in phase boot-sector at 0x0:0x7c06 \(real16\)/,
    );
  });
});

describe('code in memory', () => {
  const MEMORY = 0x40000;

  /** Memory with these bytes at an address. */
  function memoryWith(address: number, bytes: Uint8Array): PhysicalMemory {
    const ram = new Uint8Array(MEMORY);
    ram.set(bytes, address);
    return PhysicalMemory.of(ram);
  }

  function fileOf(name: string, bytes: Uint8Array): ReadFile & { reads: number } {
    const found = { name, reads: 0, file: null as unknown as FileNode };
    found.file = {
      ...{ name, isFolder: false, size: bytes.length, list: () => [] },
      read: () => {
        found.reads++;
        return bytes;
      },
    };
    return found;
  }

  const flat = noise(0x3000);

  it('is found in the file that holds the same bytes, which then lies around it', () => {
    const search = new FileSearch(memoryWith(0x8000, flat));
    expect(search.find(0x8000 + 0x1234, [fileOf('flat', flat)])).toEqual({
      ...{ name: 'flat', isModule: false, start: 0x8000, end: 0xb000 },
    });
  });

  it('may lie at address 0, and is not a file that would begin before it', () => {
    expect(new FileSearch(memoryWith(0, flat)).find(0x1000, [fileOf('flat', flat)])).toMatchObject({
      start: 0,
    });
    const early = memoryWith(0xff0, flat.subarray(0x1000, 0x2000));
    expect(new FileSearch(early).find(0xff0, [fileOf('flat', flat)])).toBeNull();
  });

  it('is of the file that was read last, where several have it', () => {
    const files = [fileOf('first', flat), fileOf('second', flat)];
    expect(new FileSearch(memoryWith(0x8000, flat)).find(0x9000, files)?.name).toBe('second');
  });

  it('is not looked for where it is all one byte, or cut off by the end of memory', () => {
    const same = new Uint8Array(0x1000).fill(0x90);
    expect(new FileSearch(memoryWith(0x8000, same)).find(0x8100, [fileOf('same', same)])).toBeNull();
    const last = MEMORY - 23;
    const cut = memoryWith(last, flat.subarray(0, 23));
    expect(new FileSearch(cut).find(last, [fileOf('flat', flat)])).toBeNull();
    const whole = memoryWith(last - 1, flat.subarray(0, 24));
    expect(new FileSearch(whole).find(last - 1, [fileOf('flat', flat)])).toMatchObject({ start: last - 1 });
  });

  it('with two equal bytes is looked for as any other', () => {
    const bytes = Uint8Array.from(flat).fill(0xcc, 0x100, 0x110);
    expect(new FileSearch(memoryWith(0x8000, bytes)).find(0x8100, [fileOf('flat', bytes)])).not.toBeNull();
  });

  it('is not looked for in what is too large for a program, or too small', () => {
    const memory = memoryWith(0x8000, flat);
    expect(new FileSearch(memory, flat.length).find(0x8000, [fileOf('flat', flat)])).not.toBeNull();
    const large = fileOf('large', flat);
    expect(new FileSearch(memory, flat.length - 1).find(0x8000, [large])).toBeNull();
    const small = fileOf('small', flat.subarray(0, 23));
    expect(new FileSearch(memory).find(0x8000, [small])).toBeNull();
    expect([large.reads, small.reads]).toEqual([0, 0]);
  });

  it('is looked for once a page and list of files, and each file is read once', () => {
    const search = new FileSearch(memoryWith(0x8000, flat));
    const other = fileOf('other', noise(0x800).reverse());
    expect(search.find(0x8000, [other])).toBeNull();
    expect(search.find(0x8010, [other])).toBeNull();
    expect(search.find(0x9010, [other])).toBeNull();
    expect(other.reads).toBe(1);
    // One more was read.
    expect(search.find(0x8010, [other, fileOf('flat', flat)])?.name).toBe('flat');
  });

  it('of an ELF file lies as its program headers say, all of its segments with it', () => {
    const [text, data] = [flat.subarray(0, 0x800), flat.subarray(0x1000, 0x1400)];
    const elf = makeSegmentedElf({
      segments: [
        { vaddr: 0x2000n, bytes: text },
        { vaddr: 0x1000n, bytes: data, memsz: 0x600 },
        { type: 4, vaddr: 0x9000n, bytes: flat.subarray(0x2000, 0x2100) },
      ],
    });
    // Linked to 0x1000 and on, it runs 0x10000 higher.
    const inText = memoryWith(0x12000, text);
    expect(new FileSearch(inText).find(0x12340, [fileOf('elf', elf)])).toEqual({
      ...{ name: 'elf', isModule: false, start: 0x11000, end: 0x12800 },
    });
    const inData = memoryWith(0x11000, data);
    expect(new FileSearch(inData).find(0x11080, [fileOf('elf', elf)])).toMatchObject({
      ...{ start: 0x11000, end: 0x12800 },
    });
  });

  it('of a relocatable ELF file is a module', () => {
    const elf = makeSegmentedElf({ type: 1, segments: [{ vaddr: 0n, bytes: flat }] });
    expect(new FileSearch(memoryWith(0x8000, flat)).find(0x8000, [fileOf('mod', elf)])).toMatchObject({
      isModule: true,
    });
  });

  it('of a PE file lies as its sections say, the whole image with it', () => {
    const pe = makePe({ '.text': flat.subarray(0, 0x400), '.data': flat.subarray(0x1000, 0x1600) });
    // SizeOfImage.
    new DataView(pe.buffer).setUint32(0x58 + 56, 0x5000, true);
    const memory = memoryWith(0x22000, flat.subarray(0x1000, 0x1600));
    expect(new FileSearch(memory).find(0x22100, [fileOf('pe', pe)])).toEqual({
      ...{ name: 'pe', isModule: false, start: 0x20000, end: 0x25000 },
    });
  });
});
