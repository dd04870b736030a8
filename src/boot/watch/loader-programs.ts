// Which parts of a boot loader come to run: the boot sector, what that has read, what that has read or unpacked in turn. Code is known
// by where it was read to; a loader that reads through a buffer and copies is known by the file that holds the same bytes.

import type { Unhook } from '../../cpu/cpu.ts';
import { equalBytes, indexOfBytes } from '../../host/host.ts';
import { readDisk } from '../../image/disk-image.ts';
import { ownerName } from '../../image/disk-owners.ts';
import { ET_REL, isElf, PT_LOAD, readElf } from '../../image/elf.ts';
import type { FileNode } from '../../image/file-tree.ts';
import { GRUB_CORE, grubUnpackedSize } from '../../image/grub-core.ts';
import { readPe } from '../../image/pe.ts';
import type { ReadFile, SectorLoad, SectorLoads } from '../../machine/sector-loads.ts';
import { endLoaderPrograms, placeLoaderProgram } from '../../trace/place-boot.ts';
import type { Extent } from '../../trace/placements.ts';
import { CR0_PE } from '../../x86/control-registers.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { BootRun } from '../boot-run.ts';

const BOOT_SECTOR = 0x7c00;
const SECTOR_SIZE = 512;
/** Where the partition table begins in a sector: the rest is code and the file system's parameters. */
const BOOT_CODE_SIZE = 440;
const LOWEST_CODE = 0x600;
const VIDEO = 0xa0000;
const HIGH_MEMORY = 0x100000;
const PAGE = 0x1000;
/** Bytes of code that are compared. */
const NEEDLE = 24;
/** A kernel or an initrd is no part of a loader. */
const LARGEST_PROGRAM = 2 ** 21;
/** How far pages of one program lie apart whose code runs. */
const GROWTH = 0x10000;
const UNPACKED = 'what ';
/** Pages of code that is in no file that was read. */
const MOST_MISSES = 200;

interface Program extends Extent {
  readonly name: string;
  end: number;
  start: number;
  /** How a boot sector begins: another one may come to lie in its place. */
  readonly head: Uint8Array;
}

type Stage = 'boot-sector' | 'stage1.5' | 'stage2';

/** What was booted, where the BIOS has read it to. */
export function bootedProgram(boot: BootRun): string | null {
  const load = boot.machine.drives.loads.at(boot.found.loaded!.start);
  return load === null ? null : ownerName(load.owner);
}

/** The CPU stands at what the BIOS has loaded. */
export function watchLoaderPrograms(boot: BootRun): Unhook {
  const { memory, drives } = boot.machine;
  const { loads } = drives;
  const loader = boot.image;
  const files = new FileSearch(memory);
  const programs: Program[] = [];
  let stage: Stage = 'boot-sector';
  const first = loads.at(boot.found.loaded!.start);
  if (first !== null) {
    programs.push(programOf(memory, ownerName(first.owner), spanOf(loads, first)));
    boot.loaderPrograms.add(ownerName(first.owner));
    // A file, as isolinux.bin, is no boot sector that has to read it.
    if (first.owner.file !== null) stage = 'stage1.5';
  }

  /**
   * @param isPart - of what runs already, as a module is
   * @param isBoot - it begins anew, in the place of a boot sector
   */
  const begin = (address: number, program: Program, source: string, isPart = false, isBoot = false): void => {
    const known = programs.find(({ name }) => name === program.name);
    boot.loaderPrograms.add(program.name);
    boot.defer(() => {
      const { placements } = boot.record;
      if (isBoot) {
        // The loader before has handed over to it.
        programs.length = 0;
        endLoaderPrograms(placements);
        stage = program.end - program.start <= SECTOR_SIZE ? 'boot-sector' : 'stage1.5';
        programs.push(program);
        boot.beginPhase('boot-sector', address, program.name);
        return;
      }
      if (known !== undefined && program.start <= known.end && program.end >= known.start) {
        known.start = Math.min(known.start, program.start);
        known.end = Math.max(known.end, program.end);
        placements.end(({ role, name }) => role === 'loader-program' && name === program.name);
        placeLoaderProgram(placements, known, program.name, source);
        return;
      }
      programs.push(program);
      placeLoaderProgram(placements, program, program.name, source);
      if (known !== undefined || isPart) return;
      stage = stage === 'boot-sector' ? 'stage1.5' : 'stage2';
      boot.beginPhase(stage, address, program.name);
    });
  };

  const onCode = (address: number): void => {
    if (boot.busy || boot.image !== loader) return;
    if (address < LOWEST_CODE || (address >= VIDEO && address < HIGH_MEMORY)) return;
    const known = programs.findLast(({ start, end }) => address >= start && address < end);
    const isReal = (boot.cpu.readRegister('cr0') & CR0_PE) === 0n;
    const isReplaced =
      known !== undefined &&
      address === BOOT_SECTOR &&
      isReal &&
      !equalBytes(known.head, memory.copyOut(BOOT_SECTOR, BOOT_CODE_SIZE));
    if (known !== undefined && !isReplaced) return;
    const load = loads.at(address);
    if (load !== null && isStill(memory, load, address, isReplaced ? BOOT_CODE_SIZE : NEEDLE)) {
      const span = spanOf(loads, load);
      const program = programOf(memory, ownerName(load.owner), span);
      begin(address, program, 'INT 13h has read it here', false, isReplaced);
      return;
    }
    if (isReplaced) {
      const sector = { start: BOOT_SECTOR, end: BOOT_SECTOR + SECTOR_SIZE };
      begin(
        address,
        programOf(memory, 'a boot sector that the loader has put here', sector),
        'its code runs',
      );
      return;
    }
    const found = files.find(address, loads.files);
    if (found !== null) {
      const source = 'its bytes are those of the file that was read';
      begin(address, programOf(memory, found.name, found), source, found.isModule);
      return;
    }
    const from = programs.at(-1);
    if (address < HIGH_MEMORY || from === undefined) return;
    if (stage === 'stage2') {
      // As far as code of it runs that is in no file.
      const more = programs.find(
        ({ name, start, end }) => isUnpacked(name) && address >= start && address < end + GROWTH,
      );
      if (more === undefined) return;
      const end = (Math.floor(address / PAGE) + 1) * PAGE;
      begin(address, { ...more, end: Math.max(more.end, end) }, 'its code runs', true);
      return;
    }
    if (stage !== 'stage1.5') return;
    const core = programs.find(({ name }) => name.endsWith(GRUB_CORE));
    const size = core === undefined ? null : grubUnpackedSize(memory.viewUpTo(core.start, 2 * SECTOR_SIZE));
    const start = Math.floor(address / PAGE) * PAGE;
    const program = programOf(memory, `${UNPACKED}${from.name} has unpacked`, {
      start,
      end: start + (size ?? PAGE),
    });
    begin(address, program, size === null ? 'its code runs' : "the size in core.img's second sector");
  };
  // One boot sector may begin with the same code as the one before it.
  boot.hookInstruction(BOOT_SECTOR, () => onCode(BOOT_SECTOR));
  return boot.hookNewCode(onCode);
}

