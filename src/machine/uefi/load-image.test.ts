// Loading EFI programs: sections, relocations and memory types (PE Format; UEFI 2.10, 7.4 and 9.1), and what is refused.

import { describe, expect, it } from 'vitest';
import { EFI_GUIDS } from '../../protocol/efi-guids.ts';
import { EFI_MEMORY_RO, EFI_MEMORY_XP } from '../../protocol/efi-tables.ts';
import { installLoadedImage, placeImage } from './load-image.ts';
import { TestFirmware } from './test-firmware.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

/** Offsets in the file of `efiProgram`: COFF header, optional header, sections; the code of `.text` and `.reloc`. */
const [COFF, OPTIONAL, SECTION, CODE, RELOCATIONS] = [0x44, 0x58, 0x148, 0x200, 0x1200];
const BASE = 0x800000;

/** A block of relocations for a page. */
function block(page: number, words: readonly number[], size = 8 + words.length * 2): Uint8Array {
  const bytes = new Uint8Array(Math.max(size, 8 + words.length * 2));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, page, true);
  view.setUint32(4, size, true);
  for (const [index, word] of words.entries()) view.setUint16(8 + index * 2, word, true);
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function program(
  change: (view: DataView) => void = () => {},
  relocations: Uint8Array | null = null,
): Uint8Array {
  const bytes = efiProgram(new ProgramWriter().halt(), relocations);
  change(new DataView(bytes.buffer));
  return bytes;
}

/** Loads at `base`: what was refused and why, or null and what was placed. */
function place(bytes: Uint8Array, base: number | null = BASE, firmware = new TestFirmware()) {
  const result = placeImage(firmware.firmware, bytes, base);
  return { firmware, result, reason: 'reason' in result ? result.reason : null };
}

describe('a program', () => {
  it.each([
    [10, 'LoaderCode'],
    [11, 'BootServicesCode'],
    [12, 'RuntimeServicesCode'],
  ])('of subsystem %i lies in memory of type %s', (subsystem, type) => {
    const bytes = program((view) => view.setUint16(OPTIONAL + 68, subsystem, true));
    const { firmware, result } = place(bytes, null);
    expect(result).toMatchObject({ codeType: type, size: 0x2000, fromFile: 0x2000 });
    if (!('base' in result)) return;
    expect(result.entry).toBe(result.base + 0x1000);
    expect([result.base, result.base + 0x1fff].map((at) => firmware.firmware.pages.typeAt(at))).toEqual([
      type,
      type,
    ]);
  });

  it('has its headers and sections where they say, and zeroes elsewhere', () => {
    const bytes = program((view) => {
      view.setUint32(SECTION + 8, 0x800, true); // smaller in memory than in the file
      view.setUint8(CODE + 0x7ff, 0x77);
      view.setUint8(CODE + 0x800, 0x88);
    });
    const firmware = new TestFirmware();
    firmware.memory.fill(BASE, 0x2000, 0xff);
    const { result } = place(bytes, BASE, firmware);
    expect(result).toEqual({
      ...{ base: BASE, entry: BASE + 0x1000, size: 0x2000, fromFile: 0x1800, codeType: 'LoaderCode' },
    });
    const { memory } = firmware;
    expect(memory.copyOut(BASE, 0x200)).toEqual(bytes.subarray(0, 0x200));
    expect([0x200, 0xfff, 0x17ff, 0x1800, 0x1fff].map((at) => memory.read8(BASE + at))).toEqual([
      0, 0, 0x77, 0, 0,
    ]);
    expect(memory.copyOut(BASE + 0x1000, 16)).toEqual(bytes.subarray(CODE, CODE + 16));
  });

  it('without a size in memory has all of a section that is in the file', () => {
    const bytes = program((view) => {
      view.setUint32(SECTION + 8, 0, true);
      view.setUint8(CODE + 0xfff, 0x99);
    });
    const { firmware, result } = place(bytes);
    expect(result).toMatchObject({ fromFile: 0x2000 });
    expect(firmware.memory.read8(BASE + 0x1fff)).toBe(0x99);
  });

  it.each([
    ['is no PE file', () => new Uint8Array(64), 'it is no PE file'],
    [
      'is for ARM64',
      () => program((view) => view.setUint16(COFF, 0xaa64, true)),
      'it is for ARM64, the firmware for x86-64',
    ],
    [
      'is entered behind its end',
      () => program((view) => view.setUint32(OPTIONAL + 16, 0x2000, true)),
      'its entry 0x2000 lies behind its 0x2000 bytes',
    ],
    [
      'has a section that does not fit',
      () => program((view) => view.setUint32(SECTION + 8, 0x1001, true)),
      'section .text ends at 0x2001, the image at 0x2000 (SizeOfImage)',
    ],
    ['is cut off', () => program().subarray(0, 0x11ff), 'section .text ends at 4608 in a file of 4607 bytes'],
  ])('that %s is refused', (_, make, reason) => {
    expect(place(make()).reason).toBe(reason);
  });

  it('may be entered at its last byte, and be of no whole pages', () => {
    const bytes = program((view) => {
      view.setUint32(OPTIONAL + 16, 0x1fff, true);
      view.setUint32(OPTIONAL + 56, 0x1fff + 1, true);
    });
    expect(place(bytes).reason).toBeNull();
    const short = program((view) => view.setUint32(OPTIONAL + 56, 0x1ff8, true));
    expect(place(short).result).toMatchObject({ size: 0x1ff8 });
  });

  it('that is too large for memory, or refused later, leaves no pages behind', () => {
    const large = place(
      program((view) => view.setUint32(OPTIONAL + 56, 0x4000000, true)),
      null,
    );
    expect(large.reason).toBe('there are no 16384 pages for it');
    const firmware = new TestFirmware();
    const before = firmware.firmware.pages.describe();
    place(program().subarray(0, 0x11ff), null, firmware);
    expect(firmware.firmware.pages.describe()).toEqual(before);
    // Where the map already has it, it stays.
    firmware.firmware.allocatePages({ kind: 'Address', address: BASE }, 'LoaderCode', 2);
    place(program().subarray(0, 0x11ff), BASE, firmware);
    expect(firmware.firmware.pages.typeAt(BASE)).toBe('LoaderCode');
  });
});

