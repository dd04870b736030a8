// Lays the description of a kernel file out, as text for people and as JSON.

import { hex } from '../hex.ts';
import { type ElfProgramHeader, ET_DYN, PF_R, PF_W, PF_X, PT_LOAD } from '../image/elf.ts';
import type { ImageHeader } from '../image/image-header.ts';
import { isKernelFile, type KernelFile, type X86BootFile } from '../image/kernel-file.ts';
import type { PeFile } from '../image/pe.ts';
import {
  explainSetupHeaderField,
  formatSetupHeaderValue,
  setupHeaderFlags,
} from '../image/setup-header-meaning.ts';
import type { UImage } from '../image/uimage.ts';
import { SECTION_GROUPS, type Vmlinux, type XenNotes } from '../image/vmlinux.ts';
import { SETUP_HEADER_FIELDS } from '../protocol/setup-header.ts';
import { formatSize } from '../size.ts';

/** `name` and `value` of one line. */
type Fact = readonly [name: string, value: string];

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

function bytesAndSize(bytes: number | bigint): string {
  const number = Number(bytes);
  return number < 10000 ? `${bytes} bytes` : `${bytes} bytes (${formatSize(number)})`;
}

/** Rows as columns two spaces apart, indented; the last column is not padded. */
function columns(rows: readonly (readonly string[])[], indent = ''): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  }
  return rows
    .map((row) => {
      const cells = row.map((cell, index) =>
        index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0),
      );
      return `${indent}${cells.join('  ').trimEnd()}\n`;
    })
    .join('');
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
  return facts;
}

function innerFiles(file: KernelFile): KernelFile[] {
  if (file.kind === 'uimage') return file.parts.filter((part) => part !== null);
  return 'inner' in file && file.inner !== null ? [file.inner] : [];
}

