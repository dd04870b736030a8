// A UEFI firmware behind HLT instructions: every service that an image finds in a table of pointers is one HLT, and what it does is
// done between two runs of the CPU, with the arguments as the calling convention puts them.
// Long, for it is one state: what all services share.

import { crc32 } from '../../codecs/checksums.ts';
import type { Cpu, RegisterName } from '../../cpu/cpu.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import type { FileNode } from '../../image/file-tree.ts';
import { EFI_GUIDS, type EfiGuidName, guidBytes } from '../../protocol/efi-guids.ts';
import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import {
  BOOT_SERVICES,
  BOOT_SERVICES_SIGNATURE,
  CONFIGURATION_ENTRY_SIZE,
  EFI_MEMORY_XP,
  EFI_STATUS,
  type EfiMemoryType,
  efiStatusName,
  isEfiError,
  RUNTIME_SERVICES,
  RUNTIME_SERVICES_SIGNATURE,
  SYSTEM_TABLE,
  SYSTEM_TABLE_SIGNATURE,
  SYSTEM_TABLE_SIZE,
  TABLE_HEADER,
  TABLE_HEADER_SIZE,
} from '../../protocol/efi-tables.ts';
import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Clock } from '../clock.ts';
import type { MachineEvent } from '../events.ts';
import type { Key } from '../keys.ts';
import type { ReadFile } from '../sector-loads.ts';
import { BOOT_SERVICE_ROWS } from './boot-services.ts';
import type { BootVolume } from './boot-volume.ts';
import { EventList } from './event-list.ts';
import type { EfiFault } from './faults.ts';
import { HandleDatabase } from './handles.ts';
import { MemoryAttributes } from './memory-attributes.ts';
import { type AllocateRequest, type AllocatorState, PageAllocator } from './page-allocator.ts';
import type { FirmwarePlaces } from './places.ts';
import { PoolAllocator } from './pool-allocator.ts';
import { RUNTIME_SERVICE_ROWS } from './runtime-services.ts';
import {
  argumentText,
  bytesAt,
  CONTINUES_IN_GUEST,
  resultText,
  type Service,
  type ServiceResult,
} from './service.ts';
import type { Measurement } from './tcg-services.ts';
import type { VariableStore } from './variables.ts';

/** UEFI 2.70, as OVMF 2022.11 says. */
export const UEFI_REVISION = (2 << 16) | 70;
const FIRMWARE_VENDOR = 'EDK II';
const FIRMWARE_REVISION = 0x10000;

/** What OVMF fills pool memory with before it gives it out. */
const POOL_FILL = 0xaf;

const HLT = 0xf4;
/** A trap's HLT and room to tell traps apart in a listing. */
const TRAP_SIZE = 8;
/** Argument registers of the calling convention (UEFI 2.10, 2.3.4); the fifth argument is at RSP + 28h. */
const ARGUMENT_REGISTERS: readonly RegisterName[] = ['rcx', 'rdx', 'r8', 'r9'];
const STACK_ARGUMENTS = 0x28;
/** What OVMF's StartImage has on the stack when it calls an image, shadow space included. */
const CALL_STACK = 0x60n;
/** What a function has to leave as it was. */
const PRESERVED: readonly RegisterName[] = ['rbx', 'rbp', 'rdi', 'rsi', 'r12', 'r13', 'r14', 'r15'];
const FLAG_IF = 0x200n;

/** Memory that a service gave out, for the layout. */
export interface EfiAllocation {
  readonly start: number;
  readonly end: number;
  readonly type: EfiMemoryType;
  /** `AllocatePages`, `AllocatePool`, `LoadImage`. */
  readonly service: string;
  /** Number of the call, as its event's; 0 for what the firmware did before any. */
  readonly call: number;
  /** Who called: `vmlinuz+0xb75c10`. */
  readonly caller: string;
  readonly instructions: number | null;
  /** Number of the call that freed it. */
  freedIn: number | null;
}

