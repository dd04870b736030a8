// The loop that runs a boot: how long, up to where, and what is said at its end.

import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { openCpu } from '../cpu/open.ts';
import { bootDisk } from '../image/boot-disk.ts';
import { diskOfBytes } from '../image/disk-image.ts';
import { type KernelImage, readKernelImage } from '../image/kernel-image.ts';
import { makeBootImage } from '../image/test-images.ts';
import type { BootOptions } from './options.ts';
import { type BootSession, openBoot } from './session.ts';
import { Snapshots } from './snapshots.ts';

const DEMO = new URL('../../images/demo/', import.meta.url).pathname;
const demo = (name: string): Promise<KernelImage> => readKernelImage(name, readFileSync(`${DEMO}${name}`));
const MEMORY = 64 << 20;
const CLI_HLT = [0xfa, 0xf4];

/** A boot sector with this code, in drive 80h. */
function fromDisk(code: readonly number[], options: Partial<BootOptions> = {}): Promise<BootSession> {
  const bytes = new Uint8Array(64 * 512);
  bytes.set(code);
  bytes.set([0x55, 0xaa], 510);
  const disks = [diskOfBytes('made.img', bytes)];
  return openBoot(bootDisk('made.img', 'disk'), { disks, entry: 'boot-sector', memory: MEMORY, ...options });
}

/** A kernel image whose setup has this code behind its header. */
async function fromSetup(code: readonly number[], options: Partial<BootOptions> = {}): Promise<BootSession> {
  const image = Buffer.from(makeBootImage({ protocol: 0x0203, version: 'PROGRAM 1.0' }));
  image.set(code, 0x280);
  image[0x201] = 0x280 - 0x202;
  return openBoot(await readKernelImage('made', image), { entry: 'real16', memory: MEMORY, ...options });
}

describe('the seconds that a boot may take', () => {
  async function secondsOf(session: BootSession): Promise<number> {
    const run = vi.spyOn(session.machine, 'run');
    await session.run({ instructions: 1 });
    session.close();
    return run.mock.calls[0]![1]! / 1000;
  }
  const open = async (options: Partial<BootOptions>): Promise<BootSession> =>
    openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY, ...options });

  it('are few where extract_kernel is trapped, and many where the guest does it', async () => {
    expect(await secondsOf(await open({}))).toBe(60);
    expect(await secondsOf(await open({ decompress: 'emulated' }))).toBe(1800);
  });

  it('are those of a boot loader on a disk, and fewer without a kernel', async () => {
    expect(await secondsOf(await fromDisk(CLI_HLT))).toBe(300);
    expect(await secondsOf(await fromSetup(CLI_HLT))).toBe(10);
  });

  it('are what somebody says', async () => {
    expect(await secondsOf(await open({ timeoutSeconds: 7 }))).toBe(7);
    expect(await secondsOf(await fromDisk(CLI_HLT, { timeoutSeconds: 0.5 }))).toBe(0.5);
  });
});

describe('what is said of an image', () => {
  const noticesOf = async (image: KernelImage, options: Partial<BootOptions> = {}) => {
    using session = await openBoot(image, { memory: MEMORY, ...options });
    return session.trace().notices;
  };

  it('is nothing of a kernel that decompresses as it was told to', async () => {
    expect(await noticesOf(await demo('demo-lz4.bzImage'))).toEqual([]);
    expect(await noticesOf(await demo('demo-lz4.bzImage'), { decompress: 'emulated' })).toEqual([]);
  });

  it('is what cannot be done for it', async () => {
    const image = await demo('demo-lz4.bzImage');
    expect(await noticesOf({ ...image, payload: null })).toEqual([
      'the payload is in no known format: the guest decompresses by itself',
    ]);
    const program = await readKernelImage(
      'made',
      makeBootImage({ protocol: 0x0203, version: 'PROGRAM 1.0' }),
    );
    expect((await noticesOf(program))[0]).toMatch(/^this is no kernel but a program .*\(PROGRAM 1\.0\)/);
    using disk = await fromDisk(CLI_HLT);
    expect(disk.trace().notices).toEqual([]);
  });
});

describe('a boot with a last instruction', () => {
  it('ends there, whatever further place it was to run to', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY, maxInstructions: 5000 });
    expect(await session.run({ until: '#6000' })).toMatchObject({ reason: 'ended', instructions: 5000 });
    expect(await session.goTo(4000)).toMatchObject({ reason: 'count', instructions: 4000 });
  });

  it('tells of the loop that it is in, also where it is held just before', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY, maxInstructions: 5000 });
    await session.run({ until: '#4998' });
    await session.run();
    expect(session.trace().stopped).toContain('it was going round in a loop from');
  });
});

describe('a boot that is held', () => {
  it('before the jump to the copy of the stub does not know of the copy yet', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY });
    const { instructions, address } = await session.run({ until: 'relocated' });
    const copy = session.zo;
    await session.goTo(instructions! - 1);
    expect(session.zo).toBe(0x100000);
    await session.step();
    expect(session.zo).toBe(copy);
    expect(session.stop.address).toBe(address);
    expect(session.phase).toBe('relocated');
  });

  it('at its first instruction is held there for the call that it is', async () => {
    // mov ax, 0e41h would come first: INT 12h needs no registers.
    using session = await fromDisk([0xcd, 0x12, ...CLI_HLT]);
    expect(await session.run({ until: 'bios=0x12' })).toMatchObject({
      ...{ reason: 'event', address: 0x7c00n, instructions: 0 },
    });
    // It stands before it, so that the next one is another.
    expect(await session.run({ until: 'bios=0x12' })).toMatchObject({ reason: 'ended' });
  });
});

