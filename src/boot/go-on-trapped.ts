// A boot that stands at the call of extract_kernel, gone on with on a second machine, where the function is done in TypeScript: what
// both ways have in common is run once.

import { openCpu } from '#open-cpu';
import type { Machine } from '../machine/machine.ts';
import type { EntryPoint } from '../trace/boot-trace.ts';
import type { FinishedBoot } from './boot.ts';
import { BootRun } from './boot-run.ts';
import { traceOf } from './boot-trace.ts';
import { differingChunks } from './differing-memory.ts';
import type { HeldBoot } from './session.ts';
import { watchCopiedCode } from './watch/copy.ts';
import { trapHere } from './watch/extract-kernel.ts';

/** Those in which no firmware is called once the stub runs. */
const ENTRIES: readonly EntryPoint[] = ['real16', 'prot32', 'long64'];

/**
 * The boot that a session would have been with hooked decompression. It stays where it stands, and has to be closed later than
 * what is returned.
 *
 * The second machine gets memory, CPU, count of instructions and record of the first; its devices are new. So it counts only if
 * nobody has asked one, or printed: what is only written to a device, as the place of the screen's cursor, changes nothing.
 * @param guest - stands where `extract_kernel` is to be done by the guest itself
 * @returns null where nothing can be told this way
 */
export async function goOnTrapped(guest: HeldBoot): Promise<FinishedBoot | null> {
  const { boot: first } = guest;
  if (guest.stop.reason !== 'phase' || !canBeTakenOver(first)) return null;
  const options = { ...guest.options, decompress: 'hooked' as const };
  const { engine } = options;
  const cpu = typeof engine === 'function' ? await engine() : await openCpu({ engine });
  try {
    const run = takeOver(first, new BootRun(cpu, first.image, options));
    await run.run(null);
    const { machine, record, found } = run;
    // What ended before the kernel is told by a boot of its own.
    if (hasAsked(machine) || found.kernel === null) {
      cpu.close();
      return null;
    }
    const notices = [...new Set([...record.notices, ...first.machine.notices])];
    const trace = { ...traceOf(run), console: first.record.console, notices };
    return { options, trace, machine, close: () => cpu.close() };
  } catch (error) {
    cpu.close();
    throw error;
  }
}

function hasAsked({ ports, bios, deviceUses, consoleText }: Machine): boolean {
  const uses = deviceUses!.filter(({ kind }) => kind !== 'out').length;
  return ports.reads + bios.calls + uses + consoleText.length > 0;
}

/** With what has been drawn from the machine's entropy, or with code of a loader's, the first one's devices would be needed. */
function canBeTakenOver({ image, stub, found, record, options, machine }: BootRun): boolean {
  return (
    record.phase === 'extract_kernel' &&
    stub !== null &&
    image.payload !== null &&
    found.copyAddress !== null &&
    ENTRIES.includes(found.loaded!.entry) &&
    options.kaslr.kind === 'off' &&
    machine.uefi === null
  );
}

/** Puts `second`, which is new, where `first` stands. */
function takeOver(first: BootRun, second: BootRun): BootRun {
  second.countInstructions();
  for (const { ours, theirs } of differingChunks(second.machine.memory, first.machine.memory))
    ours.set(theirs);
  second.cpu.restoreState(first.cpu.saveState());
  second.record.copyFrom(first.record);
  Object.assign(second.found, first.found);
  second.machine.noteDeviceUses([]);
  watchCopiedCode(second);
  trapHere(second);
  return second;
}
