// Takes the arguments of extract_kernel where each generation of the stub puts them, and checks them against the image.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { BOOT_PARAMS_SIZE } from '../protocol/boot-params.ts';
import type { PhysicalMemory } from '../x86/physical-memory.ts';
import type { ArgumentRegister, ExtractionContext } from './extraction.ts';
import { findStubDetails } from './find-stub.ts';

/** The arguments of a call, whatever way they came. */
export interface ExtractArguments {
  readonly bootParams: number;
  readonly output: number;
  readonly inputAddress: number;
  readonly inputLength: number;
  /** run_size, the kernel's size with bss and brk (3.19 to 4.6); null where none is passed. */
  readonly runSize: number | null;
}

/** rmode, heap, input_data, input_len, output, output_len, run_size. */
const ARGUMENTS_WITH_RUN_SIZE = 7;

/**
 * @param payloadOffset - of the image's payload in its protected-mode code, and its length in bytes
 * @throws BootscopeError `stub-arguments` when what is passed is not of this image, `stub-memory` for a stack outside RAM
 */
export function readArguments(
  context: ExtractionContext,
  payloadOffset: number,
  payloadLength: number,
): ExtractArguments {
  const { image, stub, zo } = context;
  const register = (name: ArgumentRegister): number => Number(context.readRegister(name));
  // On the stack the return address comes first.
  const stacked = (index: number): number => readUint32(context.memory, register('rsp') + 4 + 4 * index);
  const stacked64 = (index: number): number => readUint32(context.memory, register('rsp') + 8 + 8 * index);
  const input = { inputAddress: zo + payloadOffset, inputLength: payloadLength, runSize: null };
  const passesRunSize = findStubDetails(image)?.argumentCount === ARGUMENTS_WITH_RUN_SIZE;
  let passed: ExtractArguments;
  switch (stub.abi) {
    case 'rmode-output':
      passed = { bootParams: register('rdi'), output: register('rsi'), ...input };
      break;
    case 'stack-rmode-output':
      passed = { bootParams: stacked(0), output: stacked(1), ...input };
      break;
    case 'rmode-heap-input':
      passed = {
        bootParams: register('rdi'),
        inputAddress: register('rdx'),
        inputLength: register('rcx'),
        output: register('r8'),
        // The first argument for which there is no register.
        runSize: passesRunSize ? stacked64(0) : null,
      };
      break;
    default:
      passed = {
        bootParams: stacked(0),
        inputAddress: stacked(2),
        inputLength: stacked(3),
        output: stacked(4),
        runSize: passesRunSize ? stacked(6) : null,
      };
  }
  if (passed.inputAddress !== input.inputAddress) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets input_data ${hex(passed.inputAddress)}, the payload of ${image.path} lies at ${hex(input.inputAddress)}`,
    );
  }
  if (passed.inputLength < payloadLength - 4 || passed.inputLength > payloadLength + 4) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets input_len ${passed.inputLength}, the payload of ${image.path} has ${payloadLength} bytes`,
    );
  }
  if (!context.memory.contains(passed.bootParams, BOOT_PARAMS_SIZE)) {
    throw new BootscopeError(
      'stub-arguments',
      `extract_kernel gets boot_params at ${hex(passed.bootParams)}, RAM ends at ${hex(context.memory.end)}`,
    );
  }
  return passed;
}

export function readUint32(memory: PhysicalMemory, address: number): number {
  if (!memory.contains(address, 4)) {
    throw new BootscopeError(
      'stub-memory',
      `the stub's stack at ${hex(address)} is outside RAM, which ends at ${hex(memory.end)}`,
    );
  }
  return memory.read32(address);
}
