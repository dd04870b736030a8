// One QEMU process under our control: its gdbstub for breakpoints, its monitor (QMP) for registers and memory.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RegisterName } from '../../src/cpu/cpu.ts';
import { GdbRemote } from '../gdb-remote.ts';
import { parseRegisters, type QemuRegisters } from './qemu-registers.ts';

export interface QemuOptions {
  /** `esp`: a disk without a say in what boots, for firmware that is given by `extra`. */
  readonly start: 'kernel' | 'floppy' | 'disk' | 'cdrom' | 'esp';
  /** Path of the image, or of the disk. */
  readonly image: string;
  readonly cmdline: string;
  readonly initrd: string | null;
  readonly memoryMegabytes: number;
  readonly cpu: string;
  /** Milliseconds after which QEMU is killed. */
  readonly timeout: number;
  /** Further QEMU arguments. */
  readonly extra?: readonly string[];
}

/** QEMU never answers a packet of more than 4096 characters. */
const MAXIMUM_WRITE = 1024;

/** The x86-64 description's order of registers, each sent least significant byte first. */
const GDB_REGISTERS: readonly RegisterName[] = [
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip'] as const),
];

/** The arguments that make the same machine in every run, TCG and no network. */
function machineArguments(options: QemuOptions, folder: string): string[] {
  const start = {
    floppy: ['-drive', `if=floppy,format=raw,readonly=on,file=${options.image}`, '-boot', 'a'],
    disk: ['-drive', `if=ide,format=raw,snapshot=on,file=${options.image}`, '-boot', 'c'],
    esp: ['-drive', `if=ide,format=raw,snapshot=on,file=${options.image}`],
    cdrom: ['-cdrom', options.image, '-boot', 'd'],
    kernel: ['-kernel', options.image, '-append', options.cmdline],
  }[options.start];
  return [
    ...['-accel', 'tcg', '-m', String(options.memoryMegabytes), '-cpu', options.cpu],
    ...['-display', 'none', '-net', 'none', '-no-reboot', '-serial', `file:${join(folder, 'serial')}`],
    ...start,
    ...(options.initrd === null ? [] : ['-initrd', options.initrd]),
    ...(options.extra ?? []),
  ];
}

export class QemuMachine {
  readonly folder: string;
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #gone: Promise<never>;
  readonly #servers: readonly Server[];
  readonly #gdb: GdbRemote | null;
  readonly #monitor: Monitor | null;
  readonly #timer: NodeJS.Timeout;

  private constructor(parts: {
    folder: string;
    process: ChildProcess;
    exited: Promise<unknown>;
    gone: Promise<never>;
    servers: readonly Server[];
    gdb: GdbRemote | null;
    monitor: Monitor | null;
    timer: NodeJS.Timeout;
  }) {
    this.folder = parts.folder;
    this.#process = parts.process;
    this.#exited = parts.exited;
    this.#gone = parts.gone;
    this.#servers = parts.servers;
    this.#gdb = parts.gdb;
    this.#monitor = parts.monitor;
    this.#timer = parts.timer;
  }

