// Before any test: a CPU, without which every test of a boot would be left out and the rest would pass.

import { openCpu } from '../src/cpu/open.ts';

export async function setup(): Promise<void> {
  try {
    (await openCpu()).close();
  } catch (error) {
    throw new Error(`nothing can be tested: ${error instanceof Error ? error.message : String(error)}`);
  }
}
