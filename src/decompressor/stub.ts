// What is known of a boot stub once its structure has been recognised: where it calls extract_kernel and how.

/** How a generation of the stub passes arguments to its decompressor. */
export type ExtractKernelAbi =
  /** 6.6 on: extract_kernel(rmode, output) in RDI, RSI. */
  | 'rmode-output'
  /** 2.6.22 to 6.5, 64-bit: (rmode, heap, input_data, input_len, output[, output_len[, run_size]]) in RDI, RSI, RDX, ECX, R8, R9. */
  | 'rmode-heap-input'
  /** The same names as `rmode-heap-input`, on the stack of a 32-bit stub. */
  | 'stack-rmode-heap-input'
  /** 32-bit stub of 6.6 on: (rmode, output) on the stack. */
  | 'stack-rmode-output'
  /** Up to 2.6.21: decompress_kernel(struct moveparams *, rmode) on the stack. */
  | 'moveparams';

/** All offsets are in bytes from the start of the protected-mode code (ZO), as in the file. */
export interface StubLayout {
  /** CPU mode at the call. */
  readonly bits: 32 | 64;
  readonly abi: ExtractKernelAbi;
  /** Offset of startup_64, null in a 32-bit stub. */
  readonly startup64: number | null;
  /** Offset of the label where the stub goes on after copying itself, null where it does not. */
  readonly relocated: number | null;
  /** The CALL instruction, the function it calls, and the instruction behind it. */
  readonly call: number;
  readonly extractKernel: number;
  readonly returnSite: number;
  /** The jump into the kernel (`jmp *%rax`, `jmp *%rbp`, `ljmp`). */
  readonly exitJump: number;
  /** The register the exit jumps through; null for a fixed far jump. */
  readonly exitRegister: 'rax' | 'rbp' | 'rdi' | null;
  /** Why this place and no other, one clause each; for an error's stack trace and `info`. */
  readonly evidence: readonly string[];
}

/** What else a stub's code tells: all offsets in bytes from the start of the protected-mode code, as in `StubLayout`. */
export interface StubDetails {
  readonly layout: StubLayout;
  /** Address the code is linked to run at; 0 for the stubs that find out where they are. */
  readonly linkBase: number;
  /** What the displacements in a 32-bit stub count from, in bytes from its start: 0, or where its GOT lies (5.9 on). */
  readonly displacementBase: number;
  /** Arguments the call passes. */
  readonly argumentCount: number;
  /** input_data and input_len as the code passes them; null where it passes none or only a variable. */
  readonly inputData: number | null;
  readonly inputLength: number | null;
  /** Cleared with `rep stos` before the call: [start, end); null where the code does not show it. */
  readonly bss: { readonly start: number; readonly end: number } | null;
  /** The heap that is passed on; null for the stubs that choose it in C. */
  readonly heap: number | null;
  /** Initial stack pointer of the copied stub. */
  readonly stackEnd: number | null;
  /** Page tables built by startup_32 of a 64-bit stub. */
  readonly pageTable: number | null;
  /** End of the stub with bss and page tables (`_end`), where the code subtracts it from init_size. */
  readonly end: number | null;
  /** Distance from the output to the stub's copy, where it is fixed by the build (z_extract_offset). */
  readonly extractOffset: number | null;
  /** Lowest address the code lets the kernel be decompressed to (LOAD_PHYSICAL_ADDR); null where it names none. */
  readonly loadPhysicalAddress: number | null;
  /** Whether the copied stub loads an IDT of its own before the call, to map pages when they are touched (64-bit, 5.10 on). */
  readonly handlesPageFaults: boolean;
}
