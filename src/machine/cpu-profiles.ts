// What CPUID answers: a few named processors, with only what the engine's own CPU can really do. Those of today have their vendor,
// family, name, address widths and LA57 as such processors tell them, and of their features what runs.

import { BootscopeError } from '../error.ts';

/** [EAX, EBX, ECX, EDX]. */
export type CpuidResult = readonly [number, number, number, number];

export interface CpuProfile {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** By leaf; an absent leaf reads zeroes, one above the highest reads as the highest basic leaf. */
  readonly leaves: ReadonlyMap<number, CpuidResult>;
}

// Feature bits (Intel SDM 2A, CPUID).
const LEAF_1_ECX_RDRAND = 1 << 30;
const LEAF_1_EDX_TSC = 1 << 4;
const LEAF_1_EDX_PAE = 1 << 6;
const LEAF_7_EBX_BMI1 = 1 << 3;
const LEAF_7_EBX_BMI2 = 1 << 8;
const LEAF_7_EBX_ADX = 1 << 19;
const LEAF_7_ECX_LA57 = 1 << 16;
const LEAF_80000001_ECX_3DNOW_PREFETCH = 1 << 8;

const BASIC = 0x0;
const FEATURES = 0x1;
const CACHES = 0x2;
const MONITOR = 0x5;
const STRUCTURED_FEATURES = 0x7;
const TOPOLOGY = 0xb;
const HYPERVISOR_LEAF = 0x40000000;
const EXTENDED = 0x80000000;
const EXTENDED_FEATURES = 0x80000001;
const BRAND_STRING = 0x80000002;
const L1_CACHES = 0x80000005;
const L2_CACHE = 0x80000006;
const ADDRESS_SIZES = 0x80000008;

const NOTHING: CpuidResult = [0, 0, 0, 0];

const AMD: readonly [number, number, number] = vendor('AuthenticAMD');
const INTEL: readonly [number, number, number] = vendor('GenuineIntel');

/** Leaves that tell of a hypervisor: QEMU's TCG, of which the engine is a part. */
const HYPERVISOR: readonly (readonly [number, CpuidResult])[] = [
  [HYPERVISOR_LEAF, [0x40000001, words('TCGT', 1)[0]!, words('CGTC', 1)[0]!, words('GTCG', 1)[0]!]],
];

/** Feature words of QEMU 7.2's `-cpu qemu64` under TCG, as of all the words below unless they say otherwise. */
const QEMU64_FEATURES: CpuidResult = [0x00060fb1, 0x00000800, 0x80002001 | 0, 0x078bfbfd];
const QEMU64_EXTENDED_FEATURES: CpuidResult = [0x00060fb1, 0, 0x00000005, 0x2193fbfd | 0];

const QEMU64 = profile('qemu64', "QEMU's default x86-64 processor", [
  [BASIC, [0x0d, ...AMD]],
  [FEATURES, QEMU64_FEATURES],
  [MONITOR, [0, 0, 3, 0]],
  [TOPOLOGY, [0, 1, 0x100, 0]],
  [EXTENDED, [0x8000000a, ...AMD]],
  [EXTENDED_FEATURES, QEMU64_EXTENDED_FEATURES],
  ...brandString('QEMU Virtual CPU version 2.5+'),
  [L1_CACHES, [0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140]],
  [L2_CACHE, [0, 0x42004200, 0x02008140, 0x00808140]],
  [ADDRESS_SIZES, [0x3028, 0, 0, 0]],
  [0x8000000a, [1, 0x10, 0, 0]],
]);

/** Of Intel's processors: LAHF, LZCNT and PREFETCHW; SYSCALL, NX, 1-GiB pages, RDTSCP and long mode. No copy of leaf 1, as AMD has it. */
const INTEL_EXTENDED_ECX = 0x121;
const INTEL_EXTENDED_EDX = 0x2c10_0800;
/** What a brand string is filled up to with spaces where it is AMD's. */
const AMD_BRAND_LENGTH = 47;

/**
 * A processor of today, of which the CPUID dumps of InstLatx64 tell: those of an EPYC 9654, an EPYC 7763, a Xeon w7-2475X and a Core
 * i9-13900K.
 */
