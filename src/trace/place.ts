// A place in a boot, in the one grammar of all commands, links and debuggers: a phase, an address, a number of instructions, or
// an event.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { PHASE_NAMES, type PhaseName } from './boot-trace.ts';
import { EVENT_CHOICE_HELP, type EventChoice, eventChoiceName, parseEventChoice } from './event-choice.ts';

/** A place in a boot, as data; {@link parsePlace} reads its grammar. */
export type Place =
  /** `startup_64`: where the phase begins. */
  | { readonly kind: 'phase'; readonly phase: PhaseName }
  /** `0x100000`: the first time that the instruction at this linear address is about to run. */
  | { readonly kind: 'address'; readonly address: number }
  /** `#4711`: when so many instructions have been executed since the entry. */
  | { readonly kind: 'count'; readonly instructions: number }
  /**
   * `bios:3`: the third BIOS call; `port=0x3f8:1`: the first use of that port; just before the instruction that the event belongs
   * to. `bios`, where the number is null: the next one.
   */
  | ({ readonly kind: 'event'; readonly number: number | null } & EventChoice);

/** For texts that tell what a place may be. */
export const PLACE_HELP =
  'a phase, a linear address 0x…, an instruction count #N, or an event such as bios:3, port=0x3f8:1 or, the next one, efi=GetMemoryMap';

/**
 * Reads the grammar of places.
 *
 * @param text - `startup_32`, `0x100000`, `#4711`, `bios:3`, `port=0x3f8`
 * @throws BootscopeError `place`, `event-choice`
 */
export function parsePlace(text: string): Place {
  const phase = PHASE_NAMES.find((name) => name === text);
  if (phase !== undefined) return { kind: 'phase', phase };
  if (/^0x[0-9a-f]+$/i.test(text)) {
    const address = Number(text);
    if (Number.isSafeInteger(address)) return { kind: 'address', address };
    throw new BootscopeError('place', `${text} is beyond the addresses that a boot uses (53 bits)`);
  }
  if (/^#\d+$/.test(text)) {
    const instructions = Number(text.slice(1));
    if (Number.isSafeInteger(instructions)) return { kind: 'count', instructions };
  }
  const [, event = '', digits] = /^(.*?)(?::(\d+))?$/s.exec(text) ?? [];
  const choice = parseEventChoice(event);
  if (choice !== null) {
    const number = digits === undefined ? null : Number(digits);
    if (number === null || (number > 0 && Number.isSafeInteger(number))) {
      return { kind: 'event', ...choice, number };
    }
    throw new BootscopeError('place', `events are counted from 1: ${event}:1, not ${text}`);
  }
  throw new BootscopeError(
    'place',
    `"${text}" is no place in a boot: name ${PLACE_HELP}; phases are ${PHASE_NAMES.join(', ')}; events are ${EVENT_CHOICE_HELP}`,
  );
}

/** The text that `parsePlace` reads back. */
export function placeName(place: Place): string {
  switch (place.kind) {
    case 'phase':
      return place.phase;
    case 'address':
      return hex(place.address);
    case 'count':
      return `#${place.instructions}`;
    case 'event':
      return `${eventChoiceName(place)}${place.number === null ? '' : `:${place.number}`}`;
  }
}
