// Names of the bits in control registers, EFER and RFLAGS (Intel SDM 3A 2.3, 2.5; AMD APM 2, 3.1.7).

const BITS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  cr0: {
    0: 'PE',
    1: 'MP',
    2: 'EM',
    3: 'TS',
    4: 'ET',
    5: 'NE',
    16: 'WP',
    18: 'AM',
    29: 'NW',
    30: 'CD',
    31: 'PG',
  },
  cr4: {
    0: 'VME',
    1: 'PVI',
    2: 'TSD',
    3: 'DE',
    4: 'PSE',
    5: 'PAE',
    6: 'MCE',
    7: 'PGE',
    8: 'PCE',
    9: 'OSFXSR',
    10: 'OSXMMEXCPT',
    11: 'UMIP',
    12: 'LA57',
    16: 'FSGSBASE',
    17: 'PCIDE',
    18: 'OSXSAVE',
    20: 'SMEP',
    21: 'SMAP',
  },
  efer: { 0: 'SCE', 8: 'LME', 10: 'LMA', 11: 'NXE' },
  rflags: {
    0: 'CF',
    2: 'PF',
    4: 'AF',
    6: 'ZF',
    7: 'SF',
    8: 'TF',
    9: 'IF',
    10: 'DF',
    11: 'OF',
    17: 'VM',
    21: 'ID',
  },
};

/** `PE ET PG` for a value in hex; empty for a register without named bits. */
export function registerBits(name: string, value: string): string {
  const bits = BITS[name];
  if (bits === undefined) return '';
  const number = BigInt(value);
  return Object.entries(bits)
    .filter(([bit]) => ((number >> BigInt(bit)) & 1n) === 1n)
    .map(([, text]) => text)
    .join(' ');
}
