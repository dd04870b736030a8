// A sign of life on standard error, where that is a terminal, for what takes longer than a moment.

import { isTerminal, printError } from './standard-output.ts';

const MILLISECONDS_BETWEEN = 1000;
const CLEAR_LINE = '\r\x1b[K';

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
    printError(`${CLEAR_LINE}${what}: ${seconds} s …`);
  }, MILLISECONDS_BETWEEN);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (seconds > 0) printError(CLEAR_LINE);
  }
}
