import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { BootscopeError } from '../error.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import {
  type Extraction,
  type ExtractionContext,
  extractKernel,
  type KaslrRequest,
} from './extract-kernel.ts';
import { findStub, findStubDetails } from './find-stub.ts';
import { Assembler, makeKernel, makeMoveParamsStub, makeStub32, makeStub64 } from './test-stubs.ts';

const MAP64 = 0xffffffff80000000n;
const MAP32 = 0xc0000000n;
const BOOT_PARAMS = 0x90000;
const STACK = 0x3800000;
const MOVE_PARAMS = STACK + 0x100;

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed) & 0xff);
}

/** A kernel of two segments; the word at 0x100 of the first and those at 0x10 and 0x20 of the second can be relocated. */
function kernel64(entry = 0x1000000): Uint8Array {
  return makeKernel({
    bits: 64,
    entry,
    virtualOffset: MAP64,
    segments: [
      { paddr: 0x1000000, content: pattern(0x4000, 1) },
      { paddr: 0x1200000, content: pattern(0x3000, 2), memsz: 0x8000 },
    ],
    relocations: [[0x81200010], [0x81200020], [0x81000100]],
  });
}

interface Setup {
  readonly commandLine?: string;
  readonly kaslr?: KaslrRequest;
  readonly output?: number;
  readonly zo?: number;
  readonly cr3?: bigint;
  /** Changes guest memory before the call. */
  readonly prepare?: (ram: Uint8Array) => void;
}

async function extract(
  image: KernelImage,
  setup: Setup = {},
): Promise<{ extraction: Extraction; ram: Uint8Array }> {
  const stub = findStub(image)!;
  const ram = new Uint8Array(0x4000000);
  const view = new DataView(ram.buffer);
  const output = setup.output ?? 0x1000000;
  const zo = setup.zo ?? 0x1800000 - 0x40000;
  ram.set(image.protectedModeCode, zo);
  ram.set(image.bytes.subarray(0x1f1, 0x270), BOOT_PARAMS + 0x1f1);
  ram.set(Buffer.from(`${setup.commandLine ?? ''}\0`, 'latin1'), 0x99000);
  if (image.header.protocol >= 0x202) view.setUint32(BOOT_PARAMS + 0x228, 0x99000, true);
  ram[BOOT_PARAMS + 0x0e] = 25;
  ram[BOOT_PARAMS + 0x07] = 80;
  ram[BOOT_PARAMS + 0x01] = 3;
  const input = zo + image.payload!.offset;
  const length = image.payload!.length;
  const registers: Partial<Record<string, bigint>> = { rsp: BigInt(STACK), cr3: setup.cr3 ?? 0n };
  if (stub.abi === 'rmode-output') {
    Object.assign(registers, { rdi: BigInt(BOOT_PARAMS), rsi: BigInt(output) });
  } else if (stub.abi === 'rmode-heap-input') {
    Object.assign(registers, {
      rdi: BigInt(BOOT_PARAMS),
      rsi: BigInt(zo + 0x1000),
      rdx: BigInt(input),
      rcx: BigInt(length),
      r8: BigInt(output),
    });
  } else {
    const stacked =
      stub.abi === 'moveparams'
        ? [MOVE_PARAMS, BOOT_PARAMS]
        : stub.abi === 'stack-rmode-output'
          ? [BOOT_PARAMS, output]
          : [BOOT_PARAMS, zo + 0x1000, input, length, output];
    for (const [index, value] of stacked.entries()) view.setUint32(STACK + 4 + 4 * index, value, true);
  }
  setup.prepare?.(ram);
  const context: ExtractionContext = {
    image,
    stub,
    zo,
    memory: PhysicalMemory.of(ram),
    readRegister: (name) => registers[name] ?? 0n,
    ...(setup.kaslr === undefined ? {} : { kaslr: setup.kaslr }),
  };
  return { extraction: await extractKernel(context), ram };
}

async function refusal(promise: Promise<unknown>): Promise<BootscopeError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BootscopeError);
  return error as BootscopeError;
}

