import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readElf } from './elf.ts';
import { countRelocationLists, hasRelocations, makeRelocations } from './relocations.ts';

/** Addresses in each list, as the stub reads them. */
function listsOf(bytes: Uint8Array): string[][] {
  const lists: string[][] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += 4) {
    const word = view.getUint32(at, true);
    if (word === 0) lists.push([]);
    else lists.at(-1)?.push(`0x${word.toString(16)}`);
  }
  return lists;
}

/** Assembles and links a kernel of a few words at 0xffffffff81000000, its per-CPU section at 0. */
function link(source: string, ...options: string[]): Uint8Array | null {
  const folder = mkdtempSync(join(tmpdir(), 'bootscope-'));
  try {
    writeFileSync(join(folder, 'kernel.s'), source);
    writeFileSync(
      join(folder, 'kernel.lds'),
      'SECTIONS { . = 0xffffffff81000000; .text : { *(.text) } .data : { *(.data) } __per_cpu_load = .;' +
        ' .data..percpu 0 : AT(0x1002000) { *(.percpu) } }',
    );
    const run = (tool: string, ...words: string[]): boolean =>
      spawnSync(tool, words, { cwd: folder }).status === 0;
    if (!run('as', '--64', '-o', 'kernel.o', 'kernel.s')) return null;
    if (!run('ld', '-m', 'elf_x86_64', '-T', 'kernel.lds', ...options, '-o', 'vmlinux', 'kernel.o'))
      return null;
    return readFileSync(join(folder, 'vmlinux'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const SOURCE = `
  .text
  .globl _start
_start:
  movq $here, %rax
  lea here(%rip), %rax
  mov counter(%rip), %eax
  movl $0x1000, %ecx
here: ret
  .data
  .quad here
  .section .percpu, "aw"
counter: .quad here
`;
const kernel = link(SOURCE, '--emit-relocs');

describe.skipIf(kernel === null)('relocation lists (need as and ld)', () => {
  it('name the words that hold addresses: 64-bit, per-CPU inverse, 32-bit', () => {
    const elf = readElf(kernel!);
    expect(hasRelocations(elf)).toBe(true);
    const lists = makeRelocations(elf, 3);
    expect(countRelocationLists(lists)).toBe(3);
    const [quads, inverse, words] = listsOf(lists);
    const data = elf.sections.find(({ name }) => name === '.data')!.address;
    const low = (address: bigint): string => `0x${BigInt.asUintN(32, address).toString(16)}`;
    const text = 0xffffffff81000000n;
    const load = data + 8n;
    expect(quads).toEqual([low(data), low(load)]);
    // The displacement of `mov counter(%rip)`, behind the 7 bytes of each instruction before it and its own opcode.
    expect(inverse).toEqual([low(text + 16n)]);
    expect(words).toEqual([low(text + 3n)]);
    expect(listsOf(makeRelocations(elf, 2))).toEqual([quads, words]);
  });

  it('cannot be made of a file that was linked without them', () => {
    const plain = link(SOURCE);
    expect(() => makeRelocations(readElf(plain!), 3)).toThrow(/linked without --emit-relocs/);
  });
});
