// VESA BIOS Extensions: a controller with a linear frame buffer, as far as asking for and setting modes goes (VBE 3.0).

import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import { ROM_ADDRESS, ROM_SEGMENT, ROM_VBE_MODES, ROM_VBE_STRINGS } from './rom.ts';
import { type BiosRegisters, type BiosService, linear } from './service.ts';

const VBE_OK = 0x004f;
const VBE_FAILED = 0x014f;
const VBE_UNSUPPORTED = 0x0100;
const VIDEO_MEMORY = 16 * 1024 * 1024;
/** Where the frame buffer is said to be: QEMU's place for it. No memory answers there. */
const FRAME_BUFFER = 0xfd000000;
const LINEAR_FRAME_BUFFER = 0x4000;
const NO_CLEAR = 0x8000;
/** Supported, extended information, colour, graphics, linear frame buffer (VBE 3.0, ModeAttributes). */
const MODE_ATTRIBUTES = 0x009b;
const OEM_STRING = 'Bootscope VBE';

interface VbeMode {
  readonly number: number;
  readonly width: number;
  readonly height: number;
  readonly bitsPerPixel: 8 | 15 | 16 | 24 | 32;
}

const MODES: readonly VbeMode[] = [
  { number: 0x100, width: 640, height: 400, bitsPerPixel: 8 },
  { number: 0x101, width: 640, height: 480, bitsPerPixel: 8 },
  { number: 0x103, width: 800, height: 600, bitsPerPixel: 8 },
  { number: 0x105, width: 1024, height: 768, bitsPerPixel: 8 },
  { number: 0x107, width: 1280, height: 1024, bitsPerPixel: 8 },
  { number: 0x110, width: 640, height: 480, bitsPerPixel: 15 },
  { number: 0x111, width: 640, height: 480, bitsPerPixel: 16 },
  { number: 0x112, width: 640, height: 480, bitsPerPixel: 24 },
  { number: 0x113, width: 800, height: 600, bitsPerPixel: 15 },
  { number: 0x114, width: 800, height: 600, bitsPerPixel: 16 },
  { number: 0x115, width: 800, height: 600, bitsPerPixel: 24 },
  { number: 0x116, width: 1024, height: 768, bitsPerPixel: 15 },
  { number: 0x117, width: 1024, height: 768, bitsPerPixel: 16 },
  { number: 0x118, width: 1024, height: 768, bitsPerPixel: 24 },
  { number: 0x119, width: 1280, height: 1024, bitsPerPixel: 15 },
  { number: 0x11a, width: 1280, height: 1024, bitsPerPixel: 16 },
  { number: 0x11b, width: 1280, height: 1024, bitsPerPixel: 24 },
  { number: 0x142, width: 640, height: 480, bitsPerPixel: 32 },
  { number: 0x143, width: 800, height: 600, bitsPerPixel: 32 },
  { number: 0x144, width: 1024, height: 768, bitsPerPixel: 32 },
];

/** Size and position of red, green, blue and the reserved bits, in bits (VBE 3.0, direct color fields). */
const COLOR_MASKS: Readonly<Record<VbeMode['bitsPerPixel'], readonly number[]>> = {
  8: [0, 0, 0, 0, 0, 0, 0, 0],
  15: [5, 10, 5, 5, 5, 0, 1, 15],
  16: [5, 11, 6, 5, 5, 0, 0, 0],
  24: [8, 16, 8, 8, 8, 0, 0, 0],
  32: [8, 16, 8, 8, 8, 0, 8, 24],
};

/**
 * INT 10h AX=4Fxx, by AX.
 * @param setTextMode - called when mode 0 to 13h is set through VBE
 */
export function vbeServices(
  memory: PhysicalMemory,
  setTextMode: (mode: number) => void,
): readonly (readonly [number, BiosService])[] {
  let current = 3;
  installTables(memory);

  function controllerInformation(r: BiosRegisters): void {
    const at = linear(r.es, r.di);
    const wantsVbe2 = memory.read32(at) === 0x32454256; // "VBE2"
    const block = new Uint8Array(wantsVbe2 ? 512 : 256);
    const view = new DataView(block.buffer);
    block.set(new TextEncoder().encode('VESA'));
    view.setUint16(0x04, 0x0300, true);
    farPointer(view, 0x06, ROM_VBE_STRINGS);
    view.setUint32(0x0a, 0x01, true); // DAC width switchable
    farPointer(view, 0x0e, ROM_VBE_MODES);
    view.setUint16(0x12, VIDEO_MEMORY / 0x10000, true);
    if (wantsVbe2) {
      for (const field of [0x16, 0x1a, 0x1e]) {
        farPointer(view, field, ROM_VBE_STRINGS);
      }
    }
    memory.copyIn(at, block);
    r.ax = VBE_OK;
    r.result = `VBE 3.0, ${VIDEO_MEMORY / 0x100000} MiB, ${MODES.length} modes`;
  }

  function modeInformation(r: BiosRegisters): void {
    const mode = MODES.find((each) => each.number === (r.cx & 0x1ff));
    if (mode === undefined) {
      r.ax = VBE_FAILED;
      return;
    }
    memory.copyIn(linear(r.es, r.di), modeInformationBlock(mode));
    r.ax = VBE_OK;
    r.result = `${mode.width}x${mode.height}, ${mode.bitsPerPixel} bits`;
  }

  function setMode(r: BiosRegisters): void {
    const number = r.bx & 0x1ff;
    if (number < 0x14) {
      setTextMode(number);
    } else if (!MODES.some((each) => each.number === number)) {
      r.ax = VBE_FAILED;
      return;
    }
    current = number | (r.bx & (LINEAR_FRAME_BUFFER | NO_CLEAR));
    r.ax = VBE_OK;
  }

  function ddc(r: BiosRegisters): void {
    if (r.bl === 0) {
      r.bx = 0x0103; // DDC1 and DDC2, a second for each block
      r.ax = VBE_OK;
    } else if (r.bl === 1 && r.dx === 0) {
      memory.copyIn(linear(r.es, r.di), edid());
      r.ax = VBE_OK;
      r.result = 'an EDID block';
    } else {
      r.ax = VBE_FAILED;
    }
  }

  function mode(r: BiosRegisters): void {
    r.bx = current;
    r.ax = VBE_OK;
  }

  return [
    [0x4f00, { name: 'VBE: controller information', run: controllerInformation }],
    [0x4f01, { name: 'VBE: mode information', run: modeInformation }],
    [0x4f02, { name: 'VBE: set mode', run: setMode }],
    [0x4f03, { name: 'VBE: get mode', run: mode }],
    [
      0x4f0a,
      {
        name: 'VBE: protected mode interface',
        run: (r) => {
          r.ax = VBE_UNSUPPORTED;
        },
      },
    ],
    [0x4f15, { name: 'VBE: display data channel', run: ddc }],
  ];
}

