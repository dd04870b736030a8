// What extract_kernel prints on its way, told from the messages a stub holds: each is printed by the stubs that have it.

import type { KernelImage } from '../image/kernel-image.ts';
import { isConditionalBranch } from '../x86/control-flow.ts';
import { decodeInstruction } from '../x86/instruction.ts';
import { hasOption } from './command-line.ts';
import type { GuestConsole } from './guest-console.ts';
import { functionReferences } from './string-references.ts';
import type { StubLayout } from './stub.ts';
import { stubHasString, stubHasText, stubMatches, stubTextOffset } from './stub-text.ts';

/** The values that stubs with CONFIG_X86_VERBOSE_BOOTUP print before they choose a location. */
export interface ReportedValues {
  readonly input_data: number;
  readonly input_len: number;
  readonly output: number;
  readonly output_len: number;
  readonly run_size: number;
  readonly kernel_total_size: number;
  readonly needed_size: number;
}

const REPORTED: readonly (keyof ReportedValues)[] = [
  'input_data',
  'input_len',
  'output',
  'output_len',
  'run_size',
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
  const text = stubTextOffset(image, 'trampoline_32bit: 0x');
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

const QUIET_FLAG = 0x20;
const DECOMPRESSING = /[.\n]*(?:Unc|Dec)ompressing Linux\.\.\. ?/g;

/**
 * Whether the stub holds its messages and does not print them: without CONFIG_X86_VERBOSE_BOOTUP the stubs of 2.6.26 to 3.6 hand
 * them to a __putstr(error, text) that returns at once when its first argument is 0.
 */
function swallowsMessages(image: KernelImage, stub: StubLayout): boolean {
  const code = image.protectedModeCode;
  const text = stubMatches(image, DECOMPRESSING)[0];
  if (text === undefined) {
    return false;
  }
  const string = stubTextOffset(image, text);
  let named = 0;
  let next = 0;
  for (const { instruction, target } of functionReferences(code, stub.extractKernel, stub.bits)) {
    if (instruction.offset !== next) named = 0;
    next = instruction.next;
    if (target === string) {
      named = 4;
    } else if (named > 0 && instruction.opcode === 0xe8) {
      return testsFirstArgument(code, next + instruction.immediate, stub.bits);
    } else {
      named--;
    }
  }
  return false;
}

/**
 * Whether a function tests its first argument before it does anything else with it: in EDI, or in a 32-bit stub in EAX or on
 * the stack.
 */
function testsFirstArgument(code: Uint8Array, offset: number, bits: 32 | 64): boolean {
  const STACK_POINTER = 4;
  const FRAME_POINTER = 5;
  // Registers that hold the first argument; where on the stack it lies, counted from the stack and the frame pointer.
  const holders = new Set([bits === 64 ? 7 : 0]);
  let depth = 4;
  let frame: number | null = null;
  let at = offset;
  for (let count = 0; count < 16; count++) {
    const instruction = decodeInstruction(code, at, bits);
    if (instruction === null) {
      return false;
    }
    const { opcode, mod, reg, rm, sib, displacement, immediate } = instruction;
    const readsArgument =
      bits === 32 &&
      (mod === 1 || mod === 2) &&
      (sib ? rm === STACK_POINTER && displacement === depth : rm === FRAME_POINTER && displacement === frame);
    if (
      (opcode === 0x85 && mod === 3 && reg === rm && holders.has(reg)) ||
      (opcode === 0x83 && reg === 7 && immediate === 0 && readsArgument)
    ) {
      return true;
    }
    if (isConditionalBranch(instruction)) {
      return false;
    }
    if (opcode >= 0x50 && opcode <= 0x57) {
      depth += 4;
    } else if (opcode >= 0x58 && opcode <= 0x5f) {
      depth -= 4;
      holders.delete(opcode - 0x58);
    } else if ((opcode === 0x83 || opcode === 0x81) && mod === 3 && reg === 5 && rm === STACK_POINTER) {
      depth += immediate;
    } else if (opcode === 0xe8 && immediate === 0) {
      depth += 4;
    } else if (opcode === 0x8b || opcode === 0x8d || opcode === 0x0fb6) {
      holders.delete(reg);
      if (opcode === 0x8b && readsArgument) {
        holders.add(reg);
      }
    } else if ((opcode === 0x89 || opcode === 0x31) && mod === 3) {
      if (opcode === 0x89 && reg === STACK_POINTER && rm === FRAME_POINTER) {
        frame = depth;
      }
      holders.delete(rm);
    }
    at = instruction.next;
  }
  return false;
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

  /** @param loadflags - of boot_params, whose bit 5 tells stubs of 2.6.26 to 2.6.31 to be quiet */
  constructor(
    image: KernelImage,
    stub: StubLayout,
    console: GuestConsole,
    commandLine: string | null,
    loadflags: number,
  ) {
    this.#image = image;
    this.#stub = stub;
    this.#console = console;
    // `quiet` and `debug` are options of 2.6.32 to 3.6; in later stubs the words belong to the EFI part.
    const takesOptions = stub.exitRegister === 'rbp';
    const quiet = stubHasString(image, 'quiet')
      ? hasOption(commandLine, 'quiet')
      : (loadflags & QUIET_FLAG) !== 0;
    this.#quiet = takesOptions && stub.abi !== 'moveparams' && (quiet || swallowsMessages(image, stub));
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
        this.#console.put(`${name}: 0x`);
        this.#console.putHex(value, digits);
        this.#console.put('\n');
      }
    };
    for (const name of REPORTED) {
      line(name, values[name]);
    }
    line('trampoline_32bit', trampoline ?? 0n);
  }

  /** @param byEfi - whether boot_params come from a boot by EFI */
  decompressing(byEfi = false): void {
    this.#say(DECOMPRESSING);
    // From 6.5 on it looks then whether EFI's firmware wants memory to be accepted.
    if (!byEfi && stubHasText(this.#image, 'Unknown version of unaccepted memory table\n')) {
      this.debug('No EFI environment detected.\n');
    }
  }

  /** debug_putstr: printed by stubs with CONFIG_X86_VERBOSE_BOOTUP, which hold the text, and by no others. */
  debug(text: string): void {
    if (this.verbose && stubHasText(this.#image, text)) {
      this.#console.put(text);
    }
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
      this.#console.putHex(entryOffset, this.#stub.bits / 4);
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
