// What the guest does to the system around its code, as events: loads of control, MSR, descriptor table and segment
// registers, mode switches, BIOS calls, port I/O by device, exceptions, console lines.

import type { Cpu, RegisterName, Unhook } from '../cpu/cpu.ts';
import { hex } from '../hex.ts';
import type { MachineEvent } from '../machine/events.ts';
import type { BootEvent, CpuMode } from '../trace/boot-trace.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import { CODE_BITS, type CpuModeReader, codeSegmentBase } from './cpu-mode.ts';
import type { HostSteps } from './hold.ts';

/** An event without what the boot adds: its phase. */
export type SystemEvent = Omit<BootEvent, 'phase'>;

const MSR_NAMES: ReadonlyMap<number, string> = new Map([
  [0x1b, 'APIC_BASE'],
  [0x1a0, 'MISC_ENABLE'],
  [0x277, 'PAT'],
  [0xc0000080, 'EFER'],
  [0xc0000100, 'FS_BASE'],
  [0xc0000101, 'GS_BASE'],
  [0xc0010130, 'SEV_ES_GHCB'],
  [0xc0010131, 'SEV_STATUS'],
]);
/** What a boot asks CPUID for, and how the answer reads. */
const CPUID_MEANINGS: ReadonlyMap<number, (result: readonly [number, number, number, number]) => string> =
  new Map([
    [0x7, ([, , ecx]) => `five-level paging (LA57): ${(ecx & (1 << 16)) === 0 ? 'no' : 'yes'}`],
    [0x21, ([, ebx, ecx, edx]) => `Intel TDX: ${isTdx(ebx, edx, ecx) ? 'yes' : 'no'}`],
    [0x8000001f, ([eax]) => `AMD SEV: ${(eax & 2) === 0 ? 'no' : 'yes'}`],
  ] as const);
