// One debugger at the other end of a stream of bytes: answers the packets of the GDB Remote Serial Protocol (GDB manual, appendix
// E) for a `GdbTarget`. What the debugger has set is taken away when it detaches or the stream ends, so that the next one may come.

import { encodePacket, fromHex, type Incoming, PacketReader, textToHex, toHex } from './packets.ts';
import { GDB_REGISTERS, registerSize, targetDescription } from './registers.ts';
import type { GdbMemoryRange, GdbPoint, GdbResume, GdbStop, GdbTarget } from './target.ts';

const PACKET_SIZE = 0x4000;
const SIGINT = 2;
const SIGTRAP = 5;
const FEATURES = [
  `PacketSize=${PACKET_SIZE.toString(16)}`,
  'QStartNoAckMode+',
  'qXfer:features:read+',
  'qXfer:memory-map:read+',
  'swbreak+',
  'hwbreak+',
  'vContSupported+',
  'ReverseStep+',
  'ReverseContinue+',
].join(';');

/** `EIO`-like numbers have no meaning to the debugger; texts have. */
const ERROR_FORMAT = 'E01';
const ERROR_MEMORY = 'E0e';
/** A packet that is not known. */
const UNKNOWN = '';
const OK = 'OK';

const POINT_KINDS: readonly GdbPoint['kind'][] = ['software', 'hardware', 'write', 'read', 'access'];
/** What a stop reply calls a watchpoint of each kind. */
const WATCH_NAMES = { write: 'watch', read: 'rwatch', access: 'awatch' } as const;

/** In every stop reply, so that the debugger need not ask for all of them after each step. */
const EXPEDITED: readonly number[] = ['rbp', 'rsp', 'rip', 'mode', 'ip'].map((name) =>
  GDB_REGISTERS.findIndex((register) => register.name === name),
);

/** Where packets go. */
export interface GdbStream {
  send(bytes: Uint8Array): void;
  /** Ends the stream from this side. */
  end(): void;
}

/** How a debugger went. */
export type GdbFarewell = 'detached' | 'killed' | 'closed';

/** One debugger at one target: packets in, packets out, whatever they travel by. */
export class GdbConnection {
  readonly #target: GdbTarget;
  readonly #stream: GdbStream;
  readonly #onEnd: (how: GdbFarewell) => void;
  readonly #reader = new PacketReader();
  readonly #points = new Map<string, GdbPoint>();
  #acknowledge = true;
  #lastSent: Uint8Array | null = null;
  #stop: GdbStop = { kind: 'step' };
  #running = false;
  #ended = false;
  /** Packets are answered one after the other; a resume may take long. */
  #work: Promise<void> = Promise.resolve();
  #unanswered = 0;

  /** @param onEnd - called once, when the debugger has gone or is to go */
  constructor(target: GdbTarget, stream: GdbStream, onEnd: (how: GdbFarewell) => void) {
    this.#target = target;
    this.#stream = stream;
    this.#onEnd = onEnd;
    target.setPoints([]);
  }