  /**
   * Starts QEMU. With `debugged` it is stopped before its first instruction and waits for `runTo`;
   * without, it runs at once. `extra` gets the folder of this run for files of its own.
   *
   * @throws Error with QEMU's own words when it ends at once
   */
  static async start(
    options: QemuOptions,
    debugged: boolean,
    extra: (folder: string) => readonly string[] = () => [],
  ): Promise<QemuMachine> {
    const folder = mkdtempSync(join(tmpdir(), 'bootscope-qemu-'));
    const servers: Server[] = [];
    const listen = async (name: string) => {
      const server = createServer();
      server.listen(join(folder, name));
      await once(server, 'listening');
      servers.push(server);
      return once(server, 'connection') as Promise<[Socket]>;
    };
    const connections = debugged ? [await wrap(listen('gdb')), await wrap(listen('qmp'))] : [];
    const sockets = debugged
      ? [
          ...['-S', '-chardev', `socket,id=gdb,path=${join(folder, 'gdb')}`, '-gdb', 'chardev:gdb'],
          ...['-chardev', `socket,id=qmp,path=${join(folder, 'qmp')}`, '-mon', 'chardev=qmp,mode=control'],
        ]
      : ['-monitor', 'none'];
    const child = spawn(
      'qemu-system-x86_64',
      [...machineArguments(options, folder), ...sockets, ...extra(folder)],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let complaint = '';
    let timedOut = false;
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    const exited = once(child, 'close');
    const gone = exited.then(
      () => {
        const reason = timedOut ? `QEMU was ended after ${options.timeout / 1000} s` : 'QEMU ended';
        throw new Error(complaint.trim() === '' ? reason : `${reason}: ${complaint.trim()}`);
      },
      (error: NodeJS.ErrnoException) => {
        throw new Error(`qemu-system-x86_64 did not start: ${error.message}`);
      },
    );
    gone.catch(() => {});
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, options.timeout);
    const parts = { folder, process: child, exited: exited.catch(() => {}), gone, servers, timer };
    const idle = new QemuMachine({ ...parts, gdb: null, monitor: null });
    if (!debugged) return idle;
    try {
      const [gdb, qmp] = await Promise.race([Promise.all(connections.map((one) => one.promise)), gone]);
      const monitor = new Monitor(qmp![0]);
      await Promise.race([monitor.ready(), gone]);
      return new QemuMachine({ ...parts, gdb: new GdbRemote(gdb![0]), monitor });
    } catch (error) {
      await idle.close();
      throw error;
    }
  }

  /** Rejects when QEMU ends; race it against whatever waits. */
  get gone(): Promise<never> {
    return this.#gone;
  }

  async #gdbRequest(packet: string): Promise<string> {
    return Promise.race([this.#gdb!.request(packet), this.#gone]);
  }

  async #demand(packet: string): Promise<void> {
    const reply = await this.#gdbRequest(packet);
    if (reply !== 'OK') throw new Error(`QEMU's gdbstub answered "${reply}" to ${packet.slice(0, 40)}`);
  }

  /**
   * Runs until one of `addresses` (linear) is reached and returns which. A breakpoint makes TCG run its
   * whole page one instruction at a time, so they are taken away again at the stop.
   */
  async runTo(addresses: readonly bigint[]): Promise<bigint> {
    for (const address of addresses) await this.#demand(`Z0,${address.toString(16)},1`);
    const stop = await this.#gdbRequest('c');
    if (!/^[TS]05/.test(stop)) throw new Error(`QEMU stopped with "${stop}" instead of at a breakpoint`);
    for (const address of addresses) await this.#demand(`z0,${address.toString(16)},1`);
    const { base, offset } = await this.#programCounter();
    for (const address of addresses) if (address === base + offset || address === offset) return address;
    throw new Error(`QEMU stopped at 0x${(base + offset).toString(16)}, where no breakpoint was set`);
  }

