// What goes into an extraction and comes out of it, whatever generation of the stub it is of.

import type { KernelImage } from '../image/kernel-image.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { ConsolePorts } from './guest-console.ts';
import type { KaslrChoice } from './kaslr.ts';
import type { EntropySource } from './kaslr-entropy.ts';
import type { KernelFileParts } from './kernel-sections.ts';
import type { PayloadAhead } from './payload-ahead.ts';
import type { KernelElf, RelocationCounts } from './place-kernel.ts';
import type { StubLayout } from './stub.ts';

/** The registers that arguments come in, and those that say where the page tables are. */
export type ArgumentRegister = 'rdi' | 'rsi' | 'rdx' | 'rcx' | 'r8' | 'r9' | 'rsp' | 'cr3' | 'cr4';

/** What to do about KASLR: nothing (as with nokaslr), draw as the kernel does, or take given addresses. */
export type KaslrRequest =
  | { readonly kind: 'off' }
  | { readonly kind: 'draw'; readonly entropy: EntropySource }
  /** `virtual` counts from __START_KERNEL_map, as LOAD_PHYSICAL_ADDR does; null keeps what would be without KASLR. */
  | { readonly kind: 'forced'; readonly physical: number | null; readonly virtual: number | null };

/** The guest as it stands at the first instruction of extract_kernel. */
export interface ExtractionContext {
  readonly image: KernelImage;
  readonly stub: StubLayout;
  /** Physical address of the ZO that runs: of its copy where the stub copied itself. */
  readonly zo: number;
  readonly memory: PhysicalMemory;
  readRegister(name: ArgumentRegister): bigint;
  /** The machine's ports, for what the stub prints; without them only memory changes. */
  readonly ports?: ConsolePorts;
  /** Absent: off. */
  readonly kaslr?: KaslrRequest;
  /** The payload as it is decompressed already. */
  readonly ahead?: PayloadAhead | null;
}

/** One thing extract_kernel did, in its order. */
export interface ExtractionStep {
  readonly name: 'decompressed' | 'parse_elf' | 'handle_relocations';
  /** Address of the trapped function. */
  readonly address: bigint;
  /** What happened, for the table of phases. */
  readonly summary: string;
}

/** A segment of the kernel in guest memory. */
export interface ExtractedSegment {
  readonly paddr: bigint;
  readonly vaddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  readonly flags: string;
}

/** A range of physical memory that was written, [start, end). */
export interface WrittenRange {
  readonly start: number;
  readonly end: number;
  /**
   * What came there: all that was decompressed, in one piece or (`moveparams`) in a low and a high buffer; a segment, moved
   * by parse_elf; a variable that the stub stores outside itself.
   */
  readonly role: 'decompressed' | 'low-buffer' | 'high-buffer' | 'segment' | 'stray-variable';
  /** Number of the program header; of segments only. */
  readonly segment?: number;
}

/** What extract_kernel left behind. */
export interface Extraction {
  /** Where the kernel was decompressed to. */
  readonly output: bigint;
  /** Bytes decompressed, with the relocation lists. */
  readonly outputLength: number;
  /** Virtual address of the kernel's first byte; equal to `output` for a flat kernel, whose addresses nobody knows. */
  readonly virtualBase: bigint;
  /** What the function returns in RAX/EAX. */
  readonly returnValue: bigint;
  /** Physical address of the kernel's first instruction. */
  readonly entry: bigint;
  readonly segments: readonly ExtractedSegment[];
  /** The ELF file's sections and length; null for a flat kernel. */
  readonly file: KernelFileParts | null;
  readonly relocations: RelocationCounts;
  readonly steps: readonly ExtractionStep[];
  readonly writes: readonly WrittenRange[];
  /** What was drawn and of what; null without KASLR. */
  readonly kaslr: KaslrChoice | null;
  /** Text the function printed. */
  readonly console: string;
  /** CR3 where the function leaves with other page tables than those it came with; null elsewhere. */
  readonly cr3: bigint | null;
  /** True when the function leaves with an empty IDT loaded (base and limit 0), as 64-bit stubs from 5.10 on do. */
  readonly clearsIdt: boolean;
  readonly notices: readonly string[];
}

/** A flat kernel as one segment. */
export function flatSegment(address: number, length: number): ExtractedSegment {
  return {
    paddr: BigInt(address),
    vaddr: BigInt(address),
    filesz: BigInt(length),
    memsz: BigInt(length),
    flags: 'rwx',
  };
}

export const NO_RELOCATIONS: RelocationCounts = { relocations32: 0, inverse32: 0, relocations64: 0 };

/** LOAD_PHYSICAL_ADDR: pref_address where the header has it (protocol 2.10), else where the kernel is linked to lie. */
export function loadPhysicalAddressOf(image: KernelImage, elf: KernelElf): number {
  const preferred = image.header.get('pref_address');
  return preferred !== 0 ? preferred : elf.physicalBase;
}
