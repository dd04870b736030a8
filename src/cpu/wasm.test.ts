import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Pointer, Transport } from './transport.ts';
import { findWasmEngine, wasmTransport } from './wasm-file.ts';

const UC_ARCH_X86 = 4;
const UC_MODE_64 = 8;
const UC_PROT_ALL = 7;
const UC_HOOK_INTR = 1;
const RAX = 35;
const RAM_SIZE = 64 << 20;

/** mov eax, value; hlt */
const loadAndHalt = (value: number): number[] => [0xb8, value, 0, 0, 0, 0xf4];

const folder = mkdtempSync(join(tmpdir(), 'bootscope-wasm-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

/** A file with these contents becomes the engine that is found. */
function useScript(name: string, text: string): void {
  const file = join(folder, name);
  writeFileSync(file, text);
  vi.stubEnv('BOOTSCOPE_UNICORN_JS', file);
}

describe('finding the WASM engine', () => {
  it('names a file that does not exist', async () => {
    const file = join(folder, 'none.js');
    vi.stubEnv('BOOTSCOPE_UNICORN_JS', file);
    await expect(wasmTransport()).rejects.toMatchObject({ code: 'cpu-no-engine' });
    await expect(wasmTransport()).rejects.toThrow(
      `BOOTSCOPE_UNICORN_JS names ${file}, which does not exist.`,
    );
  });

  it('refuses a script that is no Unicorn.js module', async () => {
    useScript('number.cjs', 'module.exports = 7;');
    await expect(wasmTransport()).rejects.toThrow(/exports a value of type number, not the factory function/);
  });

  it('refuses a script that does not parse', async () => {
    useScript('broken.cjs', 'module.exports = (;');
    await expect(wasmTransport()).rejects.toThrow(/broken\.cjs cannot be loaded as a Unicorn\.js module/);
  });

  it('names the exports that are missing', async () => {
    useScript(
      'bare.cjs',
      'module.exports = async () => ({ _malloc() {}, _free() {}, addFunction() {}, wasmMemory: { buffer: new ArrayBuffer(8) } });',
    );
    await expect(wasmTransport()).rejects.toThrow(
      /does not export _uc_version, _uc_strerror, .*_uc_context_free;/,
    );
  });

  it('takes an ES module as well', async () => {
    useScript('module.mjs', 'export default async () => { throw new Error("no luck"); };');
    await expect(wasmTransport()).rejects.toThrow(
      /module\.mjs does not start as a Unicorn\.js module: .*no luck/,
    );
  });
});

const engineFile = findWasmEngine();
const script = engineFile !== null && existsSync(engineFile) ? readFileSync(engineFile, 'latin1') : null;

/** Ways in which builds of the same module differ, made from the one that is there. */
const BUILDS: readonly { readonly name: string; readonly change: (text: string) => string }[] = [
  { name: 'as it is', change: (text) => text },
  {
    name: 'without uc_ctl, as version 2.1.4',
    change: (text) =>
      text.replaceAll(/Module\["_uc_ctl"\]|Module\['_uc_ctl'\]|Module\._uc_ctl/g, 'Module["absent"]'),
  },
  {
    name: 'that shows none of its memory and embeds its code in an unknown way',
    change: (text) =>
      text
        .replace(/(["'`])AGFzbQEAAAA/, '$1AGFz$1+$1bQEAAAA')
        .replaceAll(/Module\[["'](?:HEAPU8|wasmMemory)["']\]/g, 'Module["absent"]'),
  },
];

describe.skipIf(script === null)(
  `the WASM binding${script === null ? ' (left out: neither BOOTSCOPE_UNICORN_JS nor @alexaltea/unicorn-js is there)' : ''}`,
  () => {
    describe.each(BUILDS)('of a build $name', ({ name, change }) => {
      let transport: Transport;
      let ram: Pointer;
      let scratch: Pointer;
      const put = (address: number, bytes: readonly number[]) =>
        transport.view(ram, RAM_SIZE).set(bytes, address);
      const rax = () => {
        transport.regRead(RAX, scratch);
        return transport.view(scratch, 1)[0];
      };
      const run = (address: number) => transport.emuStart(BigInt(address), 0n);

      beforeEach(async () => {
        useScript(`${BUILDS.findIndex((build) => build.name === name)}.cjs`, change(script ?? ''));
        transport = await wasmTransport();
        expect(transport.open(UC_ARCH_X86, UC_MODE_64)).toBe(0);
        ram = transport.allocate(RAM_SIZE)!;
        scratch = transport.allocate(4096)!;
        expect(transport.memMapPtr(0n, RAM_SIZE, UC_PROT_ALL, ram)).toBe(0);
      });
      afterEach(() => {
        transport.close();
      });

      it('runs code that JavaScript put into RAM', () => {
        put(0x1000, loadAndHalt(42));
        expect(run(0x1000)).toBe(0);
        expect(rax()).toBe(42);
      });

      it('gives RAM that is page-aligned and zero', () => {
        expect(ram % 4096).toBe(0);
        expect(Buffer.from(transport.view(ram, RAM_SIZE)).equals(Buffer.alloc(RAM_SIZE))).toBe(true);
      });

      it('goes on with a stale translation until removeCache drops it', () => {
        for (const value of [1, 2, 3]) {
          put(0x1000, loadAndHalt(value));
          expect(transport.removeCache(0x1000n, 0x1006n)).toBe(0);
          run(0x1000);
          expect(rax()).toBe(value);
        }
      });

      it('drops translations anywhere in a range, and of a block that only ends in it', () => {
        const places = [0x0f_fffc, 0x20_0000, 0x2ff_fffe];
        for (const value of [1, 2]) {
          for (const place of places) put(place, loadAndHalt(value));
          transport.removeCache(0x10_0000n, 0x300_0000n);
          for (const place of places) {
            run(place);
            expect(rax()).toBe(value);
          }
        }
      });

      it('drops all translations with flushCache', () => {
        put(0x1000, loadAndHalt(1));
        put(0x300_0000, loadAndHalt(1));
        run(0x1000);
        run(0x300_0000);
        put(0x1000, loadAndHalt(2));
        put(0x300_0000, loadAndHalt(3));
        expect(transport.flushCache()).toBe(0);
        run(0x1000);
        expect(rax()).toBe(2);
        run(0x300_0000);
        expect(rax()).toBe(3);
      });

      it('drops a translation from within the interrupt hook', () => {
        // mov eax, 8; int 0x80; jmp back
        put(0x2000, [0xb8, 8, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7]);
        transport.hookAdd('interrupt', UC_HOOK_INTR, 1n, 0n, 0, () => {
          put(0x2000, loadAndHalt(9));
          transport.removeCache(0x2000n, 0x2006n);
        });
        expect(run(0x2000)).toBe(0);
        expect(rax()).toBe(9);
      });

      it('keeps RAM and translations when the heap grows', () => {
        put(0x1000, loadAndHalt(5));
        const before = transport.view(ram, RAM_SIZE);
        expect(transport.allocate(700 << 20)).not.toBeNull();
        expect(before.byteLength).toBe(0);
        expect(transport.view(ram, RAM_SIZE)[0x1001]).toBe(5);
        run(0x1000);
        expect(rax()).toBe(5);
      });

      it('says how large a saved CPU state is', () => {
        expect(transport.contextSize()).toBeGreaterThan(1024);
        expect(transport.contextSize()).toBeLessThan(0x10_0000);
      });
    });

    it('maps nearly 2 GiB of RAM without touching it', async () => {
      vi.stubEnv('BOOTSCOPE_UNICORN_JS', engineFile ?? '');
      const transport = await wasmTransport();
      transport.open(UC_ARCH_X86, UC_MODE_64);
      const size = 1900 << 20;
      const before = process.memoryUsage().rss;
      const ram = transport.allocate(size)!;
      expect(transport.memMapPtr(0n, size, UC_PROT_ALL, ram)).toBe(0);
      transport.view(ram, size).set(loadAndHalt(7), size - 4096);
      expect(transport.emuStart(BigInt(size - 4096), 0n)).toBe(0);
      expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
      expect(transport.allocate(1 << 30)).toBeNull();
      transport.close();
    });

    it('says what broke it down', async () => {
      vi.stubEnv('BOOTSCOPE_UNICORN_JS', engineFile ?? '');
      const transport = await wasmTransport();
      transport.open(UC_ARCH_X86, UC_MODE_64);
      const ram = transport.allocate(4096)!;
      transport.memMapPtr(0n, 4096, UC_PROT_ALL, ram);
      // A page of `add %al, (%rax)`. A build that can translate it runs to its end.
      const error = transport.emuStart(0n, 4096n);
      if (error === 0) expect(transport.broken).toBeNull();
      else expect(transport.broken).toMatch(/./);
    });

    it('leaves no handlers of its own in the process', async () => {
      vi.stubEnv('BOOTSCOPE_UNICORN_JS', engineFile ?? '');
      const before = process.listenerCount('unhandledRejection') + process.listenerCount('uncaughtException');
      (await wasmTransport()).close();
      expect(process.listenerCount('unhandledRejection') + process.listenerCount('uncaughtException')).toBe(
        before,
      );
    });
  },
);
