// Lays the description of a kernel file out as text for people.

import { hex } from '../hex.ts';
import { type ElfProgramHeader, ET_DYN, PF_R, PF_W, PF_X, PT_LOAD } from '../image/elf.ts';
import type { Fit } from '../image/fit.ts';
import type { ImageHeader } from '../image/image-header.ts';
import type { InitrdPart } from '../image/initrd.ts';
import {
  type BootProgramFile,
  type EfiProgram,
  type ImageChecksum,
  isKernelFile,
  type KernelFile,
  type X86BootFile,
} from '../image/kernel-file.ts';
import { type PeFile, peSectionFlags } from '../image/pe.ts';
import type { PeSignature } from '../image/pe-signature.ts';
import {
  explainSetupHeaderField,
  formatSetupHeaderValue,
  setupHeaderFlags,
} from '../image/setup-header-meaning.ts';
import type { UImage } from '../image/uimage.ts';
import type { VbootPartition } from '../image/vboot.ts';
import { SECTION_GROUPS, type Vmlinux, type XenNotes } from '../image/vmlinux.ts';
import { SETUP_HEADER_FIELDS } from '../protocol/setup-header.ts';
import { formatSize } from '../size.ts';
import { columns } from './columns.ts';

/** `name` and `value` of one line. */
type Fact = readonly [name: string, value: string];

function bytesAndSize(bytes: number | bigint): string {
  const number = Number(bytes);
  return number < 10000 ? `${bytes} bytes` : `${bytes} bytes (${formatSize(number)})`;
}

/** All of `bootscope info` for people. */
export function kernelFileToText(file: KernelFile): string {
  let text = `${file.path}: ${file.what}${isKernelFile(file) ? '' : ', not a kernel'}\n`;
  text += columns([...commonFacts(file), ...ownFacts(file)], '  ');
  text += details(file);
  for (const inner of innerFiles(file)) text += `\n${kernelFileToText(inner)}`;
  return text;
}

function commonFacts(file: KernelFile): Fact[] {
  const facts: Fact[] = [['size', bytesAndSize(file.size)]];
  if (file.kernelVersion !== null && innerFiles(file).every((inner) => inner.kernelVersion === null)) {
    facts.push(['version', file.kernelVersion]);
  }
  if (file.advice !== null && isKernelFile(file)) facts.push(['to boot it', file.advice]);
  if (file.problem !== null) facts.push(['problem', file.problem]);
  for (const notice of file.notices) facts.push(['notice', notice]);
  return facts;
}

/** What is in the file; not the kernel in a boot program, whose version says enough. */
function innerFiles(file: KernelFile): KernelFile[] {
  if (file.kind === 'uimage') return file.parts.filter((part) => part !== null);
  if (file.kind === 'arm-zimage' || file.kind === 's390-image' || file.kind === 'boot-wrapper') return [];
  return 'inner' in file && file.inner !== null ? [file.inner] : [];
}

function ownFacts(file: KernelFile): Fact[] {
  switch (file.kind) {
    case 'x86-boot-image':
      return x86Facts(file);
    case 'vmlinux':
    case 'user-mode-linux':
      return vmlinuxFacts(file.vmlinux);
    case 'arm64-image':
    case 'riscv-image':
    case 'loongarch-image':
      return [...imageHeaderFacts(file.header), ...efiFacts(file.efi)];
    case 'arm-zimage':
    case 's390-image':
    case 'boot-wrapper':
      return bootProgramFacts(file);
    case 'multiboot':
      return [['Multiboot', `${file.header.version}, header at ${hex(file.header.offset)}`]];
    case 'fit':
      return fitFacts(file.fit);
    case 'device-tree':
      return [
        ['model', file.model ?? 'not stated'],
        ['compatible', file.compatible.join(', ') || 'not stated'],
      ];
    case 'vboot':
      return vbootFacts(file.partition);
    case 'android-boot':
      return [
        ['header version', String(file.header.headerVersion)],
        ['kernel', partWords(file.header.kernel)],
        ['ramdisk', partWords(file.header.ramdisk)],
        ['command line', JSON.stringify(file.header.cmdline)],
      ];
    case 'initrd':
      return file.parts.map((part): Fact => [`at ${hex(part.offset)}`, initrdPartWords(part)]);
    case 'uimage':
      return uImageFacts(file.header);
    case 'efi-zboot':
      return [
        [
          'payload',
          `${file.header.compression}, ${bytesAndSize(file.header.payloadLength)} at ${hex(file.header.payloadOffset)}`,
        ],
        ...efiFacts(file.efi),
      ];
    case 'efi-pe':
      return efiFacts(file.efi);
    case 'uki':
      return [
        ...efiFacts(file.efi),
        ...Object.entries(file.texts).map(([name, text]): Fact => [name, JSON.stringify(text)]),
      ];
    case 'compressed':
      return [['compression', file.compression]];
    default:
      return [];
  }
}

