// What a boot loader or virtual machine monitor left when it jumped to the kernel, in a folder: the ELF core that QEMU's
// dump-guest-memory writes, which has the registers in a note, or state.json with registers and dumps of memory.

import { BootscopeError, systemReason } from '../error.ts';
import { hex } from '../hex.ts';
import { fileStatus, folderNames, joinPath, openFile, readFile } from '../host/host.ts';
import { CR0_PG, CR4_PAE, EFER_LMA, EFER_LME } from '../x86/control-registers.ts';
import { ByteView } from './byte-view.ts';
import { ET_CORE, isElf, PT_LOAD, readElf, readElfNotes } from './elf.ts';

/** Registers that a state may tell. */
export const STATE_REGISTERS = [
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
  ...(['rip', 'rflags', 'cs', 'ds', 'es', 'fs', 'gs', 'ss', 'cr0', 'cr3', 'cr4', 'efer'] as const),
] as const;
export type StateRegister = (typeof STATE_REGISTERS)[number];
export type StateRegisters = Readonly<Partial<Record<StateRegister, bigint>>>;

/** A run of memory that was dumped. */
export interface StatePiece {
  readonly address: number;
  readonly size: number;
  /** The bytes from `offset` in it on. */
  read(offset: number, length: number): Uint8Array;
}

/** The state of a machine at the jump to the kernel. */
export interface LoaderState {
  /** The folder. */
  readonly path: string;
  /** The kernel's file as the state names it; null where it does not. */
  readonly image: string | null;
  /** Segment registers are selectors; what is not told is absent. */
  readonly registers: StateRegisters;
  /** Linear base and limit; null where it is not told. */
  readonly gdtr: { readonly base: bigint; readonly limit: number } | null;
  /** By address, apart from each other. */
  readonly pieces: readonly StatePiece[];
  /** They are all of the machine's memory. */
  readonly complete: boolean;
}

const JSON_NAME = 'state.json';
/** Program headers and notes of a core lie in front of its memory. */
const CORE_HEAD = 2 ** 20;
const LARGEST_JSON = 2 ** 20;
/** DESC_L_MASK of QEMU's segment flags, which are the second doubleword of a descriptor. */
const LONG_CODE = 1 << 21;

/** The note of QEMU's: version and size, then these as 8 bytes each (QEMUCPUState). */
const QEMU_GENERAL = [
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags'] as const),
] as const;
/** Then segments of 24 bytes: selector, limit, flags, padding, base. */
const QEMU_SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'ldt', 'tr', 'gdt', 'idt'] as const;
const QEMU_NOTE_HEAD = 8;
const QEMU_SEGMENT = 24;
const QEMU_NOTE = QEMU_NOTE_HEAD + QEMU_GENERAL.length * 8 + QEMU_SEGMENTS.length * QEMU_SEGMENT + 5 * 8;

/**
 * Reads what a folder holds; memory is read when somebody asks for it.
 *
 * @throws BootscopeError `image-state-folder`, `image-state-core`, `image-state-json`
 */
export function readLoaderState(path: string): LoaderState {
  let names: string[];
  try {
    names = folderNames(path);
  } catch (error) {
    throw new BootscopeError(
      'image-state-folder',
      `${path} cannot be read as a folder: ${systemReason(error)}`,
    );
  }
  const json = names.includes(JSON_NAME) ? readStateJson(path) : null;
  const cores = names.filter((name) => isCore(joinPath(path, name)));
  if (cores.length > 1) {
    throw new BootscopeError(
      'image-state-folder',
      `${path} has ${cores.length} ELF cores: ${cores.join(', ')}`,
    );
  }
  const [core] = cores;
  if (core === undefined && (json === null || json.pieces.length === 0)) {
    throw new BootscopeError(
      'image-state-folder',
      `${path} has neither an ELF core of dump-guest-memory nor a ${JSON_NAME} that names dumps of memory`,
    );
  }
  if (core === undefined) return json!;
  const state = readCore(path, core);
  if (json === null) return state;
  return {
    ...state,
    image: json.image,
    registers: { ...state.registers, ...json.registers },
    gdtr: json.gdtr ?? state.gdtr,
  };
}

function isCore(path: string): boolean {
  if (fileStatus(path).kind !== 'file') return false;
  const head = readBytes(path, 0, 64);
  return head.length === 64 && isElf(head) && new ByteView(head, 'ELF header').u16(16) === ET_CORE;
}

/** As many bytes as the file has there. */
function readBytes(path: string, offset: number, length: number): Uint8Array {
  const file = openFile(path);
  try {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
    file.read(offset, bytes);
    return bytes;
  } finally {
    file.close();
  }
}

function pieceOf(path: string, address: number, offset: number, size: number): StatePiece {
  return {
    address,
    size,
    read: (at, length) => readBytes(path, offset + at, Math.max(0, Math.min(length, size - at))),
  };
}

function readCore(folder: string, name: string): LoaderState {
  const path = joinPath(folder, name);
  const elf = readElf(readBytes(path, 0, CORE_HEAD));
  const length = fileStatus(path).size;
  const notes = readElfNotes(elf).filter((note) => note.name === 'QEMU');
  const [note] = notes;
  if (note === undefined || note.description.length < QEMU_NOTE) {
    throw new BootscopeError(
      'image-state-core',
      `${path} has no note with the registers of a processor, as QEMU's dump-guest-memory writes it`,
    );
  }
  const pieces = elf.programHeaders
    .filter(({ type, filesz }) => type === PT_LOAD && filesz > 0n)
    .map(({ paddr, offset, filesz }) => {
      if (Number(offset + filesz) > length) {
        throw new BootscopeError(
          'image-state-core',
          `${path} is cut off: memory from ${hex(paddr)} on needs ${offset + filesz} bytes, the file has ${length}`,
        );
      }
      return pieceOf(path, Number(paddr), Number(offset), Number(filesz));
    });
  return {
    path: folder,
    image: null,
    ...readQemuNote(note.description),
    pieces: apart(path, pieces),
    complete: true,
  };
}