describe('extract_kernel of a 64-bit stub', () => {
  it('moves each segment to its place and returns output + e_entry - LOAD_PHYSICAL_ADDR', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64(0x1000b53)) });
    const { extraction, ram } = await extract(image);
    expect(extraction).toMatchObject({
      output: 0x1000000n,
      returnValue: 0x1000b53n,
      entry: 0x1000b53n,
      virtualBase: 0xffffffff81000000n,
    });
    expect(Buffer.compare(ram.subarray(0x1000000, 0x1004000), pattern(0x4000, 1))).toBe(0);
    expect(Buffer.compare(ram.subarray(0x1200000, 0x1203000), pattern(0x3000, 2))).toBe(0);
    expect(extraction.segments[1]).toEqual({
      paddr: 0x1200000n,
      vaddr: 0xffffffff81200000n,
      filesz: 0x3000n,
      memsz: 0x8000n,
      flags: 'r-x',
    });
    expect(extraction.steps.map(({ name }) => name)).toEqual(['decompressed', 'parse_elf']);
  });

  it('returns the output itself in the generations that take the entry for granted', async () => {
    const { image } = makeStub64('rmode-heap-input', { payload: gzipSync(kernel64(0x1000b53)) });
    const { extraction } = await extract(image);
    expect(extraction.returnValue).toBe(0x1000000n);
  });

  it('places a kernel relative to where its loader put it, without relocating it', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const { extraction, ram } = await extract(image, { output: 0x1400000 });
    expect(extraction.entry).toBe(0x1400000n);
    expect(extraction.virtualBase).toBe(0xffffffff81000000n);
    expect(Buffer.compare(ram.subarray(0x1600000, 0x1603000), pattern(0x3000, 2))).toBe(0);
    expect(extraction.relocations).toEqual({ relocations32: 0, inverse32: 0, relocations64: 0 });
  });

  it('relocates by the forced virtual address: 32-bit up, inverse down, 64-bit up', async () => {
    const { image } = makeStub64('rmode-output', {
      payload: gzipSync(kernel64()),
      text: 'inverse 32-bit relocation outside of kernel!\n',
    });
    const kaslr = { kind: 'forced', physical: 0x2000000, virtual: 0x1600000 } as const;
    const { extraction, ram } = await extract(image, { kaslr });
    expect(extraction.relocations).toEqual({ relocations32: 1, inverse32: 1, relocations64: 1 });
    expect(extraction).toMatchObject({ output: 0x2000000n, virtualBase: 0xffffffff81600000n });
    const before = new DataView(pattern(0x4000, 1).buffer);
    const second = new DataView(pattern(0x3000, 2).buffer);
    const view = new DataView(ram.buffer);
    expect(view.getUint32(0x2000100, true)).toBe((before.getUint32(0x100, true) + 0x600000) >>> 0);
    expect(view.getUint32(0x2200020, true)).toBe((second.getUint32(0x20, true) - 0x600000) >>> 0);
    expect(view.getBigUint64(0x2200010, true)).toBe(second.getBigUint64(0x10, true) + 0x600000n);
  });

  it('marks in the page tables what it has read and written, each segment at its place', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const TABLES = 0x3000000;
    const { ram } = await extract(image, {
      cr3: BigInt(TABLES),
      prepare: (memory) => {
        const view = new DataView(memory.buffer);
        view.setBigUint64(TABLES, BigInt(TABLES + 0x1000) | 3n, true);
        view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 3n, true);
        for (let page = 0; page < 32; page++)
          view.setBigUint64(TABLES + 0x2000 + page * 8, BigInt(page * 0x200000) | 0x83n, true);
      },
    });
    const marks = (address: number): bigint =>
      new DataView(ram.buffer).getBigUint64(TABLES + 0x2000 + (address >> 21) * 8, true) & 0x60n;
    // Accessed (20h) and dirty (40h): both segments, the compressed kernel, and nothing else.
    expect([0x1000000, 0x1200000, 0x1600000, 0x1400000, 0x1800000].map(marks)).toEqual([
      0x60n,
      0x60n,
      0x20n,
      0n,
      0n,
    ]);
  });

  it('looks for no inverse list where the stub knows none (6.15 on)', async () => {
    const kernel = makeKernel({
      bits: 64,
      entry: 0x1000000,
      virtualOffset: MAP64,
      segments: [{ paddr: 0x1000000, content: pattern(0x4000, 1) }],
      relocations: [[0x81000010], [0x81000100]],
    });
    const { image } = makeStub64('rmode-output', {
      payload: gzipSync(kernel),
      text: '32-bit relocation outside of kernel!\n\0' + '64-bit relocation outside of kernel!\n',
    });
    const kaslr = { kind: 'forced', physical: 0x2000000, virtual: 0x1600000 } as const;
    const { extraction, ram } = await extract(image, { kaslr });
    expect(extraction.relocations).toEqual({ relocations32: 1, inverse32: 0, relocations64: 1 });
    const before = new DataView(pattern(0x4000, 1).buffer);
    const view = new DataView(ram.buffer);
    expect(view.getUint32(0x2000100, true)).toBe((before.getUint32(0x100, true) + 0x600000) >>> 0);
    expect(view.getBigUint64(0x2000010, true)).toBe(before.getBigUint64(0x10, true) + 0x600000n);
  });

  it.each([
    ['gets to a LIDT', '0f 01 18', true],
    ['gets to none', '0f 01 10', false],
  ])('takes the stub’s IDT away if it %s', async (_, instruction, clears) => {
    const { image } = makeStub64('rmode-output', {
      payload: gzipSync(kernel64()),
      loadsIdt: true,
      // call 1f; ret; 1: the instruction; ret
      extractKernel: new Assembler().emit(`e8 01000000 c3 ${instruction} c3`).bytes(),
    });
    expect((await extract(image)).extraction.clearsIdt).toBe(clears);
    const behindJumpTable = makeStub64('rmode-output', {
      payload: gzipSync(kernel64()),
      loadsIdt: true,
      // jmp *%rax; call 1f; ret; 1: the instruction; ret
      extractKernel: new Assembler().emit(`ff e0 e8 01000000 c3 ${instruction} c3`).bytes(),
    });
    expect((await extract(behindJumpTable.image)).extraction.clearsIdt).toBe(clears);
  });

  it('refuses a forced address that is unaligned, outside RAM, or over the compressed kernel', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const force = async (physical: number): Promise<BootscopeError> =>
      refusal(extract(image, { kaslr: { kind: 'forced', physical, virtual: null } }));
    expect(await force(0x2000100)).toMatchObject({ code: 'kaslr-forced' });
    expect((await force(0x4000000)).message).toContain('0x4000000');
    expect((await force(0x1600000)).message).toContain('over the compressed one');
  });

  it.each([
    ['outside of RAM', { physical: 0x3e00000 }, 'does not fit into RAM, which ends at 0x4000000'],
    [
      'no multiple',
      { virtual: 0x1600100 },
      'the forced virtual address 0x1600100 is no multiple of 0x200000',
    ],
    ['below the least virtual one', { virtual: 0xe00000 }, 'is outside 0x1000000 to 0x3'],
    ['too far up', { virtual: 0x3fe00000 }, 'is outside 0x1000000 to 0x3'],
    [
      'below the least physical one',
      { physical: 0xe00000 },
      'lies below 0x1000000, where the kernel may begin',
    ],
  ])('refuses a forced address that is %s', async (_, place, message) => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const kaslr = { kind: 'forced', physical: null, virtual: null, ...place } as const;
    const error = await refusal(extract(image, { kaslr }));
    expect([error.code, error.message]).toEqual(['kaslr-forced', expect.stringContaining(message)]);
  });

  it('takes a forced address at the very end of RAM, of the virtual range, and below the compressed kernel', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const force = async (place: { physical?: number; virtual?: number }) =>
      (await extract(image, { kaslr: { kind: 'forced', physical: null, virtual: null, ...place } }))
        .extraction;
    // The kernel needs 208000h bytes, 400000h as the stub rounds them.
    expect(await force({ physical: 0x3c00000 })).toMatchObject({ output: 0x3c00000n });
    expect(await force({ virtual: 0x3fc00000 })).toMatchObject({ virtualBase: MAP64 + 0x3fc00000n });
    expect(await force({ physical: 0x1200000 })).toMatchObject({ output: 0x1200000n });
  });

  it('stops as the guest does when the payload is damaged, naming the kernel’s message and what is wrong', async () => {
    const payload = gzipSync(kernel64());
    payload[payload.length >> 1]! ^= 0xff;
    const { image } = makeStub64('rmode-output', { payload, text: 'uncompression error' });
    const error = await refusal(extract(image));
    expect(error.code).toBe('guest-error');
    expect(error.message).toContain('"uncompression error"');
  });

  it('says of a wrong gzip trailer that kernels from 2.6.30 on do not look at it', async () => {
    const payload = gzipSync(kernel64());
    payload[payload.length - 8]! ^= 1;
    const newer = await refusal(extract(makeStub64('rmode-output', { payload }).image));
    expect(newer.code).toBe('payload-damaged');
    expect(newer.message).toMatch(
      /CRC32 of .* would go on, as it does where the guest decompresses by itself/,
    );
    const older = await refusal(extract(makeStub64('rmode-output', { payload, text: 'crc error' }).image));
    expect(older.code).toBe('guest-error');
  });

  it('draws among the addresses that leave room for the run_size it was passed, or for the kernel alone', async () => {
    const RUN_SIZE = 0xa00000;
    const kernel = kernel64();
    const recipe = {
      payload: gzipSync(kernel),
      version: '4.4.1 (builder@host) #1 SMP',
      text: 'nokaslr\x004.4.1 (builder@host) (gcc version 5) #1 SMP',
    };
    const prepare = (stacked: number) => (ram: Uint8Array) => {
      const view = new DataView(ram.buffer);
      view.setUint32(STACK + stacked, RUN_SIZE, true);
      ram[BOOT_PARAMS + 0x1e8] = 1;
      view.setUint32(BOOT_PARAMS + 0x2d0, 0x100000, true);
      view.setUint32(BOOT_PARAMS + 0x2d8, 0x3f00000, true);
      view.setUint32(BOOT_PARAMS + 0x2e0, 1, true);
    };
    const entropy = { rdrand: () => null, rdtsc: () => null, i8254: () => 7 };
    const imageSize = async (image: KernelImage, stacked: number): Promise<number | undefined> => {
      const { extraction } = await extract(image, {
        kaslr: { kind: 'draw', entropy },
        prepare: prepare(stacked),
      });
      expect(extraction.notices).toEqual([]);
      return extraction.kaslr?.slots.imageSize;
    };
    // Behind the return address; in 32-bit code behind six other arguments, too.
    expect(await imageSize(makeStub64('rmode-heap-input-run-size', recipe).image, 8)).toBe(RUN_SIZE);
    expect(await imageSize(makeStub64('rmode-heap-input', recipe).image, 8)).toBe(kernel.length);
    const kernel32 = makeKernel({
      bits: 32,
      entry: 0x1000000,
      virtualOffset: MAP32,
      segments: [{ paddr: 0x1000000, content: pattern(0x4000, 5) }],
      relocations: [[]],
    });
    const recipe32 = { ...recipe, payload: gzipSync(kernel32) };
    expect(await imageSize(makeStub32('stack-run-size', recipe32).image, 28)).toBe(RUN_SIZE);
    expect(await imageSize(makeStub32('stack-rmode-heap-input', recipe32).image, 28)).toBe(kernel32.length);
  });

  describe('with KASLR and no page-fault handler (4.8 to 5.9)', () => {
    const ZO = 0x1800000 - 0x40000;
    const TABLES = ZO + 0x30000;
    const FROM_STARTUP_32 = { cr3: BigInt(TABLES) };
    const drawn = (setup: Setup = {}, loadsIdt = false) =>
      extract(
        makeStub64('rmode-heap-input', {
          payload: gzipSync(kernel64()),
          version: '4.18.1 (builder@host) #1 SMP',
          text: 'nokaslr\0Destination virtual address inappropriately aligned\x004.18.1 (builder@host) (gcc version 8) #1 SMP',
          loadsIdt,
        }).image,
        {
          kaslr: { kind: 'draw', entropy: { rdrand: () => null, rdtsc: () => null, i8254: () => 7 } },
          ...setup,
          prepare: (ram) => {
            const view = new DataView(ram.buffer);
            ram[BOOT_PARAMS + 0x1e8] = 1;
            view.setUint32(BOOT_PARAMS + 0x2d0, 0x100000, true);
            view.setUint32(BOOT_PARAMS + 0x2d8, 0x3f00000, true);
            view.setUint32(BOOT_PARAMS + 0x2e0, 1, true);
            setup.prepare?.(ram);
          },
        },
      );
    /** The 2 MiB page table entry for an address; 0 where nothing leads there. */
    const entryOf = (ram: Uint8Array, address: number): bigint => {
      const view = new DataView(ram.buffer);
      let table = TABLES;
      for (const shift of [39, 30]) {
        const entry = view.getBigUint64(table + 8 * (Math.floor(address / 2 ** shift) % 512), true);
        if (entry === 0n) return 0n;
        table = Number(entry & ~0xfffn);
      }
      return view.getBigUint64(table + 8 * (Math.floor(address / 2 ** 21) % 512), true);
    };

    it('goes over from a loader’s page tables to its own, with what it is going to touch', async () => {
      const { extraction, ram } = await drawn({
        prepare: (memory) => memory.fill(0xee, TABLES, TABLES + 0x8000),
      });
      expect(extraction.cr3).toBe(BigInt(TABLES));
      const { output } = extraction;
      expect(output).not.toBe(0x1000000n);
      expect(entryOf(ram, Number(output))).toBe(output | 0x1e3n);
      expect(entryOf(ram, ZO)).toBe(0x1600000n | 0x1e3n);
      expect(entryOf(ram, BOOT_PARAMS)).toBe(0x1e3n);
      expect(entryOf(ram, 0x1000000)).toBe(0n);
    });

    it('keeps a loader’s page tables where it finds no place', async () => {
      const { extraction } = await drawn({
        commandLine: 'mem=1M',
        prepare: (ram) => ram.fill(0, BOOT_PARAMS + 0x2d8, BOOT_PARAMS + 0x2e0),
      });
      expect(extraction.kaslr?.slots.physicalSlots).toBe(0);
      expect(extraction.cr3).toBeNull();
    });

    it('goes on with those that startup_32 made', async () => {
      expect((await drawn(FROM_STARTUP_32)).extraction.cr3).toBeNull();
    });

    it('goes over to them for a forced address, too, and never with a page-fault handler', async () => {
      const kaslr = { kind: 'forced', physical: 0x2000000, virtual: null } as const;
      const { extraction, ram } = await drawn({ kaslr });
      expect(extraction.cr3).toBe(BigInt(TABLES));
      expect(entryOf(ram, 0x2000000)).toBe(0x2000000n | 0x1e3n);
      expect((await drawn({ kaslr }, true)).extraction.cr3).toBeNull();
    });
  });

  it('stops where the destination is not aligned', async () => {
    const text = 'Destination physical address inappropriately aligned';
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()), text });
    const error = await refusal(extract(image, { output: 0x1100000 }));
    expect(error.message).toContain(`"${text}": 0x1100000 is no multiple of 0x200000`);
  });

  it('stops where a segment is not aligned only if the stub looks', async () => {
    const odd = makeKernel({
      bits: 64,
      entry: 0x1000000,
      virtualOffset: MAP64,
      segments: [{ paddr: 0x1000000, content: pattern(64, 3) }],
      align: 0x1000,
    });
    const lax = makeStub64('rmode-output', { payload: gzipSync(odd) });
    expect((await extract(lax.image)).extraction.entry).toBe(0x1000000n);
    const strict = makeStub64('rmode-output', {
      payload: gzipSync(odd),
      text: "Alignment of LOAD segment isn't multiple of 2MB",
    });
    expect((await refusal(extract(strict.image))).message).toContain('0x1000');
  });

  it('refuses arguments that are not the image’s', async () => {
    const { image } = makeStub64('rmode-heap-input', { payload: gzipSync(kernel64()) });
    const stub = findStub(image)!;
    const context: ExtractionContext = {
      image,
      stub,
      zo: 0x1700000,
      memory: PhysicalMemory.of(new Uint8Array(0x2000000)),
      readRegister: (name) => (name === 'rdx' ? 0x1234n : 0n),
    };
    expect((await refusal(extractKernel(context))).message).toContain('0x1234');
  });

  it('says how much RAM is missing', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()) });
    const error = await refusal(extract(image, { output: 0x3e00000 }));
    expect(error.code).toBe('stub-memory');
    expect(error.message).toContain('RAM ends at 0x4000000');
  });

  it('prints what the stub would and moves the cursor in boot_params', async () => {
    const { image } = makeStub64('rmode-output', {
      payload: gzipSync(kernel64()),
      text: "nokaslr\0KASLR disabled: 'nokaslr' on cmdline.",
    });
    const { extraction, ram } = await extract(image, { commandLine: 'quiet nokaslr' });
    expect(extraction.console).toBe("\n\nKASLR disabled: 'nokaslr' on cmdline.\n\n");
    expect(ram[BOOT_PARAMS + 1]).toBe(3 + 4);
    expect(String.fromCharCode(ram[0xb8000 + 5 * 160]!, ram[0xb8000 + 5 * 160 + 2]!)).toBe('KA');
  });

  it.each([
    ['nokaslr', 'KASLR disabled by cmdline...\n', 'nokaslr\0KASLR disabled by cmdline...\n'],
    ['', 'KASLR disabled by default...\n', 'kaslr\0KASLR disabled by default...\n'],
    ['kaslr', '', 'kaslr\0KASLR disabled by default...\n'],
  ])(
    'reports run_size and a command line with "%s" as verbose stubs to 4.6 do',
    async (commandLine, printed, text) => {
      const { image } = makeStub64('rmode-heap-input-run-size', {
        payload: gzipSync(kernel64()),
        version: '4.4.1 (builder@host) #1 SMP',
        text: [
          'early console in decompress_kernel\n\0run_size: 0x\0No relocation needed... ',
          'Performing relocations... \x0032-bit relocation outside of kernel!',
          '4.4.1 (builder@host) (gcc version 5) #1 SMP',
          text,
        ].join('\0'),
      });
      const prepare = (ram: Uint8Array) => new DataView(ram.buffer).setUint32(STACK + 8, 0xa00000, true);
      const { extraction } = await extract(image, { commandLine, prepare });
      expect(extraction.console).toBe(
        `early console in decompress_kernel\nrun_size: 0x0000000000a00000\n${printed}`,
      );
    },
  );

  it('notes the ACPI root pointer where the stub looks for one', async () => {
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()), text: 'RSD PTR ' });
    const { ram } = await extract(image, {
      prepare: (memory) => {
        const rsdp = memory.subarray(0xf0010, 0xf0010 + 20);
        rsdp.set(Buffer.from('RSD PTR ', 'latin1'));
        rsdp[8] = -rsdp.reduce((sum, byte) => sum + byte, 0) & 0xff;
      },
    });
    expect(new DataView(ram.buffer).getBigUint64(BOOT_PARAMS + 0x70, true)).toBe(0xf0010n);
  });
});

