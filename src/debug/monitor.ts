// What a debugger's user can ask a held boot besides what the remote protocol has: commands of a few words, answered in lines.

import { codeSegmentBase } from '../boot/cpu-mode.ts';
import { InstructionDecoder } from '../boot/instruction-decoder.ts';
import type { BootSession } from '../boot/session.ts';
import { BootscopeError } from '../error.ts';
import { hex, withSymbol } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { eventLine } from '../report/event-lines.ts';
import { type DecodeContext, decodeStructure, STRUCTURE_NAMES } from '../trace/decode/decode.ts';
import { formatDecoded } from '../trace/decode/decoded.ts';
import { EVENT_CHOICE_HELP, isChosen, parseEventChoice } from '../trace/event-choice.ts';
import { parseRange, RANGE_HELP } from '../trace/memory-range.ts';
import { PLACE_HELP, type Place, parsePlace, placeName } from '../trace/place.ts';
import { accessorLine } from './accessor-lines.ts';
import { type CodeNames, type CodeSymbols, codeNames } from './code-names.ts';
import { decodeContext } from './session-context.ts';
import { findAccessors } from './writers.ts';

/** Files with symbols, for what debuggers load themselves. */
export interface MonitorFiles {
  readonly setupElf?: string;
  readonly zoVmlinux?: string;
  readonly vmlinux?: string;
  /** Linear address that the kernel's first segment was linked at; with `vmlinux`. */
  readonly vmlinuxBase?: bigint;
  /** Of code that runs before the kernel, for what is answered in lines. */
  readonly symbols?: CodeSymbols;
}

/** Where boot.rst has setup, for symbols of setup.elf. */
const SETUP_ADDRESS = 0x90000;
/** Lines of `who`. */
const SHOWN_ACCESSORS = 20;

interface Command {
  readonly usage: string;
  readonly help: string;
  run(argument: string): Promise<string> | string;
}

/** The commands behind `monitor`, for one held boot. */
export class Monitor {
  readonly #session: BootSession;
  readonly #image: KernelImage;
  readonly #files: MonitorFiles;
  readonly #commands: Readonly<Record<string, Command>>;
  #decoder: InstructionDecoder<true> | null = null;
  #stops: readonly Place[] = [];

  /** @param image - what the session boots */
  constructor(session: BootSession, image: KernelImage, files: MonitorFiles) {
    this.#session = session;
    this.#image = image;
    this.#files = files;
    this.#commands = {
      where: { usage: 'where', help: 'phase, mode and count of instructions', run: () => this.#where() },
      phases: { usage: 'phases', help: 'the phases so far', run: () => this.#phases() },
      regions: {
        usage: 'regions',
        help: 'what lies where in physical memory now',
        run: () => this.#regions(),
      },
      events: {
        usage: 'events [EVENT,…]',
        help: `what the guest did so far: ${EVENT_CHOICE_HELP}`,
        run: (events) => this.#events(events),
      },
      show: {
        usage: 'show STRUCTURE [ADDRESS]',
        help: `memory decoded: ${STRUCTURE_NAMES.join(', ')}`,
        run: (argument) => this.#show(argument),
      },
      who: {
        usage: 'who RANGE',
        help: `who wrote it before now, the last first; as going back does, it forgets what was changed by hand: ${RANGE_HELP}`,
        run: (range) => this.#who(range, 'write'),
      },
      readers: {
        usage: 'readers RANGE',
        help: 'who read it before now',
        run: (range) => this.#who(range, 'read'),
      },
      goto: {
        usage: 'goto PLACE',
        help: `go there, forward or back: ${PLACE_HELP}`,
        run: (place) => this.#goTo(place),
      },
      stops: {
        usage: 'stops [PLACE,…|none]',
        help: 'where continuing stops besides breakpoints, such as before each bios=0x13 or port=0x3f8',
        run: (places) => this.#setStops(places),
      },
      symbols: {
        usage: 'symbols',
        help: 'the gdb commands that load symbols where they run',
        run: () => this.#symbols(),
      },
      disassemble: {
        usage: 'disassemble ADDRESS',
        help: 'length and text of the instruction there, in the mode of now',
        run: (address) => this.#disassemble(address),
      },
    };
  }

  /** Never throws for what was typed: errors are answers. */
  async run(line: string): Promise<string> {
    const [name = '', argument = ''] = line.trim().split(/\s+(.*)/s);
    const command = Object.hasOwn(this.#commands, name) ? this.#commands[name] : undefined;
    if (command === undefined) return this.#help(name);
    try {
      return await command.run(argument.trim());
    } catch (error) {
      if (error instanceof BootscopeError) return `${error.message}\n`;
      throw error;
    }
  }

  #help(name: string): string {
    const commands = Object.values(this.#commands);
    const width = Math.max(...commands.map(({ usage }) => usage.length));
    const lines = commands.map(({ usage, help }) => `  ${usage.padEnd(width)}  ${help}\n`);
    const unknown = name === '' || name === 'help' ? '' : `there is no command "${name}"\n`;
    return `${unknown}monitor commands:\n${lines.join('')}`;
  }

  #where(): string {
    const { stop, instructions } = this.#session;
    const count = instructions === null ? '' : `, #${instructions}`;
    const name = this.#codeNames()(Number(stop.address), stop.phase);
    return `${stop.phase ?? 'before the first phase'}, ${withSymbol(hex(stop.address), name ?? undefined)}, ${stop.mode}${count}\n`;
  }

  #codeNames(): CodeNames {
    return codeNames(this.#session, this.#files.symbols ?? { setup: null, stub: null });
  }

  #phases(): string {
    const lines = this.#session
      .trace()
      .phases.map(
        ({ name, address, mode, instructions }) =>
          `${name.padEnd(20)} ${hex(address).padStart(12)} ${mode.padEnd(8)} ${instructions === null ? '' : `#${instructions}`}`,
      );
    return lines.map((line) => `${line.trimEnd()}\n`).join('');
  }

