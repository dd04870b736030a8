// The command once more, in a process of its own that takes and gives messages, a line of text each: what fails badly there
// takes nothing else with it.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { createInterface } from 'node:readline';

/** Starts what this process is, with more options. */
export function thisCommand(...more: readonly string[]): readonly string[] {
  return [...process.execArgv, ...process.argv.slice(1), ...more];
}

export class ChildCommand {
  readonly #child: ChildProcessWithoutNullStreams;
  #closed = false;
  #ended = false;
  onText: (text: string) => void = () => {};
  /** Told why, unless it was closed. */
  onEnd: (why: string) => void = () => {};

  /** @param parameters - of Node.js: its options, this script, the command and its options */
  constructor(parameters: readonly string[]) {
    // It connects to nowhere: reading certificates would be most of its start.
    const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
    const child = spawn(process.execPath, parameters, { env });
    this.#child = child;
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-2000);
    });
    child.stdin.on('error', () => {});
    createInterface({ input: child.stdout }).on('line', (text) => this.onText(text));
    child.on('error', (error) => {
      errors = error.message;
    });
    child.on('close', (status, signal) => {
      this.#ended = true;
      if (this.#closed) return;
      this.onEnd(
        errors.trim().replace(/^bootscope: /, '') || `it ended with ${signal ?? `status ${status}`}`,
      );
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  yieldToOthers(): void {
    try {
      setPriority(this.#child.pid!, constants.priority.PRIORITY_BELOW_NORMAL);
    } catch {
      // It has not started, or has ended: whoever asks it is told.
    }
  }

  send(text: string): void {
    // A line is a message; JSON needs no line ends.
    this.#child.stdin.write(`${text.replaceAll('\n', ' ')}\n`);
  }

  close(): void {
    this.#closed = true;
    this.#child.stdin.end();
    this.#child.kill();
  }
}