function readQemuNote(note: Uint8Array): Pick<LoaderState, 'registers' | 'gdtr'> {
  const view = new ByteView(note, "QEMU's note");
  const registers: Partial<Record<StateRegister, bigint>> = {};
  let at = QEMU_NOTE_HEAD;
  for (const name of QEMU_GENERAL) {
    registers[name] = view.u64(at);
    at += 8;
  }
  let gdtr: LoaderState['gdtr'] = null;
  let isLong = false;
  for (const name of QEMU_SEGMENTS) {
    const selector = view.u32(at);
    if (name === 'gdt') gdtr = { base: view.u64(at + 16), limit: view.u32(at + 4) };
    else if (name !== 'idt' && name !== 'ldt' && name !== 'tr') registers[name] = BigInt(selector & 0xffff);
    if (name === 'cs') isLong = (view.u32(at + 8) & LONG_CODE) !== 0;
    at += QEMU_SEGMENT;
  }
  const control = (index: number): bigint => view.u64(at + index * 8);
  registers.cr0 = control(0);
  registers.cr3 = control(3);
  registers.cr4 = control(4);
  // The note has no EFER: a 64-bit code segment counts only where it is active.
  const active = isLong && (registers.cr0 & CR0_PG) !== 0n && (registers.cr4 & CR4_PAE) !== 0n;
  registers.efer = active ? EFER_LME | EFER_LMA : 0n;
  return { registers, gdtr };
}

/** @throws BootscopeError `image-state-json` with what is wrong, by its name */
function readStateJson(folder: string): LoaderState {
  const path = joinPath(folder, JSON_NAME);
  const wrong = (text: string): BootscopeError => new BootscopeError('image-state-json', `${path}: ${text}`);
  if (fileStatus(path).size > LARGEST_JSON) throw wrong(`it has more than ${LARGEST_JSON} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(readFile(path)));
  } catch (error) {
    throw wrong(`it is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const objectOf = (given: unknown, what: string): Record<string, unknown> => {
    if (typeof given === 'object' && given !== null && !Array.isArray(given)) {
      return given as Record<string, unknown>;
    }
    throw wrong(`${what} is no object`);
  };
  const numberOf = (given: unknown, what: string): bigint => {
    const isText = typeof given === 'string' && /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(given);
    if (isText || (typeof given === 'number' && Number.isSafeInteger(given) && given >= 0)) {
      return BigInt.asUintN(64, BigInt(given as string | number));
    }
    throw wrong(`${what} is ${JSON.stringify(given) ?? 'missing'}, no number such as "0x100000"`);
  };
  const all = objectOf(value, 'what it holds');
  const known = ['image', 'registers', 'gdtr', 'memory'];
  const strange = Object.keys(all).find((key) => !known.includes(key));
  if (strange !== undefined) throw wrong(`${strange} is none of ${known.join(', ')}`);
  const registers: Partial<Record<StateRegister, bigint>> = {};
  for (const [name, given] of Object.entries(objectOf(all.registers ?? {}, 'registers'))) {
    const register = STATE_REGISTERS.find((each) => each === name);
    if (register === undefined) {
      throw wrong(`there is no register ${name}; there are ${STATE_REGISTERS.join(', ')}`);
    }
    registers[register] = numberOf(given, `registers.${name}`);
  }
  const table = all.gdtr === undefined ? null : objectOf(all.gdtr, 'gdtr');
  const memory = all.memory ?? [];
  if (!Array.isArray(memory)) throw wrong('memory is no list');
  const pieces = memory.map((each, index) => {
    const piece = objectOf(each, `memory[${index}]`);
    if (typeof piece.file !== 'string') throw wrong(`memory[${index}].file is no name of a file`);
    const file = joinPath(folder, piece.file);
    const address = Number(numberOf(piece.address, `memory[${index}].address`));
    const offset = Number(numberOf(piece.offset ?? 0, `memory[${index}].offset`));
    let length: number;
    try {
      length = fileStatus(file).size - offset;
    } catch (error) {
      throw wrong(`memory[${index}]: ${file} cannot be read: ${systemReason(error)}`);
    }
    const size = piece.size === undefined ? length : Number(numberOf(piece.size, `memory[${index}].size`));
    if (size > length || size <= 0) {
      throw wrong(`memory[${index}]: ${file} has ${length} bytes from ${offset} on, ${size} are wanted`);
    }
    return pieceOf(file, address, offset, size);
  });
  if (all.image !== undefined && typeof all.image !== 'string') throw wrong('image is no name of a file');
  return {
    path: folder,
    image: all.image === undefined ? null : joinPath(folder, all.image),
    registers,
    gdtr:
      table === null
        ? null
        : { base: numberOf(table.base, 'gdtr.base'), limit: Number(numberOf(table.limit, 'gdtr.limit')) },
    pieces: apart(path, pieces),
    complete: false,
  };
}

/** By address. @throws BootscopeError `image-state-folder` where two overlap */
function apart(path: string, pieces: readonly StatePiece[]): readonly StatePiece[] {
  const sorted = pieces.toSorted((a, b) => a.address - b.address);
  for (const [index, { address, size }] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && next.address < address + size) {
      const [from, to] = [next.address, Math.min(address + size, next.address + next.size)];
      throw new BootscopeError(
        'image-state-folder',
        `${path} tells of the memory ${hex(from)}..${hex(to)} twice`,
      );
    }
  }
  return sorted;
}
