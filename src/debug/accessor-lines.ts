// Those who wrote or read a range of memory, a line each: when, what did it, and what was there before and after.

import { hex, withSymbol } from '../hex.ts';
import { hexDigits } from '../host/host.ts';
import type { Json } from '../report/json.ts';
import { PHASE_NAMES } from '../trace/boot-trace.ts';
import type { Accessor } from './writers.ts';

const COUNT_WIDTH = 10;
const PHASE_WIDTH = Math.max(...PHASE_NAMES.map(({ length }) => length));

/** What addresses are called; null for those without a name. */
export interface AccessorNames {
  readonly instruction: string | null;
  /** Of what was accessed, in the kernel as it is placed. */
  readonly target: string | null;
}

export function accessorLine(accessor: Accessor, names: AccessorNames): string {
  const { phase, first, count, last } = accessor;
  const when = first === null ? '' : `#${first}`;
  const again = count === 1 ? '' : ` (${count} times${last === null ? '' : `, to #${last}`})`;
  return `${when.padStart(COUNT_WIDTH)} ${(phase ?? '').padEnd(PHASE_WIDTH)} ${whoText(accessor, names.instruction)}${again}: ${valueText(accessor, names.target)}`;
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

function valueText({ by, at, before, after, start, end, count }: Accessor, target: string | null): string {
  const digits = (bytes: Uint8Array): string =>
    Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const more = end - start > after.length && count === 1 ? ' …' : '';
  const changed = before.length === 0 || by === 'loader' ? '' : `${digits(before)}${more} -> `;
  return `${withSymbol(hex(at), target ?? undefined)}: ${changed}${digits(after)}${more}${count === 1 && end - start <= after.length ? '' : ` of ${hex(start)}..${hex(end)}`}`;
}

export function accessorJson(accessor: Accessor, names: AccessorNames): Json {
  const symbol = names.instruction;
  const { instruction, start, end, at, before, after, source, ...rest } = accessor;
  return {
    ...rest,
    ...{ start: hex(start), end: hex(end), at: hex(at), before: hexDigits(before), after: hexDigits(after) },
    ...(names.target === null ? {} : { symbol: names.target }),
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
