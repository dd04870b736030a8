// How long QEMU takes from its start to the first instruction of the kernel, measured through its gdbstub.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GdbRemote } from './gdb-remote.ts';

export interface QemuTask {
  readonly image: string;
  /** Linear address of the kernel's first instruction. */
  readonly entry: bigint;
  /** Which arrival at that address is the kernel's: 2 where the boot stub starts at the same address. */
  readonly arrival: number;
  readonly cmdline: string;
  readonly memoryMegabytes: number;
  readonly timeoutMilliseconds: number;
}

export interface QemuTiming {
  readonly milliseconds: number;
  /** Highest resident set in bytes (VmHWM). */
  readonly peakMemory: number;
  /** Processor time of all threads in milliseconds; a busy machine changes it less than the time on the clock. */
  readonly cpuMilliseconds: number;
}

/**
 * Starts QEMU's default PC (TCG, without a window) with `image` as `-kernel` and stops the clock when the
 * breakpoint at the entry is hit. QEMU connects to us, so there is no polling in the time measured.
 *
 * @throws Error when QEMU ends or the time is up before the entry is reached
 */
export async function timeQemu(task: QemuTask): Promise<QemuTiming> {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-bench-'));
  const path = join(folder, 'gdb');
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  const connected = once(server, 'connection');

  const startedAt = performance.now();
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-m', String(task.memoryMegabytes), '-no-reboot'],
      ...['-display', 'none', '-monitor', 'none', '-serial', 'null'],
      ...['-kernel', task.image, '-append', task.cmdline],
      ...['-S', '-chardev', `socket,id=gdb,path=${path}`, '-gdb', 'chardev:gdb'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let complaint = '';
  qemu.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const exited = once(qemu, 'exit');
  const gaveUp = exited.then(() => {
    throw new Error(`QEMU ended before the kernel's entry: ${complaint.trim()}`);
  });
  gaveUp.catch(() => {});
  const timer = setTimeout(() => qemu.kill('SIGKILL'), task.timeoutMilliseconds);
  let remote: GdbRemote | null = null;
  try {
    const [socket] = (await Promise.race([connected, gaveUp])) as [Socket];
    remote = new GdbRemote(socket);
    await Promise.race([runTo(remote, task.entry, task.arrival), gaveUp]);
    const milliseconds = performance.now() - startedAt;
    return { milliseconds, peakMemory: peakMemoryOf(qemu.pid!), cpuMilliseconds: cpuTimeOf(qemu.pid!) };
  } finally {
    clearTimeout(timer);
    qemu.kill('SIGKILL');
    await exited;
    remote?.close();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** How long QEMU steps, in milliseconds on the clock. */
const STEPPED_MILLISECONDS = 3000;

/**
 * How many instructions QEMU executes one by one in a second of processor time, noting each with all registers in a file
 * (`-singlestep -d exec,cpu -D`), from its firmware's first on.
 */
export async function qemuStepRate(image: string, cmdline: string, memoryMegabytes: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-qemu-'));
  const log = join(folder, 'log');
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-m', String(memoryMegabytes), '-no-reboot'],
      ...['-display', 'none', '-monitor', 'none', '-serial', 'null'],
      ...['-kernel', image, '-append', cmdline, '-singlestep', '-d', 'exec,cpu,nochain', '-D', log],
    ],
    { stdio: 'ignore' },
  );
  try {
    const exited = once(qemu, 'exit');
    await new Promise((done) => setTimeout(done, STEPPED_MILLISECONDS));
    const milliseconds = cpuTimeOf(qemu.pid!);
    qemu.kill('SIGKILL');
    await exited;
    const lines = readFileSync(log);
    let steps = 0;
    for (let at = lines.indexOf('Trace '); at >= 0; at = lines.indexOf('Trace ', at + 1)) steps++;
    if (steps === 0 || milliseconds === 0) throw new Error('QEMU has noted no instruction');
    return (steps / milliseconds) * 1000;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runTo(remote: GdbRemote, entry: bigint, arrival: number): Promise<void> {
  const breakpoint = `0,${entry.toString(16)},1`;
  for (let count = 1; ; count++) {
    await remote.demand(`Z${breakpoint}`);
    const stop = await remote.request('c');
    if (!stop.startsWith('T05')) throw new Error(`QEMU stopped with "${stop}"`);
    if (count === arrival) return;
    // Off the breakpoint by one step: the stub would stop at the same place again.
    await remote.demand(`z${breakpoint}`);
    await remote.request('s');
  }
}

/** What the threads that live have used, by the first field of each schedstat (nanoseconds). */
function cpuTimeOf(pid: number): number {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    const nanoseconds = threads.map((thread) =>
      Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
    );
    return nanoseconds.reduce((sum, time) => sum + time, 0) / 1e6;
  } catch {
    return 0;
  }
}

/** VmHWM of a process in bytes; 0 where /proc does not tell. */
function peakMemoryOf(pid: number): number {
  try {
    const line = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return line === null ? 0 : Number(line[1]) * 1024;
  } catch {
    return 0;
  }
}
