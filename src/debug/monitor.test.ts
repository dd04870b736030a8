// What a held boot answers to the commands behind `monitor`, compared with the session and with the trace of the same boot.

import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BootSession, openBoot } from '../boot/session.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { hex } from '../hex.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { SymbolTable } from '../trace/symbols.ts';
import { Monitor } from './monitor.ts';

const DEMO = new URL('../../images/demo/demo-lz4.bzImage', import.meta.url).pathname;
const missing = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';

describe.skipIf(missing !== '')(`monitor${missing}`, () => {
  let image: KernelImage;
  let session: BootSession;
  let monitor: Monitor;
  const ask = (command: string): Promise<string> => monitor.run(command);
  const phase = (name: string) => session.trace().phases.find((each) => each.name === name)!;

  beforeEach(async () => {
    image = await readKernelImage(DEMO, readFileSync(DEMO));
    session = await openBoot(image, { cmdline: 'nokaslr', engine: 'native', memory: 64 << 20 });
    monitor = new Monitor(session, image, {});
  });
  afterEach(() => session.close());

  it('lists its commands, and says which one there is not', async () => {
    const help = await ask('help');
    expect(help.split('\n')[0]).toBe('monitor commands:');
    const usages = help
      .split('\n')
      .slice(1, -1)
      .map((line) => line.slice(2).split(/ {2,}/)[0]!);
    const names = usages.map((usage) => usage.split(' ')[0]);
    expect(names).toEqual(
      'where phases regions events show who readers goto stops symbols disassemble'.split(' '),
    );
    // The explanations stand one under the other.
    const column = 2 + Math.max(...usages.map(({ length }) => length)) + 2;
    for (const line of help.split('\n').slice(1, -1)) {
      expect(line.slice(column - 2, column + 1)).toMatch(/^ {2}\S/);
    }
    expect(await ask('')).toBe(help);
    for (const name of ['nonsense', 'constructor', 'WHERE']) {
      expect(await ask(`${name} x`)).toBe(`there is no command "${name}"\n${help}`);
    }
  });

  it('says where the boot stands, and goes to places, forward and back', async () => {
    expect(await ask('where')).toBe('setup, 0x90200, real16, #0\n');
    const gone = await ask('  goto   startup_64 ');
    const { address, instructions } = session.stop;
    expect(gone).toBe(
      `startup_64, ${hex(address)}, long64, #${instructions}\ngdb has not seen that: type "maintenance flush register-cache" (the command bootscope-goto of the Python file does)\n`,
    );
    expect(await ask('goto #2')).toMatch(/^setup, 0x902[0-9a-f]{2}, real16, #2\n/);
    expect(session.instructions).toBe(2);
    expect(await ask('goto there')).toMatch(/^"there" is no place in a boot.*\n$/);
    expect(session.instructions).toBe(2);
  });

  it('lists the phases so far and the regions of now', async () => {
    await session.goTo('startup_32');
    const { instructions } = session.stop;
    expect(await ask('phases')).toBe(
      `setup                     0x90200 real16   #0\nstartup_32               0x100000 prot32   #${instructions}\n`,
    );
    const regions = (await ask('regions')).trimEnd().split('\n');
    expect(regions).toHaveLength(session.layout().length);
    expect(regions[0]).toBe('         0x0..0x400        IVT');
    expect(regions).toContain('     0xf0000..0x100000     BIOS ROM');
  });

  it('lists the events so far, all or of some kinds', async () => {
    await session.goTo('startup_64');
    const lines = async (choice: string) => (await ask(`events ${choice}`)).trimEnd().split('\n');
    const count = (kind: string) => session.events.filter((event) => event.kind === kind).length;
    expect(await lines('')).toHaveLength(session.events.length);
    const modes = await lines('mode');
    expect(modes.map((line) => line.trim().split(/ {2,}/).at(-1))).toEqual([
      'real16 to prot16',
      'prot16 to prot32',
      'prot32 to compat32',
      'compat32 to long64',
    ]);
    expect(await lines('mode, msr')).toHaveLength(count('mode') + count('msr'));
    expect((await lines('bios=0x15/0xe820')).length).toBeLessThan(count('bios'));
    expect(await ask('events mode,nope')).toMatch(/^there is no kind of event "nope": mode, .*\n$/);
  });

  it('shows structures where the machine has them, or where they are said to be', async () => {
    await session.goTo('startup_64');
    expect(await ask('show e820')).toContain('0x0..0x9fc00 usable');
    const bootParams = session.layout().find(({ kind }) => kind === 'boot-params')!;
    expect(await ask(`show e820 ${hex(bootParams.start)}`)).toBe(await ask('show e820'));
    const { base } = session.machine.cpu.readDescriptorTable('gdtr');
    expect(await ask('show gdt')).toContain(hex(base));
    expect(await ask('show gdt')).toContain('code64');
    expect(await ask('show page-tables')).toContain(hex(session.registers.cr3));
    // Vectors of long mode are no longer those of real mode.
    expect((await ask('show idt')).startsWith('0x0 ')).toBe(false);
    for (const asked of ['show', 'show nonsense', 'show e820x 0']) {
      expect(await ask(asked)).toMatch(/^show one of: boot_params, e820, /);
    }
    expect(await ask('show e820 here')).toBe('"here" is no address such as 0x100000\n');
    expect(await ask('show e820 -1')).toBe('"-1" is no address such as 0x100000\n');
    expect(await ask('show e820 0')).not.toContain('no address');
  });

  it('takes a TSS for one descriptor of 16 bytes in long mode, and for two in protected mode', async () => {
    for (const [place, count] of [
      ['startup_32', 4],
      ['startup_64', 3],
    ] as const) {
      await session.goTo(place);
      const { base } = session.machine.cpu.readDescriptorTable('gdtr');
      session.memory.write(Number(base) + 0x10, Uint8Array.of(0x67, 0, 0, 0, 0, 0x89, 0, 0));
      const lines = (await ask('show gdt')).trimEnd().split('\n');
      expect([place, lines.length, lines[2]!.includes('TSS (available)')]).toEqual([place, count, true]);
    }
  });

  it('says that boot_params is not known yet, before it is', async () => {
    expect(await ask('show e820')).toBe(
      'boot_params is not known in phase setup: it is from startup_32 on, or give its address\n',
    );
  });

  it('says so when a table lies where nothing is mapped', async () => {
    await session.goTo('startup_64');
    // lgdt (%rax), with a table at the end of the address space.
    session.memory.write(0x500, Uint8Array.of(0x1f, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff));
    session.memory.write(Number(session.stop.address), Uint8Array.of(0x0f, 0x01, 0x10));
    session.machine.cpu.writeRegister('rax', 0x500n);
    await session.step();
    expect(await ask('show gdt')).toBe('gdtr holds 0xffff800000000000, which no page table maps\n');
  });

  it('says who wrote and who read memory before now, the last first', async () => {
    await session.goTo('kernel');
    const { cr3 } = session.registers;
    const { instructions } = session;
    const wrote = (await ask(`who ${hex(cr3)}`)).trimEnd().split('\n');
    expect(wrote.length).toBeGreaterThan(1);
    expect(wrote.at(-1)).toMatch(/^ +#\d+ startup_32 .* rep stos .* \(fill\): 0x[0-9a-f]+: 00 -> 00$/);
    const counts = wrote.map((line) => Number(/#(\d+)/.exec(line)![1]));
    expect(counts).toEqual(counts.toSorted((a, b) => b - a));
    expect(session.instructions).toBe(instructions);
    expect(await ask('readers 0x1000')).toBe(`nobody before #${instructions}\n`);
    expect(await ask('readers 0x90200+0x800')).not.toContain('nobody');
    expect(await ask('who nowhere')).toMatch(/^"nowhere" is no range and no region here: /);

    await session.goTo('startup_32');
    expect(await ask(`who ${hex(cr3)}`)).toBe(`nobody before #${session.instructions}\n`);
    expect(await ask('who 0x100000+4')).toMatch(
      /^ +#0 setup +the loader \(ZO as loaded\) at 0x100000: 0x100000: [0-9a-f ]+\n$/,
    );
  });

  it('tells of twenty that wrote, and how many there are besides', async () => {
    await session.goTo('kernel');
    const wrote = (await ask('who 0x90000..0xa0000')).trimEnd().split('\n');
    expect(wrote).toHaveLength(21);
    expect(wrote.at(-1)).toMatch(/^and [1-9]\d* before$/);
    const few = (await ask('who 0x100000..0x101000')).trimEnd().split('\n');
    expect(few.at(-1)).not.toContain(' before');
  });

  it('names code by the files with symbols that are there', async () => {
    const at = (address: bigint, name: string) => new SymbolTable([{ address, name }]);
    const stub = { setup: null, stub: at(0x200n, 'startup_64') };
    monitor = new Monitor(session, image, { symbols: stub });
    expect(await ask('where')).toBe('setup, 0x90200, real16, #0\n');
    expect(await ask('goto startup_64')).toContain('0x100200 <startup_64>, ');
    // The copy begins in what was loaded, or runs elsewhere: it is what runs.
    const { address } = await session.goTo('relocated');
    const offset = Number(address) - session.zo! - 0x200;
    expect(await ask('where')).toContain(`<startup_64+${hex(offset)}>`);
    monitor = new Monitor(session, image, { symbols: { setup: at(0x200n, '_start'), stub: null } });
    expect(await ask('where')).not.toContain('<');
    expect(await ask('goto #1')).toMatch(/^setup, 0x902[0-9a-f]+ <_start\+0x/);
  });

  it('keeps the places to stop at until they are replaced', async () => {
    expect(monitor.stops).toEqual([]);
    expect(await ask('stops startup_32, #3')).toBe('startup_32\n#3\n');
    expect(monitor.stops).toHaveLength(2);
    expect(await ask('stops')).toBe('startup_32\n#3\n');
    expect(await ask('stops bios')).toBe('bios\n');
    expect(await ask('stops none')).toBe('none\n');
    expect(monitor.stops).toEqual([]);
  });

  it('gives the commands that load symbols where the code runs now', async () => {
    const setup =
      '# setup, where it was loaded\nadd-symbol-file arch/x86/boot/setup.elf -o 0x90000\n# the boot stub, ';
    const stub = 'add-symbol-file arch/x86/boot/compressed/vmlinux -o';
    expect(await ask('symbols')).toBe(`${setup}once it runs\n# (go to startup_32 and ask again)\n`);
    await session.goTo('startup_32');
    expect(await ask('symbols')).toBe(
      `${setup}where it runs now\n${stub} ${hex(phase('startup_32').address)}\n`,
    );
    await session.goTo('kernel');
    const kernel = session.trace().kernel!;
    const linked = kernel.physicalBase - kernel.virtualBase;
    expect(await ask('symbols')).toBe(
      `${setup}where it runs now\n${stub} ${hex(session.zo!)}\n# the kernel, at the physical addresses that it runs at here\nadd-symbol-file vmlinux -o ${hex(BigInt.asUintN(64, linked))}\n`,
    );
    const files = { setupElf: 's', zoVmlinux: 'z', vmlinux: 'v', vmlinuxBase: 0xffff_ffff_8100_0000n };
    const named = await new Monitor(session, image, files).run('symbols');
    expect(named.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
      'add-symbol-file s -o 0x90000',
      `add-symbol-file z -o ${hex(session.zo!)}`,
      `add-symbol-file v -o ${hex(kernel.physicalBase + 0x7f00_0000n)}`,
      '',
    ]);
  });

  it('disassembles in the mode of now', async () => {
    session.memory.write(0x7000, Uint8Array.of(0xb8, 0x34, 0x12, 0x00, 0x00));
    expect(await ask('disassemble 0x7000')).toBe('3 mov $0x1234,%ax\n');
    await session.goTo('startup_32');
    session.memory.write(0x7000, Uint8Array.of(0xb8, 0x34, 0x12, 0x00, 0x00));
    expect(await ask('disassemble 28672')).toBe('5 mov $0x1234,%eax\n');
    expect(await ask('disassemble')).toBe('which address?\n');
    expect(await ask('disassemble there')).toBe('"there" is no address such as 0x100000\n');
    await session.goTo('startup_64');
    expect(await ask('disassemble 0x900000000')).toBe('0x900000000 is not mapped\n');
  });
});
