// KASLR against QEMU: where the kernel's own code put itself there, with the time stamps and the boot_params it read.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { RegisterName } from '../src/cpu/cpu.ts';
import { extractKernel } from '../src/decompressor/extract-kernel.ts';
import { findStub } from '../src/decompressor/find-stub.ts';
import { listedEntropy } from '../src/decompressor/kaslr-entropy.ts';
import { readKernelImage } from '../src/index.ts';
import { PhysicalMemory } from '../src/x86/physical-memory.ts';
import type { Reference } from './compare-with-reference.ts';

interface KaslrReference extends Reference {
  readonly kaslr: {
    readonly entropy: readonly { readonly instruction: 'rdtsc' | 'rdrand'; readonly value: string }[];
    readonly bootParams: string;
  };
}

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const REFERENCES = join(ROOT, 'test/references/kaslr');
const CACHE = join(ROOT, 'images/cache');
/** Fields of boot_params. */
const ACPI_RSDP_ADDR = 0x70;
const CMD_LINE_PTR = 0x228;

const imageOf = new Map(
  (existsSync(CACHE) ? ['built', 'debian'] : [])
    .map((name) => join(CACHE, name))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))))
    .filter((path) => /\/(bzImage|vmlinuz[^/]*)$/.test(path))
    .map((path) => [createHash('sha256').update(readFileSync(path)).digest('hex'), path]),
);

/** An RSDP of ACPI 1.0 without tables, with its checksum right. */
function emptyRsdp(): Uint8Array {
  const rsdp = Buffer.alloc(36);
  rsdp.write('RSD PTR ', 'latin1');
  rsdp[8] = -rsdp.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return rsdp;
}

/** The guest's memory at extract_kernel, as far as the function reads it. */
function guestMemory(reference: KaslrReference, code: Uint8Array, zo: number): Uint8Array {
  const ram = new Uint8Array(reference.machine.ram);
  const bootParams = Buffer.from(reference.kaslr.bootParams, 'base64');
  ram.set(code, zo);
  ram.set(bootParams, Number(reference.kernel.bootParams));
  const rsdp = Number(bootParams.readBigUInt64LE(ACPI_RSDP_ADDR));
  if (rsdp !== 0) ram.set(emptyRsdp(), rsdp);
  ram.set(Buffer.from(`${reference.machine.cmdline}\0`, 'latin1'), bootParams.readUInt32LE(CMD_LINE_PTR));
  return ram;
}

describe('KASLR', () => {
  for (const file of readdirSync(REFERENCES).toSorted()) {
    const reference = JSON.parse(readFileSync(join(REFERENCES, file), 'utf8')) as KaslrReference;
    const path = imageOf.get(reference.image.sha256);
    const why = path === undefined ? ' (skipped: the image is not in images/cache)' : '';
    it.skipIf(path === undefined)(
      `chooses what QEMU's guest chose, ${file.replace('.json', '')}${why}`,
      async () => {
        const image = await readKernelImage(path!, readFileSync(path!));
        const stub = findStub(image)!;
        const phase = (name: string) => reference.phases.find((one) => one.name === name)!;
        const zo = Number(phase('relocated').address) - stub.relocated!;
        const ram = guestMemory(reference, image.protectedModeCode, zo);
        const registers: Readonly<Partial<Record<RegisterName, string>>> = phase('extract_kernel').registers;
        if (stub.bits === 32) {
          // Behind the return address: boot_params and output.
          const stack = new DataView(ram.buffer, Number(registers.rsp));
          stack.setUint32(4, Number(registers.rsi), true);
          stack.setUint32(8, Number(registers.rbp), true);
        }
        const extraction = await extractKernel({
          image,
          stub,
          zo,
          memory: PhysicalMemory.of(ram),
          readRegister: (name) => BigInt(registers[name]!),
          kaslr: {
            kind: 'draw',
            entropy: listedEntropy(reference.kaslr.entropy.map(({ value }) => BigInt(value))),
          },
        });
        expect(extraction.entry).toBe(BigInt(reference.kernel.entry));
        expect(extraction.virtualBase).toBe(BigInt(reference.kernel.virtualBase));
        const hashes = extraction.segments.map(({ paddr, filesz }) =>
          createHash('sha256')
            .update(ram.subarray(Number(paddr), Number(paddr + filesz)))
            .digest('hex'),
        );
        expect(hashes).toEqual(reference.kernel.segments.map(({ sha256 }) => sha256));
      },
    );
  }
});