describe('what a verbose stub with EFI says', () => {
  const messages = [
    'RSD PTR ',
    'early console in extract_kernel\n',
    'EFI config tables not found.',
    'Wrong EFI loader signature.\n',
    'earlyprintk',
    '\n\nDecompressing Linux... ',
  ];

  it('begins with the search for the ACPI root pointer', async () => {
    const text = messages.join('\0');
    const { image } = makeStub64('rmode-output', { payload: gzipSync(kernel64()), text });
    const { extraction } = await extract(image);
    expect(extraction.console).toBe(
      'Wrong EFI loader signature.\nearly console in extract_kernel\n\n\nDecompressing Linux... ',
    );
  });

  it('is lost where the search comes before the console (5.0, 5.1)', async () => {
    const text = messages.join('\0');
    const at = (string: string) => text.indexOf(string);
    const payload = gzipSync(kernel64());
    // extract_kernel lies at a multiple of 16 behind the payload, its messages 0x301 bytes further on.
    const extractKernel = ((0x300 + payload.length + 15) & ~15) + 0x100;
    const lea = (asm: Assembler, string: string): Assembler =>
      asm.emit('48 8d 3d', 0x301 + at(string) - (asm.offset + 7));
    for (const order of [
      ['Wrong EFI', 'earlyprintk'],
      ['earlyprintk', 'Wrong EFI'],
    ]) {
      const asm = new Assembler();
      for (const string of order) lea(asm, string);
      const { image, labels } = makeStub64('rmode-output', {
        payload,
        text,
        extractKernel: asm.emit('c3').bytes(),
      });
      expect(labels.extractKernel).toBe(extractKernel);
      const { extraction } = await extract(image);
      expect(extraction.console.startsWith('Wrong EFI')).toBe(order[0] === 'earlyprintk');
    }
  });

  it.each([
    ['is one sentence more from 5.18 on', [], 'Decompressing Linux... '],
    [
      'is said again by those that may have to accept memory (6.5 on)',
      ['Unknown version of unaccepted memory table\n'],
      'Decompressing Linux... No EFI environment detected.\n',
    ],
  ])('%s', async (_, more, end) => {
    const { image } = makeStub64('rmode-output', {
      payload: gzipSync(kernel64()),
      text: [
        'RSD PTR ',
        'early console in extract_kernel\n',
        'EFI config table not found.',
        'No EFI environment detected.\n',
        '\n\nDecompressing Linux... ',
        ...more,
      ].join('\0'),
    });
    const { extraction } = await extract(image);
    expect(extraction.console).toBe(
      `No EFI environment detected.\nearly console in extract_kernel\n\n\n${end}`,
    );
  });
});

