// Of the places that somebody has set to stop at, those that a boot can still come to.

import type { BootSession } from '../boot/session.ts';
import type { Place } from '../trace/place.ts';

/** A count that lies behind is no reason not to go on, as for a place that was named to go to. */
export function stopsAhead({ instructions }: BootSession, places: readonly Place[]): readonly Place[] {
  return places.filter((place) => place.kind !== 'count' || place.instructions > (instructions ?? 0));
}
