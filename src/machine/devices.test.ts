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

describe('PciConfig', () => {
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
