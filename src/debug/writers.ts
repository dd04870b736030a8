// Who wrote a range of memory, or read it, up to a place in a boot: found by running the boot again with the range observed.

import type { ObservedAccess } from '../boot/access-observer.ts';
import { codeSegmentBase } from '../boot/cpu-mode.ts';
import { type DecodedInstruction, InstructionDecoder } from '../boot/instruction-decoder.ts';
import type { BootSession } from '../boot/session.ts';
import type { Stop, WatchedRange } from '../boot/stop.ts';
import { hex } from '../hex.ts';
import type { ElfProgramHeader } from '../image/elf.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import type { BootEvent, MemoryRegion, RegionKind } from '../trace/boot-trace.ts';
import type { Place } from '../trace/place.ts';

/** Accesses one after the other by the same instruction, or one by the host. */
export interface Accessor {
  readonly by: ObservedAccess['by'] | 'loader';
  /** What was accessed of the range, physical [start, end). */
  readonly start: number;
  readonly end: number;
  readonly phase: Stop['phase'];
  /** Instructions executed before the first and before the last of them. */
  readonly first: number | null;
  readonly last: number | null;
  readonly count: number;
  /** What did it; null for what the host did. */
  readonly instruction: DecodedInstruction | null;
  /** The bytes of the last access from its first one on, at most `SHOWN_BYTES`, before and after. */
  readonly at: number;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  /** Of a copy, where the byte at `start` came from. */
  readonly source: number | null;
  /** Of firmware the call; of the trap what it put there; of the loader the region: for people. */
  readonly what: string | null;
}

/** Who wrote or read a range of memory, up to a place in the boot. */
export interface Accessors {
  readonly range: WatchedRange;
  readonly stop: Stop;
  /** In the order of the boot; the loader first. */
  readonly accessors: readonly Accessor[];
  /** How many were left out at the beginning. */
  readonly dropped: number;
}

const SHOWN_BYTES = 16;
/** Instructions of a loop that write there in turn are told once each. */
const LOOP = 8;
/** What a loader puts into memory. */
const LOADED_KINDS: readonly RegionKind[] = [
  ...(['boot-sector', 'setup', 'boot-params', 'command-line', 'compressed-kernel'] as const),
  ...(['initrd', 'setup-data', 'firmware'] as const),
];
/** Accessors that are kept, the last ones. */
const MOST_KEPT = 10_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Who wrote a range of memory, or read it, up to a place in the boot.
 *
 * @param session - its place is lost; it then stands at `place`
 * @param image - what the session boots
 * @param range - all of it is RAM
 * @param place - in the boot
 * @example
 * ```ts
 * import { readKernelImage } from 'bootscope';
 * import { findAccessors } from 'bootscope/debug';
 * import { openBoot, parsePlace } from 'bootscope/session';
 *
 * const image = await readKernelImage('demo-lz4.bzImage');
 * using session = await openBoot(image);
 * const range = { start: 0x100000, end: 0x100010 };
 * const { accessors } = await findAccessors(session, image, range, 'write', parsePlace('startup_32'));
 * console.assert(accessors[0]?.by === 'loader');
 * ```
 */
export async function findAccessors(
  session: BootSession,
  image: KernelImage,
  range: WatchedRange,
  access: 'read' | 'write',
  place: Place,
): Promise<Accessors> {
  const decoder = new InstructionDecoder<true>('gas', () => true);
  await session.goTo(0);
  const found: Mutable<Accessor>[] = access === 'write' ? loaded(session, range) : [];
  const events: { readonly row: Mutable<Accessor>; readonly index: number }[] = [];
  const extracted: { readonly row: Mutable<Accessor>; readonly access: ObservedAccess }[] = [];
  let dropped = 0;
  session.observe(range, access, (each) => {
    const { end, instructions, instruction } = each;
    const row = found.findLast(
      (known, index) =>
        index >= found.length - LOOP &&
        known.by === 'guest' &&
        known.instruction?.address === Number(instruction),
    );
    if (row !== undefined && each.by === 'guest') {
      row.start = Math.min(row.start, each.start);
      row.end = Math.max(row.end, end);
      row.last = instructions;
      row.count++;
      Object.assign(row, shown(each));
      return;
    }
    const added: Mutable<Accessor> = {
      ...{ by: each.by, start: each.start, end, phase: each.phase, first: instructions, last: instructions },
      ...{ count: 1, instruction: decode(session, decoder, each), ...shown(each) },
      ...{ source: each.source ?? null, what: null },
    };
    if (each.by === 'extract_kernel') extracted.push({ row: added, access: each });
    // Its event is recorded when the service has returned.
    if (each.by === 'firmware') events.push({ row: added, index: session.events.length });
    found.push(added);
    if (found.length > 2 * MOST_KEPT) dropped += found.splice(0, found.length - MOST_KEPT).length;
  });
  const stop = await runTo(session, place);
  for (const { row, index } of events) row.what = serviceAt(session.events, index);
  const segments = extracted.length > 0 ? await segmentsOf(image) : [];
  for (const { row, access: each } of extracted) row.what = trapped(each, image, session.zo, segments);
  found.sort((a, b) => (a.last ?? 0) - (b.last ?? 0));
  return { range, stop, accessors: found, dropped };
}

