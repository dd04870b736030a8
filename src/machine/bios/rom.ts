// What a BIOS leaves in memory before it boots: interrupt vectors, BIOS data areas, and its ROM.

import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { FloppyGeometry } from '../floppy-disk.ts';
import { EBDA_ADDRESS } from '../memory-map.ts';

export const ROM_SEGMENT = 0xf000;
export const ROM_ADDRESS = 0xf0000;
const OPTION_ROMS = 0xc0000;
export const TEXT_MEMORY = 0xb8000;
export const TEXT_MEMORY_SIZE = 0x8000;
/** A space, grey on black. */
const BLANK_CELL = 0x0720;

// Offsets in the ROM segment.
/**
 * Per vector `INT vector; IRET`, `STUB_SIZE` bytes apart: where a handler of the guest's jumps to the BIOS
 * that was there before it, the INT brings the call back to the machine.
 */
export const ROM_STUBS = 0xc000;
export const STUB_SIZE = 8;
/** `mov es, cs:[ROM_ES_VALUE]; iret`: how a service returns a segment. */
export const ROM_RETURN_ES = 0xc800;
export const ROM_ES_VALUE = 0xc80c;
export const ROM_CONFIGURATION_TABLE = 0xe6f5;
export const ROM_DISK_TABLE = 0xefc7;
/** What INT 15h AX=5303h gives out as the 32-bit APM entry: it says "not supported". */
export const ROM_APM_ENTRY = 0xc810;
export const ROM_FONT = 0xd000;
export const ROM_EMPTY_TABLE = 0xc900;
export const ROM_VIDEO_TABLE = 0xf0a4;
export const ROM_VBE_STRINGS = 0xca00;
export const ROM_VBE_MODES = 0xca40;
export const ROM_RESET = 0xfff0;

const TIMER = 0x08;
/** INT 1Ch: the BIOS's timer handler lets programs have their share. */
const CALL_TIMER_HOOK = [0xcd, 0x1c];

export const MODEL_AT = 0xfc;

// BIOS data area (segment 40h), absolute addresses.
export const BDA = 0x400;
export const BDA_END = 0x500;
export const BDA_COM_PORTS = 0x400;
export const BDA_EBDA_SEGMENT = 0x40e;
export const BDA_EQUIPMENT = 0x410;
export const BDA_BASE_MEMORY_KB = 0x413;
export const BDA_KEYBOARD_FLAGS = 0x417;
export const BDA_KEYBOARD_HEAD = 0x41a;
export const BDA_KEYBOARD_TAIL = 0x41c;
export const BDA_KEYBOARD_BUFFER = 0x41e;
export const BDA_FLOPPY_STATUS = 0x441;
export const BDA_VIDEO_MODE = 0x449;
export const BDA_COLUMNS = 0x44a;
export const BDA_PAGE_SIZE = 0x44c;
export const BDA_PAGE_OFFSET = 0x44e;
export const BDA_CURSOR_POSITIONS = 0x450;
export const BDA_CURSOR_SHAPE = 0x460;
export const BDA_ACTIVE_PAGE = 0x462;
export const BDA_CRTC_PORT = 0x463;
export const BDA_TICKS = 0x46c;
export const BDA_MIDNIGHT = 0x470;
export const BDA_DISK_STATUS = 0x474;
export const BDA_HARD_DISKS = 0x475;
export const BDA_KEYBOARD_START = 0x480;
export const BDA_KEYBOARD_END = 0x482;
export const BDA_ROWS = 0x484;
export const BDA_FONT_HEIGHT = 0x485;
export const BDA_VIDEO_CONTROL = 0x487;

export const COM1_PORT = 0x3f8;
const EQUIPMENT_FLOPPY = 0x0001;
const EQUIPMENT_FPU = 0x0002;
const EQUIPMENT_80X25 = 0x0020;
const EQUIPMENT_ONE_SERIAL_PORT = 0x0200;
/** Vectors that point to tables, not to code. */
const POINTER_VECTORS: readonly (readonly [vector: number, offset: number])[] = [
  [0x1d, ROM_VIDEO_TABLE],
  [0x1e, ROM_DISK_TABLE],
  [0x1f, ROM_FONT],
  [0x41, ROM_EMPTY_TABLE],
  [0x43, ROM_FONT],
  [0x46, ROM_EMPTY_TABLE],
];

export interface FirmwareOptions {
  /** Of the disk in drive A:, null where there is no drive. */
  readonly floppy: FloppyGeometry | null;
  /** How many there are; none where it is missing. */
  readonly hardDisks?: number;
}

/** Equipment word at 0x410: what is plugged in. */
export function equipmentWord(options: FirmwareOptions): number {
  return (
    EQUIPMENT_FPU |
    EQUIPMENT_80X25 |
    EQUIPMENT_ONE_SERIAL_PORT |
    (options.floppy === null ? 0 : EQUIPMENT_FLOPPY)
  );
}

