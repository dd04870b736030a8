// kernel_total_size, the memory a kernel needs with its bss and brk: a number compiled into extract_kernel.

import type { KernelImage } from '../image/kernel-image.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import type { KernelElf } from './place-kernel.ts';
import type { StubLayout } from './stub.ts';

const PAGE = 4096;

function alignUp(value: number): number {
  return Math.ceil(value / PAGE) * PAGE;
}

/**
 * VO__end - VO__text in bytes. The end of the last segment is it in most kernels; those with memory behind `_end` (a scratch
 * area of memory encryption) have a larger file, and then the number is looked for in the function's code.
 *
 * @returns the number and whether the code has it
 */
export function findKernelTotalSize(
  image: KernelImage,
  stub: StubLayout,
  elf: KernelElf,
): { readonly bytes: number; readonly confirmed: boolean } {
  const whole = alignUp(elf.totalSize);
  const last = Math.max(...elf.segments.map(({ paddr }) => paddr)) - elf.physicalBase;
  const candidates = new Set<number>();
  const code = image.protectedModeCode;
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  let at = stub.extractKernel;
  for (let count = 0; count < 300; count++) {
    const instruction = decodeInstruction(code, at, stub.bits);
    if (instruction === null) {
      break;
    }
    const variable = instruction.next + instruction.displacement;
    const values = [instruction.immediate >>> 0];
    if (stub.bits === 64 && instruction.direct && variable >= 0 && variable + 4 <= code.length) {
      values.push(view.getUint32(variable, true));
    } else if (instruction.mod === 0 || instruction.mod === 2) {
      values.push(instruction.displacement >>> 0);
    }
    for (const value of values) {
      if (value % PAGE === 0 && value > last && value <= whole) {
        candidates.add(value);
      }
    }
    at = instruction.next;
  }
  if (candidates.has(whole)) {
    return { bytes: whole, confirmed: true };
  }
  candidates.delete(image.header.get('pref_address'));
  const [only] = candidates;
  return candidates.size === 1 && only !== undefined
    ? { bytes: only, confirmed: true }
    : { bytes: whole, confirmed: false };
}
