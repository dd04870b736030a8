// How the copy that the stub makes of itself is found, and the loops with which it copies and clears.

import type { BootRun } from '../boot-run.ts';
import { findFillLoops, hookFillLoop } from '../fill-loops.ts';
import { recordCopy } from '../record-placements.ts';
import { findRepInstructions, hookStringInstruction, type StringOperation } from '../string-instructions.ts';
import { watchForExit } from './exit.ts';
import { watchExtractKernel } from './extract-kernel.ts';
import { stubHead, stubTail, watchStubEvents } from './stub-code.ts';

/** Code behind `relocated` that may hold `rep` instructions of the assembly part. */
const TAIL_SEARCH = 0x400;
/** `jmp *%rax`, `jmp *%eax` in 32-bit code. */
const JMP_RAX = [0xff, 0xe0] as const;
/** Bytes at a label that are compared to tell whether it was copied. */
const COMPARED_LABEL = 16;
/** So many copies of an instruction tell whether it is worth doing them on the host: whether they are as long, in bytes. */
const JUDGED_OPERATIONS = 64;
const WORTHWHILE = 4096;
/** A copy of the whole stub begins no farther in it than this. */
const COPY_START = 0x10000;

/**
 * The head ends in `jmp *%rax` to `relocated` in the copy it has made; RAX less the label's offset is where the copy
 * lies, however it was copied.
 */
export function watchRelocation(boot: BootRun, relocated: number): void {
  const code = boot.image.protectedModeCode;
  const label = code.subarray(relocated, relocated + COMPARED_LABEL);
  for (let offset = 0; offset < Math.min(stubHead(boot), code.length - 1); offset++) {
    if (code[offset] !== JMP_RAX[0] || code[offset + 1] !== JMP_RAX[1]) continue;
    boot.hookInstruction(boot.found.zo! + offset, () => {
      const rax = boot.cpu.readRegister('rax');
      const target = Number(boot.mode.readBits() === 64 ? rax : rax & 0xffff_ffffn);
      const there = boot.machine.memory.viewUpTo(target, COMPARED_LABEL);
      if (boot.found.copyAddress !== null || !label.every((byte, at) => byte === there[at])) return;
      boot.defer(() => onCopied(boot, target - relocated));
    });
  }
}

function onCopied(boot: BootRun, address: number): void {
  const { found } = boot;
  recordCopy(boot, address);
  found.zo = address;
  found.copyAddress = address;
  watchCopiedCode(boot);
  const relocated = boot.stub?.relocated ?? null;
  if (relocated !== null) {
    boot.watch(address + relocated, () => boot.beginPhase('relocated'));
    watchExtractKernel(boot, () => watchGuestCopies(boot));
  }
}

/** What the code does that the stub has copied, but for coming to its next phases. */
export function watchCopiedCode(boot: BootRun): void {
  watchStubEvents(boot, 'tail');
  const relocated = boot.stub?.relocated ?? null;
  if (relocated === null) return;
  watchCopies(boot, relocated, relocated + TAIL_SEARCH);
  hookFillLoops(boot, stubTail(boot), boot.image.protectedModeCode.length);
}

/**
 * Hooks the `rep movs` and `rep stos` that stand in the protected-mode code at offsets [from, to): copies only where the host does
 * them or somebody is told of them, since the hook of one that the CPU does is called for each of a million iterations.
 */
export function watchCopies(boot: BootRun, from: number, to: number): void {
  const { shortcuts, events } = boot.options;
  // Whoever looks at each instruction has to be asked first, as hooks are in the order in which they were added.
  const { stream } = boot;
  const copies = shortcuts !== false || events || boot.stub === null;
  const kinds = copies ? (['copy', 'fill'] as const) : (['fill'] as const);
  for (const offset of findRepInstructions(boot.image.protectedModeCode, from, to, kinds)) {
    boot.keep(
      hookStringInstruction(boot.cpu, boot.found.zo! + offset, {
        get fast() {
          return shortcuts === 'instructions' ? stream !== null && boot.stream === stream : shortcuts;
        },
        mode: boot.mode,
        onOperation: (operation) => onStringOperation(boot, operation),
        hold: boot.hold,
      }),
    );
  }
}

/**
 * The large copies of a guest that decompresses by itself: parse_elf moves the kernel's segments by `rep movs`. One that turns out
 * to copy little each time is left to the CPU.
 */
function watchGuestCopies(boot: BootRun): void {
  if (boot.options.shortcuts !== true) return;
  const code = boot.image.protectedModeCode;
  for (const offset of findRepInstructions(code, stubTail(boot), code.length)) {
    let operations = 0;
    let bytes = 0;
    const unhook = hookStringInstruction(boot.cpu, boot.found.zo! + offset, {
      ...{ fast: true, mode: boot.mode, hold: boot.hold, tables: boot.pageTables },
      onOperation: ({ length }) => {
        operations++;
        bytes += length;
        if (operations === JUDGED_OPERATIONS && bytes < operations * WORTHWHILE) unhook();
      },
    });
    boot.keep(unhook);
  }
}

/** In a stub that was not recognised the copy shows itself as one big `rep movs` out of the image as loaded. */
function onStringOperation(boot: BootRun, operation: StringOperation): void {
  boot.record.stringOperation(operation);
  const { source, target, length } = operation;
  const { zo, copyAddress } = boot.found;
  if (boot.stub !== null || !boot.holdsKernel || copyAddress !== null || source === null) return;
  const covers = source >= zo! && source <= zo! + COPY_START;
  if (!covers || length * 2 <= boot.image.protectedModeCode.length) return;
  boot.defer(() => {
    onCopied(boot, zo! + target - source);
    watchForExit(boot, boot.found.zo!, target + length);
  });
}

/** The memset of the stub's C code clears its page tables a byte at a time, which takes longer than all else that it runs. */
function hookFillLoops(boot: BootRun, from: number, to: number): void {
  if (boot.options.shortcuts !== true) return;
  const { cpu, mode, hold } = boot;
  for (const loop of findFillLoops(boot.image.protectedModeCode, from, to)) {
    boot.keep(hookFillLoop(cpu, boot.found.zo! + loop.offset, loop, mode, hold));
  }
}
