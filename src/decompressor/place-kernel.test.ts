import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { applyRelocations, placeSegments, type RelocationInput, readKernelElf } from './place-kernel.ts';
import { makeKernel } from './test-stubs.ts';

const MAP64 = 0xffffffff80000000n;
const OUTPUT = 0x1000;

function kernel(bits: 32 | 64 = 64): Uint8Array {
  return makeKernel({
    bits,
    entry: 0x1000123,
    virtualOffset: bits === 64 ? MAP64 : 0xc0000000n,
    segments: [
      { paddr: 0x1200000, content: new Uint8Array(0x40).fill(2), memsz: 0x5000 },
      { paddr: 0x1000000, content: new Uint8Array(0x80).fill(1) },
    ],
  });
}

describe('the headers of a kernel', () => {
  it.each([32, 64] as const)(
    'are read with %i bits: entry, segments in their order, base and size',
    (bits) => {
      const elf = readKernelElf(kernel(bits));
      expect(elf).toMatchObject({ bits, entry: 0x1000123, physicalBase: 0x1000000, totalSize: 0x205000 });
      expect(elf.virtualOffset).toBe(bits === 64 ? MAP64 : 0xc0000000n);
      expect(elf.segments.map(({ paddr, filesz, memsz, flags }) => [paddr, filesz, memsz, flags])).toEqual([
        [0x1200000, 0x40, 0x5000, 'r-x'],
        [0x1000000, 0x80, 0x80, 'r-x'],
      ]);
    },
  );

  it('leave out what is not loaded', () => {
    const bytes = kernel();
    new DataView(bytes.buffer).setUint32(64, 4, true);
    expect(readKernelElf(bytes).segments.map(({ paddr }) => paddr)).toEqual([0x1000000]);
    new DataView(bytes.buffer).setUint32(64 + 56, 4, true);
    expect(() => readKernelElf(bytes)).toThrow("none of the kernel's 2 program headers is loadable");
  });

  it('must lie in the file, to the last byte', () => {
    const bytes = kernel();
    expect(readKernelElf(bytes.slice(0, 64 + 2 * 56)).segments).toHaveLength(2);
    expect(() => readKernelElf(bytes.slice(0, 64 + 2 * 56 - 1))).toThrow(
      /program headers at 0x40 end behind/,
    );
    expect(() => readKernelElf(bytes.slice(0, 63))).toThrow('has 63 bytes, an ELF header 64');
  });
});

describe('parse_elf', () => {
  const place = (length: number, room: number, align = 0x200000, checks = true) => {
    const bytes = makeKernel({
      bits: 64,
      entry: 0x1000000,
      virtualOffset: MAP64,
      segments: [{ paddr: 0x1000100, content: Uint8Array.from({ length: 0x80 }, (_, index) => index) }],
      align,
    });
    const ram = new Uint8Array(OUTPUT + room);
    ram.set(bytes, OUTPUT);
    const elf = readKernelElf(bytes);
    const placed = placeSegments(PhysicalMemory.of(ram), OUTPUT, length, elf, 0x1000000, checks);
    return { ram, placed, fileEnd: elf.segments[0]!.offset + 0x80 };
  };

  it('moves a segment as far from the output as it lies from LOAD_PHYSICAL_ADDR', () => {
    const { ram, placed } = place(0x1000, 0x1000);
    expect(placed[0]!.address).toBe(OUTPUT + 0x100);
    expect([...ram.subarray(OUTPUT + 0x100, OUTPUT + 0x103)]).toEqual([0, 1, 2]);
  });

  it('refuses a segment outside the file or RAM, each to the byte', () => {
    const { fileEnd } = place(0x1000, 0x1000);
    expect(() => place(fileEnd, 0x1000)).not.toThrow();
    expect(() => place(fileEnd - 1, 0x1000)).toThrow(/segment 0 of the kernel ends at/);
    expect(() => place(0x1000, 0x180)).not.toThrow();
    expect(() => place(fileEnd, Math.max(fileEnd, 0x17f))).toThrow(/RAM ends at/);
  });

  it('refuses an alignment that the stub refuses', () => {
    expect(() => place(0x1000, 0x1000, 0x1000)).toThrow(/Alignment of LOAD segment/);
    expect(() => place(0x1000, 0x1000, 0x1000, false)).not.toThrow();
    expect(() => place(0x1000, 0x1000, 0x400000)).not.toThrow();
  });
});