describe('whoever is told of each instruction', () => {
  it('is told of all that were executed, and not of the first of the kernel', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY, shortcuts: false });
    const seen: number[] = [];
    const stream = session.stream({
      syntax: 'intel',
      describe: ({ address }) => address,
      executed: (address) => seen.push(address),
    });
    await session.run();
    const { phases, kernel } = session.trace();
    expect(seen).toHaveLength(session.instructions!);
    expect(stream.count).toBe(seen.length);
    expect(seen).not.toContain(Number(kernel!.entry));
    for (const name of ['setup', 'startup_32', 'startup_64', 'relocated']) {
      const phase = phases.find((each) => each.name === name)!;
      expect(seen[phase.instructions!], name).toBe(Number(phase.address));
    }
  });
});

describe('the reason of an end', () => {
  /** mov ax, 027fh; mov cx, 3; mov dx, 80h; mov bx, 8000h; xor si, si; mov es, si; int 13h; then on. */
  const readBeyond = [
    0xb8, 0x7f, 2, 0xb9, 3, 0, 0xba, 0x80, 0, 0xbb, 0, 0x80, 0x31, 0xf6, 0x8e, 0xc6, 0xcd, 0x13,
  ];

  it('names sectors that a boot loader has asked for and are not there, and none that setup has', async () => {
    using loader = await fromDisk([...readBeyond, ...CLI_HLT]);
    await loader.run();
    expect(loader.trace().stopped).toMatch(
      /in phase boot-sector at 0x0:0x7c14 \(real16\); the loader has asked for sectors 2 to 128 of made\.img, which has 64$/,
    );
    const disks = [diskOfBytes('made.img', new Uint8Array(64 * 512))];
    using program = await fromSetup([...readBeyond, ...CLI_HLT], { disks });
    await program.run();
    expect(program.trace().stopped).toMatch(
      /^the guest halted with interrupts off, in phase setup at 0x9020:0x\w+ \(real16\)$/,
    );
  });

  it('is an error of the CPU, a jump to nowhere, or that the guest stands', async () => {
    const reason = async (code: readonly number[]): Promise<string> => {
      using session = await fromSetup(code);
      await session.run();
      return session.trace().stopped!;
    };
    expect(await reason(CLI_HLT)).toContain('the guest halted with interrupts off');
    // jmp $
    expect(await reason([0xfa, 0xeb, 0xfe])).toMatch(/loop|same/);
  });
});

describe('the drives', () => {
  it('hold what they are given, by whatever entry', async () => {
    const floppy = new Uint8Array(2880 * 512).fill(0x5a);
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY, floppy });
    expect(session.machine.drives.floppy).not.toBeNull();
    using without = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY });
    expect(without.machine.drives.floppy).toBeNull();
  });
});

describe('a guest that decompresses what nobody here can read', () => {
  it('comes to its kernel, which is known by its entry alone', async () => {
    const image = await demo('demo-lz4.bzImage');
    using known = await openBoot(image, { memory: MEMORY, decompress: 'emulated' });
    await known.run();
    using session = await openBoot({ ...image, payload: null }, { memory: MEMORY });
    await session.run();
    const { kernel, notices, stopped } = session.trace();
    expect(stopped).toBeNull();
    const { entry } = known.trace().kernel!;
    expect(kernel).toMatchObject({ entry, physicalBase: entry, virtualBase: entry, segments: [] });
    expect(notices).toContain(
      'the payload is in no known format: the kernel is known by its entry alone, not by its segments',
    );
  });
});

describe('a session', () => {
  it('reads numbers of each width, the lowest byte first', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY });
    session.memory.write(0x3000, Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88));
    const { memory } = session;
    expect(memory.u8(0x3000)).toBe(0x11);
    expect(memory.u16(0x3000)).toBe(0x2211);
    expect(memory.u32(0x3000n)).toBe(0x4433_2211);
    expect(memory.u64(0x3000)).toBe(0x8877_6655_4433_2211n);
    expect(memory.size).toBe(MEMORY);
  });

  it('tells which bytes firmware has written of those that are watched', async () => {
    using session = await openBoot(await demo('demo-lz4.bzImage'), { memory: MEMORY });
    const before = session.memory.read(0xb8000, 0x100);
    const stop = await session.run({ writes: { start: 0xb7f00, end: 0xb8100 } });
    const now = session.memory.read(0xb8000, 0x100);
    const differ = (byte: number, index: number): boolean => byte !== before[index];
    expect(stop).toMatchObject({
      reason: 'watchpoint',
      access: {
        ...{ access: 'write', by: 'firmware', start: 0xb8000 + now.findIndex(differ) },
        end: 0xb8000 + now.findLastIndex(differ) + 1,
      },
    });
  });

  it('closes its engine once', async () => {
    let closed = 0;
    const session = await openBoot(await demo('demo-lz4.bzImage'), {
      memory: MEMORY,
      engine: async () => {
        const cpu = await openCpu({ engine: 'auto' });
        const close = cpu.close.bind(cpu);
        cpu.close = () => {
          closed++;
          close();
        };
        return cpu;
      },
    });
    session.close();
    session.close();
    expect(closed).toBe(1);
  });

  it('goes back in a guest that decompresses by itself from where it has kept it', async () => {
    const restore = vi.spyOn(Snapshots.prototype, 'restore');
    using session = await openBoot(await demo('demo-bzip2.bzImage'), {
      ...{ memory: MEMORY, decompress: 'emulated', entry: 'long64', events: false },
    });
    await session.run();
    const far = session.instructions! - 1000;
    expect(await session.goTo(far)).toMatchObject({ reason: 'count', instructions: far });
    expect(restore).toHaveBeenCalledOnce();
    const [, snapshot] = restore.mock.calls[0]!;
    expect(far - snapshot.instructions).toBeLessThan(1_500_000);
    restore.mockRestore();
  });
});
