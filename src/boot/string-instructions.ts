// `rep movs` and `rep stos` of the boot stub's own code: finds them, reports what they copy or fill, and does the
// large ones over plain RAM as one host operation with the same architectural result (Intel SDM 2B, REP, MOVS, STOS).

import type { Cpu, RegisterName, Unhook } from '../cpu/cpu.ts';
import { isIdentityMapped, markUsed, type TableMemory } from '../x86/page-tables.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { CpuModeReader } from './cpu-mode.ts';
import { type HostSteps, NOT_HELD } from './hold.ts';

/** A whole copy or fill, from its first iteration. Physical, identity-mapped; [start, start + length). */
export interface StringOperation {
  readonly kind: 'copy' | 'fill';
  /** Address of the instruction. */
  readonly address: number;
  /** Lowest source address; null for a fill. */
  readonly source: number | null;
  /** Lowest target address. */
  readonly target: number;
  /** Bytes. */
  readonly length: number;
}

interface RepInstruction {
  readonly kind: 'copy' | 'fill';
  /** Bytes that one iteration moves. */
  readonly width: 1 | 4 | 8;
  /** Bytes of the instruction. */
  readonly size: number;
}

const REP = 0xf3;
const REX_W = 0x48;
const MOVSB = 0xa4;
const MOVS = 0xa5;
const STOSB = 0xaa;
const STOS = 0xab;
/** Of a repeated MOVS or STOS with REX.W. */
const MAX_LENGTH = 3;
const DIRECTION_FLAG = 1n << 10n;
/** With fewer iterations than this the host does not begin where it cannot do all of them. */
const FEWEST = 64n;

/** @param long - whether it is 64-bit code; elsewhere the byte of REX.W is an instruction of its own */
function decodeRep(bytes: Uint8Array, offset: number, long: boolean): RepInstruction | null {
  if (bytes[offset] !== REP) return null;
  const wide = long && bytes[offset + 1] === REX_W;
  const opcode = bytes[offset + (wide ? 2 : 1)];
  const size = wide ? 3 : 2;
  switch (opcode) {
    case MOVSB:
      return { kind: 'copy', width: 1, size };
    case MOVS:
      return { kind: 'copy', width: wide ? 8 : 4, size };
    case STOSB:
      return { kind: 'fill', width: 1, size };
    case STOS:
      return { kind: 'fill', width: wide ? 8 : 4, size };
    default:
      return null;
  }
}

/** Offsets in code[from, to) where the bytes of a `rep movs` (copy) or `rep stos` (fill) stand. Data may look like one: harmless. */
export function findRepInstructions(
  code: Uint8Array,
  from: number,
  to: number,
  kinds: readonly StringOperation['kind'][] = ['copy', 'fill'],
): number[] {
  const found: number[] = [];
  for (let offset = from; offset < Math.min(to, code.length - 2); offset++) {
    const instruction = decodeRep(code, offset, true);
    if (instruction !== null && kinds.includes(instruction.kind)) found.push(offset);
  }
  return found;
}

const NAMES: readonly RegisterName[] = [
  'rcx',
  'rsi',
  'rdi',
  'rflags',
  'rax',
  'cr0',
  'cr3',
  'cr4',
  'efer',
  'rip',
];

export interface StringHookOptions {
  /** Do them on the host; false: only report them. */
  readonly fast: boolean;
  readonly mode: CpuModeReader;
  readonly onOperation: (operation: StringOperation) => void;
  readonly hold?: HostSteps;
  /** Where the page tables are read and marked; default: the CPU's memory. */
  readonly tables?: TableMemory;
}

/**
 * Hooks the instruction at `address` (physical and linear, flat segments). In 32-bit and long mode with identity
 * mapping it is done on the host; everywhere else the CPU does it itself. Where memory ends, or the instruction would write over
 * itself, the CPU does what is left from there on.
 */
