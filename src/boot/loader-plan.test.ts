import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage, makeSegmentedElf, noise } from '../image/test-images.ts';
import { boot } from './boot.ts';
import { type PlannedEntry, planLoading } from './loader-plan.ts';
import { DEFAULT_BOOT_OPTIONS } from './options.ts';

async function demo(name: string) {
  const path = fileURLToPath(new URL(`../../images/demo/${name}`, import.meta.url));
  return readKernelImage(name, readFileSync(path));
}

describe('the plan of a loader', () => {
  it('says which ways in an image has, and why not the others', async () => {
    const plan = await planLoading(await demo('demo-i386.bzImage'));
    expect(plan.map(({ entry, unavailable }) => [entry, unavailable])).toEqual([
      ['real16', null],
      ['prot32', null],
      ['long64', 'xloadflags 0x0 lack XLF_KERNEL_64'],
      ['pvh', 'the kernel in it has no Xen note PHYS32_ENTRY'],
      ['efi', 'the file has no PE header: it was built without CONFIG_EFI_STUB'],
      ['kexec', 'xloadflags 0x0 lack XLF_KERNEL_64'],
      ['kdump', 'xloadflags 0x0 lack XLF_KERNEL_64'],
    ]);
    const zImage = await planLoading(await demo('demo.zImage'));
    expect(zImage[0]!.parts[1]).toMatchObject({ what: 'protected-mode code', from: 0x10000 });
    expect(zImage[1]!.unavailable).toContain('a zImage is loaded low');
  });

  it('is what a boot is judged by: an initrd in what it says is overwritten is lost, behind it none is', async () => {
    const image = await demo('demo-gzip.bzImage');
    const long64 = (await planLoading(image)).find(({ entry }) => entry === 'long64')!;
    const [area] = long64.overwrites;
    const initrd = { path: 'initrd', bytes: new TextEncoder().encode('070701'.padEnd(0x1000, '0')) };
    const lint = async (initrdAddress: number) => {
      const finished = await boot(image, { ...DEFAULT_BOOT_OPTIONS, entry: 'long64', initrd, initrdAddress });
      finished.close();
      return finished.trace.hazards.map(({ code }) => code);
    };
    expect(await lint(area!.start)).toContain('run-area-overlap');
    expect(await lint(area!.end - 0x1000)).toContain('run-area-overlap');
    expect(await lint(area!.end)).toEqual([]);
    expect(await lint(area!.start - 0x1000)).toEqual([]);
  });

  it('is made of a vmlinux, too: where its segments go, and its own entry', async () => {
    const { bytes } = await extractVmlinux(await demo('demo-gzip.bzImage'));
    const plan = await planLoading(await readKernelImage('vmlinux', bytes));
    expect(plan.filter(({ unavailable }) => unavailable === null).map(({ entry }) => entry)).toEqual([
      'long64',
    ]);
    const long64 = plan.find(({ entry }) => entry === 'long64')!;
    expect(long64.jump).toBe('0x1000040, the physical address of e_entry');
    expect(long64.parts[0]).toMatchObject({
      what: 'segment 0 of the vmlinux',
      from: 0x1000000,
      to: 0x101018a,
    });
    expect(plan.find(({ entry }) => entry === 'pvh')!.unavailable).toBe(
      'the file has no Xen note PHYS32_ENTRY',
    );
  });

  it('names the highest addresses that the header allows', async () => {
    const image = await demo('demo-gzip.bzImage');
    const plan = await planLoading(image);
    const initrd = plan[0]!.parts.find(({ what }) => what === 'initrd')!;
    expect(initrd.to).toBe(image.header.get('initrd_addr_max') + 1);
    const commandLine = plan[0]!.parts.find(({ what }) => what === 'command line')!;
    expect(commandLine.size).toBe(image.header.get('cmdline_size') + 1);
  });
});

