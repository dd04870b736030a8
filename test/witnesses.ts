// Programs that take minutes of a test run: QEMU to compare with, and a browser. CI has them; elsewhere they are wanted by name.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Why tests are left out that take minutes together; null where they run. */
export const leftOut: string | null =
  process.env.CI !== undefined || process.env.BOOTSCOPE_TESTS === 'all'
    ? null
    : 'CI runs it, and BOOTSCOPE_TESTS=all';

/** Why nothing is compared with QEMU by running it; null where it is. */
export const noQemu: string | null =
  leftOut ?? (spawnSync('qemu-system-x86_64', ['--version']).status === 0 ? null : 'no qemu-system-x86_64');

export const BROWSER: string = process.env.BOOTSCOPE_CHROMIUM ?? '/usr/bin/chromium';

/** Why no page is opened; null where it is. */
export const noBrowser: string | null =
  leftOut ?? (existsSync(BROWSER) ? null : `${BROWSER} is missing; BOOTSCOPE_CHROMIUM names another`);
