// A sign of life on standard error, where that is a terminal, for what takes longer than a moment.

import { isTerminal, printStatus } from './standard-output.ts';

const MILLISECONDS_BETWEEN = 1000;

/**
 * Says once a second what is being done and for how long.
 *
 * @param what - `booting vmlinuz`
 */
export async function withProgress<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  if (!isTerminal('stderr')) return work();
  let seconds = 0;
  const timer = setInterval(() => {
    seconds += MILLISECONDS_BETWEEN / 1000;
    printStatus(`${what}: ${seconds} s …`);
  }, MILLISECONDS_BETWEEN);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (seconds > 0) printStatus();
  }
}
