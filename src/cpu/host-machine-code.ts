// Whether hooks may be machine code here: only where there is some for the host, and nobody has turned it off.

import { architecture, environment, platform } from '../host/host.ts';

/**
 * x86-64 with the calling convention of Unix. `BOOTSCOPE_MACHINE_CODE=off` does without, as on other hosts: the same results,
 * several times as slowly.
 */
export function runsMachineCode(): boolean {
  return architecture === 'x64' && platform !== 'win32' && environment('BOOTSCOPE_MACHINE_CODE') !== 'off';
}
