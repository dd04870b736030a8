// The marks that a stub's code is known by, each from a few instructions.

import { describe, expect, it } from 'vitest';
import type { KernelImage } from '../image/kernel-image.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import {
  agreesWithPayload,
  callTarget,
  clearedRange,
  copyTarget,
  findTail,
  fixedDistance,
  hasBackwardCopy,
  isIndirectJump,
  isLea,
  isMove,
  movedImmediate,
  RAX,
  RBP,
  RCX,
  RDI,
  RSI,
  RSP,
  readUint32,
  subtractedEnd,
  walk,
} from './stub-walk.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const offsets = (text: string, start = 0, limit?: number): readonly number[] =>
  walk(hex(text), start, 32, limit).map(({ offset }) => offset);
const all = (text: string, bits: 32 | 64 = 32) => walk(hex(text), 0, bits);
const one = (text: string, bits: 32 | 64 = 32) => decodeInstruction(hex(text), 0, bits)!;
const RBX = 3;

describe('a walk', () => {
  it.each([
    ['ends with the code', '90 90', [0, 1]],
    ['ends at what is no code', '90 0f ff 90', [0]],
    ['ends at a jump through a register', '90 ff e0 90', [0, 1]],
    ['goes on behind a jump through memory', 'ff 20 90', [0, 2]],
    ['goes on behind a call through a register', 'ff d0 90', [0, 2]],
    ['follows a short jump forward', 'eb 02 ff e0 90', [0, 4]],
    ['follows a near jump forward', 'e9 02 00 00 00 ff e0 90', [0, 7]],
    ['goes on behind a jump of no distance', 'eb 00 90', [0, 2]],
    ['ends at a jump back', '90 eb fd 90', [0, 1]],
    ['goes on behind a jump back where a branch leads', '74 03 90 eb fd 90', [0, 2, 3, 5]],
    ['goes on behind a jump back where a branch leads right there', '73 02 eb fc 90', [0, 2, 4]],
    ['ends at a jump back that a branch does not lead past', '74 01 90 eb fd 90', [0, 2, 3]],
    ['keeps in mind the furthest branch', '74 05 74 00 90 eb fd 90', [0, 2, 4, 5, 7]],
  ])('%s', (_, code, expected) => {
    expect(offsets(code)).toEqual(expected);
  });

  it('begins where it is told and ends with its limit', () => {
    expect(offsets('90 90 90 90', 1, 2)).toEqual([1, 2]);
  });
});

describe('an instruction', () => {
  it.each([
    ['jmp *%eax', 'ff e0', true],
    ['jmp *%rbp', 'ff e5', true],
    ['call *%eax', 'ff d0', false],
    ['jmp *(%eax)', 'ff 20', false],
    ['push %eax', 'ff f0', false],
    ['mov %esp, %eax', '89 e0', false],
  ])('%s jumps through a register: %s', (_, code, expected) => {
    expect(isIndirectJump(one(code))).toBe(expected);
  });

  it.each([
    ['lea 4(%ebx), %eax', '8d 43 04', true],
    ['lea 1000h(%ebx), %eax', '8d 83 00 10 00 00', true],
    ['lea (%ebx), %eax', '8d 03', false],
    ['lea 4(%ebx), %ecx', '8d 4b 04', false],
    ['lea 4(%ebp), %eax', '8d 45 04', false],
    ['mov 4(%ebx), %eax', '8b 43 04', false],
    ['lea 4(%ebx,%eax), %eax', '8d 44 03 04', false],
  ])('%s points from EBX: %s', (_, code, expected) => {
    expect(isLea(one(code), RAX, RBX)).toBe(expected);
  });

  it('without a base is no place by a register', () => {
    // lea 0x1000(,%esp), as with a SIB byte.
    expect(isLea(one('8d 44 24 04'), RAX, RSP)).toBe(false);
  });

  it.each([
    ['mov %esp, %eax by 89', '89 e0', true],
    ['mov %esp, %eax by 8b', '8b c4', true],
    ['mov %eax, %esp by 89', '89 c4', false],
    ['mov %eax, %esp by 8b', '8b e0', false],
    ['mov %ecx, %eax by 89', '89 c8', false],
    ['mov %ecx, %eax by 8b', '8b c1', false],
    ['mov %esp, %ecx by 89', '89 e1', false],
    ['mov %esp, (%eax)', '89 20', false],
    ['xor %esp, %eax', '31 e0', false],
  ])('%s moves ESP to EAX: %s', (_, code, expected) => {
    expect(isMove(one(code), RAX, RSP)).toBe(expected);
  });

  it.each([
    ['mov $1000000h, %ebx', 'bb 00 00 00 01', 0x1000000],
    ['mov $ffffffffh, %ebx', 'bb ff ff ff ff', 0xffffffff],
    ['mov $5, %ebx by c7', 'c7 c3 05 00 00 00', 5],
    ['mov $5, %ecx', 'b9 05 00 00 00', null],
    ['mov $5, %ecx by c7', 'c7 c1 05 00 00 00', null],
    ['mov $5, (%ebx)', 'c7 03 05 00 00 00', null],
    ['push %ebx', '53', null],
  ])('%s is a number for EBX: %s', (_, code, expected) => {
    expect(movedImmediate(one(code), RBX)).toBe(expected);
  });

  it('calls what its distance says', () => {
    expect(callTarget(decodeInstruction(hex('90 e8 10 00 00 00'), 1, 32)!)).toBe(0x16);
    expect(callTarget(decodeInstruction(hex('e8 fb ff ff ff'), 0, 32)!)).toBe(0);
  });

  it.each([
    // z_extract_offset: whole pages.
    ['lea 123000h(%ebp), %ebx', '8d 9d 00 30 12 00', 0x123000],
    ['lea 123004h(%ebp), %ebx', '8d 9d 04 30 12 00', null],
    ['lea 0(%ebp), %ebx', '8d 5d 00', null],
    ['lea 1000h(%ebx), %ebx', '8d 9b 00 10 00 00', null],
    ['add $2000h, %ebx', '81 c3 00 20 00 00', 0x2000],
    ['sub $2000h, %ebx', '81 eb 00 20 00 00', null],
    ['add $2000h, %ecx', '81 c1 00 20 00 00', null],
    ['addl $2000h, (%ebx)', '81 03 00 20 00 00', null],
    ['and $2000h, %ebx by 83', '83 e3 20', null],
  ])('%s is a fixed distance: %s', (_, code, expected) => {
    expect(fixedDistance(one(code))).toBe(expected);
  });
});

