// PVH as Bootscope and QEMU enter it: the state of the CPU at the kernel's first instruction, and what hvm_start_info says.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { QemuMachine } from '../scripts/reference/qemu-machine.ts';
import { extractVmlinux } from '../src/image/extract-vmlinux.ts';
import { boot, DEFAULT_BOOT_OPTIONS, openBoot, readKernelImage } from '../src/index.ts';
import { MACHINE_MODELS } from '../src/machine/memory-map.ts';
import { readHvmStartInfo } from '../src/protocol/pvh.ts';
import { findRsdp } from '../src/trace/decode/acpi.ts';
import { PhysicalMemory } from '../src/x86/physical-memory.ts';
import { CLOUD_KERNEL, debianKernel } from './debian-kernels.ts';
import { noQemu } from './witnesses.ts';

const KERNELS = [CLOUD_KERNEL, debianKernel('6.12', 'amd64')];
const MEMORY = 6 * 2 ** 30;
const CMDLINE = 'console=ttyS0 nokaslr';
const INITRD = new TextEncoder().encode('070701 not much of an initrd'.padEnd(0x3000, '.'));
const CR0_PG_PE = 0x8000_0001n;
const FLAG_IF_TF = 0x300n;

const folder = mkdtempSync(join(tmpdir(), 'bootscope-pvh-'));
afterAll(() => rmSync(folder, { recursive: true }));

