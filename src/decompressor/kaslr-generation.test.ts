import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findStub } from './find-stub.ts';
import { findKaslr, type KaslrGeneration, kernelImageSize } from './kaslr-generation.ts';
import { Assembler, makeStub32, makeStub64 } from './test-stubs.ts';

const PAYLOAD = gzipSync(new Uint8Array(100));

function generationOf(
  texts: readonly string[],
  {
    release = '6.1.0',
    code = new Assembler(),
    bits = 64,
  }: {
    readonly release?: string;
    readonly code?: Assembler;
    readonly bits?: 32 | 64;
  } = {},
): KaslrGeneration | null {
  const recipe = {
    payload: PAYLOAD,
    version: `${release} (builder@host) #1 SMP`,
    text: [`${release} (builder@host) (gcc 12, GNU ld 2.40) #1 SMP`, ...texts].join('\0'),
    extractKernel: code.emit('c3').bytes(),
  };
  const { image } =
    bits === 64 ? makeStub64('rmode-output', recipe) : makeStub32('stack-rmode-output', recipe);
  return findKaslr(image, findStub(image)!);
}

const SEPARATE = 'Destination virtual address inappropriately aligned';

describe('how a stub does KASLR', () => {
  it('is not at all without the option that turns it off or on, or without the string that the seed begins with', () => {
    expect(generationOf(['quiet'])).toBeNull();
    expect(generationOf(['nokaslr'])?.buildString).toBe('6.1.0 (builder@host) (gcc 12, GNU ld 2.40) #1 SMP');
    const other = '6.1.0 (somebody@else) (gcc 12, GNU ld 2.40) #2 SMP';
    expect(generationOf(['nokaslr', other])).toBeNull();
    expect(generationOf(['nokaslr', '5.0.0 (somebody@else) (gcc 12) #2'])).not.toBeNull();
  });

  it('is asked for by kaslr where hibernation is built in, and turned off by nokaslr elsewhere', () => {
    expect(generationOf(['kaslr'])).toMatchObject({ optIn: true });
    expect(generationOf(['nokaslr', 'kaslr'])).toMatchObject({ optIn: false });
  });

  it('is one address to 4.7, and two from then on', () => {
    expect(generationOf(['nokaslr'])).toMatchObject({ kind: 'physical', avoids: 'parts', setsFlag: false });
    expect(generationOf(['nokaslr', "KASLR disabled: 'nokaslr' on cmdline."])).toMatchObject({
      kind: 'physical',
      avoids: 'whole',
      setsFlag: true,
    });
    expect(generationOf(['nokaslr', SEPARATE])).toMatchObject({
      kind: 'separate',
      avoids: 'whole',
      setsFlag: true,
      maxOffset: null,
    });
  });

  it('sets a flag in loadflags from 4.0 on, in some code', () => {
    const flag = (hex: string) => generationOf(['nokaslr'], { code: new Assembler().emit(hex) })?.setsFlag;
    expect(flag('80 8b 11 02 00 00 02')).toBe(true);
    expect(flag('80 9b 11 02 00 00 02')).toBe(false);
    expect(flag('81 8b 11 02 00 00 02')).toBe(false);
    expect(flag('80 8b 11 02 00 00 04')).toBe(false);
  });

  it('minds the options whose names it holds', () => {
    expect(generationOf(['nokaslr'])).toMatchObject({ memmap: false, mem: false, hugePages: false });
    expect(generationOf(['nokaslr', 'mem'])).toMatchObject({ memmap: false, mem: false });
    expect(generationOf(['nokaslr', 'memmap'])).toMatchObject({ memmap: true, mem: false });
    expect(generationOf(['nokaslr', 'memmap', 'efi_fake_mem', 'hugepagesz'])).toMatchObject({
      memmap: true,
      mem: true,
      hugePages: true,
    });
  });

  it('is counted anew since 5.10, and told how it was entered before', () => {
    const since = 'Invalid physical address chosen!\n';
    expect(generationOf(['nokaslr', 'booted via startup_32()\n'])).toMatchObject({
      since510: false,
      reportsEntry: true,
    });
    expect(generationOf(['nokaslr', since, 'booted via startup_32()\n'])).toMatchObject({
      since510: true,
      reportsEntry: false,
    });
    expect(generationOf(['nokaslr'])).toMatchObject({ since510: false, reportsEntry: false });
  });

  it('avoids what setup_data points to from 5.5 on', () => {
    const indirect = (release: string) => generationOf(['nokaslr'], { release })?.setupIndirect;
    expect([indirect('5.4.9'), indirect('5.5.0'), indirect('4.19.1'), indirect('6.0.0')]).toEqual([
      false,
      true,
      false,
      true,
    ]);
    const since = 'Invalid physical address chosen!\n';
    expect(generationOf(['nokaslr', since], { release: '5.4.9' })?.setupIndirect).toBe(true);
  });

  it('mixes the operands of OUT up, or does not', () => {
    expect(generationOf(['nokaslr', '\xe6\xc2\xe4\x40'])?.i8254Swapped).toBe(true);
    expect(generationOf(['nokaslr', '\xe6\x43\xe4\x40'])?.i8254Swapped).toBe(false);
  });

  it('rounds the size up where extract_kernel adds 2 MiB less one, in a 64-bit stub', () => {
    const rounds = (hex: string, value: number, bits: 32 | 64 = 64) =>
      generationOf(['nokaslr'], { code: new Assembler().emit(hex, value), bits })?.roundsSize;
    expect(rounds('48 8d 83', 0x1fffff)).toBe(true);
    expect(rounds('48 05', 0x1fffff)).toBe(true);
    expect(rounds('48 81 c3', 0x1fffff)).toBe(true);
    expect(rounds('48 81 e3', 0x1fffff)).toBe(false);
    expect(rounds('48 8d 83', 0x1ffffe)).toBe(false);
    expect(rounds('05', 0x1fffff, 32)).toBe(false);
  });

  it('looks at EFI’s memory map where extract_kernel or what it calls reads its size', () => {
    const reads = (code: Assembler) => generationOf(['nokaslr'], { code })?.efiMap;
    expect(reads(new Assembler().emit('8b 83', 0x1d4))).toBe(true);
    expect(reads(new Assembler().emit('8b 83', 0x1d0))).toBe(false);
    const called = new Assembler().relative('e8', 0x40).emit('c3').padTo(0x40).emit('8b 83', 0x1d4);
    expect(reads(called)).toBe(true);
  });

  it('keeps specific-purpose memory back, or accepts memory, where it has the words for it', () => {
    expect(generationOf(['nokaslr'])).toMatchObject({ softReserve: false, acceptsMemory: false });
    expect(
      generationOf(['nokaslr', 'nosoftreserve', 'Unknown version of unaccepted memory table\n']),
    ).toMatchObject({ softReserve: true, acceptsMemory: true });
  });

  it('warns in the words of its generation when nothing is left', () => {
    const old = 'KASLR disabled: could not find suitable E820 region!';
    expect(generationOf(['nokaslr', old])?.noRegionWarning).toBe(old);
    expect(generationOf(['nokaslr'])?.noRegionWarning).toBe(
      'Physical KASLR disabled: no suitable memory region!',
    );
  });

  it('ends below CONFIG_RANDOMIZE_BASE_MAX_OFFSET, where the code that reads e820_entries compares with one', () => {
    const limit = (code: Assembler) => generationOf(['nokaslr'], { code })?.maxOffset;
    const reader = () => new Assembler().emit('8b 83', 0x1e8);
    // cmp $0x3fffffff, %rax; then one with another limit
    expect(limit(reader().emit('48 3d', 0x3fffffff))).toBe(0x40000000);
    expect(limit(reader().emit('48 81 fb', 0x20000000))).toBe(0x20000000);
    expect(limit(reader().emit('48 3d', 0x3fffffff).emit('48 3d', 0x20000000))).toBeNull();
    expect(limit(reader().emit('48 3d', 0x1000000))).toBeNull();
    expect(limit(new Assembler().emit('48 3d', 0x3fffffff))).toBeNull();
  });
});

describe('KERNEL_IMAGE_SIZE', () => {
  it('is 1 GiB, and half of that on i386', () => {
    expect([kernelImageSize(64), kernelImageSize(32)]).toEqual([2 ** 30, 2 ** 29]);
  });
});
