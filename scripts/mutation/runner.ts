// Of `npm run mutate`: runs a test file as it is, looking which mutants it reaches, then once for each of them that is not noticed
// yet, in the same process: nothing is loaded again but the test file itself.

import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type File, type Suite, startTests, type Test } from '@vitest/runner';
import { TestRunner } from 'vitest';
import { JOB_VARIABLE, type Job, Journal, versionOf } from './job.ts';

/** Passes through a mutant in one run of a test file that stand for a loop without an end, by passes without a mutant. */
const HIT_FACTOR = 100;
const HITS_AT_LEAST = 10_000;
/** The process is begun anew when it has grown to this. */
const LARGEST_PROCESS = 2 ** 31;

/** In the name of a suite that runs once an engine. */
const ENGINE = /\((native [\d.]+|wasm)\)/;

/** What Stryker's instrumented code looks at. */
interface Switches {
  activeMutant?: string | undefined;
  currentTestId?: string | undefined;
  hitCount?: number | undefined;
  hitLimit?: number;
  mutantCoverage: { static: Record<string, number>; perTest: Record<string, Record<string, number>> };
}

const switches: Switches = { mutantCoverage: { static: {}, perTest: {} } };
(globalThis as unknown as { __stryker__: Switches }).__stryker__ = switches;

/** Of TestRunner, which keeps it to itself. */
interface Inside {
  readonly moduleRunner: unknown;
  readonly workerState: {
    current?: unknown;
    readonly evaluatedModules: {
      getModuleById(id: string): object | undefined;
      invalidateModule(node: object): void;
    };
  };
  readonly _otel: Parameters<TestRunner['__setTraces']>[0];
}

const inside = (runner: TestRunner) => runner as unknown as Inside;

abstract class Runner extends TestRunner {
  override async onAfterRunSuite(suite: Suite): Promise<void> {
    // Without what TestRunner tells of snapshots: there are none.
    inside(this).workerState.current = suite.suite ?? suite.file;
  }
}

export default class MutationRunner extends Runner {
  readonly #job: Job = JSON.parse(readFileSync(process.env[JOB_VARIABLE] ?? '', 'utf8'));
  readonly #journal = new Journal(this.#job.journal);
  readonly #milliseconds = new Map<string, number>();
  #file: File | undefined;
  /** The first that a suite is named after; what the others do is their own room's. */
  #engine: string | undefined;
  #began = 0;
  #test = '';
  #version = '';

