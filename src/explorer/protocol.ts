// What the explorer's page and the machine that it looks at say to each other: one message is one JSON text. The page cannot
// tell whether the other side is a server's child or a worker.

import { BootscopeError } from '../error.ts';
import type { ModelRegion, ReportModel } from '../report/report-model.ts';
import { STRUCTURE_NAMES, type StructureName } from '../trace/decode/decode.ts';

/** What the page asks for; each is answered once, in any order. Addresses are hex strings, as everywhere in JSON. */
export type Command =
  /** The machine at its first instruction; again, to start anew. */
  | { readonly do: 'open' }
  /** The whole boot, for the time line: it runs beside the one that is held. */
  | { readonly do: 'survey' }
  /** On, to the next of these places, or behind the first write into one of the ranges; or to the end. */
  | { readonly do: 'run'; readonly until: readonly string[]; readonly writes: readonly HexRange[] }
  /** So many instructions on, or back where it is negative. */
  | { readonly do: 'step'; readonly instructions: number }
  /** A place from the beginning of the boot, wherever it is held now. */
  | { readonly do: 'goTo'; readonly place: string }
  | { readonly do: 'read'; readonly start: string; readonly length: number }
  | { readonly do: 'disassemble'; readonly start: string; readonly count: number }
  /** A structure with its fields' names; `start` null: where the machine says that it is. */
  | { readonly do: 'decode'; readonly structure: StructureName; readonly start: string | null }
  /** Who wrote physical [start, end) up to this moment. */
  | { readonly do: 'who'; readonly start: string; readonly end: string }
  /** Symbols of the kernel that have the text in their names, or lie at an address. */
  | { readonly do: 'find'; readonly text: string }
  /** Ends what is running; it is answered where it stands then. */
  | { readonly do: 'cancel' };

/** Physical [start, end). */
export interface HexRange {
  readonly start: string;
  readonly end: string;
}

/** The moment a boot is held at. */
export interface Moment {
  /** `opened`, `phase`, `breakpoint`, `watchpoint`, `count`, `event`, `aborted`, `ended` …, as a stop's `reason`. */
  readonly reason: string;
  /** What a person should know of the stop beyond its reason; empty where there is nothing. */
  readonly detail: string;
  readonly phase: string | null;
  /** Linear. */
  readonly address: string;
  readonly mode: string;
  readonly instructions: number;
  /** It does not run on from here. */
  readonly ended: boolean;
  /** Values in hex, in the order of `REGISTER_NAMES`. */
  readonly registers: Readonly<Record<string, string>>;
  /** The next instructions. */
  readonly code: readonly CodeLine[];
  readonly regions: readonly ModelRegion[];
  readonly console: string;
  /** Of the events of the whole boot, those that have been. */
  readonly events: number;
}

/** A field of a structure in memory. */
export interface FieldLine {
  readonly name: string;
  readonly address: string;
  /** Bytes. */
  readonly size: number;
  /** For people. */
  readonly text: string;
}

export interface FoundSymbol {
  readonly name: string;
  /** Physical. */
  readonly address: string;
}

/** Somebody who wrote memory. */
export interface WriterLine {
  /** Where the last of its writes stands in the boot. */
  readonly instructions: number | null;
  /** For people. */
  readonly text: string;
}

export interface CodeLine {
  /** Linear. */
  readonly address: string;
  /** As hex digits. */
  readonly bytes: string;
  readonly text: string;
}

export interface OpenedBoot {
  readonly image: string;
  readonly kernelVersion: string | null;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly engine: string;
  readonly moment: Moment;
}

/** What each command is answered with. */
export interface Answers {
  readonly open: OpenedBoot;
  readonly survey: ReportModel;
  readonly run: Moment;
  readonly step: Moment;
  readonly goTo: Moment;
  /** Base64; shorter where RAM ends. */
  readonly read: { readonly start: string; readonly bytes: string };
  readonly disassemble: readonly CodeLine[];
  readonly decode: readonly FieldLine[];
  /** The last first, at most so many as are shown. */
  readonly who: readonly WriterLine[];
  /** The shortest names first, of very many only some. */
  readonly find: readonly FoundSymbol[];
  readonly cancel: null;
}

