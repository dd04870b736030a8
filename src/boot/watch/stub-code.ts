// The stub's own code, wherever it runs: which parts of it are looked at for what is worth an event.

import type { BootRun } from '../boot-run.ts';

/** Bytes that may hold instructions of the stub's assembly part, before a payload whose place is not known. */
const HEAD_SEARCH = 0x10000;

/** End of the stub's code before the payload: an offset in the protected-mode code. */
export function stubHead({ image }: BootRun): number {
  return image.payload?.offset ?? HEAD_SEARCH;
}

/** Offset of the stub's code behind the payload; the end where its place is not known. */
export function stubTail({ image }: BootRun): number {
  const { payload, protectedModeCode } = image;
  return payload === null ? protectedModeCode.length : payload.offset + payload.length;
}

/** Memory below 1 MiB that code can be copied to, by pages. */
const LOW_MEMORY_END = 0xa0000;
const PAGE = 0x1000;

/**
 * Events of what the stub copies below 1 MiB and runs there: the trampoline that leaves long mode to switch between four and five
 * levels of page tables (LA57).
 */
export function watchTrampoline(boot: BootRun): void {
  if (!boot.options.events) return;
  const { memory } = boot.machine;
  const seen = new Set<number>();
  const unhook = boot.hookBlocks(0, LOW_MEMORY_END - 1, (address) => {
    const page = address - (address % PAGE);
    if (seen.has(page)) return;
    seen.add(page);
    boot.defer(() => {
      const code = memory.view(page, PAGE);
      boot.keep(...boot.record.watchSystemInstructions(page, code, address - page, PAGE, true));
    });
  });
  boot.keep(unhook);
}

/** Events of the system instructions of the stub as it lies now. @param part - the code behind the payload, or all of it */
export function watchStubEvents(boot: BootRun, part: 'tail' | 'all'): void {
  const { protectedModeCode } = boot.image;
  const zo = boot.found.zo!;
  const [head, tail] = [stubHead(boot), stubTail(boot)];
  if (part === 'all') boot.keep(...boot.record.watchSystemInstructions(zo, protectedModeCode, 0, head, true));
  const end = protectedModeCode.length;
  boot.keep(...boot.record.watchSystemInstructions(zo, protectedModeCode, tail, end, tail < head));
}
