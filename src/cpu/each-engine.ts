// For tests: runs a suite once per engine that is there, each version of the native library by itself, and names what is left out.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cpu, EngineName } from './cpu.ts';
import { libraryCandidates } from './find-library.ts';
import { nativeTransport } from './native.ts';
import { type Transport, versionText } from './transport.ts';
import { createUnicorn } from './unicorn.ts';
import { findWasmEngine, wasmTransport } from './wasm-file.ts';

export interface TestEngine {
  /** `native 2.1.4`, `wasm`. */
  readonly label: string;
  readonly engine: EngineName;
  /** The native library, '' for the one that is opened anyway; null for another binding. */
  readonly path: string | null;
  readonly create: () => Promise<Transport>;
}

/** Every engine that is there. With `BOOTSCOPE_LIBUNICORN` no other native library than that. */
export function testEngines(): readonly TestEngine[] {
  const paths = process.env.BOOTSCOPE_LIBUNICORN ? [''] : libraryCandidates().map(({ path }) => path);
  const engines = new Map<string, TestEngine>();
  for (const path of paths) {
    const version = versionOf(path);
    if (version === null || engines.has(version)) continue;
    engines.set(version, {
      label: `native ${version}`,
      engine: 'native',
      path,
      create: () => Promise.resolve(nativeTransport(path)),
    });
  }
  const wasm = { label: 'wasm', engine: 'wasm', path: null, create: wasmTransport } as const;
  return [...engines.values(), ...(findWasmEngine() === null ? [] : [wasm])];
}

function versionOf(path: string): string | null {
  try {
    const transport = nativeTransport(path);
    const version = versionText(transport.version());
    transport.close();
    return version;
  } catch {
    return null;
  }
}

/** What opens a native engine by itself, also in another process, opens this one while the suite runs. */
function openOnly(path: string): void {
  beforeAll(() => {
    process.env.BOOTSCOPE_LIBUNICORN = path;
  });
  afterAll(() => {
    delete process.env.BOOTSCOPE_LIBUNICORN;
  });
}

/**
 * `describe` for each engine that is there; one that is missing stays in the output as a skipped suite with the reason in its
 * name, and fails where `BOOTSCOPE_EXPECT_ENGINES` (`native 2.0.1, native 2.1.4`) promises it.
 */
function describeEach(name: string, suite: (engine: TestEngine) => void): void {
  const engines = testEngines();
  const hasSeveral = engines.filter(({ path }) => path !== null).length > 1;
  for (const engine of engines) {
    describe(`${name} (${engine.label})`, () => {
      if (hasSeveral && engine.path) openOnly(engine.path);
      suite(engine);
    });
  }
  const left = [
    ...(engines.some(({ engine }) => engine === 'native')
      ? []
      : ['native left out: no libunicorn 2.x found']),
    ...(engines.some(({ engine }) => engine === 'wasm')
      ? []
      : ['wasm left out: neither BOOTSCOPE_UNICORN_JS nor @alexaltea/unicorn-js is there']),
  ];
  for (const reason of left) describe.skip(`${name} (${reason})`, () => it('runs', () => {}));
  const promised = (process.env.BOOTSCOPE_EXPECT_ENGINES ?? '').split(',').map((each) => each.trim());
  for (const label of promised.filter((each) => each !== '')) {
    if (engines.some((engine) => engine.label === label)) continue;
    it(`${name}: ${label} is there, as was promised`, () =>
      expect(engines.map((each) => each.label)).toContain(label));
  }
}

/** Runs the suite for each engine; `open` opens a CPU on it. */
export function describeEachEngine(
  name: string,
  suite: (open: () => Promise<Cpu>, engine: EngineName) => void,
): void {
  describeEach(name, ({ create, engine }) => suite(async () => createUnicorn(await create()), engine));
}

/** Runs the suite for each binding; `create` makes a transport without an instance. */
export function describeEachTransport(name: string, suite: (create: () => Promise<Transport>) => void): void {
  describeEach(name, ({ create }) => suite(create));
}
