// Lays the description of a kernel file out as JSON: addresses and bit fields as hex strings, sizes, counts and offsets in the
// file (`fileOffset`) as numbers.

import { hex } from '../hex.ts';
import { PT_LOAD } from '../image/elf.ts';
import type { Fit } from '../image/fit.ts';
import { type EfiProgram, isKernelFile, type KernelFile, type X86BootFile } from '../image/kernel-file.ts';
import { peSectionFlags } from '../image/pe.ts';
import { explainSetupHeaderField, setupHeaderFlags } from '../image/setup-header-meaning.ts';
import { SECTION_GROUPS, type Vmlinux, type XenNotes } from '../image/vmlinux.ts';
import { SETUP_HEADER_FIELDS } from '../protocol/setup-header.ts';
import { segmentFlags } from './info-format.ts';

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

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
    notices: file.notices,
  };
  switch (file.kind) {
    case 'x86-boot-image':
      return { ...common, ...x86Json(file) };
    case 'vmlinux':
    case 'user-mode-linux':
      return { ...common, ...vmlinuxJson(file.vmlinux) };
    case 'arm64-image':
    case 'riscv-image':
    case 'loongarch-image': {
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
        efi: efiJson(file.efi),
      };
    }
    case 'arm-zimage':
    case 's390-image':
    case 'boot-wrapper': {
      const { header, payload } = file;
      return {
        ...common,
        ...(header === null
          ? {}
          : { endianness: header.endianness, start: hex(header.start), end: hex(header.end) }),
        payload: payload === null ? null : filePartJson(payload),
        efi: efiJson(file.efi),
        inner: file.inner === null ? null : toJson(file.inner),
      };
    }
    case 'multiboot':
      return { ...common, multiboot: { ...file.header, flags: hex(file.header.flags) } };
    case 'fit':
      return { ...common, ...fitJson(file.fit), inner: file.inner === null ? null : toJson(file.inner) };
    case 'device-tree':
      return { ...common, model: file.model, compatible: file.compatible };
    case 'vboot': {
      const { partition } = file;
      return {
        ...common,
        preambleVersion: partition.version,
        body: { ...filePartJson(partition.body), address: hex(partition.bodyAddress) },
        bootLoader: { address: hex(partition.bootLoader.address), length: partition.bootLoader.length },
        cmdline: partition.cmdline,
        hasSetupCode: partition.hasSetupCode,
        inner: file.inner === null ? null : toJson(file.inner),
      };
    }
    case 'android-boot': {
      const { header } = file;
      return {
        ...common,
        headerVersion: header.headerVersion,
        name: header.name,
        cmdline: header.cmdline,
        kernel: filePartJson(header.kernel),
        ramdisk: filePartJson(header.ramdisk),
        inner: file.inner === null ? null : toJson(file.inner),
      };
    }
    case 'initrd':
      return {
        ...common,
        parts: file.parts.map(({ offset, ...part }) => ({ fileOffset: offset, ...part })),
      };
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
          return { ...filePartJson(part), content: content === null ? null : toJson(content) };
        }),
      };
    }
    case 'efi-zboot':
      return {
        ...common,
        compression: file.header.compression,
        payload: { fileOffset: file.header.payloadOffset, length: file.header.payloadLength },
        efi: efiJson(file.efi),
        inner: file.inner === null ? null : toJson(file.inner),
      };
    case 'efi-pe':
      return { ...common, efi: efiJson(file.efi) };
    case 'uki':
      return {
        ...common,
        efi: efiJson(file.efi),
        texts: { ...file.texts },
        initrd: file.initrd === null ? null : toJson(file.initrd),
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

/** A part of the file: `fileOffset` counts from its first byte. */
function filePartJson<Part extends { readonly offset: number }>({
  offset,
  ...rest
}: Part): { readonly fileOffset: number } & Omit<Part, 'offset'> {
  return { fileOffset: offset, ...rest };
}

function fitJson(fit: Fit): { readonly [name: string]: Json } {
  return {
    description: fit.description,
    time: fit.time === null ? null : new Date(fit.time * 1000).toISOString(),
    defaultConfiguration: fit.defaultConfiguration,
    configurations: fit.configurations.map(({ name, description, images }) => ({
      name,
      description,
      images,
    })),
    images: fit.images.map(({ data, load, entry, hashes, ...image }) => ({
      ...image,
      cut: data === null,
      load: load === null ? null : hex(load),
      entry: entry === null ? null : hex(entry),
      hashes: hashes.map((hash) => ({ ...hash })),
    })),
  };
}

function efiJson(efi: EfiProgram | null): Json {
  if (efi === null) return null;
  const { pe, signatures, sbat } = efi;
  return {
    format: pe.format,
    machine: pe.machineName,
    subsystem: pe.subsystemName,
    entryPoint: hex(pe.entryPoint),
    imageBase: hex(pe.imageBase),
    sizeOfImage: pe.sizeOfImage,
    sectionAlignment: pe.sectionAlignment,
    fileAlignment: pe.fileAlignment,
    nxCompatible: pe.nxCompatible,
    relocationsStripped: pe.relocationsStripped,
    sbat,
    certificates: pe.certificates === null ? null : filePartJson(pe.certificates),
    signatures: signatures.map((signature) => ({ ...signature })),
    sections: pe.sections.map((section) => ({
      name: section.name,
      virtualAddress: hex(section.virtualAddress),
      virtualSize: section.virtualSize,
      fileOffset: section.fileOffset,
      fileSize: section.fileSize,
      flags: peSectionFlags(section),
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
            offset: payload.offset,
            fileOffset: image.setupSize + payload.offset,
            length: payload.length,
            outputLength: payload.outputLength,
            source: payload.source,
          },
    sizes: { ...file.sizes },
    checksum: file.checksum,
    kernelInfo: file.kernelInfo === null ? null : { ...file.kernelInfo },
    efi: efiJson(file.efi),
    xen: file.xen === null ? null : xenJson(file.xen),
    program: image?.program ?? null,
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
        fileOffset: Number(header.offset),
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
        fileOffset: Number(section.offset),
        size: Number(section.size),
      })),
  };
}