/** Lays out IVT, BDA, EBDA and ROM in zeroed memory; text memory is cleared to blanks. */
export function installFirmware(memory: PhysicalMemory, options: FirmwareOptions): void {
  installVectors(memory);
  installDataAreas(memory, options);
  installRom(memory, options.floppy);
  memory.fill16(TEXT_MEMORY, TEXT_MEMORY_SIZE / 2, BLANK_CELL);
}

/** Offset in the ROM segment of the stub that the vector points to. */
export function stubOffset(vector: number): number {
  return ROM_STUBS + vector * STUB_SIZE;
}

function installVectors(memory: PhysicalMemory): void {
  for (let vector = 0; vector < 256; vector++) {
    memory.write16(vector * 4, stubOffset(vector));
    memory.write16(vector * 4 + 2, ROM_SEGMENT);
  }
  for (const [vector, offset] of POINTER_VECTORS) {
    memory.write16(vector * 4, offset);
  }
}

function installDataAreas(memory: PhysicalMemory, options: FirmwareOptions): void {
  memory.write16(BDA_COM_PORTS, COM1_PORT);
  memory.write16(BDA_EBDA_SEGMENT, EBDA_ADDRESS >>> 4);
  memory.write16(BDA_EQUIPMENT, equipmentWord(options));
  memory.write16(BDA_BASE_MEMORY_KB, EBDA_ADDRESS / 1024);
  const buffer = BDA_KEYBOARD_BUFFER - 0x400;
  memory.write16(BDA_KEYBOARD_HEAD, buffer);
  memory.write16(BDA_KEYBOARD_TAIL, buffer);
  memory.write16(BDA_KEYBOARD_START, buffer);
  memory.write16(BDA_KEYBOARD_END, buffer + 32);
  memory.write8(BDA_VIDEO_MODE, 3);
  memory.write16(BDA_COLUMNS, 80);
  memory.write16(BDA_PAGE_SIZE, 0x1000);
  memory.write16(BDA_CURSOR_SHAPE, 0x0607);
  memory.write16(BDA_CRTC_PORT, 0x3d4);
  memory.write8(BDA_HARD_DISKS, options.hardDisks ?? 0);
  memory.write8(BDA_ROWS, 24);
  memory.write16(BDA_FONT_HEIGHT, 16);
  memory.write8(BDA_VIDEO_CONTROL, 0x60); // 256 KiB, cursor emulation on
  memory.write8(BDA_VIDEO_CONTROL + 1, 0xf9);
  memory.write8(0x489, 0x51); // 400 lines, VGA active
  memory.write8(0x48a, 0x08); // display combination: VGA with analog colour
  memory.write8(0x496, 0x10); // enhanced keyboard
  memory.write8(EBDA_ADDRESS, 1); // its size in KiB
}

function installRom(memory: PhysicalMemory, floppy: FloppyGeometry | null): void {
  memory.fill(OPTION_ROMS, ROM_ADDRESS - OPTION_ROMS, 0xff);
  for (let vector = 0; vector < 256; vector++) {
    put(memory, stubOffset(vector), [0xcd, vector, ...(vector === TIMER ? CALL_TIMER_HOOK : []), 0xcf]);
  }
  put(memory, ROM_RETURN_ES, [
    ...[0x2e, 0x8e, 0x06, ROM_ES_VALUE & 0xff, ROM_ES_VALUE >>> 8], // mov es, cs:[ROM_ES_VALUE]
    0xcf, // iret
  ]);
  put(memory, ROM_APM_ENTRY, [0xb4, 0x86, 0xf9, 0xcb]); // mov ah, 86h; stc; retf
  put(memory, ROM_CONFIGURATION_TABLE, [
    ...[0x08, 0x00], // bytes that follow
    ...[MODEL_AT, 0x00, 0x01], // model, submodel, BIOS revision
    0x74, // second PIC, RTC, keyboard intercept, EBDA
    0x40, // INT 16h AH=09h
    ...[0x00, 0x00, 0x00],
  ]);
  put(memory, ROM_DISK_TABLE, diskTable(floppy));
  put(memory, ROM_RESET, [
    ...[0xcd, 0x19, 0xeb, 0xfe], // int 19h; jmp $
    0x00,
    ...new TextEncoder().encode('06/23/99'),
    0x00,
    MODEL_AT,
  ]);
}

/** Diskette parameter table (INT 1Eh vector), 11 bytes. */
function diskTable(floppy: FloppyGeometry | null): readonly number[] {
  const sectorsPerTrack = floppy?.sectorsPerTrack ?? 18;
  return [0xaf, 0x02, 0x25, 0x02, sectorsPerTrack, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 0x08];
}

function put(memory: PhysicalMemory, offset: number, bytes: readonly number[]): void {
  memory.view(ROM_ADDRESS + offset, bytes.length).set(bytes);
}
