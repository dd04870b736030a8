// Stands in the head of the page that the explorer's server serves: the way to the machine opens while the browser still reads
// the page's own script.

import { type Line, socketLine } from './connection.ts';

declare global {
  /** Awaited by the page's script. */
  var bootscopeLine: Promise<Line>;
}

globalThis.bootscopeLine = socketLine();
// Whoever awaits it is told.
globalThis.bootscopeLine.catch(() => {});