  /** To be called with what comes, in any pieces. */
  receive(bytes: Uint8Array): void {
    for (const incoming of this.#reader.read(bytes)) this.#take(incoming);
  }

  /** To be called when the stream has ended at the other side. */
  closed(): void {
    this.#end('closed');
  }

  /** Resolves when everything that has come so far is answered. */
  get settled(): Promise<void> {
    return this.#work;
  }

  #take(incoming: Incoming): void {
    if (this.#ended) return;
    switch (incoming.kind) {
      case 'ack':
        return;
      case 'nack':
        // gdb sends it, too, when it has waited long for an answer that is to come yet, even where nothing is acknowledged.
        if (this.#acknowledge && this.#lastSent !== null && this.#unanswered === 0)
          this.#stream.send(this.#lastSent);
        return;
      case 'damaged':
        if (this.#acknowledge) this.#stream.send(Uint8Array.of(0x2d));
        return;
      case 'interrupt':
        // Only a running machine can be interrupted; the debugger sends it at no other time.
        if (this.#running) this.#target.interrupt();
        return;
      case 'packet': {
        if (this.#acknowledge) this.#stream.send(Uint8Array.of(0x2b));
        const { payload } = incoming;
        this.#unanswered++;
        this.#work = this.#work.then(() => this.#answer(payload));
      }
    }
  }

  async #answer(payload: string): Promise<void> {
    if (this.#ended) return;
    let reply: string | null;
    try {
      reply = await this.#handle(payload);
    } catch (error) {
      reply = `E.${(error as Error).message}`;
    }
    this.#unanswered--;
    if (reply !== null && !this.#ended) this.#send(reply);
    if (payload === 'QStartNoAckMode') this.#acknowledge = false;
    else if (payload.startsWith('D')) this.#end('detached');
  }

  #send(payload: string): void {
    this.#lastSent = encodePacket(payload);
    this.#stream.send(this.#lastSent);
  }

  #end(how: GdbFarewell): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#running) this.#target.interrupt();
    this.#points.clear();
    this.#target.setPoints([]);
    this.#stream.end();
    this.#onEnd(how);
  }

  /** @returns the reply; null for none */
  #handle(payload: string): Promise<string | null> | string | null {
    const rest = payload.slice(1);
    switch (payload[0]) {
      case '?':
        return this.#stopReply();
      case 'g':
        return GDB_REGISTERS.map((_, number) => this.#readRegister(number)).join('');
      case 'G':
        return this.#writeAllRegisters(rest);
      case 'p':
        return this.#readOneRegister(rest);
      case 'P':
        return this.#writeOneRegister(rest);
      case 'm':
        return this.#readMemory(rest);
      case 'M':
      case 'X':
        return this.#writeMemory(payload[0], rest);
      case 'Z':
      case 'z':
        return this.#changePoint(payload[0] === 'Z', rest);
      case 'c':
      case 's':
      case 'C':
      case 'S':
        return this.#continueOrStep(payload);
      case 'b':
        if (rest !== 's' && rest !== 'c') return UNKNOWN;
        return this.#resume({ direction: 'backward', step: rest === 's' });
      case 'v':
        return this.#verbose(payload);
      case 'q':
      case 'Q':
        return this.#query(payload);
      // There is one thread.
      case 'H':
      case 'T':
      case 'D':
        return OK;
      case 'k':
        this.#end('killed');
        return null;
      default:
        return UNKNOWN;
    }
  }

  // Registers

  #readRegister(number: number): string {
    const value = this.#target.readRegister(GDB_REGISTERS[number]!.name);
    const size = registerSize(number);
    return value === null ? 'xx'.repeat(size) : littleEndian(value, size);
  }

  #readOneRegister(text: string): string {
    const number = parseHex(text);
    return number === null || number >= GDB_REGISTERS.length ? ERROR_FORMAT : this.#readRegister(number);
  }

  #writeOneRegister(text: string): string {
    const [digits, bytes] = text.split('=', 2);
    const number = parseHex(digits ?? '');
    const value = fromHex(bytes ?? '');
    if (number === null || value === null || number >= GDB_REGISTERS.length) return ERROR_FORMAT;
    if (value.length !== registerSize(number)) return ERROR_FORMAT;
    const refusal = this.#target.writeRegister(GDB_REGISTERS[number]!.name, toNumber(value));
    return refusal === null ? OK : `E.${refusal}`;
  }

  /** The debugger sends all to change some: only those whose values differ are written. */
  #writeAllRegisters(text: string): string {
    let at = 0;
    for (const [number, { name }] of GDB_REGISTERS.entries()) {
      const end = at + registerSize(number) * 2;
      const bytes = fromHex(text.slice(at, end));
      at = end;
      if (bytes === null || bytes.length < registerSize(number)) continue;
      const now = this.#target.readRegister(name);
      const value = toNumber(bytes);
      if (now === null || now === value) continue;
      const refusal = this.#target.writeRegister(name, value);
      if (refusal !== null) return `E.${refusal}`;
    }
    return OK;
  }

  // Memory