/** AllocatePages at a given address. */
export interface AddressRequest {
  readonly address: number;
  readonly pages: number;
  readonly type: EfiMemoryType;
}

export interface LoadedImageRecord {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  /** See `PlacedImage`. */
  readonly fromFile: number;
  readonly entry: number;
  readonly handle: bigint;
  /** The program's file; missing for the first image. */
  readonly bytes?: Uint8Array;
}

/** What the firmware needs of the machine. */
export interface UefiParts {
  readonly cpu: Cpu;
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  /** So many bytes for EFI_RNG_PROTOCOL. */
  readonly random: (length: number) => Uint8Array;
  readonly map: readonly EfiMemoryDescriptor[];
  readonly state?: AllocatorState | undefined;
  readonly places: FirmwarePlaces;
  readonly faults: readonly EfiFault[];
  readonly variables: VariableStore;
  /** Memory is not executable but where an image says that it is, or somebody asked for it. */
  readonly enforcesNx: boolean;
  /** What is pressed on the keyboard now; null for nothing. */
  readonly nextKey?: () => Key | null;
  /** Whether one is pressed. */
  readonly hasKey?: () => boolean;
  readonly onText: (text: string) => void;
  /** Ends the run: the guest has asked for it, or can never go on. */
  readonly stop: (reason: string) => void;
  readonly onEvent: (event: Extract<MachineEvent, { kind: 'efi' }>) => void;
}

/** A call into guest code that has not returned. */
interface Frame {
  /** Image whose entry was called; null for a notification. */
  readonly image: bigint | null;
  readonly rsp: bigint;
  readonly preserved: readonly bigint[];
  /** Called with RAX; what it returns is what the service returns. */
  readonly done: (result: bigint) => ServiceResult;
  readonly call: ServedCall;
}

interface ServedCall {
  readonly service: Service;
  readonly number: number;
  readonly args: readonly bigint[];
  readonly argumentTexts: readonly string[];
  readonly returnAddress: bigint;
  readonly instructions: number | null;
}

export class UefiFirmware {
  readonly cpu: Cpu;
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly pages: PageAllocator;
  readonly pool: PoolAllocator;
  readonly handles = new HandleDatabase();
  readonly events = new EventList();
  readonly variables: VariableStore;
  readonly memoryAttributes: MemoryAttributes;
  readonly parts: UefiParts;
  readonly places: FirmwarePlaces;
  readonly allocations: EfiAllocation[] = [];
  readonly images: LoadedImageRecord[] = [];
  /** What was booted from; null where the image came from elsewhere. */
  volume: BootVolume | null = null;
  /** Every file that something was read of. */
  readonly files = new Map<FileNode, ReadFile>();
  /** What was measured into a TPM's PCRs. */
  readonly measurements: Measurement[] = [];
  /** Task priority level. */
  tpl = 4n;
  /** The image has called address 0. */
  calledNull = false;
  /** Where the guest went that it may not run. */
  nxFault: number | null = null;
  /** Set by ExitBootServices. */
  bootServicesExited = false;
  /** The first image has left with Exit, or returned. */
  gaveUp = false;
  /** Number of the call that did. */
  exitCall: number | null = null;
  /** The maps at ExitBootServices: as the image saw it, which is what the kernel is given. */
  mapAtExit: readonly EfiMemoryDescriptor[] | null = null;

  readonly #traps = new Map<number, Service>();
  #nextTrap: number;
  #nextRuntimeData: number;
  #nextBootData: number;
  readonly #returnTrap: number;
  readonly #configuration: { readonly guid: string; address: bigint }[] = [];
  #configurationRoom: { address: number; entries: number } | null = null;
  readonly #calls = new Map<string, number>();
  readonly #missing = new Map<string, number>();
  readonly #frames: Frame[] = [];
  #number = 0;
  /** What the service in progress says of itself beside its arguments. */
  #remark: string | null = null;
  #current: ServedCall | null = null;

