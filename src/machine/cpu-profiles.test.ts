// CPUID by profile. The expected words were read from QEMU 7.2 (TCG) by a boot sector; those of processors of today are from the
// dumps of InstLatx64.

import { describe, expect, it } from 'vitest';
import { Cpuid, cpuProfiles, findCpuProfile, isAmd, physicalAddressBits } from './cpu-profiles.ts';

const words = (cpuid: Cpuid, leaf: number) => cpuid.read(leaf).map((word) => (word >>> 0).toString(16));

describe('CPU profiles', () => {
  it('answer for qemu64 what QEMU answers', () => {
    const cpuid = new Cpuid(findCpuProfile('qemu64'));
    expect(words(cpuid, 0)).toEqual(['d', '68747541', '444d4163', '69746e65']);
    expect(words(cpuid, 1)).toEqual(['60fb1', '800', '80002001', '78bfbfd']);
    expect(words(cpuid, 0x80000001)).toEqual(['60fb1', '0', '5', '2193fbfd']);
    expect(words(cpuid, 0x80000002)).toEqual(['554d4551', '72695620', '6c617574', '55504320']);
    expect(words(cpuid, 0x80000008)).toEqual(['3028', '0', '0', '0']);
    expect(words(cpuid, 0x40000000)).toEqual(['40000001', '54474354', '43544743', '47435447']);
  });

  it.each([
    ['qemu64', true, 40],
    ['qemu32', false, 36],
    ['pentium3', false, 36],
    ['pentium', false, 32],
    ['epyc-genoa', true, 52],
    ['raptor-lake', false, 46],
  ])('say who made %s, and how far its addresses reach', (name, amd, bits) => {
    const profile = findCpuProfile(name);
    expect([isAmd(profile), physicalAddressBits(profile)]).toEqual([amd, bits]);
  });

  it('answer leaves beyond the highest with the highest basic one, as Intel’s processors do', () => {
    const cpuid = new Cpuid(findCpuProfile('qemu64'));
    expect(cpuid.read(0x7fffffff)).toEqual(cpuid.read(0xd));
    expect(cpuid.read(0x8000ffff)).toEqual(cpuid.read(0xd));
    expect(cpuid.read(-0x80000000)).toEqual(cpuid.read(0x80000000));
    expect(new Cpuid(findCpuProfile('pentium')).read(0x80000000)).toEqual(
      new Cpuid(findCpuProfile('pentium')).read(1),
    );
    expect([new Cpuid(findCpuProfile('pentium')).hasTsc, cpuid.hasTsc, cpuid.hasRdrand]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it('offer long mode, LA57 and RDRAND only where they should', () => {
    const has = (name: string) => {
      const cpuid = new Cpuid(findCpuProfile(name));
      return {
        longMode: (cpuid.read(0x80000001)[3] & (1 << 29)) !== 0,
        la57: (cpuid.read(7)[2] & (1 << 16)) !== 0,
        pae: (cpuid.read(1)[3] & (1 << 6)) !== 0,
        rdrand: cpuid.hasRdrand,
      };
    };
    expect(has('qemu64')).toEqual({ longMode: true, la57: false, pae: true, rdrand: false });
    expect(has('la57')).toEqual({ longMode: true, la57: true, pae: true, rdrand: false });
    expect(has('max')).toEqual({ longMode: true, la57: false, pae: true, rdrand: true });
    expect(has('qemu32')).toMatchObject({ longMode: false, la57: false, pae: true });
    expect(has('pentium3')).toMatchObject({ longMode: false, pae: true });
    expect(has('pentium')).toMatchObject({ longMode: false, pae: false });
  });

  /** What a processor answers. */
  interface Processor {
    readonly name: string;
    readonly vendor: string;
    /** The highest leaves. */
    readonly basic: number;
    readonly extended: number;
    /** EAX, ECX, EDX. */
    readonly leaf1: readonly [number, number, number];
    /** EBX, ECX. */
    readonly leaf7: readonly [number, number];
    /** Leaf 0x80000001: EAX, ECX, EDX. */
    readonly extendedFeatures: readonly [number, number, number];
    readonly brand: string;
    /** Leaf 0x80000008 EAX. */
    readonly sizes: number;
  }
  const OF_TODAY: readonly Processor[] = [
    {
      ...{ name: 'epyc-genoa', vendor: 'AuthenticAMD', basic: 0x10, extended: 0x80000028 },
      ...{ leaf1: [0x00a10f11, 0x7efa320b, 0x178bfbff], leaf7: [0xf1bf97a9, 0x00415fce] },
      ...{ extendedFeatures: [0x00a10f11, 0x75c237ff, 0x2fd3fbff], sizes: 0x3934 },
      brand: 'AMD EPYC 9654 96-Core Processor                \0',
    },
    {
      ...{ name: 'epyc-milan', vendor: 'AuthenticAMD', basic: 0x10, extended: 0x80000023 },
      ...{ leaf1: [0x00a00f11, 0x7eda320b, 0x178bfbff], leaf7: [0x219c97a9, 0x0040068c] },
      ...{ extendedFeatures: [0x00a00f11, 0x75c237ff, 0x2fd3fbff], sizes: 0x3030 },
      brand: 'AMD EPYC 7763 64-Core Processor                \0',
    },
    {
      ...{ name: 'sapphire-rapids', vendor: 'GenuineIntel', basic: 0x20, extended: 0x80000008 },
      ...{ leaf1: [0x000806f8, 0x7ffefbff, 0xbfebfbff], leaf7: [0xf3bfbffb, 0xbb417fee] },
      ...{ extendedFeatures: [0, 0x121, 0x2c100000], sizes: 0x3934 },
      brand: 'Intel(R) Xeon(R) w7-2475X'.padEnd(48, '\0'),
    },
    {
      ...{ name: 'raptor-lake', vendor: 'GenuineIntel', basic: 0x20, extended: 0x80000008 },
      ...{ leaf1: [0x000b0671, 0x7ffafbff, 0xbfebfbff], leaf7: [0x239c27eb, 0x98c027ac] },
      ...{ extendedFeatures: [0, 0x121, 0x2c100000], sizes: 0x302e },
      brand: '13th Gen Intel(R) Core(TM) i9-13900K'.padEnd(48, '\0'),
    },
  ];
  const HYPERVISOR = 1 << 31;
  /** Intel's processors tell of SYSCALL in 64-bit mode alone. */
  const SYSCALL = 1 << 11;

  it.each(OF_TODAY)('of today tell what $name tells, and no feature that it lacks', (real) => {
    const cpuid = new Cpuid(findCpuProfile(real.name));
    const text = (...all: readonly number[]): string => {
      const letters = new DataView(new ArrayBuffer(all.length * 4));
      for (const [index, word] of all.entries()) letters.setUint32(index * 4, word, true);
      return new TextDecoder().decode(letters);
    };
    const [basic, ebx, ecx, edx] = cpuid.read(0);
    expect([basic, text(ebx, edx, ecx)]).toEqual([real.basic, real.vendor]);
    expect(cpuid.read(0x80000000)[0] >>> 0).toBe(real.extended);
    expect(text(...[2, 3, 4].flatMap((leaf) => cpuid.read(0x80000000 + leaf)))).toBe(real.brand);
    expect(cpuid.read(0x80000008)[0]).toBe(real.sizes);
    const [signature, , ecx1, edx1] = cpuid.read(1);
    const [, ebx7, ecx7] = cpuid.read(7);
    const [extendedSignature, , extendedEcx, extendedEdx] = cpuid.read(0x80000001);
    expect([signature, extendedSignature]).toEqual([real.leaf1[0], real.extendedFeatures[0]]);
    const pairs: readonly (readonly [number, number])[] = [
      [ecx1 & ~HYPERVISOR, real.leaf1[1]],
      [edx1, real.leaf1[2]],
      [ebx7, real.leaf7[0]],
      [ecx7, real.leaf7[1]],
      [extendedEcx, real.extendedFeatures[1]],
      [extendedEdx & ~SYSCALL, real.extendedFeatures[2]],
    ];
    expect(pairs.map(([ours, theirs]) => ours & ~theirs)).toEqual([0, 0, 0, 0, 0, 0]);
    expect((ecx7 & (1 << 16)) !== 0).toBe((real.leaf7[1] & (1 << 16)) !== 0);
    expect(cpuid.read(7, 1)).toEqual([0, 0, 0, 0]);
  });

  it('are listed, the default first, and an unknown name is answered with the list', () => {
    expect(cpuProfiles()[0]?.name).toBe('qemu64');
    expect(() => findCpuProfile('i386')).toThrow(
      `"i386" is not known; there are ${cpuProfiles()
        .map(({ name }) => name)
        .join(', ')}`,
    );
  });
});
