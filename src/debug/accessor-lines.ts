// Those who wrote or read a range of memory, a line each: when, what did it, and what was there before and after.

import { hex } from '../hex.ts';
import { hexDigits } from '../host/host.ts';
import type { Json } from '../report/json.ts';
import { PHASE_NAMES } from '../trace/boot-trace.ts';
import type { Accessor } from './writers.ts';

const COUNT_WIDTH = 10;
const PHASE_WIDTH = Math.max(...PHASE_NAMES.map(({ length }) => length));

/** @param symbol - name of the instruction's address */
export function accessorLine(accessor: Accessor, symbol: string | null): string {
  const { phase, first, count, last } = accessor;
  const when = first === null ? '' : `#${first}`;
  const again = count === 1 ? '' : ` (${count} times${last === null ? '' : `, to #${last}`})`;
  return `${when.padStart(COUNT_WIDTH)} ${(phase ?? '').padEnd(PHASE_WIDTH)} ${whoText(accessor, symbol)}${again}: ${valueText(accessor)}`;
}

function whoText({ by, instruction, what, source, start }: Accessor, symbol: string | null): string {
  const from = source === null ? '' : ` from ${hex(source)}`;
  if (instruction !== null) {
    const { address, mode, text } = instruction;
    const did = by === 'guest' ? '' : ` (${by}${from})`;
    return `${hex(address)} ${mode} ${symbol === null ? '' : `<${symbol}> `}${text}${did}`;
  }
  const role = what === null ? '' : ` (${what})`;
  return by === 'loader' ? `the loader${role} at ${hex(start)}` : `${by}${role}`;
}

function valueText({ by, at, before, after, start, end, count }: Accessor): string {
  const digits = (bytes: Uint8Array): string =>
    Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const more = end - start > after.length && count === 1 ? ' …' : '';
  const changed = before.length === 0 || by === 'loader' ? '' : `${digits(before)}${more} -> `;
  return `${hex(at)}: ${changed}${digits(after)}${more}${count === 1 && end - start <= after.length ? '' : ` of ${hex(start)}..${hex(end)}`}`;
}

export function accessorJson(accessor: Accessor, symbol: string | null): Json {
  const { instruction, start, end, at, before, after, source, ...rest } = accessor;
  return {
    ...rest,
    ...{ start: hex(start), end: hex(end), at: hex(at), before: hexDigits(before), after: hexDigits(after) },
    source: source === null ? null : hex(source),
    instruction:
      instruction === null
        ? null
        : {
            ...{ address: hex(instruction.address), mode: instruction.mode, text: instruction.text },
            ...{ bytes: hexDigits(instruction.bytes), ...(symbol === null ? {} : { symbol }) },
          },
  };
}
