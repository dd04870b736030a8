// How a number of bytes is printed for people, in every message, table and page.

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** `0x4cc078` bytes as `4.8 MiB`; a whole number of units has no fraction, and below 1 KiB it is bytes. At most 10 columns. */
export function formatSize(bytes: number | bigint): string {
  let unit = 0;
  let value = Number(bytes);
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return value === 1 ? '1 byte' : `${value} bytes`;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}
