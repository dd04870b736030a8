// The call of extract_kernel: its first instruction is trapped, and the function done in TypeScript where that was asked for.

import { type Extraction, type ExtractionContext, extractKernel } from '../../decompressor/extract-kernel.ts';
import type { BootRun } from '../boot-run.ts';
import { cmdlineForGuest } from '../kaslr-request.ts';
import { recordDecompressed, recordKernel, recordSegmentWrites } from '../record-placements.ts';
import { watchForExit, watchForExitInPlace } from './exit.ts';
import { onKernel } from './kernel.ts';

/** @param emulated - called where the guest does it by itself, once all other hooks are gone */
export function watchExtractKernel(boot: BootRun, emulated: (() => void) | null = null): void {
  const stub = boot.stub!;
  const zo = boot.found.zo!;
  boot.watch(zo + stub.extractKernel, () => {
    boot.beginPhase('extract_kernel');
    // An action of its own: the boot may be held before it.
    if (boot.decompress === 'emulated') boot.snapshots?.begin(boot);
    if (boot.decompress === 'hooked') trapHere(boot);
    else if (stub.relocated === null) watchForExitInPlace(boot);
    else {
      watchForExit(boot, zo, zo + boot.image.protectedModeCode.length);
      emulated?.();
    }
  });
}

/** The CPU stands at the function's first instruction: when it is to run on, the function is done in TypeScript. */
export function trapHere(boot: BootRun): void {
  boot.deferChange(() => trap(boot));
}

/** What extract_kernel works on, when the CPU stands at its first instruction; null where that was not reached. */
export function extractionContext(boot: BootRun): ExtractionContext | null {
  const { machine, cpu, image, stub, found, kaslr, ahead } = boot;
  if (stub === null || found.zo === null || boot.record.phase !== 'extract_kernel') return null;
  return {
    ...{ image, stub, kaslr, ahead },
    zo: found.zo,
    memory: machine.memory,
    readRegister: (name) => cpu.readRegister(name),
    ports: {
      read: (port) => machine.ports.read(port, 1),
      write: (port, value) => machine.ports.write(port, 1, value),
    },
  };
}

async function trap(boot: BootRun): Promise<void> {
  const { record, cpu } = boot;
  if (cmdlineForGuest(boot.image, boot.options) !== boot.options.cmdline) {
    record.notice('KASLR is off, since no seed was given: the kernel goes where nokaslr would put it');
  }
  tellPayloadRead(boot);
  const extraction = await extractKernel(extractionContext(boot)!);
  boot.found.extraction = extraction;
  if (extraction.cr3 !== null) cpu.writeRegister('cr3', extraction.cr3);
  if (extraction.clearsIdt) cpu.writeDescriptorTable('idtr', { base: 0n, limit: 0 });
  tellExtraction(boot, extraction);
  for (const notice of extraction.notices) record.notice(notice);
  returnFromCall(boot, extraction.returnValue);
  const entry = Number(extraction.entry);
  boot.watch(entry, () => onKernel(boot, entry));
}

/** It is about to be decompressed in TypeScript, which may write over it. */
export function tellPayloadRead({ hold, image, found }: BootRun): void {
  const { offset, length } = image.payload!;
  const start = found.zo! + offset;
  hold.onHostRead({ start, end: start + length, by: 'extract_kernel', instruction: null });
}

/** The function was done in TypeScript: its phases, with what lies where at each. */
export function tellExtraction(boot: BootRun, extraction: Extraction): void {
  const { record, cpu } = boot;
  recordDecompressed(boot, extraction);
  for (const step of extraction.steps) {
    if (step.name === 'parse_elf') recordKernel(boot, extraction);
    boot.beginPhase(step.name, Number(step.address));
    record.completePhase(step.summary);
    if (step.name === 'decompressed') recordSegmentWrites(boot, extraction);
  }
  for (const write of extraction.writes) {
    cpu.invalidateCode(write.start, write.end - write.start);
    boot.hold.onHostWrite({ ...write, by: 'extract_kernel', instruction: null });
  }
  boot.hold.onExtracted();
}

/** What RET would do, with the result in RAX. */
function returnFromCall({ cpu, machine, stub }: BootRun, result: bigint): void {
  const width = stub!.bits / 8;
  const rsp = cpu.readRegister('rsp');
  const { memory } = machine;
  const at = Number(rsp);
  cpu.writeRegister('rip', width === 8 ? memory.read64(at) : BigInt(memory.read32(at)));
  cpu.writeRegister('rsp', rsp + BigInt(width));
  cpu.writeRegister('rax', result);
}
