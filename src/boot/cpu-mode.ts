// The operating mode of the CPU, from CR0, EFER and the code segment's attributes (Intel SDM 3A 2.2 and 3.4.5).

import type { Cpu, DescriptorTableRegister, RegisterName } from '../cpu/cpu.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import { CR0_PE, EFER_LMA } from '../x86/control-registers.ts';
import { type PagingState, translate } from '../x86/page-tables.ts';

const NAMES: readonly RegisterName[] = ['cr0', 'efer', 'cs', 'cr3', 'cr4'];
/** D and L bits in the second doubleword of a code segment descriptor. */
const DESCRIPTOR_DEFAULT_32 = 1 << 22;
const DESCRIPTOR_LONG = 1 << 21;

/** Number of a segment register. */
const CS = 1;

/** Width of the code of each mode. */
export const CODE_BITS: Readonly<Record<CpuMode, 16 | 32 | 64>> = {
  real16: 16,
  prot16: 16,
  prot32: 32,
  compat32: 32,
  long64: 64,
};

/**
 * Reads the mode of the code that runs now. The CPU keeps a copy of the descriptor that CS was loaded from, which counts
 * whatever a new table says. Where the engine does not show the copy, the descriptor is looked up in the table; what a
 * selector meant when it was first seen then stays true when the table is overwritten later, as some kernels do.
 */
export class CpuModeReader {
  readonly #cpu: Cpu;
  readonly #values = new BigUint64Array(NAMES.length);
  readonly #known = new Map<string, CpuMode>();

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  read(): CpuMode {
    this.#cpu.readRegisters(NAMES, this.#values);
    const [cr0, efer, cs, cr3, cr4] = this.#values as unknown as bigint[];
    if ((cr0! & CR0_PE) === 0n) return 'real16';
    const long = (efer! & EFER_LMA) !== 0n;
    const attributes = this.#cpu.readCodeAttributes();
    if (attributes !== null) return modeOf(attributes, long);
    const gdtr = this.#cpu.readDescriptorTable('gdtr');
    const key = `${cs} ${gdtr.base} ${long}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const high = this.#descriptorHigh(gdtr, cs!, { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! });
    if (high === null) return long ? 'compat32' : 'prot16';
    const mode = modeOf(high, long);
    this.#known.set(key, mode);
    return mode;
  }

  /** Width of the code that runs now, read more cheaply than its mode. */
  readBits(): 16 | 32 | 64 {
    const attributes = this.#cpu.readCodeAttributes();
    if (attributes === null) return CODE_BITS[this.read()];
    if ((attributes & DESCRIPTOR_DEFAULT_32) !== 0) return 32;
    const long = (attributes & DESCRIPTOR_LONG) !== 0 && (this.#cpu.readRegister('efer') & EFER_LMA) !== 0n;
    return long ? 64 : 16;
  }

  /** Second doubleword of the selector's descriptor; null where the table does not hold it. */
  #descriptorHigh(gdtr: DescriptorTableRegister, selector: bigint, paging: PagingState): number | null {
    const { memory } = this.#cpu;
    const offset = selector & 0xfff8n;
    if (offset === 0n || Number(offset) + 7 > gdtr.limit) return null;
    const physical = translate(memory, paging, gdtr.base + offset);
    if (physical === null || !memory.contains(Number(physical), 8)) return null;
    return memory.read32(Number(physical) + 4);
  }
}

/** What code of a mode adds to its instruction pointer; outside of 16-bit code nothing in a boot. */
export function codeSegmentBase(cpu: Cpu, mode: CpuMode): bigint {
  if (mode === 'real16') return cpu.readRegister('cs') << 4n;
  // Between setting CR0.PE and the far jump CS is still that of real mode.
  return mode === 'prot16' ? cpu.readSegmentBases()[CS]! : 0n;
}

function modeOf(attributes: number, long: boolean): CpuMode {
  if (long) return (attributes & DESCRIPTOR_LONG) !== 0 ? 'long64' : 'compat32';
  return (attributes & DESCRIPTOR_DEFAULT_32) !== 0 ? 'prot32' : 'prot16';
}
