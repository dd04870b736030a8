// Stands in for standard-output.ts in tests: keeps what commands print. In a test file:
// `vi.mock('./standard-output.ts', async () => import('./test-output.ts'));`

import { writeSync } from 'node:fs';
import { Command } from 'commander';

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

/** Runs one command as the command line does, but that errors are thrown. @returns what it printed */
export async function runCommand(
  register: (program: Command) => void,
  ...args: readonly string[]
): Promise<ReturnType<typeof takePrinted>> {
  takePrinted();
  const program = new Command().exitOverride();
  register(program);
  program.commands[0]!.exitOverride().configureOutput({ writeErr: () => {} });
  await program.parseAsync([program.commands[0]!.name(), ...args], { from: 'user' });
  return takePrinted();
}
