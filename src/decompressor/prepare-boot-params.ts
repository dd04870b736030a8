// What extract_kernel does before anything else: its variables, boot_params, its console, and the ACPI root pointer.

import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';
import { hasOption } from './command-line.ts';
import { readUint32 } from './extract-arguments.ts';
import type { ExtractionState } from './extraction-state.ts';
import { KASLR_FLAG } from './kaslr-generation.ts';
import { findRootPointerSearch, getRsdpAddress, LOW_MEMORY, type RootPointerSearch } from './root-pointer.ts';
import { sanitizeBootParams } from './sanitize-boot-params.ts';
import { findStrayStores } from './stray-stores.ts';
import { reachesBefore } from './string-references.ts';
import { stubHasString, stubHasText } from './stub-text.ts';

const ACPI_RSDP_ADDR = bootParamsOffset('acpi_rsdp_addr');
const LOADFLAGS = bootParamsOffset('loadflags');
const XLOADFLAGS = bootParamsOffset('xloadflags');
const XLF_MEM_ENCRYPTION = 0x80;

/** What extract_kernel does to boot_params before anything else, and its console. */
export function prepareBootParams(state: ExtractionState): void {
  const { image, stub, memory } = state.context;
  const { bootParams } = state.passed;
  storeStrayVariables(state);
  if (stub.exitRegister === 'rax') {
    memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) & ~KASLR_FLAG);
  }
  if (stubHasString(image, 'mem_encrypt=on')) {
    if (hasOption(state.commandLine, 'mem_encrypt=on') && !hasOption(state.commandLine, 'mem_encrypt=off')) {
      const flags = memory.read8(bootParams + XLOADFLAGS);
      memory.write8(bootParams + XLOADFLAGS, flags | XLF_MEM_ENCRYPTION);
    }
  }
  const search = rootPointerSearch(state);
  // 5.0 and 5.1 look for it before there is a console: what they have to say is lost.
  const early = search !== null && looksBeforeConsole(state);
  if (early) noteRootPointer(state, search, () => {});
  sanitizeBootParams(image, memory.view(bootParams, BOOT_PARAMS_SIZE));
  if (stubHasText(image, 'earlyprintk\0')) {
    state.console.initialiseSerial(state.commandLine);
  }
  if (search !== null && !early) noteRootPointer(state, search, (text) => state.messages.debug(text));
  state.messages.earlyConsole();
}

/** What some 32-bit stubs store at the addresses that they are linked to, whatever lies there. */
function storeStrayVariables(state: ExtractionState): void {
  const { image, memory, zo } = state.context;
  const stack = Number(state.context.readRegister('rsp'));
  for (const { address, value } of findStrayStores(image, state.details)) {
    const base =
      value.base === 'number'
        ? 0
        : value.base === 'stub'
          ? zo
          : readUint32(memory, stack + 4 + 4 * value.base.argument);
    if (!memory.contains(address, 4)) continue;
    memory.write32(address, (base + value.offset) >>> 0);
    state.writes.push({ start: address, end: address + 4, role: 'stray-variable' });
  }
}

function rootPointerSearch(state: ExtractionState): RootPointerSearch | null {
  const { image, stub } = state.context;
  // Later stubs read the option where they look for ACPI's SRAT, behind nokaslr.
  const asked = state.commandLine?.includes('acpi_rsdp=') ?? false;
  const option = asked && reachesBefore(image, stub, 'acpi_rsdp', 'nokaslr');
  return findRootPointerSearch(image, stub.bits, option);
}

function looksBeforeConsole(state: ExtractionState): boolean {
  const { image, stub } = state.context;
  return state.messages.verbose && reachesBefore(image, stub, 'Wrong EFI loader signature.\n', 'earlyprintk');
}

function noteRootPointer(
  state: ExtractionState,
  search: RootPointerSearch,
  debug: (text: string) => void,
): void {
  const { memory, stub } = state.context;
  const { bootParams } = state.passed;
  const { address, searched } = getRsdpAddress(memory, bootParams, stub.bits, search, state.commandLine, {
    debug,
    stop: (variants, detail) => state.halt.stop(variants, detail),
  });
  memory.write64(bootParams + ACPI_RSDP_ADDR, address);
  state.searched = state.console.usesScreen ? [...searched, LOW_MEMORY] : searched;
}
