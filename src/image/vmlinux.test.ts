import { describe, expect, it } from 'vitest';
import { readElf } from './elf.ts';
import { makeElfNotes, makeSegmentedElf, noise } from './test-images.ts';
import { describeVmlinux, loadSegments } from './vmlinux.ts';

const VIRTUAL = 0xffffffff81000000n;
const TEXT = noise(300);
const DATA = noise(200, 2);
const LOADED = [
  { paddr: 0x1000000, vaddr: VIRTUAL, bytes: TEXT },
  { paddr: 0x1200000, vaddr: VIRTUAL + 0x200000n, flags: 6, bytes: DATA, memsz: 0x5000 },
];

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

describe('a vmlinux', () => {
  it('has the segments that a loader places, with the memory behind their bytes', () => {
    const segments = loadSegments('vmlinux', readElf(makeSegmentedElf({ segments: LOADED })));
    expect(segments).toMatchObject([
      { index: 0, paddr: 0x1000000n, vaddr: VIRTUAL, memsz: 300n, flags: 5 },
      { index: 1, paddr: 0x1200000n, memsz: 0x5000n, flags: 6 },
    ]);
    expect(Buffer.from(segments[1]!.bytes)).toEqual(Buffer.from(DATA));
  });

  it('has no segments to load where it is cut, with the numbers', () => {
    const file = makeSegmentedElf({ segments: LOADED });
    const cut = readElf(file.subarray(0, file.length - 50));
    expect(() => loadSegments('k', cut)).toThrow(
      /^k is cut: segment 1 needs 200 bytes at offset \d+, 50 of them/,
    );
  });

  it('names PV and PVH entry of its Xen notes', () => {
    const notes = makeElfNotes(
      ['Linux', 0x101, word(1)],
      ['Xen', 6, Buffer.from('linux\0')],
      ['Xen', 1, Buffer.from('0040008100ffffff', 'hex')],
      ['Xen', 18, word(0x1000750)],
    );
    const segments = [...LOADED, { type: 4, bytes: notes }];
    expect(describeVmlinux(readElf(makeSegmentedElf({ segments }))).xen).toEqual({
      pvEntry: 0xffffff0081004000n,
      pvhEntry: 0x1000750n,
      others: { GUEST_OS: 'linux' },
    });
    expect(describeVmlinux(readElf(makeSegmentedElf({ segments: LOADED }))).xen).toEqual({
      pvEntry: null,
      pvhEntry: null,
      others: {},
    });
  });

  it('is entered at a physical address, whichever kind its header has', () => {
    const entered = (entry: number, vaddr: bigint): bigint => {
      const segments = [{ paddr: 0x1000000, vaddr, bytes: TEXT }];
      return describeVmlinux(readElf(makeSegmentedElf({ entry, segments }))).physicalEntry;
    };
    expect(entered(0x1000010, VIRTUAL)).toBe(0x1000010n);
    expect(entered(0xc1000010, 0xc1000000n)).toBe(0x1000010n);
  });
});
