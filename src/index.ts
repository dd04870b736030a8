// The library's public face: read an image, boot it, and turn the trace into JSON or text. The command uses the same.

export { boot, type FinishedBoot } from './boot/boot.ts';
export type { InstructionListener } from './boot/instruction-stream.ts';
export { type KaslrLocation, type KaslrSurvey, surveyKaslr } from './boot/kaslr-slots.ts';
export { type EntryPlan, planLoading } from './boot/loader-plan.ts';
export { type BootOptions, DEFAULT_BOOT_OPTIONS } from './boot/options.ts';
export { optionsOf, type RecordedOptions, recordedOptions } from './boot/recorded-options.ts';
export { type BootSession, openBoot, type SessionMemory } from './boot/session.ts';
export type {
  PlaceOrText,
  Position,
  RunOptions,
  Stop,
  StopCause,
  StopReason,
  WatchedAccess,
  WatchedRange,
} from './boot/stop.ts';
export { type Verification, verify } from './boot/verify.ts';
export type { CodecName } from './codecs/codec.ts';
export type { Cpu, EngineName } from './cpu/cpu.ts';
export { type KaslrOption, parseKaslrOption } from './decompressor/kaslr-entropy.ts';
export { BootscopeError, type ErrorData } from './error.ts';
export { ERROR_CODES, type ErrorCode } from './error-codes.ts';
export { bootDisk } from './image/boot-disk.ts';
export { readKernelFile } from './image/describe-file.ts';
export { type DiskFile, openDisk } from './image/disk-file.ts';
export type { DiskImage } from './image/disk-image.ts';
export { readEfiImage } from './image/efi-program.ts';
export { formatEfiVariables, readEfiVariables } from './image/efi-variable-file.ts';
export { type ElfFile, readElf } from './image/elf.ts';
export { type Esp, openEsp } from './image/esp.ts';
export { type ExtractedKernel, extractVmlinux } from './image/extract-vmlinux.ts';
export type { FileNode } from './image/file-tree.ts';
export {
  type ImagePart,
  type ImageParts,
  type PartRole,
  takeApart,
  type UnpackedPart,
} from './image/image-parts.ts';
export type { KernelFile } from './image/kernel-file.ts';
export { type KernelImage, readKernelImage } from './image/kernel-image.ts';
export { type PackChanges, type Packed, packImage } from './image/pack.ts';
export {
  MANIFEST_NAME,
  type ManifestPart,
  type ManifestUnpacked,
  makeManifest,
  type PartManifest,
  parseManifest,
} from './image/part-manifest.ts';
export type { Partition } from './image/partition-table.ts';
export { countRelocationLists, hasRelocations, makeRelocations } from './image/relocations.ts';
export type { FieldChange } from './image/repack-x86.ts';
export { bootProgramOf } from './machine/uefi/boot-manager.ts';
export type { EfiVariable } from './protocol/efi-variables.ts';
export { type DescribedMemoryMap, type MemoryMapForm, readMemoryMap } from './protocol/memory-map-text.ts';
export { formatFindings } from './report/check-text.ts';
export {
  compareTraces,
  type Difference,
  formatDifferences,
} from './report/difference.ts';
export { formatHtml } from './report/html.ts';
export { type Json, traceToJson } from './report/json.ts';
export { formatHazards, formatLayout, type LayoutMapOptions } from './report/layout-map.ts';
export {
  compareWithReference,
  type Reference,
  type ReferenceDifference,
  unknownPatterns,
} from './report/reference.ts';
export {
  type CheckOptions,
  checkAgainstReference,
  makeReference,
  readReference,
} from './report/reference-file.ts';
export { type ReportModel, reportModel } from './report/report-model.ts';
export { findGrowth, type Growth, type GrowthLimit, imageSizes } from './report/size-limits.ts';
export { formatSvg } from './report/svg.ts';
export { formatTrace } from './report/table.ts';
export { checkTrace, parseTraceJson, type TraceJson } from './report/trace-json.ts';
export type {
  BootEvent,
  BootTrace,
  EntryPoint,
  Hazard,
  KernelAtJump,
  KernelSegment,
  MemoryRegion,
  Overwrite,
  Phase,
  PhaseName,
} from './trace/boot-trace.ts';
export { type EventChoice, eventChoiceName, isChosen, parseEventChoice } from './trace/event-choice.ts';
export { findKallsyms } from './trace/kallsyms.ts';
export {
  type KernelSymbolPaths,
  nameTrace,
  readKernelSymbols,
  readStubSymbols,
  type StubSymbolPaths,
} from './trace/kernel-names.ts';
export { kernelNames } from './trace/kernel-symbols.ts';
export { compareRegions, type LayoutChanges } from './trace/layout-changes.ts';
export { type AddressNames, nameAddresses } from './trace/name-addresses.ts';
export { type Place, parsePlace, placeName } from './trace/place.ts';
export { readElfSymbolTable, readSystemMap, type SymbolNames, SymbolTable } from './trace/symbols.ts';
export type { MappedRange, PageTable, PageTableWalk } from './x86/page-tables.ts';
