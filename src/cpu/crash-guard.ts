// Survives an engine that aborts or faults: a signal handler in machine code takes the thread back out of the library, as if
// the call had returned an error. The instance is of no use afterwards, the process is.

import type { LibraryHandle, TypeObject } from 'koffi';

type Koffi = typeof import('koffi');

/*
 * Two functions, whose state begins a page behind them:
 *
 *   start(uc, begin, until, timeout, count): notes thread and stack pointer and calls `uc_emu_start`, with C's `stderr`
 *     replaced, so that what the library prints before it aborts can be told in a sentence
 *   handler(signal, info, context): where the thread is one that runs `start` and no hook, makes it go on behind that call
 *     with -signal as its result; in a hook, where JavaScript's own frames lie between, it writes a sentence and ends the
 *     process; anywhere else the handler that was there before is called, or what the system does without one happens
 */

/** Offsets in the state. */
const STATE = {
  /** Stack pointer to return to; 0 outside the library. */
  stack: 0,
  thread: 8,
  /** Where the signal came from: the host's instruction pointer, and the address of a fault. */
  rip: 16,
  address: 24,
  start: 32,
  sigaction: 40,
  /** Hooks that run. */
  depth: 48,
  length: 52,
  /** The earlier handler of each signal below 32, and a `struct sigaction` of zeroes. */
  old: 64,
  noAction: 320,
  text: 512,
  /** Where the variable `stderr` is, its value outside the library, and inside. */
  stderr: 640,
  kept: 648,
  sink: 656,
  said: 1024,
} as const;
const PAGE = 4096;
const SINK_SIZE = 1024;
/** Offset of the handler. */
const HANDLER = 0x6b;

