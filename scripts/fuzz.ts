// `npm run fuzz`: hostile inputs for every reader and for whole boots, in child processes that may crash, hang or grow. What
// a case does follows from target, seed and number alone, so each find can be made again.

import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { TARGETS } from './fuzz/targets.ts';
import type { Order, Outcome } from './fuzz/worker.ts';

const usage = `usage: npm run fuzz -- [options]
  --target NAME      one target or all whose names begin so; may be repeated (--list names them)
  --seed N           default: a fresh one, which is printed
  --cases N          cases of each target (default 1000)
  --seconds N        stop after so long; targets take turns
  --jobs N           processes (default: the cores)
  --other LIBRARY    run one case in 8 with this libunicorn, too, and compare
  --state FILE       go on where the run that wrote FILE stopped; it is written every half minute, and when the run is ended
  --replay T:S:N     one case of target T, seed S, number N
  --json             the result as JSON
  --list             the targets`;

/** A case that takes longer is told of; one that takes this much longer is ended, and is a find. */
const SLOW_MS = 10_000;
const CASE_LIMIT_MS = 60_000;
const MEMORY_LIMIT = 1.5 * 2 ** 30;
/** A worker that has grown so far is replaced between two cases. */
const RENEW_AT = 0.7 * 2 ** 30;
const TWICE_EVERY = 8;
const STATE_EVERY_MS = 30_000;
const EXIT_UNUSABLE = 2;
const EXIT_FINDS = 1;

interface Find {
  readonly replay: string;
  readonly what: string;
}

interface Count {
  cases: number;
  ok: number;
  stopped: number;
  refused: number;
  finds: number;
  slowest: number;
}

const { values: flags } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    seed: { type: 'string' },
    cases: { type: 'string', default: '1000' },
    seconds: { type: 'string' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    other: { type: 'string' },
    state: { type: 'string' },
    replay: { type: 'string' },
    json: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function unusable(sentence: string): never {
  console.error(`fuzz: ${sentence}`);
  process.exit(EXIT_UNUSABLE);
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) unusable(`--${name} ${text} is no whole number above 0`);
  return value;
}

if (flags.help || flags.list) {
  console.log(
    flags.help
      ? usage
      : TARGETS.map(({ name, boots }) => `${name}${boots ? ' (whole boots)' : ''}`).join('\n'),
  );
  process.exit(0);
}

const replay = flags.replay === undefined ? null : /^([\w-]+):(\d+):(\d+)$/.exec(flags.replay);
if (flags.replay !== undefined && replay === null)
  unusable(`--replay ${flags.replay} is not TARGET:SEED:NUMBER`);
const asked = replay === null ? flags.target : [replay[1]!];
const targets = TARGETS.filter(
  ({ name }) =>
    asked === undefined || asked.some((each) => (replay === null ? name.startsWith(each) : name === each)),
);
if (targets.length === 0) unusable(`no target is called ${asked?.join(' or ')} (--list names them)`);

interface State {
  readonly seed: number;
  readonly next: Record<string, number>;
  readonly counts: Record<string, Count>;
  readonly finds: Find[];
  /** Cases that ran when it was written. */
  readonly unfinished: Order[];
}

const state = readState();
const seed = state.seed;
const cases = replay === null ? whole('cases', flags.cases) : Number.POSITIVE_INFINITY;
const endsAt =
  flags.seconds === undefined
    ? Number.POSITIVE_INFINITY
    : Date.now() + whole('seconds', flags.seconds) * 1000;
let peak = 0;
const running = new Set<Order>();
const workers = new Set<Worker>();

function readState(): State {
  if (flags.state !== undefined && existsSync(flags.state)) {
    return { unfinished: [], ...(JSON.parse(readFileSync(flags.state, 'utf8')) as Partial<State>) } as State;
  }
  const fresh =
    replay !== null
      ? Number(replay[2])
      : flags.seed === undefined
        ? Date.now() % 1_000_000
        : Number(flags.seed);
  if (!Number.isSafeInteger(fresh) || fresh < 0) unusable(`--seed ${flags.seed} is no whole number`);
  return { seed: fresh, next: {}, counts: {}, finds: [], unfinished: [] };
}

/** The next case: the target that has had fewest. */
function nextOrder(): Order | null {
  if (Date.now() >= endsAt) return null;
  const again = state.unfinished.shift();
  if (again !== undefined) return again;
  let least: string | null = null;
  for (const { name } of targets) {
    const done = state.next[name] ?? 0;
    if (done < cases && (least === null || done < (state.next[least] ?? 0))) least = name;
  }
  if (least === null) return null;
  const number = state.next[least] ?? 0;
  state.next[least] = number + 1;
  return { target: least, seed, number, twice: number % TWICE_EVERY === 0 };
}

class Worker {
  readonly #environment: NodeJS.ProcessEnv;
  #child: ChildProcess | null = null;
  #errors = '';

  constructor(environment: NodeJS.ProcessEnv) {
    this.#environment = environment;
    workers.add(this);
  }

