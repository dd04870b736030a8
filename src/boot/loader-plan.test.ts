import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { boot } from './boot.ts';
import { planLoading } from './loader-plan.ts';
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