/** The two functions for x86-64 Linux, whose layouts of `ucontext_t` and `siginfo_t` they know. */
function machineCode(): Uint8Array | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return null;
  // biome-ignore format: one instruction a line
  return new Uint8Array([
    0x53, // start: push rbx
    0x55, // push rbp
    0x41, 0x54, // push r12
    0x41, 0x55, // push r13
    0x41, 0x56, // push r14
    0x41, 0x57, // push r15
    0x50, // push rax
    0x48, 0x8d, 0x1d, 0xee, 0x0f, 0x00, 0x00, // lea rbx, [rel data]
    0x48, 0x8b, 0x83, 0x80, 0x02, 0x00, 0x00, // mov rax, [rbx+stderr]
    0x4c, 0x8b, 0x08, // mov r9, [rax]
    0x4c, 0x89, 0x8b, 0x88, 0x02, 0x00, 0x00, // mov [rbx+kept], r9
    0x4c, 0x8b, 0x8b, 0x90, 0x02, 0x00, 0x00, // mov r9, [rbx+sink]
    0x4c, 0x89, 0x08, // mov [rax], r9
    0x64, 0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00, // mov rax, [fs:0]
    0x48, 0x89, 0x43, 0x08, // mov [rbx+thread], rax
    0x48, 0x89, 0x23, // mov [rbx+stack], rsp
    0xff, 0x53, 0x20, // call [rbx+start]
    0x31, 0xc9, // leave: xor ecx, ecx
    0x48, 0x89, 0x0b, // mov [rbx+stack], rcx
    0x48, 0x8b, 0x8b, 0x80, 0x02, 0x00, 0x00, // mov rcx, [rbx+stderr]
    0x48, 0x8b, 0x93, 0x88, 0x02, 0x00, 0x00, // mov rdx, [rbx+kept]
    0x48, 0x89, 0x11, // mov [rcx], rdx
    0x59, // pop rcx
    0x41, 0x5f, // pop r15
    0x41, 0x5e, // pop r14
    0x41, 0x5d, // pop r13
    0x41, 0x5c, // pop r12
    0x5d, // pop rbp
    0x5b, // pop rbx
    0xc3, // ret
    0x48, 0x8d, 0x1d, 0x97, 0x0f, 0x00, 0x00, // resume: lea rbx, [rel data]
    0xeb, 0xd5, // jmp leave
    0x4c, 0x8d, 0x05, 0x8e, 0x0f, 0x00, 0x00, // handler: lea r8, [rel data]
    0x49, 0x8b, 0x08, // mov rcx, [r8+stack]
    0x48, 0x85, 0xc9, // test rcx, rcx
    0x74, 0x79, // jz other
    0x64, 0x48, 0x8b, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00, // mov rax, [fs:0]
    0x49, 0x3b, 0x40, 0x08, // cmp rax, [r8+thread]
    0x75, 0x6a, // jne other
    0x41, 0x83, 0x78, 0x30, 0x00, // cmp dword [r8+depth], 0
    0x75, 0x40, // jne die
    0x48, 0x8b, 0x82, 0xa8, 0x00, 0x00, 0x00, // mov rax, [rdx+168]
    0x49, 0x89, 0x40, 0x10, // mov [r8+rip], rax
    0x48, 0x8b, 0x46, 0x10, // mov rax, [rsi+16]
    0x49, 0x89, 0x40, 0x18, // mov [r8+address], rax
    0x48, 0x63, 0xff, // movsxd rdi, edi
    0x48, 0xf7, 0xdf, // neg rdi
    0x48, 0x89, 0xba, 0x90, 0x00, 0x00, 0x00, // mov [rdx+144], rdi
    0x48, 0x89, 0x8a, 0xa0, 0x00, 0x00, 0x00, // mov [rdx+160], rcx
    0x48, 0x8d, 0x05, 0xa4, 0xff, 0xff, 0xff, // lea rax, [rel resume]
    0x48, 0x89, 0x82, 0xa8, 0x00, 0x00, 0x00, // mov [rdx+168], rax
    0x81, 0xa2, 0xb0, 0x00, 0x00, 0x00, 0xff, 0xfb, 0xff, 0xff, // and dword [rdx+176], ~0x400
    0xc3, // ret
    0xbf, 0x02, 0x00, 0x00, 0x00, // die: mov edi, 2
    0x49, 0x8d, 0xb0, 0x00, 0x02, 0x00, 0x00, // lea rsi, [r8+text]
    0x41, 0x8b, 0x50, 0x34, // mov edx, [r8+length]
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0x0f, 0x05, // syscall
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, 231
    0x0f, 0x05, // syscall
    0x48, 0x63, 0xc7, // other: movsxd rax, edi
    0x49, 0x8b, 0x44, 0xc0, 0x40, // mov rax, [r8+rax*8+old]
    0x48, 0x83, 0xf8, 0x01, // cmp rax, 1
    0x76, 0x02, // jbe reset
    0xff, 0xe0, // jmp rax
    0x57, // reset: push rdi
    0x49, 0x8d, 0xb0, 0x40, 0x01, 0x00, 0x00, // lea rsi, [r8+noAction]
    0x31, 0xd2, // xor edx, edx
    0x41, 0xff, 0x50, 0x28, // call [r8+sigaction]
    0x5f, // pop rdi
    0xc3, // ret
  ]);
}

/** By number on x86-64 Linux. */
const SIGNALS: ReadonlyMap<number, string> = new Map([
  [4, 'SIGILL'],
  [6, 'SIGABRT'],
  [7, 'SIGBUS'],
  [8, 'SIGFPE'],
  [11, 'SIGSEGV'],
]);
const SA_SIGINFO = 4;
const SA_ONSTACK = 0x0800_0000;
/** `struct sigaction` of glibc and musl: handler, mask of 128 bytes, flags, restorer. */
const SIGACTION_SIZE = 152;
const SIGACTION_FLAGS = 136;

const LAST_WORDS =
  'bootscope: the CPU engine (libunicorn) broke down while it called a hook, and the process cannot go on\n';