function x86Facts(file: X86BootFile): Fact[] {
  const { header, image, sizes } = file;
  const facts: Fact[] = [
    ['boot protocol', header.version ?? 'before 2.00, no setup header'],
    [
      'sizes',
      `boot sector ${sizes.bootSector} bytes, setup ${sizes.setup} bytes, system ${bytesAndSize(sizes.system)}`,
    ],
  ];
  if (image !== null) {
    const { payload } = image;
    if (payload !== null) {
      facts.push([
        'payload',
        `${payload.codec}, ${bytesAndSize(payload.length)} at ${hex(image.setupSize + payload.offset)}` +
          (payload.outputLength === null ? '' : `, holds ${bytesAndSize(payload.outputLength)}`) +
          (payload.source === 'magic' ? ' (found by its magic)' : ''),
      ]);
    } else if (header.get('payload_offset') !== 0 && header.get('payload_length') !== 0) {
      const start = image.protectedModeCode.subarray(
        header.get('payload_offset'),
        header.get('payload_offset') + 8,
      );
      facts.push([
        'payload',
        `unknown format, ${bytesAndSize(header.get('payload_length'))}, begins with ${Buffer.from(start).toString('hex')}`,
      ]);
    } else {
      facts.push(['payload', 'none found']);
    }
  }
  if (file.checksum !== null) {
    facts.push(['checksum', CHECKSUM_WORDS[file.checksum]]);
  }
  if (file.kernelInfo !== null) {
    const { size, totalSize, setupTypeMax } = file.kernelInfo;
    facts.push([
      'kernel_info',
      `${size} of ${totalSize} bytes${setupTypeMax === null ? '' : `, setup_type_max ${hex(setupTypeMax)}`}`,
    ]);
  }
  const xen = file.xen === null ? null : xenWords(file.xen);
  if (file.xen !== null) facts.push(['Xen notes', xen ?? 'none: no PV and no PVH entry']);
  facts.push(...efiFacts(file.efi));
  return facts;
}

const CHECKSUM_WORDS: Readonly<Record<ImageChecksum, string>> = {
  valid: 'valid',
  signed: 'valid for the image before it was signed',
  none: 'none, as in builds from 6.15 on',
  differs: 'differs: the image was changed after its build',
};

function efiFacts(efi: EfiProgram | null): Fact[] {
  if (efi === null) return [];
  const { pe, signatures, sbat } = efi;
  const facts: Fact[] = [
    [
      'EFI program',
      `${pe.format ?? 'PE'} ${pe.subsystemName}, ${pe.machineName}, entry ${hex(pe.entryPoint)}, ` +
        `${bytesAndSize(pe.sizeOfImage)} in memory, ${pe.nxCompatible ? '' : 'not '}NX_COMPAT`,
    ],
  ];
  if (sbat !== null) facts.push(['SBAT', sbatWords(sbat)]);
  if (pe.certificates === null) facts.push(['signatures', 'none']);
  else if (signatures.length === 0) {
    facts.push([
      'signatures',
      `${pe.certificates.length} bytes at ${hex(pe.certificates.offset)}, not readable`,
    ]);
  }
  for (const signature of signatures) facts.push(['signature', signatureWords(signature)]);
  return facts;
}

/** Each component with its generation; the first line is about SBAT itself. */
function sbatWords(sbat: string): string {
  const rows = sbat.split('\n').map((line) => line.split(','));
  return rows.map(([component, generation]) => `${component} ${generation ?? '?'}`).join(', ');
}

function signatureWords({ subject, issuer, validTo, algorithm, digestMatches }: PeSignature): string {
  const match =
    digestMatches === null ? '' : digestMatches ? ', hash matches' : ', hash DIFFERS: the file was changed';
  return (
    `${subject ?? 'signer not named'}${issuer === null ? '' : `, by ${issuer}`}` +
    `${validTo === null ? '' : `, until ${validTo}`}, ${algorithm ?? 'unknown hash'}${match}`
  );
}

