// The 64-bit boot protocol: a bzImage's protected-mode code, entered at offset 0x200.

import { recordStart } from '../record-placements.ts';
import { watchStub } from '../watch/startup.ts';
import { enterLong64 } from './enter-protocol.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import { loadWithBootParams } from './load-code.ts';

export const long64: Entry = {
  name: 'long64',
  summary: "the boot protocol's 64-bit entry",
  accepts: speaksBootProtocol,
  load: (machine, image, options) => loadWithBootParams(machine, image, options, 'long64'),
  enter: enterLong64,
  watch: (boot, { startup32 }) => {
    recordStart(boot, startup32);
    watchStub(boot, startup32);
  },
};