describe('extract_kernel of a 32-bit stub', () => {
  const kernel = makeKernel({
    bits: 32,
    entry: 0x1000000,
    virtualOffset: MAP32,
    segments: [{ paddr: 0x1000000, content: pattern(0x4000, 5) }],
    relocations: [[0xc1000200, 0xc1000300]],
  });

  it.each(['stack-rmode-output', 'stack-rmode-heap-input'] as const)(
    'relocates a kernel that is not where it was linked to (%s)',
    async (kind) => {
      const { image } = makeStub32(kind, { payload: gzipSync(kernel) });
      const { extraction, ram } = await extract(image, { output: 0x1200000 });
      expect(extraction.relocations.relocations32).toBe(2);
      expect(extraction.virtualBase).toBe(0xc1200000n);
      const before = new DataView(pattern(0x4000, 5).buffer).getUint32(0x300, true);
      expect(new DataView(ram.buffer).getUint32(0x1200300, true)).toBe((before + 0x200000) >>> 0);
    },
  );

  it.each([
    ['tests its first argument', '56 8b 74 24 08 85 f6', ''],
    [
      'tests its first argument, which it finds by EBP',
      '55 89 e5 56 53 83 ec 2c 8b 75 0c 8b 7d 08 85 ff',
      '',
    ],
    [
      'tests another argument',
      '55 89 e5 56 8b 75 0c 85 f6',
      'Decompressing Linux... done.\nBooting the kernel.\n',
    ],
    [
      'prints whatever its first argument is',
      '56 8b 74 24 08 31 c0',
      'Decompressing Linux... done.\nBooting the kernel.\n',
    ],
  ])('prints nothing where __putstr %s', async (_, putstr, printed) => {
    const GOT = 0x1000;
    const PUTSTR = 0x100;
    const TEXT = 0x301;
    const asm = new Assembler();
    // call 1f; 1: pop %ebx; add $got, %ebx; test %eax, %eax; je 2f; jmp *%eax; then a jump table, which is no code
    asm
      .emit('e8 00000000 5b 81 c3', GOT - 5)
      .emit('85 c0 74 0a ff e0')
      .emit('c7 84 24 0f c7 84 24 8d');
    // 2: lea text(%ebx), %eax; mov %eax, 4(%esp); movl $0, (%esp); call __putstr; ret
    asm
      .emit('8d 83', TEXT - GOT)
      .emit('89 44 24 04')
      .emit('c7 04 24', 0)
      .relative('e8', PUTSTR)
      .emit('c3');
    // Then je to the next instruction; ret.
    asm.padTo(PUTSTR).emit(`${putstr} 74 00 c3`);
    const { image } = makeStub32('relocates-itself', {
      payload: gzipSync(kernel),
      extractKernel: asm.bytes(),
      text: 'Decompressing Linux... \0done.\nBooting the kernel.\n\0quiet\0',
    });
    expect((await extract(image, { output: 0x1200000 })).extraction.console).toBe(printed);
  });

  it('stores variables where the stub is linked to lie, if its code does', async () => {
    const plain = makeStub32('stack-rmode-heap-input', { payload: gzipSync(kernel) });
    const variable = findStubDetails(plain.image)!.bss!.start + 4;
    // mov 4(%esp), %eax; mov $variable, %ecx; mov %eax, (%ecx); mov 8(%esp), %edx; add $0x10000, %edx; mov %edx, 4(%ecx); ret
    const code = new Assembler()
      .emit('8b 44 24 04 c7 c1', variable)
      .emit('89 01 8b 54 24 08 81 c2', 0x10000)
      .emit('89 51 04 c3');
    const { image } = makeStub32('stack-rmode-heap-input', {
      payload: gzipSync(kernel),
      extractKernel: code.bytes(),
    });
    const { extraction, ram } = await extract(image, { output: 0x1200000 });
    const view = new DataView(ram.buffer);
    expect(view.getUint32(variable, true)).toBe(BOOT_PARAMS);
    expect(view.getUint32(variable + 4, true)).toBe(0x1800000 - 0x40000 + 0x1000 + 0x10000);
    expect(extraction.writes.filter(({ role }) => role === 'stray-variable')).toEqual([
      { start: variable, end: variable + 4, role: 'stray-variable' },
      { start: variable + 4, end: variable + 8, role: 'stray-variable' },
    ]);
  });

  it('leaves the relocations to a stub that does them itself', async () => {
    const { image } = makeStub32('relocates-itself', { payload: gzipSync(kernel) });
    const { extraction, ram } = await extract(image, { output: 0x1200000 });
    expect(extraction.relocations.relocations32).toBe(0);
    expect(Buffer.compare(ram.subarray(0x1200000, 0x1204000), pattern(0x4000, 5))).toBe(0);
  });

  it('stops with the kernel’s message at a relocation outside the kernel', async () => {
    const wild = makeKernel({
      bits: 32,
      entry: 0x1000000,
      virtualOffset: MAP32,
      segments: [{ paddr: 0x1000000, content: pattern(0x400, 5) }],
      relocations: [[0xc5000000]],
    });
    const { image } = makeStub32('stack-rmode-output', { payload: gzipSync(wild) });
    const error = await refusal(extract(image, { output: 0x1200000 }));
    expect(error.message).toContain('32-bit relocation outside of kernel!');
  });
});

