// For tests: a firmware whose services are called as an image calls them, without a CPU that runs. Registers are set as the calling
// convention has them (UEFI 2.10, 2.3.4), the firmware is told that the CPU has halted in a service, and RAX is what came back.

import type { Cpu, RegisterName } from '../../cpu/cpu.ts';
import { EFI_GUIDS, type EfiGuidName, guidBytes } from '../../protocol/efi-guids.ts';
import { type EfiMemoryDescriptor, parseEfiMemoryMap } from '../../protocol/efi-memory-map.ts';
import {
  BOOT_SERVICES,
  efiStatusName,
  RUNTIME_SERVICES,
  TABLE_HEADER_SIZE,
} from '../../protocol/efi-tables.ts';
import { PhysicalMemory } from '../../x86/physical-memory.ts';
import { Clock } from '../clock.ts';
import type { UefiFirmware } from './firmware.ts';
import { char16Bytes } from './service.ts';
import { startFirmware, type UefiConfiguration, type UefiImage, type UefiStart } from './start.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

export const TEST_MEMORY = 64 * 2 ** 20;
export const TEST_MAP = parseEfiMemoryMap(`
0x0 0xa0000 Conventional 0xf
0x100000 0x1000000 Conventional 0xf
0x1000000 0x1100000 BootServicesData 0xf
0x1100000 0x3c00000 Conventional 0xf
0x3c00000 0x3d00000 RuntimeServicesData 0x800000000000000f
0x3d00000 0x3e00000 RuntimeServicesCode 0x800000000000000f
0x3e00000 0x3e10000 AcpiReclaim 0xf
0x3e10000 0x4000000 Reserved 0xf
`);

const PLAIN: UefiConfiguration = { protocols: [], frameBuffer: null, pci: [] };
const ARGUMENTS: readonly RegisterName[] = ['rcx', 'rdx', 'r8', 'r9'];
/** Where RSP stands in a service: the return address, the callee's room for four arguments, the other arguments. */
const STACK = 0x9f000;
const CALLER = 0x123456n;
/** Where what the tests hand over begins. */
const SCRATCH = 0x20000;
/** Offsets of the pointers in EFI_SYSTEM_TABLE. */
const TABLES = { runtime: 0x58, boot: 0x60 } as const;

type Value = bigint | number;

export class TestFirmware {
  readonly memory: PhysicalMemory;
  readonly clock = new Clock();
  readonly registers = new Map<RegisterName, bigint>();
  readonly firmware: UefiFirmware;
  readonly calls: string[] = [];
  text = '';
  stopped: string | null = null;
  #scratch = SCRATCH;

  constructor({
    configuration = {},
    image = {},
    map = TEST_MAP,
    ...more
  }: Partial<Omit<UefiStart, 'configuration' | 'image'>> & {
    readonly configuration?: Partial<UefiConfiguration>;
    readonly image?: Partial<UefiImage>;
    readonly map?: readonly EfiMemoryDescriptor[];
  } = {}) {
    this.memory = PhysicalMemory.of(new Uint8Array(TEST_MEMORY));
    const cpu = {
      instructions: null,
      readRegister: (name: RegisterName) => this.registers.get(name) ?? 0n,
      writeRegister: (name: RegisterName, value: bigint) => void this.registers.set(name, value),
    } as unknown as Cpu;
    const program = efiProgram(new ProgramWriter().halt());
    this.firmware = startFirmware({
      cpu,
      memory: this.memory,
      clock: this.clock,
      random: (length) => new Uint8Array(length).fill(0x42),
      map,
      imageBase: null,
      configuration: { ...PLAIN, ...configuration },
      image: { name: 'program', bytes: program, loadOptions: '', initrd: null, ...image },
      faults: [],
      onText: (text) => {
        this.text += text;
      },
      stop: (reason) => {
        this.stopped = reason;
      },
      onEvent: ({ text }) => this.calls.push(text),
      ...more,
    });
  }

  /** Calls what is trapped at an address. @returns RAX, or what it was where guest code goes on first */
  call(trap: bigint, ...args: readonly Value[]): bigint {
    const { memory, registers } = this;
    for (const [index, value] of args.entries()) {
      const register = ARGUMENTS[index];
      const bits = BigInt.asUintN(64, BigInt(value));
      if (register === undefined) memory.write64(STACK + 8 + index * 8, bits);
      else registers.set(register, bits);
    }
    memory.write64(STACK, CALLER);
    registers.set('rsp', BigInt(STACK));
    registers.set('rip', trap + 1n);
    if (!this.firmware.serve()) throw new Error(`no service is trapped at 0x${trap.toString(16)}`);
    return registers.get('rax') ?? 0n;
  }

  /** A boot service, to the name of its status. */
  boot(name: (typeof BOOT_SERVICES)[number], ...args: readonly Value[]): string {
    return efiStatusName(this.call(this.#service(TABLES.boot, BOOT_SERVICES.indexOf(name)), ...args));
  }

  /** A runtime service, to the name of its status. */
  runtime(name: (typeof RUNTIME_SERVICES)[number], ...args: readonly Value[]): string {
    return efiStatusName(this.call(this.#service(TABLES.runtime, RUNTIME_SERVICES.indexOf(name)), ...args));
  }

  #service(table: number, index: number): bigint {
    const { memory } = this;
    const services = Number(memory.read64(this.firmware.places.systemTable + table));
    return memory.read64(services + TABLE_HEADER_SIZE + index * 8);
  }

  /** The first interface of a protocol. */
  protocol(name: EfiGuidName): bigint {
    const [handle] = this.firmware.handles.find(EFI_GUIDS[name]);
    return this.firmware.handles.get(handle!, EFI_GUIDS[name])!;
  }

  /** Calls the function at an offset of an interface, with it as the first argument. @returns RAX */
  valueOf(interface_: bigint, offset: number, ...args: readonly Value[]): bigint {
    return this.call(this.memory.read64(Number(interface_) + offset), interface_, ...args);
  }

  /** The same, to the name of its status. */
  method(interface_: bigint, offset: number, ...args: readonly Value[]): string {
    return efiStatusName(this.valueOf(interface_, offset, ...args));
  }

  /** Bytes somewhere in free memory, zeroes behind them. @returns the address */
  put(bytes: ArrayLike<number>): number {
    const address = this.#scratch;
    this.memory.copyIn(address, Uint8Array.from(bytes));
    this.#scratch += Math.ceil((bytes.length + 16) / 16) * 16;
    return address;
  }

  put64(value: Value): number {
    const address = this.put(new Uint8Array(8));
    this.memory.write64(address, BigInt(value));
    return address;
  }

  text16(text: string): number {
    return this.put(char16Bytes(text));
  }

  guid(name: EfiGuidName): number {
    return this.put(guidBytes(EFI_GUIDS[name]));
  }

  read64(address: Value): bigint {
    return this.memory.read64(Number(address));
  }
}