  #regions(): string {
    return this.#session
      .layout()
      .map(({ name, start, end }) => `${hex(start).padStart(12)}..${hex(end).padEnd(12)} ${name}\n`)
      .join('');
  }

  #events(text: string): string {
    const wanted = (text === '' ? [] : text.split(',')).map((part) => {
      const choice = parseEventChoice(part.trim());
      if (choice === null) throw new BootscopeError('event-choice', noEvent(part));
      return choice;
    });
    return this.#session.events
      .filter((event) => wanted.length === 0 || wanted.some((choice) => isChosen(event, choice)))
      .map((event) => `${eventLine(event)}\n`)
      .join('');
  }

  #show(argument: string): string {
    const [name, address] = argument.split(/\s+/);
    const structure = STRUCTURE_NAMES.find((known) => known === name);
    if (structure === undefined) return `show one of: ${STRUCTURE_NAMES.join(', ')}\n`;
    const context: DecodeContext = decodeContext(this.#session, parseAddress(address));
    return formatDecoded(decodeStructure(structure, context));
  }

  /** Runs the boot again up to where it stands. */
  async #who(text: string, access: 'read' | 'write'): Promise<string> {
    const session = this.#session;
    const range = parseRange(text, session.layout(), 1);
    const here = { kind: 'count', instructions: session.instructions ?? 0 } as const;
    const { accessors, dropped } = await findAccessors(session, this.#image, range, access, here);
    const shown = accessors.toReversed().slice(0, SHOWN_ACCESSORS);
    const nameOf = this.#codeNames();
    const lines = shown.map((accessor) => {
      const { instruction: by, phase } = accessor;
      const instruction = by === null ? null : nameOf(by.address, phase);
      return `${accessorLine(accessor, { instruction, target: null })}\n`;
    });
    const left = accessors.length + dropped - shown.length;
    if (left > 0) lines.push(`and ${left} before\n`);
    return lines.length === 0 ? `nobody before #${here.instructions}\n` : lines.join('');
  }

  async #goTo(text: string): Promise<string> {
    await this.#session.goTo(parsePlace(text));
    return `${this.#where()}gdb has not seen that: type "maintenance flush register-cache" (the command bootscope-goto of the Python file does)\n`;
  }

  #setStops(text: string): string {
    if (text === 'none') this.#stops = [];
    else if (text !== '') this.#stops = text.split(',').map((place) => parsePlace(place.trim()));
    return this.#stops.length === 0 ? 'none\n' : this.#stops.map((place) => `${placeName(place)}\n`).join('');
  }

  /** Places that its user has set for going on. */
  get stops(): readonly Place[] {
    return this.#stops;
  }

  #symbols(): string {
    const { zo } = this.#session;
    const { setupElf, zoVmlinux, vmlinux, vmlinuxBase } = this.#files;
    const stub = zoVmlinux ?? 'arch/x86/boot/compressed/vmlinux';
    const lines = [
      `# setup, where it was loaded`,
      `add-symbol-file ${setupElf ?? 'arch/x86/boot/setup.elf'} -o ${hex(SETUP_ADDRESS)}`,
      `# the boot stub, ${zo === null ? 'once it runs' : 'where it runs now'}`,
      zo === null ? `# (go to startup_32 and ask again)` : `add-symbol-file ${stub} -o ${hex(zo)}`,
    ];
    const { kernel } = this.#session.trace();
    if (kernel !== null) {
      const linked = vmlinuxBase ?? kernel.virtualBase;
      lines.push(
        '# the kernel, at the physical addresses that it runs at here',
        `add-symbol-file ${vmlinux ?? 'vmlinux'} -o ${signedHex(kernel.physicalBase - linked)}`,
      );
    }
    return lines.map((line) => `${line}\n`).join('');
  }

  #disassemble(text: string): string {
    const address = parseAddress(text);
    if (address === null) return 'which address?\n';
    const { memory, stop, machine } = this.#session;
    const physical = memory.physical(address);
    if (physical === null) return `${hex(address)} is not mapped\n`;
    this.#decoder ??= new InstructionDecoder<true>('gas', () => true);
    const csBase = Number(codeSegmentBase(machine.cpu, stop.mode));
    const { bytes, text: instruction } = this.#decoder.decode(machine.memory, physical, stop.mode, csBase);
    return `${bytes.length} ${instruction}\n`;
  }
}

function noEvent(text: string): string {
  return `there is no kind of event "${text}": ${EVENT_CHOICE_HELP}`;
}

function parseAddress(text: string | undefined): number | null {
  if (text === undefined || text === '') return null;
  const address = Number(text);
  if (!Number.isSafeInteger(address) || address < 0) {
    throw new BootscopeError('debug-address', `"${text}" is no address such as 0x100000`);
  }
  return address;
}

/** gdb takes offsets modulo 2^64. */
function signedHex(value: bigint): string {
  return hex(BigInt.asUintN(64, value));
}
