import { describe, expect, it } from 'vitest';
import { BootFollower } from './boot-addresses.ts';
import { parseRegisters } from './qemu-registers.ts';
import { type Block, parseBlock } from './translated-blocks.ts';

/** A block of whole instructions, from their bytes. */
function block(start: number, ...instructions: readonly number[][]): Block {
  let address = start;
  const parsed = instructions.map((bytes) => {
    const instruction = { address: BigInt(address), bytes: Uint8Array.from(bytes) };
    address += bytes.length;
    return instruction;
  });
  return { start: BigInt(start), end: BigInt(address), instructions: parsed };
}

describe("QEMU's log of translated blocks", () => {
  it('gives each instruction its address and bytes', () => {
    const parsed = parseBlock(
      'IN: \n0x01b736c2:  4c 89 fe                 movq     %r15, %rsi\n0x01b736c5:  ff e0   jmpq *%rax\n',
    );
    expect(parsed).toMatchObject({ start: 0x1b736c2n, end: 0x1b736c7n });
    expect(parsed!.instructions[1]!.bytes).toEqual(Uint8Array.of(0xff, 0xe0));
  });

  it('has no block in a part without instructions', () => {
    expect(parseBlock('IN: \n')).toBeNull();
  });
});

describe('following a boot by its blocks', () => {
  const head = [0xfc, 0xfa, 0x90, 0x90, 0xff, 0xe0];
  const tail = [0x31, 0xc0, 0x48, 0x8d, 0x3d, 0x11, 0x22, 0x33, 0x00, 0xe8, 0x10, 0x00, 0x00, 0x00];
  const exit = [0x4c, 0x89, 0xfe, 0xff, 0xe0];
  const code = Buffer.concat([
    Buffer.from(head),
    Buffer.alloc(0x200),
    Buffer.from([...tail, ...exit]),
    Buffer.alloc(64),
  ]);
  const tailAt = head.length + 0x200;

  it('knows the copy by its bytes, extract_kernel by the call that came back, and the kernel by being neither', () => {
    const follower = new BootFollower(code, 0x100000n);
    const copy = 0x4000000;
    const blocks = [
      block(0x1eff0000, [0x90]),
      block(0x100000, head),
      block(copy + tailAt, tail.slice(0, 9), tail.slice(9)),
      block(copy + tailAt + tail.length + 16, [0x55], [0x0f, 0x31], [0xc3]),
      block(copy + tailAt + tail.length, exit.slice(0, 3), exit.slice(3)),
    ];
    for (const one of blocks) expect(follower.take(one)).toBeNull();
    expect(follower.take(block(0x1000b53, [0x90]))).toEqual({
      startup32: 0x100000n,
      startup64: null,
      relocated: BigInt(copy + tailAt),
      relocatedBase: BigInt(copy),
      extractKernel: BigInt(copy + tailAt + tail.length + 16),
      returnSite: BigInt(copy + tailAt + tail.length),
      entropyReads: [{ address: BigInt(copy + tailAt + tail.length + 17), instruction: 'rdtsc' }],
      kernel: 0x1000b53n,
    });
  });

  it('takes other code at the place of a stub that does not move for the kernel', () => {
    const follower = new BootFollower(code, 0x100000n);
    expect(follower.take(block(0x100000, head))).toBeNull();
    expect(follower.take(block(0x1000, [0xf3, 0xa4]))).toBeNull();
    expect(follower.take(block(0x100000, [0xfc, 0xb8, 0x18, 0, 0, 0, 0x8e, 0xd8]))).toMatchObject({
      relocated: null,
      kernel: 0x100000n,
    });
  });
});

describe("QEMU's register dump", () => {
  const tail = [
    'ES =0018 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]',
    'CS =0010 00000000 ffffffff 00cf9a00 DPL=0 CS32 [-R-]',
    'SS =0018 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]',
    'DS =0018 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]',
    'FS =0018 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]',
    'GS =0018 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]',
    'GDT=     00102840 0000001f',
    'IDT=     00000000 00000000',
    'CR0=00000011 CR2=80000001 CR3=0103b000 CR4=00000020',
    'EFER=0000000000000000',
  ].join('\n');

  it('is read outside of 64-bit code, where it names 32-bit registers', () => {
    const registers = parseRegisters(
      `EAX=80000001 EBX=01034000 ECX=c0000080 EDX=00000000\nESI=00011000 EDI=01041000 EBP=00100000 ESP=00106878\nEIP=0010010e EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n${tail}`,
    );
    expect(registers.mode).toBe('prot32');
    expect(registers.values.rip).toBe(0x10010en);
    expect(registers.values.r15).toBe(0n);
    expect(registers.gdtr).toEqual({ base: 0x102840n, limit: 0x1f });
  });

  it('is refused when it lacks a register', () => {
    expect(() => parseRegisters(tail)).toThrow("QEMU's register dump has no rax");
  });
});
