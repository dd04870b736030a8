// What extract_kernel prints on its way, told from the messages a stub holds: each is printed by the stubs that have it.

import type { KernelImage } from '../image/kernel-image.ts';
import { hasOption } from './command-line.ts';
import type { GuestConsole } from './guest-console.ts';
import { decodeInstruction } from './instruction.ts';
import type { StubLayout } from './stub.ts';
import { stubHasString, stubHasText, stubMatches } from './stub-text.ts';

/** The values that stubs with CONFIG_X86_VERBOSE_BOOTUP print before they choose a location. */
export interface ReportedValues {
  readonly input_data: number;
  readonly input_len: number;
  readonly output: number;
  readonly output_len: number;
  readonly kernel_total_size: number;
  readonly needed_size: number;
}

const REPORTED: readonly (keyof ReportedValues)[] = [
  'input_data',
  'input_len',
  'output',
  'output_len',
  'kernel_total_size',
  'needed_size',
];

/**
 * Offset of the variable trampoline_32bit in the stub: what a verbose stub loads right behind the address of its name.
 *
 * @returns null where the code does not show it
 */
export function findTrampolineVariable(image: KernelImage, stub: StubLayout): number | null {
  const code = image.protectedModeCode;
  const text = Buffer.from(code.buffer, code.byteOffset, code.byteLength).lastIndexOf(
    'trampoline_32bit: 0x',
    -1,
    'latin1',
  );
  if (text < 0 || stub.bits !== 64) {
    return null;
  }
  let at = stub.extractKernel;
  let named = false;
  for (let count = 0; count < 400; count++) {
    const instruction = decodeInstruction(code, at, 64);
    if (instruction === null) {
      return null;
    }
    const target = instruction.next + instruction.displacement;
    if (instruction.direct && instruction.opcode === 0x8d && target === text) {
      named = true;
    } else if (named && instruction.direct && instruction.opcode === 0x8b) {
      return target;
    }
    at = instruction.next;
  }
  return null;
}

/** Prints what this stub would print, on its console. */
export class StubMessages {
  readonly #image: KernelImage;
  readonly #stub: StubLayout;
  readonly #console: GuestConsole;
  readonly #quiet: boolean;
  /** Whether debug_putstr prints (CONFIG_X86_VERBOSE_BOOTUP). */
  readonly verbose: boolean;
  readonly #debug: boolean;

  constructor(image: KernelImage, stub: StubLayout, console: GuestConsole, commandLine: string | null) {
    this.#image = image;
    this.#stub = stub;
    this.#console = console;
    // `quiet` and `debug` are options of 2.6.32 to 3.6; in later stubs the words belong to the EFI part.
    const takesOptions = stub.exitRegister === 'rbp';
    this.#quiet = takesOptions && stubHasString(image, 'quiet') && hasOption(commandLine, 'quiet');
    this.#debug = !takesOptions || !stubHasString(image, 'debug') || hasOption(commandLine, 'debug');
    this.verbose = stub.exitRegister === 'rax' && stubHasText(image, 'early console in ');
  }

  /** "early console in extract_kernel", behind console_init. */
  earlyConsole(): void {
    const text = stubMatches(this.#image, /early console in [a-z_]+\n/g)[0];
    if (text !== undefined && this.#debug) {
      this.#console.put(text);
    }
  }

  /** The addresses that 4.6 and later report; `trampoline` is the variable trampoline_32bit, null where it is not known. */
  values(values: ReportedValues, trampoline: bigint | null): void {
    const digits = this.#stub.bits / 4;
    const line = (name: string, value: number | bigint): void => {
      if (stubHasText(this.#image, `${name}: 0x`)) {
        this.#console.put(`${name}: 0x${value.toString(16).padStart(digits, '0')}\n`);
      }
    };
    for (const name of REPORTED) {
      line(name, values[name]);
    }
    line('trampoline_32bit', trampoline ?? 0n);
  }

  decompressing(): void {
    this.#say(/[.\n]*(?:Unc|Dec)ompressing Linux\.\.\. ?/g);
  }

  parsingElf(): void {
    this.#say(/Parsing ELF\.\.\. /g);
  }

  relocating(needed: boolean): void {
    this.#say(needed ? /Performing relocations\.\.\. /g : /No relocation needed\.\.\. /g);
  }

  /** `entryOffset` is printed by the stubs that know it. */
  done(entryOffset: number): void {
    const withOffset = stubMatches(this.#image, /done\.\nBooting the kernel \(entry_offset: 0x/g)[0];
    if (withOffset !== undefined) {
      this.#console.put(withOffset);
      this.#console.put(entryOffset.toString(16).padStart(this.#stub.bits / 4, '0'));
      this.#console.put(').\n');
      return;
    }
    this.#say(/(?:done\.\nB|Ok, b)ooting the kernel\.\n/g);
  }

  /** error(): what a stub says before it halts. */
  halt(text: string): void {
    this.#console.warn(text);
    this.#console.put(' -- System halted');
  }

  #say(pattern: RegExp): void {
    const text = stubMatches(this.#image, pattern)[0];
    if (text !== undefined && !this.#quiet) {
      this.#console.put(text);
    }
  }
}
