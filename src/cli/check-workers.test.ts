// The processes of a matrix: each answers many tasks, and one that dies takes only the task it has at hand with it.

import { expect, it } from 'vitest';
import { checkInProcesses } from './check-workers.ts';

/** A worker that answers with its own number, and dies of what is called so. */
const WORKER = `
  const lines = require('node:readline').createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const { name } = JSON.parse(line);
    if (name === 'fatal') process.kill(process.pid, 'SIGSEGV');
    else if (name === 'speaks') { console.error('bootscope: no more'); process.exit(1); }
    else console.log(JSON.stringify({ differences: [], error: String(process.pid) }));
  });
`;

const task = (name: string) => ({ name, image: name, reference: name, ignore: [] });

it('lets a process answer one task after the other, in their order', async () => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const cases = await checkInProcesses(names.map(task), 2, ['-e', WORKER]);
  expect(cases.map(({ name }) => name)).toEqual(names);
  expect(new Set(cases.map(({ error }) => error)).size).toBeLessThanOrEqual(2);
});

it('goes on in a new process where one dies, and says what it died of', async () => {
  const cases = await checkInProcesses(['a', 'fatal', 'b', 'speaks', 'c'].map(task), 1, ['-e', WORKER]);
  const [a, fatal, b, speaks, c] = cases.map(({ error }) => error);
  expect(fatal).toBe('it ended with SIGSEGV');
  expect(speaks).toBe('no more');
  expect(new Set([a, b, c]).size).toBe(3);
});
