// A child of the fuzzer: runs cases one after the other and tells of each what came out. It may hang, crash or grow; the
// parent sees that from outside.

import { createHash } from 'node:crypto';
import { BootscopeError } from '../../src/error.ts';
import { Dice } from './dice.ts';
import { TARGETS } from './targets.ts';

export interface Order {
  readonly target: string;
  readonly seed: number;
  readonly number: number;
  /** Runs it twice and compares. */
  readonly twice: boolean;
}

export interface Outcome {
  readonly order: Order;
  /** `ok`, the code of an error, or `stopped`. */
  readonly kind: string;
  /** What is wrong with it; null where nothing is. */
  readonly find: string | null;
  /** Of all that came out; null where host time had a say, or the guest stopped. */
  readonly digest: string | null;
  readonly rss: number;
}

interface Result {
  readonly kind: string;
  readonly find: string | null;
  readonly text: string;
}

const LONGEST_SENTENCE = 1200;

async function once({ target, seed, number }: Order): Promise<Result> {
  const found = TARGETS.find(({ name }) => name === target);
  if (found === undefined) throw new Error(`there is no target ${target}`);
  try {
    const text = await found.run(new Dice(target, seed, number));
    const stopped = found.boots ? (JSON.parse(text) as { stopped: string | null }).stopped : null;
    if (stopped === null) return { kind: 'ok', find: null, text };
    return { kind: 'stopped', find: wrongSentence(stopped), text };
  } catch (error) {
    if (error instanceof BootscopeError) {
      return { kind: error.code, find: wrongSentence(error.message), text: `${error.code} ${error.message}` };
    }
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: 'internal', find: stack, text: stack };
  }
}

/** An error is a sentence for people, with numbers that are some. Line ends that it quotes are the command's to take out. */
function wrongSentence(sentence: string): string | null {
  const wrong = /NaN|undefined|\[object|Infinity/.exec(sentence);
  if (wrong !== null) return `the sentence has ${JSON.stringify(wrong[0])}: ${sentence}`;
  if (sentence.length > LONGEST_SENTENCE) return `the sentence has ${sentence.length} characters`;
  return sentence.trim() === '' ? 'the sentence is empty' : null;
}

/** Whether the host's speed decided where it ended. */
function hitTimeLimit(text: string): boolean {
  return /still running after|--timeout/.test(text);
}

/** Whether the guest has set bits of CR4 above LA57: of those that its CPU has not, versions keep different ones and none faults. */
function hasForeignCr4(text: string): boolean {
  return [...text.matchAll(/"cr4":"0x([0-9a-f]+)"/g)].some(([, digits]) => parseInt(digits!, 16) > 0x1fff);
}

async function run(order: Order): Promise<Outcome> {
  const first = await once(order);
  const timed = hitTimeLimit(first.text);
  let { find } = first;
  if (order.twice && find === null && !timed) {
    const second = await once(order);
    if (second.text !== first.text && !hitTimeLimit(second.text))
      find = `another result the second time: ${difference(first.text, second.text)}`;
  }
  // Where a guest has gone astray, versions of the engine differ in when they notice.
  const digest =
    timed || first.kind === 'stopped' || hasForeignCr4(first.text)
      ? null
      : createHash('sha256').update(first.text).digest('hex');
  return { order, kind: first.kind, find, digest, rss: process.memoryUsage.rss() };
}

/** Where two texts part. */
function difference(a: string, b: string): string {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  const around = (text: string): string => text.slice(Math.max(0, at - 60), at + 60);
  return `${JSON.stringify(around(a))} and ${JSON.stringify(around(b))}`;
}

// A key pressed to end the run reaches all processes; the parent ends this one.
process.on('SIGINT', () => {});
process.on('message', (order: Order) => {
  run(order).then(
    (outcome) => process.send!(outcome),
    (error: unknown) => {
      console.error(error);
      process.exit(3);
    },
  );
});
process.send!('ready');
