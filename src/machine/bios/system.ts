// INT 15h: memory map and sizes, A20, block moves, waiting, APM, and what else a system BIOS answers.

import { hex } from '../../hex.ts';
import { type E820Entry, e820TypeName } from '../../protocol/e820.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Clock } from '../clock.ts';
import { EBDA_ADDRESS, e801, extendedKilobytes88 } from '../memory-map.ts';
import { ROM_APM_ENTRY, ROM_CONFIGURATION_TABLE, ROM_SEGMENT } from './rom.ts';
import { type BiosRegisters, type BiosService, type BiosVector, linear } from './service.ts';

const UNSUPPORTED = 0x86;
const SMAP = 0x534d4150;
/** Bytes of an E820 entry without the extended attributes of ACPI 3.0. */
const E820_ENTRY_SIZE = 20;
const BLOCK_MOVE_DESCRIPTORS = 0x30;
const BLOCK_MOVE_EXCEPTION = 0x02;
const APM_1_2 = 0x0102;
const APM_ALL_DEVICES = 0x0001;
const APM_OFF = 0x0003;
const APM_NO_EVENT = 0x80;
const APM_SIGNATURE = 0x504d; // "PM" in BH, BL

export interface SystemParts {
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly memoryMap: readonly E820Entry[];
  readonly a20Enabled: () => boolean;
  readonly setA20: (enabled: boolean) => void;
  /** Ends the run. */
  readonly stop: (reason: string) => void;
}