function isUnpacked(name: string): boolean {
  return name.startsWith(UNPACKED);
}

function programOf(memory: PhysicalMemory, name: string, { start, end }: Extent): Program {
  return { name, start, end, head: memory.copyOut(start, Math.min(BOOT_CODE_SIZE, memory.bytesFrom(start))) };
}

function spanOf(loads: SectorLoads, load: SectorLoad): Extent {
  const around = loads.around(load);
  return { start: around[0]!.start, end: around.at(-1)!.end };
}

/** Whether what was read is still there. */
function isStill(
  memory: PhysicalMemory,
  { disk, start, end, offset }: SectorLoad,
  address: number,
  most: number,
): boolean {
  const length = Math.min(most, end - address);
  return equalBytes(memory.copyOut(address, length), readDisk(disk, offset + (address - start), length));
}

/** Finds which of the files that were read the code at an address is of. */
export class FileSearch {
  readonly #memory: PhysicalMemory;
  readonly #largest: number;
  readonly #contents = new Map<FileNode, Uint8Array>();
  /** By page: of how many files its code was none. */
  readonly #missed = new Map<number, number>();

  /** @param largest - bytes of a file that may be a program */
  constructor(memory: PhysicalMemory, largest = LARGEST_PROGRAM) {
    this.#memory = memory;
    this.#largest = largest;
  }

  /** The program with where it lies in memory; null where none has the code. */
  find(
    address: number,
    files: readonly ReadFile[],
  ): (Extent & { readonly name: string; readonly isModule: boolean }) | null {
    const page = Math.floor(address / PAGE);
    if (this.#missed.get(page) === files.length || this.#missed.size >= MOST_MISSES) return null;
    const needle = this.#memory.viewUpTo(address, NEEDLE).slice();
    const isEmpty = needle.length < NEEDLE || needle.every((byte) => byte === needle[0]);
    // The latest that was read is the likeliest.
    for (const { name, file } of isEmpty ? [] : files.toReversed()) {
      if (file.size > this.#largest || file.size < NEEDLE) continue;
      let bytes = this.#contents.get(file);
      if (bytes === undefined) {
        bytes = file.read();
        this.#contents.set(file, bytes);
      }
      const at = indexOfBytes(bytes, needle);
      if (at < 0) continue;
      const isModule = isElf(bytes) && readElf(bytes).type === ET_REL;
      const extent = extentOf(bytes, at, address);
      // The same bytes as in a file that does not lie there.
      if (extent.start >= 0) return { name, isModule, ...extent };
    }
    this.#missed.set(page, files.length);
    return null;
  }
}

/** Where a program lies whose byte `at` is at `address`: as a whole, or as its header has its parts laid out. */
function extentOf(bytes: Uint8Array, at: number, address: number): Extent {
  if (isElf(bytes)) {
    const loads = readElf(bytes).programHeaders.filter(({ type }) => type === PT_LOAD);
    const part = loads.find(({ offset, filesz }) => at >= Number(offset) && at < Number(offset + filesz));
    if (part !== undefined) {
      const base = address - (at - Number(part.offset)) - Number(part.vaddr);
      const starts = loads.map(({ vaddr }) => Number(vaddr));
      const ends = loads.map(({ vaddr, memsz }) => Number(vaddr + memsz));
      return { start: base + Math.min(...starts), end: base + Math.max(...ends) };
    }
  }
  const pe = readPe(bytes);
  const section = pe?.sections.find(
    ({ fileOffset, fileSize }) => at >= fileOffset && at < fileOffset + fileSize,
  );
  if (pe !== null && pe !== undefined && section !== undefined) {
    const base = address - (at - section.fileOffset) - section.virtualAddress;
    return { start: base, end: base + pe.sizeOfImage };
  }
  return { start: address - at, end: address - at + bytes.length };
}
