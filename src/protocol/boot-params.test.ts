import { describe, expect, it } from 'vitest';
import {
  BOOT_PARAMS_FIELDS,
  BOOT_PARAMS_PARTS,
  BOOT_PARAMS_SIZE,
  BootParams,
  bootParamsOffset,
} from './boot-params.ts';

describe('the table of boot_params', () => {
  it('has fields that do not overlap, in the order of their offsets', () => {
    const behind = BOOT_PARAMS_FIELDS.slice(1);
    for (const [index, row] of behind.entries()) {
      const before = BOOT_PARAMS_FIELDS[index]!;
      expect(before.offset + before.size, row.name).toBeLessThanOrEqual(row.offset);
    }
  });

  it('has parts that fill it up to its end', () => {
    for (const { name, offset, size } of BOOT_PARAMS_PARTS) {
      expect(offset + size, name).toBeLessThanOrEqual(BOOT_PARAMS_SIZE);
    }
    expect(bootParamsOffset('e820_table') + 128 * 20).toBe(bootParamsOffset('eddbuf') - 0x30);
  });

  it('finds fields of the setup header at the same offsets as in an image', () => {
    expect(bootParamsOffset('loadflags')).toBe(0x211);
    expect(bootParamsOffset('init_size')).toBe(0x260);
  });
});

describe('boot_params in memory', () => {
  it('joins the halves of addresses above 4 GiB', () => {
    const memory = new Uint8Array(0x3000);
    const params = new BootParams(memory, 0x1000);
    params.commandLine = 0x1_8002_0000;
    params.initrd = { address: 0x2_4000_0000, size: 0x1_0000_0010 };
    expect([params.get('cmd_line_ptr'), params.get('ext_cmd_line_ptr')]).toEqual([0x8002_0000, 1]);
    expect(memory[0x10c8]).toBe(1);
    expect(params.commandLine).toBe(0x1_8002_0000);
    expect(params.initrd).toEqual({ address: 0x2_4000_0000, size: 0x1_0000_0010 });
    params.initrd = null;
    expect(params.initrd).toBeNull();
  });

  it('gives the memory map back as it was written', () => {
    const params = new BootParams(new Uint8Array(BOOT_PARAMS_SIZE));
    const map = [
      { address: 0n, size: 0x9fc00n, type: 1 },
      { address: 0x1_0000_0000n, size: 0xf_0000_0000n, type: 1 },
    ];
    params.memoryMap = map;
    expect(params.get('e820_entries')).toBe(2);
    expect(params.memoryMap).toEqual(map);
  });

  it('reads no more entries than the table holds', () => {
    const params = new BootParams(new Uint8Array(BOOT_PARAMS_SIZE));
    params.set('e820_entries', 255);
    expect(params.memoryMap).toHaveLength(128);
  });

  it('is refused where memory ends before it does', () => {
    expect(() => new BootParams(new Uint8Array(0x1fff), 0x1000)).toThrow(
      'boot_params at 0x1000 has 4096 bytes and does not lie in memory, which ends at 0x1fff',
    );
  });
});
