// Boots by EFI, compared with what QEMU and OVMF did with the same image (scripts/collect-reference --efi): every service call,
// every address, boot_params, the CPU, and the kernel's memory.

import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryMapFor } from '../src/boot/entries/efi.ts';
import { handoverMap } from '../src/boot/entries/efi-handover.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../src/boot/options.ts';
import { type BootSession, openBoot } from '../src/boot/session.ts';
import type { RegisterName } from '../src/cpu/cpu.ts';
import { findEfiSlots } from '../src/decompressor/efi-slots.ts';
import { type KernelImage, readKernelImage } from '../src/image/kernel-image.ts';
import { BootParams } from '../src/protocol/boot-params.ts';
import { parseEfiMemoryMap } from '../src/protocol/efi-memory-map.ts';
import type { EntryPoint } from '../src/trace/boot-trace.ts';
import { makeUki, missingForUki } from './make-uki.ts';

const REFERENCES = 'test/references/efi';
/** Where `scripts/setup` puts kernels, and where those of other releases may be that nothing fetches. */
const FOLDERS = ['images/cache/debian', ...(process.env.BOOTSCOPE_EFI_IMAGES?.split(':') ?? [])];

/** Of the Unified Kernel Image that is made here. */
const UKI_KERNEL = 'images/cache/debian/vmlinuz-6.12.111+deb12-amd64';

interface EfiReference {
  readonly image: { readonly path: string; readonly sha256: string };
  readonly machine: { readonly ram: number; readonly cmdline: string; readonly entry: EntryPoint };
  readonly efi: {
    readonly imageBase: string;
    readonly systemTable: string;
    readonly registers: Readonly<Record<RegisterName, string>>;
    readonly gdtr: { readonly base: string; readonly limit: number };
    readonly idtr: { readonly base: string; readonly limit: number };
    readonly memoryMap: readonly string[];
    readonly calls: readonly {
      readonly service: string;
      readonly arguments: Readonly<Record<string, string>>;
      readonly status: string;
      readonly results: Readonly<Record<string, string>>;
      readonly from: string;
    }[];
    /** What RDTSC gave in the stub; missing in older references. */
    readonly timeStamps?: readonly string[];
  };
  /** Where the boot loader has put what the handover protocol asks for. */
  readonly handover?: Readonly<Record<'code' | 'commandLine' | 'bootParams', string>>;
  readonly atKernel: {
    readonly registers: Readonly<Record<RegisterName, string>>;
    readonly gdtr: { readonly base: string; readonly limit: number };
    readonly idtr: { readonly base: string; readonly limit: number };
  };
  readonly kernel: {
    readonly entry: string;
    readonly segments: readonly {
      readonly paddr: string;
      readonly filesz: string;
      readonly sha256: string;
    }[];
  };
  readonly bootParams: { readonly address: string; readonly bytes: string };
}

/** Registers that a call may leave anything in: what OVMF's own code left there. */
const LEFT_BY_FIRMWARE: readonly RegisterName[] = ['r8', 'r9', 'r10', 'r11'];
/** The same for extract_kernel, in stubs that leave decompressing to it: it is done in TypeScript. */
const LEFT_BY_EXTRACT_KERNEL: readonly RegisterName[] = ['rcx', 'rdx', 'rdi', 'rflags', 'cr2'];
/**
 * QEMU fills in the setup header of the file that it hands to OVMF as its own loader would: CAN_USE_HEAP in loadflags, and
 * heap_end_ptr. Stubs that copy the header into boot_params carry that on.
 */
const FILLED_IN_BY_QEMU: readonly number[] = [0x211, 0x224, 0x225];
/** Boot and runtime services, and of protocols the one that the recorder follows. */
const FOLLOWED = /^(?:[^.]+|Rng\.GetRNG)$/;
const AT_ENTRY: readonly RegisterName[] = [
  ...(['rip', 'rsp', 'rdx', 'cr0', 'cr3', 'cr4'] as const),
  ...(['cs', 'ds', 'es', 'fs', 'gs', 'ss'] as const),
];

function imagesBySha(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const folder of FOLDERS) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      found.set(createHash('sha256').update(readFileSync(path)).digest('hex'), path);
    }
  }
  if (existsSync(UKI_KERNEL) && missingForUki() === null) {
    const path = join(scratch, 'uki.efi');
    makeUki(UKI_KERNEL, path, scratch);
    found.set(createHash('sha256').update(readFileSync(path)).digest('hex'), path);
  }
  return found;
}

const MAPS = readdirSync(REFERENCES).filter((file) => file.includes('-map-'));
/** Of Debian's 6.12. */
const SLOTS = { allocation: 0x380_0000, commandLine: '', softReserve: false } as const;

