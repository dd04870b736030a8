// BIOS services called by real-mode programs on a real CPU. Expected values are SeaBIOS's (QEMU 7.2, -fda, 512 MiB) where they can be.

import { afterEach, expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { describeEachEngine } from '../../cpu/each-engine.ts';
import type { Machine, MachineOptions } from '../machine.ts';
import { call, load, type ProgramResult, runProgram } from '../real-mode-program.ts';

const MIB = 1024 * 1024;
const SMAP = 0x534d4150;
const FLOPPY_SIZE = 1_474_560;

/** A disk whose sectors hold their own number, counted from 0. */
function numberedFloppy(size = FLOPPY_SIZE): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < size; at += 512) {
    view.setUint32(at, at / 512, true);
  }
  return bytes;
}

describeEachEngine('BIOS', (open) => {
  let cpu: Cpu | null = null;

  afterEach(() => {
    cpu?.close();
    cpu = null;
  });

  const run = async (
    code: readonly number[],
    options: Partial<MachineOptions> = {},
    prepare?: (machine: Machine) => void,
  ): Promise<ProgramResult> => {
    cpu = await open();
    return runProgram(cpu, code, options, prepare);
  };

  const readSectors = (
    cx: number,
    options: { count?: number; head?: number; bx?: number; drive?: number } = {},
  ) =>
    call(0x13, {
      eax: 0x0200 | (options.count ?? 1),
      ebx: options.bx ?? 0x9000,
      ecx: cx,
      edx: ((options.head ?? 0) << 8) | (options.drive ?? 0),
    });

  it('gives out the memory map entry by entry, CF clear, and ends it with EBX 0', async () => {
    const first = await run(call(0x15, { eax: 0xe820, ebx: 0, ecx: 24, edx: SMAP, edi: 0x600 }));
    expect(first).toMatchObject({ eax: SMAP, ebx: 1, ecx: 20, carry: false });
    const view = new DataView(first.machine.ram.buffer, first.machine.ram.byteOffset + 0x600);
    expect([view.getBigUint64(0, true), view.getBigUint64(8, true), view.getUint32(16, true)]).toEqual([
      0n,
      0x9fc00n,
      1,
    ]);
    first.machine.cpu.close();
    const last = await run(call(0x15, { eax: 0xe820, ebx: 5, ecx: 20, edx: SMAP, edi: 0x600 }));
    expect(last).toMatchObject({ ebx: 0, carry: false });
  });

  it('refuses an E820 call without the signature or past the end with AH=86h and CF', async () => {
    const unsigned = await run(call(0x15, { eax: 0xe820, ebx: 0, ecx: 20, edx: 0x12345678, edi: 0x600 }));
    expect(unsigned).toMatchObject({ eax: 0x8620, carry: true });
    unsigned.machine.cpu.close();
    const past = await run(call(0x15, { eax: 0xe820, ebx: 77, ecx: 20, edx: SMAP, edi: 0x600 }));
    expect(past).toMatchObject({ eax: 0x8620, ebx: 77, carry: true });
  });

  it('gives out a memory map of the caller', async () => {
    const memoryMap = [{ address: 0x1_2345_0000n, size: 0x1000n, type: 3 }];
    const { machine, ebx } = await run(call(0x15, { eax: 0xe820, ebx: 0, ecx: 20, edx: SMAP, edi: 0x600 }), {
      memoryMap,
    });
    expect(ebx).toBe(0);
    expect([...machine.ram.slice(0x600, 0x614)]).toEqual([
      ...[0, 0, 0x45, 0x23, 1, 0, 0, 0],
      ...[0, 0x10, 0, 0, 0, 0, 0, 0],
      ...[3, 0, 0, 0],
    ]);
  });

  it('tells the memory size by E801h and 88h as SeaBIOS does', async () => {
    const e801 = await run(call(0x15, { eax: 0xe801 }), { memory: 512 * MIB });
    expect(e801).toMatchObject({ eax: 0x3c00, ebx: 0x1efe, ecx: 0x3c00, edx: 0x1efe, carry: false });
    e801.machine.cpu.close();
    expect(await run(call(0x15, { eax: 0x8800 }), { memory: 512 * MIB })).toMatchObject({
      eax: 0xfc00,
      carry: false,
    });
  });

  it('moves blocks between any two places below 4 GiB by 15h/87h', async () => {
    const descriptor = (address: number) => [
      ...[0xff, 0xff, address & 0xff, (address >>> 8) & 0xff, (address >>> 16) & 0xff, 0x93, 0],
      address >>> 24,
    ];
    const result = await run(call(0x15, { eax: 0x8700, ecx: 4, esi: 0x700 }), {}, (machine) => {
      machine.ram.set([1, 2, 3, 4, 5, 6, 7, 8, 9], 0x600);
      machine.ram.set([...new Array(16).fill(0), ...descriptor(0x600), ...descriptor(0x2345678)], 0x700);
    });
    expect(result).toMatchObject({ eax: 0, carry: false });
    expect([...result.machine.ram.slice(0x2345678, 0x2345681)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0]);
  });

  it('answers what it does not have with AH=86h and CF, and notes it once', async () => {
    const { eax, carry, machine } = await run([
      ...call(0x15, { eax: 0x7777 }),
      ...call(0x15, { eax: 0x7777 }),
    ]);
    expect({ eax, carry }).toEqual({ eax: 0x8677, carry: true });
    expect(machine.notices).toEqual(['INT 15h 7777 is not provided (called 2 times)']);
  });

  it('returns the configuration table with ES loaded, so that the guest can read through it', async () => {
    const readModel = [0x26, 0x8a, 0x4f, 0x02]; // mov cl, es:[bx+2]
    const result = await run([...call(0x15, { eax: 0xc000, ecx: 0 }), ...readModel]);
    expect(result).toMatchObject({
      eax: 0,
      ebx: 0xe6f5,
      ecx: 0xfc,
      es: 0xf000,
      sp: 0x7c00,
      interruptFlag: true,
    });
    expect(result.carry).toBe(false);
  });

  it('reads sectors of the floppy by cylinder, head and sector', async () => {
    const result = await run(readSectors(0x0303, { head: 1, count: 2 }), { floppy: numberedFloppy() });
    expect(result).toMatchObject({ eax: 0x0002, carry: false });
    const view = new DataView(result.machine.ram.buffer, result.machine.ram.byteOffset + 0x9000);
    expect([view.getUint32(0, true), view.getUint32(512, true)]).toEqual([128, 129]);
    expect(result.machine.floppyController.motorOn).toBe(true);
  });

  it.each([
    ['sector 36 of a 1.44M disk', 0x0024, {}, 0x0101],
    ['sector 19 of a 1.44M disk', 0x0013, {}, 0x0101],
    ['sector 0', 0x0000, {}, 0x0101],
    ['cylinder 80', 0x5001, {}, 0x0101],
    ['head 2', 0x0001, { head: 2 }, 0x0101],
    ['the second drive', 0x0001, { drive: 1 }, 0x0101],
    ['the first hard disk', 0x0001, { drive: 0x80 }, 0x0101],
    ['no sectors', 0x0001, { count: 0 }, 0x0100],
    ['a buffer across a 64 KiB boundary', 0x0001, { count: 2, bx: 0xff00 }, 0x0900],
    ['sectors past the end of the disk', 0x4f12, { head: 1, count: 2 }, 0x0401],
  ])('fails to read %s', async (_, cx, options, ax) => {
    const result = await run(readSectors(cx, options), { floppy: numberedFloppy() });
    expect(result.eax.toString(16)).toBe(ax.toString(16));
    expect(result.carry).toBe(true);
    // Hard disks have a place of their own for it.
    const isHardDisk = 'drive' in options && options.drive >= 0x80;
    expect(result.machine.ram[isHardDisk ? 0x474 : 0x441]).toBe(ax >>> 8);
  });

  it('reads on over the end of a track and of a cylinder', async () => {
    const result = await run(readSectors(0x0001, { count: 37 }), { floppy: numberedFloppy() });
    expect(result).toMatchObject({ eax: 37, carry: false });
    const view = new DataView(result.machine.ram.buffer, result.machine.ram.byteOffset + 0x9000);
    expect(view.getUint32(36 * 512, true)).toBe(36);
  });

  it('executes what it has read over code that ran before', async () => {
    const floppy = new Uint8Array(512);
    floppy.set([0xb3, 0x22, 0xc3]); // mov bl, 22h; ret
    const code = [
      ...[0xe8, 0xfd, 0x0f], // call 9000h
      ...[0x88, 0x1e, 0x00, 0x06], // mov [600h], bl
      ...readSectors(0x0001),
      ...[0xb9, 0x00, 0x90, 0xff, 0xd1], // mov cx, 9000h; call cx
    ];
    const result = await run(code, { floppy }, (machine) => {
      machine.ram.set([0xb3, 0x11, 0xc3], 0x9000);
    });
    expect([result.machine.ram[0x600], result.ebx & 0xff]).toEqual([0x11, 0x22]);
  });

  it('writes sectors to the disk in the drive, not to the image', async () => {
    const floppy = new Uint8Array(FLOPPY_SIZE);
    const write = call(0x13, { eax: 0x0301, ebx: 0x600, ecx: 0x0002, edx: 0 });
    const result = await run(write, { floppy }, (machine) => machine.ram.fill(0x5a, 0x600, 0x800));
    expect(result).toMatchObject({ eax: 0x0001, carry: false });
    expect([result.machine.drives.floppy?.bytes[512], floppy[512]]).toEqual([0x5a, 0]);
  });

  it('describes the drive by 13h/08h with the disk table in ES:DI', async () => {
    const result = await run(call(0x13, { eax: 0x0800, edx: 0 }), { floppy: numberedFloppy(737_280) });
    expect(result).toMatchObject({ eax: 0, ebx: 3, ecx: 0x4f09, edx: 0x0101, es: 0xf000, carry: false });
    expect(result.machine.ram[0xf0000 + result.edi + 4]).toBe(9);
    expect(result.machine.memory.read16(0x78)).toBe(result.edi);
  });

  it('has no hard disks and no EDD', async () => {
    const edd = await run(call(0x13, { eax: 0x4100, ebx: 0x55aa, edx: 0x80 }));
    expect(edd).toMatchObject({ eax: 0x0100, ebx: 0x55aa, carry: true });
    expect(edd.machine.ram[0x475]).toBe(0);
    expect(edd.machine.notices).toEqual([]);
  });

  it('prints by teletype to the screen, wraps and scrolls', async () => {
    const say = (text: string) =>
      [...text].flatMap((letter) => call(0x10, { eax: 0x0e00 | letter.charCodeAt(0) }));
    const goTo = call(0x10, { eax: 0x0200, ebx: 0, edx: (24 << 8) | 78 });
    const result = await run([...goTo, ...say('abc\r\nd'), ...call(0x10, { eax: 0x0300, ebx: 0 })]);
    expect(result.machine.teletypeText).toBe('abc\nd');
    expect(result.machine.screenText().split('\n').slice(22)).toEqual([`${' '.repeat(78)}ab`, 'c', 'd']);
    expect(result).toMatchObject({ edx: 0x1801, ecx: 0x0607 });
    expect(result.machine.vga.cursorOffset).toBe(24 * 80 + 1);
  });

  it('writes a string with attributes by 10h/13h and moves the cursor only when told to', async () => {
    const write = (al: number) =>
      call(0x10, { eax: 0x1300 | al, ebx: 0x001f, ecx: 2, edx: 0x0305, ebp: 0x600 });
    const kept = await run([...write(0), ...call(0x10, { eax: 0x0300, ebx: 0 })], {}, (machine) => {
      machine.ram.set([0x68, 0x69], 0x600);
    });
    expect(kept.edx).toBe(0);
    expect(kept.machine.memory.read16(0xb8000 + (3 * 80 + 5) * 2)).toBe(0x1f68);
    kept.machine.cpu.close();
    const moved = await run([...write(1), ...call(0x10, { eax: 0x0300, ebx: 0 })]);
    expect(moved.edx).toBe(0x0307);
  });

  it('tells the video mode, and fits more rows with a smaller font', async () => {
    const mode = await run(call(0x10, { eax: 0x0f00, ebx: 0xff00 }));
    expect(mode).toMatchObject({ eax: 0x5003, ebx: 0 });
    mode.machine.cpu.close();
    const rows = await run([
      ...call(0x10, { eax: 0x1112, ebx: 0 }),
      ...call(0x10, { eax: 0x1130, ebx: 0x0100 }),
    ]);
    expect(rows).toMatchObject({ ecx: 8, edx: 49, es: 0xf000 });
    expect([rows.machine.ram[0x484], rows.machine.ram[0x485]]).toEqual([49, 8]);
  });

  it('is a VGA with VBE: signature, a list of modes, and details of each', async () => {
    const vga = await run([...call(0x10, { eax: 0x1a00 })]);
    expect(vga).toMatchObject({ eax: 0x1a1a, ebx: 8 });
    vga.machine.cpu.close();
    const vbe = await run([
      ...call(0x10, { eax: 0x4f00, edi: 0x2000 }),
      ...call(0x10, { eax: 0x4f01, ecx: 0x118, edi: 0x3000 }),
    ]);
    expect(vbe.eax).toBe(0x004f);
    const { memory } = vbe.machine;
    expect(new TextDecoder().decode(memory.copyOut(0x2000, 4))).toBe('VESA');
    const modes = memory.read16(0x2010) * 16 + memory.read16(0x200e);
    expect(memory.read16(modes)).toBe(0x100);
    expect([memory.read16(0x3012), memory.read16(0x3014), memory.read8(0x3019)]).toEqual([1024, 768, 24]);
    vbe.machine.cpu.close();
    expect((await run(call(0x10, { eax: 0x4f01, ecx: 0x1ff, edi: 0x3000 }))).eax).toBe(0x014f);
  });

  it('hands out an EDID block whose bytes add up to 0', async () => {
    const { machine, eax } = await run(call(0x10, { eax: 0x4f15, ebx: 1, edi: 0x3000 }));
    expect(eax).toBe(0x004f);
    const sum = machine.memory.copyOut(0x3000, 128).reduce((total, byte) => total + byte, 0);
    expect(sum & 0xff).toBe(0);
  });

  it('says by ZF whether a key waits, and leaves AX alone without one', async () => {
    const without = await run(call(0x16, { eax: 0x0123 }));
    expect(without).toMatchObject({ eax: 0x0123, zero: true });
    without.machine.cpu.close();
    const withKey = await run(
      [...call(0x16, { eax: 0x0100 }), ...call(0x16, { eax: 0x0000 })],
      {},
      (machine) => {
        machine.typeKeys('y');
      },
    );
    expect(withKey).toMatchObject({ eax: 'y'.charCodeAt(0), zero: false });
  });

  it('ends the run with a sentence when the guest waits for a key', async () => {
    const { machine } = await run(call(0x16, { eax: 0 }));
    expect(machine.stopReason).toBe('the guest waits for a key, and there is nobody to press one');
  });

  it('ends the run when the guest has nothing to boot', async () => {
    const { machine } = await run(call(0x18));
    expect(machine.stopReason).toContain('INT 18h');
  });

  it('has a clock that goes on only with the guest', async () => {
    const twice = [
      ...call(0x1a, { eax: 0 }),
      0x89,
      0xd3,
      ...call(0x15, { eax: 0x8600, ecx: 0x000f, edx: 0x4240 }),
    ];
    const result = await run([...twice, ...call(0x1a, { eax: 0 })]);
    expect(result.edx - (result.ebx & 0xffff)).toBe(18);
    result.machine.cpu.close();
    const date = await run(call(0x1a, { eax: 0x0400 }));
    expect(date).toMatchObject({ ecx: 0x2024, edx: 0x0101, carry: false });
  });

  it('tells a listener what was called, with what, and what came back', async () => {
    const { events } = await run(call(0x12, { eax: 0xffff }));
    expect(events).toEqual([
      {
        kind: 'bios',
        vector: 0x12,
        input: { eax: 0xffff },
        output: { eax: 639 },
        carry: false,
        text: 'INT 12h: get conventional memory size',
        result: '639 KiB',
      },
    ]);
  });

  it('leaves the upper half of a register alone when a service returns 16 bits', async () => {
    expect((await run(call(0x11, { eax: 0xabcd1234 }))).eax).toBe((0xabcd0222 | 0) >>> 0);
  });

  it('sends a character out of the serial port by 14h/01h', async () => {
    const { machine, eax } = await run(call(0x14, { eax: 0x0141, edx: 0 }));
    expect([machine.serialText, eax]).toEqual(['A', 0x6041]);
  });

  it('keeps every register that a service does not return', async () => {
    const registers = { ebx: 0x11112222, ecx: 0x33334444, esi: 0x55556666, edi: 0x77778888, ebp: 0x9999aaaa };
    const result = await run([...load(registers), ...call(0x16, { eax: 0x0200 })]);
    expect(result).toMatchObject(registers);
  });
});
