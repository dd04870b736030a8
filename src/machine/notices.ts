// Things the guest asked for that the machine does not have: each once, with how often it was asked.

import { hex } from '../hex.ts';

/** More ports than this share one line. */
const PORTS_WITH_LINES = 8;
const RANGES_NAMED = 12;
const PAGES_NAMED = 8;

interface PortUse {
  reads: number;
  writes: number;
}

/** Counts services that are missing, ports without a device and pages without memory. */
export class NoticeList {
  readonly #services = new Map<string, number>();
  readonly #ports = new Map<number, PortUse>();
  readonly #pages: number[] = [];
  #missing: string | null = null;

  /** @param name - `INT 15h 7777` */
  addService(name: string): void {
    this.#services.set(name, (this.#services.get(name) ?? 0) + 1);
  }

  addRead(port: number): void {
    this.#use(port).reads++;
  }

  addWrite(port: number): void {
    this.#use(port).writes++;
  }

  /** @param page - physical address of a page without memory, told once */
  addMemory(page: number): void {
    this.#pages.push(page);
  }

  /** @param sentence - which RAM is told of and not there */
  setMissingRam(sentence: string): void {
    this.#missing = sentence;
  }

  /** One sentence a service and a port; many ports are told of in one. */
  get texts(): readonly string[] {
    const services = [...this.#services].map(
      ([name, count]) => `${name} is not provided (called ${times(count)})`,
    );
    const missing = this.#missing === null ? [] : [this.#missing];
    return [...missing, ...services, ...this.#portTexts(), ...this.#pageTexts()];
  }

  #portTexts(): readonly string[] {
    const ports = [...this.#ports];
    if (ports.length > PORTS_WITH_LINES) {
      const numbers = ports.map(([port]) => port).sort((a, b) => a - b);
      const uses = ports.map(([, use]) => use);
      const reads = uses.reduce((sum, use) => sum + use.reads, 0);
      const writes = uses.reduce((sum, use) => sum + use.writes, 0);
      return [
        `${ports.length} ports have no device (read ${times(reads)}, written ${times(writes)}): ${ranges(numbers)}`,
      ];
    }
    return ports.map(([port, { reads, writes }]) => {
      const what = [reads > 0 ? `read ${times(reads)}` : '', writes > 0 ? `written ${times(writes)}` : ''];
      return `port ${hex(port)} has no device (${what.filter((each) => each !== '').join(', ')})`;
    });
  }

  #pageTexts(): readonly string[] {
    const pages = this.#pages.toSorted((a, b) => a - b);
    const named = pages.slice(0, PAGES_NAMED).map(hex).join(', ');
    const more = pages.length > PAGES_NAMED ? ` and ${pages.length - PAGES_NAMED} more` : '';
    return pages.length === 0 ? [] : [`no memory answers at ${named}${more}`];
  }

  #use(port: number): PortUse {
    let use = this.#ports.get(port);
    if (use === undefined) {
      use = { reads: 0, writes: 0 };
      this.#ports.set(port, use);
    }
    return use;
  }
}

/** `0x300-0x303, 0x1c80`. */
function ranges(sorted: readonly number[]): string {
  const parts: string[] = [];
  for (let first = 0; first < sorted.length; ) {
    let last = first;
    while (sorted[last + 1] === sorted[last]! + 1) {
      last++;
    }
    parts.push(last === first ? hex(sorted[first]!) : `${hex(sorted[first]!)}-${hex(sorted[last]!)}`);
    first = last + 1;
  }
  const more = parts.length > RANGES_NAMED ? ` and ${parts.length - RANGES_NAMED} more ranges` : '';
  return parts.slice(0, RANGES_NAMED).join(', ') + more;
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