  async #start(): Promise<ChildProcess> {
    const path = fileURLToPath(new URL('fuzz/worker.ts', import.meta.url));
    const child = fork(path, {
      execArgv: ['--import', 'tsx'],
      env: this.#environment,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#errors = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-2000);
    });
    await new Promise<void>((done, fail) => {
      child.once('message', () => done());
      child.once('exit', () => fail(new Error(`a worker did not start: ${this.#errors}`)));
    });
    child.removeAllListeners('exit');
    this.#child = child;
    return child;
  }

  async run(order: Order): Promise<Outcome> {
    const child = this.#child ?? (await this.#start());
    const limit = order.twice ? 2 * CASE_LIMIT_MS : CASE_LIMIT_MS;
    const failed = (find: string): Outcome => ({ order, kind: 'lost', find, digest: null, rss: 0 });
    const outcome = await new Promise<Outcome>((done) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        done(failed(`it ran longer than ${limit / 1000} s`));
      }, limit);
      child.once('message', (message) => {
        clearTimeout(timer);
        done(message as Outcome);
      });
      child.once('exit', (status, signal) => {
        clearTimeout(timer);
        done(failed(`the process ended with ${signal ?? `status ${status}`}: ${this.#errors.trim()}`));
      });
      child.send(order);
    });
    child.removeAllListeners('message').removeAllListeners('exit');
    if (outcome.kind === 'lost') this.#child = null;
    else if (outcome.rss > RENEW_AT) this.stop();
    return outcome;
  }

  stop(): void {
    this.#child?.kill();
    this.#child = null;
  }
}

function judge(outcome: Outcome, milliseconds: number): void {
  const { target, seed: of, number } = outcome.order;
  if (milliseconds > SLOW_MS && outcome.kind !== 'lost' && !flags.json) {
    console.log(`SLOW --replay ${target}:${of}:${number}\n  it took ${Math.round(milliseconds / 1000)} s`);
  }
  const { order, kind } = outcome;
  state.counts[order.target] ??= { cases: 0, ok: 0, stopped: 0, refused: 0, finds: 0, slowest: 0 };
  const count = state.counts[order.target]!;
  count.cases++;
  if (kind === 'ok') count.ok++;
  else if (kind === 'stopped') count.stopped++;
  else if (kind !== 'lost' && kind !== 'internal') count.refused++;
  count.slowest = Math.max(count.slowest, Math.round(milliseconds / (order.twice ? 2 : 1)));
  peak = Math.max(peak, outcome.rss);
  const find = outcome.find ?? (outcome.rss > MEMORY_LIMIT ? `the process has ${outcome.rss} bytes` : null);
  if (find !== null) addFind(order, find);
}

function addFind(order: Order, what: string): void {
  state.counts[order.target]!.finds++;
  const found = { replay: `${order.target}:${order.seed}:${order.number}`, what };
  state.finds.push(found);
  if (!flags.json) console.log(`FIND --replay ${found.replay}\n  ${what.replaceAll('\n', '\n  ')}`);
}

async function work(): Promise<void> {
  const worker = new Worker(process.env);
  const other =
    flags.other === undefined ? null : new Worker({ ...process.env, BOOTSCOPE_LIBUNICORN: flags.other });
  for (let order = nextOrder(); order !== null; order = nextOrder()) {
    running.add(order);
    const startedAt = performance.now();
    const outcome = await worker.run(order);
    running.delete(order);
    judge(outcome, performance.now() - startedAt);
    if (other === null || !order.twice) continue;
    const there = await other.run({ ...order, twice: false });
    const both = outcome.digest !== null && there.digest !== null;
    if (there.find !== null) addFind(order, `with the other library: ${there.find}`);
    else if (both && outcome.digest !== there.digest)
      addFind(order, 'the two libraries give different results');
  }
  worker.stop();
  other?.stop();
}

if (replay !== null) {
  const worker = new Worker(process.env);
  const outcome = await worker.run({ target: replay[1]!, seed, number: Number(replay[3]), twice: true });
  worker.stop();
  console.log(JSON.stringify(outcome, null, 2));
  process.exit(outcome.find === null ? 0 : 1);
}

function writeState(): void {
  if (flags.state === undefined) return;
  // Cases that run now are begun again by whoever goes on.
  const written = { ...state, unfinished: [...state.unfinished, ...running] };
  writeFileSync(`${flags.state}.new`, `${JSON.stringify(written, null, 2)}\n`);
  renameSync(`${flags.state}.new`, flags.state);
}

function report(): void {
  const counts = Object.entries(state.counts);
  const total = counts.reduce((sum, [, { cases: each }]) => sum + each, 0);
  if (flags.json) {
    console.log(JSON.stringify({ ...state, total, peak }, null, 2));
    return;
  }
  const titles = ['CASES', 'OK', 'STOPPED', 'REFUSED', 'FINDS', 'SLOWEST'];
  console.log(`\n${'TARGET'.padEnd(24)}${titles.map((name) => name.padStart(9)).join('')}`);
  for (const [name, count] of counts) {
    const { cases: each, ok, stopped, refused, finds, slowest } = count;
    console.log(
      name.padEnd(24) +
        [each, ok, stopped, refused, finds, `${slowest} ms`].map((cell) => String(cell).padStart(9)).join(''),
    );
  }
  console.log(
    `\nseed ${seed}: ${total} cases, ${state.finds.length} finds, peak memory ${Math.round(peak / 2 ** 20)} MB`,
  );
}

/** Also in the middle, for a signal. */
function end(): never {
  writeState();
  report();
  process.exit(state.finds.length === 0 ? 0 : EXIT_FINDS);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const worker of workers) worker.stop();
    end();
  });
}
if (!flags.json) console.log(`seed ${seed}, ${targets.length} targets`);
setInterval(writeState, STATE_EVERY_MS).unref();
await Promise.all(Array.from({ length: whole('jobs', flags.jobs) }, work));
end();