describe('relocations', () => {
  const [NONE, HIGHLOW, DIR64] = [0, 3 << 12, 10 << 12];
  const values = (view: DataView): void => {
    view.setBigUint64(CODE + 0x100, 0xffff_ffff_ffff_f000n, true);
    view.setUint32(CODE + 0x200, 0xfffff000, true);
    view.setBigUint64(CODE + 0x300, 0x5000n, true);
  };

  it('are applied block by block, in 64 and 32 bits, up to one of no bytes', () => {
    const list = join(
      block(0x1000, [DIR64 | 0x100, HIGHLOW | 0x200]),
      block(0x1000, [DIR64 | 0x300, NONE]),
      block(0x1000, [DIR64 | 0x300], 0),
    );
    const { firmware, reason } = place(program(values, list));
    expect(reason).toBeNull();
    const { memory } = firmware;
    expect(memory.read64(BASE + 0x1100)).toBe(BigInt(BASE) - 0x1000n);
    expect([memory.read32(BASE + 0x1200), memory.read32(BASE + 0x1204)]).toEqual([BASE - 0x1000, 0]);
    expect(memory.read64(BASE + 0x1300)).toBe(BigInt(BASE) + 0x5000n);
  });

  it('count from the address that the image is linked for', () => {
    const linked = (view: DataView): void => {
      values(view);
      view.setUint32(OPTIONAL + 24, 0x400000, true);
    };
    const { firmware } = place(program(linked, block(0x1000, [DIR64 | 0x300, NONE])));
    expect(firmware.memory.read64(BASE + 0x1300)).toBe(BigInt(BASE) - 0x400000n + 0x5000n);
    const same = program(
      (view) => {
        values(view);
        view.setUint32(OPTIONAL + 24, BASE, true);
      },
      block(0x1000, [1 << 12]),
    );
    expect(place(same).reason).toBeNull();
  });

  it.each([
    ['a block of 7 bytes', block(0x1000, [], 7), 'a block of its relocations has 0x7 bytes'],
    [
      'a block that is longer than all of them',
      block(0x1000, [NONE], 12).subarray(0, 10),
      'a block of its relocations has 0xc bytes',
    ],
    ['a kind that nobody knows', block(0x1000, [5 << 12, NONE]), 'its relocation type 5 is unknown'],
    ['one behind the image', block(0x2000, [DIR64 | 0xff9, NONE]), 'a relocation at 0x2ff9 is outside of it'],
  ])('are refused: %s', (_, list, reason) => {
    expect(place(program(values, list)).reason).toBe(reason);
  });

  it('may reach to the end of the image, and blocks of 8 bytes have none', () => {
    expect(
      place(program(values, join(block(0x2000, []), block(0x2000, [DIR64 | 0xff8, NONE])))).reason,
    ).toBeNull();
  });

  it('end with their directory', () => {
    const list = join(block(0x1000, [DIR64 | 0x300, NONE]), block(0x1000, [5 << 12, NONE]));
    const bytes = program((view) => {
      values(view);
      view.setUint32(OPTIONAL + 112 + 44, 12 + 7, true);
    }, list);
    expect(place(bytes).reason).toBeNull();
    expect(bytes[RELOCATIONS]).toBe(0);
  });

  it('may be missing, but not where they were stripped', () => {
    const stripped = (base: number) =>
      program((view) => {
        view.setUint16(COFF + 18, 1, true);
        view.setUint32(OPTIONAL + 24, base, true);
      });
    expect(place(program()).reason).toBeNull();
    expect(place(stripped(0x400000)).reason).toBe('it has no relocations and its base 0x400000 is not free');
    expect(place(stripped(BASE)).reason).toBeNull();
  });
});

