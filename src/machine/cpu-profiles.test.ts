// CPUID by profile. The expected words were read from QEMU 7.2 (TCG) by a boot sector.

import { describe, expect, it } from 'vitest';
import { Cpuid, cpuProfiles, findCpuProfile } from './cpu-profiles.ts';

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

  it('of today are of their vendors, with their widths of addresses', () => {
    const told = (name: string) => {
      const cpuid = new Cpuid(findCpuProfile(name));
      const [, , ecx] = cpuid.read(7);
      const letters = new DataView(new ArrayBuffer(12));
      const [, ebx, vendorEcx, edx] = cpuid.read(0);
      for (const [index, word] of [ebx, edx, vendorEcx].entries()) letters.setUint32(index * 4, word, true);
      const [sizes] = cpuid.read(0x80000008);
      const vendor = new TextDecoder().decode(letters);
      return [
        vendor,
        (cpuid.read(1)[0] >>> 0).toString(16),
        sizes & 0xff,
        sizes >> 8,
        (ecx & (1 << 16)) !== 0,
      ];
    };
    expect(told('epyc-genoa')).toEqual(['AuthenticAMD', 'a10f11', 52, 57, true]);
    expect(told('epyc-milan')).toEqual(['AuthenticAMD', 'a00f11', 48, 48, false]);
    expect(told('sapphire-rapids')).toEqual(['GenuineIntel', '806f8', 52, 57, true]);
    expect(told('raptor-lake')).toEqual(['GenuineIntel', 'b0671', 46, 48, false]);
    expect(new Cpuid(findCpuProfile('epyc-genoa')).read(7, 1)).toEqual([0, 0, 0, 0]);
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
