// Boots through UEFI firmware that no reference of OVMF's covers: handover, KASLR, five levels of page tables, what goes wrong.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { surveyKaslr } from '../src/boot/kaslr-slots.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import { type BootSession, openBoot } from '../src/boot/session.ts';
import { readEfiImage } from '../src/image/efi-program.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { parseEfiFault } from '../src/machine/uefi/faults.ts';
import type { BootTrace } from '../src/trace/boot-trace.ts';
import { CLOUD_KERNEL, debianKernel } from './debian-kernels.ts';

const KERNEL = debianKernel('6.12', 'amd64');

function kernelTest(path: string, name: string, test: () => Promise<void>): void {
  const missing = existsSync(path) ? '' : ` (left out: ${path} is not there)`;
  it.skipIf(missing !== '')(`${name}${missing}`, test);
}

describe('a boot through UEFI firmware', () => {
  let session: BootSession | null = null;
  afterEach(() => session?.close());

  async function open(path: string, options: Partial<BootOptions>): Promise<BootSession> {
    const image = await readKernelImage(path, readFileSync(path));
    session = await openBoot(image, { entry: 'efi', hash: false, ...options });
    return session;
  }

  async function traceOf(path: string, options: Partial<BootOptions>): Promise<BootTrace> {
    const opened = await open(path, options);
    await opened.run();
    return opened.trace();
  }

  const phasesOf = ({ phases }: BootTrace): readonly string[] => phases.map(({ name }) => name);

  kernelTest(KERNEL, 'tells its phases, and every allocation with the call that asked for it', async () => {
    const trace = await traceOf(KERNEL, {});
    expect(phasesOf(trace)).toEqual([
      ...['efi_pe_entry', 'decompress_kernel', 'decompressed', 'parse_elf', 'exit_boot_services', 'kernel'],
    ]);
    const at = (phase: string) => trace.phases.find(({ name }) => name === phase)!.regions;
    const kernel = at('decompress_kernel').find(({ name }) => name === 'EFI LoaderCode of call 12');
    expect(kernel).toMatchObject({ start: 0x160_0000n, end: 0x4e0_0000n });
    expect(kernel?.source).toMatch(/^AllocatePages from vmlinuz-6\.12\.111\+deb12-amd64\+0x[0-9a-f]+$/);
    expect(at('efi_pe_entry').some(({ name }) => name.startsWith('EFI boot services'))).toBe(true);
    expect(at('kernel').some(({ name }) => name.startsWith('EFI boot services'))).toBe(false);
    expect(at('efi_pe_entry').some(({ name }) => name === 'BIOS ROM')).toBe(false);
    expect(trace.hazards).toEqual([]);
    expect(trace.notices).toEqual([]);
  });

  for (const path of [KERNEL, CLOUD_KERNEL]) {
    kernelTest(path, `enters ${path.replace(/^.*\//, '')} by the handover protocol, too`, async () => {
      const trace = await traceOf(path, { entry: 'efi-handover', cmdline: 'nokaslr' });
      expect(trace.stopped).toBeNull();
      expect(phasesOf(trace).slice(0, 2)).toEqual(['efi_handover_entry', 'decompress_kernel']);
      expect(trace.kernel?.physicalBase).toBe(0x160_0000n);
    });
  }

  kernelTest(KERNEL, 'draws the same address from the same seed, and another from another', async () => {
    const entries: (bigint | undefined)[] = [];
    for (const seed of [1n, 1n, 2n]) {
      const trace = await traceOf(KERNEL, { kaslr: { kind: 'seed', seed } });
      entries.push(trace.kernel?.entry);
      session?.close();
    }
    expect(entries[0]).toBe(entries[1]);
    expect(entries[2]).not.toBe(entries[0]);
    expect(entries[0]).not.toBe(0x160_0b53n);
  });

  for (const [path, entry] of [
    [KERNEL, 'efi'],
    [CLOUD_KERNEL, 'efi-handover'],
  ] as const) {
    const name = path.replace(/^.*\//, '');
    kernelTest(
      path,
      `surveys the slots that the stub of ${name} draws from by itself (${entry})`,
      async () => {
        const image = await readKernelImage(path, readFileSync(path));
        const { slots, draws } = await surveyKaslr(image, { ...DEFAULT_BOOT_OPTIONS, entry, hash: false }, 3);
        expect(slots.areas[0]).toMatchObject({ start: 0x160_0000 });
        if (entry === 'efi') expect(slots.physicalSlots).toBe(183);
        for (const [index, draw] of draws.entries()) {
          const trace = await traceOf(path, { entry, kaslr: { kind: 'seed', seed: BigInt(index + 1) } });
          session?.close();
          expect(trace.kernel?.physicalBase).toBe(BigInt(draw.physical!));
          expect(trace.kernel?.virtualBase).toBe(0xffff_ffff_8000_0000n + BigInt(draw.virtual!));
        }
        expect(draws).toHaveLength(3);
      },
    );
  }

  kernelTest(
    KERNEL,
    'puts the kernel where it is told to, and refuses an address that the stub could not choose',
    async () => {
      const kaslr = { kind: 'forced', physical: 0x800_0000, virtual: 0x200_0000 } as const;
      const trace = await traceOf(KERNEL, { kaslr });
      session?.close();
      expect(trace.kernel).toMatchObject({ physicalBase: 0x800_0000n, virtualBase: 0xffff_ffff_8200_0000n });
      expect(trace.stopped).toBeNull();
      await expect(traceOf(KERNEL, { kaslr: { ...kaslr, physical: 0x120_0000 } })).rejects.toThrow(
        'lies over BootServicesData at 0x900000 to 0x1500000',
      );
      session?.close();
      await expect(traceOf(KERNEL, { kaslr: { ...kaslr, virtual: 0x4000_0000 } })).rejects.toThrow(
        'the forced virtual address 0x40000000 is outside 0x1000000 to',
      );
    },
  );

  kernelTest(KERNEL, "does not take LA57's trampoline for the kernel", async () => {
    const trace = await traceOf(KERNEL, { cpu: 'la57' });
    expect(trace.kernel?.entry).toBe(0x160_0b53n);
    expect((trace.phases.at(-1)!.registers.cr4 & 0x1000n) !== 0n).toBe(true);
  });

  kernelTest(KERNEL, 'hands an initrd over by LoadFile2', async () => {
    const bytes = new Uint8Array(100_000).fill(0x42);
    const opened = await open(KERNEL, { initrd: { path: 'initrd', bytes } });
    await opened.run();
    const loads = opened.events.filter(({ details }) => details.service === 'LoadFile2.LoadFile');
    expect(loads.map(({ details }) => details.status)).toEqual(['BUFFER_TOO_SMALL', 'SUCCESS']);
    const pages = opened.machine.uefi!.allocations.find(({ end, start }) => end - start === 0x19000)!;
    expect([...opened.memory.read(pages.start, 4)]).toEqual([0x42, 0x42, 0x42, 0x42]);
  });

  kernelTest(
    KERNEL,
    'says how much memory is missing where the stub finds no place for the kernel',
    async () => {
      const trace = await traceOf(KERNEL, { memory: 128 * 2 ** 20 });
      expect(trace.console).toContain('Failed to decompress kernel');
      expect(trace.stopped).toContain('the image gave up: it called Exit with OUT_OF_RESOURCES');
      expect(trace.hazards[0]).toMatchObject({ code: 'efi-no-slot' });
      expect(trace.hazards[0]!.text).toMatch(
        /needs 0x3800000 bytes or more .* aligned to 0x200000; the largest .* 0x2575000 bytes/,
      );
    },
  );

  kernelTest(
    KERNEL,
    'goes on where ExitBootServices is refused once, and says so where it is for ever',
    async () => {
      const once = await traceOf(KERNEL, {
        efiFaults: [parseEfiFault('ExitBootServices:1=INVALID_PARAMETER')],
      });
      expect(once.stopped).toBeNull();
      session?.close();
      const ever = await traceOf(KERNEL, {
        efiFaults: [parseEfiFault('ExitBootServices=INVALID_PARAMETER')],
      });
      expect(ever.stopped).toContain('it called Exit with INVALID_PARAMETER');
      expect(ever.hazards.map(({ code }) => code)).toEqual(['efi-exit-refused']);
      expect(ever.hazards[0]!.text).toContain('refused 2 times');
    },
  );

  kernelTest(
    KERNEL,
    'names the bytes that the stub clears where a boot loader allocated the size of the file alone',
    async () => {
      const initrd = { path: 'initrd', bytes: new Uint8Array(200_000).fill(0x42) };
      const options = { entry: 'efi-handover', cmdline: 'nokaslr', initrd } as const;
      const lost = await open(KERNEL, { ...options, handoverRoom: 'file' });
      await lost.run({ until: 'decompress_kernel' });
      const [hazard] = lost.trace().hazards;
      expect(hazard).toMatchObject({ code: 'efi-handover-room' });
      expect(hazard!.text).toMatch(
        /allocated 0xb7e000 bytes .* 0x65000 bytes further.* 0x30d40 bytes of the initrd/,
      );
      expect(hazard!.end - hazard!.start).toBe(200_000n);
      expect([...lost.memory.read(hazard!.start, 4)]).toEqual([0, 0, 0, 0]);
      session?.close();
      const whole = await open(KERNEL, options);
      await whole.run({ until: 'decompress_kernel' });
      // What it was given is no initramfs, and that is all.
      expect(whole.trace().hazards.map(({ code }) => code)).toEqual(['initrd-content']);
    },
  );

  const NX = { efiNx: true, efiProtocols: ['memory-attribute'] } as const;

  kernelTest(
    KERNEL,
    'lets a stub that asks for it run where the firmware keeps data from running, and names code that stays writable',
    async () => {
      const asked = await traceOf(KERNEL, NX);
      expect(asked).toMatchObject({ stopped: null, hazards: [] });
      session?.close();
      // Without the protocol the stub goes by the DXE services, which have no way to make code read-only.
      const writable = await traceOf(KERNEL, { efiNx: true });
      expect(writable.stopped).toBeNull();
      expect(writable.hazards.map(({ code }) => code)).toEqual(['efi-writable-code']);
      expect(writable.hazards[0]!.text).toMatch(/bytes are writable and executable at once: 0x1600000 to 0x/);
    },
  );

  kernelTest(
    KERNEL,
    'stops where a kernel is data to the firmware that keeps data from running, and says whose memory it is',
    async () => {
      const trace = await traceOf(KERNEL, {
        ...NX,
        efiFaults: [parseEfiFault('MemoryAttribute.ClearMemoryAttributes=SUCCESS')],
      });
      expect(trace.stopped).toContain('the guest goes on at 0x1600b53, which the firmware maps as data');
      expect(trace.hazards.map(({ code }) => code)).toEqual(['efi-not-executable']);
      expect(trace.hazards[0]!.text).toMatch(
        /in LoaderCode that vmlinuz\S+ got of AllocatePages \(call 12\)/,
      );
    },
  );

  kernelTest(
    KERNEL,
    'explains the jump to address 0 of a stub that finds neither RDRAND nor a time stamp counter',
    async () => {
      const trace = await traceOf(KERNEL, { cpu: 'no-tsc', kaslr: { kind: 'seed', seed: 1n } });
      expect(trace.stopped).toMatch(/^the EFI stub called address 0: KASLR asks the i8254/);
      expect(trace.hazards.map(({ code }) => code)).toEqual(['efi-no-entropy']);
      session?.close();
      const off = await traceOf(KERNEL, { cpu: 'no-tsc' });
      expect(off).toMatchObject({ stopped: null, hazards: [] });
    },
  );

  kernelTest(KERNEL, 'tells what is measured into a TPM, where there is one', async () => {
    const bytes = new Uint8Array(100).fill(0x42);
    const opened = await open(KERNEL, {
      efiProtocols: ['tcg2'],
      cmdline: 'nokaslr',
      initrd: { path: 'initrd', bytes },
    });
    await opened.run();
    const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
    expect(opened.machine.uefi!.measurements).toEqual([
      {
        ...{ pcr: 9, type: 'EV_EVENT_TAG', description: 'LOADED_IMAGE::LoadOptions', size: 16 },
        sha256: sha256(Buffer.from('nokaslr\0', 'utf16le')),
      },
      { pcr: 9, type: 'EV_EVENT_TAG', description: 'Linux initrd', size: 100, sha256: sha256(bytes) },
    ]);
    const told = opened.events.filter(({ details }) => details.service === 'Tcg2.HashLogExtendEvent');
    expect(told[1]!.text).toContain('PCR 9 EV_EVENT_TAG "Linux initrd", 100 bytes, sha256');
    expect(opened.trace().console).toContain('Measured initrd data into PCR 9');
  });

  const SYSTEMD_BOOT = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi';
  const noSystemdBoot = existsSync(SYSTEMD_BOOT) ? '' : ` (left out: ${SYSTEMD_BOOT} is not there)`;
  it.skipIf(noSystemdBoot !== '')(`runs systemd-boot as far as it goes${noSystemdBoot}`, async () => {
    const image = await readEfiImage(SYSTEMD_BOOT, readFileSync(SYSTEMD_BOOT));
    session = await openBoot(image, { entry: 'efi' });
    await session.run();
    const trace = session.trace();
    expect(phasesOf(trace)).toEqual(['efi_program']);
    expect(trace.console).toContain('No loader found.');
    expect(trace.stopped).toContain('the image returned to the firmware');
  });

  it('refuses a kernel without a PE header, and one without a handover entry', async () => {
    const demo = 'images/demo/demo-lz4.bzImage';
    await expect(open(demo, {})).rejects.toThrow(/no PE header \(CONFIG_EFI_STUB\)/);
    await expect(open(demo, { entry: 'efi-handover' })).rejects.toThrow(/no EFI handover entry/);
  });
});
