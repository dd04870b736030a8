import { describe, expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { describeEachEngine } from '../../cpu/each-engine.ts';
import { EFI_GUIDS, guidBytes } from '../../protocol/efi-guids.ts';
import {
  BOOT_SERVICES,
  EFI_STATUS,
  RUNTIME_SERVICES,
  SYSTEM_TABLE,
  TABLE_HEADER_SIZE,
} from '../../protocol/efi-tables.ts';
import { parseKeys } from '../keys.ts';
import { Machine } from '../machine.ts';
import { type EfiFault, parseEfiFault } from './faults.ts';
import type { UefiFirmware } from './firmware.ts';
import { char16Bytes } from './service.ts';
import { enterFirstImage, startFirmware, type UefiConfiguration } from './start.ts';
import { TEST_MAP, TEST_MEMORY } from './test-firmware.ts';
import { efiProgram, ProgramWriter } from './test-program.ts';

/** Free memory where programs keep their variables. */
const DATA = 0x20000;
const STATUS = 0x30000;

const boot = (name: (typeof BOOT_SERVICES)[number]): number =>
  TABLE_HEADER_SIZE + BOOT_SERVICES.indexOf(name) * 8;
const runtime = (name: (typeof RUNTIME_SERVICES)[number]): number =>
  TABLE_HEADER_SIZE + RUNTIME_SERVICES.indexOf(name) * 8;

interface Run {
  readonly firmware: UefiFirmware;
  readonly machine: Machine;
  readonly calls: readonly string[];
  readonly text: string;
  readonly stopped: string | null;
  status(index: number): bigint;
}

const PLAIN: UefiConfiguration = { protocols: [], frameBuffer: null, pci: [] };

describeEachEngine('a UEFI firmware', (open) => {
  /** Runs a program until it halts outside all services, or the firmware ends it. */
  async function run(
    program: Uint8Array,
    look: (run: Run, cpu: Cpu) => void,
    options: {
      readonly faults?: readonly EfiFault[];
      readonly configuration?: Partial<UefiConfiguration>;
      readonly initrd?: Uint8Array;
      readonly prepare?: (machine: Machine) => void;
      readonly keys?: string;
    } = {},
  ): Promise<void> {
    const cpu = await open();
    try {
      const machine = new Machine(cpu, { memory: TEST_MEMORY });
      const calls: string[] = [];
      let text = '';
      let stopped: string | null = null;
      const keys = options.keys === undefined ? [] : [...parseKeys(options.keys)];
      const firmware = startFirmware({
        nextKey: () => keys.shift() ?? null,
        hasKey: () => keys.length > 0,
        cpu,
        memory: machine.memory,
        clock: machine.clock,
        random: (length) => new Uint8Array(length).fill(0x42),
        map: TEST_MAP,
        imageBase: null,
        configuration: { ...PLAIN, ...options.configuration },
        image: { name: 'program', bytes: program, loadOptions: 'quiet', initrd: options.initrd ?? null },
        faults: options.faults ?? [],
        onText: (printed) => {
          text += printed;
        },
        stop: (reason) => {
          stopped = reason;
        },
        onEvent: (event) => calls.push(event.text),
      });
      enterFirstImage(firmware);
      options.prepare?.(machine);
      while (stopped === null) {
        const end = cpu.run();
        expect(end.kind).toBe('halted');
        if (!firmware.serve()) break;
      }
      const status = (index: number): bigint => machine.memory.read64(STATUS + index * 8);
      look({ firmware, machine, calls, text, stopped, status }, cpu);
    } finally {
      cpu.close();
    }
  }

  it('enters a program as OVMF does: long mode, its selectors, interrupts on, handle and system table', () =>
    run(efiProgram(new ProgramWriter().halt()), ({ firmware, machine }, cpu) => {
      const read = (name: 'cr0' | 'cr4' | 'cs' | 'ss' | 'ds' | 'rcx' | 'rdx') => cpu.readRegister(name);
      expect([read('cr0'), read('cr4')]).toEqual([0x8001_0033n, 0x668n]);
      expect([read('cs'), read('ss'), read('ds')]).toEqual([0x38n, 0x30n, 0x30n]);
      expect(cpu.readRegister('efer') & 0x500n).toBe(0x500n);
      expect(cpu.readRegister('rflags') & 0x200n).toBe(0x200n);
      expect(read('rcx')).toBe(firmware.images[0]!.handle);
      expect(Number(read('rdx'))).toBe(firmware.places.systemTable);
      expect(machine.memory.read64(firmware.places.systemTable)).toBe(0x5453_5953_2049_4249n);
    }));

  it('ends the run with the status of an image that returns', () =>
    run(efiProgram(new ProgramWriter().returning(EFI_STATUS.NOT_FOUND)), ({ stopped }) => {
      expect(stopped).toBe('the image returned to the firmware with NOT_FOUND');
    }));

  it('gives out pages and pool, records who asked, and takes them back', () => {
    const program = new ProgramWriter()
      .call('boot', boot('AllocatePages'), 0, 2, 3, DATA)
      .keep(STATUS)
      .call('boot', boot('AllocatePool'), 2, 100, DATA + 8)
      .keep(STATUS + 8)
      .call('boot', boot('FreePool'), 0x123)
      .keep(STATUS + 16)
      .halt();
    return run(efiProgram(program), ({ firmware, machine, calls, status }) => {
      expect([status(0), status(1), status(2)]).toEqual([0n, 0n, EFI_STATUS.INVALID_PARAMETER]);
      const pages = Number(machine.memory.read64(DATA));
      expect(firmware.pages.typeAt(pages)).toBe('LoaderData');
      expect(firmware.allocations.at(-2)).toMatchObject({
        start: pages,
        end: pages + 0x3000,
        service: 'AllocatePages',
        call: 1,
        caller: expect.stringMatching(/^program\+0x10[0-9a-f]{2}$/),
        freedIn: null,
      });
      expect(calls[0]).toBe(
        `AllocatePages(Type=AnyPages, MemoryType=LoaderData, Pages=3, Memory=&NULL) = SUCCESS (Memory 0x${pages.toString(16)})`,
      );
      expect(calls[2]).toBe('FreePool(Buffer=0x123) = INVALID_PARAMETER');
    });
  });

  it('lets boot services go with the current key alone, and turns interrupts off', () => {
    const program = new ProgramWriter()
      .call('boot', boot('ExitBootServices'), 'handle', 0x999)
      .keep(STATUS)
      .call('boot', boot('GetMemoryMap'), DATA, DATA + 0x100, DATA + 8, DATA + 16, DATA + 24)
      .keep(STATUS + 8)
      .call('boot', boot('ExitBootServices'), 'handle', 0x76f + 1)
      .keep(STATUS + 16)
      .halt();
    return run(
      efiProgram(program),
      ({ firmware, status, machine }, cpu) => {
        expect([status(0), status(1)]).toEqual([EFI_STATUS.INVALID_PARAMETER, EFI_STATUS.SUCCESS]);
        // The image's own pages are the one change since the firmware came up.
        expect(machine.memory.read64(DATA + 8)).toBe(0x770n);
        expect(status(2)).toBe(0n);
        expect(firmware.bootServicesExited).toBe(true);
        expect(cpu.readRegister('rflags') & 0x200n).toBe(0n);
        expect(machine.memory.read64(DATA + 16)).toBe(48n);
      },
      { prepare: (machine) => machine.memory.write64(DATA, 0x4000n) },
    );
  });

  it('prints, and answers UNSUPPORTED where nobody wrote a service, which it says once', () => {
    const program = new ProgramWriter()
      .call('output', 8, 'this', DATA)
      .call('runtime', runtime('SetTime'), 0)
      .keep(STATUS)
      .call('runtime', runtime('SetTime'), 0)
      .halt();
    return run(
      efiProgram(program),
      ({ text, status, firmware }) => {
        expect(text).toBe('Hello\n');
        expect(status(0)).toBe(EFI_STATUS.UNSUPPORTED);
        expect(firmware.notices).toEqual([
          'the EFI service SetTime is not provided: it answered UNSUPPORTED 2 times',
        ]);
      },
      { prepare: (machine) => machine.memory.copyIn(DATA, char16Bytes('Hello\r\n')) },
    );
  });

  it('fails the call that a fault names, and no other', () => {
    const program = new ProgramWriter();
    for (let index = 0; index < 3; index++) {
      program.call('boot', boot('AllocatePages'), 0, 2, 1, DATA).keep(STATUS + index * 8);
    }
    return run(
      efiProgram(program.halt()),
      ({ status, calls }) => {
        expect([status(0), status(1), status(2)]).toEqual([0n, EFI_STATUS.OUT_OF_RESOURCES, 0n]);
        expect(calls[1]).toMatch(/= OUT_OF_RESOURCES \[injected\]$/);
      },
      { faults: [parseEfiFault('allocatepages:2=EFI_OUT_OF_RESOURCES')] },
    );
  });

  it('finds a protocol by its GUID, and answers its functions', () => {
    const guid = DATA + 0x100;
    const program = new ProgramWriter()
      .call('boot', boot('LocateProtocol'), guid, 0, DATA)
      .keep(STATUS)
      .callThrough(DATA, 8, 'this', 0, 16, DATA + 0x40)
      .keep(STATUS + 8)
      .halt();
    return run(
      efiProgram(program),
      ({ status, machine }) => {
        expect([status(0), status(1)]).toEqual([0n, 0n]);
        expect(machine.memory.read64(DATA + 0x40)).toBe(0x4242_4242_4242_4242n);
      },
      {
        configuration: { protocols: ['rng'] },
        prepare: (machine) => machine.memory.copyIn(guid, guidBytes(EFI_GUIDS.Rng)),
      },
    );
  });

  it('ends the run where a service is given an address without memory, and says which', () => {
    const program = new ProgramWriter()
      .call('boot', boot('SetMem'), 0x7fff_ffff_f000n, 0xffff_ffff_ffffn, 1)
      .halt();
    return run(efiProgram(program), ({ stopped }) => {
      expect(stopped).toMatch(/^SetMem was called with an address where there is no memory: /);
    });
  });

  it('refuses to wait for more events than memory can list', () => {
    const program = new ProgramWriter()
      .call('boot', boot('WaitForEvent'), 0xffff_ffff_ffffn, DATA, DATA + 0x40)
      .keep(STATUS)
      .halt();
    return run(efiProgram(program), ({ status }) => {
      expect(status(0)).toBe(EFI_STATUS.INVALID_PARAMETER);
    });
  });

  it('keeps variables, and tells how much room one needs', () => {
    const [name, vendor, value] = [DATA + 0x100, DATA + 0x140, DATA + 0x160];
    const program = new ProgramWriter()
      .call('runtime', runtime('SetVariable'), name, vendor, 6, 3, value)
      .keep(STATUS)
      .call('runtime', runtime('GetVariable'), name, vendor, 0, DATA, DATA + 0x40)
      .keep(STATUS + 8)
      .call('runtime', runtime('GetVariable'), name, vendor, DATA + 0x80, DATA, DATA + 0x40)
      .keep(STATUS + 16)
      .halt();
    return run(
      efiProgram(program),
      ({ status, machine }) => {
        expect([status(0), status(1), status(2)]).toEqual([0n, EFI_STATUS.BUFFER_TOO_SMALL, 0n]);
        expect([...machine.memory.copyOut(DATA + 0x40, 3)]).toEqual([7, 8, 9]);
        expect(machine.memory.read32(DATA + 0x80)).toBe(6);
      },
      {
        prepare: (machine) => {
          machine.memory.copyIn(name, char16Bytes('Name'));
          machine.memory.copyIn(vendor, guidBytes(EFI_GUIDS.LoaderInterface));
          machine.memory.copyIn(value, Uint8Array.of(7, 8, 9));
        },
      },
    );
  });

  it('loads an image from memory, starts it, and goes on with the status that it returned or left with', () => {
    const inner = [
      efiProgram(new ProgramWriter().returning(0x42n)),
      efiProgram(new ProgramWriter().call('boot', boot('Exit'), 'handle', 0x43, 0, 0).halt()),
    ];
    const program = new ProgramWriter();
    for (const [index, image] of inner.entries()) {
      const source = 0x400000 + index * 0x10000;
      program
        .call('boot', boot('LoadImage'), 0, 'handle', 0, source, image.length, DATA)
        .keep(STATUS + index * 16)
        .call('boot', boot('StartImage'), { at: DATA }, 0, 0)
        .keep(STATUS + index * 16 + 8);
    }
    return run(
      efiProgram(program.halt()),
      ({ status, firmware, calls }) => {
        expect([status(0), status(1), status(2), status(3)]).toEqual([0n, 0x42n, 0n, 0x43n]);
        expect(firmware.images.map(({ name }) => name)).toEqual(['program', 'image1', 'image2']);
        expect(calls.filter((call) => call.startsWith('Exit('))).toHaveLength(1);
      },
      {
        prepare: (machine) => {
          for (const [index, image] of inner.entries())
            machine.memory.copyIn(0x400000 + index * 0x10000, image);
        },
      },
    );
  });

  it('relocates an image that is loaded elsewhere than it is linked for', () => {
    // A block for page 1000h with one 64-bit relocation at offset 800h.
    const block = Uint8Array.of(0, 0x10, 0, 0, 12, 0, 0, 0, 0x00, 0xa8, 0, 0);
    const program = efiProgram(new ProgramWriter().halt(), block);
    new DataView(program.buffer).setBigUint64(0x200 + 0x800, 0x1800n, true);
    return run(program, ({ firmware, machine }) => {
      const { base } = firmware.images[0]!;
      expect(base).not.toBe(0);
      expect(machine.memory.read64(base + 0x1800)).toBe(BigInt(base + 0x1800));
    });
  });

  it('signals a timer when its time has come, and says that nobody will press a key', () => {
    const program = new ProgramWriter()
      .call('boot', boot('CreateEvent'), 0x8000_0000, 8, 0, 0, DATA)
      .call('boot', boot('SetTimer'), { at: DATA }, 2, 10_000_000)
      .call('boot', boot('WaitForEvent'), 1, DATA, DATA + 8)
      .keep(STATUS)
      .call('boot', boot('WaitForEvent'), 1, DATA, DATA + 8)
      .halt();
    return run(efiProgram(program), ({ status, machine, stopped }) => {
      expect(status(0)).toBe(0n);
      expect(machine.clock.nanoseconds).toBeGreaterThanOrEqual(1e9);
      expect(stopped).toMatch(/waits for an event that never comes/);
    });
  });

  it('ends the wait for a key while one is left, before any timer', () => {
    const readKeyStroke = 8;
    const conIn = SYSTEM_TABLE.conIn;
    const waited = (program: ProgramWriter): ProgramWriter =>
      program.call('boot', boot('WaitForEvent'), 2, DATA, DATA + 16);
    const program = waited(
      waited(
        new ProgramWriter()
          .call('boot', boot('CreateEvent'), 0x8000_0000, 8, 0, 0, DATA)
          .call('boot', boot('SetTimer'), { at: DATA }, 2, 10_000_000),
      )
        .callThrough(DATA + 24, readKeyStroke, 'this', DATA + 32)
        .keep(STATUS),
    );
    return run(
      efiProgram(program.halt()),
      ({ machine, status, calls, stopped }) => {
        expect(stopped).toBeNull();
        expect([status(0), machine.memory.read32(DATA + 32)]).toEqual([0n, 0x0d_0000]);
        const waits = calls.filter((call) => call.startsWith('WaitForEvent'));
        expect(waits.map((call) => /Index (\d)/.exec(call)?.[1])).toEqual(['1', '0']);
        expect(machine.clock.nanoseconds).toBeGreaterThanOrEqual(1e9);
      },
      {
        keys: 'enter',
        prepare: ({ cpu, memory }) => {
          const interface_ = memory.read64(Number(cpu.readRegister('rdx')) + conIn);
          memory.write64(DATA + 8, memory.read64(Number(interface_) + 16));
          memory.write64(DATA + 24, interface_);
        },
      },
    );
  });
});

describe('a fault to inject', () => {
  it('is named with the service, the call and the status', () => {
    expect(parseEfiFault('ExitBootServices:1=INVALID_PARAMETER')).toEqual({
      service: 'ExitBootServices',
      call: 1,
      status: EFI_STATUS.INVALID_PARAMETER,
    });
    expect(parseEfiFault('getvariable=EFI_DEVICE_ERROR')).toMatchObject({
      service: 'GetVariable',
      call: null,
    });
    expect(parseEfiFault('rng.getrng=DEVICE_ERROR')).toMatchObject({ service: 'Rng.GetRNG' });
  });

  it('is refused where there is no such service, status or call', () => {
    expect(() => parseEfiFault('AllocatePages')).toThrow(/is not SERVICE\[:N\]=STATUS/);
    expect(() => parseEfiFault('Allocate=NOT_FOUND')).toThrow(/no EFI service "Allocate"/);
    expect(() => parseEfiFault('AllocatePool=WRONG')).toThrow(/"WRONG" is no EFI status/);
    expect(() => parseEfiFault('AllocatePool:0=NOT_FOUND')).toThrow(/counted from 1/);
  });
});