export function hookStringInstruction(cpu: Cpu, address: number, options: StringHookOptions): Unhook {
  const values = new BigUint64Array(NAMES.length);
  const hold = options.hold ?? NOT_HELD;
  // While the CPU iterates by itself, the hook is called for each iteration, all of which are one instruction: with the same
  // count of instructions. Where nobody counts, RCX counts down.
  let iteratesAt: number | null = null;
  let expectedCount: bigint | null = null;
  return cpu.hookCode(BigInt(address), BigInt(address), () => {
    if (hold.before(address)) return;
    // The cheap looks first: where the host does nothing itself, this is called for each of millions of iterations.
    if (iteratesAt !== null && cpu.instructions === iteratesAt) return;
    if (expectedCount !== null && cpu.readRegister('rcx') === expectedCount) {
      expectedCount = expectedCount > 1n ? expectedCount - 1n : null;
      return;
    }
    const { memory } = cpu;
    const tables = options.tables ?? memory;
    const mode = options.mode.read();
    const instruction = decodeRep(memory.viewUpTo(address, MAX_LENGTH), 0, mode === 'long64');
    if (instruction === null) return;
    cpu.readRegisters(NAMES, values);
    const [rcx, rsi, rdi, rflags, rax, cr0, cr3, cr4, efer] = values as unknown as bigint[];
    if (mode !== 'prot32' && mode !== 'long64' && mode !== 'compat32') return;
    const mask = mode === 'long64' ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
    const count = rcx! & mask;
    if (expectedCount !== null && count === expectedCount) {
      expectedCount = count > 1n ? count - 1n : null;
      return;
    }
    if (count === 0n) return;
    const leaveToCpu = (): void => {
      iteratesAt = cpu.instructions;
      if (iteratesAt === null) expectedCount = count > 1n ? count - 1n : null;
    };
    const width = BigInt(instruction.width);
    const backward = (rflags! & DIRECTION_FLAG) !== 0n;
    const lowest = (pointer: bigint, iterations: bigint): bigint =>
      backward ? (pointer & mask) - (iterations - 1n) * width : pointer & mask;
    const paging = { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
    const plain = (pointer: bigint, iterations: bigint): boolean => {
      const [start, length] = [lowest(pointer, iterations), iterations * width];
      return (
        memory.contains(Number(start), Number(length)) &&
        isIdentityMapped(tables, paging, start, start + length)
      );
    };
    const copies = instruction.kind === 'copy';
    const isPlain = (iterations: bigint): boolean =>
      plain(rdi!, iterations) && (!copies || plain(rsi!, iterations));

    const [target, source] = [lowest(rdi!, count), copies ? lowest(rsi!, count) : null];
    const length = count * width;
    const whole = count <= BigInt(memory.end) && isPlain(count);
    if (whole) {
      options.onOperation({
        kind: instruction.kind,
        address,
        source: source === null ? null : Number(source),
        target: Number(target),
        length: Number(length),
      });
    }
    if (!options.fast) return leaveToCpu();
    const overItself = target < BigInt(address + instruction.size) && BigInt(address) < target + length;
    const overlaps = source !== null && source < target + length && target < source + length;
    const smears = overlaps && (backward ? source > target : source < target);
    const done =
      whole && !overItself && !smears
        ? count
        : backward
          ? 0n
          : forwardRoom(memory, { address, width, count, target, source });
    if (done === 0n || (done < count && done < FEWEST) || (!whole && !isPlain(done))) return leaveToCpu();

    const [to, bytes] = [Number(lowest(rdi!, done)), Number(done * width)];
    const from = copies ? Number(lowest(rsi!, done)) : null;
    const end = (start: number): bigint => BigInt(start + bytes);
    if (from !== null) markUsed(tables, paging, { start: BigInt(from), end: end(from) }, 'read');
    markUsed(tables, paging, { start: BigInt(to), end: end(to) }, 'write');
    const by = { by: instruction.kind, instruction: BigInt(address) };
    if (from !== null) hold.onHostRead({ start: from, end: from + bytes, ...by });
    if (from === null) fill(memory, to, bytes, rax!, instruction.width);
    else if (smears) smear(memory, from, to, bytes);
    else memory.copyWithin(to, from, bytes);
    cpu.invalidateCode(to, bytes);
    hold.onHostWrite({ start: to, end: to + bytes, ...by, ...(from === null ? {} : { source: from }) });
    const step = backward ? -BigInt(bytes) : BigInt(bytes);
    const left = count - done;
    cpu.writeRegister('rcx', left);
    cpu.writeRegister('rdi', (rdi! + step) & mask);
    if (copies) cpu.writeRegister('rsi', (rsi! + step) & mask);
    // Where some are left, the CPU does the next one as it would have.
    if (left === 0n) cpu.writeRegister('rip', BigInt(address + instruction.size));
    else expectedCount = left > 1n ? left - 1n : null;
  });
}

interface ForwardOperation {
  readonly address: number;
  readonly width: bigint;
  readonly count: bigint;
  readonly target: bigint;
  readonly source: bigint | null;
}

/** How many iterations there are before memory ends, or the instruction writes over itself; 0 where the host does none. */
function forwardRoom(memory: PhysicalMemory, operation: ForwardOperation): bigint {
  const { address, width, count, target, source } = operation;
  if (source !== null && source < target && target - source < width) return 0n;
  const roomFrom = (start: bigint): number => {
    const at = Number(start);
    const block = memory.blocks.find(({ start: first, end }) => first <= at && at < end);
    return block === undefined ? 0 : block.end - at;
  };
  const rooms = [roomFrom(target), source === null ? Number.POSITIVE_INFINITY : roomFrom(source)];
  if (target < BigInt(address + MAX_LENGTH)) rooms.push(Math.max(0, address - Number(target)));
  const room = BigInt(Math.min(...rooms)) / width;
  return room < count ? room : count;
}

/** A copy upward over its own source: each iteration reads what those before it have written. */
function smear(memory: PhysicalMemory, from: number, to: number, length: number): void {
  const distance = to - from;
  for (let done = 0; done < length; ) {
    const piece = Math.min(distance + done, length - done);
    memory.copyWithin(to + done, from, piece);
    done += piece;
  }
}

function fill(memory: PhysicalMemory, target: number, length: number, rax: bigint, width: 1 | 4 | 8): void {
  const value = BigInt.asUintN(width * 8, rax);
  const first = Number(value & 0xffn);
  const uniform = BigInt.asUintN(width * 8, 0x0101_0101_0101_0101n * BigInt(first)) === value;
  if (uniform) {
    memory.fill(target, length, first);
    return;
  }
  const bytes = memory.view(target, length);
  for (let byte = 0; byte < width; byte++) bytes[byte] = Number((value >> BigInt(8 * byte)) & 0xffn);
  for (let done: number = width; done < length; done *= 2) {
    bytes.copyWithin(done, 0, Math.min(done, length - done));
  }
}
