// The processes behind the explorer's pages: a machine for each, of which the next one is ready before a page asks, and one that
// answers what is asked of the whole boot while the held ones stand or run.

import type { MachineConnection } from '../explorer/server.ts';
import { ChildCommand } from './child-command.ts';

/** `held`: a boot that is moved; `whole`: one that is run to its end and asked about. */
export const MACHINE_PARTS = ['held', 'whole'] as const;
export type MachinePart = (typeof MACHINE_PARTS)[number];

/** What a machine says when it has done what it was started for, before it is asked. */
export const MACHINE_READY = 'ready';

/** What the second kind answers, as the page writes it: the texts are handed on as they are. */
const OF_THE_WHOLE = /^\{"id":(\d{1,15}),"command":\{"do":"(?:survey|find)"/;
const ANSWER = /^\{"id":(\d+),/;

export class PageMachines {
  readonly #arguments: readonly string[];
  #next: ChildCommand | null;
  #whole: ChildCommand | null = null;
  readonly #asked = new Map<number, { readonly id: string; readonly say: (text: string) => void }>();
  #questions = 0;
  #closed = false;

  /** @param parameters - those of this process, whose children boot the same image with the same options */
  constructor(parameters: readonly string[]) {
    this.#arguments = parameters;
    this.#next = this.#start('held');
  }

  /** A machine for a page; `say` gives the page a message. */
  connect(say: (text: string) => void): MachineConnection {
    const machine = this.#next ?? this.#start('held');
    this.#next = null;
    machine.onText = (text) => {
      if (text === MACHINE_READY) this.#prepareWhole();
      else say(text);
    };
    machine.onEnd = (why) => say(JSON.stringify({ lost: why }));
    return {
      send: (text) => {
        const [, id] = OF_THE_WHOLE.exec(text) ?? [];
        if (id === undefined) machine.send(text);
        else this.#ask(id, text, say);
      },
      close: () => machine.close(),
    };
  }

  close(): void {
    this.#closed = true;
    this.#next?.close();
    this.#whole?.close();
  }

  #start(part: MachinePart): ChildCommand {
    const machine = new ChildCommand([...this.#arguments, '--page-machine', part]);
    machine.onText = () => this.#prepareWhole();
    machine.onEnd = () => {
      if (this.#next === machine) this.#next = null;
    };
    return machine;
  }

  /** Ids are the pages' own: this one has questions of all of them. */
  #ask(id: string, text: string, say: (text: string) => void): void {
    const number = ++this.#questions;
    this.#asked.set(number, { id, say });
    this.#whole ??= this.#startWhole();
    this.#whole.send(text.replace(id, String(number)));
  }

  /** When a machine is ready: before, this would only take the processor from what a page waits for. */
  #prepareWhole(): void {
    if (!this.#closed) this.#whole ??= this.#startWhole();
  }

  #startWhole(): ChildCommand {
    const machine = this.#start('whole');
    machine.yieldToOthers();
    machine.onText = (text) => {
      const number = Number(ANSWER.exec(text)?.[1]);
      const asked = this.#asked.get(number);
      if (asked === undefined) return;
      this.#asked.delete(number);
      asked.say(text.replace(ANSWER, `{"id":${asked.id},`));
      // The page has what it came for: time for the next one's machine.
      this.#next ??= this.#start('held');
    };
    machine.onEnd = (why) => {
      this.#whole = null;
      for (const { id, say } of this.#asked.values()) {
        say(JSON.stringify({ id: Number(id), error: { code: 'explorer-lost', sentence: why } }));
      }
      this.#asked.clear();
    };
    return machine;
  }
}
