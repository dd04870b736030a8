// How an address is printed, in every message, table and file: lower-case hex with `0x`, no leading zeroes; its name behind it
// in angle brackets, as objdump writes it.

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** `0x1000000 <startup_64>`; the address alone where it has no name. */
export function withSymbol(address: string, symbol: string | null | undefined): string {
  return symbol == null ? address : `${address} <${symbol}>`;
}