/** `IntelTDX    ` in EBX, EDX, ECX. */
const TDX_SIGNATURE = [0x65746e49, 0x5844546c, 0x20202020] as const;
const SEGMENT_REGISTERS: readonly RegisterName[] = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];
const GENERAL_REGISTERS: readonly RegisterName[] = [
  ...(['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
];
const OPERAND_SIZE = 0x66;
const ADDRESS_SIZE = 0x67;
const MAX_LENGTH = 15;
const SERIAL_PORT = 'UART';
const NEWLINE = 0x0a;
/** INT 10h, AH=0Eh. */
const VIDEO_SERVICES = 0x10;
const TELETYPE = 0x0e00;

function isTdx(...words: readonly number[]): boolean {
  return words.every((word, index) => word >>> 0 === TDX_SIGNATURE[index]);
}

/** Far transfers by their first byte: `ljmp` and `lcall` to an immediate, `lret`, `iret`. */
const FAR_OPCODES: readonly number[] = [0xea, 0x9a, 0xca, 0xcb, 0xcf];

/**
 * Offsets in code[from, to) where the bytes of an instruction stand that loads a system register or changes the mode.
 * @param everything - also the one-byte far transfers, which data looks like too often for a search in much code
 */
export function findSystemInstructions(
  code: Uint8Array,
  from: number,
  to: number,
  everything: boolean,
): number[] {
  const found: number[] = [];
  const end = Math.min(to, code.length - 2);
  for (let at = from; at < end; at++) {
    if (!looksLikeOne(code, at, everything)) continue;
    // Where the byte before may be a prefix, the instruction may begin there.
    for (let start = at; start >= from; start--) {
      found.push(start);
      const before = code[start - 1] ?? 0;
      if (before !== OPERAND_SIZE && before !== ADDRESS_SIZE && before !== 0x2e && (before & 0xf0) !== 0x40)
        break;
    }
  }
  return [...new Set(found)];
}

function looksLikeOne(code: Uint8Array, at: number, everything: boolean): boolean {
  const [first, second, third] = [code[at]!, code[at + 1]!, code[at + 2]!];
  const field = (third >> 3) & 7;
  if (first === 0x0f) {
    if (second === 0x22) return third >= 0xc0 && [0, 2, 3, 4].includes(field);
    if (second === 0x30 || second === 0x32) return true;
    return second === 0x01 && (field === 6 || ((field === 2 || field === 3) && third < 0xc0));
  }
  if (first === 0x8e) return second >= 0xc0 && [0, 2, 3, 4, 5].includes((second >> 3) & 7);
  if (first === 0xff) return everything && ((second >> 3) & 7) === 5 && second < 0xc0;
  return everything && FAR_OPCODES.includes(first);
}

export interface SystemEventParts {
  readonly cpu: Cpu;
  readonly mode: CpuModeReader;
  /** All that the guest has printed so far. */
  readonly console: () => string;
  readonly record: (event: SystemEvent, ports?: PortPlaces) => void;
  readonly hold: Pick<HostSteps, 'before'>;
}

type PortEvent = Extract<MachineEvent, { kind: 'port' }>;

/** Of accesses to several ports, where the first to each was, by the port in hex. */
export type PortPlaces = ReadonlyMap<string, Pick<BootEvent, 'address' | 'instructions'>>;

/** Accesses to one device with nothing else in between. */
interface PortRun {
  readonly device: string;
  readonly address: bigint;
  /** Executed before the first of them. */
  readonly instructions: number | null;
  readonly ports: Map<number, Place>;
  reads: number;
  writes: number;
  last: PortEvent;
}

/** An instruction that is looked at again when it has run. */
interface Place {
  readonly at: bigint;
  readonly instructions: number | null;
}

/** What was being put together between two runs. */
export interface SystemEventsState {
  readonly ports: PortRun | null;
  readonly printed: number;
  readonly newlines: readonly Place[];
}

export class SystemEvents {
  readonly #parts: SystemEventParts;
  #mode: CpuMode | null = null;
  #ports: PortRun | null = null;
  #printed = 0;
  /** The OUT of each newline that was not looked at yet. */
  readonly #newlines: Place[] = [];
  #modeLook: Unhook | null = null;
  /** What is done once before the instruction at an address, and the hooks on such instructions. */
  readonly #afterwards = new Map<bigint, () => void>();
  readonly #hooksAfter = new Map<bigint, Unhook>();

  constructor(parts: SystemEventParts) {
    this.#parts = parts;
  }

  /** Hooks the system instructions at `address` + offset, for each offset that `findSystemInstructions` gave. */
  watch(address: number, offsets: readonly number[]): Unhook[] {
    const hooks = offsets.map((offset) => {
      const at = BigInt(address + offset);
      return this.#parts.cpu.hookCode(at, at, () => {
        if (!this.#held(address + offset)) this.#onInstruction(address + offset);
      });
    });
    return [...hooks, () => this.#dropHooksAfter()];
  }

  #held(address: number): boolean {
    return this.#parts.hold.before(address);
  }

  saveState(): SystemEventsState {
    const ports = this.#ports === null ? null : { ...this.#ports, ports: new Map(this.#ports.ports) };
    return { ports, printed: this.#printed, newlines: [...this.#newlines] };
  }

  restoreState({ ports, printed, newlines }: SystemEventsState): void {
    this.#ports = ports === null ? null : { ...ports, ports: new Map(ports.ports) };
    this.#printed = printed;
    this.#newlines.splice(0, this.#newlines.length, ...newlines);
  }

  /** What was being put together is complete; `address` is where the CPU is. */
  flush(address: bigint): void {
    this.#flush({ at: address, instructions: this.#parts.cpu.instructions });
  }

  /** @param place - what has printed the lines that no OUT to the serial port has ended */
  #flush(place: Place): void {
    const run = this.#ports;
    this.#ports = null;
    if (run !== null) this.#parts.record(portEvent(run), portPlaces(run));
    const text = this.#parts.console();
    for (;;) {
      const end = text.indexOf('\n', this.#printed);
      if (end < 0) break;
      const line = text.slice(this.#printed, end);
      this.#printed = end + 1;
      const { at, instructions } = this.#newlines.shift() ?? place;
      if (line === '') continue;
      this.#parts.record({ kind: 'console', address: at, instructions, text: line, details: {} });
    }
    this.#newlines.length = 0;
  }

  onMachineEvent(event: MachineEvent): void {
    const at = this.#linearRip();
    const { instructions } = this.#parts.cpu;
    switch (event.kind) {
      case 'port':
        this.#onPort(event, { at, instructions });
        return;
      case 'bios': {
        // RIP is behind the two bytes of INT n.
        const address = at - 2n;
        this.#flush({ at: address, instructions });
        const { vector, input, output, carry, text, result } = event;
        // The text is told by the line.
        if (vector === VIDEO_SERVICES && ((input.eax ?? 0) & 0xff00) === TELETYPE) return;
        const registers = (prefix: string, values: Readonly<Record<string, number>>) =>
          Object.entries(values).map(([name, value]) => [`${prefix} ${name}`, hex(value)]);
        this.#parts.record({
          ...{ kind: 'bios', address, instructions },
          text: `${text}${carry ? ': failed' : ''}${result === null ? '' : `: ${result}`}`,
          details: Object.fromEntries([
            ...[
              ['vector', vector],
              ['service', text],
              ['carry', carry],
              ['result', result],
            ],
            ...registers('in', input),
            ...registers('out', output),
          ]) as BootEvent['details'],
        });
        return;
      }
      case 'efi': {
        const { service, number, caller, returnAddress, status } = event;
        this.#flush({ at: returnAddress, instructions: event.instructions });
        const given = Object.entries(event.arguments).map(([name, value]) => [`in ${name}`, value] as const);
        this.#parts.record({
          ...{ kind: 'efi', address: returnAddress, instructions: event.instructions, text: event.text },
          details: { number, service, caller, status, ...Object.fromEntries(given) },
        });
        return;
      }
      case 'cpuid': {
        this.#flush({ at, instructions });
        const { leaf, subleaf, result } = event;
        const meaning = CPUID_MEANINGS.get(leaf)?.(result);
        const [eax, ebx, ecx, edx] = result.map((word) => hex(word >>> 0));
        this.#parts.record({
          ...{ kind: 'cpuid', address: at, instructions },
          text: `CPUID ${hex(leaf)}${meaning === undefined ? '' : ` (${meaning})`} = ${eax} ${ebx} ${ecx} ${edx}`,
          details: {
            leaf: hex(leaf),
            subleaf: hex(subleaf),
            meaning: meaning ?? null,
            eax: eax!,
            ebx: ebx!,
            ecx: ecx!,
            edx: edx!,
          },
        });
        return;
      }
      case 'exception':
        this.#flush({ at, instructions });
        this.#parts.record({
          ...{ kind: 'exception', address: event.address, instructions, text: `exception ${event.vector}` },
          details: { vector: event.vector, delivered: event.delivered },
        });
    }
  }

  #onPort(event: PortEvent, place: Place): void {
    if (this.#ports?.device !== event.device) {
      this.#flush(place);
      this.#ports = {
        ...{ device: event.device, address: place.at, instructions: place.instructions, ports: new Map() },
        ...{ reads: 0, writes: 0, last: event },
      };
    }
    if (event.device === SERIAL_PORT && event.direction === 'out' && event.value === NEWLINE) {
      this.#newlines.push(place);
    }
    const run = this.#ports!;
    if (!run.ports.has(event.port)) run.ports.set(event.port, place);
    if (event.direction === 'in') run.reads++;
    else run.writes++;
    run.last = event;
  }

  #linearRip(): bigint {
    const { cpu, mode } = this.#parts;
    const rip = cpu.readRegister('rip');
    const now = mode.read();
    return CODE_BITS[now] === 16 ? codeSegmentBase(cpu, now) + (rip & 0xffffn) : rip;
  }

  #onInstruction(address: number): void {
    const { cpu, mode, record } = this.#parts;
    const now = mode.read();
    this.#mode ??= now;
    const code = cpu.memory.viewUpTo(address, MAX_LENGTH);
    const instruction = decodeInstruction(code, 0, CODE_BITS[now]);
    if (instruction === null) return;
    const { opcode, mod, reg, rm, length } = instruction;
    const at = BigInt(address);
    const { instructions } = cpu;
    const operand = (): bigint => {
      const value = cpu.readRegister(GENERAL_REGISTERS[rm]!);
      return now === 'long64' ? value : value & 0xffff_ffffn;
    };
    const note = (kind: BootEvent['kind'], text: string, details: BootEvent['details']): void => {
      this.flush(at);
      record({ kind, address: at, instructions, text, details });
    };
    if (opcode === 0x0f22) {
      const value = operand();
      const name = `cr${reg}`;
      note('control-register', `${name} = ${hex(value)}`, { register: name, value: hex(value) });
      if (reg === 0) this.#lookAtMode({ at, instructions });
    } else if (opcode === 0x0f30) {
      const { number, value, name } = this.#msr();
      note('msr', `${name} = ${value}`, { msr: hex(number), name: MSR_NAMES.get(number) ?? null, value });
    } else if (opcode === 0x0f32) {
      const { number, name } = this.#msr();
      this.#after(at + BigInt(length), () => {
        const { value } = this.#msr();
        this.flush(at);
        record({
          ...{ kind: 'msr', address: at, instructions, text: `${name} is ${value}` },
          details: { msr: hex(number), name: MSR_NAMES.get(number) ?? null, value, read: true },
        });
      });
    } else if (opcode === 0x0f01 && reg % 8 === 6) {
      note('control-register', 'lmsw', { register: 'cr0' });
      this.#lookAtMode({ at, instructions });
    } else if (opcode === 0x0f01 && mod !== 3) {
      this.#afterTableLoad({ at, instructions }, reg % 8 === 2 ? 'gdtr' : 'idtr', length);
    } else if (opcode === 0x8e && now !== 'real16') {
      const name = SEGMENT_REGISTERS[reg % 8];
      if (name === undefined || mod !== 3) return;
      const value = hex(operand() & 0xffffn);
      note('segment', `${name} = ${value}`, { register: name, value });
    } else if (FAR_OPCODES.includes(opcode) || opcode === 0xff) {
      this.#lookAtMode({ at, instructions });
    }
  }

  /** The register that ECX names, and what EDX and EAX hold. */
  #msr(): { readonly number: number; readonly name: string; readonly value: string } {
    const { cpu } = this.#parts;
    const low = (name: RegisterName): bigint => cpu.readRegister(name) & 0xffff_ffffn;
    const number = Number(low('rcx'));
    const known = MSR_NAMES.get(number);
    return {
      number,
      name: `MSR ${hex(number)}${known === undefined ? '' : ` (${known})`}`,
      value: hex((low('rdx') << 32n) | low('rax')),
    };
  }

  /** Does it once, when the instruction at `next` is about to run. The hook stays: adding one costs more than many calls. */
  #after(next: bigint, action: () => void): void {
    this.#afterwards.set(next, action);
    if (this.#hooksAfter.has(next)) return;
    const unhook = this.#parts.cpu.hookCode(next, next, () => {
      const due = this.#afterwards.get(next);
      if (due === undefined || this.#held(Number(next))) return;
      this.#afterwards.delete(next);
      due();
    });
    this.#hooksAfter.set(next, unhook);
  }

  #dropHooksAfter(): void {
    for (const unhook of this.#hooksAfter.values()) unhook();
    this.#hooksAfter.clear();
    this.#afterwards.clear();
  }

  /** What LGDT and LIDT loaded is read when the next instruction is about to run. */
  #afterTableLoad({ at, instructions }: Place, name: 'gdtr' | 'idtr', length: number): void {
    const { cpu, record } = this.#parts;
    this.#after(at + BigInt(length), () => {
      const { base, limit } = cpu.readDescriptorTable(name);
      this.flush(at);
      record({
        ...{ kind: 'descriptor-table', address: at, instructions },
        text: `${name} = ${hex(base)}, limit ${hex(limit)}`,
        details: { register: name, base: hex(base), limit },
      });
    });
  }

  /** A load of CR0 or a far transfer ends its block: the next one may run in another mode. */
  #lookAtMode({ at, instructions }: Place): void {
    const { cpu, mode, record } = this.#parts;
    if (this.#modeLook !== null) return;
    const unhook = cpu.hookEachBlock((address) => {
      // The block that the instruction itself begins where the CPU has been stopped at it.
      if (BigInt(address) === at || this.#modeLook === null) return;
      this.#modeLook = null;
      unhook();
      const before = this.#mode;
      const now = mode.read();
      this.#mode = now;
      if (before === null || before === now) return;
      this.flush(at);
      record({
        ...{ kind: 'mode', address: at, instructions, text: `${before} to ${now}` },
        details: { from: before, to: now },
      });
    });
    this.#modeLook = unhook;
  }
}

function portPlaces({ ports }: PortRun): PortPlaces {
  return new Map(
    [...ports].map(([port, { at, instructions }]) => [hex(port), { address: at, instructions }] as const),
  );
}

function portEvent({ device, address, instructions, ports, reads, writes, last }: PortRun): SystemEvent {
  const counts = [reads > 0 ? `${reads} in` : null, writes > 0 ? `${writes} out` : null].filter(
    (text) => text !== null,
  );
  const only = reads + writes === 1 ? ` ${hex(last.value)}` : '';
  const list = [...ports.keys()].sort((a, b) => a - b).map((port) => hex(port));
  return {
    kind: 'port',
    address,
    instructions,
    text: `${device}: ${counts.join(', ')}${only} (port${list.length > 1 ? 's' : ''} ${list.join(', ')})`,
    details: { device, reads, writes, ports: list.join(' '), last: hex(last.value) },
  };
}
