// Small made-up images for the tests of this room: an x86 boot image, an ELF file, a PE file, with every number adjustable.

import { SETUP_HEADER_MAGIC, type SetupHeaderField, setupHeaderRow } from '../protocol/setup-header.ts';

/** What to put into a made-up boot image; all but `protocol` has a sensible default. */
export interface BootImageRecipe {
  /** 0 for an image without HdrS. */
  readonly protocol: number;
  readonly setupSectors?: number;
  /** The protected-mode code. */
  readonly code?: Uint8Array;
  readonly version?: string;
  /** Header fields to set at the end, over what the rest gave. */
  readonly fields?: Partial<Record<SetupHeaderField, number | bigint>>;
}

/** Offset of the version string in a made-up image. */
const VERSION_OFFSET = 0x400;

/** An image with a correct header for its protocol, and `code` behind its setup. */
export function makeBootImage(recipe: BootImageRecipe): Uint8Array {
  const sectors = recipe.setupSectors ?? 4;
  const code = recipe.code ?? new Uint8Array(64).fill(0x90);
  const setupSize = ((sectors === 0 ? 4 : sectors) + 1) * 512;
  const image = new Uint8Array(setupSize + code.length);
  image.set(code, setupSize);
  setField(image, 'setup_sects', sectors);
  setField(image, 'boot_flag', 0xaa55);
  const paragraphs = Math.ceil(code.length / 16);
  setField(image, 'syssize', recipe.protocol < 0x0204 ? paragraphs & 0xffff : paragraphs);
  if (recipe.protocol >= 0x0200) {
    image[0x200] = 0xeb;
    image[0x201] = headerEnd(recipe.protocol) - 0x202;
    setField(image, 'header', SETUP_HEADER_MAGIC);
    setField(image, 'version', recipe.protocol);
    setField(image, 'loadflags', 1);
    setField(image, 'code32_start', 0x100000);
    if (recipe.version !== undefined) {
      image.set(Buffer.from(`${recipe.version}\0`, 'latin1'), VERSION_OFFSET);
      setField(image, 'kernel_version', VERSION_OFFSET - 0x200);
    }
  } else {
    image.set([0xb8, 0xc0, 0x07, 0x8e, 0xd8, 0xb8, 0x00, 0x90, 0x8e, 0xc0]);
  }
  for (const [name, value] of Object.entries(recipe.fields ?? {})) {
    setField(image, name as SetupHeaderField, value);
  }
  return image;
}

/** Where the header of each protocol ends, as kernels of that protocol have it. */
function headerEnd(protocol: number): number {
  if (protocol >= 0x020f) return 0x26c;
  if (protocol >= 0x020b) return 0x268;
  if (protocol >= 0x020a) return 0x264;
  if (protocol >= 0x0209) return 0x258;
  if (protocol >= 0x0208) return 0x250;
  if (protocol >= 0x0207) return 0x248;
  if (protocol >= 0x0206) return 0x23c;
  if (protocol >= 0x0205) return 0x235;
  if (protocol >= 0x0203) return 0x230;
  if (protocol >= 0x0202) return 0x22c;
  return protocol >= 0x0201 ? 0x226 : 0x224;
}

