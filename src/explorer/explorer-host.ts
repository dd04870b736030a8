// The machine's side of the explorer: one held boot, moved and looked at by the page's commands, one at a time.

import { codeSegmentBase } from '../boot/cpu-mode.ts';
import { disassemble } from '../boot/instruction-decoder.ts';
import type { BootSession } from '../boot/session.ts';
import type { Stop } from '../boot/stop.ts';
import { accessorLine } from '../debug/accessor-lines.ts';
import { decodeContext } from '../debug/session-context.ts';
import { stopsAhead } from '../debug/stops-ahead.ts';
import { findAccessors } from '../debug/writers.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { fitModel, type ModelRegion, type ReportModel, reportModel } from '../report/report-model.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { decodeStructure } from '../trace/decode/decode.ts';
import { type KernelSymbols, readKernelSymbols } from '../trace/find-symbols.ts';
import { parsePlace, placeName } from '../trace/place.ts';
import { PhysicalMemory } from '../x86/physical-memory.ts';
import {
  type Answers,
  type CodeLine,
  type Command,
  type Message,
  type Moment,
  type OpenedBoot,
  parseRequest,
} from './protocol.ts';

export interface ExplorerBoots {
  readonly image: KernelImage;
  /** The boot that is held. */
  open(): Promise<BootSession>;
  /** The same boot, once more. */
  survey(): Promise<BootSession>;
}

const SHOWN_INSTRUCTIONS = 24;
const SHOWN_WRITERS = 20;
const FOUND_SYMBOLS = 160;
const PROGRESS_MILLISECONDS = 150;
/** Of the survey; a page holds more, but the message has to be made and read. */
const MAX_SURVEY_BYTES = 4_000_000;
const PAGE = 4096;

export class ExplorerHost {
  readonly #boots: ExplorerBoots;
  readonly #say: (message: Message) => void;
  #session: BootSession | null = null;
  /** A boot that nobody has asked for yet. */
  #opened: Promise<OpenedBoot> | null = null;
  #survey: Promise<ReportModel> | null = null;
  #whole: Promise<BootTrace> | null = null;
  #symbols: Promise<KernelSymbols | null> | null = null;
  /** Ends what is running. */
  #abort: AbortController | null = null;
  /** Commands follow one another; a boot has one position. */
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(boots: ExplorerBoots, say: (message: Message) => void) {
    this.#boots = boots;
    this.#say = say;
  }

  /** Does at once what a page that comes will ask for first, until it is done. */
  begin(first: 'open' | 'survey'): Promise<void> {
    const done = (): void => {};
    // Who asks is told why it failed.
    if (first === 'survey') {
      this.#survey ??= this.#makeSurvey();
      return this.#survey.then(done, done);
    }
    this.#opened = this.#open();
    this.#last = this.#opened.then(done, done);
    return this.#last;
  }

