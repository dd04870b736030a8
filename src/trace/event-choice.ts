// Which events are meant, in the one grammar of filters and stops: a kind, or of a kind those of one interrupt or service, one
// port, one register.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type BootEvent, EVENT_KINDS, type EventKind } from './boot-trace.ts';

/** As data; {@link parseEventChoice} reads its grammar. */
export interface EventChoice {
  readonly event: EventKind;
  /** `0x13`, `0x15/0xe820`, `GetMemoryMap`, `0x3f8`: what of the kind is meant; all where it is absent. */
  readonly of?: string;
}

interface Chooser {
  /** What may stand behind the `=`. */
  readonly pattern: RegExp;
  readonly help: string;
  /** All that `of` may be for such an event; numbers in hex. */
  readonly names: (details: BootEvent['details']) => readonly unknown[];
}

const WORD = '[a-z0-9_.-]+';
const NUMBER = '0x[0-9a-f]+';
const pattern = (text: string): RegExp => new RegExp(`^(?:${text})$`, 'i');

/** Kinds whose events are told apart by something that has a name. */
const CHOOSERS: Readonly<Partial<Record<EventKind, Chooser>>> = {
  bios: {
    pattern: pattern(`${NUMBER}(?:/${NUMBER})?`),
    help: 'an interrupt, bios=0x13, or a service of it by AH or AX, bios=0x15/0xe820',
    names: ({ vector, 'in eax': eax }) => {
      const interrupt = hex(Number(vector));
      if (typeof eax !== 'string') return [interrupt];
      const ax = Number(eax) & 0xffff;
      return [interrupt, `${interrupt}/${hex(ax >> 8)}`, `${interrupt}/${hex(ax)}`];
    },
  },
  efi: {
    pattern: pattern(WORD),
    help: 'a service by its name, efi=GetMemoryMap',
    names: ({ service }) => [service],
  },
  port: {
    pattern: pattern(`${NUMBER}|${WORD}`),
    help: 'a port, port=0x3f8, or a device, port=UART',
    names: ({ device, ports }) => [device, ...String(ports).split(' ')],
  },
  msr: {
    pattern: pattern(`${NUMBER}|${WORD}`),
    help: 'a register by number or name, msr=EFER',
    names: ({ msr, name }) => [msr, name],
  },
  'control-register': {
    pattern: pattern('cr[0-9]'),
    help: 'a register, control-register=cr3',
    names: ({ register }) => [register],
  },
  'descriptor-table': {
    pattern: pattern('[gi]dtr'),
    help: 'a register, descriptor-table=gdtr',
    names: ({ register }) => [register],
  },
  segment: {
    pattern: pattern('[c-gs]s'),
    help: 'a register, segment=ss',
    names: ({ register }) => [register],
  },
  cpuid: { pattern: pattern(NUMBER), help: 'a leaf, cpuid=0x7', names: ({ leaf }) => [leaf] },
  mode: { pattern: pattern(WORD), help: 'the mode that begins, mode=long64', names: ({ to }) => [to] },
  exception: {
    pattern: pattern(NUMBER),
    help: 'a vector, exception=0xe',
    names: ({ vector }) => [hex(Number(vector))],
  },
};

/** For texts that tell what may stand there. */
export const EVENT_CHOICE_HELP = `${EVENT_KINDS.join(', ')}; narrowed as in bios=0x13, bios=0x15/0xe820, efi=GetMemoryMap, port=0x3f8, msr=EFER`;

/**
 * Reads the grammar of events.
 *
 * @param text - `bios`, `bios=0x13`, `port=0x3f8`
 * @returns null where it names no kind of event
 * @throws BootscopeError `event-choice` where a kind has nothing of that name
 */
export function parseEventChoice(text: string): EventChoice | null {
  const [, word, of] = /^([a-z-]+)(?:=(.*))?$/s.exec(text) ?? [];
  const event = EVENT_KINDS.find((kind) => kind === word);
  if (event === undefined) return null;
  if (of === undefined) return { event };
  const chooser = CHOOSERS[event];
  if (chooser === undefined) {
    throw new BootscopeError(
      'event-choice',
      `"${text}": ${event} events have nothing to choose by: name ${event} alone`,
    );
  }
  if (!chooser.pattern.test(of)) {
    throw new BootscopeError('event-choice', `"${text}": of ${event} events name ${chooser.help}`);
  }
  return { event, of: of.replaceAll(/0x[0-9a-f]+/gi, (number) => hex(BigInt(number))) };
}

/** The text that `parseEventChoice` reads back. */
export function eventChoiceName({ event, of }: EventChoice): string {
  return of === undefined ? event : `${event}=${of}`;
}

/** Whether an event is among those that are meant. */
export function isChosen({ kind, details }: BootEvent, { event, of }: EventChoice): boolean {
  if (kind !== event) return false;
  if (of === undefined) return true;
  const wanted = of.toLowerCase();
  return CHOOSERS[event]!.names(details).some((name) => String(name ?? '').toLowerCase() === wanted);
}