export interface Request {
  readonly id: number;
  readonly command: Command;
}

export type Message =
  | { readonly id: number; readonly result: Answers[keyof Answers] }
  | { readonly id: number; readonly error: { readonly code: string; readonly sentence: string } }
  /** While something runs. */
  | { readonly progress: { readonly phase: string | null; readonly instructions: number | null } }
  /** The machine is gone; nothing is answered any more. */
  | { readonly lost: string };

export const MAX_REQUEST_LENGTH = 0x10000;
export const MAX_READ_LENGTH = 0x4000;
const MAX_LINES = 200;
const MAX_PLACES = 100;
const MAX_STEPS = 1_000_000_000;

/**
 * @throws BootscopeError `explorer-message` for a text that is no request
 */
export function parseRequest(text: string): Request {
  if (text.length > MAX_REQUEST_LENGTH) {
    throw wrong(`a message has ${text.length} characters, at most ${MAX_REQUEST_LENGTH} are read`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong('a message is no JSON');
  }
  const { id, command } = fields(value, 'message');
  if (typeof id !== 'number' || !Number.isSafeInteger(id)) throw wrong('a message has no id');
  return { id, command: parseCommand(fields(command, 'command')) };
}

function parseCommand(command: Readonly<Record<string, unknown>>): Command {
  const { do: name } = command;
  switch (name) {
    case 'open':
    case 'survey':
    case 'cancel':
      return { do: name };
    case 'run':
      return {
        do: name,
        until: list(command.until, 'until').map((place) => word(place, 'until')),
        writes: list(command.writes, 'writes').map((range) => {
          const { start, end } = fields(range, 'writes');
          return { start: hexText(start, 'start'), end: hexText(end, 'end') };
        }),
      };
    case 'step':
      return { do: name, instructions: whole(command.instructions, 'instructions', -MAX_STEPS, MAX_STEPS) };
    case 'goTo':
      return { do: name, place: word(command.place, 'place') };
    case 'read':
      return {
        do: name,
        start: hexText(command.start, 'start'),
        length: whole(command.length, 'length', 1, MAX_READ_LENGTH),
      };
    case 'disassemble':
      return {
        do: name,
        start: hexText(command.start, 'start'),
        count: whole(command.count, 'count', 1, MAX_LINES),
      };
    case 'who':
      return { do: name, start: hexText(command.start, 'start'), end: hexText(command.end, 'end') };
    case 'find':
      return { do: name, text: word(command.text, 'text') };
    case 'decode': {
      const structure = STRUCTURE_NAMES.find((each) => each === command.structure);
      if (structure === undefined) throw wrong(`structure is none of ${STRUCTURE_NAMES.join(', ')}`);
      const start = command.start === null ? null : hexText(command.start, 'start');
      return { do: name, structure, start };
    }
    default:
      throw wrong(`there is no command ${JSON.stringify(name)?.slice(0, 40)}`);
  }
}

function fields(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(`a ${what} is no object`);
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length > MAX_PLACES)
    throw wrong(`${name} is no list of at most ${MAX_PLACES}`);
  return value;
}

function word(value: unknown, name: string): string {
  if (typeof value !== 'string' || value.length > 64)
    throw wrong(`${name} is no text of at most 64 characters`);
  return value;
}

function hexText(value: unknown, name: string): string {
  const text = word(value, name);
  if (!/^0x[0-9a-f]{1,16}$/.test(text)) throw wrong(`${name} is no address such as 0x100000`);
  return text;
}

function whole(value: unknown, name: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
    throw wrong(`${name} is no whole number from ${least} to ${most}`);
  }
  return value;
}

function wrong(sentence: string): BootscopeError {
  return new BootscopeError('explorer-message', sentence);
}
