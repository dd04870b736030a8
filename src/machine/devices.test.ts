// The smaller devices through their ports: PIC, CMOS, keyboard controller, system control, PCI, floppy controller, VGA.

import { describe, expect, it } from 'vitest';
import { Clock } from './clock.ts';
import { Cmos } from './cmos.ts';
import { FloppyController } from './floppy-controller.ts';
import { KeyboardController } from './keyboard-controller.ts';
import { PciConfig } from './pci.ts';
import { Pic } from './pic.ts';
import { Pit } from './pit.ts';
import { SystemControlA, SystemControlB } from './system-control.ts';
import { Vga } from './vga.ts';

describe('Pic', () => {
  it('takes its vector base from ICW2 and reads back the mask', () => {
    const pic = new Pic(0x20, 0x08, 0xff);
    for (const [port, value] of [
      [0x20, 0x11],
      [0x21, 0x30],
      [0x21, 0x04],
      [0x21, 0x01],
      [0x21, 0xfb],
    ] as const) {
      pic.writePort(port, value);
    }
    expect(pic.vectorBase).toBe(0x30);
    expect(pic.readPort(0x21)).toBe(0xfb);
  });

  it('holds a line back while it is masked or in service', () => {
    const pic = new Pic(0x20, 0x08, 0x00);
    expect(pic.wouldDeliver(0)).toBe(true);
    expect(pic.acknowledge(0)).toBe(0x08);
    expect(pic.wouldDeliver(0)).toBe(false);
    pic.writePort(0x20, 0x0b);
    expect(pic.readPort(0x20)).toBe(0x01);
    pic.writePort(0x20, 0x20);
    expect(pic.wouldDeliver(0)).toBe(true);
    pic.writePort(0x21, 0x01);
    expect(pic.wouldDeliver(0)).toBe(false);
  });
});

describe('Pic, as an 8259A', () => {
  const written = (...values: readonly (readonly [number, number])[]): Pic => {
    const pic = new Pic(0x20, 0x08, 0xff);
    for (const [port, value] of values) pic.writePort(port, value);
    return pic;
  };
  const MASK = [0x21, 0x5a] as const;

  it.each([
    ['cascaded, with ICW4', 0x11, 2],
    ['cascaded, without ICW4', 0x10, 1],
    ['single, with ICW4', 0x13, 1],
    ['single, without ICW4', 0x12, 0],
  ])('is programmed %s: behind so many words comes the mask', (_, icw1, words) => {
    const more = new Array(words).fill([0x21, 0x01] as const);
    const pic = written([0x20, icw1], [0x21, 0x47], ...more, MASK);
    expect([pic.vectorBase, pic.mask]).toEqual([0x40, 0x5a]);
    expect(written([0x20, icw1], [0x21, 0x47], ...more).mask).toBe(0);
  });

  it('forgets what is in service when it is programmed anew', () => {
    const pic = written([0x20, 0x0b], [0x21, 0]);
    pic.acknowledge(3);
    expect(pic.readPort(0x20)).toBe(8);
    pic.writePort(0x20, 0x11);
    expect([pic.readPort(0x20), pic.wouldDeliver(3)]).toEqual([0, true]);
  });

  it('delivers lines that are before those in service, and ends the first or the one that is named', () => {
    const pic = written([0x21, 0], [0x20, 0x0b]);
    pic.acknowledge(2);
    pic.acknowledge(5);
    expect([0, 1, 2, 3, 6].map((line) => pic.wouldDeliver(line))).toEqual([true, true, false, false, false]);
    pic.writePort(0x20, 0x65);
    expect(pic.readPort(0x20)).toBe(4);
    pic.acknowledge(6);
    pic.writePort(0x20, 0x20);
    expect(pic.readPort(0x20)).toBe(0x40);
    // Neither a rotation nor a special mask ends anything; IRR is empty.
    pic.writePort(0x20, 0x80);
    pic.writePort(0x20, 0x68);
    expect(pic.readPort(0x20)).toBe(0x40);
    pic.writePort(0x20, 0x0a);
    expect(pic.readPort(0x20)).toBe(0);
    expect(pic.readPort(0x21)).toBe(0);
  });
});

