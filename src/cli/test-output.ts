// Stands in for standard-output.ts in tests: keeps what commands print. In a test file:
// `vi.mock('./standard-output.ts', async () => import('./test-output.ts'));`

import { writeSync } from 'node:fs';

let stdout: Uint8Array[] = [];
let stderr = '';

export const STDOUT = 1;

export function print(content: string | Uint8Array): void {
  stdout.push(Buffer.from(content as Uint8Array));
}

export function printError(text: string): void {
  stderr += text;
}

/** To files as ever. */
export function writeFully(fd: number, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  return true;
}

export function isTerminal(): boolean {
  return false;
}

/** What was printed since it was asked for last. */
export function takePrinted(): { readonly bytes: Buffer; readonly text: string; readonly errors: string } {
  const bytes = Buffer.concat(stdout);
  const errors = stderr;
  stdout = [];
  stderr = '';
  return { bytes, text: bytes.toString(), errors };
}
