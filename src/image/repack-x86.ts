// Puts another payload into an x86 boot image, in the place of the old one, and everything right that depends on it: lengths in
// header and stub, init_size, checksum, PE header. What cannot be put right is refused with the numbers.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { equalBytes, indexOfBytes } from '../host/host.ts';
import { readSetupHeader, type SetupHeaderField, writeSetupHeaderField } from '../protocol/setup-header.ts';
import { buildCrc, imageChecksum } from './describe-x86.ts';
import { type ElfFile, isElf, PT_LOAD, readElf } from './elf.ts';
import { extractVmlinux } from './extract-vmlinux.ts';
import { type KernelImage, readKernelImage } from './kernel-image.ts';
import { readPe } from './pe.ts';
import { withoutSignatures } from './pe-signature.ts';
import { findStubSizes } from './stub-sizes.ts';

export interface NewPayload {
  /** As compressed, with the decompressed length behind it (all but gzip). */
  readonly bytes: Uint8Array;
  /** Decompressed: kernel and relocation lists. */
  readonly content: Uint8Array;
}

/** A field of the setup header and what it gets. */
export type FieldChange = readonly [name: SetupHeaderField, value: bigint];

/** Fields that describe the image; they are put right here and not set by hand. */
const DERIVED_FIELDS: readonly SetupHeaderField[] = [
  'jump',
  'header',
  'boot_flag',
  'setup_sects',
  'syssize',
  'payload_offset',
  'payload_length',
];
/** `mov 0x260(%rsi), %ebx` and its like: the stub reads init_size from boot_params to find its place. */
const INIT_SIZE_OPERAND = Uint8Array.of(0x60, 0x02, 0x00, 0x00);
const PAGE = 0x1000;

/**
 * @param bytes - the image, unsigned length and all; not changed
 * @param oldContent - what its payload holds
 * @returns the new image without signature, and what was done besides
 */
export async function repackX86(
  path: string,
  bytes: Uint8Array,
  oldContent: Uint8Array,
  payload: NewPayload | null,
  fields: readonly FieldChange[],
): Promise<{ readonly bytes: Uint8Array; readonly notices: readonly string[] }> {
  const notices: string[] = [];
  const image = await readKernelImage(path, bytes);
  const hadChecksum = ['valid', 'signed'].includes(checksumOf(image) ?? '');
  const { bytes: output, removed } = withoutSignatures(bytes);
  if (removed > 0) notices.push(signatureNotice(removed));
  for (const [name, value] of fields) setField(output, name, value);
  if (payload !== null) replacePayload(output, image, oldContent, payload, notices);
  if (hadChecksum) writeChecksum(output);
  if (payload !== null) await prove(path, output, payload);
  return { bytes: output, notices };
}

function checksumOf(image: KernelImage): ReturnType<typeof imageChecksum> {
  return imageChecksum(image.header, image.bytes, image.setupSize, readPe(image.bytes));
}

/** What is said where signatures were left out. */
export function signatureNotice(removed: number): string {
  return `the signature was left out: it does not hold for a changed image (${removed} bytes)`;
}

function setField(bytes: Uint8Array, name: SetupHeaderField, value: bigint): void {
  if (DERIVED_FIELDS.includes(name)) {
    throw new BootscopeError(
      'pack-field',
      `${name} describes how the image is made and follows from its parts; it is not set by hand`,
    );
  }
  writeSetupHeaderField(bytes, 0, name, value);
}

function replacePayload(
  output: Uint8Array,
  image: KernelImage,
  oldContent: Uint8Array,
  payload: NewPayload,
  notices: string[],
): void {
  const old = image.payload;
  if (old === null) throw new BootscopeError('pack-payload', `${image.path} has no payload to replace`);
  const code = output.subarray(image.setupSize);
  const { bytes, content } = payload;
  const slot = old.length;
  if (bytes.length > slot) {
    throw new BootscopeError(
      'pack-too-large',
      `the new payload has ${bytes.length} bytes, its place in the image ${slot} (${bytes.length - slot} too few): a larger ` +
        'one would move the stub behind it, whose references across cannot all be told; compress it harder or take another stub',
    );
  }
  checkKernel(image, oldContent, content);
  const sizes = findStubSizes(code, old, oldContent.length);
  if (sizes === null) {
    throw new BootscopeError(
      'pack-stub',
      `the boot stub has the payload's length ${slot} in a place that is not understood, so its size cannot be changed`,
    );
  }
  const canPatch = sizes.inputLength.length > 0;
  const outputChanges = content.length !== oldContent.length;
  if (outputChanges && sizes.outputLength.length === 0) {
    throw new BootscopeError(
      'pack-stub',
      `the new kernel has ${content.length} bytes unpacked, the old one ${oldContent.length}, and the boot stub does not ` +
        'show where it has that length',
    );
  }
  const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
  code.fill(0, old.offset, old.offset + slot);
  if (canPatch || bytes.length === slot) {
    code.set(bytes, old.offset);
  } else {
    // The stub knows the old length alone: the stream, zeroes, and the decompressed length where it was.
    if (old.codec === 'lz4') {
      throw new BootscopeError(
        'pack-stub',
        `the new payload has ${bytes.length} bytes, the boot stub reads ${slot} and does not show where it has that length; ` +
          'an lz4 stream has no end of its own',
      );
    }
    const stream = old.codec === 'gzip' ? bytes : bytes.subarray(0, bytes.length - 4);
    code.set(stream, old.offset);
    view.setUint32(image.setupSize + old.offset + slot - 4, content.length, true);
    notices.push(
      `the payload is ${slot - bytes.length} bytes shorter; zeroes fill its place, whose length the stub knows`,
    );
    return;
  }
  for (const at of sizes.inputLength) view.setUint32(image.setupSize + at, bytes.length, true);
  for (const at of sizes.outputLength) view.setUint32(image.setupSize + at, content.length, true);
  if (image.header.has('payload_length')) writeSetupHeaderField(output, 0, 'payload_length', bytes.length);
  growInitSize(output, image, oldContent, payload, notices);
}