describe('a heap beyond what i386 maps directly', () => {
  const ZO = 0x1800000 - 0x40000;
  /** A boot with 128 MiB and so many bytes between the kernel's map and the end of the address space. */
  const boot = (bits: 32 | 64, room: number) => {
    const virtualOffset = (bits === 32 ? 2n ** 32n : 2n ** 64n) - BigInt((128 << 20) + room);
    const segments = [{ paddr: 0x1000000, content: pattern(0x4000, 1) }];
    const payload = gzipSync(makeKernel({ bits, entry: 0x1000000, virtualOffset, segments }));
    const recipe = { payload, text: 'Destination address too large' };
    const { image } =
      bits === 32 ? makeStub32('stack-rmode-heap-input', recipe) : makeStub64('rmode-heap-input', recipe);
    return { heap: findStubDetails(image)!.heap!, run: () => extract(image, { zo: ZO }) };
  };

  it('stops the stub at the first byte behind it, and none of 64 bits', async () => {
    // The payload's length, and with it the heap's place, is the same for numbers of as many digits.
    const { heap } = boot(32, ZO);
    const just = boot(32, ZO + heap + 1);
    const short = boot(32, ZO + heap);
    expect([just.heap, short.heap]).toEqual([heap, heap]);
    const error = await refusal(short.run());
    expect(error.message).toContain('Destination address too large');
    await expect(just.run()).resolves.toBeDefined();
    await expect(boot(64, ZO).run()).resolves.toBeDefined();
  });
});

