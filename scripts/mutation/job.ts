// What `npm run mutate` and the workers of its test runs hand each other: a job file, and a journal that both append to.

import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';

/** Where a worker finds the job. */
export const JOB_VARIABLE = 'BOOTSCOPE_MUTATION_JOB';

export interface Job {
  /** Paths of the test files, from the repository's root, in the order in which they run. */
  readonly tests: readonly string[];
  /** Only what each test file reaches and how long it takes is to be found out. */
  readonly isSurvey: boolean;
  /** The instrumented sources by path from the repository's root. */
  readonly sources: Readonly<Record<string, string>>;
  /** The keys of the mutants by the number that switches each on in the sources. */
  readonly mutants: Readonly<Record<string, string>>;
  readonly journal: string;
  /** Folder of one file a worker, named by its process id, that says what it is at and until when (ms since 1970) it should be done. */
  readonly watched: string;
  /** Milliseconds of CPU time in tests after which a mutant is not tried further. */
  readonly budget: number;
  /** Milliseconds; tests that take longer are left out. */
  readonly longestTest: number;
}

/** What a worker is at; a mutant at a time, or, with null, the tests as they are. */
export interface Watch {
  readonly mutant: string | null;
  readonly test: string;
  readonly version: string;
  readonly until: number;
}

/** A line of the journal. `version` stands for the content of a test file: what is known of another content is forgotten. */
export type Entry =
  | { readonly kind: 'on-import'; readonly mutants: readonly string[] }
  | {
      readonly kind: 'reached';
      readonly test: string;
      readonly version: string;
      readonly mutants: readonly string[];
      readonly milliseconds: number;
      readonly leftOut: number;
    }
  | {
      readonly kind: 'noticed';
      readonly mutant: string;
      readonly by: string;
      readonly how: 'failed' | 'hung' | 'crashed';
    }
  | {
      readonly kind: 'missed';
      readonly mutant: string;
      readonly test: string;
      readonly version: string;
      readonly milliseconds: number;
    }
  /** The test that noticed it fails without it now, too: to be tried again in a fresh process. */
  | { readonly kind: 'doubtful'; readonly mutant: string; readonly test: string };

export class Journal {
  readonly onImport = new Set<string>();
  readonly noticed = new Map<string, { readonly by: string; readonly how: string }>();
  readonly reached = new Map<string, Extract<Entry, { kind: 'reached' }>>();
  readonly missed = new Map<string, number>();
  readonly doubtful = new Map<string, string>();
  /** Milliseconds of CPU time in tests by mutant. */
  readonly spent = new Map<string, number>();

  readonly path: string;
  #offset = 0;

  constructor(path: string) {
    this.path = path;
    this.refresh();
  }

  /** In bytes. */
  get size(): number {
    return this.#offset;
  }

  /** Takes in what other processes have added. */
  refresh(): void {
    if (!existsSync(this.path)) return;
    const content = readFileSync(this.path);
    const end = content.lastIndexOf(10) + 1;
    const lines = content.toString('utf8', this.#offset, end).split('\n');
    this.#offset = end;
    for (const line of lines) if (line !== '') this.#take(JSON.parse(line));
  }

  add(entry: Entry): void {
    appendFileSync(this.path, `${JSON.stringify(entry)}\n`);
    this.refresh();
  }

  /** Reached by the test file as it is now, as far as that is known. */
  reachedBy(test: string, version: string): readonly string[] | null {
    const found = this.reached.get(test);
    return found?.version === version ? found.mutants : null;
  }

  hasMissed(mutant: string, test: string, version: string): boolean {
    return this.missed.has(`${mutant}\t${test}\t${version}`);
  }

  #take(entry: Entry): void {
    switch (entry.kind) {
      case 'on-import':
        for (const mutant of entry.mutants) this.onImport.add(mutant);
        break;
      case 'noticed':
        this.noticed.set(entry.mutant, entry);
        this.doubtful.delete(entry.mutant);
        break;
      case 'reached':
        this.reached.set(entry.test, entry);
        break;
      case 'missed':
        this.missed.set(`${entry.mutant}\t${entry.test}\t${entry.version}`, entry.milliseconds);
        this.spent.set(entry.mutant, (this.spent.get(entry.mutant) ?? 0) + entry.milliseconds);
        this.doubtful.delete(entry.mutant);
        break;
      case 'doubtful':
        this.doubtful.set(entry.mutant, entry.test);
        break;
    }
  }
}

/** Stands for the content of a test file. */
export function versionOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 12);
}