describe('memory that may not be executed', () => {
  const [EXECUTE, WRITE] = [0x2000_0000, 0x8000_0000];
  const load = (characteristics: number, nxCompatible: boolean) => {
    const firmware = new TestFirmware({ enforcesNx: true });
    const before = firmware.firmware.notices.length;
    const bytes = program((view) => {
      view.setUint16(OPTIONAL + 70, nxCompatible ? 0x100 : 0, true);
      view.setUint32(SECTION + 36, characteristics, true);
    });
    place(bytes, BASE, firmware);
    const attributes = [-1, 0, 0x1000, 0x1fff, 0x2000].map((at) =>
      firmware.firmware.memoryAttributes.get(BASE + at),
    );
    return { attributes, notices: firmware.firmware.notices.slice(before) };
  };
  const [XP, RO] = [EFI_MEMORY_XP, EFI_MEMORY_RO];

  it('is made executable section by section', () => {
    expect(load(EXECUTE, true)).toEqual({ attributes: [XP, XP, RO, RO, XP], notices: [] });
    expect(load(WRITE, true)).toEqual({ attributes: [XP, XP, XP, XP, XP], notices: [] });
    const both = load((EXECUTE | WRITE) >>> 0, true);
    expect(both.attributes).toEqual([XP, XP, 0n, 0n, XP]);
    expect(both.notices).toEqual([
      'section .text of an image that claims NX_COMPAT is writable and executable at once: a firmware that is strict refuses it',
    ]);
  });

  it('is not enforced for a program that does not claim to bear it, nor by a firmware that does not care', () => {
    expect(load(EXECUTE, false).attributes).toEqual([XP, 0n, 0n, 0n, XP]);
    expect(new TestFirmware({ enforcesNx: true }).firmware.notices[0]).toMatch(
      /^the image does not claim NX_COMPAT/,
    );
    const plain = place(program());
    expect([plain.firmware.firmware.notices, plain.firmware.firmware.memoryAttributes.get(BASE)]).toEqual([
      [],
      0n,
    ]);
  });
});

describe('a LoadedImage', () => {
  it('says where the image is, and who asked for it', () => {
    const firmware = new TestFirmware();
    const { handles } = firmware.firmware;
    const placed = {
      base: BASE,
      entry: BASE + 0x1234,
      size: 0x2000,
      fromFile: 0x1800,
      codeType: 'RuntimeServicesCode',
    } as const;
    const handle = installLoadedImage(firmware.firmware, placed, {
      ...{ name: 'driver', parent: 0x11n, device: 0x22n, filePath: null, fullPath: null },
      loadOptions: Uint8Array.of(1, 2, 3),
    });
    const loaded = Number(handles.get(handle, EFI_GUIDS.LoadedImage));
    expect(firmware.firmware.images.at(-1)).toEqual({
      ...{ name: 'driver', base: BASE, size: 0x2000, fromFile: 0x1800, entry: BASE + 0x1234, handle },
    });
    expect([8, 24, 32, 64, 72].map((offset) => firmware.read64(loaded + offset))).toEqual([
      ...[0x11n, 0x22n, 0n, BigInt(BASE), 0x2000n],
    ]);
    expect([48, 80, 84].map((offset) => firmware.memory.read32(loaded + offset))).toEqual([3, 5, 6]);
    expect([...firmware.memory.copyOut(Number(firmware.read64(loaded + 56)), 3)]).toEqual([1, 2, 3]);
    expect(handles.protocolsOf(handle)).toEqual([EFI_GUIDS.LoadedImage]);
    expect(firmware.firmware.nameOf(BigInt(BASE + 0x1234))).toBe('driver+0x1234');
    expect(firmware.firmware.nameOf(BigInt(BASE + 0x2000))).toBe('0x802000');
    firmware.firmware.otherCode.push({ name: 'stub', base: 0x900000, size: 0x10 });
    expect([0x8fffffn, 0x90000fn].map((at) => firmware.firmware.nameOf(at))).toEqual([
      '0x8fffff',
      'stub+0xf',
    ]);
  });
});
