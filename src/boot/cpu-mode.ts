// The operating mode of the CPU, from CR0, EFER and the code segment's descriptor (Intel SDM 3A 2.2 and 3.4.5).

import type { Cpu, RegisterName } from '../cpu/cpu.ts';
import type { CpuMode } from '../trace/boot-trace.ts';
import { pagingMode, translate } from '../trace/page-tables.ts';

const NAMES: readonly RegisterName[] = ['cr0', 'efer', 'cs', 'cr3', 'cr4'];
const CR0_PE = 1n;
const EFER_LMA = 1n << 10n;
/** D and L bits in the second doubleword of a code segment descriptor. */
const DESCRIPTOR_DEFAULT_32 = 1 << 22;
const DESCRIPTOR_LONG = 1 << 21;

/**
 * Reads the mode of the code that runs now. Between loading CR0 and the far jump that follows, CS still holds a
 * selector of the old mode and the answer is the new mode as its table names it, or 16-bit where it names nothing.
 */
export function readCpuMode(cpu: Cpu, ram: Uint8Array): CpuMode {
  const values = new BigUint64Array(NAMES.length);
  cpu.readRegisters(NAMES, values);
  const [cr0, efer, cs, cr3, cr4] = values as unknown as bigint[];
  if ((cr0! & CR0_PE) === 0n) return 'real16';
  const gdtr = cpu.readDescriptorTable('gdtr');
  const offset = cs! & 0xfff8n;
  const paging = { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! };
  const linear = gdtr.base + offset;
  const physical = pagingMode(paging) === 'off' ? linear : translate(ram, paging, linear);
  const readable =
    offset !== 0n &&
    Number(offset) + 7 <= gdtr.limit &&
    physical !== null &&
    physical + 8n <= BigInt(ram.length);
  const high = readable
    ? new DataView(ram.buffer, ram.byteOffset + Number(physical) + 4, 4).getUint32(0, true)
    : 0;
  if ((efer! & EFER_LMA) !== 0n) return (high & DESCRIPTOR_LONG) !== 0 ? 'long64' : 'compat32';
  return (high & DESCRIPTOR_DEFAULT_32) !== 0 ? 'prot32' : 'prot16';
}
