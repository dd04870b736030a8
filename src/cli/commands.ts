// Each subcommand of `bootscope` with the module that holds it, in the order of the help.

import type { Command } from 'commander';

export const COMMAND_GROUPS = {
  look: 'Boot and look:',
  compare: 'Compare:',
  drive: 'Drive:',
  files: 'Files:',
  shell: 'Shell:',
} as const;

export interface CommandRow {
  readonly name: string;
  readonly group: keyof typeof COMMAND_GROUPS;
  /** One line for the list of commands; the command itself says more. */
  readonly summary: string;
  /** Only what is asked for is loaded, since loading all takes longer than some boots. */
  readonly load: () => Promise<(program: Command) => void>;
}

export const COMMANDS: readonly CommandRow[] = [
  {
    name: 'boot',
    group: 'look',
    summary: 'boot an image and print each phase with its addresses',
    load: async () => (await import('./boot.ts')).registerBoot,
  },
  {
    name: 'layout',
    group: 'look',
    summary: 'draw what lies where in physical memory at each phase',
    load: async () => (await import('./layout.ts')).registerLayout,
  },
  {
    name: 'explore',
    group: 'drive',
    summary: 'open a page for a boot that one steps through, goes back in and looks into',
    load: async () => (await import('./explore.ts')).registerExplore,
  },
  {
    name: 'events',
    group: 'look',
    summary: 'list what the guest did to the machine: BIOS calls, ports, modes, copies',
    load: async () => (await import('./events.ts')).registerEvents,
  },
  {
    name: 'dump',
    group: 'look',
    summary: 'show memory at a place in the boot, as bytes or decoded',
    load: async () => (await import('./dump.ts')).registerDump,
  },
  {
    name: 'who',
    group: 'look',
    summary: 'list who wrote a range of memory: instruction, BIOS, trap or loader',
    load: async () => (await import('./who.ts')).registerWho,
  },
  {
    name: 'lint',
    group: 'look',
    summary: 'print only what goes wrong by where things were placed',
    load: async () => (await import('./lint.ts')).registerLint,
  },
  {
    name: 'plan',
    group: 'look',
    summary: 'say what a boot loader must know and keep free, by each entry',
    load: async () => (await import('./plan.ts')).registerPlan,
  },
  {
    name: 'kaslr',
    group: 'look',
    summary: 'list where KASLR may put the kernel, and what many boots draw',
    load: async () => (await import('./kaslr.ts')).registerKaslr,
  },
  {
    name: 'report',
    group: 'look',
    summary: 'write a boot as one HTML page, a picture, JSON or a Perfetto trace',
    load: async () => (await import('./report.ts')).registerReport,
  },
  {
    name: 'diff',
    group: 'compare',
    summary: 'say what moved between two kernels, or two boots of one',
    load: async () => (await import('./diff.ts')).registerDiff,
  },
  {
    name: 'record',
    group: 'compare',
    summary: 'write a boot as a reference for check',
    load: async () => (await import('./record.ts')).registerRecord,
  },
  {
    name: 'check',
    group: 'compare',
    summary: 'boot as a reference was booted and compare',
    load: async () => (await import('./check.ts')).registerCheck,
  },
  {
    name: 'verify',
    group: 'compare',
    summary: "compare the trapped extract_kernel with the guest's own",
    load: async () => (await import('./verify.ts')).registerVerify,
  },
  {
    name: 'trace',
    group: 'drive',
    summary: 'print each instruction that the CPU executes, with what it changed',
    load: async () => (await import('./trace.ts')).registerTrace,
  },
  {
    name: 'gdb',
    group: 'drive',
    summary: 'hold a boot for gdb: forward, back, breakpoints in every mode',
    load: async () => (await import('./gdb.ts')).registerGdb,
  },
  {
    name: 'info',
    group: 'files',
    summary: 'say what a kernel file is: format, version, every header field',
    load: async () => (await import('./info.ts')).registerInfo,
  },
  {
    name: 'extract',
    group: 'files',
    summary: "write the kernel's ELF file that an image holds",
    load: async () => (await import('./extract.ts')).registerExtract,
  },
  {
    name: 'unpack',
    group: 'files',
    summary: 'take an image apart into the pieces that its build made',
    load: async () => (await import('./unpack.ts')).registerUnpack,
  },
  {
    name: 'pack',
    group: 'files',
    summary: 'put such pieces together again, also with another kernel in them',
    load: async () => (await import('./pack.ts')).registerPack,
  },
  {
    name: 'completion',
    group: 'shell',
    summary: 'print completions for bash, zsh or fish',
    load: async () => (await import('./completion.ts')).registerCompletion,
  },
  {
    name: 'manual',
    group: 'shell',
    summary: 'print the manual page',
    load: async () => (await import('./manual.ts')).registerManual,
  },
];
