import { describe, expect, it } from 'vitest';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import { HVM_START_INFO, readHvmStartInfo, writeHvmStartInfo } from './pvh.ts';

const PLACES = { startInfo: 0x1000, modules: 0x1100, memoryMap: 0x2000 };
const INFO = {
  flags: 0,
  modules: [{ address: 0x7f00_0000, size: 0x12_3456 }],
  commandLine: 0x20000,
  rsdp: 0xf_5000,
  memoryMap: [
    { address: 0n, size: 0x9fc00n, type: 1 },
    { address: 0x1_0000_0000n, size: 0x8000_0000n, type: 1 },
  ],
};

describe('hvm_start_info', () => {
  it('is read as it was written', () => {
    const memory = PhysicalMemory.of(new Uint8Array(0x4000));
    writeHvmStartInfo(memory, INFO, PLACES);
    expect(readHvmStartInfo(memory, PLACES.startInfo)).toEqual(INFO);
    expect(memory.read32(0x1000)).toBe(0x336ec578);
    expect(memory.read32(0x1030)).toBe(2);
  });

  it('is none where the magic is another', () => {
    const memory = PhysicalMemory.of(new Uint8Array(0x4000));
    expect(readHvmStartInfo(memory, 0x1000)).toBeNull();
    expect(readHvmStartInfo(memory, 0x3ff0)).toBeNull();
  });

  it('has fields that lie behind one another', () => {
    let end = 0;
    for (const { offset, size } of HVM_START_INFO) {
      expect(offset).toBe(end);
      end += size;
    }
    expect(end).toBe(0x38);
  });
});
