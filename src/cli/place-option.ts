// The option that names a place in a boot, and going there.

import { type Command, Option } from 'commander';
import type { BootSession } from '../boot/session.ts';
import type { Stop } from '../boot/stop.ts';
import { BootscopeError } from '../error.ts';
import { PLACE_HELP, type Place, parsePlace, placeName } from '../trace/place.ts';

export interface PlaceFlags {
  readonly at?: Place;
}

/** @param otherwise - where a command looks when nobody says */
export function addPlaceOption(command: Command, otherwise: string): Command {
  return command.addOption(
    new Option('--at <place>', `${PLACE_HELP}; by default ${otherwise}`).argParser(parsePlace),
  );
}

/**
 * @throws BootscopeError `cli-place` where the boot ends before it comes there
 */
export async function goToPlace(session: BootSession, place: Place): Promise<Stop> {
  const stop = await session.goTo(place);
  const kernel = place.kind === 'phase' && place.phase === 'kernel';
  const there = stop.reason !== 'ended' || (kernel && stop.stopped === null);
  if (there) return stop;
  const why = stop.stopped === null ? 'it went on to the kernel' : stop.stopped;
  throw new BootscopeError('cli-place', `the boot never came to ${placeName(place)}: ${why}`);
}