function ownFacts(file: KernelFile): Fact[] {
  switch (file.kind) {
    case 'x86-boot-image':
      return x86Facts(file);
    case 'vmlinux':
      return vmlinuxFacts(file.vmlinux);
    case 'arm64-image':
    case 'riscv-image':
      return imageHeaderFacts(file.header);
    case 'arm-zimage':
      return [
        ['byte order', `${file.header.endianness} endian`],
        [
          'linked',
          `${hex(file.header.start)} to ${hex(file.header.end)}, ${bytesAndSize(file.header.length)}`,
        ],
        [
          'payload',
          file.header.payload === null
            ? 'none found'
            : `${file.header.payload.codec} at ${hex(file.header.payload.offset)}`,
        ],
      ];
    case 'uimage':
      return uImageFacts(file.header);
    case 'efi-zboot':
      return [
        [
          'payload',
          `${file.header.compression}, ${bytesAndSize(file.header.payloadLength)} at ${hex(file.header.payloadOffset)}`,
        ],
        ...(file.header.pe === null ? [] : peFacts(file.header.pe)),
      ];
    case 'efi-pe':
      return peFacts(file.pe);
    case 'uki':
      return [
        ...peFacts(file.pe),
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
    facts.push([
      'checksum',
      file.checksum === 'valid' ? 'valid' : 'differs (a signature added later changes it)',
    ]);
  }
  if (file.kernelInfo !== null) {
    const { size, totalSize, setupTypeMax } = file.kernelInfo;
    facts.push([
      'kernel_info',
      `${size} of ${totalSize} bytes${setupTypeMax === null ? '' : `, setup_type_max ${hex(setupTypeMax)}`}`,
    ]);
  }
  if (file.pe !== null) facts.push(...peFacts(file.pe));
  return facts;
}

function peFacts(pe: PeFile): Fact[] {
  const facts: Fact[] = [
    ['EFI program', `${pe.subsystemName}, ${pe.machineName}, entry ${hex(pe.entryPoint)}`],
    ['PE sections', pe.sections.map((section) => section.name).join(' ') || 'none'],
  ];
  if (pe.certificates !== null) {
    facts.push(['signature', `${pe.certificates.length} bytes at ${hex(pe.certificates.offset)}`]);
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
  if (header.pe !== null) facts.push(...peFacts(header.pe));
  else facts.push(['EFI program', 'no']);
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
  if (file.kind === 'x86-boot-image') return setupHeaderTable(file);
  if (file.kind === 'vmlinux') return vmlinuxTables(file.vmlinux);
  return '';
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

function segmentFlags(header: ElfProgramHeader): string {
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

/** All of `bootscope info --json`: addresses and bit fields as hex strings, sizes and counts as numbers. */
export function kernelFileToJson(file: KernelFile): string {
  return JSON.stringify(toJson(file), null, 2);
}

function toJson(file: KernelFile): Json {
  const common = {
    path: file.path,
    kind: file.kind,
    what: file.what,
    size: file.size,
    isKernel: isKernelFile(file),
    bootable: file.bootable,
    advice: file.advice,
    kernelVersion: file.kernelVersion,
    problem: file.problem,
  };
  switch (file.kind) {
    case 'x86-boot-image':
      return { ...common, ...x86Json(file) };
    case 'vmlinux':
      return { ...common, ...vmlinuxJson(file.vmlinux) };
    case 'arm64-image':
    case 'riscv-image': {
      const { header } = file;
      return {
        ...common,
        textOffset: hex(header.textOffset),
        imageSize: Number(header.imageSize),
        flags: hex(header.flags),
        endianness: header.endianness,
        pageSize: header.pageSize,
        anywhere: header.anywhere,
        headerVersion: header.headerVersion,
        efi: header.pe === null ? null : peJson(header.pe),
      };
    }
    case 'arm-zimage': {
      const { header } = file;
      return {
        ...common,
        endianness: header.endianness,
        start: hex(header.start),
        end: hex(header.end),
        payload: header.payload === null ? null : { ...header.payload },
      };
    }
    case 'uimage': {
      const { header } = file;
      return {
        ...common,
        name: header.name,
        time: new Date(header.time * 1000).toISOString(),
        operatingSystem: header.operatingSystem,
        architecture: header.architecture,
        type: header.type,
        compression: header.compression,
        loadAddress: hex(header.loadAddress),
        entryPoint: hex(header.entryPoint),
        dataLength: header.dataLength,
        headerCrc: { stated: hex(header.headerCrc.stated), computed: hex(header.headerCrc.computed) },
        dataCrc: {
          stated: hex(header.dataCrc.stated),
          computed: header.dataCrc.computed === null ? null : hex(header.dataCrc.computed),
        },
        parts: header.parts.map((part, index) => {
          const content = file.parts[index] ?? null;
          return { ...part, content: content === null ? null : toJson(content) };
        }),
      };
    }
    case 'efi-zboot':
      return {
        ...common,
        compression: file.header.compression,
        payload: { offset: file.header.payloadOffset, length: file.header.payloadLength },
        efi: file.header.pe === null ? null : peJson(file.header.pe),
        inner: file.inner === null ? null : toJson(file.inner),
      };
    case 'efi-pe':
      return { ...common, efi: peJson(file.pe) };
    case 'uki':
      return {
        ...common,
        efi: peJson(file.pe),
        texts: { ...file.texts },
        inner: file.inner === null ? null : toJson(file.inner),
      };
    case 'compressed':
      return {
        ...common,
        compression: file.compression,
        inner: file.inner === null ? null : toJson(file.inner),
      };
    default:
      return common;
  }
}

function peJson(pe: PeFile): Json {
  return {
    machine: pe.machineName,
    subsystem: pe.subsystemName,
    entryPoint: hex(pe.entryPoint),
    sizeOfImage: pe.sizeOfImage,
    signature: pe.certificates === null ? null : { ...pe.certificates },
    sections: pe.sections.map((section) => ({
      name: section.name,
      virtualAddress: hex(section.virtualAddress),
      virtualSize: section.virtualSize,
      fileOffset: section.fileOffset,
      fileSize: section.fileSize,
    })),
  };
}

function x86Json(file: X86BootFile): { readonly [name: string]: Json } {
  const { header, image } = file;
  const fields: { [name: string]: Json } = {};
  for (const row of SETUP_HEADER_FIELDS) {
    if (!header.has(row.name)) continue;
    const isFlags = row.name === 'loadflags' || row.name === 'xloadflags';
    fields[row.name] = {
      offset: hex(row.offset),
      size: row.size,
      value: row.format === 'decimal' ? Number(header.getBig(row.name)) : hex(header.getBig(row.name)),
      meaning: row.meaning,
      ...(isFlags
        ? { flags: setupHeaderFlags(header, row.name).map((flag) => flag.name) }
        : { explained: explainSetupHeaderField(header, row.name) }),
    };
  }
  const payload = image?.payload ?? null;
  return {
    format: image?.kind ?? null,
    bootProtocol: header.version,
    codec: payload?.codec ?? null,
    payload:
      payload === null || image === null
        ? null
        : {
            offset: image.setupSize + payload.offset,
            length: payload.length,
            outputLength: payload.outputLength,
            source: payload.source,
          },
    sizes: { ...file.sizes },
    checksum: file.checksum,
    kernelInfo: file.kernelInfo === null ? null : { ...file.kernelInfo },
    efi: file.pe === null ? null : peJson(file.pe),
    header: fields,
  };
}

function xenJson({ pvEntry, pvhEntry, others }: XenNotes): Json {
  return {
    pvEntry: pvEntry === null ? null : hex(pvEntry),
    pvhEntry: pvhEntry === null ? null : hex(pvhEntry),
    others,
  };
}

function vmlinuxJson(vmlinux: Vmlinux): { readonly [name: string]: Json } {
  const { elf, groups } = vmlinux;
  return {
    bits: elf.bits,
    machine: elf.machineName,
    entry: hex(elf.entry),
    buildId: vmlinux.buildId,
    banner: vmlinux.banner,
    symbols: vmlinux.symbolCount,
    physicalEntry: hex(vmlinux.physicalEntry),
    xen: xenJson(vmlinux.xen),
    segments: elf.programHeaders
      .filter((header) => header.type === PT_LOAD)
      .map((header) => ({
        paddr: hex(header.paddr),
        vaddr: hex(header.vaddr),
        offset: Number(header.offset),
        filesz: Number(header.filesz),
        memsz: Number(header.memsz),
        flags: segmentFlags(header),
      })),
    groups:
      groups === null
        ? null
        : Object.fromEntries(SECTION_GROUPS.map((group) => [group, Number(groups[group])])),
    sections: elf.sections
      .filter((section) => section.name !== '')
      .map((section) => ({
        name: section.name,
        address: hex(section.address),
        offset: Number(section.offset),
        size: Number(section.size),
      })),
  };
}
