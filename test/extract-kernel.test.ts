// extract_kernel in TypeScript against the guest's own code: both run from the same memory, and leave the same bytes and ports.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { enterLongMode, enterProtectedMode } from '../src/cpu/enter-mode.ts';
import { openCpu } from '../src/cpu/open.ts';
import { type ArgumentRegister, extractKernel } from '../src/decompressor/extract-kernel.ts';
import { findStubDetails } from '../src/decompressor/find-stub.ts';
import { findKaslr } from '../src/decompressor/kaslr-generation.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { PhysicalMemory } from '../src/x86/physical-memory.ts';
import { leftOut } from './witnesses.ts';

const BUILT = fileURLToPath(new URL('../images/cache/built', import.meta.url));
const RAM = 256 << 20;
const BOOT_PARAMS = 0x90000;
const COMMAND_LINE = 0x99000;
const ARGUMENTS: readonly ArgumentRegister[] = ['rdi', 'rsi', 'rdx', 'rcx', 'r8', 'r9', 'rsp', 'cr3', 'cr4'];
/** i8254 counts: the CPU here has neither RDRAND nor a TSC, so that the guest's entropy is known. */
const COUNTS = [12345, 54321];

/** boot_params as setup leaves them: header, an 80x25 screen, 255 MiB of memory, a command line. */
function writeBootParams(ram: Uint8Array, header: Uint8Array, commandLine: string): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  ram.set(header, BOOT_PARAMS + 0x1f1);
  ram.set([5, 20], BOOT_PARAMS);
  ram.set([3, 80], BOOT_PARAMS + 6);
  ram[BOOT_PARAMS + 0x0e] = 25;
  const map = [
    [0, 0x9fc00, 1],
    [0x100000, 0xfe00000, 1],
    [0xff00000, 0x100000, 2],
  ] as const;
  ram[BOOT_PARAMS + 0x1e8] = map.length;
  for (const [index, [address, size, type]] of map.entries()) {
    view.setBigUint64(BOOT_PARAMS + 0x2d0 + 20 * index, BigInt(address), true);
    view.setBigUint64(BOOT_PARAMS + 0x2d8 + 20 * index, BigInt(size), true);
    view.setUint32(BOOT_PARAMS + 0x2e0 + 20 * index, type, true);
  }
  ram.set(Buffer.from(`${commandLine}\0`, 'latin1'), COMMAND_LINE);
  view.setUint32(BOOT_PARAMS + 0x228, COMMAND_LINE, true);
}

/** The 4 GiB of identity map that startup_32 of a 64-bit stub builds. */
function writePageTables(ram: Uint8Array, at: number): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setBigUint64(at, BigInt(at + 0x1007), true);
  for (let index = 0; index < 4; index++) {
    view.setBigUint64(at + 0x1000 + 8 * index, BigInt(at + 0x2007 + 0x1000 * index), true);
  }
  for (let index = 0; index < 2048; index++) {
    view.setBigUint64(at + 0x2000 + 8 * index, BigInt(index * 0x200000 + 0x183), true);
  }
}

/** An i8254 with given counts and a serial port that keeps what it gets. */
function makePorts() {
  const counts = [...COUNTS];
  let count = 0;
  let reads = 0;
  const sent: number[] = [];
  return {
    sent,
    nextCount: () => counts.shift() ?? 0,
    write(port: number, value: number): void {
      if (port === 0x3f8) sent.push(value);
      if (port === 0x43 && value === 0xc2) {
        count = counts.shift() ?? 0;
        reads = 0;
      }
    },
    read(port: number): number {
      if (port === 0x3fd) return 0x20;
      if (port !== 0x40) return 0;
      reads++;
      return reads === 1 ? 0 : reads === 2 ? count & 0xff : count >> 8;
    },
  };
}

