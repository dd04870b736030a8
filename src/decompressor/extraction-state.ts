// What the steps of one extract_kernel share: the guest, what was passed, the stub's console and its way to give up, and what
// is noted for the trace.

import { bootParamsOffset } from '../protocol/boot-params.ts';
import { readGuestCommandLine } from './command-line.ts';
import type { ExtractArguments } from './extract-arguments.ts';
import type { ExtractionContext, ExtractionStep, WrittenRange } from './extraction.ts';
import { findStubDetails } from './find-stub.ts';
import { GuestConsole } from './guest-console.ts';
import { GuestHalt } from './guest-halt.ts';
import type { TouchedRange } from './identity-map.ts';
import type { KaslrChoice } from './kaslr.ts';
import { LOW_MEMORY } from './root-pointer.ts';
import type { StubDetails } from './stub.ts';
import { StubMessages } from './stub-messages.ts';

const LOADFLAGS = bootParamsOffset('loadflags');

export interface ExtractionState {
  readonly context: ExtractionContext;
  readonly passed: ExtractArguments;
  readonly details: StubDetails | null;
  readonly commandLine: string | null;
  readonly console: GuestConsole;
  readonly messages: StubMessages;
  readonly halt: GuestHalt;
  readonly steps: ExtractionStep[];
  readonly writes: WrittenRange[];
  readonly notices: string[];
  /** What was read on the way to the ACPI root pointer, beside the stub's own memory. */
  searched: readonly TouchedRange[];
  kaslr: KaslrChoice | null;
  /** Page tables of its own that the function has gone over to; null: those that were in force. */
  cr3: bigint | null;
}

/** The state at the first instruction of the function. */
export function beginExtraction(context: ExtractionContext, passed: ExtractArguments): ExtractionState {
  const { image, stub, memory } = context;
  const commandLine = readGuestCommandLine(memory, passed.bootParams).text;
  const console = new GuestConsole(memory, passed.bootParams, context.ports ?? null);
  const loadflags = memory.read8(passed.bootParams + LOADFLAGS);
  const messages = new StubMessages(image, stub, console, commandLine, loadflags);
  return {
    context,
    passed,
    details: findStubDetails(image),
    commandLine,
    console,
    messages,
    halt: new GuestHalt(context, messages),
    steps: [],
    writes: [],
    notices: [],
    searched: [LOW_MEMORY],
    kaslr: null,
    cr3: null,
  };
}
