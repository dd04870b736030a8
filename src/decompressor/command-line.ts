// The kernel's own ways of reading its command line in the boot stub; they differ in details that decide what KASLR avoids.

import { latin1Text } from '../host/host.ts';
import { BOOT_PARAMS_SIZE, BootParams } from '../protocol/boot-params.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';

/** The stub takes every character up to the space for one. */
const WORD_BREAK = /[^!-\uffff]/;

/** Numbers as simple_strtoull with base 0 reads them: 0x…, 0… (octal) or decimal; `end` is the offset behind the last digit. */
function parseNumber(text: string, start: number, forcedBase = 0): { value: bigint; end: number } {
  let base = forcedBase;
  let at = start;
  if (base === 0) {
    base = 10;
    if (text[at] === '0') {
      const isHex = (text[at + 1] === 'x' || text[at + 1] === 'X') && /[0-9a-fA-F]/.test(text[at + 2] ?? '');
      base = isHex ? 16 : 8;
    }
  }
  if (base === 16 && text[at] === '0' && (text[at + 1] === 'x' || text[at + 1] === 'X')) {
    at += 2;
  }
  let value = 0n;
  for (; at < text.length; at++) {
    const digit = Number.parseInt(text[at]!, 36);
    if (Number.isNaN(digit) || digit >= base) {
      break;
    }
    value = value * BigInt(base) + BigInt(digit);
  }
  return { value: BigInt.asUintN(64, value), end: at };
}

/** simple_strtoull; `end` equals `start` when there is no digit. */
export function simpleStrtoull(text: string, start = 0, base = 0): { value: bigint; end: number } {
  return parseNumber(text, start, base);
}

/** memparse: a number with an optional K, M, G, T, P or E behind it. */
export function memparse(text: string, start = 0): { value: bigint; end: number } {
  const { value, end } = parseNumber(text, start);
  const power = 'kmgtpe'.indexOf((text[end] ?? '').toLowerCase() || '-');
  return power < 0
    ? { value, end }
    : { value: BigInt.asUintN(64, value << BigInt(10 * (power + 1))), end: end + 1 };
}

/**
 * cmdline_find_option_bool: whether `option` is a word of the command line by itself.
 *
 * @param commandLine - null for a cmd_line_ptr of 0: the stub's function then returns -1, which its callers take for a yes
 */
export function hasOption(commandLine: string | null, option: string): boolean {
  return commandLine === null || commandLine.split(WORD_BREAK).includes(option);
}

/** cmdline_find_option: the value of the last `option=value`, at most `size - 1` characters; null without one. */
export function findOption(commandLine: string | null, option: string, size: number): string | null {
  const value = commandLine?.split(WORD_BREAK).findLast((word) => word.startsWith(`${option}=`));
  return value?.slice(option.length + 1, option.length + size) ?? null;
}

/** next_arg of lib/cmdline.c over the whole line: parameters with their values, quotes taken off. */
export function splitArguments(commandLine: string): { param: string; value: string | null }[] {
  const found: { param: string; value: string | null }[] = [];
  const isSpace = (character: string | undefined): boolean =>
    character !== undefined && /[ \t\n\v\f\r\u00a0]/.test(character);
  let at = 0;
  while (isSpace(commandLine[at])) {
    at++;
  }
  while (at < commandLine.length) {
    let inQuote = false;
    let quoted = false;
    if (commandLine[at] === '"') {
      at++;
      inQuote = true;
      quoted = true;
    }
    const start = at;
    let equals = 0;
    for (; at < commandLine.length; at++) {
      const character = commandLine[at]!;
      if (isSpace(character) && !inQuote) {
        break;
      }
      if (equals === 0 && character === '=') {
        equals = at - start;
      }
      if (character === '"') {
        inQuote = !inQuote;
      }
    }
    let text = commandLine.slice(start, at);
    let value: string | null = null;
    if (equals > 0) {
      value = text.slice(equals + 1);
      text = text.slice(0, equals);
      if (value.startsWith('"')) {
        value = value.slice(1);
        if (value.endsWith('"')) {
          value = value.slice(0, -1);
        }
      }
    }
    if (quoted) {
      if (value === null) {
        text = text.endsWith('"') ? text.slice(0, -1) : text;
      } else {
        value = value.endsWith('"') ? value.slice(0, -1) : value;
      }
    }
    found.push({ param: text, value });
    while (isSpace(commandLine[at])) {
      at++;
    }
  }
  return found;
}

/** The command line that boot_params points to, null for a pointer of 0; its address and size with the NUL. */
export function readGuestCommandLine(
  memory: PhysicalMemory,
  bootParams: number,
): { text: string | null; address: number; size: number } {
  const address = new BootParams(memory.view(bootParams, BOOT_PARAMS_SIZE)).commandLine;
  if (address === 0 || !memory.contains(address, 1)) {
    return { text: address === 0 ? null : '', address: 0, size: 0 };
  }
  // COMMAND_LINE_SIZE - 1
  const bytes = memory.viewUpTo(address, 2047);
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  return { text: latin1Text(bytes.subarray(0, length)), address, size: length + 1 };
}