describe('a plan by the fields of the header', () => {
  const CODE = noise(0x3000);
  const imageOf = (protocol: number, fields: Parameters<typeof makeBootImage>[0]['fields'] = {}) =>
    readKernelImage('made', makeBootImage({ protocol, code: CODE, fields }));
  const planOf = async (image: KernelImage, entry: PlannedEntry) =>
    (await planLoading(image)).find((plan) => plan.entry === entry)!;
  const partOf = async (image: KernelImage, entry: PlannedEntry, name: string) =>
    (await planOf(image, entry)).parts.find(({ what }) => what === name);
  const MODERN = {
    ...{ initrd_addr_max: 0x7fff_ffff, cmdline_size: 0x7ff, relocatable_kernel: 1, pref_address: 0x1000000 },
    ...{ kernel_alignment: 0x200000, init_size: 0x9000, xloadflags: 3 },
  };

  it('has setup, its heap and what it loads where boot.rst and old loaders have them', async () => {
    const setupOf = (image: KernelImage) => partOf(image, 'real16', 'setup with heap and stack');
    expect(await setupOf(await imageOf(0x0202))).toMatchObject({
      ...{ size: 0xe000, from: 0x1000, to: 0x9fc00, alignment: 16 },
      note: "2560 bytes of it are the file's; heap_end_ptr 0xde00",
    });
    expect(await setupOf(await imageOf(0x0201))).toMatchObject({ size: 0x9800, from: 0x90000 });
    expect(await setupOf(await imageOf(0x0203, { loadflags: 0 }))).toMatchObject({
      size: 0x9800,
      from: 0x1000,
    });
    const high = await partOf(await imageOf(0x0202), 'real16', 'protected-mode code');
    expect(high).toMatchObject({ from: 0x100000, to: 0x103000, size: 0x3000, alignment: 1 });
    const low = await partOf(await imageOf(0x0203, { loadflags: 0 }), 'real16', 'protected-mode code');
    expect(low).toMatchObject({ from: 0x10000, to: 0x13000 });
  });

  it('has an initrd from protocol 2.00 on, and its highest address', async () => {
    const old = await readKernelImage('old', makeBootImage({ protocol: 0, code: CODE }));
    expect(await partOf(old, 'real16', 'initrd')).toBeUndefined();
    expect(await partOf(await imageOf(0x0200), 'real16', 'initrd')).toMatchObject({
      ...{ from: 0x100000, to: 0x3800_0000, alignment: 0x1000, size: null },
    });
    expect(await partOf(await imageOf(0x0202), 'real16', 'command line')).toMatchObject({
      size: 256,
      to: 0x9fc00,
    });
    expect(await partOf(await imageOf(0x020f, MODERN), 'real16', 'command line')).toMatchObject({
      size: 0x800,
    });
  });

  it('has the 32-bit entry from protocol 2.02 on, below 4 GiB', async () => {
    expect((await planOf(await imageOf(0x0201), 'prot32')).unavailable).toBe(
      'boot protocol 2.01 takes its command line through the segment of setup',
    );
    const plan = await planOf(await imageOf(0x020f, MODERN), 'prot32');
    expect(plan).toMatchObject({
      unavailable: null,
      notes: [],
      jump: 'the first byte of the protected-mode code',
    });
    expect(plan.parts.map(({ what, from, to }) => [what, from, to])).toEqual([
      ['protected-mode code', 0x100000, 2 ** 32],
      ['boot_params', 0x1000, 2 ** 32],
      ['command line', 0, 2 ** 32],
      ['initrd', 0x100000, 0x8000_0000],
    ]);
    expect(plan.overwrites).toMatchObject([{ start: 0x1000000, end: 0x1009000, by: 'init_size 0x9000' }]);
  });

  it('has a kernel that is not relocatable where code32_start says', async () => {
    const fixed = await imageOf(0x020f, { ...MODERN, relocatable_kernel: 0, code32_start: 0x400000 });
    expect(await partOf(fixed, 'prot32', 'protected-mode code')).toMatchObject({
      ...{ from: 0x400000, note: 'not relocatable: it goes where code32_start says' },
    });
    const none = await imageOf(0x020f, { ...MODERN, relocatable_kernel: 0, code32_start: 0 });
    expect(await partOf(none, 'prot32', 'protected-mode code')).toMatchObject({ from: 0x100000 });
  });

  it('goes above 4 GiB by the 64-bit entry alone, where xloadflags has both bits', async () => {
    const all = await planOf(await imageOf(0x020f, MODERN), 'long64');
    expect(all).toMatchObject({
      ...{ unavailable: null, jump: 'the protected-mode code + 0x200' },
      notes: ['kernel, boot_params, command line and initrd may lie above 4 GiB'],
    });
    expect(all.parts.every(({ to }) => to === Number.MAX_SAFE_INTEGER)).toBe(true);
    const below = await planOf(await imageOf(0x020f, { ...MODERN, xloadflags: 1 }), 'long64');
    expect(below).toMatchObject({ unavailable: null, notes: [] });
    expect(below.parts.every(({ to }) => to <= 2 ** 32)).toBe(true);
    const not64 = await planOf(await imageOf(0x020f, { ...MODERN, xloadflags: 2 }), 'long64');
    expect(not64.unavailable).toBe('xloadflags 0x2 lack XLF_KERNEL_64');
  });

  it('has init_size in one piece, aligned, for kexec', async () => {
    const image = await imageOf(0x020f, MODERN);
    const kexec = await planOf(image, 'kexec');
    expect(kexec).toMatchObject({ entry: 'kexec', unavailable: null });
    expect(kexec.parts[0]).toMatchObject({
      ...{ what: 'protected-mode code', size: 0x9000, alignment: 0x200000 },
      note: '0x9000 bytes (init_size) in one piece of usable RAM, aligned to 0x200000',
    });
    expect(kexec.parts.slice(1)).toEqual((await planOf(image, 'long64')).parts.slice(1));
    expect(kexec.notes.at(-1)).toContain('purgatory');
    expect((await planOf(image, 'kdump')).notes.at(-1)).toContain('crashkernel=');
    const fixed = await imageOf(0x020f, { ...MODERN, relocatable_kernel: 0 });
    expect((await planOf(fixed, 'kexec')).parts[0]).toMatchObject({ alignment: 1 });
    const zero = await imageOf(0x020f, { ...MODERN, kernel_alignment: 0 });
    expect((await planOf(zero, 'kexec')).parts[0]).toMatchObject({ alignment: 1 });
    expect(await planOf(await imageOf(0x020f, { ...MODERN, xloadflags: 0 }), 'kdump')).toMatchObject({
      ...{ entry: 'kdump', unavailable: 'xloadflags 0x0 lack XLF_KERNEL_64', parts: [] },
    });
  });

  it('is none of what holds no kernel, or is no kernel', async () => {
    expect((await planOf(await imageOf(0x020f, MODERN), 'pvh')).unavailable).toBe(
      'there is no kernel in it that can be unpacked',
    );
    const image = await imageOf(0x020f, MODERN);
    await expect(planLoading({ ...image, kind: 'efi-program' })).rejects.toMatchObject({
      code: 'plan-image',
    });
  });
});

