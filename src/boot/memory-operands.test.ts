import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import type { ServiceCall } from './instruction-stream.ts';
import type { MemoryOperand } from './memory-operands.ts';
import { type BootSession, openBoot } from './session.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));

interface Executed {
  readonly address: number;
  readonly text: string;
  readonly iterations: number;
  readonly operands: readonly MemoryOperand[];
  readonly call: ServiceCall | null;
}

describeEachEngine('operands in memory', (_, engine) => {
  function open(name: string): Promise<BootSession> {
    const image = readKernelImage(name, readFileSync(join(DEMO, name)));
    return image.then((parsed) =>
      // Watched on a loaded machine it takes longer than a boot may by default.
      openBoot(parsed, {
        ...{ memory: 64 << 20, cmdline: 'nokaslr', engine, shortcuts: false },
        timeoutSeconds: 600,
      }),
    );
  }

  async function executed(name: string): Promise<readonly Executed[]> {
    using session = await open(name);
    const found: Executed[] = [];
    const stream = session.stream<{ readonly address: number; readonly text: string }>({
      syntax: 'gas',
      operands: true,
      describe: ({ address, text }) => ({ address, text }),
      executed: (described, iterations, _changes, { operands, call }) =>
        found.push({ ...described, iterations, operands, call }),
    });
    await session.run();
    stream.finish(Number(session.stop.address));
    return found;
  }

  const key = (address: number, access: string, start: number, size: number): string =>
    `${address.toString(16)} ${access} ${start.toString(16)}+${size}`;

  for (const name of ['demo-lz4.bzImage', 'demo-i386.bzImage']) {
    it(`are those that the engine accesses, in ${name}`, async () => {
      const instructions = await executed(name);
      const told = new Map<number, { text: string; operands: MemoryOperand[] }>();
      for (const { address, text, operands } of instructions) {
        const known = told.get(address);
        if (known === undefined) told.set(address, { text, operands: [...operands] });
        else known.operands.push(...operands);
      }
      const seen = new Set<string>();
      for (const access of ['read', 'write'] as const) {
        using session = await open(name);
        session.observe({ start: 0, end: session.memory.size }, access, ({ by, start, end, instruction }) => {
          if (by !== 'guest') return;
          const address = Number(instruction);
          seen.add(key(address, access, start, end - start));
          const { text, operands } = told.get(address) ?? {
            text: `at ${address.toString(16)}`,
            operands: [],
          };
          const inside = operands.some((operand) => {
            const at = Number(operand.address);
            return operand.access.includes(access) && at <= start && end <= at + operand.size;
          });
          // Descriptors, which the CPU marks as accessed.
          const isDescriptor = /,%[c-gs]s$|^ljmp|^lret|^iret|^ltr/.test(text);
          if (!isDescriptor) expect([text, inside]).toEqual([text, true]);
        });
        await session.run();
      }
      let compared = 0;
      for (const { address, text, iterations, operands } of instructions) {
        for (const { access, address: at, size } of operands) {
          // Others are accessed in several steps, as far pointers are.
          if (![1, 2, 4, 8].includes(size) || iterations !== 1) continue;
          for (const each of ['read', 'write'].filter((part) => access.includes(part))) {
            const wanted = key(address, each, Number(at), size);
            expect([text, wanted, seen.has(wanted)]).toEqual([text, wanted, true]);
            compared++;
          }
        }
      }
      expect(compared).toBeGreaterThan(50);
    });
  }

  it('have the values before and after, and the range of all iterations', async () => {
    const instructions = await executed('demo-lz4.bzImage');
    const find = (pattern: RegExp): Executed => instructions.find(({ text }) => pattern.test(text))!;
    const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
    expect(find(/^cmpl \$0x5a5aaa55/).operands).toMatchObject([
      { access: 'read', size: 4, before: bytes(0x55, 0xaa, 0x5a, 0x5a) },
    ]);
    expect(find(/^call/).operands).toMatchObject([{ access: 'write', size: 2, before: bytes(0, 0) }]);
    const fill = find(/^rep stos/);
    expect(fill.operands).toMatchObject([{ access: 'write', size: fill.iterations * 4, before: null }]);
    const copy = find(/^rep movs[ql]/);
    expect(copy.operands.find(({ access }) => access === 'read')).toMatchObject({ address: 0x100000n });
    expect(find(/^lret/).operands.map(({ size }) => size)).toEqual([4, 4]);
  });

  it('are told with the service that INT n calls, and AH', async () => {
    const calls = (await executed('demo-lz4.bzImage')).flatMap(({ call }) => (call === null ? [] : [call]));
    expect(calls[0]).toEqual({ ah: 0x0e, service: 'INT 10h 0E: teletype output' });
    expect(calls.some(({ service }) => service === 'INT 15h E820: query system address map')).toBe(true);
  });
});
