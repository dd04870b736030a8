// A kernel that was entered by PVH makes boot_params of hvm_start_info and its own page tables, in code that runs where it is mapped
// to itself, before it goes on at its ordinary entry (arch/x86/platform/pvh/head.S): it is followed up to there.

import { readElf } from '../../image/elf.ts';
import { describeVmlinux } from '../../image/vmlinux.ts';
import { bootParamsAtJump } from '../../trace/decode/boot-params.ts';
import { EFER_LMA } from '../../x86/control-registers.ts';
import type { BootRun } from '../boot-run.ts';
import type { LoadedImage } from '../entries/loaded-image.ts';
import { enterKernel } from './kernel.ts';

/** Bytes of its assembly code that are looked through for what is an event. */
const START_SEARCH = 0x400;
/** Where the upper half of linear addresses begins. */
const UPPER_HALF = 2 ** 63;

export function watchPvhStart(boot: BootRun, { kernel, start }: LoadedImage): void {
  const { machine, image, found } = boot;
  found.kernelFile = kernel!.file;
  boot.defer(async () => {
    await enterKernel(boot, start, kernel);
    const code = machine.memory.viewUpTo(start, START_SEARCH);
    boot.keep(...boot.record.watchSystemInstructions(start, code, 0, code.length, true));
    // It leaves the memory that is mapped to itself.
    boot.keep(boot.hookBlocks(UPPER_HALF, null, () => boot.defer(() => boot.finish())));
    const entry = Number(describeVmlinux(readElf(image.bytes)).physicalEntry);
    const onEntry = (): void => {
      found.bootParamsAtJump = bootParamsAtJump(machine.memory, boot.cpu.readRegister('rsi'));
      boot.finish();
    };
    boot.watch(entry, onEntry, { efer: EFER_LMA });
  });
}
