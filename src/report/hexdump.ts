// Memory as `hexdump -C` shows it: address, sixteen bytes, the characters; runs of equal lines as one `*`.

const LINE = 16;
const ADDRESS_DIGITS = 8;

/** @param address - of the first byte; lines begin at multiples of 16 */
export function hexdump(bytes: Uint8Array, address: number): string {
  const lines: string[] = [];
  let last = '';
  let folded = false;
  const end = address + bytes.length;
  for (let line = address - (address % LINE); line < end; line += LINE) {
    const text = formatLine(bytes, address, line);
    // The last line is always shown, as its address says where the memory ends.
    if (text === last && line + LINE < end) {
      if (!folded) lines.push('*');
      folded = true;
      continue;
    }
    folded = false;
    last = text;
    lines.push(`${line.toString(16).padStart(ADDRESS_DIGITS, '0')}  ${text}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

function formatLine(bytes: Uint8Array, address: number, line: number): string {
  let digits = '';
  let characters = '';
  for (let index = 0; index < LINE; index++) {
    const byte = bytes[line + index - address];
    if (index === LINE / 2) digits += ' ';
    digits += byte === undefined ? '   ' : `${byte.toString(16).padStart(2, '0')} `;
    if (byte === undefined) characters += ' ';
    else characters += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.';
  }
  return `${digits} |${characters}|`;
}
