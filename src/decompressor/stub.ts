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
  /** Why this place and no other, one clause each; for `--debug` and `info`. */
  readonly evidence: readonly string[];
}