function textAt(memory: PhysicalMemory, address: number): string {
  const bytes = memory.viewUpTo(address, 4096);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

/** What both have to say alike. */
function described(memory: PhysicalMemory, startInfo: number) {
  const info = readHvmStartInfo(memory, startInfo)!;
  return {
    flags: info.flags,
    modules: info.modules.map(({ size }) => size),
    commandLine: textAt(memory, info.commandLine),
    memoryMap: info.memoryMap,
  };
}

type Read = (address: number, size: number) => Promise<Uint8Array>;

/** The tables by their names, without what follows from where they lie; of the DSDT, which is bytecode, the header. */
async function acpiTables(read: Read, rsdp: number): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const bytesAt = async (address: number, size: number) => Buffer.from(await read(address, size));
  const table = async (address: number): Promise<Buffer> => {
    const header = await bytesAt(address, 36);
    const bytes = await bytesAt(address, header.readUInt32LE(4));
    expect(bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
    const name = bytes.toString('latin1', 0, 4);
    const shown = Buffer.from(name === 'DSDT' ? bytes.subarray(0, 36) : bytes);
    shown[9] = 0;
    if (name === 'DSDT') shown.writeUInt32LE(36, 4);
    if (name === 'FACP') {
      shown.fill(0, 36, 44);
      if (shown.length > 140) shown.fill(0, 132, 148);
    }
    found[name] = shown.toString('hex', 0, /^[RX]SDT$/.test(name) ? 36 : shown.length);
    return bytes;
  };
  const pointer = await bytesAt(rsdp, 36);
  const extended = pointer[15]! >= 2;
  const size = extended ? 36 : 20;
  expect(pointer.subarray(0, 20).reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
  found.RSDP = `${pointer.toString('latin1', 0, 8)} ${pointer.toString('latin1', 9, 15)} ${pointer[15]} ${size}`;
  const root = await table(extended ? Number(pointer.readBigUInt64LE(24)) : pointer.readUInt32LE(16));
  for (let at = 36; at < root.length; at += extended ? 8 : 4) {
    const bytes = await table(extended ? Number(root.readBigUInt64LE(at)) : root.readUInt32LE(at));
    if (bytes.toString('latin1', 0, 4) !== 'FACP') continue;
    await table(bytes.readUInt32LE(40));
    const control = bytes.readUInt32LE(36);
    if (control !== 0) found.FACS = (await bytesAt(control, 64)).toString('hex');
  }
  return found;
}

describe('PVH', () => {
  for (const path of KERNELS) {
    const why = !existsSync(path)
      ? ' (skipped: it is not in images/cache)'
      : noQemu === null
        ? ''
        : ` (skipped: ${noQemu})`;
    it.skipIf(why !== '')(`enters the vmlinux in ${basename(path)} as QEMU does${why}`, async () => {
      const image = await readKernelImage(path, readFileSync(path));
      const initrd = join(folder, 'initrd');
      writeFileSync(initrd, INITRD);
      const ours = await boot(image, {
        ...DEFAULT_BOOT_OPTIONS,
        ...{ entry: 'pvh', memory: MEMORY, cmdline: CMDLINE, initrd: { path: initrd, bytes: INITRD } },
      });
      const vmlinux = join(folder, 'vmlinux');
      writeFileSync(vmlinux, (await extractVmlinux(image)).bytes);
      const { entry, segments } = ours.trace.kernel!;
      const qemu = await QemuMachine.start(
        {
          ...{ start: 'kernel', image: vmlinux, cmdline: CMDLINE, initrd, cpu: 'qemu64', timeout: 120_000 },
          memoryMegabytes: MEMORY / 2 ** 20,
        },
        true,
      );
      try {
        await qemu.runTo([entry]);
        const theirs = await qemu.registers();
        const { registers, mode } = ours.trace.phases.at(-1)!;
        expect(theirs.mode).toBe('prot32');
        expect(mode).toBe('prot32');
        for (const { cr0, rflags, cr4 } of [theirs.values, registers]) {
          expect([cr0 & CR0_PG_PE, rflags & FLAG_IF_TF, cr4]).toEqual([1n, 0n, 0n]);
        }
        const low = PhysicalMemory.of(await qemu.readPhysical(0n, 0x100000));
        expect(described(ours.machine.memory, Number(registers.rbx))).toEqual(
          described(low, Number(theirs.values.rbx)),
        );
        const first = segments[0]!;
        const loaded = await qemu.readPhysical(first.paddr, 0x10000);
        expect(Buffer.compare(loaded, ours.machine.memory.view(Number(first.paddr), 0x10000))).toBe(0);
      } finally {
        await qemu.close();
        ours.close();
      }
    });
  }

  const noCloud = !existsSync(CLOUD_KERNEL)
    ? ' (skipped: no cloud kernel is in images/cache)'
    : noQemu === null
      ? ''
      : ` (skipped: ${noQemu})`;
  for (const machine of MACHINE_MODELS) {
    it.skipIf(noCloud !== '')(`has the ACPI tables of QEMU's ${machine}${noCloud}`, async () => {
      const image = await readKernelImage(CLOUD_KERNEL, readFileSync(CLOUD_KERNEL));
      using ours = await openBoot(image, { entry: 'pvh', machine, memory: 64 << 20 });
      const vmlinux = join(folder, 'vmlinux-acpi');
      writeFileSync(vmlinux, (await extractVmlinux(image)).bytes);
      const qemu = await QemuMachine.start(
        {
          ...{ start: 'kernel', image: vmlinux, cmdline: '', initrd: null, cpu: 'qemu64', timeout: 120_000 },
          ...{ memoryMegabytes: 64, extra: ['-machine', machine] },
        },
        true,
      );
      try {
        await qemu.runTo([ours.registers.rip]);
        const { rbx } = (await qemu.registers()).values;
        const low = PhysicalMemory.of(await qemu.readPhysical(0n, 0x100000));
        const theirs = await acpiTables(
          async (address, size) => qemu.readPhysical(BigInt(address), size),
          readHvmStartInfo(low, Number(rbx))!.rsdp,
        );
        const { rsdp } = readHvmStartInfo(ours.machine.memory, Number(ours.registers.rbx))!;
        expect(await acpiTables(async (address, size) => ours.memory.read(address, size), rsdp)).toEqual(
          theirs,
        );
        expect(findRsdp(ours.memory)).toBe(rsdp);
      } finally {
        await qemu.close();
      }
    });
  }

  it.skipIf(!existsSync(CLOUD_KERNEL))(
    `leaves ACPI's root pointer out where the memory map is somebody else's${existsSync(CLOUD_KERNEL) ? '' : ' (skipped: no cloud kernel is in images/cache)'}`,
    async () => {
      const image = await readKernelImage(CLOUD_KERNEL, readFileSync(CLOUD_KERNEL));
      const memoryMap = [{ address: 0n, size: 0x2000_0000n, type: 1 }];
      using ours = await openBoot(image, { entry: 'pvh', memoryMap });
      expect(readHvmStartInfo(ours.machine.memory, Number(ours.registers.rbx))!.rsdp).toBe(0);
      expect(findRsdp(ours.memory)).toBeNull();
    },
  );

  for (const path of KERNELS) {
    const name = basename(path);
    const why = existsSync(path) ? '' : ' (skipped: it is not in images/cache)';
    it.skipIf(why !== '')(
      `follows ${name} through its own start to where it leaves what is mapped to itself${why}`,
      async () => {
        const image = await readKernelImage(path, readFileSync(path));
        const ours = await boot(image, { ...DEFAULT_BOOT_OPTIONS, entry: 'pvh', hash: false });
        const { events, stopped, notices, bootParams } = ours.trace;
        // Unicorn 2.0 runs only what is mapped to itself, and cannot even jump away from it.
        const isConfined = ours.machine.cpu.engineVersion.startsWith('2.0.');
        const confined = [
          expect.stringMatching(/own start was followed up to .+, and Unicorn 2\.0\.\d does not/),
        ];
        expect({ stopped, notices, bootParams }).toEqual({
          ...{ stopped: null, notices: isConfined ? confined : [], bootParams: null },
        });
        expect(events.filter(({ kind }) => kind === 'mode').map(({ text }) => text)).toEqual([
          'prot32 to compat32',
          'compat32 to long64',
        ]);
        const loads = events
          .filter(({ kind }) => kind === 'control-register')
          .map(({ details }) => details.register);
        expect(loads).toEqual(['cr4', 'cr3', 'cr0']);
        // The next instruction lies in the upper half of linear addresses.
        expect(ours.machine.cpu.readRegister('rip') >> 63n).toBe(1n);
        ours.close();
      },
    );
  }

  it('is refused for a kernel without the note, with the reason', async () => {
    const demo = fileURLToPath(new URL('../images/demo/demo-gzip.bzImage', import.meta.url));
    const image = await readKernelImage(demo, readFileSync(demo));
    await expect(boot(image, { ...DEFAULT_BOOT_OPTIONS, entry: 'pvh' })).rejects.toMatchObject({
      code: 'boot-pvh',
      message: expect.stringContaining('has no Xen note with a PVH entry (PHYS32_ENTRY)'),
    });
  });
});
