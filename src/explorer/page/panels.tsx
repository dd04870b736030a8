// The panels of the explorer that are its own: code, registers, memory, stops. The map and the events are the report's.

import { Component, type JSX, type RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { hex } from '../../hex.ts';
import { registerBits } from '../../report/page/register-bits.ts';
import { kindLabel } from '../../report/region-kinds.ts';
import type { ModelRegion } from '../../report/report-model.ts';
import type { EventKind } from '../../trace/boot-trace.ts';
import { STRUCTURE_NAMES, type StructureName } from '../../trace/decode/decode.ts';
import { type MemoryRange, parseRange } from '../../trace/memory-range.ts';
import { parsePlace, placeName } from '../../trace/place.ts';
import type { FieldLine } from '../protocol.ts';
import { type Breakpoint, type Explorer, MEMORY_LENGTH, type View } from './explorer.ts';
import type { FoundLine } from './found-lines.ts';

export interface PanelProps {
  readonly view: View;
  readonly explorer: Explorer;
}

export function Card(props: {
  readonly id: string;
  readonly title: string;
  readonly children: JSX.Element | readonly (JSX.Element | null)[];
}): JSX.Element {
  const { id, title, children } = props;
  return (
    <section class="card" id={id} aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>{title}</h2>
      {children}
    </section>
  );
}

/** What never goes on to the next line. */
const LEAVES = /^(data\d+ |o\d+ )*(jmp|ljmp|ret|retf|iret|sysret|sysexit)/;

export function CodePanel({ view, explorer }: PanelProps): JSX.Element {
  const { moment, breakpoints } = view;
  const set = new Set(breakpoints.flatMap((each) => (each.kind === 'place' ? [each.place] : [])));
  const leaves = moment?.code.findIndex(({ text }) => LEAVES.test(text)) ?? -1;
  const jump = leaves < 0 ? Number.POSITIVE_INFINITY : leaves;
  return (
    <Card id="code" title="Next instructions">
      {moment === null || moment.code.length === 0 ? (
        <p class="hint">There is no code that the CPU could read at {moment?.address ?? 'its entry'}.</p>
      ) : (
        <ol class="code mono">
          {moment.code.map((line, index) => (
            <li
              key={line.address}
              class={`code-line${index === 0 ? ' now' : ''}${index > jump ? ' code-past' : ''}`}
              title={
                index > jump ? 'Behind a jump: the CPU does not come here from the line above' : undefined
              }
              aria-current={index === 0 ? 'step' : undefined}
            >
              <button
                type="button"
                class="code-stop"
                aria-pressed={set.has(line.address)}
                aria-label={`Stop at ${line.address}`}
                title={`Stop at ${line.address}`}
                onClick={() => toggle(explorer, breakpoints, line.address)}
              >
                {set.has(line.address) ? '●' : '○'}
              </button>
              <button
                type="button"
                class="link code-address"
                title="Run to here"
                onClick={() => explorer.runTo(line.address)}
              >
                {line.address}
              </button>
              <span class="code-bytes">{line.bytes}</span>
              <span class="code-text">{line.text}</span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

function toggle(explorer: Explorer, breakpoints: readonly Breakpoint[], place: string): void {
  const index = breakpoints.findIndex((each) => each.kind === 'place' && each.place === place);
  if (index >= 0) explorer.removeBreakpoint(index);
  else explorer.addBreakpoint({ kind: 'place', place });
}

/** Hex digits that two columns have no room for on a phone. */
const LONG_VALUE = 12;

export function RegistersPanel({ view, explorer }: PanelProps): JSX.Element {
  const { moment, before } = view;
  return (
    <Card id="registers" title="Registers">
      <dl class="registers">
        {Object.entries(moment?.registers ?? {}).map(([name, value]) => {
          const old = before?.registers[name] ?? value;
          const bits = registerBits(name, value);
          return (
            <div
              key={name}
              class={`register${old === value ? '' : ' register-changed'}${bits === '' ? '' : ' register-wide'}${value.length > LONG_VALUE ? ' register-long' : ''}`}
            >
              <dt class="register-name">{name}</dt>
              <dd class="mono">
                <button
                  type="button"
                  class="link"
                  title={old === value ? `Memory at ${value}` : `Memory at ${value}; it was ${old}`}
                  onClick={() => explorer.lookAt(Number(value))}
                >
                  {value}
                </button>
                {bits === '' ? null : <span class="bits"> {bits}</span>}
              </dd>
            </div>
          );
        })}
      </dl>
    </Card>
  );
}

const ROW = 16;

/** The smallest region that holds the address: what lies there. */
export function regionAt(regions: readonly ModelRegion[], address: number): ModelRegion | null {
  let found: ModelRegion | null = null;
  for (const region of regions) {
    if (region.start > address || region.end <= address) continue;
    if (found === null || region.end - region.start < found.end - found.start) found = region;
  }
  return found;
}

export function MemoryPanel({ view, explorer }: PanelProps): JSX.Element {
  const { memory, memoryAt, moment } = view;
  const [asked, setAsked] = useState('');
  const [wrong, setWrong] = useState('');
  const regions = moment?.regions ?? [];
  const rows =
    memory === null ? [] : Array.from({ length: Math.ceil(memory.bytes.length / ROW) }, (_, row) => row);
  const names = [
    ...new Map(rows.map((row) => [regionAt(regions, memoryAt + row * ROW)?.name ?? '', row])).keys(),
  ].filter((name) => name !== '');
  const go = (event: Event): void => {
    event.preventDefault();
    try {
      void explorer.lookAt(rangeOf(asked.trim(), regions, MEMORY_LENGTH).start);
      setWrong('');
    } catch (error) {
      setWrong(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Card id="bytes" title="Bytes">
      <form class="toolbar" onSubmit={go}>
        <label>
          <span class="visually-hidden">Address or region to look at</span>
          <input
            type="search"
            list="region-names"
            placeholder="0x90000 or a region"
            value={asked}
            onInput={(event) => setAsked(event.currentTarget.value)}
          />
        </label>
        <datalist id="region-names">
          {regions.map(({ name }) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <button type="submit">Look</button>
        <button
          type="button"
          class="tool"
          aria-label="Memory before"
          title="Memory before"
          onClick={() => explorer.lookAt(Math.max(0, memoryAt - MEMORY_LENGTH))}
        >
          ↑
        </button>
        <button
          type="button"
          class="tool"
          aria-label="Memory after"
          title="Memory after"
          onClick={() => explorer.lookAt(memoryAt + MEMORY_LENGTH)}
        >
          ↓
        </button>
        <span class="hint">{names.length === 0 ? 'in no region' : names.join(', ')}</span>
      </form>
      {wrong === '' ? null : <p role="alert">{wrong}</p>}
      <div class="scroll">
        <table class="hexdump mono" aria-label={`Memory from ${hex(memoryAt)} on`}>
          <tbody>
            {rows.map((row) => {
              const start = memoryAt + row * ROW;
              const region = regionAt(regions, start);
              return (
                <HexRow
                  key={row}
                  start={start}
                  bytes={memory!.bytes.subarray(row * ROW, row * ROW + ROW)}
                  before={memory!.before?.subarray(row * ROW, row * ROW + ROW) ?? null}
                  kind={region?.kind ?? null}
                  where={region === null ? 'in no region' : `${region.name} (${kindLabel(region.kind)})`}
                  explorer={explorer}
                />
              );
            })}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

interface HexRowProps {
  readonly start: number;
  readonly bytes: Uint8Array;
  readonly before: Uint8Array | null;
  /** Of the region that it lies in. */
  readonly kind: string | null;
  /** For people. */
  readonly where: string;
  readonly explorer: Explorer;
}

/** Of hundreds of bytes a step changes few. */
class HexRow extends Component<HexRowProps> {
  override shouldComponentUpdate(next: Readonly<HexRowProps>): boolean {
    const { start, bytes, before, kind, where } = this.props;
    const marks = (row: Uint8Array, old: Uint8Array | null): string =>
      row.reduce(
        (text, byte, index) => `${text}${byte}${old !== null && old[index] !== byte ? '!' : ','}`,
        '',
      );
    return (
      next.start !== start ||
      next.kind !== kind ||
      next.where !== where ||
      marks(next.bytes, next.before) !== marks(bytes, before)
    );
  }

  override render(): JSX.Element {
    const { start, before, kind, where, explorer } = this.props;
    const row = Array.from(this.props.bytes);
    return (
      <tr>
        <th scope="row">{hex(start)}</th>
        <td>
          <span class={`swatch ${kind === null ? '' : `k-${kind}`}`} title={where} />
        </td>
        <td class="hex-bytes">
          {row.map((byte, index) => {
            const changed = before !== null && before[index] !== byte;
            return (
              <button
                key={index}
                type="button"
                tabIndex={-1}
                class={changed ? 'byte byte-changed' : 'byte'}
                title={`Who wrote ${hex(start + index)}?`}
                onClick={() => explorer.askWho(start + index, start + index + 1)}
              >
                {byte.toString(16).padStart(2, '0')}
              </button>
            );
          })}
        </td>
        <td class="hex-text" aria-hidden="true">
          {row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('')}
        </td>
        <td>
          <button
            type="button"
            class="link"
            title={`Stop when something writes to ${hex(start)}..${hex(start + ROW)}`}
            onClick={() =>
              explorer.addBreakpoint({ kind: 'write', range: { start: hex(start), end: hex(start + ROW) } })
            }
          >
            stop on write
          </button>{' '}
          <button
            type="button"
            class="link"
            title={`Who wrote ${hex(start)}..${hex(start + ROW)}?`}
            onClick={() => explorer.askWho(start, start + ROW)}
          >
            who wrote it
          </button>
        </td>
      </tr>
    );
  }
}

export function WhoPanel({ view, explorer }: PanelProps): JSX.Element | null {
  const { who } = view;
  const asked = who === null ? '' : who.range.start;
  // What was asked for may be shown out of sight of the byte that was chosen.
  useEffect(() => {
    if (asked !== '') document.querySelector('#who')?.scrollIntoView({ block: 'nearest' });
  }, [asked, who?.writers]);
  if (who === null) return null;
  const { range, writers } = who;
  return (
    <Card id="who" title={`Who wrote ${range.start}..${range.end}`}>
      <button type="button" class="tool" aria-label="Close" onClick={() => explorer.forgetWho()}>
        ×
      </button>
      {writers === null ? (
        <p role="status">The boot is run again to find out.</p>
      ) : writers.length === 0 ? (
        <p>Nobody has written there so far.</p>
      ) : (
        <ol class="writers mono">
          {writers.map(({ text, instructions }) => (
            <li key={text}>
              {instructions === null ? null : (
                <button type="button" class="link" onClick={() => explorer.goTo(`#${instructions}`)}>
                  #{instructions}
                </button>
              )}{' '}
              {instructions === null ? text : text.replace(/^\s*#\d+ /, '')}
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

/** Events that one stops at, as people call them. */
const EVENT_STOPS: readonly (readonly [EventKind, string])[] = [
  ['bios', 'BIOS call'],
  ['efi', 'EFI call'],
  ['port', 'port access'],
  ['mode', 'mode switch'],
  ['control-register', 'control register'],
  ['msr', 'MSR'],
  ['descriptor-table', 'descriptor table'],
  ['exception', 'exception'],
];

export function StopsPanel({ view, explorer }: PanelProps): JSX.Element {
  const [text, setText] = useState('');
  const [wrong, setWrong] = useState('');
  const add = (event: Event): void => {
    event.preventDefault();
    try {
      explorer.addBreakpoint(parseBreakpoint(text.trim(), explorer.view.moment?.regions ?? []));
      setWrong('');
      setText('');
    } catch (error) {
      setWrong(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Card id="stops" title="Stops">
      <form class="toolbar" onSubmit={add}>
        <label>
          <span class="visually-hidden">Where to stop</span>
          <input
            type="search"
            placeholder="startup_64, bios=0x13, port=0x64, write 0x90000..0x90200"
            title="A phase, an address, a number of instructions, an event, or write and a range or region"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <button type="submit">Set</button>
      </form>
      {wrong === '' ? null : <p role="alert">{wrong}</p>}
      <fieldset class="chips" aria-label="Stop before each">
        <span class="hint">before each</span>
        {EVENT_STOPS.map(([event, label]) => (
          <button
            key={event}
            type="button"
            class="chip"
            aria-pressed={view.breakpoints.some((each) => each.kind === 'place' && each.place === event)}
            onClick={() => toggle(explorer, view.breakpoints, event)}
          >
            {label}
          </button>
        ))}
      </fieldset>
      {view.breakpoints.length === 0 ? (
        <p class="hint">None is set: continuing runs to the end of the boot.</p>
      ) : (
        <ul class="stops">
          {view.breakpoints.map((each, index) => {
            const name = nameOf(each);
            return (
              <li key={name}>
                <span class="mono">{name}</span>
                <button
                  type="button"
                  class="tool"
                  aria-label={`Remove ${name}`}
                  onClick={() => explorer.removeBreakpoint(index)}
                >
                  ×
                </button>
              </li>
            );
          })}
        </ul>
      )}
    </Card>
  );
}

function nameOf(breakpoint: Breakpoint): string {
  switch (breakpoint.kind) {
    case 'place': {
      const place = parsePlace(breakpoint.place);
      const each = place.kind === 'event' && place.number === null;
      const [, label] = EVENT_STOPS.find(([event]) => event === breakpoint.place) ?? [];
      return each ? `each ${label ?? breakpoint.place}` : breakpoint.place;
    }
    case 'write':
      return `write ${breakpoint.range.start}..${breakpoint.range.end}`;
  }
}

/** `write` with a range or a region, or a place, both in the grammar that every command has. */
function parseBreakpoint(text: string, regions: readonly ModelRegion[]): Breakpoint {
  const [, written] = /^write\s+(.+)$/i.exec(text) ?? [];
  if (written === undefined) return { kind: 'place', place: placeName(parsePlace(text)) };
  const { start, end } = rangeOf(written, regions, 1);
  return { kind: 'write', range: { start: hex(start), end: hex(end) } };
}

function rangeOf(text: string, regions: readonly ModelRegion[], single: number): MemoryRange {
  const named = regions.map((region) => ({
    ...region,
    start: BigInt(region.start),
    end: BigInt(region.end),
  }));
  return parseRange(text, named as never, single);
}

/** By name or address, in the whole boot: phases lead to their moment, what lies in memory to its bytes. */
export function FindPanel(props: {
  readonly explorer: Explorer;
  readonly input: RefObject<HTMLInputElement | null>;
}): JSX.Element {
  const { explorer, input } = props;
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const [found, setFound] = useState<readonly FoundLine[] | null>([]);
  const find = (event: Event): void => {
    event.preventDefault();
    setAsked(text.trim());
    setFound(null);
    void explorer.find(text.trim()).then(setFound);
  };
  return (
    <Card id="find" title="Find">
      <form class="toolbar" onSubmit={find}>
        <label>
          <span class="visually-hidden">Name or address to find</span>
          <input
            ref={input}
            type="search"
            placeholder="start_kernel, heap, 0x1000000"
            title="A phase, a region, a symbol of the kernel, or an address (/)"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <button type="submit">Find</button>
      </form>
      {asked === '' ? null : found === null ? (
        <p role="status">Looking for {asked}.</p>
      ) : found.length === 0 ? (
        <p role="status">Nothing is called {asked}.</p>
      ) : (
        <ol class="found">
          {found.map(({ kind, name, address }) => (
            <li key={`${kind} ${name} ${address}`}>
              <button
                type="button"
                class="link mono"
                onClick={() => (address === null ? explorer.goTo(name) : explorer.lookAt(Number(address)))}
              >
                {name}
              </button>{' '}
              <span class="hint">
                {kind}
                {address === null ? '' : ` at ${address}`}
              </span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

/** Structures whose fields the machine knows where to find. */
export function StructuresPanel({ view, explorer }: PanelProps): JSX.Element {
  const [name, setName] = useState<StructureName | ''>('');
  const [fields, setFields] = useState<readonly FieldLine[]>([]);
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    if (name === '') return;
    let stale = false;
    explorer.decode(name).then(
      (found) => {
        if (stale) return;
        setFields(found);
        setWrong('');
      },
      (error: unknown) => {
        if (stale) return;
        setFields([]);
        setWrong(error instanceof Error ? error.message : String(error));
      },
    );
    return () => {
      stale = true;
    };
  }, [name, view.moment, explorer]);
  return (
    <Card id="structures" title="Structures">
      <div class="chips">
        {STRUCTURE_NAMES.map((each) => (
          <button
            key={each}
            type="button"
            class="chip"
            aria-pressed={each === name}
            onClick={() => setName(each === name ? '' : each)}
          >
            {each}
          </button>
        ))}
      </div>
      {name === '' ? (
        <p class="hint">Choose one to see its fields at this moment.</p>
      ) : wrong !== '' ? (
        <p role="alert">{wrong}</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, also by keyboard
        <section class="scroll fields" tabIndex={0} aria-label={`Fields of ${name}`}>
          <table>
            <thead>
              <tr>
                <th>field</th>
                <th>address</th>
                <th>value</th>
              </tr>
            </thead>
            <tbody>
              {fields.map((field) => (
                <tr key={`${field.name} ${field.address}`}>
                  <td class="mono">{field.name}</td>
                  <td class="mono">
                    <button type="button" class="link" onClick={() => explorer.lookAt(Number(field.address))}>
                      {field.address}
                    </button>
                  </td>
                  <td class="mono">{field.text}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </Card>
  );
}
