// `bootscope/vitest`: matchers for tests of boot loaders and kernels. Importing it teaches them to vitest's `expect`.

import { expect } from 'vitest';
import { hex } from './hex.ts';
import type { BootTrace } from './trace/boot-trace.ts';

/** Addresses may be given as numbers. */
type Address = number | bigint;

interface BootMatchers<Result> {
  /** Of a `BootTrace`: the boot reached a kernel, whose first instruction is at this physical address. */
  toEnterKernelAt(address: Address): Result;
  /** Of a `BootTrace`: at no phase of the boot does anything lie in [start, end), nor is anything written there. */
  toKeepFree(start: Address, end: Address): Result;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: the declaration that is merged has it so
  interface Matchers<T = any> extends BootMatchers<T> {}
}

function traceOf(received: unknown): BootTrace {
  const trace = received as Partial<BootTrace> | null | undefined;
  if (typeof trace !== 'object' || trace === null || !Array.isArray(trace.phases)) {
    throw new TypeError('a BootTrace is expected, as boot() and session.trace() give it');
  }
  return trace as BootTrace;
}

expect.extend({
  toEnterKernelAt(received: unknown, address: Address) {
    const { kernel, stopped } = traceOf(received);
    const reached =
      kernel === null ? `no kernel was reached: ${stopped}` : `it was entered at ${hex(kernel.entry)}`;
    return {
      pass: kernel !== null && kernel.entry === BigInt(address),
      message: () =>
        `expected the kernel ${this.isNot ? 'not ' : ''}to be entered at ${hex(BigInt(address))}, and ${reached}`,
    };
  },

  toKeepFree(received: unknown, start: Address, end: Address) {
    const [from, to] = [BigInt(start), BigInt(end)];
    const inTheWay = traceOf(received).phases.flatMap(({ name, regions, overwritten }) =>
      [
        ...regions,
        ...overwritten.map((loss) => ({ ...loss, name: `${loss.region}, overwritten by ${loss.by}` })),
      ]
        .filter((range) => range.start < to && range.end > from)
        .map((range) => `  ${name}: ${range.name} at ${hex(range.start)}..${hex(range.end)}`),
    );
    const range = `${hex(from)}..${hex(to)}`;
    return {
      pass: inTheWay.length === 0,
      message: () =>
        inTheWay.length === 0
          ? `expected something in ${range}, and nothing is there`
          : `expected nothing in ${range}, and there is\n${inTheWay.join('\n')}`,
    };
  },
});
