// The 32-bit boot protocol: a bzImage's protected-mode code, entered at its first byte.

import { watchStartup32 } from '../watch/startup.ts';
import { enterProt32 } from './enter-protocol.ts';
import { type Entry, speaksBootProtocol } from './entry.ts';
import { loadWithBootParams } from './load-code.ts';

export const prot32: Entry = {
  name: 'prot32',
  summary: "the boot protocol's 32-bit entry",
  accepts: speaksBootProtocol,
  load: (machine, image, options) => loadWithBootParams(machine, image, options, 'prot32'),
  enter: enterProt32,
  watch: (boot, { startup32 }) => watchStartup32(boot, startup32),
};
