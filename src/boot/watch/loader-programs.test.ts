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
