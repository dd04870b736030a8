import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { BootOptions } from '../boot/options.ts';
import { type BootSession, openBoot } from '../boot/session.ts';
import { describeEachEngine } from '../cpu/each-engine.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { parsePlace } from '../trace/place.ts';
import { findAccessors } from './writers.ts';

const DEMO = fileURLToPath(new URL('../../images/demo', import.meta.url));

describeEachEngine('findAccessors', (_, engine) => {
  async function open(
    options: Partial<BootOptions> = {},
    name = 'demo-lz4.bzImage',
  ): Promise<{ session: BootSession; image: KernelImage }> {
    const image = await readKernelImage(name, readFileSync(join(DEMO, name)));
    return {
      image,
      session: await openBoot(image, { memory: 64 << 20, cmdline: 'nokaslr', engine, ...options }),
    };
  }
  const kernel = parsePlace('kernel');

  it('finds the instructions that wrote a page table, each once for a loop, and what was there before', async () => {
    const { session, image } = await open();
    await session.goTo('kernel');
    const cr3 = Number(session.registers.cr3);
    const range = { start: cr3, end: cr3 + 8 };
    const { accessors } = await findAccessors(session, image, range, 'write', kernel);
    const entry = session.memory.read(cr3, 4);
    const [cleared, low] = accessors;
    expect(cleared).toMatchObject({
      by: 'fill',
      phase: 'startup_32',
      instruction: { text: expect.stringMatching(/^rep stos/) },
    });
    expect(low).toMatchObject({ by: 'guest', at: cr3, count: 1, instruction: { mode: 'prot32' } });
    expect(low!.before).toEqual(new Uint8Array(4));
    // The CPU itself has set the accessed bit since.
    entry[0]! &= ~0x20;
    expect(low!.after).toEqual(entry);
    expect(low!.first!).toBeGreaterThan(cleared!.first!);
    session.close();
  });

  it('stands where each writer did its work: a step over it makes the change', async () => {
    const { session, image } = await open();
    await session.goTo('kernel');
    const cr3 = Number(session.registers.cr3);
    const range = { start: cr3, end: cr3 + 4 };
    const { accessors } = await findAccessors(session, image, range, 'write', kernel);
    const { first, before, after } = accessors.findLast(({ by }) => by === 'guest')!;
    await session.goTo(first!);
    expect(session.memory.read(cr3, 4)).toEqual(before);
    await session.step();
    expect(session.memory.read(cr3, 4)).toEqual(after);
    session.close();
  });

  it('tells of the trapped extract_kernel which bytes of the payload it put there', async () => {
    const { session, image } = await open();
    const range = { start: 0x1000040, end: 0x1000048 };
    const { accessors } = await findAccessors(session, image, range, 'write', kernel);
    const last = accessors.at(-1)!;
    expect(last).toMatchObject({
      by: 'extract_kernel',
      instruction: null,
      after: session.memory.read(0x1000040, 8),
    });
    expect(last.what).toMatch(
      /^segment 0: bytes 0x1040..0x1048 of the file in the lz4 payload at 0x10[0-9a-f]+\.\./,
    );
    session.close();
  });

  it('finds the instruction instead where the guest decompresses by itself', async () => {
    const { session, image } = await open({ decompress: 'emulated' });
    const range = { start: 0x1000040, end: 0x1000041 };
    const { accessors } = await findAccessors(session, image, range, 'write', kernel);
    const last = accessors.at(-1)!;
    expect(last).toMatchObject({ by: 'copy', instruction: { mode: 'long64' } });
    // parse_elf moves the segment there by `rep movs`, which the host does.
    expect(last.start).toBeLessThanOrEqual(range.start);
    expect(accessors.some(({ by }) => by === 'extract_kernel')).toBe(false);
    session.close();
  });

  it('names the BIOS service that wrote, and the setup code that copied it', async () => {
    const { session, image } = await open();
    await session.goTo('kernel');
    const { kernel: jump } = session.trace();
    const table = Number(jump!.bootParams) + 0x2d0;
    const at = (await findAccessors(session, image, { start: table, end: table + 8 }, 'write', kernel))
      .accessors;
    const services = at.filter(({ by }) => by === 'firmware').map(({ what }) => what);
    expect(services.every((what) => what === 'INT 15h E820: query system address map')).toBe(true);
    expect(at.filter(({ phase }) => phase === 'setup').length).toBeGreaterThan(0);
    session.close();
  });

  it('tells what came over an initrd that the loader had put there', async () => {
    const bytes = new Uint8Array(0x1000).fill(0xab);
    const { session, image } = await open({ initrd: { path: 'initrd', bytes }, initrdAddress: 0x1000000 });
    const range = { start: 0x1000000, end: 0x1001000 };
    const { accessors } = await findAccessors(session, image, range, 'write', kernel);
    expect(accessors[0]).toMatchObject({
      by: 'loader',
      what: 'initrd',
      after: new Uint8Array(16).fill(0xab),
    });
    expect(accessors.at(-1)).toMatchObject({ by: 'extract_kernel' });
    session.close();
  });

  it('tells of what the firmware has put there before the first instruction', async () => {
    const { session, image } = await open();
    const range = { start: 0xffff0, end: 0x100004 };
    const { accessors } = await findAccessors(session, image, range, 'write', parsePlace('#1'));
    expect(accessors).toMatchObject([
      { by: 'firmware', what: 'BIOS ROM', start: 0xffff0, end: 0x100000, before: new Uint8Array(0) },
      { by: 'loader', what: 'ZO as loaded', start: 0x100000, end: 0x100004 },
    ]);
    session.close();
  });

  it('ends at the place that was asked for', async () => {
    const { session, image } = await open();
    const range = { start: 0x1000040, end: 0x1000048 };
    const early = await findAccessors(session, image, range, 'write', parsePlace('extract_kernel'));
    expect(early.stop).toMatchObject({ phase: 'extract_kernel' });
    expect(early.accessors).toEqual([]);
    session.close();
  });

  it('finds readers: instructions, also of the stack and of descriptors, the copy, and the trap', async () => {
    const { session, image } = await open();
    await session.run();
    const straight = session.trace();
    const all = { start: 0, end: session.memory.size };
    const { accessors, stop } = await findAccessors(session, image, all, 'read', kernel);
    // Far returns of real mode and all else go the way that they go when nobody looks.
    expect(stop).toMatchObject({ reason: 'ended', stopped: null });
    expect(session.trace().phases.map(({ instructions }) => instructions)).toEqual(
      straight.phases.map(({ instructions }) => instructions),
    );
    expect(accessors.every(({ before, after }) => before.join() === after.join())).toBe(true);
    const lasts = accessors.map(({ last }) => last ?? 0);
    expect(lasts).toEqual(lasts.toSorted((a, b) => a - b));
    expect(new Set(lasts).size).toBeGreaterThan(10);
    const texts = accessors.map(({ instruction }) => instruction?.text ?? '');
    for (const text of [/^lret/, /^mov %[a-z]+,%ds/, /^pop/, /^rep movs/, /^lgdt/]) {
      expect([text, texts.some((each) => text.test(each))]).toEqual([text, true]);
    }
    expect(accessors.find(({ by }) => by === 'copy')).toMatchObject({ start: 0x100000 });
    const byTrap = accessors.filter(({ by }) => by === 'extract_kernel');
    expect(byTrap.map(({ what }) => what)).toEqual(byTrap.map(() => null));
    const payload = session.zo! + image.payload!.offset;
    expect(accessors.at(-1)!.by === 'guest' ? accessors.at(-2) : accessors.at(-1)).toMatchObject({
      ...{ by: 'extract_kernel', start: payload, end: payload + image.payload!.length },
    });
    session.close();
  });

  it('tells each instruction of a loop once, with its first and last write and all that it wrote', async () => {
    const { session, image } = await open();
    await session.goTo('startup_64');
    const cr3 = Number(session.registers.cr3);
    // startup_32 fills the entries of four page directories in a loop.
    const range = { start: cr3 + 0x2000, end: cr3 + 0x3000 };
    const { accessors } = await findAccessors(session, image, range, 'write', parsePlace('startup_64'));
    const guests = accessors.filter(({ by }) => by === 'guest');
    expect(guests.length).toBeGreaterThan(0);
    for (const { count, start, end, first, last, at } of guests) {
      expect(count).toBeGreaterThan(100);
      expect([start >= range.start, start < range.start + 8, end > range.end - 9, end <= range.end]).toEqual([
        ...[true, true, true, true],
      ]);
      expect(last!).toBeGreaterThan(first! + count - 1);
      // Shown is the last one.
      expect(at).toBeGreaterThanOrEqual(range.end - 8);
    }
    expect(new Set(guests.map(({ instruction }) => instruction!.address)).size).toBe(guests.length);
    session.close();
  });

  it('names the call of firmware that wrote, also where several wrote', async () => {
    const { session, image } = await open();
    await session.goTo('startup_32');
    const bootParams = session.layout().find(({ kind }) => kind === 'boot-params')!;
    // setup has the BIOS write E820 entries into boot_params, one a call.
    const start = Number(bootParams.start) + 0x2d0;
    const range = { start, end: start + 3 * 20 };
    const { accessors } = await findAccessors(session, image, range, 'write', parsePlace('startup_32'));
    const firmware = accessors.filter(({ by }) => by === 'firmware');
    expect(firmware.length).toBeGreaterThanOrEqual(3);
    for (const { what } of firmware) expect(what).toBe('INT 15h E820: query system address map');
    expect(accessors.filter(({ by }) => by !== 'firmware').every(({ what }) => !what?.includes('INT'))).toBe(
      true,
    );
    session.close();
  });
});