  #readMemory(text: string): string {
    const [address, length] = text.split(',', 2).map(parseBig);
    if (address == null || length == null) return ERROR_FORMAT;
    const bytes = this.#target.readMemory(address, Math.min(Number(length), PACKET_SIZE / 2 - 1));
    return bytes.length === 0 && length > 0n ? ERROR_MEMORY : toHex(bytes);
  }

  #writeMemory(kind: 'M' | 'X', text: string): string {
    const colon = text.indexOf(':');
    const [address, length] = text.slice(0, Math.max(0, colon)).split(',', 2).map(parseBig);
    const content = text.slice(colon + 1);
    const bytes = kind === 'M' ? fromHex(content) : Uint8Array.from(content, (each) => each.charCodeAt(0));
    if (address == null || length == null || bytes === null || BigInt(bytes.length) !== length) {
      return ERROR_FORMAT;
    }
    // Of no bytes: the debugger asks whether the packet is known.
    return bytes.length === 0 || this.#target.writeMemory(address, bytes) ? OK : ERROR_MEMORY;
  }

  // Breakpoints and watchpoints

  #changePoint(insert: boolean, text: string): string {
    const [type, place, size] = text.split(';', 1)[0]!.split(',');
    const kind = POINT_KINDS[Number(type)];
    if (kind === undefined || !this.#target.pointKinds.has(kind)) return UNKNOWN;
    const address = parseBig(place ?? '');
    const length = parseHex(size ?? '');
    if (address === null || length === null) return ERROR_FORMAT;
    const key = `${kind} ${address} ${length}`;
    if (insert) this.#points.set(key, { kind, address, length });
    else this.#points.delete(key);
    this.#target.setPoints([...this.#points.values()]);
    return OK;
  }

  // Running

  #continueOrStep(payload: string): Promise<string | null> | string {
    const step = payload[0] === 's' || payload[0] === 'S';
    // Signals mean nothing to a machine without an operating system.
    const withSignal = payload[0] === 'C' || payload[0] === 'S';
    const at = withSignal ? (payload.split(';')[1] ?? '') : payload.slice(1);
    if (at !== '') {
      const address = parseBig(at);
      if (address === null) return ERROR_FORMAT;
      const refusal = this.#target.writeRegister('rip', address);
      if (refusal !== null) return `E.${refusal}`;
    }
    return this.#resume({ direction: 'forward', step });
  }

  #verbose(payload: string): Promise<string | null> | string | null {
    if (payload === 'vCont?') return 'vCont;c;C;s;S';
    if (payload.startsWith('vCont;')) {
      // Of several actions the first one for the only thread is its own.
      const action = payload.slice('vCont;'.length)[0];
      if (action === 'c' || action === 'C') return this.#resume({ direction: 'forward', step: false });
      if (action === 's' || action === 'S') return this.#resume({ direction: 'forward', step: true });
      return ERROR_FORMAT;
    }
    if (payload.startsWith('vKill')) {
      this.#send(OK);
      this.#end('killed');
      return null;
    }
    return UNKNOWN;
  }

  async #resume(how: GdbResume): Promise<string> {
    const mode = this.#target.readRegister('mode');
    this.#running = true;
    try {
      this.#stop = await this.#target.resume(how);
    } finally {
      this.#running = false;
    }
    if (!this.#ended) {
      if (this.#stop.kind === 'end') this.#print(`bootscope: ${this.#stop.text}\n`);
      if (this.#target.readRegister('mode') !== mode) this.#print(`bootscope: ${this.#target.status()}\n`);
    }
    return this.#stopReply();
  }

  /** Only while the debugger waits for a stop. */
  #print(text: string): void {
    this.#send(`O${textToHex(text)}`);
  }

  #stopReply(): string {
    const stop = this.#stop;
    const signal = stop.kind === 'interrupted' ? SIGINT : SIGTRAP;
    const registers = EXPEDITED.map((number) => `${number.toString(16)}:${this.#readRegister(number)};`);
    return `T${signal.toString(16).padStart(2, '0')}${registers.join('')}thread:1;${stopReason(stop)}`;
  }

  // Queries

  #query(payload: string): Promise<string | null> | string {
    const [name] = /^[A-Za-z]+/.exec(payload) ?? [''];
    const rest = payload.slice(name.length + 1);
    switch (name) {
      case 'qSupported':
        return FEATURES;
      case 'QStartNoAckMode':
      case 'qSymbol':
        return OK;
      case 'qAttached':
        return '1';
      case 'qC':
        return 'QC1';
      case 'qfThreadInfo':
        return 'm1';
      case 'qsThreadInfo':
        return 'l';
      case 'qThreadExtraInfo':
        return textToHex(this.#target.status());
      case 'qXfer':
        return this.#transfer(rest);
      case 'qRcmd':
        return this.#monitor(rest);
      default:
        return UNKNOWN;
    }
  }

  /** `features:read:target.xml:OFFSET,LENGTH` */
  #transfer(text: string): string {
    const [object, operation, annex, span] = text.split(':');
    const [offset, length] = (span ?? '').split(',', 2).map(parseHex);
    if (operation !== 'read') return UNKNOWN;
    if (offset == null || length == null) return ERROR_FORMAT;
    let document: string;
    if (object === 'features' && annex === 'target.xml') document = targetDescription();
    else if (object === 'memory-map' && annex === '') document = memoryMap(this.#target.memoryMap());
    else return object === 'features' ? 'E00' : UNKNOWN;
    const part = document.slice(offset, offset + Math.min(length, PACKET_SIZE - 1));
    return `${offset + part.length < document.length ? 'm' : 'l'}${part}`;
  }

  async #monitor(hex: string): Promise<string> {
    const bytes = fromHex(hex);
    if (bytes === null) return ERROR_FORMAT;
    const text = await this.#target.monitor(new TextDecoder().decode(bytes).trim());
    for (const piece of pieces(textToHex(text), PACKET_SIZE - 2)) this.#send(`O${piece}`);
    return OK;
  }
}

function stopReason(stop: GdbStop): string {
  switch (stop.kind) {
    case 'breakpoint':
      return stop.point === 'software' ? 'swbreak:;' : 'hwbreak:;';
    case 'watchpoint':
      return `${WATCH_NAMES[stop.point]}:${stop.address.toString(16)};`;
    case 'beginning':
      return 'replaylog:begin;';
    case 'end':
      return 'replaylog:end;';
    default:
      return '';
  }
}

function memoryMap(ranges: readonly GdbMemoryRange[]): string {
  const memory = ranges.map(
    ({ start, length, type }) =>
      `<memory type="${type}" start="0x${start.toString(16)}" length="0x${length.toString(16)}"/>`,
  );
  return `<?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd"><memory-map>${memory.join('')}</memory-map>`;
}

function littleEndian(value: bigint, size: number): string {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = Number((value >> BigInt(at * 8)) & 0xffn);
  return toHex(bytes);
}

function toNumber(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function parseBig(text: string): bigint | null {
  return /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : null;
}

function parseHex(text: string): number | null {
  return /^[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : null;
}

function pieces(text: string, size: number): string[] {
  return text.match(new RegExp(`.{1,${size}}`, 'gs')) ?? [];
}