  async #programCounter(): Promise<{ base: bigint; offset: bigint }> {
    const registers = await this.registers();
    return { base: registers.codeBase, offset: registers.values.rip };
  }

  /** Lets the CPU run; the promise ends with the stop that `pause` brings. */
  resume(): Promise<string> {
    return this.#gdbRequest('c');
  }

  /** Stops a CPU that `resume` let run. */
  async pause(running: Promise<string>): Promise<void> {
    await this.#qmp('stop', {});
    await running;
  }

  /** Executes one instruction. */
  async step(): Promise<void> {
    const stop = await this.#gdbRequest('s');
    if (!/^[TS]05/.test(stop)) throw new Error(`QEMU stopped with "${stop}" instead of after a step`);
  }

  async registers(): Promise<QemuRegisters> {
    return parseRegisters(await this.#monitorText('info registers'));
  }

  async writeRip(value: bigint): Promise<void> {
    await this.writeRegisters({ rip: value });
  }

  /** General registers and RIP; others are passed over. */
  async writeRegisters(values: Readonly<Partial<Record<RegisterName, bigint>>>): Promise<void> {
    // QEMU takes single registers only from a client that has asked for their description.
    await this.#gdbRequest('qXfer:features:read:target.xml:0,ffb');
    for (const [number, name] of GDB_REGISTERS.entries()) {
      const value = values[name];
      if (value !== undefined) await this.#demand(`P${number.toString(16)}=${hexLittleEndian(value)}`);
    }
  }

  /** Guest-physical bytes. */
  async readPhysical(address: bigint, length: number): Promise<Buffer> {
    const path = join(this.folder, 'memory');
    if (length === 0) return Buffer.alloc(0);
    await this.#qmp('pmemsave', { val: Number(address), size: length, filename: path });
    const bytes = readFileSync(path);
    rmSync(path);
    return bytes;
  }

  /** All of its memory and the registers, as an ELF core. */
  async dumpMemory(path: string): Promise<void> {
    await this.#qmp('dump-guest-memory', { paging: false, protocol: `file:${path}` });
  }

  async writePhysical(address: bigint, bytes: Uint8Array): Promise<void> {
    await this.#demand('Qqemu.PhyMemMode:1');
    for (let offset = 0; offset < bytes.length; offset += MAXIMUM_WRITE) {
      const part = Buffer.from(bytes.subarray(offset, offset + MAXIMUM_WRITE));
      const start = (address + BigInt(offset)).toString(16);
      await this.#demand(`M${start},${part.length.toString(16)}:${part.toString('hex')}`);
    }
    await this.#demand('Qqemu.PhyMemMode:0');
  }

  async #monitorText(command: string): Promise<string> {
    return String(await this.#qmp('human-monitor-command', { 'command-line': command }));
  }

  async #qmp(command: string, parameters: Readonly<Record<string, unknown>>): Promise<unknown> {
    return Promise.race([this.#monitor!.execute(command, parameters), this.#gone]);
  }

  /** What the guest sent to its first serial port so far. */
  serialOutput(): string {
    try {
      return readFileSync(join(this.folder, 'serial'), 'latin1');
    } catch {
      return '';
    }
  }

  /** Ends QEMU and removes its files; safe to call twice. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill('SIGKILL');
    await this.#exited;
    this.#gdb?.close();
    this.#monitor?.close();
    for (const server of this.#servers) server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Keeps a promise from being awaited together with the one that makes it. */
async function wrap(listening: Promise<[Socket]>): Promise<{ promise: Promise<[Socket]> }> {
  return { promise: listening };
}

/** QEMU's machine protocol: one JSON object a line, events in between. */
class Monitor {
  readonly #socket: Socket;
  readonly #ready: Promise<void>;
  #received = '';
  #greet: (() => void) | null = null;
  #waiting: { resolve(value: unknown): void; reject(error: Error): void } | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#ready = new Promise((resolve) => {
      this.#greet = resolve;
    });
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (text: string) => {
      this.#received += text;
      for (let end = this.#received.indexOf('\n'); end >= 0; end = this.#received.indexOf('\n')) {
        const line = this.#received.slice(0, end);
        this.#received = this.#received.slice(end + 1);
        if (line.trim() !== '') this.#take(JSON.parse(line));
      }
    });
  }

  #take(message: Readonly<Record<string, unknown>>): void {
    if ('QMP' in message) this.#greet?.();
    const waiting = this.#waiting;
    if (waiting === null) return;
    if ('return' in message) {
      this.#waiting = null;
      waiting.resolve(message.return);
    } else if ('error' in message) {
      this.#waiting = null;
      waiting.reject(new Error(`QEMU's monitor answered ${JSON.stringify(message.error)}`));
    }
  }

  async ready(): Promise<void> {
    await this.#ready;
    await this.execute('qmp_capabilities', {});
  }

  execute(command: string, parameters: Readonly<Record<string, unknown>>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

function hexLittleEndian(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString('hex');
}
