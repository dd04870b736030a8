// Far returns of real mode, done by the host while reads are hooked. Before it tells of a read, the library puts the address of
// the instruction into RIP: 2.0 where any read is hooked, 2.1 where this one is. By the second read of a far return RIP holds
// where that goes to, which would be lost.

import { CR0_PE } from '../x86/control-registers.ts';
import { decodeInstruction, opcodeOffset } from '../x86/instruction.ts';
import type { Cpu, Unhook } from './cpu.ts';
import type { GuestEnvironment } from './environment.ts';
import type { Registers } from './registers.ts';

/** Linear addresses in real mode end below this. */
const REAL_MODE_END = 0x11_0000;
const LONGEST_INSTRUCTION = 15;
/** RET far, without and with bytes to take off the stack. */
const FAR_RETURN = 0xcb;
const FAR_RETURN_POP = 0xca;
/** The B flag of a stack segment's descriptor (Intel SDM 3A 3.4.5): ESP counts, not SP. */
const SEGMENT_BIG = 1 << 22;
const MASK_16 = 0xffffn;
const MASK_32 = 0xffff_ffffn;

/** Who is told of reads of a linear [begin, end]. */
interface ReadHook {
  readonly begin: bigint;
  readonly end: bigint;
  readonly hook: (address: bigint, size: number) => void;
}

interface Parts {
  readonly cpu: Cpu;
  readonly registers: Registers;
  readonly environment: () => GuestEnvironment | null;
  readonly hook: (
    kind: 'code' | 'block',
    begin: bigint,
    end: bigint,
    hook: (address: bigint, size: number) => void,
  ) => Unhook;
  readonly csLoaded: () => void;
}

export class FarReturns {
  readonly #parts: Parts;
  readonly #told = new Set<ReadHook>();
  /** What looks for them, and the hook on each by its address. */
  #watch: Unhook | null = null;
  readonly #hooked = new Map<bigint, Unhook>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Tells of what they read, too, until what it returns is called. */
  tell(hook: ReadHook): Unhook {
    this.#told.add(hook);
    this.#watch ??= this.#parts.hook('block', 0n, BigInt(REAL_MODE_END - 1), (address, size) => {
      const code = this.#parts.cpu.memory.viewUpTo(Number(address), size);
      for (const at of farReturnsIn(code)) this.#hook(address + BigInt(at));
    });
    return () => {
      this.#told.delete(hook);
      if (this.#told.size > 0) return;
      this.#watch?.();
      this.#watch = null;
      for (const unhook of this.#hooked.values()) unhook();
      this.#hooked.clear();
    };
  }

  #hook(at: bigint): void {
    if (this.#hooked.has(at)) return;
    this.#hooked.set(
      at,
      this.#parts.hook('code', at, at, () => this.#return(Number(at))),
    );
  }

  /** A hook was added for [begin, end]: one that moves RIP is the last that is called for its instruction. */
  keepLast(begin: bigint, end: bigint): void {
    for (const [at, unhook] of [...this.#hooked]) {
      if (at < begin || at > end) continue;
      this.#hooked.delete(at);
      unhook();
      this.#hook(at);
    }
  }

  /** RET far of real mode (Intel SDM 2B). */
  #return(address: number): void {
    const { cpu, registers, environment, csLoaded } = this.#parts;
    const found = decodeInstruction(cpu.memory.viewUpTo(address, LONGEST_INSTRUCTION), 0, 16);
    const hidden = environment();
    const isReturn = found?.opcode === FAR_RETURN || found?.opcode === FAR_RETURN_POP;
    if (!isReturn || hidden === null || (registers.read('cr0') & CR0_PE) !== 0n) return;
    const stack = hidden.readStackSegment();
    const size = found.operand16 ? 2 : 4;
    const mask = (stack.attributes & SEGMENT_BIG) !== 0 ? MASK_32 : MASK_16;
    const rsp = registers.read('rsp');
    const pop = (number: number): number => {
      const at = stack.base + ((rsp + BigInt(number * size)) & mask);
      for (const { begin, end, hook } of this.#told) {
        if (at <= end && at + BigInt(size) > begin) hook(at, size);
      }
      return size === 2 ? cpu.memory.read16(Number(at)) : cpu.memory.read32(Number(at));
    };
    const offset = pop(0);
    const selector = pop(1) & 0xffff;
    const next = rsp + BigInt(2 * size + (found.immediate & 0xffff));
    registers.write('rsp', (rsp & ~mask) | (next & mask));
    hidden.loadRealModeCs(selector);
    csLoaded();
    cpu.writeRegister('rip', BigInt(offset));
  }
}

/**
 * Where a far return may begin at the end of a block of real-mode code: with its prefixes, or behind bytes that only look like
 * some.
 */
function farReturnsIn(code: Uint8Array): readonly number[] {
  const end = code.length;
  const opcode = code[end - 1] === FAR_RETURN ? end - 1 : code[end - 3] === FAR_RETURN_POP ? end - 3 : -1;
  if (opcode < 0) return [];
  const found = [opcode];
  for (let at = opcode - 1; at >= 0 && opcodeOffset(code, at, 16) === opcode; at--) found.push(at);
  return found;
}
