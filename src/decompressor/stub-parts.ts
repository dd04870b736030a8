// The parts of ZO by name - head, payload, text, data, bss, heap, stack, page tables - from its header, its PE sections and
// what its code shows. Without symbols some boundaries can only be deduced, and say so.

import type { KernelImage } from '../image/kernel-image.ts';
import { readPe } from '../image/pe.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
import type { StubDetails } from './stub.ts';

/** One part; offsets in bytes from the start of the protected-mode code, [start, end). */
export interface StubPart {
  readonly name:
    | 'head'
    | 'payload'
    | 'text and rodata'
    | 'text, rodata and data'
    | 'data'
    | 'bss'
    | 'heap'
    | 'stack'
    | 'page tables';
  readonly start: number;
  readonly end: number;
  /** False for what has no bytes in the file and is there only once the stub has set it up. */
  readonly inFile: boolean;
  readonly source: string;
  readonly inferred: boolean;
}

const PAGE = 0x1000;
/** BOOT_STACK_SIZE. */
const STACK_SIZE = { 32: 0x1000, 64: 0x4000 } as const;
/** BOOT_HEAP_SIZE where boot_heap is a variable of misc.c: in general, for zstd, for bzip2. */
const HEAP_SIZES: ReadonlySet<number> = new Set([0x10000, 0x30000, 0x400000]);
/** PML4, page directory pointers, and four page directories: what startup_32 builds. */
const INITIAL_TABLES = 6 * PAGE;
/** The text follows the payload with no more padding than this. */
const MAX_TEXT_ALIGNMENT = 64;

/**
 * All parts of an image's ZO that are known, by start.
 *
 * @param details - null where the stub was not recognised: then only what the header tells
 */
export function findStubParts(image: KernelImage, details: StubDetails | null): StubPart[] {
  const { payload } = image;
  const fileEnd = Math.min(details?.bss?.start ?? Number.POSITIVE_INFINITY, image.protectedModeCode.length);
  const parts: StubPart[] = [];
  const add = (
    name: StubPart['name'],
    start: number,
    end: number,
    source: string,
    { inferred = false, inFile = true } = {},
  ): void => {
    if (end > start) parts.push({ name, start, end, inFile, source, inferred });
  };
  if (payload !== null) {
    const payloadEnd = payload.offset + payload.length;
    const codeFirst = details !== null && details.layout.extractKernel < payload.offset;
    add(codeFirst ? 'text, rodata and data' : 'head', 0, payload.offset, 'all before the payload');
    add(
      'payload',
      payload.offset,
      payloadEnd,
      payload.source === 'header' ? 'payload_offset and payload_length' : "the codec's magic",
      { inferred: payload.source !== 'header' },
    );
    // A stub whose code stands first ends with its payload, piggy.o.
    if (!codeFirst) {
      const text = textStart(details, payloadEnd);
      const data = findData(image, details, text);
      if (data === null) {
        add('text, rodata and data', text, fileEnd, 'behind the payload, up to the bss');
      } else {
        add('text and rodata', text, data.start, 'behind the payload, up to the data', data);
        add('data', data.start, Math.min(fileEnd, data.end), data.source, data);
      }
    }
  }
  if (details?.bss != null) addRuntimeParts(image, details, details.bss, add);
  return parts.sort((a, b) => a.start - b.start || b.end - a.end);
}

/** Stubs that copy themselves go on at the very start of their text. */
function textStart(details: StubDetails | null, payloadEnd: number): number {
  const relocated = details?.layout.relocated ?? null;
  const follows =
    relocated !== null && relocated >= payloadEnd && relocated < payloadEnd + MAX_TEXT_ALIGNMENT;
  return follows ? relocated : payloadEnd;
}

/** The start of .data: by its PE section, or, in the generations that align it to a page, the last page before the bss. */
function findData(
  image: KernelImage,
  details: StubDetails | null,
  textFrom: number,
): { start: number; end: number; source: string; inferred: boolean } | null {
  const bss = details?.bss?.start ?? image.protectedModeCode.length;
  const section = readPe(image.bytes)?.sections.find(({ name }) => name === '.data');
  if (section !== undefined) {
    const start = section.virtualAddress - image.setupSize;
    // Behind its bytes may come what signs the file.
    const end = start + section.fileSize;
    if (start > textFrom && start < bss) return { start, end, source: 'PE section .data', inferred: false };
  }
  if (details === null || !details.layout.abi.endsWith('rmode-output')) return null;
  const start = Math.floor((bss - 1) / PAGE) * PAGE;
  const padded = image.protectedModeCode.subarray(start - 4, start).every((byte) => byte === 0);
  return bss % 0x200 === 0 && start > textFrom && padded
    ? { start, end: bss, source: 'the last page before the bss', inferred: true }
    : null;
}

type Add = (
  name: StubPart['name'],
  start: number,
  end: number,
  source: string,
  how?: { readonly inferred?: boolean; readonly inFile?: boolean },
) => void;

