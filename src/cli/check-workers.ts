// Processes that check one image after the other, so that only the first of them pays for starting Node.js and the engine.

import { createInterface } from 'node:readline';
import { monotonicTime } from '../host/host.ts';
import type { CheckedCase } from '../report/junit.ts';
import { ChildCommand } from './child-command.ts';
import { errorSentence } from './error-sentence.ts';

export interface CheckTask {
  /** As the results call it. */
  readonly name: string;
  /** Paths; there is no image where the reference names disks. */
  readonly image: string | null;
  readonly reference: string;
  /** Fields to leave out, besides those of the command. */
  readonly ignore: readonly string[];
}

type Answer = Pick<CheckedCase, 'differences' | 'error'>;

/** Answers the tasks that come on standard input, a line of JSON each, with a line each. */
export async function answerChecks(check: (task: CheckTask) => Promise<CheckedCase>): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { differences, error }: Answer = await check(JSON.parse(line) as CheckTask).catch(
      (error: unknown) => ({
        differences: [],
        error: errorSentence(error),
      }),
    );
    process.stdout.write(`${JSON.stringify({ differences, error })}\n`);
  }
}

/**
 * The tasks' results, in their order.
 *
 * @param jobs - processes at most
 * @param parameters - how such a process is started
 */
export async function checkInProcesses(
  tasks: readonly CheckTask[],
  jobs: number,
  parameters: readonly string[],
): Promise<CheckedCase[]> {
  const cases: CheckedCase[] = new Array(tasks.length);
  let next = 0;
  const work = async (): Promise<void> => {
    let worker: ChildCommand | null = null;
    for (let index = next++; index < tasks.length; index = next++) {
      const { name } = tasks[index]!;
      const startedAt = monotonicTime();
      if (worker === null || worker.ended) worker = new ChildCommand(parameters);
      const answer = await ask(worker, tasks[index]!);
      cases[index] = { name, seconds: (monotonicTime() - startedAt) / 1000, ...answer };
    }
    worker?.close();
  };
  await Promise.all(Array.from({ length: Math.min(jobs, tasks.length) }, work));
  return cases;
}

/** What a worker answers, or why it ended without an answer. */
function ask(worker: ChildCommand, task: CheckTask): Promise<Answer> {
  return new Promise((done) => {
    worker.onText = (text) => done(JSON.parse(text) as Answer);
    worker.onEnd = (why) => done({ differences: [], error: why });
    worker.send(JSON.stringify(task));
  });
}
