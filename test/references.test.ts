// Bootscope against QEMU: the references that are committed, and fresh ones where QEMU is installed.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { QemuMachine } from '../scripts/reference/qemu-machine.ts';
import { hex } from '../src/hex.ts';
import { type BootOptions, boot, DEFAULT_BOOT_OPTIONS, readKernelImage } from '../src/index.ts';
import { differences, type Reference } from './compare-with-reference.ts';
import { noQemu } from './witnesses.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const REFERENCES = join(ROOT, 'test/references');
const DEMO = join(ROOT, 'images/demo');
const CACHE = join(ROOT, 'images/cache');
const COLLECTED = join(CACHE, 'references');

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

function filesIn(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => pattern.test(path));
}

function readReference(path: string): Reference {
  return JSON.parse(readFileSync(path, 'utf8')) as Reference;
}

const demoImages = filesIn(DEMO, /Image$/).toSorted();
const builtKernels = filesIn(join(CACHE, 'built'), /\/bzImage$/).toSorted();
const imageOf = new Map(
  [...demoImages, ...builtKernels, ...filesIn(join(CACHE, 'debian'), /\/vmlinuz[^/]*$/)].map((path) => [
    sha256(path),
    path,
  ]),
);

/** AMD's HyperTransport range below 1 TiB: QEMU tells of it always, this machine where there is RAM above 4 GiB. */
const HYPER_TRANSPORT = '0xfd00000000 0x10000000000 2';
const FOUR_GIB = 2 ** 32;

function isTold(line: string, ram: number): boolean {
  return ram >= FOUR_GIB || line !== HYPER_TRANSPORT;
}

async function compare(path: string, reference: Reference, options: Partial<BootOptions>): Promise<string[]> {
  const image = await readKernelImage(path, readFileSync(path));
  const { ram, entry, cmdline, model = 'pc', memoryMap } = reference.machine;
  const made = { ...DEFAULT_BOOT_OPTIONS, machine: model, memory: ram, entry, cmdline, ...options };
  const finished = await boot(image, made);
  try {
    const map = finished.machine.memoryMap.map(
      ({ address, size, type }) => `${hex(address)} ${hex(address + size)} ${type}`,
    );
    if (memoryMap !== undefined) expect(map).toEqual(memoryMap.filter((line) => isTold(line, ram)));
    return differences(finished.trace, reference);
  } finally {
    finished.close();
  }
}

async function collect(image: string, output: string, ...options: string[]): Promise<Reference> {
  mkdirSync(dirname(output), { recursive: true });
  const part = `${output}.${process.pid}.part`;
  await promisify(execFile)(join(ROOT, 'scripts/collect-reference'), [image, '-o', part, ...options]);
  renameSync(part, output);
  return readReference(output);
}

describe('the committed references', () => {
  for (const file of readdirSync(REFERENCES)
    .filter((name) => name.endsWith('.json'))
    .toSorted()) {
    const reference = readReference(join(REFERENCES, file));
    const path = imageOf.get(reference.image.sha256);
    const name = basename(reference.image.path);
    const { entry, model = 'pc', ram } = reference.machine;
    const way = `${entry} on ${model} with ${ram / 2 ** 20} MiB`;
    it.skipIf(path === undefined)(
      `${name} boots from ${way} as in QEMU${path === undefined ? ' (skipped: the image is not in images/cache)' : ''}`,
      async () => {
        expect(await compare(path!, reference, {})).toEqual([]);
      },
    );
    it.skipIf(!path?.startsWith(DEMO))(
      `${name} boots from ${way} as in QEMU with its own decompressor`,
      async () => {
        expect(await compare(path!, reference, { decompress: 'emulated' })).toEqual([]);
      },
    );
  }
});

describe.skipIf(noQemu !== null)(
  `QEMU on this machine${noQemu === null ? '' : ` (skipped: ${noQemu})`}`,
  () => {
    for (const path of demoImages) {
      it(`${basename(path)} boots as in Bootscope`, async () => {
        const reference = await collect(path, join(COLLECTED, 'live', `${basename(path)}.json`));
        expect(await compare(path, reference, {})).toEqual([]);
      });
      it(`${basename(path)} reaches its kernel's last line`, async () => {
        const machine = await QemuMachine.start(
          {
            start: 'kernel',
            image: path,
            cmdline: '',
            initrd: null,
            memoryMegabytes: 64,
            cpu: 'qemu64',
            timeout: 30_000,
          },
          false,
        );
        try {
          const seen = async () => {
            while (!machine.serialOutput().includes('\n')) await sleep(20);
            return machine.serialOutput();
          };
          expect(await Promise.race([seen(), machine.gone])).toMatch(
            /^Bootscope demo kernel, .*data intact, at 0x/,
          );
        } finally {
          await machine.close();
        }
      });
    }

    it('the zImage boots from a floppy as in Bootscope', async () => {
      const path = join(DEMO, 'demo.zImage');
      const output = join(COLLECTED, 'live', 'demo.zImage.floppy.json');
      expect(await compare(path, await collect(path, output, '--start', 'floppy'), {})).toEqual([]);
    });

    for (const path of builtKernels) {
      it(`the built kernel ${basename(dirname(path))} boots as in Bootscope`, async () => {
        const output = join(COLLECTED, `${sha256(path)}.json`);
        const reference = existsSync(output) ? readReference(output) : await collect(path, output);
        expect(await compare(path, reference, {})).toEqual([]);
      });
    }
  },
);
