// For tests: the BIOS called with registers, as an INT would, without a CPU that runs.

import type { Cpu, RegisterName } from '../../cpu/cpu.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { Clock } from '../clock.ts';
import { Cmos } from '../cmos.ts';
import { type DriveImages, Drives } from '../drives.ts';
import type { MachineEvent } from '../events.ts';
import { FloppyController } from '../floppy-controller.ts';
import type { Key } from '../keys.ts';
import { machineMemoryMap } from '../memory-map.ts';
import { NoticeList } from '../notices.ts';
import { Pic } from '../pic.ts';
import { TextScreen } from '../text-screen.ts';
import { Uart } from '../uart.ts';
import { Vga } from '../vga.ts';
import { Bios } from './bios.ts';
import { diskVector } from './disk.ts';
import { keyboardVector } from './keyboard.ts';
import { equipmentWord, installFirmware } from './rom.ts';
import { smallVectors } from './small-services.ts';
import { systemVector } from './system.ts';
import { TickCount, timerVectors, timeVector } from './time.ts';
import { videoVector } from './video.ts';

const MEMORY = 32 * 2 ** 20;
const FLAG_CF = 1;
const FLAG_ZF = 0x40;

const NAMES = ['eax', 'ebx', 'ecx', 'edx', 'esi', 'edi', 'ebp', 'ds', 'es'] as const;
type Name = (typeof NAMES)[number];
type Registers = Readonly<Partial<Record<Name, number>>>;

export type BiosResult = Readonly<Record<Name, number>> & {
  readonly carry: boolean;
  readonly zero: boolean;
  /** What the service has done, as listeners are told. */
  readonly result: string | null;
};

export class TestBios {
  readonly memory = PhysicalMemory.of(new Uint8Array(MEMORY));
  readonly clock = new Clock();
  readonly uart = new Uart(0x3f8);
  readonly vga = new Vga();
  readonly screen = new TextScreen(this.memory, this.vga);
  readonly pic = new Pic(0x20, 0x08, 0);
  readonly controller = new FloppyController();
  readonly notices = new NoticeList();
  readonly drives: Drives;
  readonly bios: Bios;
  readonly keys: Key[] = [];
  readonly events: Extract<MachineEvent, { kind: 'bios' }>[] = [];
  /** What was printed. */
  text = '';
  sent = '';
  stopped: string | null = null;
  a20 = false;
  /** What INT 18h has next. */
  nextDrive: number | null = null;
  readonly #registers = new Map<RegisterName, bigint>();

  constructor(images: DriveImages = {}) {
    const { memory, clock, vga, screen, pic, uart } = this;
    this.drives = new Drives(images);
    const floppy = this.drives.floppy?.geometry ?? null;
    installFirmware(memory, { floppy, hardDisks: this.drives.hardDisks });
    const ram = { low: MEMORY, high: 0 };
    const cmos = new Cmos(clock, {
      ...{ ram, equipment: equipmentWord({ floppy }), floppyType: floppy?.driveType ?? 0 },
    });
    const ticks = new TickCount(memory, clock);
    const stop = (reason: string): void => {
      this.stopped = reason;
    };
    uart.onByte = (byte) => {
      this.sent += String.fromCharCode(byte);
    };
    const onCharacter = (code: number): void => {
      this.text += String.fromCharCode(code);
    };
    const time = { memory, clock, cmos, pic };
    const registers = this.#registers;
    const cpu = {
      readRegisters: (names: readonly RegisterName[], values: BigUint64Array) => {
        for (const [index, name] of names.entries()) values[index] = registers.get(name) ?? 0n;
      },
      writeRegister: (name: RegisterName, value: bigint) => void registers.set(name, value),
    } as unknown as Cpu;
    this.bios = new Bios(
      cpu,
      [
        videoVector({ memory, screen, vga, onCharacter }),
        diskVector({ memory, controller: this.controller, drives: this.drives }),
        systemVector({
          ...{ memory, clock, memoryMap: machineMemoryMap('pc', ram), stop },
          a20Enabled: () => this.a20,
          setA20: (enabled) => {
            this.a20 = enabled;
          },
        }),
        keyboardVector({ memory, clock, stop, nextKey: () => this.keys.shift() ?? null }),
        timeVector(time, ticks),
        ...timerVectors(time, ticks),
        ...smallVectors({ memory, uart, bootNext: () => this.nextDrive, stop }),
      ],
      this.notices,
    );
    this.bios.onEvent = (event) => {
      if (event.kind === 'bios') this.events.push(event);
    };
  }

  /** INT `vector`; registers that are not given are 0, and CF is `carry`. */
  call(vector: number, input: Registers, carry = false): BiosResult {
    const register = (name: Name): RegisterName => name.replace(/^e(?!s$)/, 'r') as RegisterName;
    for (const name of NAMES) this.#registers.set(register(name), BigInt(input[name] ?? 0));
    const { flags, es } = this.bios.serve(vector, carry ? FLAG_CF : 0);
    const values = NAMES.map((name) => [name, Number(this.#registers.get(register(name)))] as const);
    return {
      ...(Object.fromEntries(values) as Record<Name, number>),
      es,
      carry: (flags & FLAG_CF) !== 0,
      zero: (flags & FLAG_ZF) !== 0,
      result: this.events.at(-1)!.result,
    };
  }

  /** Bytes of memory. */
  bytes(address: number, length: number): readonly number[] {
    return [...this.memory.copyOut(address, length)];
  }
}
