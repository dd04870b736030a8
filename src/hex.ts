// How an address is printed, in every message, table and file: lower-case hex with `0x`, no leading zeroes.

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