function addRuntimeParts(
  image: KernelImage,
  details: StubDetails,
  bss: NonNullable<StubDetails['bss']>,
  add: Add,
): void {
  add('bss', bss.start, bss.end, 'the range the stub clears', { inFile: false });
  const stackSize = STACK_SIZE[details.layout.bits];
  const stackStart = details.stackEnd === null ? null : details.stackEnd - stackSize;
  if (details.stackEnd !== null && stackStart !== null && stackStart >= bss.start) {
    add('stack', stackStart, details.stackEnd, 'the stack pointer it loads, BOOT_STACK_SIZE', {
      inFile: false,
      inferred: true,
    });
  }
  if (details.heap === null) {
    const heap = findHeap(image, details, bss);
    if (heap !== null) {
      add('heap', heap.start, heap.end, 'free_mem_ptr and free_mem_end_ptr, as extract_kernel sets them', {
        inFile: false,
        inferred: true,
      });
    }
  } else if (stackStart !== null && details.heap < stackStart) {
    add('heap', details.heap, stackStart, 'the heap argument, up to the stack', {
      inFile: false,
      inferred: true,
    });
  }
  const { pageTable, end } = details;
  if (pageTable !== null) {
    add(
      'page tables',
      pageTable,
      end ?? pageTable + INITIAL_TABLES,
      end === null ? 'what startup_32 builds' : 'from what startup_32 builds to _end',
      { inFile: false, inferred: end === null },
    );
  }
}

/** A value in extract_kernel that is a place in ZO: the offset of it. */
type Places = Map<string, number>;

const CALL = 0xe8;
const LEA = 0x8d;
const RET = 0xc3;
const RAX = 0;
const RBX = 3;
const RSP = 4;
const RBP = 5;
/** Instructions of extract_kernel that are looked at; the heap is among the first things it sets. */
const LOOKED_AT = 200;

/**
 * boot_heap of the stubs that have it in C. extract_kernel puts its start and its end into two neighbouring variables; this
 * follows addresses through registers and stack slots until both are stored.
 */
function findHeap(
  image: KernelImage,
  details: StubDetails,
  bss: { readonly start: number; readonly end: number },
): { start: number; end: number } | null {
  const code = image.protectedModeCode;
  const { bits, extractKernel } = details.layout;
  const places: Places = new Map();
  const stored = new Map<number, number>();
  let got: number | null = null;
  let at = extractKernel;
  for (let count = 0; count < LOOKED_AT; count++) {
    const instruction = decodeInstruction(code, at, bits);
    if (instruction === null || instruction.opcode === RET) break;
    at = instruction.next;
    if (bits === 32 && instruction.opcode === CALL) {
      got = globalOffsetTable(code, at) ?? got;
      continue;
    }
    follow(instruction, places, stored, bits === 64 ? instruction.next : null, got);
    for (const [variable, start] of stored) {
      const end = stored.get(variable - bits / 8);
      if (end === undefined || !HEAP_SIZES.has(end - start)) continue;
      if (start >= bss.start && end <= bss.end) return { start, end };
    }
  }
  return null;
}

/** `add $imm32, %ebx` right behind a call of __x86.get_pc_thunk.bx. */
function globalOffsetTable(code: Uint8Array, at: number): number | null {
  const add = decodeInstruction(code, at, 32);
  const isAdd = add !== null && add.opcode === 0x81 && add.mod === 3 && add.rm === RBX && add.reg === 0;
  return isAdd ? at + add.immediate : null;
}

/** The effect of one instruction on what is known of registers and stack slots, and on variables. */
function follow(
  instruction: Instruction,
  places: Places,
  stored: Map<number, number>,
  ripAfter: number | null,
  got: number | null,
): void {
  const { opcode, mod, reg, rm, sib, displacement, immediate, direct } = instruction;
  const memory = mod >= 0 && mod !== 3;
  const variable =
    memory && direct && ripAfter !== null
      ? ripAfter + displacement
      : memory && !sib && rm === RBX && got !== null && ripAfter === null
        ? got + displacement
        : null;
  const slot =
    memory && ((rm === RBP && mod !== 0 && !sib) || (sib && rm === RSP)) ? `${rm}+${displacement}` : null;
  const set = (register: number, value: number | undefined): void => {
    if (value === undefined) places.delete(String(register));
    else places.set(String(register), value);
  };
  if (opcode === LEA) {
    const base = memory && !sib && !direct ? places.get(String(rm)) : undefined;
    set(reg, variable ?? (base === undefined ? undefined : base + displacement));
  } else if (opcode === 0x89 || opcode === 0x8b) {
    const stores = opcode === 0x89;
    if (!memory) set(stores ? rm : reg, places.get(String(stores ? reg : rm)));
    else if (stores) {
      const value = places.get(String(reg));
      if (variable !== null && value !== undefined) stored.set(variable, value);
      if (slot !== null) {
        if (value === undefined) places.delete(slot);
        else places.set(slot, value);
      }
    } else set(reg, slot === null ? undefined : places.get(slot));
  } else if (opcode === 0x05 || (opcode === 0x81 && mod === 3 && reg % 8 === 0)) {
    const register = opcode === 0x05 ? RAX : rm;
    const value = places.get(String(register));
    set(register, value === undefined ? undefined : value + immediate);
  } else if (opcode === 0xc7 && slot !== null) {
    places.delete(slot);
  }
}
