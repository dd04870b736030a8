// For tests: memory maps and command lines with the addresses that a real stub's own choose_random_location chose for them
// (Linux 6.1.192 for x86-64 and i386, executed on Unicorn with i8254 counts as its only entropy).

export interface KaslrScenario {
  readonly name: string;
  readonly bits: 32 | 64;
  /** [address, size, type] of each E820 entry. */
  readonly e820: readonly (readonly [number, number, number])[];
  readonly commandLine: string;
  readonly initrd?: readonly [address: number, size: number];
  /** Nodes of setup_data: [address, type, length of its data]. */
  readonly setupData?: readonly (readonly [number, number, number])[];
  readonly output?: number;
  readonly outputSize: number;
  readonly i8254: readonly number[];
  /** What the guest chose. */
  readonly physical: number;
  readonly virtual: number;
  readonly counts: number;
}

export const KASLR_RAM = 256 << 20;
export const KASLR_BOOT_PARAMS = 0x90000;
export const KASLR_COMMAND_LINE = 0x99000;
export const KASLR_INIT_SIZE = 0xbb4000;
export const KASLR_INPUT = 0x1a812c4;
export const KASLR_INPUT_LENGTH = 0xf2000;
export const KASLR_BUILD_STRING =
  '6.1.192 (bootscope@demo) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 Thu Jan  1 00:00:00 UTC 2026';

/** Writes a scenario's boot_params, command line and setup_data into zeroed memory. */
export function writeKaslrMemory(ram: Uint8Array, scenario: KaslrScenario): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const at = KASLR_BOOT_PARAMS;
  view.setUint8(at + 0x1e8, scenario.e820.length);
  for (const [index, [address, size, type]] of scenario.e820.entries()) {
    const entry = at + 0x2d0 + 20 * index;
    view.setBigUint64(entry, BigInt(address), true);
    view.setBigUint64(entry + 8, BigInt(size), true);
    view.setUint32(entry + 16, type, true);
  }
  ram.set(Buffer.from(`${scenario.commandLine}\0`, 'latin1'), KASLR_COMMAND_LINE);
  view.setUint32(at + 0x228, KASLR_COMMAND_LINE, true);
  view.setUint32(at + 0x260, KASLR_INIT_SIZE, true);
  if (scenario.initrd !== undefined) {
    view.setUint32(at + 0x218, scenario.initrd[0], true);
    view.setUint32(at + 0x21c, scenario.initrd[1], true);
  }
  let next = 0;
  for (const [address, type, length] of scenario.setupData ?? []) {
    view.setBigUint64(address, BigInt(next), true);
    view.setUint32(address + 8, type, true);
    view.setUint32(address + 12, length, true);
    next = address;
  }
  view.setBigUint64(at + 0x250, BigInt(next), true);
}

const PC: KaslrScenario['e820'] = [
  [0, 0x9fc00, 1],
  [0xf0000, 0x10000, 2],
  [0x100000, 0x1fe00000, 1],
  [0x1ff00000, 0x100000, 2],
];
const LARGE: KaslrScenario['e820'] = [
  [0, 0x9fc00, 1],
  [0x100000, 0xbff00000, 1],
  [0x100000000, 0x140000000, 1],
];

export const KASLR_SCENARIOS: readonly KaslrScenario[] = [
  {
    name: 'a PC of 512 MiB',
    bits: 64,
    e820: PC,
    commandLine: 'quiet',
    outputSize: 0xb47998,
    i8254: [1, 2],
    physical: 0xfc00000,
    virtual: 0x34e00000,
    counts: 2,
  },
  {
    name: 'the same with other entropy',
    bits: 64,
    e820: PC,
    commandLine: 'quiet',
    outputSize: 0xb47998,
    i8254: [0xffff, 0x1234],
    physical: 0x1ee00000,
    virtual: 0x20c00000,
    counts: 2,
  },
  {
    name: 'an initrd and setup_data in the way',
    bits: 64,
    e820: PC,
    commandLine: '',
    initrd: [0x4000000, 0x18000000],
    setupData: [
      [0x3000000, 3, 0x80000],
      [0x2600000, 1, 0x100],
    ],
    outputSize: 0xb47998,
    i8254: [7, 8],
    physical: 0x1d200000,
    virtual: 0x33800000,
    counts: 2,
  },
  {
    name: 'memory above 4 GiB',
    bits: 64,
    e820: LARGE,
    commandLine: 'console=ttyS0',
    outputSize: 0x3000000,
    i8254: [300, 400],
    physical: 0x18d200000,
    virtual: 0x14800000,
    counts: 2,
  },
  {
    name: 'mem= below what the table says',
    bits: 64,
    e820: LARGE,
    commandLine: 'mem=64M',
    outputSize: 0xb47998,
    i8254: [5, 6],
    physical: 0x2000000,
    virtual: 0x2fa00000,
    counts: 2,
  },
  {
    name: 'mem= that leaves no room',
    bits: 64,
    e820: LARGE,
    commandLine: 'mem=20M',
    outputSize: 0xb47998,
    i8254: [5, 6],
    physical: 0x1000000,
    virtual: 0xaa00000,
    counts: 1,
  },
  {
    name: 'memmap= holes and a limit',
    bits: 64,
    e820: LARGE,
    commandLine: 'memmap=256M$512M,0x10000000#1G memmap=1G!4G memmap=6G',
    outputSize: 0xb47998,
    i8254: [9, 10],
    physical: 0x145e00000,
    virtual: 0x19000000,
    counts: 2,
  },
  {
    name: 'more than four memmap=',
    bits: 64,
    e820: LARGE,
    commandLine: 'memmap=1M$1G,1M$2G,1M$3G,1M$5G,1M$6G',
    outputSize: 0xb47998,
    i8254: [11, 12],
    physical: 0x1000000,
    virtual: 0x3a400000,
    counts: 1,
  },
  {
    name: 'pages of 1 GiB',
    bits: 64,
    e820: LARGE,
    commandLine: 'hugepagesz=1G hugepages=3 mem=5G',
    outputSize: 0xb47998,
    i8254: [13, 14],
    physical: 0x3dc00000,
    virtual: 0x9200000,
    counts: 2,
  },
  {
    name: 'options behind --',
    bits: 64,
    e820: LARGE,
    commandLine: 'quiet -- mem=64M',
    outputSize: 0xb47998,
    i8254: [15, 16],
    physical: 0x218800000,
    virtual: 0x3a800000,
    counts: 2,
  },
  {
    name: 'nokaslr',
    bits: 64,
    e820: PC,
    commandLine: 'nokaslr',
    outputSize: 0xb47998,
    i8254: [17, 18],
    physical: 0x1000000,
    virtual: 0x1000000,
    counts: 0,
  },
  {
    name: 'a kernel loaded at 64 MiB',
    bits: 64,
    e820: PC,
    commandLine: 'quiet',
    output: 0x4000000,
    outputSize: 0xb47998,
    i8254: [19, 20],
    physical: 0x1cc00000,
    virtual: 0x33c00000,
    counts: 2,
  },
  {
    name: 'i386',
    bits: 32,
    e820: PC,
    commandLine: 'quiet',
    outputSize: 0x33c000,
    i8254: [21, 22],
    physical: 0x1d400000,
    virtual: 0x1d400000,
    counts: 1,
  },
  {
    name: 'i386 with memory above 512 MiB and mem=',
    bits: 32,
    e820: LARGE,
    commandLine: 'mem=300M memmap=16M$48M',
    outputSize: 0x33c000,
    i8254: [23, 24],
    physical: 0x9000000,
    virtual: 0x9000000,
    counts: 1,
  },
];