function bootProgramFacts({ header, efi, payload }: BootProgramFile): Fact[] {
  const facts: Fact[] = [];
  if (header !== null) {
    facts.push(['byte order', `${header.endianness} endian`]);
    facts.push(['linked', `${hex(header.start)} to ${hex(header.end)}, ${bytesAndSize(header.length)}`]);
  }
  facts.push([
    'payload',
    payload === null
      ? 'none found'
      : payload.length === null || payload.outputLength === null
        ? `${payload.codec} at ${hex(payload.offset)}, cut or damaged`
        : `${payload.codec}, ${bytesAndSize(payload.length)} at ${hex(payload.offset)}, holds ${bytesAndSize(payload.outputLength)}`,
  ]);
  return [...facts, ...efiFacts(efi)];
}

function partWords({ offset, length }: { readonly offset: number; readonly length: number }): string {
  return length === 0 ? 'none' : `${bytesAndSize(length)} at ${hex(offset)}`;
}

function initrdPartWords({ compression, names, microcode }: InitrdPart): string {
  if (compression !== null) return `a cpio archive compressed with ${compression}`;
  return `a cpio archive${microcode.length === 0 ? '' : ` with ${microcode.join(' and ')} microcode`}: ${names.join(' ')}`;
}

function vbootFacts(partition: VbootPartition): Fact[] {
  return [
    ['preamble', `version ${partition.version}`],
    ['body', `${partWords(partition.body)}, loaded at ${hex(partition.bodyAddress)}`],
    ['boot loader', `${bytesAndSize(partition.bootLoader.length)} at ${hex(partition.bootLoader.address)}`],
    ['command line', partition.cmdline === null ? 'none' : JSON.stringify(partition.cmdline)],
  ];
}

function fitFacts(fit: Fit): Fact[] {
  const facts: Fact[] = [];
  if (fit.description !== null) facts.push(['description', JSON.stringify(fit.description)]);
  if (fit.time !== null) facts.push(['made', new Date(fit.time * 1000).toISOString()]);
  for (const { name, description, images } of fit.configurations) {
    const roles = Object.entries(images).map(([role, names]) => `${role} ${names.join(' ')}`);
    facts.push([
      `configuration ${name}`,
      `${name === fit.defaultConfiguration ? 'the default; ' : ''}${description === null ? '' : `${JSON.stringify(description)}; `}${roles.join(', ')}`,
    ]);
  }
  return facts;
}

function vmlinuxFacts(vmlinux: Vmlinux): Fact[] {
  const { elf } = vmlinux;
  const facts: Fact[] = [
    ['format', `ELF${elf.bits} ${elf.machineName}${elf.type === ET_DYN ? ', position independent' : ''}`],
    ['entry', hex(elf.entry)],
    ['build id', vmlinux.buildId ?? 'none'],
    ['symbols', vmlinux.symbolCount === 0 ? 'none (stripped)' : String(vmlinux.symbolCount)],
  ];
  const xen = xenWords(vmlinux.xen);
  if (xen !== null) facts.push(['Xen notes', xen]);
  return facts;
}

/** Which ways into the kernel its Xen notes name; null for a kernel without any. */
function xenWords({ pvEntry, pvhEntry, others }: XenNotes): string | null {
  const words = [
    ...(pvEntry === null ? [] : [`PV entry ${hex(pvEntry)}`]),
    ...(pvhEntry === null ? [] : [`PVH entry ${hex(pvhEntry)}`]),
    ...(pvEntry === null && pvhEntry === null && Object.keys(others).length > 0 ? ['no entry'] : []),
  ];
  return words.length === 0 ? null : words.join(', ');
}

function imageHeaderFacts(header: ImageHeader): Fact[] {
  const facts: Fact[] = [
    ['text offset', hex(header.textOffset)],
    ['in memory', header.imageSize === 0n ? 'not stated' : bytesAndSize(header.imageSize)],
    ['flags', `${hex(header.flags)}: ${flagWords(header).join(', ')}`],
  ];
  if (header.headerVersion !== null) facts.push(['header version', header.headerVersion]);
  return facts;
}

function flagWords(header: ImageHeader): string[] {
  const words = [`${header.endianness} endian`];
  if (header.architecture === 'ARM64') {
    words.push(header.pageSize === null ? 'page size not stated' : `${header.pageSize / 1024} KiB pages`);
    words.push(header.anywhere ? 'anywhere in memory' : 'near the start of memory');
  }
  return words;
}

function uImageFacts(header: UImage): Fact[] {
  const { headerCrc, dataCrc } = header;
  const dataCheck =
    dataCrc.computed === null ? 'cut' : dataCrc.computed === dataCrc.stated ? 'valid' : 'wrong';
  return [
    ['name', JSON.stringify(header.name)],
    ['made', new Date(header.time * 1000).toISOString()],
    ['for', `${header.operatingSystem} on ${header.architecture}, ${header.type}`],
    ['compression', header.compression],
    ['load address', hex(header.loadAddress)],
    ['entry point', hex(header.entryPoint)],
    ['data', bytesAndSize(header.dataLength)],
    [
      'header CRC',
      `${hex(headerCrc.stated)}, ${headerCrc.stated === headerCrc.computed ? 'valid' : 'wrong'}`,
    ],
    ['data CRC', `${hex(dataCrc.stated)}, ${dataCheck}`],
    ['images', header.parts.map((part) => `${part.length} bytes at ${hex(part.offset)}`).join('; ')],
  ];
}

