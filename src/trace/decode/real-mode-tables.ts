// What a BIOS keeps in low memory: the interrupt vector table and the BIOS data area (IBM PS/2 and PC BIOS interface, section 3).

import { hex } from '../../hex.ts';
import { type DecodedField, decodeFields, type FieldRow, type MemoryReader, viewOf } from './decoded.ts';

const VECTORS = 256;
const ROM_SEGMENT = 0xf000;

/** Vectors that PC firmware gives a meaning to. */
const VECTOR_NAMES: Readonly<Record<number, string>> = {
  ...{ 0: 'divide error', 1: 'debug', 2: 'NMI', 3: 'breakpoint', 4: 'overflow', 5: 'print screen' },
  ...{ 6: 'invalid opcode', 7: 'device not available', 8: 'IRQ 0, timer', 9: 'IRQ 1, keyboard' },
  ...{ 14: 'IRQ 6, floppy', 16: 'video', 17: 'equipment', 18: 'memory size', 19: 'disk', 20: 'serial' },
  ...{ 21: 'system', 22: 'keyboard', 23: 'printer', 24: 'boot failure', 25: 'bootstrap', 26: 'time' },
  ...{ 27: 'break key', 28: 'timer tick', 29: 'video parameters', 30: 'floppy parameters', 31: 'font' },
  ...{ 64: 'floppy', 65: 'hard disk 0', 67: 'font', 70: 'hard disk 1', 112: 'IRQ 8, RTC' },
};

export function decodeIvt(memory: MemoryReader): DecodedField[] {
  const view = viewOf(memory.read(0, VECTORS * 4));
  return Array.from({ length: VECTORS }, (_, vector) => {
    const offset = view.getUint16(vector * 4, true);
    const segment = view.getUint16(vector * 4 + 2, true);
    const four = (value: number): string => value.toString(16).padStart(4, '0');
    const notes = [
      VECTOR_NAMES[vector],
      segment === 0 && offset === 0 ? 'empty' : segment === ROM_SEGMENT ? 'BIOS ROM' : undefined,
    ].filter((note) => note !== undefined);
    return {
      ...{
        name: `[${hex(vector)}]`,
        address: vector * 4,
        size: 4,
        value: `${four(segment)}:${four(offset)}`,
      },
      text: `${four(segment)}:${four(offset)}${notes.length === 0 ? '' : `  ${notes.join('; ')}`}`,
    };
  });
}

const BDA_ADDRESS = 0x400;

const field = (
  offset: number,
  size: number,
  name: string,
  format: FieldRow['format'],
  meaning: string,
): FieldRow => ({ name, offset, size, format, meaning });

const BDA_FIELDS: readonly FieldRow[] = [
  field(0x00, 2, 'com1_port', 'hex', 'I/O port of the first serial port, 0 for none'),
  field(0x02, 2, 'com2_port', 'hex', 'of the second'),
  field(0x04, 2, 'com3_port', 'hex', 'of the third'),
  field(0x06, 2, 'com4_port', 'hex', 'of the fourth'),
  field(0x08, 2, 'lpt1_port', 'hex', 'I/O port of the first printer'),
  field(0x0e, 2, 'ebda_segment', 'hex', 'segment of the extended BIOS data area'),
  field(0x10, 2, 'equipment', 'hex', 'what INT 11h returns'),
  field(0x13, 2, 'base_memory', 'decimal', 'KiB of conventional memory, what INT 12h returns'),
  field(0x17, 2, 'keyboard_flags', 'hex', 'shift and lock keys'),
  field(0x1a, 2, 'keyboard_head', 'hex', 'offset of the next key in segment 40h'),
  field(0x1c, 2, 'keyboard_tail', 'hex', 'offset behind the last key'),
  field(0x1e, 32, 'keyboard_buffer', 'bytes', ''),
  field(0x41, 1, 'floppy_status', 'hex', 'of the last operation'),
  field(0x49, 1, 'video_mode', 'hex', ''),
  field(0x4a, 2, 'columns', 'decimal', 'characters a row'),
  field(0x4c, 2, 'page_size', 'decimal', 'bytes of a video page'),
  field(0x4e, 2, 'page_offset', 'hex', 'of the active page'),
  field(0x50, 2, 'cursor', 'hex', 'row and column on page 0'),
  field(0x60, 2, 'cursor_shape', 'hex', 'first and last scan line'),
  field(0x62, 1, 'active_page', 'decimal', ''),
  field(0x63, 2, 'crtc_port', 'hex', '0x3d4 colour, 0x3b4 monochrome'),
  field(0x6c, 4, 'ticks', 'decimal', 'timer ticks since midnight, 18.2 a second'),
  field(0x70, 1, 'midnight', 'decimal', 'not 0: midnight has passed'),
  field(0x72, 2, 'reset_flag', 'hex', '0x1234 for a warm boot'),
  field(0x75, 1, 'hard_disks', 'decimal', 'how many'),
  field(0x80, 2, 'keyboard_start', 'hex', 'offset of the keyboard buffer'),
  field(0x82, 2, 'keyboard_end', 'hex', 'offset of its end'),
  field(0x84, 1, 'rows', 'decimal', 'rows of text minus one'),
  field(0x85, 2, 'font_height', 'decimal', 'scan lines a character'),
  field(0x87, 1, 'video_control', 'hex', ''),
];

export function decodeBda(memory: MemoryReader): readonly DecodedField[] {
  return decodeFields(memory, BDA_ADDRESS, BDA_FIELDS);
}
