// The page tables of 64-bit stubs of 4.8 to 5.9 with KASLR, which have no page-fault handler: they map what they know that they
// will touch before they choose, and go over to tables of their own where a 64-bit loader's were in force.

import { BOOT_PARAMS_SIZE, BootParams } from '../protocol/boot-params.ts';
import { CR4_LA57 } from '../x86/control-registers.ts';
import { readGuestCommandLine } from './command-line.ts';
import type { ExtractionState } from './extraction-state.ts';
import { mapIdentity } from './identity-map.ts';
import { findKaslr } from './kaslr-generation.ts';
import type { KaslrInput } from './kaslr-slots.ts';

const PAGE = 4096;
const TWO_MIB = 2 ** 21;

/**
 * Maps the stub's range, the command line, boot_params and the kernel's new place.
 *
 * @param input - of the choice
 * @param chosen - the kernel's physical address; null where none was found, and the tables in force stay
 * @param size - bytes of the kernel there, as the stub rounds them
 */
export function mapForKaslr(
  state: ExtractionState,
  input: KaslrInput,
  chosen: number | null,
  size: number,
): void {
  const { context, details, passed, messages } = state;
  const { stub, image, zo, memory } = context;
  const separate = findKaslr(image, stub)?.kind === 'separate';
  if (stub.bits !== 64 || !separate || details === null || details.handlesPageFaults) return;
  const { pageTable, end } = details;
  if (pageTable === null || end === null) return;
  const own = zo + pageTable;
  const cr3 = context.readRegister('cr3');
  if (input.startedAt32 === false) {
    memory.fill(own, end - pageTable, 0);
    if (chosen !== null) state.cr3 = BigInt(own);
  }
  const params = new BootParams(memory.view(passed.bootParams, BOOT_PARAMS_SIZE));
  const commandLine = readGuestCommandLine(memory, passed.bootParams);
  const written = true;
  mapIdentity(
    {
      memory,
      cr3: input.startedAt32 === false ? BigInt(own) : cr3,
      fiveLevels: (context.readRegister('cr4') & CR4_LA57) !== 0n,
      stubStart: zo,
      stubEnd: zo + end,
      maps: true,
    },
    [
      { start: passed.inputAddress, end: passed.output + params.get('init_size'), written },
      { start: commandLine.address, end: commandLine.address + commandLine.size, written },
      { start: passed.bootParams, end: passed.bootParams + PAGE, written },
      ...(messages.verbose ? [{ start: 0, end: TWO_MIB, written }] : []),
      ...(chosen === null || chosen === passed.output
        ? []
        : [{ start: chosen, end: chosen + size, written }]),
    ],
  );
}
