// For tests: EFI programs of a few instructions, which call services with constants and put what they get into registers.

const HEADERS = 0x200;
const CODE = 0x1000;

/** A PE32+ EFI application whose code is `.text` at 1000h. */
export function efiProgram(code: Uint8Array, relocations: Uint8Array | null = null): Uint8Array {
  const bytes = new Uint8Array(HEADERS + 0x1000 + (relocations === null ? 0 : 0x200));
  const view = new DataView(bytes.buffer);
  bytes.set([0x4d, 0x5a]);
  view.setUint32(0x3c, 0x40, true);
  bytes.set([0x50, 0x45, 0, 0, 0x64, 0x86], 0x40);
  view.setUint16(0x46, relocations === null ? 1 : 2, true);
  view.setUint16(0x54, 0xf0, true);
  const optional = 0x58;
  view.setUint16(optional, 0x20b, true);
  view.setUint32(optional + 16, CODE, true);
  view.setUint32(optional + 32, 0x1000, true);
  view.setUint32(optional + 36, 0x200, true);
  view.setUint32(optional + 56, relocations === null ? 0x2000 : 0x3000, true);
  view.setUint32(optional + 60, HEADERS, true);
  view.setUint16(optional + 68, 10, true);
  view.setUint32(optional + 108, 16, true);
  const section = (index: number, name: string, address: number, offset: number, size: number): void => {
    const at = optional + 0xf0 + index * 40;
    for (let letter = 0; letter < name.length; letter++) bytes[at + letter] = name.charCodeAt(letter);
    view.setUint32(at + 8, size, true);
    view.setUint32(at + 12, address, true);
    view.setUint32(at + 16, size, true);
    view.setUint32(at + 20, offset, true);
  };
  section(0, '.text', CODE, HEADERS, 0x1000);
  bytes.set(code, HEADERS);
  if (relocations !== null) {
    section(1, '.reloc', 0x2000, HEADERS + 0x1000, 0x200);
    bytes.set(relocations, HEADERS + 0x1000);
    view.setUint32(optional + 112 + 40, 0x2000, true);
    view.setUint32(optional + 112 + 44, relocations.length, true);
  }
  return bytes;
}

/** Where a pointer to a table is taken from: EFI_SYSTEM_TABLE's offsets. */
const TABLES = { boot: 0x60, runtime: 0x58, output: 0x40 } as const;

/** mov rcx / rdx, a register. */
const REGISTER_MOVES = [
  { fromR10: [0x4c, 0x89, 0xd1], fromRbp: [0x48, 0x89, 0xe9], fromRax: [0x48, 0x89, 0xc1] },
  { fromR10: [0x4c, 0x89, 0xd2], fromRbp: [0x48, 0x89, 0xea], fromRax: [0x48, 0x89, 0xc2] },
] as const;

/** A constant; in the first two places also the image's handle, the table itself, or eight bytes of memory. */
type Argument = bigint | number | 'handle' | 'this' | { readonly at: number };

/** Puts a program together. RBX keeps the system table, RBP the image's handle. */
export class ProgramWriter {
  readonly #bytes: number[] = [];

  constructor() {
    // push rbx; push rbp; sub rsp, 68h; mov rbx, rdx; mov rbp, rcx
    this.#bytes.push(0x53, 0x55, 0x48, 0x83, 0xec, 0x68, 0x48, 0x89, 0xd3, 0x48, 0x89, 0xcd);
  }

  /** Calls the function at `offset` of a table. */
  call(table: keyof typeof TABLES, offset: number, ...args: readonly Argument[]): this {
    // mov r10, [rbx + table]
    this.#bytes.push(0x4c, 0x8b, 0x53, TABLES[table]);
    for (const [index, value] of args.entries()) this.#argument(index, value);
    // call [r10 + offset]
    this.#bytes.push(0x41, 0xff, 0x92, ...little(BigInt(offset), 4));
    return this;
  }

  /** mov r10, [address]; then calls the function at `offset` of what it points to. */
  callThrough(address: number, offset: number, ...args: readonly Argument[]): this {
    this.#bytes.push(0x49, 0xba, ...little(BigInt(address), 8), 0x4d, 0x8b, 0x12);
    for (const [index, value] of args.entries()) this.#argument(index, value);
    this.#bytes.push(0x41, 0xff, 0x92, ...little(BigInt(offset), 4));
    return this;
  }

  #argument(index: number, value: Argument): void {
    const moves = [
      [0x48, 0xb9],
      [0x48, 0xba],
      [0x49, 0xb8],
      [0x49, 0xb9],
    ][index];
    if (value === 'this') this.#bytes.push(...REGISTER_MOVES[index]!.fromR10);
    else if (value === 'handle') this.#bytes.push(...REGISTER_MOVES[index]!.fromRbp);
    else if (typeof value === 'object') {
      // mov rax, [at]; then as above
      this.#bytes.push(0x48, 0xa1, ...little(BigInt(value.at), 8), ...REGISTER_MOVES[index]!.fromRax);
    } else if (moves !== undefined) this.#bytes.push(...moves, ...little(BigInt(value), 8));
    else {
      // mov rax, value; mov [rsp + 20h + …], rax
      this.#bytes.push(
        0x48,
        0xb8,
        ...little(BigInt(value), 8),
        0x48,
        0x89,
        0x44,
        0x24,
        0x20 + (index - 4) * 8,
      );
    }
  }

  /** mov [address], rax: keeps a status. */
  keep(address: number): this {
    this.#bytes.push(0x48, 0xa3, ...little(BigInt(address), 8));
    return this;
  }

  /** HLT outside every service: the test looks. */
  halt(): Uint8Array {
    return Uint8Array.from([...this.#bytes, 0xf4]);
  }

  /** Returns to the firmware with a status. */
  returning(status: bigint): Uint8Array {
    return Uint8Array.from([
      ...this.#bytes,
      ...[0x48, 0xb8, ...little(status, 8)],
      ...[0x48, 0x83, 0xc4, 0x68, 0x5d, 0x5b, 0xc3],
    ]);
  }
}

function little(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, index) =>
    Number((BigInt.asUintN(64, value) >> BigInt(index * 8)) & 0xffn),
  );
}
