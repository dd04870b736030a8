// What is watched for once UEFI firmware has started a program, with programs that are made here.

import { describe, expect, it } from 'vitest';
import { readEfiImage } from '../../image/efi-program.ts';
import { flatTree } from '../../image/file-tree.ts';
import { efiProgram } from '../../machine/uefi/test-program.ts';
import { type BootSession, openBoot } from '../session.ts';

const NEXT = 0x30_0000;
/** mov rax, imm64; jmp rax */
const jump = (address: number): number[] => [0x48, 0xb8, ...word(address), ...word(0), 0xff, 0xe0];
const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const CLI_HLT = [0xfa, 0xf4];
/** mov rbx, mov rcx, mov rdx with constants: 30 bytes that no other code has. */
const MARK = [0xbb, 0xb9, 0xba].flatMap((opcode, index) => [
  0x48,
  opcode,
  ...word(0x1234_5678 + index),
  ...word(0x9abc),
]);

/** A loader that goes on at an address without LoadImage, where `code` has come to lie. */
async function open(
  code: readonly number[],
  files: readonly (readonly [name: string, bytes: Uint8Array])[],
): Promise<BootSession> {
  const loader = efiProgram(Uint8Array.from(jump(NEXT)));
  const root = flatTree([{ path: 'loader.efi', bytes: loader }]);
  const session = await openBoot(await readEfiImage('loader.efi', loader), {
    ...{ entry: 'efi', memory: 64 << 20, hash: false },
    esp: { path: 'esp', root, disk: null, partition: null, problems: [] },
  });
  session.memory.write(NEXT, Uint8Array.from(code));
  // What the loader has read by the file protocol.
  for (const [name, bytes] of files) {
    const [file] = flatTree([{ path: name, bytes }]).list();
    session.machine.uefi!.files.set(file!, { name, file: file! });
  }
  return session;
}

function phasesOf(session: BootSession): readonly (readonly unknown[])[] {
  return session.trace().phases.map(({ name, program, address }) => [name, program, Number(address)]);
}

describe('a program that an EFI loader has put into memory by itself', () => {
  const code = [...MARK, ...CLI_HLT];
  const file = Uint8Array.from([...code, ...new Array<number>(0x1000).fill(0x90)]);

  it('is known by the file that holds the same bytes, and named as it is', async () => {
    using session = await open(code, [['esp: \\EFI\\BOOT\\next.efi', file]]);
    await session.run();
    const [first, ...others] = phasesOf(session);
    expect(first!.slice(0, 2)).toEqual(['efi_program', 'loader.efi']);
    expect(others).toEqual([['efi_program', 'next.efi', NEXT]]);
    const region = session.layout().find(({ name }) => name === 'next.efi')!;
    expect([Number(region.start), Number(region.end)]).toEqual([NEXT, NEXT + file.length]);
  });

  it('begins once, wherever else in it the loader comes to', async () => {
    const twice = [...MARK, ...jump(NEXT + 0x800)];
    const whole = Uint8Array.from([...twice, ...new Array<number>(0x1000).fill(0x90)]);
    whole.set([0x31, 0xc0, ...MARK, ...CLI_HLT], 0x800);
    using session = await open([...whole], [['next.efi', whole]]);
    await session.run();
    expect(phasesOf(session).slice(1)).toEqual([['efi_program', 'next.efi', NEXT]]);
    expect(session.layout().filter(({ name }) => name === 'next.efi')).toHaveLength(1);
  });

  it('is not known where no file has its bytes', async () => {
    using session = await open(code, [['other.efi', file.toReversed()]]);
    await session.run();
    expect(phasesOf(session)).toHaveLength(1);
  });
});

describe('what the firmware says of memory', () => {
  it('is told as it was at the entry, and not of an exit that never came', async () => {
    using session = await open(CLI_HLT, []);
    await session.run();
    const maps = session.trace().efiMemoryMap!;
    const { map } = session.machine.uefi!.parts;
    expect(maps.atEntry).toEqual(
      map.map(({ start, end, ...rest }) => ({ ...rest, start: BigInt(start), end: BigInt(end) })),
    );
    expect(maps.atEntry.some(({ type }) => type === 'Conventional')).toBe(true);
    expect(maps.atExit).toBeNull();
  });
});