function installTables(memory: PhysicalMemory): void {
  memory.copyIn(ROM_ADDRESS + ROM_VBE_STRINGS, new TextEncoder().encode(`${OEM_STRING}\0`));
  MODES.forEach((mode, index) => {
    memory.write16(ROM_ADDRESS + ROM_VBE_MODES + index * 2, mode.number);
  });
  memory.write16(ROM_ADDRESS + ROM_VBE_MODES + MODES.length * 2, 0xffff);
}

/** ModeInfoBlock, 256 bytes (VBE 3.0, function 01h). */
function modeInformationBlock(mode: VbeMode): Uint8Array {
  const block = new Uint8Array(256);
  const view = new DataView(block.buffer);
  const bytesPerLine = mode.width * Math.ceil(mode.bitsPerPixel / 8);
  view.setUint16(0x00, MODE_ATTRIBUTES, true);
  block[0x02] = 0x07; // window A: relocatable, readable, writable
  view.setUint16(0x04, 64, true); // granularity and size of the window, KiB
  view.setUint16(0x06, 64, true);
  view.setUint16(0x08, 0xa000, true);
  view.setUint16(0x10, bytesPerLine, true);
  view.setUint16(0x12, mode.width, true);
  view.setUint16(0x14, mode.height, true);
  block[0x16] = 8; // character cell
  block[0x17] = 16;
  block[0x18] = 1; // planes
  block[0x19] = mode.bitsPerPixel;
  block[0x1a] = 1; // banks
  block[0x1b] = mode.bitsPerPixel === 8 ? 4 : 6; // packed pixel, direct colour
  block[0x1d] = Math.floor(VIDEO_MEMORY / (bytesPerLine * mode.height)) - 1;
  block[0x1e] = 1;
  block.set(COLOR_MASKS[mode.bitsPerPixel], 0x1f);
  block[0x27] = mode.bitsPerPixel === 32 ? 2 : 0;
  view.setUint32(0x28, FRAME_BUFFER, true);
  view.setUint16(0x32, bytesPerLine, true); // the same again for the linear frame buffer
  block[0x34] = block[0x1d]!;
  block[0x35] = block[0x1d]!;
  block.set(COLOR_MASKS[mode.bitsPerPixel], 0x36);
  view.setUint32(0x3e, 230_000_000, true);
  return block;
}

/** An EDID 1.3 block of a monitor with 1024x768 (VESA E-EDID A.1). */
function edid(): Uint8Array {
  const block = new Uint8Array(128);
  block.set([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
  block.set([0x0b, 0xf3, 0x01, 0x00], 8); // manufacturer "BOS", product 1
  block.set([0x01, 0x22, 0x01, 0x03], 16); // week 1 of 2024, EDID 1.3
  block.set([0x0e, 0x20, 0x18, 0x78, 0x0a], 20); // analog input, 32 x 24 cm, gamma 2.2
  block.set([0xee, 0x95, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54], 25); // sRGB chromaticity
  block.set([0x21, 0x08, 0x00], 35); // 640x480, 800x600, 1024x768 at 60 Hz
  block.fill(0x01, 38, 54);
  block.set(
    [
      0x64, 0x19, 0x00, 0x40, 0x41, 0x00, 0x26, 0x30, 0x18, 0x88, 0x36, 0x00, 0x40, 0xf0, 0x10, 0x00, 0x00,
      0x18,
    ],
    54,
  );
  block.set([0x00, 0x00, 0x00, 0xfc, 0x00, ...new TextEncoder().encode('Bootscope\n   ')], 72);
  block[93] = 0x10; // two dummy descriptors
  block[111] = 0x10;
  block[127] = -block.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return block;
}

function farPointer(view: DataView, at: number, offset: number): void {
  view.setUint16(at, offset, true);
  view.setUint16(at + 2, ROM_SEGMENT, true);
}