function current(
  name: string,
  brand: string,
  { vendor: maker, highestExtended, signature, physicalBits, la57 }: CurrentProcessor,
): CpuProfile {
  const [, ebx, ecx, edx] = QEMU64_FEATURES;
  const [, , extendedEcx, extendedEdx] = QEMU64_EXTENDED_FEATURES;
  const isAmdMade = maker === AMD;
  return profile(name, `${brand}, of its features what the engine has`, [
    [BASIC, [isAmdMade ? 0x10 : 0x20, ...maker]],
    [FEATURES, [signature, ebx, ecx | LEAF_1_ECX_RDRAND, edx]],
    [
      STRUCTURED_FEATURES,
      [0, LEAF_7_EBX_BMI1 | LEAF_7_EBX_BMI2 | LEAF_7_EBX_ADX, la57 ? LEAF_7_ECX_LA57 : 0, 0],
    ],
    [EXTENDED, [highestExtended, ...(isAmdMade ? AMD : ([0, 0, 0] as const))]],
    [
      EXTENDED_FEATURES,
      isAmdMade
        ? [signature, 0, extendedEcx, extendedEdx]
        : [0, 0, extendedEcx & INTEL_EXTENDED_ECX, extendedEdx & INTEL_EXTENDED_EDX],
    ],
    ...brandString(isAmdMade ? brand.padEnd(AMD_BRAND_LENGTH) : brand),
    [ADDRESS_SIZES, [((la57 ? 57 : 48) << 8) | physicalBits, 0, 0, 0]],
  ]);
}

interface CurrentProcessor {
  readonly vendor: readonly [number, number, number];
  readonly highestExtended: number;
  /** Leaf 1 EAX: family, model and stepping. */
  readonly signature: number;
  readonly physicalBits: number;
  readonly la57: boolean;
}

const PROFILES: readonly CpuProfile[] = [
  QEMU64,
  variant(QEMU64, 'la57', 'qemu64 with 5-level paging (LA57)', [
    [STRUCTURED_FEATURES, [0, 0, LEAF_7_ECX_LA57, 0]],
    [ADDRESS_SIZES, [0x3928, 0, 0, 0]],
  ]),
  variant(QEMU64, 'no-tsc', 'qemu64 without a time stamp counter, as `-cpu qemu64,-tsc`', [
    [FEATURES, [0x00060fb1, 0x00000800, 0x80002001 | 0, 0x078bfbfd & ~LEAF_1_EDX_TSC]],
  ]),
  variant(QEMU64, 'max', 'qemu64 with RDRAND: what a current processor offers and every engine can do', [
    [FEATURES, [0x00060fb1, 0x00000800, 0x80002001 | LEAF_1_ECX_RDRAND, 0x078bfbfd]],
    [EXTENDED_FEATURES, [0x00060fb1, 0, 0x00000005 | LEAF_80000001_ECX_3DNOW_PREFETCH, 0x2193fbfd | 0]],
    ...brandString('Bootscope Virtual CPU'),
  ]),
  current('epyc-genoa', 'AMD EPYC 9654 96-Core Processor', {
    ...{ vendor: AMD, highestExtended: 0x80000028, signature: 0x00a10f11, physicalBits: 52, la57: true },
  }),
  current('epyc-milan', 'AMD EPYC 7763 64-Core Processor', {
    ...{ vendor: AMD, highestExtended: 0x80000023, signature: 0x00a00f11, physicalBits: 48, la57: false },
  }),
  current('sapphire-rapids', 'Intel(R) Xeon(R) w7-2475X', {
    ...{ vendor: INTEL, highestExtended: ADDRESS_SIZES, signature: 0x000806f8, physicalBits: 52, la57: true },
  }),
  current('raptor-lake', '13th Gen Intel(R) Core(TM) i9-13900K', {
    ...{
      vendor: INTEL,
      highestExtended: ADDRESS_SIZES,
      signature: 0x000b0671,
      physicalBits: 46,
      la57: false,
    },
  }),
  profile('qemu32', 'a 32-bit processor with PAE and SSE3 (no long mode)', [
    [BASIC, [0x04, ...INTEL]],
    [FEATURES, [0x00000663, 0x00000800, 0x80000001 | 0, 0x0781abfd]],
    [CACHES, [0x00000001, 0, 0x4d, 0x002c307d]],
    [0x04, [0x00000121, 0x01c0003f, 0x0000003f, 1]],
    [EXTENDED, [0x80000004, ...INTEL]],
    [EXTENDED_FEATURES, [0x00000663, 0, 0, 0]],
    ...brandString('QEMU Virtual CPU version 2.5+'),
  ]),
  profile('pentium3', 'a 32-bit processor with PAE and SSE', [
    [BASIC, [0x03, ...INTEL]],
    [FEATURES, [0x00000673, 0x00000800, 0x80000000 | 0, 0x0383fbfd]],
    [CACHES, [0x00000001, 0, 0x4d, 0x002c307d]],
  ]),
  profile('pentium', 'a 32-bit processor of 1993: no CMOV, no PAE, no SSE', [
    [BASIC, [0x01, ...INTEL]],
    [FEATURES, [0x00000543, 0x00000800, 0x80000000 | 0, 0x008003bd]],
  ]),
];

