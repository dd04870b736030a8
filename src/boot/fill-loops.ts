// The byte loop that compilers make of memset in the boot stub's C code (arch/x86/boot/compressed/string.c): finds it, and does
// all but its last iteration as one host operation. The last one is the CPU's, so that it leaves the loop as it always does.

import type { Cpu, RegisterName, Unhook } from '../cpu/cpu.ts';
import { equalBytes } from '../host/host.ts';
import { decodeInstruction, type Instruction } from '../x86/instruction.ts';
import { isIdentityMapped, markUsed } from '../x86/page-tables.ts';
import type { CpuModeReader } from './cpu-mode.ts';
import { type HostSteps, NOT_HELD } from './hold.ts';

/** `loop: mov %value, (%pointer); add $1, %pointer; cmp %end, %pointer; jne loop`, in 64-bit code. */
interface FillLoop {
  /** Where it stands in the code that was searched. */
  readonly offset: number;
  /** Its bytes. */
  readonly code: Uint8Array;
  readonly value: RegisterName;
  readonly pointer: RegisterName;
  readonly end: RegisterName;
}

/** By their numbers in ModRM. */
const REGISTERS: readonly RegisterName[] = [
  ...(['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
];
const MOV_BYTE = 0x88;
const ADD_IMMEDIATE_BYTE = 0x83;
const INC = 0xff;
const CMP = 0x39;
const CMP_REVERSED = 0x3b;
const JNE = 0x75;
const JUMP_SIZE = 2;
const INSTRUCTIONS = 4;
/** Bytes of all four: a store of 2 or 3, a step of 3 or 4, a comparison of 3, the jump. */
const SHORTEST = 10;
const LONGEST = 12;
/** With fewer iterations left a call costs more than the CPU's own work. */
const FEWEST = 32n;

/** The loops in code[from, to), found by the jumps at their ends: those are rarer than stores. */
export function findFillLoops(code: Uint8Array, from: number, to: number): FillLoop[] {
  const loops: FillLoop[] = [];
  const end = Math.min(to, code.length) - 1;
  for (let jump = code.indexOf(JNE, from); jump >= 0 && jump < end; jump = code.indexOf(JNE, jump + 1)) {
    const length = 0x100 - code[jump + 1]!;
    const offset = jump + JUMP_SIZE - length;
    if (length < SHORTEST || length > LONGEST || offset < from) continue;
    const loop = fillLoopAt(code, offset);
    if (loop !== null) loops.push(loop);
  }
  return loops;
}

function fillLoopAt(code: Uint8Array, offset: number): FillLoop | null {
  const store = decodeInstruction(code, offset, 64);
  if (store?.opcode !== MOV_BYTE || store.mod !== 0 || store.sib || store.direct) return null;
  // Without a REX prefix the numbers 4 to 7 are AH to BH.
  if (store.length === 2 && store.reg > 3) return null;
  const step = decodeInstruction(code, store.next, 64);
  const compare = step && decodeInstruction(code, step.next, 64);
  const jump = compare && decodeInstruction(code, compare.next, 64);
  if (jump?.opcode !== JNE || jump.next + jump.immediate !== offset) return null;
  const pointer = store.rm;
  if (!stepsByOne(step!, pointer)) return null;
  const end = comparedWith(compare!, pointer);
  if (end === null || end === pointer || store.reg === pointer) return null;
  return {
    offset,
    code: Uint8Array.from(code.subarray(offset, jump.next)),
    value: REGISTERS[store.reg]!,
    pointer: REGISTERS[pointer]!,
    end: REGISTERS[end]!,
  };
}

function stepsByOne(step: Instruction, register: number): boolean {
  if (!step.wide || step.mod !== 3 || step.rm !== register || (step.reg & 7) !== 0) return false;
  return step.opcode === INC || (step.opcode === ADD_IMMEDIATE_BYTE && step.immediate === 1);
}

/** The register that is compared with `register`. */
function comparedWith(compare: Instruction, register: number): number | null {
  if (!compare.wide || compare.mod !== 3) return null;
  if (compare.opcode !== CMP && compare.opcode !== CMP_REVERSED) return null;
  if (compare.rm === register) return compare.reg;
  return compare.reg === register ? compare.rm : null;
}

/**
 * Hooks a loop whose code begins at `address` (physical and linear). In long mode, over plain RAM that is mapped to itself, its
 * iterations up to the last are done on the host; elsewhere the CPU does all of them.
 */
export function hookFillLoop(
  cpu: Cpu,
  address: number,
  loop: FillLoop,
  mode: CpuModeReader,
  hold: HostSteps = NOT_HELD,
): Unhook {
  const names: readonly RegisterName[] = [
    ...[loop.pointer, loop.end, loop.value],
    ...(['cr0', 'cr3', 'cr4', 'efer'] as const),
  ];
  const values = new BigUint64Array(names.length);
  return cpu.hookCode(BigInt(address), BigInt(address), () => {
    if (hold.before(address)) return;
    cpu.readRegisters(names, values);
    const [pointer, end, value, cr0, cr3, cr4, efer] = values as unknown as bigint[];
    const { memory } = cpu;
    const iterations = Math.min(Number(end! - 1n - pointer!), Math.floor(hold.room / INSTRUCTIONS));
    const last = pointer! + BigInt(iterations);
    if (
      last < pointer! + FEWEST ||
      !memory.contains(Number(pointer!), Number(end! - pointer!)) ||
      mode.read() !== 'long64'
    )
      return;
    const code = memory.viewUpTo(address, loop.code.length);
    const overItself = pointer! < BigInt(address + loop.code.length) && BigInt(address) < last;
    const paging = { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
    if (overItself || !equalBytes(code, loop.code)) return;
    if (!isIdentityMapped(memory, paging, pointer!, last)) return;
    markUsed(memory, paging, { start: pointer!, end: last }, 'write');
    memory.fill(Number(pointer!), Number(last - pointer!), Number(value! & 0xffn));
    hold.onHostWrite({
      ...{ start: Number(pointer!), end: Number(last) },
      ...{ by: 'fill', instruction: BigInt(address) },
    });
    cpu.invalidateCode(Number(pointer!), Number(last - pointer!));
    cpu.writeRegister(loop.pointer, last);
    cpu.addInstructions(INSTRUCTIONS * Number(last - pointer!));
  });
}
