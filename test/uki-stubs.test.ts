// Unified Kernel Images whose stub jumps into the kernel without the firmware, as systemd-stub does before 252 and from 258 on: such
// a stub of ours, in machine code, around a real kernel.

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBoot } from '../src/boot/session.ts';
import { readEfiImage } from '../src/image/efi-program.ts';
import { flatTree } from '../src/image/file-tree.ts';
import { readKernelImage } from '../src/image/kernel-image.ts';
import { makePe, noise } from '../src/image/test-images.ts';
import { readSetupHeader } from '../src/protocol/setup-header.ts';
import type { BootTrace } from '../src/trace/boot-trace.ts';
import { CLOUD_KERNEL } from './debian-kernels.ts';

const reason = existsSync(CLOUD_KERNEL) ? '' : ` (left out: ${CLOUD_KERNEL} is not there)`;
const INITRD_SIZE = 0x3000;
/** Where makePe puts the first section and the third. */
const TEXT = 0x1000;
const LINUX = 0x3000;
const BOOT_PARAMS = 0x400;

/** `.initrd` lies right behind the kernel's section; by another name than `.linux` that is no UKI, but a loader. */
function makeUki(kernel: Buffer, section = '.linux'): { readonly uki: Uint8Array; readonly initrd: number } {
  const header = readSetupHeader(kernel);
  const code = LINUX + (header.get('setup_sects') + 1) * 512;
  const handover = code + header.get('handover_offset') + 0x200;
  const text = Buffer.alloc(BOOT_PARAMS + 0x1000);
  let at = 0;
  /** An instruction that ends in the distance to `target`, from its own end on. */
  const relative = (opcode: string, target: number): void => {
    at += text.write(opcode, at, 'hex');
    at = text.writeInt32LE(target - (TEXT + at + 4), at);
  };
  at += text.write('4889cf4889d6', at, 'hex'); // mov rdi, rcx; mov rsi, rdx
  relative('488d15', TEXT + BOOT_PARAMS); // lea rdx, [boot_params]
  relative('488d05', code); // lea rax, [code]
  at += text.write('898214020000', at, 'hex'); // mov [rdx + code32_start], eax
  relative('e9', handover); // jmp handover
  kernel.copy(text, BOOT_PARAMS + 0x1f1, 0x1f1, 0x202 + kernel[0x201]!);

  const uki = Buffer.from(makePe({ '.text': text, '.initrd': noise(INITRD_SIZE), [section]: kernel }));
  const initrd = LINUX + Math.ceil(kernel.length / 0x1000) * 0x1000;
  const optional = 0x58;
  const sections = optional + 112 + 5 * 8;
  for (const [offset, value] of [
    [optional + 16, TEXT],
    [optional + 32, 0x1000],
    [optional + 36, 0x200],
    [optional + 56, initrd + INITRD_SIZE],
    [optional + 60, 0x400],
    [sections + 40 + 12, initrd],
  ] as const) {
    uki.writeUInt32LE(value, offset);
  }
  return { uki, initrd };
}

async function trace(uki: Uint8Array): Promise<BootTrace> {
  const image = await readKernelImage('uki.efi', uki);
  const session = await openBoot(image, { entry: 'efi', hash: false });
  try {
    await session.run();
    return session.trace();
  } finally {
    session.close();
  }
}

describe.skipIf(reason !== '')(`a stub that enters its kernel where its section lies${reason}`, () => {
  it('is followed into the kernel, and loses what lies within init_size behind it', async () => {
    const kernel = readFileSync(CLOUD_KERNEL);
    const { uki, initrd } = makeUki(kernel);
    const { phases, kernel: reached, hazards } = await trace(uki);
    expect(phases.map(({ name }) => name).slice(0, 3)).toEqual([
      ...['efi_program', 'efi_handover_entry', 'decompress_kernel'],
    ]);
    expect(reached?.physicalBase).toBe(0x160_0000n);
    const base = phases[0]!.address - BigInt(TEXT);
    const start = base + BigInt(initrd);
    expect(hazards).toMatchObject([
      { code: 'uki-section-in-run-area', start, end: start + BigInt(INITRD_SIZE) },
    ]);
    expect(hazards[0]!.text).toMatch(/^section \.initrd lies at .* loses 0x3000 bytes of \.initrd$/);
  });
});

describe.skipIf(reason !== '')(`a loader that jumps to the handover entry of a kernel${reason}`, () => {
  it.each([
    ['that lies on its disk as a file', 'vmlinuz'],
    ['that it has from elsewhere', null],
  ])('%s, is followed into it', async (_what, name) => {
    const kernel = readFileSync(CLOUD_KERNEL);
    const loader = makeUki(kernel, '.kernel').uki;
    const files = [
      { path: 'loader.efi', bytes: loader },
      ...(name === null ? [] : [{ path: name, bytes: kernel }]),
    ];
    const esp = { path: 'esp', root: flatTree(files), disk: null, partition: null, problems: [] };
    const image = await readEfiImage('loader.efi', loader);
    expect(image.kind).toBe('efi-program');
    using session = await openBoot(image, {
      entry: 'efi',
      esp,
      hash: false,
      memory: 512 << 20,
      cmdline: ' ',
    });
    const stop = await session.run({ until: 'efi_handover_entry' });
    const header = readSetupHeader(kernel);
    const setup = (header.get('setup_sects') + 1) * 512;
    const base = Number(session.trace().phases[0]!.address) - TEXT;
    expect(Number(stop.address)).toBe(base + LINUX + setup + header.get('handover_offset') + 0x200);
    const regions = new Map(session.layout().map((region) => [region.name, region]));
    expect(Number(regions.get('boot_params')!.start)).toBe(base + TEXT + BOOT_PARAMS);
    expect(regions.get('ZO as loaded')).toMatchObject({ start: BigInt(base + LINUX + setup) });
    const size = regions.get('ZO as loaded')!.end - regions.get('ZO as loaded')!.start;
    // What was put together from memory ends where syssize says.
    expect(Number(size)).toBe(name === null ? header.get('syssize') * 16 : kernel.length - setup);
    // Without its PE header nobody knows where its functions lie: it unpacks itself, which takes long.
    if (name === null) return;
    const names = [];
    for await (const { reason: why, phase } of session.phases()) if (why === 'phase') names.push(phase);
    expect(names).toContain('decompress_kernel');
    expect(session.trace().kernel).not.toBeNull();
    const { atEntry, atExit } = session.trace().efiMemoryMap!;
    // The stub has allocated what the kernel lies in since.
    expect(atExit!.some(({ type }) => type === 'LoaderCode')).toBe(true);
    expect(atExit!.length).toBeGreaterThan(atEntry.length);
  });
});