/** Sets a field whatever the protocol says. */
export function setField(image: Uint8Array, name: SetupHeaderField, value: number | bigint): void {
  const row = setupHeaderRow(name);
  let rest = BigInt(value);
  for (let index = 0; index < row.size; index++) {
    if (name === 'syssize' && index >= 2 && rest === 0n) break;
    image[row.offset + index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

/** A made-up ELF file: one PT_LOAD segment with `content`, a `.text` section over it and a `.shstrtab`. */
export function makeElf(bits: 32 | 64, content: Uint8Array): Uint8Array {
  const wide = bits === 64;
  const headerSize = wide ? 64 : 52;
  const programSize = wide ? 56 : 32;
  const sectionSize = wide ? 64 : 40;
  const names = Buffer.from('\0.text\0.shstrtab\0', 'latin1');
  const contentAt = headerSize + programSize;
  const namesAt = contentAt + content.length;
  const sectionsAt = namesAt + names.length;
  const elf = Buffer.alloc(sectionsAt + 3 * sectionSize);
  elf.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(wide ? 62 : 3, 18);
  elf.writeUInt32LE(1, 20);
  const word = (at: number, value: number): number => {
    if (wide) elf.writeBigUInt64LE(BigInt(value), at);
    else elf.writeUInt32LE(value, at);
    return at + (wide ? 8 : 4);
  };
  let at = word(24, 0x1000000);
  at = word(at, headerSize);
  at = word(at, sectionsAt) + 4;
  for (const value of [headerSize, programSize, 1, sectionSize, 3, 2]) at = elf.writeUInt16LE(value, at);
  at = elf.writeUInt32LE(1, headerSize);
  if (wide) at = elf.writeUInt32LE(5, at);
  for (const value of [contentAt, 0x1000000, 0x1000000, content.length, content.length + 0x1000])
    at = word(at, value);
  if (!wide) at = elf.writeUInt32LE(5, at);
  word(at, 0x1000);
  elf.set(content, contentAt);
  elf.set(names, namesAt);
  const section = (
    index: number,
    name: number,
    type: number,
    flags: number,
    offset: number,
    size: number,
  ): void => {
    let position = sectionsAt + index * sectionSize;
    position = elf.writeUInt32LE(name, position);
    position = elf.writeUInt32LE(type, position);
    position = word(position, flags);
    position = word(position, type === 1 ? 0x1000000 : 0);
    position = word(position, offset);
    word(position, size);
  };
  section(1, 1, 1, 6, contentAt, content.length);
  section(2, 7, 3, 0, namesAt, names.length);
  return Uint8Array.from(elf);
}

/** What to put into a made-up ELF file without section headers; all but `segments` has a sensible default. */
export interface ElfRecipe {
  readonly bits?: 32 | 64;
  readonly bigEndian?: boolean;
  /** ET_EXEC by default. */
  readonly type?: number;
  /** EM_X86_64 by default. */
  readonly machine?: number;
  readonly entry?: number;
  readonly segments: readonly {
    /** PT_LOAD by default. */
    readonly type?: number;
    readonly flags?: number;
    readonly paddr?: number;
    readonly vaddr?: bigint;
    readonly memsz?: number;
    readonly bytes: Uint8Array;
  }[];
}

/** An ELF file of these segments, their bytes one behind the other. */
export function makeSegmentedElf(recipe: ElfRecipe): Uint8Array {
  const wide = recipe.bits !== 32;
  const little = recipe.bigEndian !== true;
  const headerSize = wide ? 64 : 52;
  const programSize = wide ? 56 : 32;
  let offset = headerSize + recipe.segments.length * programSize;
  const file = new Uint8Array(recipe.segments.reduce((sum, { bytes }) => sum + bytes.length, offset));
  const view = new DataView(file.buffer);
  const half = (at: number, value: number): void => view.setUint16(at, value, little);
  const word = (at: number, value: number): void => view.setUint32(at, value, little);
  const long = (at: number, value: bigint): void => {
    if (wide) view.setBigUint64(at, value, little);
    else word(at, Number(value));
  };
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, little ? 1 : 2, 1]);
  half(16, recipe.type ?? 2);
  half(18, recipe.machine ?? 62);
  word(20, 1);
  long(24, BigInt(recipe.entry ?? 0));
  long(wide ? 32 : 28, BigInt(headerSize));
  half(wide ? 52 : 40, headerSize);
  half(wide ? 54 : 42, programSize);
  half(wide ? 56 : 44, recipe.segments.length);
  for (const [index, { type, flags, paddr, vaddr, memsz, bytes }] of recipe.segments.entries()) {
    const at = headerSize + index * programSize;
    const physical = BigInt(paddr ?? 0);
    const values = [
      BigInt(offset),
      vaddr ?? physical,
      physical,
      BigInt(bytes.length),
      BigInt(memsz ?? bytes.length),
    ];
    word(at, type ?? 1);
    word(at + (wide ? 4 : 24), flags ?? 5);
    for (const [field, value] of values.entries()) long(at + (wide ? 8 : 4) + field * (wide ? 8 : 4), value);
    file.set(bytes, offset);
    offset += bytes.length;
  }
  return file;
}

/** ELF notes one behind the other, as in a PT_NOTE segment. */
export function makeElfNotes(
  ...notes: readonly (readonly [name: string, type: number, description: Uint8Array])[]
): Uint8Array {
  const padded = (bytes: Uint8Array): Uint8Array =>
    Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  return Buffer.concat(
    notes.flatMap(([name, type, description]) => {
      const text = Buffer.from(`${name}\0`, 'latin1');
      const head = Buffer.from(Uint32Array.of(text.length, description.length, type).buffer);
      return [head, padded(text), padded(description)];
    }),
  );
}

/** A made-up PE32+ EFI application with these sections. */
export function makePe(sections: Readonly<Record<string, Uint8Array>>, machine = 0x8664): Uint8Array {
  const names = Object.keys(sections);
  const optionalSize = 112 + 5 * 8;
  const headersSize = 0x40 + 24 + optionalSize + names.length * 40;
  const align = (value: number): number => Math.ceil(value / 512) * 512;
  let fileOffset = align(headersSize);
  const total = Object.values(sections).reduce((sum, bytes) => sum + align(bytes.length), fileOffset);
  const pe = Buffer.alloc(total);
  pe.write('MZ', 0, 'latin1');
  pe.writeUInt32LE(0x40, 0x3c);
  pe.write('PE\0\0', 0x40, 'latin1');
  pe.writeUInt16LE(machine, 0x44);
  pe.writeUInt16LE(names.length, 0x46);
  pe.writeUInt16LE(optionalSize, 0x54);
  pe.writeUInt16LE(0x20b, 0x58);
  pe.writeUInt16LE(10, 0x58 + 68);
  pe.writeUInt32LE(5, 0x58 + 108);
  for (const [index, name] of names.entries()) {
    const bytes = sections[name] ?? new Uint8Array(0);
    const at = 0x58 + optionalSize + index * 40;
    pe.write(name, at, 'latin1');
    pe.writeUInt32LE(bytes.length, at + 8);
    pe.writeUInt32LE(0x1000 * (index + 1), at + 12);
    pe.writeUInt32LE(align(bytes.length), at + 16);
    pe.writeUInt32LE(fileOffset, at + 20);
    pe.set(bytes, fileOffset);
    fileOffset += align(bytes.length);
  }
  return Uint8Array.from(pe);
}

/** A node of a device tree: properties by name, text with its NUL, and nodes by name. */
export interface TestNode {
  readonly [name: string]: string | Uint8Array | TestNode;
}

/** A flattened device tree of version 17, as dtc makes it. */
export function makeDeviceTree(root: TestNode): Uint8Array {
  const word = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  let strings = '';
  const nodeBytes = (name: string, node: TestNode): Buffer[] => [
    ...[word(1), padded(Buffer.from(`${name}\0`))],
    ...Object.entries(node).flatMap(([property, value]) => {
      if (typeof value !== 'string' && !(value instanceof Uint8Array)) return nodeBytes(property, value);
      const content = typeof value === 'string' ? Buffer.from(`${value}\0`) : value;
      const at = strings.length;
      strings += `${property}\0`;
      return [word(3), word(content.length), word(at), padded(content)];
    }),
    word(2),
  ];
  const structure = Buffer.concat([...nodeBytes('', root), word(9)]);
  const structureAt = 56;
  const stringsAt = structureAt + structure.length;
  const header = [0xd00dfeed, stringsAt + strings.length, structureAt, stringsAt, 40, 17, 16, 0];
  return Uint8Array.from(
    Buffer.concat([
      ...[...header, strings.length, structure.length].map(word),
      ...[Buffer.alloc(16), structure, Buffer.from(strings)],
    ]),
  );
}

/** Bytes that look like nothing and do not compress, the same for the same seed. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let index = 0; index < length; index++) {
    // xorshift32
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    bytes[index] = state & 0xff;
  }
  return bytes;
}