describe('handle_relocations', () => {
  const BASE = 0x81000000;
  const relocate = (words: readonly number[], more: Partial<RelocationInput> = {}) => {
    const ram = new Uint8Array(0x4000);
    const view = new DataView(ram.buffer);
    const length = 0x2000;
    for (const [index, word] of words.entries()) {
      view.setInt32(OUTPUT + length - 4 * (words.length - index), word, true);
    }
    view.setUint32(OUTPUT + 0x10, 0x81000100, true);
    view.setUint32(OUTPUT + 0x20, 0x100, true);
    view.setBigUint64(OUTPUT + 0x30, 0xffffffff81000200n, true);
    const counts = applyRelocations({
      memory: PhysicalMemory.of(ram),
      output: OUTPUT,
      length,
      bits: 64,
      inverse: true,
      map: BigInt(OUTPUT - 0x1000000) - MAP64,
      delta: 0x2000000n,
      end: OUTPUT + 0x1000,
      ...more,
    });
    return { counts, view };
  };

  it('adds to the 32-bit list, takes from the inverse one, and adds to the 64-bit one', () => {
    const { counts, view } = relocate([0, BASE + 0x30, 0, BASE + 0x20, 0, BASE + 0x10]);
    expect(counts).toEqual({ relocations32: 1, inverse32: 1, relocations64: 1 });
    expect(view.getUint32(OUTPUT + 0x10, true)).toBe(0x83000100);
    expect(view.getInt32(OUTPUT + 0x20, true)).toBe(0x100 - 0x2000000);
    expect(view.getBigUint64(OUTPUT + 0x30, true)).toBe(0xffffffff83000200n);
  });

  it('reads two lists of a kernel that has no inverse one, and one of a 32-bit kernel', () => {
    const two = relocate([0, BASE + 0x30, 0, BASE + 0x10], { inverse: false });
    expect(two.counts).toEqual({ relocations32: 1, inverse32: 0, relocations64: 1 });
    const one = relocate([0, 0xc1000010, 0xc1000020], {
      bits: 32,
      map: BigInt(OUTPUT - 0x1000000) - 0xc0000000n,
      delta: 0x100000n,
    });
    expect(one.counts).toEqual({ relocations32: 2, inverse32: 0, relocations64: 0 });
    expect(one.view.getUint32(OUTPUT + 0x20, true)).toBe(0x100100);
  });

  it('goes down as it goes up', () => {
    const { view } = relocate([0, BASE + 0x30, 0, BASE + 0x20, 0, BASE + 0x10], { delta: -0x1000000n });
    expect(view.getUint32(OUTPUT + 0x10, true)).toBe(0x80000100);
    expect(view.getBigUint64(OUTPUT + 0x30, true)).toBe(0xffffffff80000200n);
  });

  it('touches nothing without a difference, not even to see that the lists have no end', () => {
    expect(relocate([1, 1, 1], { delta: 0n }).counts.relocations32).toBe(0);
  });

  it('ends with the kernel’s last byte, and with its first', () => {
    const list = (word: number) => () => relocate([0, 0, 0, word]);
    expect(list(BASE)).not.toThrow();
    expect(list(BASE - 1)).toThrow(
      /32-bit relocation outside of kernel.*0x80ffffff is not in 0x1000\.\.0x2000/,
    );
    expect(list(BASE + 0x1000)).not.toThrow();
    expect(list(BASE + 0x1001)).toThrow(/outside of kernel/);
    expect(() => relocate([0, BASE + 0x1001, 0, 0])).toThrow(/64-bit relocation outside/);
    expect(() => relocate([0, 0, BASE - 4, 0])).toThrow(/inverse 32-bit relocation outside/);
  });

  it('says that a list has no end', () => {
    const ram = new Uint8Array(0x4000);
    new DataView(ram.buffer).setInt32(OUTPUT + 4, BASE + 0x10, true);
    new DataView(ram.buffer).setInt32(OUTPUT, BASE + 0x10, true);
    expect(() =>
      applyRelocations({
        ...{ memory: PhysicalMemory.of(ram), output: OUTPUT, length: 8, bits: 64, inverse: false },
        ...{ map: BigInt(OUTPUT - 0x1000000) - MAP64, delta: 0x2000000n, end: OUTPUT + 0x1000 },
      }),
    ).toThrow('the relocation lists at the end of the kernel (0x1008) have no end');
  });
});
