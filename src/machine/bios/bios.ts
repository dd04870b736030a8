// The BIOS: finds the service an interrupt asks for, runs it on the CPU's registers, and tells who listens.

import type { Cpu } from '../../cpu/cpu.ts';
import type { MachineEvent } from '../events.ts';
import type { NoticeList } from '../notices.ts';
import { BiosRegisters, type BiosVector, findService } from './service.ts';

const TIMER_VECTORS: ReadonlySet<number> = new Set([0x08, 0x1c]);

export class Bios {
  onEvent: ((event: MachineEvent) => void) | null = null;
  /** Calls so far, but for the timer's. */
  calls = 0;
  readonly #vectors: (BiosVector | undefined)[] = [];
  readonly #registers: BiosRegisters;
  readonly #notices: NoticeList;

  constructor(cpu: Cpu, vectors: readonly BiosVector[], notices: NoticeList) {
    this.#registers = new BiosRegisters(cpu);
    this.#notices = notices;
    for (const vector of vectors) {
      this.#vectors[vector.vector] = vector;
    }
  }

  /** AX as the caller of the last service passed it. */
  get lastAx(): number {
    return this.#registers.inputAx;
  }

  /** `INT 15h E820: query system address map`. */
  nameOf(vector: number, ax: number): string {
    const services = this.#vectors[vector];
    const service = services === undefined ? null : findService(services, ax);
    return `${functionName(services, vector, ax)}: ${service?.name ?? 'not provided'}`;
  }

  /** Whether the function that AX asks for returns a segment register, so that only guest code can return from it. */
  returnsSegment(vector: number, ax: number): boolean {
    const services = this.#vectors[vector];
    return services !== undefined && findService(services, ax)?.returnsSegment === true;
  }

  /**
   * Does what `INT vector` asks for, on the registers of the CPU.
   * @param flags - FLAGS of the caller
   * @returns FLAGS for the caller, and ES as the service leaves it; neither has been written
   */
  serve(vector: number, flags: number): { readonly flags: number; readonly es: number } {
    const registers = this.#registers;
    if (!TIMER_VECTORS.has(vector)) {
      this.calls++;
    }
    registers.load(flags);
    const services = this.#vectors[vector];
    const service = services === undefined ? null : findService(services, registers.ax);
    if (service !== null) {
      service.run(registers);
    } else {
      services?.unknown?.(registers);
      this.#notices.addService(functionName(services, vector, registers.inputAx));
    }
    registers.store();
    this.#report(vector);
    return { flags: registers.flags, es: registers.es };
  }

  #report(vector: number): void {
    const registers = this.#registers;
    this.onEvent?.({
      kind: 'bios',
      vector,
      input: registers.input,
      output: registers.output,
      carry: registers.failed,
      result: registers.result,
      text: this.nameOf(vector, registers.inputAx),
    });
  }
}

/** `INT 15h E820`, `INT 13h 02`, `INT 11h`. */
function functionName(services: BiosVector | undefined, vector: number, ax: number): string {
  const name = `INT ${hex(vector, 2)}h`;
  if (services === undefined || services.only !== undefined) {
    return name;
  }
  const byAx = services.byAx?.has(ax) === true || services.byAh?.has(ax >>> 8) !== true;
  return `${name} ${byAx ? hex(ax, 4) : hex(ax >>> 8, 2)}`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}