export const DEFAULT_CPU_PROFILE = 'qemu64';

/** Names and descriptions of all profiles, the default first. */
export function cpuProfiles(): readonly { readonly name: string; readonly description: string }[] {
  return PROFILES.map(({ name, description }) => ({ name, description }));
}

/** @throws BootscopeError `machine-cpu-profile` for an unknown name */
export function findCpuProfile(name: string): CpuProfile {
  const found = PROFILES.find((each) => each.name === name);
  if (found === undefined) {
    const names = PROFILES.map((each) => each.name).join(', ');
    throw new BootscopeError('machine-cpu-profile', `CPU profile "${name}" is not known; there are ${names}`);
  }
  return found;
}

/** Whether the vendor that CPUID names is AMD. */
export function isAmd({ leaves }: CpuProfile): boolean {
  return leaves.get(BASIC)?.[1] === AMD[0];
}

/** MAXPHYADDR: as CPUID leaf 80000008h says, else 36 with PAE and 32 without (Intel SDM 3A 4.1.4). */
export function physicalAddressBits({ leaves }: CpuProfile): number {
  const stated = leaves.get(ADDRESS_SIZES)?.[0];
  if (stated !== undefined) return stated & 0xff;
  return (leaves.get(FEATURES)![3] & LEAF_1_EDX_PAE) !== 0 ? 36 : 32;
}

/** The CPUID instruction of a profile. */
export class Cpuid {
  readonly #leaves: ReadonlyMap<number, CpuidResult>;
  readonly #highestBasic: number;
  readonly #highestExtended: number;

  constructor({ leaves }: CpuProfile) {
    this.#leaves = leaves;
    this.#highestBasic = leaves.get(BASIC)![0];
    this.#highestExtended = leaves.get(EXTENDED)?.[0] ?? 0;
  }

  /** Whether the guest may use RDTSC. */
  get hasTsc(): boolean {
    return (this.read(FEATURES)[3] & LEAF_1_EDX_TSC) !== 0;
  }

  /** Whether the guest may use RDRAND. */
  get hasRdrand(): boolean {
    return (this.read(FEATURES)[2] & LEAF_1_ECX_RDRAND) !== 0;
  }

  /** @param leaf - EAX, unsigned. @param subleaf - ECX, for the leaves that look at it */
  read(leaf: number, subleaf = 0): CpuidResult {
    const unsigned = leaf >>> 0;
    if (unsigned === STRUCTURED_FEATURES && subleaf !== 0) return NOTHING;
    const highest = unsigned >= EXTENDED ? this.#highestExtended : this.#highestBasic;
    const isHypervisor = unsigned === HYPERVISOR_LEAF;
    return this.#leaves.get(unsigned > highest && !isHypervisor ? this.#highestBasic : unsigned) ?? NOTHING;
  }
}

function profile(
  name: string,
  description: string,
  leaves: readonly (readonly [number, CpuidResult])[],
): CpuProfile {
  return { name, description, leaves: new Map([...HYPERVISOR, ...leaves]) };
}

function variant(
  base: CpuProfile,
  name: string,
  description: string,
  changes: readonly (readonly [number, CpuidResult])[],
): CpuProfile {
  return { name, description, leaves: new Map([...base.leaves, ...changes]) };
}

/** EBX, ECX, EDX of leaf 0 for a vendor's 12 letters, which come in the order EBX, EDX, ECX. */
function vendor(name: string): readonly [number, number, number] {
  const [ebx, edx, ecx] = words(name, 3);
  return [ebx!, ecx!, edx!];
}

function brandString(text: string): readonly (readonly [number, CpuidResult])[] {
  const all = words(text, 12);
  return [0, 1, 2].map((i) => [
    BRAND_STRING + i,
    [all[i * 4]!, all[i * 4 + 1]!, all[i * 4 + 2]!, all[i * 4 + 3]!],
  ]);
}

function words(text: string, count: number): readonly number[] {
  const bytes = new Uint8Array(count * 4);
  bytes.set(new TextEncoder().encode(text));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => view.getUint32(i * 4, true));
}