describe('numbers in the code', () => {
  it('are four bytes that are all there', () => {
    const code = hex('00 78 56 34 f2');
    expect([readUint32(code, 1), readUint32(code, 2), readUint32(code, -1)]).toEqual([
      0xf2345678,
      null,
      null,
    ]);
  });
});

describe('where the stub goes on in its copy', () => {
  it.each([
    ['lea; jmp *%eax', '90 8d 83 00 10 00 00 ff e0', 0x1100],
    ['lea; jmp *%ecx', '8d 83 00 10 00 00 ff e1', null],
    ['lea of ECX; jmp *%eax', '8d 8b 00 10 00 00 ff e0', null],
    ['lea from EBP; jmp *%eax', '8d 85 00 10 00 00 ff e0', null],
    ['lea alone', '8d 83 00 10 00 00', null],
    ['a jump alone', 'ff e0', null],
    ['nothing', '', null],
  ])('%s', (_, code, expected) => {
    expect(copyTarget(all(code), 0x100)).toBe(expected);
  });
});

describe('a copy from its end', () => {
  it.each([
    ['std; rep movsl', 'fd f3 a5 fc', 32, true],
    ['std; rep movsb', 'fd f3 a4 fc', 32, true],
    ['std; rep movsq', 'fd f3 48 a5', 64, true],
    ['std, another, rep movsl', 'fd 90 f3 a5', 32, true],
    ['std, two others, rep movsl', 'fd 90 90 f3 a5', 32, false],
    ['std; movsl once', 'fd a5 90', 32, false],
    ['std; rep stosl', 'fd f3 ab', 32, false],
    ['rep movsl without std', 'f3 a5 90', 32, false],
    // 1: load, store, count; jne 1b
    ['a loop of load and store', '8b 00 89 01 83 e9 08 75 f7', 32, true],
    ['a loop of load alone', '8b 00 90 90 83 e9 08 75 f7', 32, false],
    ['a loop of store alone', '90 90 89 01 83 e9 08 75 f7', 32, false],
    ['a load before the loop', '8b 00 89 01 83 e9 08 75 f9', 32, false],
    ['a loop between registers', '8b c1 89 c1 83 e9 08 75 f7', 32, false],
    ['a branch forward', '8b 00 89 01 83 e9 08 75 07', 32, false],
    ['a loop by another branch', '8b 00 89 01 83 e9 08 74 f7', 32, false],
  ] as const)('%s', (_, code, bits, expected) => {
    expect(hasBackwardCopy(all(code, bits))).toBe(expected);
  });
});

describe('the tail', () => {
  // nop; call 20h; pop %esi; jmp *%eax; and more, 32 bytes in all
  const code = (exit: string, call = 'e8 1a 00 00 00'): Uint8Array => {
    const bytes = new Uint8Array(0x40).fill(0x90);
    bytes.set(hex(`90 ${call} 5e ${exit}`));
    return bytes;
  };

  it.each([
    ['ff e0', 'rax'],
    ['ff e5', 'rbp'],
    ['ff e7', 'rdi'],
  ])('ends with %s through %s, behind its last call', (exit, register) => {
    const tail = findTail(code(exit), 0, 32);
    expect(tail).toMatchObject({ exitRegister: register, callIndex: 1 });
    expect([tail!.call.offset, tail!.exit.offset, tail!.instructions.length]).toEqual([1, 7, 4]);
  });

  it.each([
    ['through another register', code('ff e1'), 0],
    ['without a call', code('ff e0', '90 90 90 90 90'), 0],
    ['that calls right behind the stub', code('ff e0', 'e8 3a 00 00 00'), 0],
    ['that calls the start of the stub', code('ff e0', 'e8 fa ff ff ff'), 0],
    ['that does not jump', code('c3 90'), 0],
    ['before the stub', code('ff e0'), -1],
    ['behind the stub', code('ff e0'), 0x40],
  ])('is none %s', (_, bytes, start) => {
    expect(findTail(bytes, start, 32)).toBeNull();
  });

  it('may call the last byte of the stub', () => {
    expect(findTail(code('ff e0', 'e8 39 00 00 00'), 0, 32)).not.toBeNull();
  });
});