const scratch = mkdtempSync(join(tmpdir(), 'bootscope-uki-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const images = imagesBySha();

/** A machine with a source of random numbers has another map than one without: the recorded one; and KASLR draws what it drew. */
function recordedChoice({ efi }: EfiReference): Partial<BootOptions> {
  const random = efi.calls.filter(({ service }) => service === 'Rng.GetRNG');
  if (random.length === 0) return {};
  const rng = Buffer.from(random.map(({ results }) => results.RNGValue).join(''), 'hex');
  return {
    kaslr: { kind: 'entropy', rdtsc: (efi.timeStamps ?? []).map(BigInt), rng },
    efiMemoryMap: parseEfiMemoryMap(efi.memoryMap.join('\n')),
  };
}

/** What OVMF had at the entry of a kernel, with other amounts of RAM. */
describe('the memory map that is made up', () => {
  /** Boot services' code and data look alike to an image: both are free once they are gone. */
  const free = (lines: readonly string[]): readonly string[] => {
    const runs: { start: string; end: string; type: string }[] = [];
    for (const line of lines) {
      const [start, end, type] = line.split(' ') as [string, string, string];
      const kind = type.startsWith('BootServices') ? 'BootServices' : type;
      const last = runs.at(-1);
      if (last !== undefined && last.end === start && last.type === kind) last.end = end;
      else runs.push({ start, end, type: kind });
    }
    return runs.map(({ start, end, type }) => `${start} ${end} ${type}`);
  };
  for (const file of MAPS) {
    const reference: EfiReference = JSON.parse(readFileSync(join(REFERENCES, file), 'utf8'));
    const path = images.get(reference.image.sha256);
    const memory = reference.machine.ram;
    const missing = path === undefined ? ' (left out: its kernel is not there)' : '';
    it.skipIf(path === undefined)(
      `puts the image and the first free memory where OVMF has them at ${memory / 2 ** 20} MiB${missing}`,
      async () => {
        const image = await readKernelImage(path!, readFileSync(path!));
        const { map, imageBase } = memoryMapFor(image, { ...DEFAULT_BOOT_OPTIONS, entry: 'efi', memory });
        expect(imageBase).toBe(Number(reference.efi.imageBase));
        const lines = map.map(
          ({ start, end, type }) => `0x${start.toString(16)} 0x${end.toString(16)} ${type}`,
        );
        expect(free(lines)).toEqual(free(reference.efi.memoryMap));
        const place = { kernelTotalSize: 0x380_0000, loadPhysicalAddress: 0x100_0000, alignment: 0x20_0000 };
        const own = findEfiSlots({ ...SLOTS, ...place, map });
        const theirs = findEfiSlots({
          ...SLOTS,
          ...place,
          map: parseEfiMemoryMap(reference.efi.memoryMap.join('\n')),
        });
        expect(own.areas).toEqual(theirs.areas);
        expect(own.areas[0]?.start).toBe(0x160_0000);
      },
    );
  }
});

for (const file of readdirSync(REFERENCES).sort()) {
  if (MAPS.includes(file)) continue;
  const reference: EfiReference = JSON.parse(readFileSync(join(REFERENCES, file), 'utf8'));
  const path = images.get(reference.image.sha256);
  const choice = recordedChoice(reference);
  const { entry } = reference.machine;
  const how = entry === 'efi-handover' ? ' and handed over' : choice.kaslr === undefined ? '' : ' and KASLR';
  const name = reference.image.path.replace(/^.*\//, '');
  const missing = path === undefined ? ` (left out: ${name} is not there)` : '';
  describe.skipIf(path === undefined)(`${name}, booted by EFI${how} as by OVMF${missing}`, () => {
    let image: KernelImage;
    let session: BootSession;
    const { efi } = reference;
    // StartImage returns when the image does: a kernel never.
    const calls = efi.calls.filter(({ service }) => service !== 'StartImage');

    beforeAll(async () => {
      image = await readKernelImage(path!, readFileSync(path!));
      session = await openBoot(image, {
        entry,
        memory: reference.machine.ram,
        cmdline: reference.machine.cmdline,
        ...choice,
      });
    });
    afterAll(() => session.close());

    it('begins with the memory map and the CPU that OVMF has', () => {
      const { map, imageBase } =
        entry === 'efi' ? memoryMapFor(image, session.options) : handoverMap(session.options);
      const lines = map.map(
        ({ start, end, type, attributes }) =>
          `0x${start.toString(16)} 0x${end.toString(16)} ${type} 0x${attributes.toString(16)}`,
      );
      expect(lines).toEqual(efi.memoryMap);
      expect(imageBase).toBe(Number(efi.imageBase));
      const { registers } = session;
      const { handover } = reference;
      if (handover !== undefined) {
        const { code, commandLine, bootParams } = handover;
        expect(registers.rdx).toBe(BigInt(bootParams));
        expect(registers.rsi).toBe(BigInt(efi.systemTable));
        const header = session.memory.read(BigInt(bootParams), 4096);
        expect(new BootParams(header).get('code32_start')).toBe(Number(code));
        expect(new BootParams(header).get('cmd_line_ptr')).toBe(Number(commandLine));
      }
      const atEntry = AT_ENTRY.filter((name) => handover === undefined || !['rip', 'rdx'].includes(name));
      for (const name of atEntry)
        expect(`${name} ${registers[name]}`).toBe(`${name} ${BigInt(efi.registers[name])}`);
      expect(session.machine.cpu.readDescriptorTable('gdtr')).toEqual(tableOf(efi.gdtr));
      expect(session.machine.cpu.readDescriptorTable('idtr')).toEqual(tableOf(efi.idtr));
    });

    it('makes every call that it made there, with the same answers', async () => {
      const stop = await session.run({ until: 'kernel' });
      expect(stop).toMatchObject({ reason: 'phase', phase: 'kernel' });
      const own = session.events.filter(
        ({ kind, details }) => kind === 'efi' && FOLLOWED.test(String(details.service)),
      );
      const line = (service: unknown, from: unknown, failed: boolean): string =>
        `${service} from ${from}${failed ? ': failed' : ''}`;
      expect(
        own.map(({ details }) =>
          line(details.service, String(details.caller).replace(/^.*\+/, ''), details.status !== 'SUCCESS'),
        ),
      ).toEqual(calls.map(({ service, from, status }) => line(service, from, status !== '0x0')));
      const { allocations } = session.machine.uefi!;
      for (const [index, { service, results }] of calls.entries()) {
        const address = results.Memory ?? results.Buffer;
        if (!service.startsWith('Allocate') || address === undefined) continue;
        const allocated = allocations.find(({ call }) => call === own[index]!.details.number);
        expect(`call ${index}: 0x${allocated?.start.toString(16)}`).toBe(`call ${index}: ${address}`);
      }
    });

    it('hands over the same boot_params, byte for byte', () => {
      expect(session.registers.rsi).toBe(BigInt(reference.bootParams.address));
      const own = Buffer.from(session.memory.read(session.registers.rsi, 4096));
      const theirs = Buffer.from(reference.bootParams.bytes, 'base64');
      const differing = [...theirs.keys()].filter((offset) => own[offset] !== theirs[offset]);
      const copied = session.trace().phases.some(({ name: phase }) => phase === 'extract_kernel');
      const explained = copied ? FILLED_IN_BY_QEMU : [];
      expect(
        differing.filter((offset) => !explained.includes(offset)).map((offset) => `0x${offset.toString(16)}`),
      ).toEqual([]);
    });

    it("enters the kernel with the same CPU, but for what the firmware's own code left in registers", () => {
      const { registers } = session;
      const { atKernel } = reference;
      const trapped = session.trace().phases.some(({ name: phase }) => phase === 'extract_kernel');
      const left = [...LEFT_BY_FIRMWARE, ...(trapped ? LEFT_BY_EXTRACT_KERNEL : [])];
      for (const name of Object.keys(atKernel.registers) as RegisterName[]) {
        if (left.includes(name)) continue;
        // Unicorn 2.0 drops EFER.NXE.
        const mask = name === 'efer' && session.machine.cpu.engineVersion.startsWith('2.0.') ? ~0x800n : -1n;
        expect(`${name} ${registers[name]}`).toBe(`${name} ${BigInt(atKernel.registers[name]) & mask}`);
      }
      expect(session.machine.cpu.readDescriptorTable('gdtr')).toEqual(tableOf(atKernel.gdtr));
      expect(session.machine.cpu.readDescriptorTable('idtr')).toEqual(tableOf(atKernel.idtr));
    });

    it('has the same kernel in memory, byte for byte', () => {
      expect(session.registers.rip).toBe(BigInt(reference.kernel.entry));
      for (const { paddr, filesz, sha256 } of reference.kernel.segments) {
        const bytes = session.memory.read(BigInt(paddr), Number(filesz));
        expect(`${paddr} ${createHash('sha256').update(bytes).digest('hex')}`).toBe(`${paddr} ${sha256}`);
      }
    });
  });
}

function tableOf({ base, limit }: { readonly base: string; readonly limit: number }): object {
  return { base: BigInt(base), limit };
}