/** The tables below the facts. */
function details(file: KernelFile): string {
  if (file.kind === 'vmlinux' || file.kind === 'user-mode-linux') return vmlinuxTables(file.vmlinux);
  if (file.kind === 'fit') return fitTable(file.fit);
  const sections = 'efi' in file && file.efi !== null ? peTable(file.efi.pe, file) : '';
  return file.kind === 'x86-boot-image' ? sections + setupHeaderTable(file) : sections;
}

function peTable(pe: PeFile, file: KernelFile): string {
  const summaries = file.kind === 'uki' ? file.summaries : {};
  const rows: string[][] = [['PE SECTION', 'VIRTUAL', 'END', 'OFFSET', 'BYTES', 'FLAGS', 'CONTENT']];
  for (const section of pe.sections) {
    const { name, virtualAddress, virtualSize, fileOffset, fileSize } = section;
    rows.push([
      name,
      hex(virtualAddress),
      hex(virtualAddress + virtualSize),
      hex(fileOffset),
      String(fileSize),
      peSectionFlags(section),
      summaries[name] ?? '',
    ]);
  }
  return `\n${columns(rows, '  ')}`;
}

function fitTable(fit: Fit): string {
  const rows: string[][] = [
    ['IMAGE', 'TYPE', 'FOR', 'COMPRESSION', 'BYTES', 'LOAD', 'ENTRY', 'HASHES', 'DESCRIPTION'],
  ];
  for (const image of fit.images) {
    const hashes = image.hashes.map(
      ({ algorithm, valid }) => `${algorithm} ${valid === null ? 'not checked' : valid ? 'valid' : 'WRONG'}`,
    );
    rows.push([
      image.name,
      image.type,
      [image.os, image.architecture].filter(Boolean).join(' on ') || '-',
      image.compression,
      `${image.length}${image.data === null ? ' (cut)' : ''}`,
      image.load === null ? '-' : hex(image.load),
      image.entry === null ? '-' : hex(image.entry),
      hashes.join(', ') || '-',
      image.description ?? '',
    ]);
  }
  return `\n${columns(rows, '  ')}`;
}

function setupHeaderTable(file: X86BootFile): string {
  const { header } = file;
  const rows: string[][] = [['OFFSET', 'FIELD', 'VALUE', 'MEANING']];
  for (const { name, offset, meaning } of SETUP_HEADER_FIELDS) {
    if (!header.has(name)) continue;
    const explained = explainSetupHeaderField(header, name);
    const isFlags = name === 'loadflags' || name === 'xloadflags';
    const value = formatSetupHeaderValue(header, name);
    rows.push([
      hex(offset),
      name,
      explained === null || isFlags ? value : `${value} = ${explained}`,
      meaning,
    ]);
    if (!isFlags) continue;
    for (const flag of setupHeaderFlags(header, name)) {
      rows.push(['', '', `  ${flag.name}`, `  ${flag.meaning}`]);
    }
  }
  return `\n${columns(rows, '  ')}`;
}

export function segmentFlags(header: ElfProgramHeader): string {
  return (
    ((header.flags & PF_R) === 0 ? '-' : 'r') +
    ((header.flags & PF_W) === 0 ? '-' : 'w') +
    ((header.flags & PF_X) === 0 ? '-' : 'x')
  );
}

function vmlinuxTables(vmlinux: Vmlinux): string {
  const rows: string[][] = [['SEGMENT', 'PHYSICAL', 'VIRTUAL', 'FILESZ', 'MEMSZ', 'FLAGS']];
  for (const [index, header] of vmlinux.elf.programHeaders.entries()) {
    if (header.type !== PT_LOAD) continue;
    rows.push([
      String(index),
      hex(header.paddr),
      hex(header.vaddr),
      hex(header.filesz),
      hex(header.memsz),
      segmentFlags(header),
    ]);
  }
  let text = `\n${columns(rows, '  ')}`;
  const { groups } = vmlinux;
  if (groups !== null) {
    text += `\n${columns([['SECTIONS', 'SIZE'], ...SECTION_GROUPS.map((group) => [group, bytesAndSize(groups[group])])], '  ')}`;
  }
  return text;
}