async function compare(name: string, draw: boolean): Promise<void> {
  const image = await readKernelImage(name, readFileSync(join(BUILT, name, 'bzImage')));
  const details = findStubDetails(image)!;
  const { layout: stub } = details;
  const output = image.header.get('pref_address');
  const zo = output + image.header.get('init_size') - details.end!;
  const cpu = await openCpu();
  try {
    cpu.mapRam(0, RAM);
    const initial = cpu.ram(0);
    initial.set(image.protectedModeCode, zo);
    writeBootParams(
      initial,
      image.bytes.subarray(0x1f1, 0x268),
      `${draw ? '' : 'nokaslr '}earlyprintk=serial,ttyS0,115200`,
    );
    const tables = zo + (details.pageTable ?? 0);
    if (stub.bits === 64) writePageTables(initial, tables);

    const guest = makePorts();
    cpu.hookOut((port, _size, value) => guest.write(port, value));
    cpu.hookIn((port) => guest.read(port));
    cpu.hookCpuid((leaf) => (leaf === 0 ? [1, 0, 0, 0] : leaf === 1 ? [0x600, 0, 0, 1] : [0, 0, 0, 0]));
    let before: Uint8Array | null = null;
    const registers = new Map<ArgumentRegister, bigint>();
    const entry = BigInt(zo + stub.extractKernel);
    cpu.hookCode(entry, entry, () => {
      if (before !== null) return;
      before = cpu.ram(0).slice();
      for (const register of ARGUMENTS) registers.set(register, cpu.readRegister(register));
    });
    const back = BigInt(zo + stub.returnSite);
    cpu.hookCode(back, back, () => cpu.stop());
    const state = {
      rsi: BigInt(BOOT_PARAMS),
      r15: BigInt(BOOT_PARAMS),
      rbp: BigInt(output),
      rbx: BigInt(zo + details.displacementBase),
      rsp: BigInt(zo + details.stackEnd! - 64),
      gdtAddress: 0x60000,
    };
    const start = zo + stub.relocated!;
    if (stub.bits === 64) {
      enterLongMode(cpu, { ...state, rip: BigInt(start), cr3: BigInt(tables) });
    } else {
      enterProtectedMode(cpu, { ...state, eip: start });
    }
    expect(cpu.run().kind).toBe('stopped');
    const result = cpu.readRegister('rax');
    const left = cpu.ram(0).slice();

    const ours = makePorts();
    const ram = before!;
    const extraction = await extractKernel({
      image,
      stub,
      zo,
      memory: PhysicalMemory.of(ram),
      readRegister: (register) => registers.get(register)!,
      ports: ours,
      kaslr: draw
        ? { kind: 'draw', entropy: { rdrand: () => null, rdtsc: () => null, i8254: ours.nextCount } }
        : { kind: 'off' },
    });
    expect(extraction.returnValue.toString(16)).toBe(BigInt.asUintN(stub.bits, result).toString(16));
    expect(Buffer.from(ours.sent).toString()).toBe(Buffer.from(guest.sent).toString());
    expect(extraction.relocations.relocations32 > 0).toBe(draw);
    // The function's own variables, heap and stack are its own; its page tables are not.
    const scratch = { start: zo + details.bss!.start - 0x10000, end: zo + details.bss!.end };
    const different: string[] = [];
    for (let page = 0; page < RAM; page += 4096) {
      if (page + 4096 > scratch.start && page < scratch.end) continue;
      if (Buffer.compare(left.subarray(page, page + 4096), ram.subarray(page, page + 4096)) !== 0) {
        different.push(`0x${page.toString(16)}`);
      }
    }
    expect(different).toEqual([]);
  } finally {
    cpu.close();
  }
}

describe('extract_kernel leaves what the guest’s own function leaves', () => {
  for (const name of ['x64-lz4', 'x64-verbose', 'i386-lz4']) {
    const built = existsSync(join(BUILT, name, 'bzImage'));
    const why = built ? leftOut : 'scripts/build-kernels did not build it';
    const there = why === null;
    const left = there ? '' : ` (left out: ${why})`;
    it.skipIf(!there)(`${name} where it was linked to${left}`, () => compare(name, false));
    it.skipIf(!there)(`${name} at a random location${left}`, async () => {
      const image = await readKernelImage(name, readFileSync(join(BUILT, name, 'bzImage')));
      expect(findKaslr(image, findStubDetails(image)!.layout)).not.toBeNull();
      await compare(name, true);
    });
  }
});
