// Layout facts for tests: a relocatable bzImage at 1 MiB in 256 MiB of RAM, whose kernel runs at 16 MiB.

import type { LayoutFacts } from './layout-facts.ts';
import type { LayoutRegisters } from './placements.ts';

export const FACTS: LayoutFacts = {
  ram: 0x1000_0000,
  ebda: { start: 0x9fc00, end: 0xa0000 },
  usable: [
    { start: 0, end: 0x9fc00 },
    { start: 0x10_0000, end: 0xffe_0000 },
  ],
  reserved: [
    { start: 0x9fc00, end: 0xa0000, type: 2 },
    { start: 0xf0000, end: 0x10_0000, type: 2 },
    { start: 0xffe_0000, end: 0x1000_0000, type: 2 },
  ],
  bootSector: null,
  setup: { start: 0x90000, end: 0x94000 },
  setupMemory: {
    bss: { start: 0x93a00, end: 0x94d00 },
    heap: { start: 0x94d00, end: 0x9dc00 },
    stack: { start: 0x9dc00, end: 0x9e000 },
  },
  setupStackEnd: 0x9e000,
  commandLine: { start: 0x9e000, end: 0x9e010 },
  initrd: null,
  bootParams: { start: 0x93b00, end: 0x94b00 },
  bootParamsByLoader: false,
  loaderMemory: null,
  setupData: [],
  loaded: { start: 0x10_0000, end: 0x22_0000 },
  started: { start: 0x10_0000, end: 0x22_0000 },
  copy: { start: 0x1a4_0000, end: 0x1b6_0000 },
  zo: [
    { name: 'head', start: 0, end: 0x300, inFile: true, source: 'head', inferred: false },
    { name: 'payload', start: 0x300, end: 0x10_0300, inFile: true, source: 'header', inferred: false },
    { name: 'bss', start: 0x12_0000, end: 0x14_0000, inFile: false, source: 'cleared', inferred: false },
    { name: 'stack', start: 0x12_0000, end: 0x12_4000, inFile: false, source: 'rsp', inferred: true },
    { name: 'page tables', start: 0x14_0000, end: 0x16_0000, inFile: false, source: 'code', inferred: false },
  ],
  strayVariables: [],
  initSizeNeeds: [],
  runArea: { start: 0x100_0000, end: 0x1ba_0000 },
  output: 0x100_0000,
  decompressed: [{ name: 'decompressed ELF file', start: 0x100_0000, end: 0x1b2_0000 }],
  relocations: { start: 0x1b1_0000, end: 0x1b2_0000 },
  outputLength: 0xb2_0000,
  kernelParts: [
    {
      name: 'kernel segment 0 (r-x)',
      start: 0x100_0000,
      end: 0x140_0000,
      source: 'program header 0',
      hasBytes: true,
      segment: 0,
    },
    {
      name: 'kernel .text',
      start: 0x100_0000,
      end: 0x130_0000,
      source: 'ELF section .text',
      hasBytes: true,
      segment: 0,
      parent: 'kernel segment 0 (r-x)',
    },
  ],
};

export const REGISTERS: LayoutRegisters = {
  mode: 'long64',
  ss: 0x18n,
  rsp: 0x1b6_3ff8n,
  gdtr: { base: 0x1b5_0010n, limit: 0x2f },
  idtr: { base: 0n, limit: 0 },
  tables: [],
};
