// The finished trace of a boot, and the layout of a moment: from what was found and recorded so far.

import { findKaslr } from '../decompressor/kaslr-generation.ts';
import { sha256Hex } from '../host/host.ts';
import type { EfiMemoryDescriptor } from '../protocol/efi-memory-map.ts';
import type { BootTrace, EfiMemoryMaps, MemoryRegion, MemoryWrite, Overwrite } from '../trace/boot-trace.ts';
import { efiRegions } from '../trace/efi-regions.ts';
import { findHazards } from '../trace/hazards.ts';
import type { LayoutFacts } from '../trace/layout-facts.ts';
import { findOverwrites } from '../trace/overwrites.ts';
import { layoutAt, type StackTops } from '../trace/placements.ts';
import { type PageTable, walkPageTables } from '../x86/page-tables.ts';
import { snapshot } from './boot-record.ts';
import type { BootRun } from './boot-run.ts';
import { efiHazards } from './efi-hazards.ts';
import { layoutFacts, placementRules } from './layout-facts.ts';
import { commandLineHazards } from './loader-hazards.ts';
import { ukiHazards } from './uki-sections.ts';
import { hashKernel } from './watch/kernel.ts';

function factsOf(boot: BootRun): LayoutFacts {
  return layoutFacts(boot.machine, boot.image, { ...boot.found, loaded: boot.found.loaded! });
}

/** What lies where as the CPU stands now. */
export function layoutOf(boot: BootRun): readonly MemoryRegion[] {
  const { cpu, machine, mode, record } = boot;
  const registers = snapshot(cpu);
  const now = {
    mode: mode.read(),
    ...{ ss: registers.ss, rsp: registers.rsp },
    gdtr: cpu.readDescriptorTable('gdtr'),
    idtr: cpu.readDescriptorTable('idtr'),
    tables: walkPageTables(machine.memory, registers).tables,
  };
  const calls = machine.uefi?.calls ?? 0;
  return layoutAt(
    record.placements,
    record.phases.length,
    now,
    stackTops(factsOf(boot)),
    efiRegionsOf(boot, calls),
  );
}

/** What UEFI firmware says of memory after so many calls. */
function efiRegionsOf({ machine }: BootRun, calls: number): readonly MemoryRegion[] {
  if (machine.uefi === null) return [];
  const { parts, images, allocations, exitCall } = machine.uefi;
  return efiRegions({ map: parts.map, images, allocations, exitCall }, calls);
}

/** Where stacks begin: below the boot sector, where the loader set it, in the stub as it runs first and in its copy. */
function stackTops(facts: LayoutFacts): StackTops {
  const stack = facts.zo.find(({ name }) => name === 'stack');
  const inStub = [facts.started, facts.copy].map((base) =>
    base === null || stack === undefined ? null : base.start + stack.end,
  );
  const tops = [facts.bootSector?.start ?? null, facts.setupStackEnd, ...inStub];
  return { tops: tops.filter((top) => top !== null), ram: facts.ram };
}

/** What was observed so far. */
export function traceOf(boot: BootRun): BootTrace {
  const facts = factsOf(boot);
  addRegions(boot, facts);
  hashKernel(boot);
  const { image, options, cpu, record, found } = boot;
  const { payload } = image;
  return {
    image: {
      path: image.path,
      // A disk is not read whole.
      sha256: options.hash && image.bytes.length > 0 ? sha256Hex(image.bytes) : null,
      kind: image.kind,
      bootProtocol: image.header.version,
      kernelVersion: image.kernelVersion,
      codec: payload?.codec ?? null,
      payload: payload === null ? null : { offset: payload.offset, length: payload.length },
    },
    machine: {
      engine: cpu.engine,
      engineVersion: cpu.engineVersion,
      ram: options.memory,
      cpu: options.cpu,
      entry: found.loaded!.entry,
      decompress: image.kind === 'vmlinux' || image.kind === 'efi-program' ? 'none' : boot.decompress,
      cmdline: options.cmdline,
    },
    phases: record.phases,
    kernel: found.kernel,
    bootParams: found.bootParamsAtJump,
    efiMemoryMap: efiMemoryMaps(boot),
    stopped: boot.stopped,
    hazards: [
      ...efiHazards(boot),
      ...found.fromLoader,
      ...ukiHazards(boot),
      ...findHazards(facts, placementRules(image, found.loaded!)),
      ...commandLineHazards(facts, options.cmdline, boot.stub === null ? null : findKaslr(image, boot.stub)),
    ],
    events: record.events,
    console: record.console,
    notices: record.notices,
  };
}

function efiMemoryMaps({ machine }: BootRun): EfiMemoryMaps | null {
  const firmware = machine.uefi;
  if (firmware === null) return null;
  const entries = (map: readonly EfiMemoryDescriptor[]) =>
    map.map(({ start, end, type, attributes }) => ({
      start: BigInt(start),
      end: BigInt(end),
      type,
      attributes,
    }));
  return {
    atEntry: entries(firmware.parts.map),
    atExit: firmware.mapAtExit === null ? null : entries(firmware.mapAtExit),
  };
}

/** The regions of every phase, and what each phase cost those of the one before. */
function addRegions(boot: BootRun, facts: LayoutFacts): void {
  const { record } = boot;
  const stacks = stackTops(facts);
  const lost: Overwrite[] = [];
  let before: readonly MemoryRegion[] = [];
  for (const [index, phase] of record.phases.entries()) {
    const { mode, registers, gdtr, idtr } = phase;
    const { ss, rsp } = registers;
    const tables = phase.pageTables?.tables ?? [];
    const efi = efiRegionsOf(boot, record.efiCallsAt(index));
    const regions = layoutAt(record.placements, index, { mode, ss, rsp, gdtr, idtr, tables }, stacks, efi);
    const writes = [
      ...record.writes.filter(({ during }) => during === index - 1),
      ...newTables(tables, before, index - 1),
    ];
    const overwritten = findOverwrites(before, writes, lost);
    record.setLayout(index, regions, overwritten);
    lost.push(...overwritten);
    before = regions;
  }
}

/** Page tables that were not in force before were written since. */
function newTables(
  tables: readonly PageTable[],
  before: readonly MemoryRegion[],
  during: number,
): readonly MemoryWrite[] {
  const known = before.filter(({ kind }) => kind === 'page-table');
  return tables
    .filter(({ address }) => !known.some(({ start, end }) => address >= start && address < end))
    .map(({ address, size }) => ({
      start: Number(address),
      end: Number(address) + size,
      ...{ role: 'page-tables', what: 'page tables', during },
    }));
}
