// V8's budget for its optimizing compiler, which the code of a WebAssembly module has for good from its compilation on.

/** V8's own values of the budget, by the major versions of V8 in Node 20 and later ones that have it. */
const DEFAULT_BUDGETS: Readonly<Record<string, number>> = {
  11: 1_800_000,
  12: 13_000_000,
  13: 13_000_000,
  14: 13_000_000,
};
const LARGEST_BUDGET = 2 ** 31 - 1;

/**
 * Runs what compiles a module, with the budget raised: V8 then optimizes a function of it only where a long run spends its time.
 * Other modules keep V8's value.
 */
export function withLateOptimizing<T>(compile: () => T): T {
  const budget = DEFAULT_BUDGETS[process.versions.v8.split('.')[0] ?? ''];
  if (budget === undefined) return compile();
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  setFlagsFromString(`--wasm-tiering-budget=${LARGEST_BUDGET}`);
  try {
    return compile();
  } finally {
    setFlagsFromString(`--wasm-tiering-budget=${budget}`);
  }
}
