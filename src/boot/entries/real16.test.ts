import { expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { describeEachEngine } from '../../cpu/each-engine.ts';
import { readKernelImage } from '../../image/kernel-image.ts';
import { type BootImageRecipe, makeBootImage, noise } from '../../image/test-images.ts';
import { Machine } from '../../machine/machine.ts';
import { type BootOptions, DEFAULT_BOOT_OPTIONS } from '../options.ts';
import type { LoadedImage } from './loaded-image.ts';
import { enterReal16, loadReal16 } from './real16.ts';

const MEMORY = 64 << 20;
const SETUP = 0x90000;
const INITRD = { path: 'initrd', bytes: noise(5000, 3) };

interface Loaded {
  readonly loaded: LoadedImage;
  /** Boot sector and setup as they were in the file, and as they are in memory. */
  readonly file: Uint8Array;
  readonly setup: DataView;
  readonly ram: Uint8Array;
  readonly cpu: Cpu;
}

describeEachEngine('loading by the 16-bit protocol', (open) => {
  async function load(
    recipe: BootImageRecipe,
    options: Partial<BootOptions>,
    test: (result: Loaded) => void,
  ): Promise<void> {
    const cpu = await open();
    try {
      const file = makeBootImage(recipe);
      // A page of zeroes is one long block, which some builds of Unicorn.js cannot translate.
      if (recipe.protocol === 0) file[0x200] = 0xf4;
      const image = await readKernelImage('image', file);
      const machine = new Machine(cpu, { memory: MEMORY });
      machine.ram.fill(0xcc, SETUP, SETUP + 0xe000);
      const loaded = loadReal16(machine, image, { ...DEFAULT_BOOT_OPTIONS, memory: MEMORY, ...options });
      enterReal16(machine, loaded);
      const { ram } = machine;
      test({ loaded, file, ram, setup: new DataView(ram.buffer, ram.byteOffset + SETUP, 0x10000), cpu });
    } finally {
      cpu.close();
    }
  }
  const refused = (recipe: BootImageRecipe, options: Partial<BootOptions> = {}): Promise<void> =>
    load(recipe, options, () => expect.unreachable());
  const text = (ram: Uint8Array, at: number): string =>
    Buffer.from(ram.subarray(at, ram.indexOf(0, at))).toString();

  it('fills in what boot.rst asks of a loader, and nothing else', () =>
    load(
      {
        protocol: 0x020f,
        code: noise(10_000),
        fields: { loadflags: 1, initrd_addr_max: 0x7fffffff, cmdline_size: 2047 },
      },
      { cmdline: 'vga=ask quiet', initrd: INITRD },
      ({ loaded, file, setup, ram }) => {
        expect(setup.getUint8(0x210)).toBe(0xff); // type_of_loader
        expect(setup.getUint8(0x211)).toBe(0x81); // loadflags: LOADED_HIGH, CAN_USE_HEAP
        expect(setup.getUint16(0x224, true)).toBe(0xde00); // heap_end_ptr
        expect(setup.getUint16(0x1fa, true)).toBe(0xfffd); // vid_mode
        expect(setup.getUint32(0x228, true)).toBe(0x9e000); // cmd_line_ptr
        expect(setup.getUint32(0x218, true)).toBe(loaded.initrd!.address);
        expect(setup.getUint32(0x21c, true)).toBe(5000);
        expect(text(ram, 0x9e000)).toBe('vga=ask quiet');
        expect(Buffer.compare(ram.subarray(0x100000, 0x100000 + 10_000), noise(10_000))).toBe(0);
        const { address } = loaded.initrd!;
        expect(Buffer.compare(ram.subarray(address, address + 5000), INITRD.bytes)).toBe(0);
        const written = [0x1fa, 0x1fb, 0x210, 0x211, 0x218, 0x219, 0x21a, 0x21b, 0x21c, 0x21d, 0x21e, 0x21f];
        const allowed = new Set([...written, 0x224, 0x225, 0x228, 0x229, 0x22a, 0x22b]);
        for (let offset = 0; offset < 5 * 512; offset++) {
          if (!allowed.has(offset)) expect(setup.getUint8(offset), `offset ${offset}`).toBe(file[offset]);
        }
        expect(loaded).toMatchObject({
          ...{ entry: 'real16', heapEnd: 0x9e000, startup32: 0x100000, bootParams: null },
          setup: { address: SETUP, size: 5 * 512 },
          protectedModeCode: { address: 0x100000, size: 10_000 },
          commandLine: { address: 0x9e000, size: 14 },
        });
      },
    ));

  it('clears the room of heap and stack behind setup', () =>
    load({ protocol: 0x020f }, {}, ({ ram }) => {
      expect(ram.subarray(SETUP + 5 * 512, SETUP + 0xe000).every((byte) => byte === 0)).toBe(true);
    }));

  it('starts setup with the registers that boot.rst demands', () =>
    load({ protocol: 0x020f }, {}, ({ cpu }) => {
      const names = ['cs', 'rip', 'ss', 'rsp', 'ds', 'es', 'fs', 'gs'] as const;
      const values = names.map((name) => Number(cpu.readRegister(name)));
      expect(values).toEqual([0x9020, 0, 0x9000, 0xe000, 0x9000, 0x9000, 0x9000, 0x9000]);
    }));

  it('passes the command line of protocol 2.01 and older through 0x20 and 0x22 of the segment', () =>
    load({ protocol: 0x0201 }, { cmdline: 'root=/dev/fd0' }, ({ setup, ram, loaded, file }) => {
      expect(setup.getUint16(0x20, true)).toBe(0xa33f);
      expect(setup.getUint16(0x22, true)).toBe(0x9800);
      expect(text(ram, SETUP + 0x9800)).toBe('root=/dev/fd0');
      expect(setup.getUint16(0x212, true)).toBe(0x9800 + 14); // setup_move_size
      expect(setup.getUint16(0x224, true)).toBe(0x9600); // heap_end_ptr
      expect(loaded.heapEnd).toBe(0x99800);
      // cmd_line_ptr is setup's own code here.
      expect(ram.subarray(SETUP + 0x228, SETUP + 0x400)).toEqual(file.subarray(0x228, 0x400));
    }));

  it.each([0x90000, 0x9fffe])('takes any place of the segment for it, as %d', (cmdlineAddress) =>
    load({ protocol: 0x0201 }, { cmdline: '', cmdlineAddress }, ({ setup }) => {
      expect(setup.getUint16(0x22, true)).toBe(cmdlineAddress - SETUP);
    }),
  );

  it.each([0x8ffff, 0x9ffff])(
    'refuses for it what does not lie in the segment as a whole, as %d',
    async (cmdlineAddress) => {
      await expect(load({ protocol: 0x0201 }, { cmdline: '', cmdlineAddress }, () => {})).rejects.toThrow(
        "before boot protocol 2.02 the command line lies in setup's segment",
      );
    },
  );

  it('does not touch heap_end_ptr and CAN_USE_HEAP before protocol 2.01', () =>
    load({ protocol: 0x0200, fields: { loadflags: 1 } }, {}, ({ setup, file, ram }) => {
      expect(setup.getUint8(0x210)).toBe(0xff);
      expect(setup.getUint8(0x211)).toBe(1);
      expect(ram.subarray(SETUP + 0x224, SETUP + 0x400)).toEqual(file.subarray(0x224, 0x400));
    }));

  it('writes nothing at 0x22c and later, where kernels of protocol 2.02 have code', () =>
    load({ protocol: 0x0202 }, { cmdline: 'a', initrd: INITRD }, ({ setup, file, ram }) => {
      expect(setup.getUint32(0x228, true)).toBe(0x9e000);
      expect(ram.subarray(SETUP + 0x22c, SETUP + 0xa00)).toEqual(file.subarray(0x22c, 0xa00));
    }));

  it('gives an image without a header the command line and vid_mode alone', () =>
    load({ protocol: 0 }, { cmdline: 'ro' }, ({ setup, file, ram, loaded }) => {
      expect(setup.getUint16(0x20, true)).toBe(0xa33f);
      expect(ram.subarray(SETUP + 0x200, SETUP + 0xa00)).toEqual(file.subarray(0x200, 0xa00));
      expect(loaded).toMatchObject({ startup32: 0x1000, protectedModeCode: { address: 0x10000 } });
    }));

  it('loads a zImage low, with its heap below 0x9800', () =>
    load(
      { protocol: 0x0203, code: noise(0x7000), fields: { loadflags: 0 } },
      {},
      ({ loaded, ram, setup }) => {
        expect(Buffer.compare(ram.subarray(0x10000, 0x17000), noise(0x7000))).toBe(0);
        expect(setup.getUint8(0x211)).toBe(0x80);
        expect(setup.getUint16(0x224, true)).toBe(0x9600);
        expect(loaded).toMatchObject({ startup32: 0x1000, heapEnd: 0x99800 });
      },
    ));

  it('goes on at code32_start where the image has another one', () =>
    load({ protocol: 0x020f, fields: { code32_start: 0x200000 } }, {}, ({ loaded }) => {
      expect(loaded.startup32).toBe(0x200000);
    }));

  it('refuses what does not fit, with the numbers', async () => {
    const low = { protocol: 0x0203, code: new Uint8Array(0x80001), fields: { loadflags: 0 } };
    await expect(refused(low)).rejects.toThrow('524289 bytes');
    await expect(refused({ protocol: 0x020f, code: new Uint8Array(MEMORY) })).rejects.toThrow('give it more');
    await expect(refused({ protocol: 0x0201, setupSectors: 80 })).rejects.toThrow('room for 38912');
    await expect(refused({ protocol: 0x020f }, { loadAddress: 0x1000000 })).rejects.toThrow(
      'the entry prot32',
    );
    await expect(refused({ protocol: 0 }, { initrd: INITRD })).rejects.toThrow('no setup header');
    await expect(refused({ protocol: 0x0201 }, { cmdlineAddress: 0x20000 })).rejects.toThrow('0x20000');
  });

  it('keeps the command line below the EBDA', async () => {
    const long = { protocol: 0x020f, fields: { cmdline_size: 0x10000 } };
    await load(long, { cmdline: 'x'.repeat(4000) }, () => {});
    await expect(refused(long, { cmdline: 'x'.repeat(0x2000) })).rejects.toThrow('do not fit below 0x9fc00');
  });
});