describe('Cmos', () => {
  const makeCmos = (memory = 512 * 1024 * 1024) => {
    const clock = new Clock();
    const cmos = new Cmos(clock, { ram: { low: memory, high: 0 }, equipment: 0x23, floppyType: 4 });
    const read = (index: number) => {
      cmos.writePort(0x70, index | 0x80);
      return cmos.readPort(0x71);
    };
    return { clock, read };
  };

  it('has a fixed date in BCD that moves with the machine, not the host', () => {
    const { clock, read } = makeCmos();
    const time = () => [0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map(read);
    expect(time()).toEqual([0x20, 0x24, 0x01, 0x01, 0, 0, 0]);
    clock.advance((3600 + 60 * 12 + 34) * 1e9);
    expect(time()).toEqual([0x20, 0x24, 0x01, 0x01, 0x01, 0x12, 0x34]);
    expect([read(0x0a) & 0x80, read(0x0b), read(0x0d)]).toEqual([0, 0x02, 0x80]);
  });

  it('tells the memory size below 64 MiB in KiB and above 16 MiB in 64-KiB blocks', () => {
    const { read } = makeCmos(512 * 1024 * 1024);
    expect(read(0x15) | (read(0x16) << 8)).toBe(640);
    expect(read(0x17) | (read(0x18) << 8)).toBe(0xffff);
    expect(read(0x34) | (read(0x35) << 8)).toBe((512 - 16) * 16);
    expect(read(0x10)).toBe(0x40);
  });
});

describe('KeyboardController', () => {
  it('never reads FFh as status and is always ready for a command', () => {
    const controller = new KeyboardController();
    expect(controller.readPort(0x64) & 0x03).toBe(0);
    expect(controller.readPort(0x64)).not.toBe(0xff);
  });

  it('opens and closes A20 through its output port', () => {
    const controller = new KeyboardController();
    const moves: boolean[] = [];
    controller.onA20 = (enabled) => {
      moves.push(enabled);
      controller.setA20(enabled);
    };
    controller.writePort(0x64, 0xd1);
    controller.writePort(0x60, 0xdd);
    controller.writePort(0x64, 0xd0);
    expect(controller.readPort(0x64) & 1).toBe(1);
    expect(controller.readPort(0x60) & 0x02).toBe(0);
    controller.writePort(0x64, 0xd1);
    controller.writePort(0x60, 0xdf);
    controller.writePort(0x64, 0xff);
    expect(moves).toEqual([false, true]);
    expect(controller.readPort(0x64) & 1).toBe(0);
  });

  it('passes its self-test, keeps its command byte, answers for the keyboard', () => {
    const controller = new KeyboardController();
    controller.writePort(0x64, 0xaa);
    expect(controller.readPort(0x60)).toBe(0x55);
    controller.writePort(0x64, 0x60);
    controller.writePort(0x60, 0x47);
    controller.writePort(0x64, 0x20);
    expect(controller.readPort(0x60)).toBe(0x47);
    controller.writePort(0x60, 0xff);
    expect([controller.readPort(0x60), controller.readPort(0x60)]).toEqual([0xfa, 0xaa]);
  });

  it('resets the machine when the reset line is pulsed', () => {
    const controller = new KeyboardController();
    let resets = 0;
    controller.onReset = () => resets++;
    controller.writePort(0x64, 0xfe);
    expect(resets).toBe(1);
  });
});

describe('KeyboardController, command by command', () => {
  const make = () => {
    const controller = new KeyboardController();
    const told: string[] = [];
    controller.onA20 = (enabled) => told.push(`A20 ${enabled}`);
    controller.onReset = () => told.push('reset');
    const command = (value: number): void => controller.writePort(0x64, value);
    const data = (value: number): void => controller.writePort(0x60, value);
    const read = (): number[] => {
      const bytes: number[] = [];
      while (controller.readPort(0x64) & 1) bytes.push(controller.readPort(0x60));
      return bytes;
    };
    return { controller, told, command, data, read };
  };

  it('keeps in its command byte which port is off', () => {
    const { command, read } = make();
    const byte = () => {
      command(0x20);
      return read();
    };
    expect(byte()).toEqual([0x61]);
    for (const [value, after] of [
      [0xa8, 0x41],
      [0xa7, 0x61],
      [0xad, 0x71],
      [0xa8, 0x51],
      [0xae, 0x41],
    ] as const) {
      command(value);
      expect(byte()).toEqual([after]);
    }
  });

  it.each([
    [0xa9, 0x00],
    [0xaa, 0x55],
    [0xab, 0x00],
    [0xc0, 0x80],
    [0xd0, 0xcf],
  ])('answers %i', (value, answer) => {
    const { controller, command, read } = make();
    command(value);
    // Output full, system flag, the last write was a command, not locked.
    expect(controller.readPort(0x64)).toBe(0x1d);
    expect(read()).toEqual([answer]);
    expect([controller.readPort(0x64), controller.readPort(0x60)]).toEqual([0x1c, 0]);
  });

  it('takes a parameter for some, which is no byte for the keyboard', () => {
    const { controller, command, data, read } = make();
    for (const value of [0xd2, 0xd3]) {
      command(value);
      data(0x5a);
      expect(read()).toEqual([0x5a]);
      expect(controller.readPort(0x64)).toBe(0x14);
    }
    command(0xd4);
    data(0xff);
    expect(read()).toEqual([]);
    // Another command takes the place of one that waits.
    command(0xd2);
    command(0xff);
    data(0xee);
    expect(read()).toEqual([0xee]);
  });

  it('moves A20 and the reset line', () => {
    const { controller, told, command, data, read } = make();
    command(0xdd);
    command(0xd0);
    expect(read()).toEqual([0xcd]);
    command(0xdf);
    command(0xd0);
    expect(read()).toEqual([0xcf]);
    controller.setA20(false);
    command(0xd0);
    expect(read()).toEqual([0xcd]);
    command(0xd1);
    data(0x02);
    expect(told).toEqual(['A20 false', 'A20 true', 'A20 true', 'reset']);
    // Pulses of the bits that are 0: F0h to FEh with bit 0 clear.
    for (const value of [0xf0, 0xfe, 0xff, 0xf1, 0xee]) command(value);
    expect(told.slice(4)).toEqual(['reset', 'reset']);
  });

  it.each([
    ['LEDs', [0xed, 0x07], [0xfa, 0xfa]],
    ['a scan code set', [0xf0, 0xee], [0xfa, 0xfa]],
    ['a typematic rate', [0xf3, 0xff], [0xfa, 0xfa]],
    ['an echo', [0xee], [0xee]],
    ['its name', [0xf2], [0xfa, 0xab, 0x41]],
    ['a reset', [0xff], [0xfa, 0xaa]],
    ['to be switched on', [0xf4], [0xfa]],
  ])('has a keyboard that is asked for %s', (_, bytes, answer) => {
    const { data, read } = make();
    for (const byte of bytes) data(byte);
    expect(read()).toEqual(answer);
    data(0xee);
    expect(read()).toEqual([0xee]);
  });
});

describe('SystemControlA', () => {
  it('moves A20 by bit 1 and resets by bit 0 of port 92h', () => {
    const control = new SystemControlA();
    const events: string[] = [];
    control.onA20 = (enabled) => events.push(`A20 ${enabled}`);
    control.onReset = () => events.push('reset');
    expect(control.readPort(0x92)).toBe(0x02);
    control.writePort(0x92, 0x00);
    control.writePort(0x92, 0x03);
    expect(events).toEqual(['A20 false', 'A20 true', 'reset']);
  });
});

describe('SystemControlB', () => {
  it('toggles the refresh bit as time passes and shows OUT of counter 2', () => {
    const clock = new Clock();
    const pit = new Pit(clock);
    const control = new SystemControlB(clock, pit);
    const before = control.readPort() & 0x10;
    clock.advance(15_085);
    expect(control.readPort() & 0x10).not.toBe(before);
    control.writePort(0x61, 0x01);
    pit.writePort(0x43, 0xb0);
    pit.writePort(0x42, 0x10);
    pit.writePort(0x42, 0x00);
    expect(control.readPort() & 0x20).toBe(0);
    clock.advance(20_000);
    expect(control.readPort() & 0x21).toBe(0x21);
  });
});

describe('ports of the motherboard', () => {
  it('keep what is written, but for the reset', () => {
    const control = new SystemControlA();
    let resets = 0;
    control.onReset = () => resets++;
    control.writePort(0x92, 0xf1);
    expect([control.readPort(0x92), resets]).toEqual([0xf0, 1]);
    control.setA20(true);
    expect(control.readPort(0x92)).toBe(0xf2);
    control.setA20(false);
    expect(control.readPort(0x92)).toBe(0xf0);
    control.writePort(0xcf9, 0x02);
    expect([control.readPort(0xcf9), resets]).toEqual([2, 1]);
    control.writePort(0xcf9, 0x06);
    expect([control.readPort(0xcf9), resets]).toEqual([6, 2]);
    expect(control.readPort(0x92)).toBe(0xf0);
  });

  it('show the refresh of memory every 30 microseconds', () => {
    const clock = new Clock();
    const control = new SystemControlB(clock, new Pit(clock));
    const seen: number[] = [];
    for (let at = 0; at < 60; at++) {
      seen.push((control.readPort() & 0x10) >> 4);
      clock.advance(1000);
    }
    // As old code counts it: four changes in 60 microseconds, about 15 apart.
    const changes = seen.flatMap((bit, at) => (at > 0 && bit !== seen[at - 1] ? [at] : []));
    expect(changes).toEqual([16, 31, 46]);
    control.writePort(0x61, 0xff);
    expect(control.readPort() & 0xcf).toBe(0x0f);
  });
});

describe('PciConfig', () => {
  it('is read byte by byte and in words', () => {
    const pci = new PciConfig();
    pci.writePortWide(0xcf8, 4, 0x80000008);
    expect([0, 1, 2, 3].map((byte) => pci.readPort(0xcfc + byte))).toEqual([0x02, 0, 0, 0x06]);
    expect([pci.readPortWide(0xcfc, 2), pci.readPortWide(0xcfe, 2)]).toEqual([0x0002, 0x0600]);
    expect([0, 1, 2, 3].map((byte) => pci.readPort(0xcf8 + byte))).toEqual([8, 0, 0, 0x80]);
    expect(pci.readPortWide(0xcf8, 2)).toBe(8);
    pci.writePort();
    pci.writePortWide(0xcfc, 4, 0);
    pci.writePortWide(0xcf8, 2, 0);
    expect(pci.readPortWide(0xcfc, 4)).toBe(0x06000002);
  });

  it.each([
    ['a register without anything in it', 0x80000040, 0],
    ['a register of the header', 0x80000004, 0],
    ['function 1', 0x80000100, 0xffffffff],
    ['bus 1', 0x80010000, 0xffffffff],
    ['what is not enabled', 0x00000000, 0xffffffff],
    ['a register at a byte of it', 0x8000000b, 0x06000002],
  ])('answers for %s', (_, address, value) => {
    const pci = new PciConfig();
    pci.writePortWide(0xcf8, 4, address);
    expect(pci.readPortWide(0xcfc, 4)).toBe(value);
  });

  it('has a host bridge at 00:00.0 and nothing elsewhere', () => {
    const pci = new PciConfig();
    expect(pci.readPortWide(0xcfc, 4)).toBe(0xffffffff);
    pci.writePortWide(0xcf8, 4, 0x80000000);
    expect(pci.readPortWide(0xcf8, 4)).toBe(0x80000000);
    expect(pci.readPortWide(0xcfc, 4)).toBe(0x12378086);
    expect(pci.readPortWide(0xcfe, 2)).toBe(0x1237);
    pci.writePortWide(0xcf8, 4, 0x80000800);
    expect(pci.readPortWide(0xcfc, 2)).toBe(0xffff);
  });
});

describe('FloppyController', () => {
  it('is ready, and its motor goes off through port 3F2h', () => {
    const controller = new FloppyController();
    controller.startMotor();
    expect([controller.motorOn, controller.readPort(0x3f4)]).toEqual([true, 0x80]);
    controller.writePort(0x3f2, 0x0c);
    expect(controller.motorOn).toBe(false);
  });
});

describe('FloppyController, otherwise', () => {
  it('keeps its digital output, has no data, and no disk that was changed', () => {
    const controller = new FloppyController();
    controller.writePort(0x3f2, 0x1c);
    controller.writePort(0x3f5, 0xff);
    expect([0x3f2, 0x3f4, 0x3f5, 0x3f7].map((port) => controller.readPort(port))).toEqual([0x1c, 0x80, 0, 0]);
    expect(controller.motorOn).toBe(true);
    controller.writePort(0x3f2, 0x2c);
    expect(controller.motorOn).toBe(true);
  });
});

describe('Vga, register by register', () => {
  it.each([
    ['sequencer', 0x3c4, 0x0a, 0x02],
    ['graphics', 0x3ce, 0x15, 0x05],
    ['CRTC', 0x3d4, 0x0a, 0x0a],
  ])('keeps what is written to the %s', (_, port, index, kept) => {
    const vga = new Vga();
    vga.writePort(port, index);
    vga.writePort(port + 1, 0x5a);
    expect([vga.readPort(port), vga.readPort(port + 1)]).toEqual([kept, 0x5a]);
    vga.writePort(port, kept + 1);
    expect(vga.readPort(port + 1)).not.toBe(0x5a);
    vga.writePort(port, kept);
    expect(vga.readPort(port + 1)).toBe(0x5a);
  });

  it('begins in mode 3 with 400 lines', () => {
    const vga = new Vga();
    const read = (port: number, index: number): number => {
      vga.writePort(port, index);
      return vga.readPort(port + 1);
    };
    // 80 characters a line, 16 lines a character, 400 lines, text in B800h.
    expect([read(0x3d4, 1), read(0x3d4, 9) & 0x1f, read(0x3d4, 0x12), read(0x3ce, 6)]).toEqual([
      79, 15, 0x8f, 0x0e,
    ]);
    expect([0x3cc, 0x3c2, 0x3c6, 0x3c7].map((port) => vga.readPort(port))).toEqual([0x67, 0x10, 0xff, 3]);
  });

  it('has an attribute controller that takes index and value in turn', () => {
    const vga = new Vga();
    const put = (value: number): void => vga.writePort(0x3c0, value);
    put(0x25);
    expect([vga.readPort(0x3c0), vga.readPort(0x3c1)]).toEqual([0x25, 0x05]);
    put(0x2a);
    put(0x06);
    put(0x2b);
    vga.readPort(0x3da);
    put(0x25);
    expect(vga.readPort(0x3c1)).toBe(0x2a);
    vga.readPort(0x3da);
    put(0x06);
    expect(vga.readPort(0x3c1)).toBe(0x2b);
  });

  it('has a palette of 256 colours of three parts', () => {
    const vga = new Vga();
    vga.writePort(0x3c8, 0xff);
    for (const value of [0x41, 2, 3, 4]) vga.writePort(0x3c9, value);
    expect([vga.readColor(255), vga.readColor(0), vga.readColor(511)]).toEqual([
      [1, 2, 3],
      [4, 0, 0],
      [1, 2, 3],
    ]);
    vga.writeColor(258, [0xff, 5, 6]);
    expect(vga.readPort(0x3c8)).toBe(0);
    vga.writePort(0x3c7, 2);
    expect([0, 1, 2].map(() => vga.readPort(0x3c9))).toEqual([0x3f, 5, 6]);
    expect(vga.readPort(0x3c8)).toBe(3);
    vga.writePort(0x3c7, 0xff);
    expect([0, 1, 2, 3].map(() => vga.readPort(0x3c9))).toEqual([1, 2, 3, 4]);
  });

  it('answers at the ports of colour or of monochrome displays, as Miscellaneous Output says', () => {
    const vga = new Vga();
    vga.cursorOffset = 0x1234;
    vga.startOffset = 0x5678;
    vga.writePort(0x3b4, 0x0e);
    expect([vga.readPort(0x3d4), vga.readPort(0x3ba)]).toEqual([0, 0xff]);
    vga.writePort(0x3c2, 0x66);
    vga.writePort(0x3b4, 0x0d);
    expect([vga.readPort(0x3b4), vga.readPort(0x3b5), vga.readPort(0x3d5), vga.readPort(0x3da)]).toEqual([
      0x0d, 0x78, 0xff, 0xff,
    ]);
    expect(vga.readPort(0x3ba) ^ vga.readPort(0x3ba)).toBe(0x09);
    expect([vga.readPort(0x3c4), vga.readPort(0x3cc)]).toEqual([0, 0x66]);
    vga.writePort(0x3c2, 0x67);
    vga.writePort(0x3d4, 0x0c);
    expect([vga.readPort(0x3d5), vga.startOffset, vga.cursorOffset]).toEqual([0x56, 0x5678, 0x1234]);
  });
});

describe('Vga', () => {
  it('keeps the cursor in CRTC registers 0Eh and 0Fh', () => {
    const vga = new Vga();
    vga.cursorOffset = 0x1234;
    vga.writePort(0x3d4, 0x0e);
    expect(vga.readPort(0x3d5)).toBe(0x12);
    vga.writePort(0x3d4, 0x0f);
    vga.writePort(0x3d5, 0x35);
    expect(vga.cursorOffset).toBe(0x1235);
    expect(vga.readPort(0x3b5)).toBe(0xff);
  });

  it('toggles the retrace bits and the attribute flip-flop by reading 3DAh', () => {
    const vga = new Vga();
    expect(vga.readPort(0x3da)).not.toBe(vga.readPort(0x3da));
    vga.writePort(0x3c0, 0x01);
    vga.writePort(0x3c0, 0x2a);
    vga.readPort(0x3da);
    vga.writePort(0x3c0, 0x01);
    expect(vga.readPort(0x3c1)).toBe(0x2a);
  });
});