/** From the first instruction. */
async function runTo(session: BootSession, place: Place): Promise<Stop> {
  if (place.kind === 'phase' && place.phase === session.phase) return session.stop;
  return place.kind === 'phase' && place.phase === 'kernel' ? session.run() : session.run({ until: place });
}

function shown(each: ObservedAccess): Pick<Accessor, 'at' | 'before' | 'after'> {
  const { start, before, after } = each;
  return { at: start, before: before.slice(0, SHOWN_BYTES), after: after.slice(0, SHOWN_BYTES) };
}

function decode(
  session: BootSession,
  decoder: InstructionDecoder<true>,
  { instruction, mode }: ObservedAccess,
): DecodedInstruction | null {
  if (instruction === null) return null;
  const csBase = Number(codeSegmentBase(session.machine.cpu, mode));
  return decoder.decode(session.machine.memory, Number(instruction), mode, csBase);
}

/** The program headers of the kernel in an image, by their numbers; none where it is no ELF file. */
async function segmentsOf(image: KernelImage): Promise<readonly ElfProgramHeader[]> {
  return (await extractVmlinux(image)).elf?.programHeaders ?? [];
}

/** What the trap put there, and which bytes of the decompressed file those are. */
function trapped(
  { role, segment, offset, start, end }: ObservedAccess,
  image: KernelImage,
  zo: number | null,
  segments: readonly ElfProgramHeader[],
): string | null {
  const { payload } = image;
  if (role === undefined || payload === null || zo === null) return role ?? null;
  const compressed = `the ${payload.codec} payload at ${hex(zo + payload.offset)}..${hex(zo + payload.offset + payload.length)}`;
  const from = role === 'segment' ? segments[segment!]?.offset : role === 'decompressed' ? 0n : undefined;
  const name = segment === undefined ? role : `${role} ${segment}`;
  if (from === undefined) return `${name}, of ${compressed}`;
  const first = Number(from) + offset;
  return `${name}: bytes ${hex(first)}..${hex(first + end - start)} of the file in ${compressed}`;
}

function serviceAt(events: readonly BootEvent[], index: number): string | null {
  const event = events.slice(index).find(({ kind }) => kind === 'bios');
  return event === undefined ? null : String(event.details.service ?? event.text);
}

/** What the loader has put there before the first instruction, a row a region. */
function loaded(session: BootSession, range: WatchedRange): Mutable<Accessor>[] {
  const overlaps = session
    .layout()
    .filter(
      ({ start, end, parent, kind }) =>
        parent === undefined && LOADED_KINDS.includes(kind) && start < range.end && range.start < end,
    );
  return overlaps.map((region: MemoryRegion): Mutable<Accessor> => {
    const start = Math.max(range.start, Number(region.start));
    const end = Math.min(range.end, Number(region.end));
    const after = session.memory.read(start, Math.min(end - start, SHOWN_BYTES));
    return {
      ...{ by: region.kind === 'firmware' ? 'firmware' : 'loader', start, end, phase: session.phase },
      ...{ first: 0, last: 0, count: 1, instruction: null, at: start, before: new Uint8Array(0), after },
      ...{ source: null, what: region.name },
    };
  });
}
