// The finished trace of a boot, and the layout of a moment: from what was found and recorded so far.

import { createHash } from 'node:crypto';
import type { BootTrace, MemoryRegion, Overwrite, Phase, PhaseName } from '../trace/boot-trace.ts';
import { findHazards } from '../trace/hazards.ts';
import { findOverwrites } from '../trace/overwrites.ts';
import { type LayoutFacts, type MemoryWrite, regionsAt } from '../trace/regions.ts';
import { type PageTable, walkPageTables } from '../x86/page-tables.ts';
import { snapshot } from './boot-record.ts';
import type { BootRun } from './boot-run.ts';
import { layoutFacts, placementRules } from './layout-facts.ts';

function factsOf(boot: BootRun): LayoutFacts {
  return layoutFacts(boot.machine, boot.image, {
    ...boot.found,
    loaded: boot.found.loaded!,
    writes: boot.record.writes,
  });
}

/** What lies where as the CPU stands now, in the phase that runs. */
export function layoutOf(boot: BootRun, phase: PhaseName): readonly MemoryRegion[] {
  const { cpu, machine, mode } = boot;
  const registers = snapshot(cpu);
  return regionsAt(phase, factsOf(boot), {
    mode: mode.read(),
    ...{ ss: registers.ss, rsp: registers.rsp },
    gdtr: cpu.readDescriptorTable('gdtr'),
    idtr: cpu.readDescriptorTable('idtr'),
    tables: walkPageTables(machine.memory, registers).tables,
    efiCalls: machine.uefi?.calls ?? 0,
  });
}

/** What was observed so far. */
export function traceOf(boot: BootRun): BootTrace {
  const facts = factsOf(boot);
  addRegions(boot, facts);
  const { image, options, cpu, record, found } = boot;
  const { payload } = image;
  return {
    image: {
      path: image.path,
      sha256: options.hash ? createHash('sha256').update(image.bytes).digest('hex') : null,
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
      decompress: image.kind === 'vmlinux' ? 'none' : boot.decompress,
      cmdline: options.cmdline,
    },
    phases: record.phases,
    kernel: found.kernel,
    stopped: boot.stopped,
    hazards: findHazards(facts, placementRules(image, found.loaded!)),
    events: record.events,
    console: record.console,
    notices: record.notices,
  };
}

/**
 * With an EFI stub that leaves decompressing to startup_64, boot services go before anything of the kernel is in place; with others,
 * after.
 */
function phaseForLayout(phases: readonly Phase[], index: number): PhaseName {
  const { name } = phases[index]!;
  if (name !== 'exit_boot_services') return name;
  return phases.slice(0, index).some((before) => before.name === 'decompress_kernel') ? name : 'efi_pe_entry';
}

/** The regions of every phase, from all that is known, and what each phase cost those of the one before. */
function addRegions({ record }: BootRun, facts: LayoutFacts): void {
  const lost: Overwrite[] = [];
  let before: readonly MemoryRegion[] = [];
  for (const [index, phase] of record.phases.entries()) {
    const { mode, registers, gdtr, idtr } = phase;
    const { ss, rsp } = registers;
    const tables = phase.pageTables?.tables ?? [];
    const efiCalls = record.efiCallsAt(index);
    const name = phaseForLayout(record.phases, index);
    const regions = regionsAt(name, facts, { mode, ss, rsp, gdtr, idtr, tables, efiCalls });
    const earlier = record.phases[index - 1]?.name;
    const writes = [
      ...facts.writes.filter((write) => write.phase === earlier),
      ...newTables(tables, before, phase.name),
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
  phase: PhaseName,
): readonly MemoryWrite[] {
  const known = before.filter(({ kind }) => kind === 'page-table');
  return tables
    .filter(({ address }) => !known.some(({ start, end }) => address >= start && address < end))
    .map(({ address, size }) => ({
      phase,
      start: Number(address),
      end: Number(address) + size,
      what: 'page tables',
    }));
}
