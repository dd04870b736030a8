// The events of a boot as text, a line each, as strace writes system calls: what was asked, what came back, what it did.

import { hex, withSymbol } from '../hex.ts';
import { type BootEvent, EVENT_KINDS, PHASE_NAMES } from '../trace/boot-trace.ts';

const longest = (words: readonly string[]): number => Math.max(...words.map(({ length }) => length));
const PHASE_WIDTH = longest(PHASE_NAMES);
const KIND_WIDTH = longest(EVENT_KINDS);
const COUNT_WIDTH = 10;
const ADDRESS_WIDTH = 10;

/** One line, without its end. */
export function eventLine(event: BootEvent): string {
  const { kind, phase, address, symbol, instructions } = event;
  const count = instructions === null ? '' : `#${instructions}`;
  return [
    count.padStart(COUNT_WIDTH),
    phase.padEnd(PHASE_WIDTH),
    hex(address).padStart(ADDRESS_WIDTH),
    kind.padEnd(KIND_WIDTH),
    symbol === undefined ? eventText(event) : `${withSymbol('', symbol).trim()} ${eventText(event)}`,
  ].join(' ');
}

function eventText({ kind, text, details }: BootEvent): string {
  if (kind === 'console') return JSON.stringify(text);
  const { service, carry, result } = details;
  if (kind !== 'bios' || service === undefined) return text;
  const output = registers(details, 'out ');
  return [
    `${service}(${registers(details, 'in ')})`,
    carry === true ? ` = failed${output === '' ? '' : `, ${output}`}` : output === '' ? '' : ` = ${output}`,
    result === null ? '' : `: ${result}`,
  ].join('');
}

/** `eax=0xe820, ebx=0x0`: the details whose names begin so. */
function registers(details: BootEvent['details'], prefix: string): string {
  return Object.entries(details)
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, value]) => `${name.slice(prefix.length)}=${value}`)
    .join(', ');
}