/** A FILE of C's whose buffer lies at `buffer` and is never written out. Null where `stderr` may be no variable that can be written. */
function openSink(
  libc: LibraryHandle,
  buffer: number,
): { readonly file: number; readonly forget: () => void } | null {
  try {
    libc.symbol('gnu_get_libc_version');
  } catch {
    return null;
  }
  const fopen = libc.func('fopen', 'uintptr_t', ['str', 'str']);
  const setvbuf = libc.func('setvbuf', 'int', ['uintptr_t', 'uintptr_t', 'int', 'size_t']);
  const purge = libc.func('__fpurge', 'void', ['uintptr_t']);
  const FULLY_BUFFERED = 0;
  const file: number = fopen('/dev/null', 'w');
  if (file === 0 || setvbuf(file, buffer, FULLY_BUFFERED, SINK_SIZE) !== 0) return null;
  return { file, forget: () => purge(file) };
}

export interface CrashGuard {
  /** Address of a function that stands in for `uc_emu_start`. */
  readonly start: bigint;
  /** Element 0 counts the hooks that run in JavaScript. */
  readonly depth: Int32Array;
  /** What broke the library down: its last words and the signal's name; null where `start`'s result is a `uc_err`. */
  reasonOf(result: number): string | null;
}

/**
 * Installs the handler for this thread's calls.
 *
 * @param pages - two pages at this address, the first still writable
 * @param seal - makes the first executable; false where the host forbids it
 * @returns null where there is none for this host
 */
export function installCrashGuard(
  koffi: Koffi,
  emuStart: bigint,
  pages: number,
  seal: () => boolean,
): CrashGuard | null {
  const code = machineCode();
  if (code === null) return null;
  const memory = new Uint8Array(koffi.view(BigInt(pages), 2 * PAGE));
  memory.set(code);
  if (!seal()) return null;

  const libc = koffi.load(null);
  const state = new DataView(memory.buffer, memory.byteOffset + PAGE, PAGE);
  state.setBigUint64(STATE.start, emuStart, true);
  const words = new TextEncoder().encode(LAST_WORDS);
  memory.set(words, PAGE + STATE.text);
  state.setUint32(STATE.length, words.length, true);

  const address = (name: string): bigint => koffi.address(libc.symbol(name));
  state.setBigUint64(STATE.sigaction, address('sigaction'), true);
  const sink = openSink(libc, pages + PAGE + STATE.said);
  const said = memory.subarray(PAGE + STATE.said, PAGE + STATE.said + SINK_SIZE);
  state.setBigUint64(
    STATE.stderr,
    sink === null ? BigInt(pages + PAGE + STATE.kept) : address('stderr'),
    true,
  );
  state.setBigUint64(STATE.sink, BigInt(sink?.file ?? 0), true);

  const pointer: TypeObject = koffi.pointer('void');
  const sigaction = libc.func('sigaction', 'int', ['int', pointer, pointer]);
  const action = new Uint8Array(SIGACTION_SIZE);
  const before = new Uint8Array(SIGACTION_SIZE);
  const view = new DataView(action.buffer);
  view.setBigUint64(0, BigInt(pages + HANDLER), true);
  view.setInt32(SIGACTION_FLAGS, SA_SIGINFO | SA_ONSTACK, true);
  for (const signal of SIGNALS.keys()) {
    if (sigaction(signal, action, before) !== 0) return null;
    state.setBigUint64(STATE.old + signal * 8, new DataView(before.buffer).getBigUint64(0, true), true);
  }
  return {
    start: BigInt(pages),
    depth: new Int32Array(memory.buffer, memory.byteOffset + PAGE + STATE.depth, 1),
    reasonOf(result) {
      if (result >= 0) return null;
      const signal = SIGNALS.get(-result) ?? `signal ${-result}`;
      const words = new TextDecoder().decode(said.subarray(0, said.indexOf(0))).trim();
      sink?.forget();
      said.fill(0);
      return words === '' ? signal : `${words} (${signal})`;
    },
  };
}