describe('a flat kernel', () => {
  const flat = pattern(0x5000, 9);

  it('is entered at its start', async () => {
    const { image } = makeStub64('rmode-heap-input-rbp', { payload: gzipSync(flat) });
    const { extraction, ram } = await extract(image);
    expect(extraction.entry).toBe(0x1000000n);
    expect(extraction.segments).toHaveLength(1);
    expect(Buffer.compare(ram.subarray(0x1000000, 0x1005000), flat)).toBe(0);
  });

  it('is refused by a stub that knows ELF', async () => {
    const text = 'Kernel is not a valid ELF file';
    const { image } = makeStub64('rmode-heap-input', { payload: gzipSync(flat), text });
    expect((await refusal(extract(image))).message).toContain(text);
  });
});

describe('decompress_kernel of a moveparams stub', () => {
  const kernel = pattern(0x9a000, 4);
  const memory = (kibibytes: number) => (ram: Uint8Array) =>
    new DataView(ram.buffer).setUint16(BOOT_PARAMS + 2, kibibytes, true);

  it('fills the low buffer, then the high one, and tells the move routine', async () => {
    const { image, labels } = makeMoveParamsStub('bzImage', { payload: gzipSync(kernel) });
    const { extraction, ram } = await extract(image, { zo: 0x100000, prepare: memory(60000) });
    const view = new DataView(ram.buffer);
    const [low, lowCount, high, highCount] = [0, 4, 8, 12].map((at) =>
      view.getUint32(MOVE_PARAMS + at, true),
    );
    expect([low, lowCount]).toEqual([0x2000, 0x8e000]);
    // The buffer would lie over the kernel's own place: it goes where nothing need be moved.
    expect(high).toBe(Math.max(labels.bssEnd + 0x3000, 0x100000 + 0x8e000));
    expect(highCount).toBe(0);
    expect(extraction).toMatchObject({ returnValue: 1n, entry: 0x100000n });
    expect(Buffer.compare(ram.subarray(0x2000, 0x90000), kernel.subarray(0, 0x8e000))).toBe(0);
    expect(Buffer.compare(ram.subarray(high!, high! + 0xc000), kernel.subarray(0x8e000))).toBe(0);
  });

  it('writes a zImage’s kernel to 1 MiB', async () => {
    const { image } = makeMoveParamsStub('zImage', { payload: gzipSync(kernel) });
    const { extraction, ram } = await extract(image, { zo: 0x1000, prepare: memory(60000) });
    expect(extraction.returnValue).toBe(0n);
    expect(Buffer.compare(ram.subarray(0x100000, 0x100000 + kernel.length), kernel)).toBe(0);
  });

  it.each([
    ['bzImage', 3072, 0x100000],
    ['zImage', 1024, 0x1000],
  ] as const)('asks for a %s for %i KiB above 1 MiB', async (kind, needed, zo) => {
    const { image } = makeMoveParamsStub(kind, {
      payload: gzipSync(kernel),
      text: 'Less than 4MB of memory\0Less than 2MB of memory',
    });
    expect((await extract(image, { zo, prepare: memory(needed) })).extraction.file).toBeNull();
    const error = await refusal(extract(image, { zo, prepare: memory(needed - 1) }));
    expect(error.message).toContain(`"Less than ${kind === 'bzImage' ? 4 : 2}MB of memory"`);
    // What INT 15h E801h told counts where it is more.
    const large = (ram: Uint8Array): void => {
      memory(needed - 1)(ram);
      new DataView(ram.buffer).setUint32(BOOT_PARAMS + 0x1e0, needed, true);
    };
    expect((await extract(image, { zo, prepare: large })).extraction.file).toBeNull();
  });

  it('tells what it has written, and where', async () => {
    const { image } = makeMoveParamsStub('bzImage', { payload: gzipSync(kernel) });
    const { extraction } = await extract(image, { zo: 0x100000, prepare: memory(60000) });
    const high = 0x100000 + 0x8e000;
    expect(extraction.writes).toEqual([
      { start: 0x2000, end: 0x90000, role: 'low-buffer' },
      { start: high, end: high + 0xc000, role: 'high-buffer' },
    ]);
    expect(extraction.steps.map(({ name }) => name)).toEqual(['decompressed']);
    expect(extraction.steps[0]!.summary).toMatch(/^gzip: .* became 581632 at 0x2000 and 49152 at 0x18e000$/);
    const small = makeMoveParamsStub('zImage', { payload: gzipSync(kernel) });
    const direct = await extract(small.image, { zo: 0x1000, prepare: memory(60000) });
    expect(direct.extraction.steps).toHaveLength(1);
    expect(direct.extraction.writes[0]).toMatchObject({ start: 0x100000, end: 0x100000 + kernel.length });
  });

  it('stops where the BIOS told of too little memory', async () => {
    const { image } = makeMoveParamsStub('bzImage', {
      payload: gzipSync(kernel),
      text: 'Less than 4MB of memory',
    });
    const error = await refusal(extract(image, { zo: 0x100000, prepare: memory(2048) }));
    expect(error.message).toContain('2048 KiB');
  });
});