describe('the bss that is cleared', () => {
  const pointer = (instruction: ReturnType<typeof one>, register: number): number | null =>
    isLea(instruction, register, RBX) ? instruction.displacement : null;
  const cleared = (code: string) => clearedRange(all(code), pointer);
  // lea 1000h(%ebx), %edi; lea 3000h(%ebx), %ecx
  const [FROM, TO] = ['8d bb 00 10 00 00', '8d 8b 00 30 00 00'];

  it.each([
    ['by bytes', `${FROM} ${TO} 29 f9 f3 aa`, { start: 0x1000, end: 0x3000 }],
    ['by words', `${TO} ${FROM} 90 f3 ab`, { start: 0x1000, end: 0x3000 }],
    ['up to where it begins', `${FROM} 8d 8b 00 10 00 00 f3 ab`, { start: 0x1000, end: 0x1000 }],
    ['backwards', `${FROM} 8d 8b 00 08 00 00 f3 ab`, null],
    ['without an end', `${FROM} f3 ab`, null],
    ['without a start', `${TO} f3 ab`, null],
    ['not at all', `${FROM} ${TO} ab`, null],
    ['by a copy', `${FROM} ${TO} f3 a5`, null],
    ['once, before another', `${FROM} ${TO} f3 ab 8d bb 00 00 00 01 f3 ab`, { start: 0x1000, end: 0x3000 }],
    ['with what was set last', `8d bb 00 08 00 00 ${FROM} ${TO} f3 ab`, { start: 0x1000, end: 0x3000 }],
  ])('%s', (_, code, expected) => {
    expect(cleared(code)).toEqual(expected);
  });
});

describe('the end of the stub', () => {
  const [ADD, LOAD] = ['03 9e 60 02 00 00', '8b 86 60 02 00 00'];

  it.each([
    ['add init_size; sub from EBX', `${ADD} 81 eb 00 00 04 00`, 0x40000],
    ['load init_size; sub from EAX', `${LOAD} 2d 00 00 05 00`, 0x50000],
    ['something between', `${ADD} 90 81 eb 00 00 04 00`, null],
    ['another field', '03 9e 64 02 00 00 81 eb 00 00 04 00', null],
    ['of another base', '03 9f 60 02 00 00 81 eb 00 00 04 00', null],
    ['by another operation', '2b 9e 60 02 00 00 81 eb 00 00 04 00', null],
    ['an addition', `${ADD} 81 c3 00 00 04 00`, null],
    ['in memory', `${ADD} 81 2b 00 00 04 00`, null],
    ['a comparison', `${ADD} 81 fb 00 00 04 00`, null],
    ['nothing behind', ADD, null],
    ['nothing', '90', null],
  ])('%s', (_, code, expected) => {
    expect(subtractedEnd(all(code))).toBe(expected);
  });
});

describe('what a call passes', () => {
  const image = (payload: Partial<NonNullable<KernelImage['payload']>> | null) =>
    ({
      protectedModeCode: new Uint8Array(0x1000),
      payload: payload === null ? null : { offset: 0x300, length: 0x100, source: 'header', ...payload },
    }) as KernelImage;
  const agrees = (payload: Parameters<typeof image>[0], data: number, length: number | null) => {
    const evidence: string[] = [];
    return [agreesWithPayload(image(payload), data, length, evidence), evidence.join('; ')];
  };

  it('is the payload', () => {
    expect(agrees({}, 0x300, 0x100)).toEqual([
      true,
      "it passes input_data at 0x300, the payload's offset; and input_len 0x100",
    ]);
    expect(agrees({}, 0x300, null)).toEqual([true, "it passes input_data at 0x300, the payload's offset"]);
    // The length that a codec's magic gives is a guess.
    expect(agrees({ source: 'magic' as never }, 0x300, 0x99)[0]).toBe(true);
    expect(agrees(null, 0x310, 5)).toEqual([true, 'it passes input_data at 0x310']);
    expect(agrees(null, 0, 5)[0]).toBe(true);
  });

  it('is none elsewhere, of another length, or outside', () => {
    expect([
      agrees({}, 0x301, 0x100),
      agrees({}, 0x300, 0xff),
      agrees({}, -1, null),
      agrees(null, 0x1000, null),
    ]).toEqual(new Array(4).fill([false, '']));
  });
});

it('registers have the numbers that instructions have', () => {
  expect([RAX, RCX, RSP, RBP, RSI, RDI]).toEqual([0, 1, 4, 5, 6, 7]);
});