/** The services of INT 15h. What is missing fails with AH=86h and carry. */
export function systemVector(parts: SystemParts): BiosVector {
  const { memory, clock, memoryMap: map } = parts;

  function unsupported(r: BiosRegisters): void {
    r.ah = UNSUPPORTED;
    r.carry = true;
  }

  function memoryMap(r: BiosRegisters): void {
    const entry = map[r.ebx];
    if (r.edx !== SMAP || entry === undefined || r.ecx < E820_ENTRY_SIZE) {
      unsupported(r);
      return;
    }
    const bytes = new Uint8Array(E820_ENTRY_SIZE);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, entry.address, true);
    view.setBigUint64(8, entry.size, true);
    view.setUint32(16, entry.type, true);
    memory.copyIn(linear(r.es, r.di), bytes);
    r.eax = SMAP;
    r.ecx = E820_ENTRY_SIZE;
    r.ebx = r.ebx + 1 < map.length ? r.ebx + 1 : 0;
    r.carry = false;
    r.result = `${hex(entry.address)}..${hex(entry.address + entry.size)} ${e820TypeName(entry.type)}`;
  }

  function memorySizes(r: BiosRegisters): void {
    const { kilobytes, blocks } = e801(map);
    r.ax = kilobytes;
    r.bx = blocks;
    r.cx = kilobytes;
    r.dx = blocks;
    r.carry = false;
    r.result = `${kilobytes} KiB, ${blocks} blocks of 64 KiB`;
  }

  function extendedMemory(r: BiosRegisters): void {
    r.ax = extendedKilobytes88(map);
    r.carry = false;
    r.result = `${r.ax} KiB`;
  }

  /** Copies CX words between the bases in descriptors 2 and 3 of the table at ES:SI. */
  function blockMove(r: BiosRegisters): void {
    const table = memory.copyOut(linear(r.es, r.si), BLOCK_MOVE_DESCRIPTORS);
    const source = descriptorBase(table, 0x10);
    const target = descriptorBase(table, 0x18);
    const length = r.cx * 2;
    const fits = memory.contains(source, length) && memory.contains(target, length);
    if (fits) {
      memory.copyIn(target, memory.copyOut(source, length));
      r.result = `${hex(source)}..${hex(source + length)} to ${hex(target)}..${hex(target + length)}`;
    }
    r.ah = fits ? 0 : BLOCK_MOVE_EXCEPTION;
    r.carry = !fits;
  }

  function wait(r: BiosRegisters): void {
    clock.advance((r.cx * 0x10000 + r.dx) * 1000);
    r.carry = false;
  }

  function configuration(r: BiosRegisters): void {
    r.es = ROM_SEGMENT;
    r.bx = ROM_CONFIGURATION_TABLE;
    r.ah = 0;
    r.carry = false;
  }

  function ebdaSegment(r: BiosRegisters): void {
    r.es = EBDA_ADDRESS >>> 4;
    r.carry = false;
  }

  function switchA20(r: BiosRegisters, enabled: boolean): void {
    parts.setA20(enabled);
    r.ah = 0;
    r.carry = false;
  }

  function a20Status(r: BiosRegisters): void {
    r.ax = parts.a20Enabled() ? 1 : 0;
    r.carry = false;
  }

  function a20Support(r: BiosRegisters): void {
    r.ah = 0;
    r.bx = 3; // keyboard controller and port 92h
    r.carry = false;
  }

  function apmPresent(r: BiosRegisters): void {
    r.ax = APM_1_2;
    r.bx = APM_SIGNATURE;
    r.cx = 0x03; // 16- and 32-bit protected mode interfaces
    r.carry = false;
  }

  function apmConnect32(r: BiosRegisters): void {
    r.ax = ROM_SEGMENT;
    r.ebx = ROM_APM_ENTRY;
    r.cx = ROM_SEGMENT;
    r.dx = ROM_SEGMENT;
    r.esi = 0xfff0fff0;
    r.di = 0xfff0;
    r.carry = false;
  }

  function apmConnect16(r: BiosRegisters): void {
    r.ax = ROM_SEGMENT;
    r.bx = ROM_APM_ENTRY;
    r.cx = ROM_SEGMENT;
    r.si = 0xfff0;
    r.di = 0xfff0;
    r.carry = false;
  }

  function apmSetPowerState(r: BiosRegisters): void {
    if (r.bx === APM_ALL_DEVICES && r.cx === APM_OFF) {
      parts.stop('the guest switched the machine off (INT 15h AX=5307h)');
    }
    r.carry = false;
  }

  function ok(r: BiosRegisters): void {
    r.carry = false;
  }

  const byAx: readonly (readonly [number, BiosService])[] = [
    [0xe820, { name: 'query system address map', run: memoryMap }],
    [0xe801, { name: 'get memory size above 1 MiB and 16 MiB', run: memorySizes }],
    [0xe881, { name: 'get memory size (32-bit)', run: unsupported }],
    [0x2400, { name: 'disable A20', run: (r) => switchA20(r, false) }],
    [0x2401, { name: 'enable A20', run: (r) => switchA20(r, true) }],
    [0x2402, { name: 'get A20 status', run: a20Status }],
    [0x2403, { name: 'query A20 support', run: a20Support }],
    [0xe980, { name: 'SpeedStep interface', run: unsupported }],
    [0xec00, { name: 'announce the mode the kernel will run in', run: unsupported }],
    [0x5300, { name: 'APM: installation check', run: apmPresent }],
    [0x5301, { name: 'APM: connect real mode interface', run: ok }],
    [0x5302, { name: 'APM: connect 16-bit interface', run: apmConnect16 }],
    [0x5303, { name: 'APM: connect 32-bit interface', run: apmConnect32 }],
    [0x5304, { name: 'APM: disconnect', run: ok }],
    [0x5305, { name: 'APM: CPU idle', run: ok }],
    [0x5306, { name: 'APM: CPU busy', run: ok }],
    [0x5307, { name: 'APM: set power state', run: apmSetPowerState }],
    [0x5308, { name: 'APM: enable power management', run: ok }],
    [0x530a, { name: 'APM: get power status', run: apmPowerStatus }],
    [0x530b, { name: 'APM: get event', run: apmNoEvent }],
    [0x530d, { name: 'APM: enable device power management', run: ok }],
    [0x530f, { name: 'APM: engage power management', run: ok }],
    [0x530e, { name: 'APM: driver version', run: (r) => apmVersion(r) }],
  ];
  const byAh: readonly (readonly [number, BiosService])[] = [
    [
      0x4f,
      {
        name: 'keyboard intercept',
        run: (r) => {
          r.carry = true;
        },
      },
    ],
    [0x86, { name: 'wait', run: wait }],
    [0x87, { name: 'move block', run: blockMove }],
    [0x88, { name: 'get extended memory size', run: extendedMemory }],
    [0x90, { name: 'device busy', run: () => {} }],
    [0x91, { name: 'device ready', run: () => {} }],
    [0xc0, { name: 'get configuration', returnsSegment: true, run: configuration }],
    [0xc1, { name: 'get EBDA segment', returnsSegment: true, run: ebdaSegment }],
    [0xc2, { name: 'pointing device', run: unsupported }],
  ];
  return { vector: 0x15, byAx: new Map(byAx), byAh: new Map(byAh), unknown: unsupported };
}

/** On line, no battery, charge unknown (APM 1.2, function 0Ah). */
function apmPowerStatus(r: BiosRegisters): void {
  r.bx = 0x0104;
  r.cx = 0x80ff;
  r.dx = 0xffff;
  r.carry = false;
}

function apmNoEvent(r: BiosRegisters): void {
  r.ah = APM_NO_EVENT;
  r.carry = true;
}

function apmVersion(r: BiosRegisters): void {
  r.ax = Math.min(r.cx, APM_1_2);
  r.carry = false;
}

/** 32-bit base of the descriptor at `offset` (Intel SDM 3A 3.4.5). */
function descriptorBase(table: Uint8Array, offset: number): number {
  return (
    (table[offset + 2]! |
      (table[offset + 3]! << 8) |
      (table[offset + 4]! << 16) |
      (table[offset + 7]! << 24)) >>>
    0
  );
}