  async onBeforeCollect(paths: string[]): Promise<void> {
    const [path = ''] = paths;
    this.#test = relative(this.config.root, path);
    this.#version = versionOf(path);
    this.#watch(null, 300_000);
    for (const name of Object.keys(this.#job.sources)) {
      await this.importFile(join(this.config.root, name), 'collect');
    }
    this.#journal.add({ kind: 'on-import', mutants: this.#keys(switches.mutantCoverage.static) });
    // Not replaced: the instrumented code has it in its hands.
    for (const id of Object.keys(switches.mutantCoverage.static)) delete switches.mutantCoverage.static[id];
  }

  async onBeforeRunFiles([file]: File[]): Promise<void> {
    this.#file = file;
  }

  override async onBeforeRunTask(test: Test): Promise<void> {
    const [, engine] = ENGINE.exec(test.fullTestName) ?? [];
    this.#engine ??= engine;
    if (engine !== this.#engine) test.mode = 'skip';
    await super.onBeforeRunTask(test);
    switches.currentTestId = test.id;
    this.#began = cpuTime();
  }

  override onAfterRunTask(test: Test): void {
    super.onAfterRunTask(test);
    switches.currentTestId = undefined;
    this.#milliseconds.set(test.id, cpuTime() - this.#began);
  }

  override async onAfterRunFiles(): Promise<void> {
    super.onAfterRunFiles();
    const file = this.#file;
    // What vitest still has to tell of this run would get lost in the next.
    await new Promise((resolve) => setTimeout(resolve, 200));
    const passed = testsOf(file).filter((test) => test.result?.state === 'pass');
    const quick = passed.filter(({ id }) => this.#millisecondsOf(id) <= this.#job.longestTest);
    // What ran outside the tests, in hooks and describe(), counts for each of them.
    const { static: around, perTest } = switches.mutantCoverage;
    const reached = { ...around };
    for (const { id } of quick) {
      for (const [mutant, hits] of Object.entries(perTest[id] ?? {}))
        reached[mutant] = (reached[mutant] ?? 0) + hits;
    }
    const total = quick.reduce((sum, { id }) => sum + this.#millisecondsOf(id), file?.collectDuration ?? 0);
    const journal = this.#journal;
    journal.refresh();
    journal.add({
      kind: 'reached',
      test: this.#test,
      version: this.#version,
      mutants: quick.length > 0 ? this.#keys(reached) : [],
      milliseconds: Math.round(total),
      leftOut: passed.length - quick.length,
    });
    if (this.#job.isSurvey) return;
    const idOf = new Map(Object.entries(this.#job.mutants).map(([id, key]) => [key, id]));
    const doubtful = [...journal.doubtful].filter(([, test]) => test === this.#test).map(([key]) => key);
    for (const key of [...new Set([...doubtful, ...this.#keys(reached)])]) {
      const id = idOf.get(key);
      if (id === undefined || file === undefined) continue;
      const chosen = quick.filter((test) => around[id] !== undefined || perTest[test.id]?.[id] !== undefined);
      await this.#try(id, key, file, chosen, HITS_AT_LEAST + HIT_FACTOR * (reached[id] ?? 0));
    }
    this.#watch(null, 60_000);
  }

  async #try(id: string, key: string, file: File, tests: readonly Test[], hitLimit: number): Promise<void> {
    const journal = this.#journal;
    journal.refresh();
    const known = journal.noticed.has(key) || journal.hasMissed(key, this.#test, this.#version);
    const left = this.#job.budget - (journal.spent.get(key) ?? 0);
    if (known || tests.length === 0 || left <= 0) return;
    // The quickest first, as many as the budget allows, at least one.
    const byTime = tests.toSorted((a, b) => this.#millisecondsOf(a.id) - this.#millisecondsOf(b.id));
    const chosen: Test[] = [];
    let expected = 0;
    for (const test of byTime) {
      expected += this.#millisecondsOf(test.id);
      if (chosen.length > 0 && expected > left) break;
      chosen.push(test);
    }
    this.#watch(key, 5_000 + 10 * (expected + (file.collectDuration ?? 0)));
    const wasDoubtful = journal.doubtful.get(key) === this.#test;
    const began = cpuTime();
    const failed = await this.#run(id, file.filepath, new Set(chosen.map((test) => test.id)), hitLimit);
    const milliseconds = Math.round(cpuTime() - began);
    if (failed === null) {
      // With a larger budget the rest is tried, too.
      const version = chosen.length < tests.length ? `${this.#version} in part` : this.#version;
      journal.add({ kind: 'missed', mutant: key, test: this.#test, version, milliseconds });
    } else {
      // A mutant may leave something behind that makes the next fail.
      const only = failed.id === '' ? chosen.map((test) => test.id) : [failed.id];
      const isClean = wasDoubtful || (await this.#run(null, file.filepath, new Set(only), 0)) === null;
      if (!isClean) {
        journal.add({ kind: 'doubtful', mutant: key, test: this.#test });
        process.kill(process.pid, 'SIGKILL');
      }
      journal.add({ kind: 'noticed', mutant: key, by: `${this.#test} > ${failed.name}`, how: 'failed' });
      if (wasDoubtful) process.kill(process.pid, 'SIGKILL');
    }
    if (process.memoryUsage.rss() > LARGEST_PROCESS) process.kill(process.pid, 'SIGKILL');
  }

  /** The first test that fails; without an id where the file did not come to its tests. */
  async #run(
    mutant: string | null,
    path: string,
    only: ReadonlySet<string>,
    hitLimit: number,
  ): Promise<Failed | null> {
    const { moduleRunner, workerState, _otel } = inside(this);
    const runner = new TrialRunner(this.config, only);
    Object.defineProperty(runner, 'moduleRunner', { value: moduleRunner });
    runner.__setTraces(_otel);
    const node = workerState.evaluatedModules.getModuleById(path);
    if (node !== undefined) workerState.evaluatedModules.invalidateModule(node);
    switches.hitCount = 0;
    switches.hitLimit = hitLimit;
    switches.activeMutant = mutant ?? '';
    try {
      const [file] = await startTests([path], runner);
      const first = testsOf(file).find((test) => test.result?.state === 'fail');
      if (first !== undefined) return { id: first.id, name: first.fullTestName };
      return file === undefined || hasFailed(file) ? { id: '', name: 'before its tests' } : null;
    } catch (error) {
      return { id: '', name: String(error) };
    } finally {
      switches.activeMutant = '';
    }
  }

  #keys(coverage: Record<string, number>): string[] {
    return Object.keys(coverage).flatMap((id) => this.#job.mutants[id] ?? []);
  }

  #millisecondsOf(id: string): number {
    return this.#milliseconds.get(id) ?? 0;
  }

  #watch(mutant: string | null, limit: number): void {
    const until = Date.now() + limit;
    writeFileSync(
      join(this.#job.watched, String(process.pid)),
      JSON.stringify({ mutant, test: this.#test, version: this.#version, until }),
    );
  }
}

/** Of this process, in milliseconds: what others do on the host does not count. */
function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

interface Failed {
  /** By place in the file: the same in each run of it. */
  readonly id: string;
  readonly name: string;
}

/** Runs the tests of a file that are asked for, up to the first that fails, and tells nobody. */
class TrialRunner extends Runner {
  readonly #only: ReadonlySet<string>;
  #hasFailed = false;

  constructor(config: TestRunner['config'], only: ReadonlySet<string>) {
    super(config);
    this.#only = only;
  }

  override async onBeforeRunTask(test: Test): Promise<void> {
    if (this.#hasFailed || !this.#only.has(test.id)) test.mode = 'skip';
    await super.onBeforeRunTask(test);
  }

  override onAfterRunTask(test: Test): void {
    super.onAfterRunTask(test);
    if (test.result?.state === 'fail') this.#hasFailed = true;
  }

  override onAfterRunFiles(): void {}
}

function testsOf(suite: Suite | undefined): Test[] {
  return (suite?.tasks ?? []).flatMap((task) => (task.type === 'suite' ? testsOf(task) : [task]));
}

/** Whether it or a suite in it failed without a test of its own that did: in a hook. */
function hasFailed(suite: Suite): boolean {
  return (
    suite.result?.state === 'fail' || suite.tasks.some((task) => task.type === 'suite' && hasFailed(task))
  );
}