/** Refuses a kernel that the stub would not start rightly. */
function checkKernel(image: KernelImage, oldContent: Uint8Array, content: Uint8Array): void {
  const refuse = (why: string): never => {
    throw new BootscopeError('pack-kernel', why);
  };
  if (!isElf(oldContent)) {
    if (isElf(content))
      refuse(`the boot stub of ${image.path} starts a flat binary, the new kernel is an ELF file`);
    return;
  }
  if (!isElf(content)) refuse('the new kernel is no ELF file');
  const [before, after] = [readElf(oldContent), readElf(content)];
  if (before.machine !== after.machine || before.bits !== after.bits) {
    refuse(
      `the new kernel is ELF${after.bits} for ${after.machineName}, the boot stub starts ELF${before.bits} for ${before.machineName}`,
    );
  }
  const [oldRange, newRange] = [memoryRange(before), memoryRange(after)];
  if (oldRange.start !== newRange.start) {
    refuse(`the new kernel is linked for ${hex(newRange.start)}, the boot stub for ${hex(oldRange.start)}`);
  }
  if (newRange.end > oldRange.end) {
    refuse(
      `the new kernel takes memory up to ${hex(newRange.end)}, ${newRange.end - oldRange.end} bytes more than the old one; ` +
        'the boot stub keeps room for that alone (init_size, kernel_total_size)',
    );
  }
  const entersAtStart = before.entry === oldRange.start;
  if (entersAtStart && after.entry !== newRange.start) {
    refuse(
      `the new kernel is entered at ${hex(after.entry)}, the old one at its start ${hex(oldRange.start)}, where the boot stub may jump without looking`,
    );
  }
}

function memoryRange(elf: ElfFile): { start: bigint; end: bigint } {
  const loads = elf.programHeaders.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0n);
  let [start, end] = [loads[0]?.paddr ?? 0n, 0n];
  for (const { paddr, memsz } of loads) {
    if (paddr < start) start = paddr;
    if (paddr + memsz > end) end = paddr + memsz;
  }
  return { start, end };
}

/**
 * Decompressing in place needs the payload's end to lie behind the kernel's by z_extract_offset (arch/x86/boot/header.S). A
 * kernel that is larger, or a payload that is shorter, needs more room before it.
 */
function growInitSize(
  output: Uint8Array,
  image: KernelImage,
  oldContent: Uint8Array,
  { bytes, content }: NewPayload,
  notices: string[],
): void {
  const need = (contentLength: number, payloadLength: number): number =>
    contentLength + (contentLength >> 8) - payloadLength;
  const growth = need(content.length, bytes.length) - need(oldContent.length, image.payload!.length);
  if (growth <= 0) return;
  const head = image.protectedModeCode.subarray(0, image.payload!.offset);
  if (!image.header.has('init_size') || indexOfBytes(head, INIT_SIZE_OPERAND) < 0) {
    throw new BootscopeError(
      'pack-stub',
      `the new kernel needs ${growth} bytes more room to be decompressed in, which this boot stub has as a constant`,
    );
  }
  const before = image.header.get('init_size');
  const added = Math.ceil(growth / PAGE) * PAGE;
  writeSetupHeaderField(output, 0, 'init_size', before + added);
  growPeImage(output, added);
  notices.push(`init_size grew from ${hex(before)} to ${hex(before + added)}`);
}

/** Builds up to 5.18 give the PE image the memory of init_size, in a section `.bss`. */
function growPeImage(output: Uint8Array, added: number): void {
  const pe = readPe(output);
  const index = pe?.sections.findIndex(({ name }) => name === '.bss') ?? -1;
  const bss = pe?.sections[index];
  if (pe === null || bss === undefined || bss.virtualAddress + bss.virtualSize < pe.sizeOfImage) return;
  const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
  const sectionTable = pe.headerOffset + 24 + view.getUint16(pe.headerOffset + 20, true);
  view.setUint32(sectionTable + index * 40 + 8, bss.virtualSize + added, true);
  view.setUint32(pe.headerOffset + 24 + 56, pe.sizeOfImage + added, true);
}

function writeChecksum(output: Uint8Array): void {
  const header = readSetupHeader(output);
  const sectors = header.get('setup_sects') || 4;
  const end = (sectors + 1) * 512 + header.get('syssize') * 16;
  if (end > output.length) return;
  new DataView(output.buffer, output.byteOffset, output.byteLength).setUint32(
    end - 4,
    buildCrc(output.subarray(0, end - 4)),
    true,
  );
}

/** Reads the image as a boot does and compares: what was put in must come out. */
async function prove(path: string, output: Uint8Array, { content }: NewPayload): Promise<void> {
  const { bytes } = await extractVmlinux(await readKernelImage(path, output));
  if (!equalBytes(bytes, content)) {
    throw new BootscopeError(
      'pack-proof',
      `the packed image does not give its kernel back: ${bytes.length} bytes came out, ${content.length} were put in`,
    );
  }
}