  constructor(parts: UefiParts) {
    this.parts = parts;
    this.cpu = parts.cpu;
    this.memory = parts.memory;
    this.clock = parts.clock;
    this.places = parts.places;
    this.variables = parts.variables;
    this.memoryAttributes = new MemoryAttributes(parts.enforcesNx ? EFI_MEMORY_XP : 0n);
    this.pages = new PageAllocator(parts.map, parts.state);
    this.pool = new PoolAllocator({
      allocate: (type, pages) => this.pages.allocate({ kind: 'AnyPages' }, type, pages),
      free: (address, pages) => {
        this.pages.free(address, pages);
      },
    });
    this.#nextTrap = parts.places.runtimeCode.start;
    this.#nextRuntimeData = parts.places.runtimeData.start;
    this.#nextBootData = parts.places.bootData.start;
    this.#returnTrap = this.#placeTrap();
    this.#layOutSystemTable();
  }

  // What stands in memory.

  /** A service's trap: the address that goes into a table of pointers. */
  trap(service: Service): bigint {
    const address = this.#placeTrap();
    this.#traps.set(address, service);
    return BigInt(address);
  }

  #placeTrap(): number {
    const address = this.#nextTrap;
    this.#nextTrap += TRAP_SIZE;
    this.memory.copyIn(address, Uint8Array.of(HLT));
    return address;
  }

  /** Zeroed memory of the firmware's own that goes with boot services. */
  bootData(size: number): number {
    const address = this.#nextBootData;
    this.#nextBootData = align(address + size, 16);
    this.memory.fill(address, size, 0);
    return address;
  }

  /** Zeroed memory of the firmware's own that stays for the runtime. */
  runtimeData(size: number): number {
    const address = this.#nextRuntimeData;
    this.#nextRuntimeData = align(address + size, 16);
    this.memory.fill(address, size, 0);
    return address;
  }

  /** A table of pointers, an interface of a protocol: addresses and traps, eight bytes each. */
  interface(members: readonly (Service | bigint)[]): bigint {
    const address = this.bootData(members.length * 8);
    for (const [index, member] of members.entries()) {
      this.memory.write64(address + index * 8, typeof member === 'bigint' ? member : this.trap(member));
    }
    return BigInt(address);
  }

  bytes(content: Uint8Array): bigint {
    const address = this.bootData(content.length);
    this.memory.copyIn(address, content);
    return BigInt(address);
  }

  newHandle(): bigint {
    return BigInt(this.bootData(16));
  }

  install(handle: bigint, protocol: EfiGuidName, address: bigint): void {
    this.handles.install(handle, EFI_GUIDS[protocol], address);
  }

  #layOutSystemTable(): void {
    const { memory, places } = this;
    const table = places.systemTable;
    memory.fill(table, SYSTEM_TABLE_SIZE, 0);
    const vendor = this.runtimeData(64);
    for (let index = 0; index < FIRMWARE_VENDOR.length; index++) {
      memory.write16(vendor + index * 2, FIRMWARE_VENDOR.charCodeAt(index));
    }
    memory.write64(table + SYSTEM_TABLE.firmwareVendor, BigInt(vendor));
    memory.write32(table + SYSTEM_TABLE.firmwareRevision, FIRMWARE_REVISION);
    const runtime = this.#serviceTable(
      this.runtimeData(TABLE_HEADER_SIZE + RUNTIME_SERVICES.length * 8),
      RUNTIME_SERVICES_SIGNATURE,
      RUNTIME_SERVICES.map((name) => RUNTIME_SERVICE_ROWS[name]),
    );
    const boot = this.#serviceTable(
      this.bootData(TABLE_HEADER_SIZE + BOOT_SERVICES.length * 8),
      BOOT_SERVICES_SIGNATURE,
      BOOT_SERVICES.map((name) => BOOT_SERVICE_ROWS[name]),
    );
    memory.write64(table + SYSTEM_TABLE.runtimeServices, BigInt(runtime));
    memory.write64(table + SYSTEM_TABLE.bootServices, BigInt(boot));
    this.header(table, SYSTEM_TABLE_SIGNATURE, SYSTEM_TABLE_SIZE);
  }

  #serviceTable(address: number, signature: bigint, rows: readonly Service[]): number {
    for (const [index, row] of rows.entries()) {
      this.memory.write64(address + TABLE_HEADER_SIZE + index * 8, this.trap(row));
    }
    this.header(address, signature, TABLE_HEADER_SIZE + rows.length * 8);
    return address;
  }

  /** Writes a table's header, with the checksum over the whole table. */
  header(address: number, signature: bigint, size: number): void {
    const { memory } = this;
    memory.write64(address + TABLE_HEADER.signature, signature);
    memory.write32(address + TABLE_HEADER.revision, UEFI_REVISION);
    memory.write32(address + TABLE_HEADER.headerSize, size);
    memory.write32(address + TABLE_HEADER.crc32, 0);
    memory.write32(address + TABLE_HEADER.crc32, crc32(memory.copyOut(address, size)));
  }

  /** A pointer of the system table. */
  setSystemTable(field: keyof typeof SYSTEM_TABLE, value: bigint): void {
    const { systemTable } = this.places;
    this.memory.write64(systemTable + SYSTEM_TABLE[field], value);
    this.header(systemTable, SYSTEM_TABLE_SIGNATURE, SYSTEM_TABLE_SIZE);
  }

  /** Adds, replaces or, with address 0, removes a configuration table. @returns false for one that is not there to be removed */
  setConfigurationTable(guid: string, address: bigint): boolean {
    const index = this.#configuration.findIndex((entry) => entry.guid === guid);
    if (address === 0n) {
      if (index < 0) return false;
      this.#configuration.splice(index, 1);
    } else if (index >= 0) {
      this.#configuration[index]!.address = address;
    } else {
      this.#configuration.push({ guid, address });
    }
    const { memory } = this;
    if (this.#configurationRoom === null || this.#configuration.length > this.#configurationRoom.entries) {
      const entries = this.#configuration.length + 16;
      this.#configurationRoom = { address: this.runtimeData(entries * CONFIGURATION_ENTRY_SIZE), entries };
    }
    const room = this.#configurationRoom.address;
    for (const [position, entry] of this.#configuration.entries()) {
      memory.copyIn(room + position * CONFIGURATION_ENTRY_SIZE, guidBytes(entry.guid));
      memory.write64(room + position * CONFIGURATION_ENTRY_SIZE + 16, entry.address);
    }
    this.setSystemTable('configurationTable', BigInt(room));
    this.setSystemTable('numberOfTableEntries', BigInt(this.#configuration.length));
    return true;
  }

  get configurationTables(): readonly { readonly guid: string; readonly address: bigint }[] {
    return this.#configuration;
  }

  // Memory given out.

  /**
   * @param by - who asks where no service was called
   * @returns the address; null where there is no room
   */
  allocatePages(request: AllocateRequest, type: EfiMemoryType, pages: number, by?: string): number | null {
    const start = this.pages.allocate(request, type, pages);
    if (start !== null) this.#allocated(start, start + pages * 0x1000, type, by);
    return start;
  }

  freePages(address: number, pages: number): boolean {
    if (!this.pages.free(address, pages)) return false;
    this.#freed(address, address + pages * 0x1000);
    return true;
  }

  allocatePool(type: EfiMemoryType, size: number): number | null {
    const address = this.pool.allocate(type, size);
    if (address === null) return null;
    this.memory.fill(address, size, POOL_FILL);
    this.#allocated(address, address + size, type);
    return address;
  }

  freePool(address: number): boolean {
    if (!this.pool.free(address)) return false;
    this.#freed(address, address + 1);
    return true;
  }

  #allocated(start: number, end: number, type: EfiMemoryType, by?: string): void {
    const call = this.#current;
    this.allocations.push({
      start,
      end,
      type,
      service: call?.service.name ?? (by === undefined ? 'LoadImage' : 'AllocatePages'),
      call: call?.number ?? 0,
      caller: call === null ? (by ?? 'the firmware') : this.nameOf(call.returnAddress),
      instructions: call?.instructions ?? null,
      freedIn: null,
    });
    if (type === 'LoaderCode') this.onCodePages?.(start, end);
  }

  #freed(start: number, end: number): void {
    for (const allocation of this.allocations) {
      if (allocation.freedIn === null && allocation.start < end && allocation.end > start) {
        allocation.freedIn = this.#current?.number ?? 0;
      }
    }
  }

  /** Code that calls services and was not loaded as an image. */
  readonly otherCode: Pick<LoadedImageRecord, 'name' | 'base' | 'size'>[] = [];

  /** `vmlinuz+0xb75c10`; the address alone outside all code that is known. */
  nameOf(address: bigint): string {
    const image = [...this.images, ...this.otherCode].find(
      ({ base, size }) => address >= BigInt(base) && address < BigInt(base + size),
    );
    return image === undefined ? hex(address) : `${image.name}+${hex(address - BigInt(image.base))}`;
  }

  // Calls.

  /** Whether the CPU halted in a service (RIP behind the HLT). */
  isTrap(rip: number): boolean {
    return rip - 1 === this.#returnTrap || this.#traps.has(rip - 1);
  }

  /**
   * Does what the service does whose trap the CPU has halted in, and lets the caller go on.
   *
   * @returns false where the CPU did not halt in a trap
   */
  serve(): boolean {
    const rip = Number(this.cpu.readRegister('rip'));
    if (rip - 1 === this.#returnTrap) {
      this.returnFromGuest(this.cpu.readRegister('rax'));
      return true;
    }
    const row = this.#traps.get(rip - 1);
    if (row === undefined) return false;
    try {
      this.#serve(row);
    } catch (error) {
      if (!(error instanceof BootscopeError)) throw error;
      if (error.code === 'image-fat') {
        this.#current = null;
        this.parts.stop(`${row.name} cannot read the disk: ${error.message}`);
        return true;
      }
      if (error.code !== 'machine-address') throw error;
      // A firmware would take a fault, or write over itself: nothing good comes after.
      this.#current = null;
      this.parts.stop(`${row.name} was called with an address where there is no memory: ${error.message}`);
    }
    return true;
  }

  #serve(row: Service): void {
    const { cpu, memory } = this;
    const rsp = cpu.readRegister('rsp');
    const args = row.parameters.map((_, index) => this.argument(index, rsp));
    const call: ServedCall = {
      service: row,
      number: ++this.#number,
      args,
      argumentTexts: row.parameters.map((parameter, index) => argumentText(memory, parameter, args[index]!)),
      returnAddress: memory.read64(Number(rsp)),
      instructions: cpu.instructions,
    };
    const count = (this.#calls.get(row.name) ?? 0) + 1;
    this.#calls.set(row.name, count);
    const fault = this.parts.faults.find(
      (each) => each.service === row.name && (each.call === null || each.call === count),
    );
    this.#current = call;
    const result = fault !== undefined ? fault.status : this.#run(row, args);
    this.#current = null;
    if (result !== CONTINUES_IN_GUEST) this.#return(call, result, fault !== undefined);
  }

  #run(row: Service, args: readonly bigint[]): ServiceResult {
    if (row.run !== null) return row.run(this, ...args);
    this.#missing.set(row.name, (this.#missing.get(row.name) ?? 0) + 1);
    return EFI_STATUS.UNSUPPORTED;
  }

  /** Argument number `index` of the call in progress. */
  argument(index: number, rsp = this.cpu.readRegister('rsp')): bigint {
    const register = ARGUMENT_REGISTERS[index];
    if (register !== undefined) return this.cpu.readRegister(register);
    return this.memory.read64(Number(rsp) + STACK_ARGUMENTS + (index - ARGUMENT_REGISTERS.length) * 8);
  }

  #return(call: ServedCall, result: bigint, injected: boolean): void {
    const { cpu } = this;
    const rsp = cpu.readRegister('rsp');
    cpu.writeRegister('rax', result);
    cpu.writeRegister('rsp', rsp + 8n);
    cpu.writeRegister('rip', this.memory.read64(Number(rsp)));
    this.#tell(call, result, injected);
    if (call.service.name === 'ExitBootServices' && this.bootServicesExited) this.onExitBootServices?.();
  }

  /** Calls of one service so far. */
  callsOf(service: string): number {
    return this.#calls.get(service) ?? 0;
  }

  /** Calls of services so far. */
  get calls(): number {
    return this.#number;
  }

  #tell(call: ServedCall, result: bigint, injected: boolean): void {
    const { service: row, args, argumentTexts } = call;
    const status = row.returns === 'status' ? efiStatusName(result) : hex(result);
    const results = isEfiError(result)
      ? []
      : row.parameters.flatMap((parameter, index) => {
          const text = resultText(this.memory, parameter, args[index]!);
          return text === null ? [] : [`${parameter.name} ${text}`];
        });
    const given = row.parameters.map(({ name }, index) => [name, argumentTexts[index]!] as const);
    this.parts.onEvent({
      kind: 'efi',
      service: row.name,
      number: call.number,
      caller: this.nameOf(call.returnAddress),
      returnAddress: call.returnAddress,
      arguments: Object.fromEntries(given),
      status,
      instructions: call.instructions,
      text:
        `${row.name}(${given.map(([name, text]) => `${name}=${text}`).join(', ')}) = ${status}` +
        `${results.length > 0 ? ` (${results.join(', ')})` : ''}${this.#remark === null ? '' : `: ${this.#remark}`}` +
        (injected ? ' [injected]' : ''),
    });
    this.#remark = null;
  }

  /**
   * Calls guest code from a service: an image's entry, a notification.
   *
   * @param done - called with what the code returned; its result is the service's
   */
  callGuest(
    address: bigint,
    args: readonly [bigint, bigint],
    image: bigint | null,
    done: (result: bigint) => ServiceResult,
  ): typeof CONTINUES_IN_GUEST {
    const { cpu, memory } = this;
    const call = this.#current!;
    const rsp = cpu.readRegister('rsp');
    this.#frames.push({
      image,
      rsp,
      preserved: PRESERVED.map((name) => cpu.readRegister(name)),
      done,
      call,
    });
    const top = ((rsp - CALL_STACK) & ~0xfn) - 8n;
    memory.write64(Number(top), BigInt(this.#returnTrap));
    cpu.writeRegister('rsp', top);
    cpu.writeRegister('rcx', args[0]);
    cpu.writeRegister('rdx', args[1]);
    cpu.writeRegister('rip', address);
    return CONTINUES_IN_GUEST;
  }

  /** The innermost started image that has not returned; null where the first image runs. */
  get runningImage(): bigint | null {
    return this.#frames.findLast(({ image }) => image !== null)?.image ?? null;
  }

  /** Goes back to where guest code was called from, as by its return: Exit does so from anywhere. */
  returnFromGuest(result: bigint): void {
    const { cpu } = this;
    const frame = this.#frames.pop();
    if (frame === undefined) {
      this.leaveFirstImage(result, `the image returned to the firmware with ${efiStatusName(result)}`);
      return;
    }
    for (const [index, name] of PRESERVED.entries()) cpu.writeRegister(name, frame.preserved[index]!);
    cpu.writeRegister('rsp', frame.rsp);
    this.#current = frame.call;
    const status = frame.done(result);
    this.#current = null;
    if (status !== CONTINUES_IN_GUEST) this.#return(frame.call, status, false);
  }

  /**
   * The first image has left. Where it did so with an error the firmware starts what comes next in its order, unless a kernel has run
   * by then; else that is the end.
   */
  leaveFirstImage(status: bigint, how: string): ServiceResult {
    const goesOn = isEfiError(status) && this.onImageStarted !== null;
    const next = goesOn ? (this.nextImage?.(how) ?? null) : null;
    if (next === null) {
      this.gaveUp = true;
      this.parts.stop(how);
      return EFI_STATUS.SUCCESS;
    }
    const { cpu, memory, places } = this;
    memory.write64(places.rsp, this.returnAddress);
    cpu.writeRegister('rsp', BigInt(places.rsp));
    cpu.writeRegister('rcx', next.handle);
    cpu.writeRegister('rdx', BigInt(places.systemTable));
    cpu.writeRegister('rip', BigInt(next.entry));
    this.onImageStarted?.(next);
    return CONTINUES_IN_GUEST;
  }

  /** Loads what the boot order has next; null where nothing is left. @param why - what was before has given up */
  nextImage: ((why: string) => LoadedImageRecord | null) | null = null;

  /** Exit: the running image's StartImage returns with `status`. */
  exitImage(status: bigint): typeof CONTINUES_IN_GUEST {
    this.#tell(this.#current!, EFI_STATUS.SUCCESS, false);
    this.returnFromGuest(status);
    return CONTINUES_IN_GUEST;
  }

  #monotonicCount = 0n;

  nextMonotonicCount(): bigint {
    return this.#monotonicCount++;
  }

  /** Where a return of the first image leads: the firmware. */
  get returnAddress(): bigint {
    return BigInt(this.#returnTrap);
  }

  exitBootServices(): void {
    this.bootServicesExited = true;
    this.exitCall = this.#number;
    this.mapAtExit = this.pages.describe();
    this.cpu.writeRegister('rflags', this.cpu.readRegister('rflags') & ~FLAG_IF);
  }

  /** A device path at an address, the node that ends it included. */
  devicePathBytes(address: bigint): Uint8Array {
    return bytesAt(this.memory, Number(address));
  }

  /** The range of RAM that the DXE services call one memory space; null outside RAM. */
  memorySpaceAt(address: number): { readonly start: number; readonly end: number } | null {
    const ram = this.parts.map.filter(({ type }) => type !== 'Mmio' && type !== 'MmioPort');
    const index = ram.findIndex(({ start, end }) => address >= start && address < end);
    if (index < 0) return null;
    let first = index;
    let last = index;
    while (first > 0 && ram[first - 1]!.end === ram[first]!.start) first--;
    while (last < ram.length - 1 && ram[last]!.end === ram[last + 1]!.start) last++;
    return { start: ram[first]!.start, end: ram[last]!.end };
  }

  /** Asked before AllocatePages takes pages at an address that the image has chosen: the address that it is to take. */
  onAllocateAt: ((wanted: AddressRequest) => number) | null = null;

  /** Called once ExitBootServices has succeeded and the CPU stands behind the call. */
  onExitBootServices: (() => void) | null = null;

  /** Called before the first instruction of an image that another one starts. */
  onImageStarted: ((image: LoadedImageRecord) => void) | null = null;

  /** Called for each piece of memory that is allocated for code, [start, end). */
  onCodePages: ((start: number, end: number) => void) | null = null;

  /** Says of the call in progress what its arguments do not show. */
  remark(text: string): void {
    this.#remark = text;
  }

  readonly #notices: string[] = [];

  noticeOnce(text: string): void {
    if (!this.#notices.includes(text)) this.#notices.push(text);
  }

  /** What the user should know: services that were asked for and that nobody wrote, and why something was refused. */
  get notices(): readonly string[] {
    const missing = [...this.#missing].map(
      ([name, count]) =>
        `the EFI service ${name} is not provided: it answered UNSUPPORTED ${count === 1 ? 'once' : `${count} times`}`,
    );
    return [...this.#notices, ...missing];
  }
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