  /** Takes a message of the page's; what it leads to is said. */
  receive(text: string): void {
    let id = 0;
    let command: Command;
    try {
      ({ id, command } = parseRequest(text));
    } catch (error) {
      this.#fail(id, error);
      return;
    }
    if (command.do === 'cancel') {
      this.#abort?.abort();
      this.#say({ id, result: null });
      return;
    }
    const next = async (): Promise<void> => {
      if (this.#closed) return;
      try {
        this.#say({ id, result: await this.#answer(command) });
      } catch (error) {
        this.#fail(id, error);
      }
    };
    // What is asked of the whole boot must not keep the held one waiting.
    if (command.do === 'survey' || command.do === 'find') void next();
    else this.#last = this.#last.then(next);
  }

  close(): void {
    this.#closed = true;
    this.#abort?.abort();
    this.#last = this.#last.then(() => {
      this.#session?.close();
      this.#session = null;
    });
  }

  #fail(id: number, error: unknown): void {
    if (!(error instanceof BootscopeError)) throw error;
    this.#say({ id, error: { code: error.code, sentence: error.message } });
  }

  async #answer(command: Exclude<Command, { readonly do: 'cancel' }>): Promise<Answers[keyof Answers]> {
    switch (command.do) {
      case 'open': {
        const opened = this.#opened ?? this.#open();
        this.#opened = null;
        return opened;
      }
      case 'survey':
        this.#survey ??= this.#makeSurvey();
        return this.#survey;
      case 'run':
        return this.#move((session, signal) =>
          session.run({
            until: stopsAhead(session, command.until.map(parsePlace)),
            ...(command.writes.length === 0
              ? {}
              : {
                  writes: command.writes.map(({ start, end }) => ({
                    start: Number(start),
                    end: Number(end),
                  })),
                }),
            signal,
          }),
        );
      case 'step':
        return this.#move((session) =>
          command.instructions > 0
            ? session.step(command.instructions)
            : session.goTo(Math.max(0, (session.instructions ?? 0) + command.instructions)),
        );
      case 'goTo':
        return this.#move((session) => session.goTo(command.place));
      case 'read':
        return this.#read(Number(command.start), command.length);
      case 'disassemble':
        return codeAt(this.#held(), Number(command.start), command.count);
      case 'decode':
        return this.#decode(command);
      case 'find':
        return this.#find(command.text.trim());
      case 'who':
        return this.#who(Number(command.start), Number(command.end));
    }
  }

  async #open(): Promise<OpenedBoot> {
    this.#session?.close();
    this.#session = null;
    const session = await this.#boots.open();
    this.#session = session;
    const { image, machine } = session.trace();
    return {
      image: image.path,
      kernelVersion: image.kernelVersion,
      memory: machine.ram,
      engine: `Unicorn ${machine.engineVersion} (${machine.engine})`,
      moment: momentOf(session),
    };
  }

  async #makeSurvey(): Promise<ReportModel> {
    return fitModel(reportModel(await this.#wholeTrace()), MAX_SURVEY_BYTES);
  }

  /** Of the whole boot, which is run once more for it. */
  #wholeTrace(): Promise<BootTrace> {
    const run = async (): Promise<BootTrace> => {
      const session = await this.#boots.survey();
      try {
        await session.run();
        return session.trace();
      } finally {
        session.close();
      }
    };
    this.#whole ??= run();
    return this.#whole;
  }

  async #find(text: string): Promise<Answers['find']> {
    if (text === '') return [];
    this.#symbols ??= this.#wholeTrace().then((trace) => readKernelSymbols(this.#boots.image, trace));
    const symbols = await this.#symbols;
    if (symbols === null) return [];
    if (!/^0x[0-9a-f]+$/i.test(text)) {
      return symbols
        .named(text.toLowerCase(), FOUND_SYMBOLS)
        .map(({ name, physical }) => ({ name, address: hex(physical) }));
    }
    const name = symbols.nameAt(BigInt(text));
    return name === null ? [] : [{ name, address: hex(BigInt(text)) }];
  }

  async #move(action: (session: BootSession, signal: AbortSignal) => Promise<Stop>): Promise<Moment> {
    const session = this.#held();
    const abort = new AbortController();
    this.#abort = abort;
    const progress = setInterval(() => {
      this.#say({ progress: { phase: session.phase, instructions: session.instructions } });
    }, PROGRESS_MILLISECONDS);
    try {
      await action(session, abort.signal);
    } finally {
      clearInterval(progress);
      this.#abort = null;
    }
    return momentOf(session);
  }

  #read(start: number, length: number): Answers['read'] {
    const { memory } = this.#held();
    const end = Math.min(memory.size, start + length);
    const bytes = start < end ? memory.read(start, end - start) : new Uint8Array(0);
    return { start: hex(start), bytes: base64(bytes) };
  }

  #decode({ structure, start }: Extract<Command, { readonly do: 'decode' }>): Answers['decode'] {
    const context = decodeContext(this.#held(), start === null ? null : Number(start));
    return decodeStructure(structure, context).map(({ name, address, size, text }) => ({
      ...{ name, address: hex(address), size, text },
    }));
  }

  /** Found in another boot, so that this one keeps its place. */
  async #who(start: number, end: number): Promise<Answers['who']> {
    const { memory, instructions } = this.#held();
    if (end <= start || end > memory.size) {
      throw new BootscopeError('explorer-range', `${hex(start)}..${hex(end)} is no range of RAM`);
    }
    const session = await this.#boots.survey();
    try {
      const place = { kind: 'count', instructions: instructions ?? 0 } as const;
      const { accessors } = await findAccessors(session, this.#boots.image, { start, end }, 'write', place);
      return accessors
        .toReversed()
        .slice(0, SHOWN_WRITERS)
        .map((accessor) => ({
          instructions: accessor.last,
          text: accessorLine(accessor, { instruction: null, target: null }),
        }));
    } finally {
      session.close();
    }
  }

  #held(): BootSession {
    if (this.#session === null) throw new BootscopeError('explorer-not-open', 'no boot is open yet');
    return this.#session;
  }
}

function momentOf(session: BootSession): Moment {
  const { stop, registers } = session;
  return {
    reason: stop.reason,
    detail: detailOf(stop),
    phase: stop.phase,
    address: hex(stop.address),
    mode: stop.mode,
    instructions: stop.instructions ?? 0,
    ended: stop.reason === 'ended',
    registers: Object.fromEntries(Object.entries(registers).map(([name, value]) => [name, hex(value)])),
    code: codeAt(session, Number(stop.address), SHOWN_INSTRUCTIONS),
    regions: session.layout().map(modelRegion),
    console: session.machine.consoleText,
    events: session.events.length,
  };
}

function detailOf(stop: Stop): string {
  switch (stop.reason) {
    case 'breakpoint':
      return placeName(stop.place);
    case 'watchpoint': {
      const { start, end, by, instruction } = stop.access;
      const who = instruction === null ? by : `the instruction at ${hex(instruction)}`;
      return `${hex(start)}..${hex(end)} written by ${who}`;
    }
    case 'event':
      return stop.event.text;
    case 'ended':
      return stop.stopped ?? 'the jump into the kernel was reached';
    default:
      return '';
  }
}

function modelRegion(region: ReturnType<BootSession['layout']>[number]): ModelRegion {
  return {
    name: region.name,
    start: Number(region.start),
    end: Number(region.end),
    kind: region.kind,
    source: region.source,
    inferred: region.inferred === true,
    parent: region.parent ?? null,
    change: 'same',
    before: null,
  };
}

/** Instructions from a linear address on; none where it is not mapped. */
function codeAt(session: BootSession, address: number, count: number): readonly CodeLine[] {
  const { memory, stop } = session;
  // A window of whole pages: what is linear and near is physical and near only within them.
  const window = new Uint8Array(count * 15 + PAGE);
  let length = 0;
  while (length < window.length - PAGE) {
    const linear = address + length;
    const physical = memory.physical(linear);
    const room = PAGE - (linear % PAGE);
    if (physical === null || physical + room > memory.size) break;
    window.set(memory.read(physical, room), length);
    length += room;
  }
  const csBase = Number(codeSegmentBase(session.machine.cpu, stop.mode));
  const found = disassemble(
    PhysicalMemory.of(window.subarray(0, length)),
    { address: 0, mode: stop.mode, csBase: csBase - address },
    count,
    'intel',
  );
  return found.map(({ address: offset, bytes, text }) => ({
    address: hex(address + offset),
    bytes: Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(''),
    text,
  }));
}

function base64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
