// The registers that a debugger sees: one table, from which come the target description, the `g` packet and its numbers. gdb
// asks for the description once, so there is one, of a 64-bit CPU, for all modes.

/** Where gdb knows a group of registers by name, its name; the last is ours. */
const CORE = 'org.gnu.gdb.i386.core';
const SYSTEM = 'org.bootscope.system';

interface GdbRegisterRow {
  readonly name: string;
  readonly bits: 32 | 64 | 80;
  /** A type of gdb's, or one of `TYPES`. */
  readonly type: string;
  readonly feature: typeof CORE | typeof SYSTEM;
  readonly group?: string;
}

const core64 = <const N extends string>(name: N, type = 'int64') =>
  ({ name, bits: 64, type, feature: CORE }) as const;
const core32 = <const N extends string>(name: N, type = 'int32') =>
  ({ name, bits: 32, type, feature: CORE }) as const;
const float = <const N extends string>(name: N) =>
  ({ name, bits: 80, type: 'i387_ext', feature: CORE }) as const;
const floatControl = <const N extends string>(name: N) =>
  ({ name, bits: 32, type: 'int', feature: CORE, group: 'float' }) as const;
const system = <const N extends string>(name: N, type = 'uint64', bits: 32 | 64 = 64) =>
  ({ name, bits, type, feature: SYSTEM, group: 'system' }) as const;

/** In the order of their numbers. gdb wants those of the FPU, too; no boot loader uses them, and they are not shown. */
export const GDB_REGISTERS = [
  core64('rax'),
  core64('rbx'),
  core64('rcx'),
  core64('rdx'),
  core64('rsi'),
  core64('rdi'),
  core64('rbp', 'data_ptr'),
  core64('rsp', 'data_ptr'),
  core64('r8'),
  core64('r9'),
  core64('r10'),
  core64('r11'),
  core64('r12'),
  core64('r13'),
  core64('r14'),
  core64('r15'),
  // The linear address of the next instruction in every mode: what breakpoints and `x/i` work with.
  core64('rip', 'code_ptr'),
  core32('eflags', 'eflags_bits'),
  core32('cs'),
  core32('ss'),
  core32('ds'),
  core32('es'),
  core32('fs'),
  core32('gs'),
  float('st0'),
  float('st1'),
  float('st2'),
  float('st3'),
  float('st4'),
  float('st5'),
  float('st6'),
  float('st7'),
  floatControl('fctrl'),
  floatControl('fstat'),
  floatControl('ftag'),
  floatControl('fiseg'),
  floatControl('fioff'),
  floatControl('foseg'),
  floatControl('fooff'),
  floatControl('fop'),
  // The guest's own instruction pointer: the offset in CS.
  system('ip'),
  system('mode', 'cpu_mode', 32),
  system('cr0', 'cr0_bits'),
  system('cr2'),
  system('cr3'),
  system('cr4', 'cr4_bits'),
  system('efer', 'efer_bits'),
  system('gdtr_base'),
  system('gdtr_limit', 'uint32', 32),
  system('idtr_base'),
  system('idtr_limit', 'uint32', 32),
  // Executed since the entry: where in the boot this is.
  system('instructions'),
] as const satisfies readonly GdbRegisterRow[];

/** The registers that a debugger is told of. */
export type GdbRegisterName = (typeof GDB_REGISTERS)[number]['name'];

/** Values of `mode`, by their place. */
export const GDB_MODES = ['real16', 'prot16', 'prot32', 'compat32', 'long64'] as const;

type Bits = readonly (readonly [name: string, bit: number])[];

/** Intel SDM 1 3.4.3, 3A 2.5, 2.2.1. */
const EFLAGS_BITS: Bits = [
  ['CF', 0],
  ['PF', 2],
  ['AF', 4],
  ['ZF', 6],
  ['SF', 7],
  ['TF', 8],
  ['IF', 9],
  ['DF', 10],
  ['OF', 11],
  ['NT', 14],
  ['RF', 16],
  ['VM', 17],
  ['AC', 18],
  ['VIF', 19],
  ['VIP', 20],
  ['ID', 21],
];
const CR0_BITS: Bits = [
  ['PE', 0],
  ['MP', 1],
  ['EM', 2],
  ['TS', 3],
  ['ET', 4],
  ['NE', 5],
  ['WP', 16],
  ['AM', 18],
  ['NW', 29],
  ['CD', 30],
  ['PG', 31],
];
const CR4_BITS: Bits = [
  ['VME', 0],
  ['PVI', 1],
  ['TSD', 2],
  ['DE', 3],
  ['PSE', 4],
  ['PAE', 5],
  ['MCE', 6],
  ['PGE', 7],
  ['PCE', 8],
  ['OSFXSR', 9],
  ['OSXMMEXCPT', 10],
  ['UMIP', 11],
  ['LA57', 12],
  ['VMXE', 13],
  ['FSGSBASE', 16],
  ['PCIDE', 17],
  ['OSXSAVE', 18],
  ['SMEP', 20],
  ['SMAP', 21],
];
const EFER_BITS: Bits = [
  ['SCE', 0],
  ['LME', 8],
  ['LMA', 10],
  ['NXE', 11],
];

function flags(id: string, size: 4 | 8, bits: Bits): string {
  const fields = bits.map(([name, bit]) => `<field name="${name}" start="${bit}" end="${bit}"/>`);
  return `<flags id="${id}" size="${size}">${fields.join('')}</flags>`;
}

const MODE_TYPE = `<enum id="cpu_mode" size="4">${GDB_MODES.map((name, value) => `<evalue name="${name}" value="${value}"/>`).join('')}</enum>`;

const TYPES: Readonly<Record<GdbRegisterRow['feature'], string>> = {
  [CORE]: flags('eflags_bits', 4, EFLAGS_BITS),
  [SYSTEM]:
    MODE_TYPE +
    flags('cr0_bits', 8, CR0_BITS) +
    flags('cr4_bits', 8, CR4_BITS) +
    flags('efer_bits', 8, EFER_BITS),
};

/** Bytes of each register in a packet. */
export function registerSize(number: number): number {
  return GDB_REGISTERS[number]!.bits / 8;
}

/** `target.xml` (GDB manual, appendix G). */
export function targetDescription(): string {
  const features = [CORE, SYSTEM].map((feature) => {
    const rows: readonly GdbRegisterRow[] = GDB_REGISTERS.filter((row) => row.feature === feature);
    const registers = rows.map(
      ({ name, bits, type, group }) =>
        `<reg name="${name}" bitsize="${bits}" type="${type}"${group === undefined ? '' : ` group="${group}"`}/>`,
    );
    return `<feature name="${feature}">${TYPES[feature as GdbRegisterRow['feature']]}${registers.join('')}</feature>`;
  });
  return `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0"><architecture>i386:x86-64</architecture>${features.join('')}</target>`;
}