describe('a plan of a vmlinux', async () => {
  const none = await readKernelImage('none', makeBootImage({ protocol: 0 }));
  const segments = [
    { paddr: 0x1000000, vaddr: 0xffffffff81000000n, bytes: noise(0x1000), memsz: 0x1000 },
    { paddr: 0x1200000, vaddr: 0xffffffff81200000n, bytes: noise(0x800), memsz: 0x2000 },
    { paddr: 0x1400000, vaddr: 0xffffffff81400000n, bytes: new Uint8Array(0), memsz: 0 },
    { type: 4, paddr: 0x1500000, bytes: noise(0x20) },
  ];
  const image = (bits: 32 | 64): KernelImage => {
    const elf = makeSegmentedElf({
      bits,
      machine: bits === 64 ? 62 : 3,
      entry: 0x1000000,
      segments: bits === 64 ? segments : segments.map(({ vaddr: _, ...rest }) => rest),
    });
    return { ...none, kind: 'vmlinux', bytes: elf };
  };

  it('has the segments that take memory, each where its program header says', async () => {
    const plan = await planLoading(image(64));
    const { parts, notes } = plan.find(({ entry }) => entry === 'long64')!;
    expect(parts.slice(0, 2)).toEqual([
      {
        ...{ what: 'segment 0 of the vmlinux', size: 0x1000, from: 0x1000000, to: 0x1001000, alignment: 1 },
        note: null,
      },
      {
        ...{ what: 'segment 1 of the vmlinux', size: 0x2000, from: 0x1200000, to: 0x1202000, alignment: 1 },
        note: "0x800 bytes are the file's, the rest is zero",
      },
    ]);
    expect(parts.slice(2).map(({ what, to }) => [what, to])).toEqual([
      ['boot_params', Number.MAX_SAFE_INTEGER],
      ['command line', Number.MAX_SAFE_INTEGER],
      ['initrd', Number.MAX_SAFE_INTEGER],
    ]);
    expect(notes).toHaveLength(1);
  });

  it('has the entry of its own width, and says why not the others', async () => {
    const available = async (bits: 32 | 64) =>
      (await planLoading(image(bits))).map(({ entry, unavailable }) => [
        entry,
        unavailable?.split(' ').slice(0, 4).join(' '),
      ]);
    expect(await available(64)).toEqual([
      ['real16', 'a vmlinux has no'],
      ['prot32', 'this vmlinux is of'],
      ['long64', undefined],
      ['pvh', 'the file has no'],
      ['efi', 'a vmlinux has no'],
      ['kexec', 'kexec_file_load takes a bzImage;'],
      ['kdump', 'kexec_file_load takes a bzImage;'],
    ]);
    const [, prot32, long64] = await planLoading(image(32));
    expect(prot32).toMatchObject({ entry: 'prot32', unavailable: null });
    expect(prot32!.parts.find(({ what }) => what === 'boot_params')!.to).toBe(2 ** 32);
    expect(long64).toMatchObject({ entry: 'long64', unavailable: 'this vmlinux is of 32 bits' });
  });
});
