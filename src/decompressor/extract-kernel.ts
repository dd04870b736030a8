// extract_kernel (decompress_kernel before 4.6) in TypeScript: takes its arguments where the stub put them, checks them as the
// function does, decompresses into guest memory, places the segments, relocates, and says where the kernel begins.

import { codecByName } from '../codecs/registry.ts';
import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { BOOT_PARAMS_SIZE, bootParamsOffset } from '../protocol/boot-params.ts';
import { calledFunctions, callTargets, isLidt, straightRuns } from '../x86/control-flow.ts';
import { CR4_LA57 } from '../x86/control-registers.ts';
import { hasOption } from './command-line.ts';
import { type ExtractArguments, readArguments, readUint32 } from './extract-arguments.ts';
import {
  type ExtractedSegment,
  type Extraction,
  type ExtractionContext,
  type ExtractionStep,
  flatSegment,
  type KaslrRequest,
  loadPhysicalAddressOf,
  NO_RELOCATIONS,
  type WrittenRange,
} from './extraction.ts';
import { findStubDetails, type StubDetails } from './find-stub.ts';
import { GuestConsole } from './guest-console.ts';
import { GuestHalt, payloadBytes } from './guest-halt.ts';
import { mapIdentity } from './identity-map.ts';
import {
  chooseRandomLocation,
  findKaslr,
  type KaslrChoice,
  type KaslrGeneration,
  type KaslrInput,
  readGuestCommandLine,
} from './kaslr.ts';
import { type KernelFileParts, readKernelFileParts } from './kernel-sections.ts';
import { findKernelTotalSize } from './kernel-size.ts';
import { decompressMoved } from './move-params.ts';
import {
  applyRelocations,
  type KernelElf,
  type PlacedSegment,
  placeSegments,
  type RelocationCounts,
  readKernelElf,
  startsWithElf,
} from './place-kernel.ts';
import { efiBits, findRootPointerSearch, getRsdpAddress, type RootPointerSearch } from './root-pointer.ts';
import { sanitizeBootParams } from './sanitize-boot-params.ts';
import { findStrayStores } from './stray-stores.ts';
import { reachesBefore } from './string-references.ts';
import { findTrampolineVariable, StubMessages } from './stub-messages.ts';
import { stubHasString, stubHasText } from './stub-text.ts';

export type {
  ArgumentRegister,
  ExtractedSegment,
  Extraction,
  ExtractionContext,
  ExtractionStep,
  KaslrRequest,
  WrittenRange,
} from './extraction.ts';

/**
 * Does what extract_kernel does, up to its return; the caller then returns to the stub with `returnValue`.
 *
 * Equal to the guest's own function: all memory outside the stub, boot_params, text on screen and serial port, page tables with
 * their accessed and dirty bits, entropy asked for. Different: the stub's own variables, heap and stack, and the registers a
 * function may change. Left out: EFI (memory map, root pointer from its tables), SEV and TDX, unaccepted memory, immovable
 * memory of ACPI's SRAT.
 *
 * @throws BootscopeError `guest-error` where the guest's function would print an error and halt (the message quotes the
 *   kernel's), `stub-arguments` when the arguments do not fit the image, `stub-memory` when RAM is too small for the output
 */
export async function extractKernel(context: ExtractionContext): Promise<Extraction> {
  const { image, stub } = context;
  const payload = image.payload;
  if (payload === null) {
    throw new BootscopeError(
      'stub-payload',
      'the image has no payload that could be decompressed: no codec magic was found in its protected-mode code',
    );
  }
  if (stub.abi === 'moveparams') {
    return decompressMoved(context);
  }
  const passed = readArguments(context, payload.offset, payload.length);
  const run = new ExtractionRun(context, passed);
  return run.run();
}

const ACPI_RSDP_ADDR = bootParamsOffset('acpi_rsdp_addr');
const LOADFLAGS = bootParamsOffset('loadflags');
const XLOADFLAGS = bootParamsOffset('xloadflags');
/** Room for a kernel whose size nothing tells. */
const LONGEST_KERNEL = 2 ** 31;
const KASLR_FLAG = 0x02;
const XLF_MEM_ENCRYPTION = 0x80;

/** One call of extract_kernel; its methods stand in the order of the function. */
class ExtractionRun {
  readonly #context: ExtractionContext;
  readonly #passed: ExtractArguments;
  readonly #details: StubDetails | null;
  readonly #commandLine: string | null;
  readonly #console: GuestConsole;
  readonly #messages: StubMessages;
  readonly #halt: GuestHalt;
  readonly #steps: ExtractionStep[] = [];
  readonly #writes: WrittenRange[] = [];
  readonly #notices: string[] = [];
  #kaslr: KaslrChoice | null = null;

  constructor(context: ExtractionContext, passed: ExtractArguments) {
    this.#context = context;
    this.#passed = passed;
    const { image, stub, memory } = context;
    this.#details = findStubDetails(image);
    this.#commandLine = readGuestCommandLine(memory, passed.bootParams).text;
    this.#console = new GuestConsole(memory, passed.bootParams, context.ports ?? null);
    this.#messages = new StubMessages(
      image,
      stub,
      this.#console,
      this.#commandLine,
      memory.read8(passed.bootParams + LOADFLAGS),
    );
    this.#halt = new GuestHalt(context, this.#messages);
  }

  async run(): Promise<Extraction> {
    this.#prepareBootParams();
    const mode = this.#kaslrMode();
    const chooses = mode.kind !== 'off';
    const disabled = this.#disabledMessage();
    const { inputAddress, output } = this.#passed;
    const input = payloadBytes(this.#context, inputAddress);
    if (!chooses && !this.#messages.verbose) {
      // Nothing depends on what comes out: straight to its place.
      disabled?.();
      this.#checkDestination(output);
      this.#messages.decompressing(this.#byEfi);
      const length = await this.#halt.decompress(input, this.#room(output), inputAddress);
      return this.#place(output, this.#loadAddressHint(), length);
    }
    // The choice needs the size of the kernel, which only its headers tell.
    const { image, memory } = this.#context;
    const room = image.payload!.outputLength ?? Math.min(memory.bytesFrom(output), LONGEST_KERNEL);
    const bytes = await this.#halt.decompressed(input, room, inputAddress);
    const chosen = this.#choose(bytes, mode, disabled);
    this.#checkDestination(chosen.physical);
    this.#messages.decompressing(this.#byEfi);
    this.#room(chosen.physical, bytes.length).set(bytes);
    return this.#place(chosen.physical, chosen.virtual, bytes.length);
  }

  /** What extract_kernel does to boot_params before anything else, and its console. */
  #prepareBootParams(): void {
    const { image, stub, memory } = this.#context;
    const { bootParams } = this.#passed;
    this.#storeStrayVariables();
    if (stub.exitRegister === 'rax') {
      memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) & ~KASLR_FLAG);
    }
    if (stubHasString(image, 'mem_encrypt=on')) {
      if (
        hasOption(this.#commandLine, 'mem_encrypt=on') &&
        !hasOption(this.#commandLine, 'mem_encrypt=off')
      ) {
        const flags = memory.read8(bootParams + XLOADFLAGS);
        memory.write8(bootParams + XLOADFLAGS, flags | XLF_MEM_ENCRYPTION);
      }
    }
    const search = this.#rootPointerSearch();
    // 5.0 and 5.1 look for it before there is a console: what they have to say is lost.
    const early = search !== null && this.#looksBeforeConsole();
    if (early) this.#noteRootPointer(search, () => {});
    sanitizeBootParams(image, memory.view(bootParams, BOOT_PARAMS_SIZE));
    if (stubHasText(image, 'earlyprintk\0')) {
      this.#console.initialiseSerial(this.#commandLine);
    }
    if (search !== null && !early) this.#noteRootPointer(search, (text) => this.#messages.debug(text));
    this.#messages.earlyConsole();
  }

  /** What some 32-bit stubs store at the addresses that they are linked to, whatever lies there. */
  #storeStrayVariables(): void {
    const { image, memory, zo } = this.#context;
    const stack = Number(this.#context.readRegister('rsp'));
    for (const { address, value } of findStrayStores(image, this.#details)) {
      const base =
        value.base === 'number'
          ? 0
          : value.base === 'stub'
            ? zo
            : readUint32(memory, stack + 4 + 4 * value.base.argument);
      if (!memory.contains(address, 4)) continue;
      memory.write32(address, (base + value.offset) >>> 0);
      this.#writes.push({ start: address, end: address + 4, role: 'stray-variable' });
    }
  }

  #rootPointerSearch(): RootPointerSearch | null {
    const { image, stub } = this.#context;
    const code = image.protectedModeCode;
    // Later stubs read the option where they look for ACPI's SRAT, behind nokaslr.
    const option = reachesBefore(code, stub.extractKernel, stub.bits, 'acpi_rsdp', 'nokaslr');
    return findRootPointerSearch(image, stub.bits, option);
  }

  #looksBeforeConsole(): boolean {
    const { image, stub } = this.#context;
    return (
      this.#messages.verbose &&
      reachesBefore(
        image.protectedModeCode,
        stub.extractKernel,
        stub.bits,
        'Wrong EFI loader signature.\n',
        'earlyprintk',
      )
    );
  }

  #noteRootPointer(search: RootPointerSearch, debug: (text: string) => void): void {
    const { memory, stub } = this.#context;
    const { bootParams } = this.#passed;
    const address = getRsdpAddress(memory, bootParams, stub.bits, search, this.#commandLine, {
      debug,
      stop: (variants, detail) => this.#halt.stop(variants, detail),
    });
    memory.write64(bootParams + ACPI_RSDP_ADDR, address);
  }

  get #byEfi(): boolean {
    return efiBits(this.#context.memory, this.#passed.bootParams) !== null;
  }

  #kaslrMode(): KaslrRequest {
    const request = this.#context.kaslr ?? { kind: 'off' };
    if (request.kind === 'draw' && findKaslr(this.#context.image, this.#context.stub) === null) {
      this.#notices.push('this stub was built without CONFIG_RANDOMIZE_BASE: nothing is drawn');
      return { kind: 'off' };
    }
    return request;
  }

  /** Prints what the stub says when the command line keeps it from randomising; null where it says nothing. */
  #disabledMessage(): (() => void) | null {
    const { image } = this.#context;
    const warnings = {
      optIn: "KASLR disabled: 'kaslr' not on cmdline (hibernation selected).",
      optOut: "KASLR disabled: 'nokaslr' on cmdline.",
    };
    // To 4.6, and only with CONFIG_X86_VERBOSE_BOOTUP.
    const notes = { optIn: 'KASLR disabled by default...\n', optOut: 'KASLR disabled by cmdline...\n' };
    for (const { optIn, optOut } of this.#messages.verbose ? [warnings, notes] : [warnings]) {
      const text = stubHasText(image, optIn) ? optIn : optOut;
      const says =
        text === optIn ? !hasOption(this.#commandLine, 'kaslr') : hasOption(this.#commandLine, 'nokaslr');
      if (says && stubHasText(image, text)) {
        return () => (optIn === warnings.optIn ? this.#console.warn(text) : this.#console.put(text));
      }
    }
    return null;
  }

  /** Whether extract_kernel takes the stub's IDT away (5.12 on): whether it gets to a LIDT. */
  #clearsIdt(): boolean {
    const { image, stub } = this.#context;
    if (!(this.#details?.handlesPageFaults ?? false)) return false;
    const code = image.protectedModeCode;
    for (const { instructions } of calledFunctions(code, stub.extractKernel, stub.bits)) {
      if (instructions.some(isLidt)) return true;
    }
    // Calls behind a jump table, up to where the next function begins.
    const payload = image.payload!;
    const functions = callTargets(code, payload.offset + payload.length, code.length);
    const end = functions.reduce(
      (least, target) => (target > stub.extractKernel ? Math.min(least, target) : least),
      code.length,
    );
    return callTargets(code, stub.extractKernel, end).some((target) =>
      [...straightRuns(code, target, stub.bits)].flat().some(isLidt),
    );
  }

  /** Whether the stub does not even look at relocations, as those of 3.19 to 4.7 (64-bit) where KASLR changed nothing. */
  #skipsRelocations(output: number): boolean {
    const { image, stub } = this.#context;
    const generation = findKaslr(image, stub);
    return (
      stub.bits === 64 &&
      generation?.kind === 'physical' &&
      (generation.avoids === 'whole' || this.#passed.runSize !== null) &&
      output === this.#passed.output
    );
  }

  /** LOAD_PHYSICAL_ADDR as far as the header tells; the decompressed kernel's own where it does not. */
  #loadAddressHint(): number | null {
    const preferred = this.#context.image.header.get('pref_address');
    return preferred !== 0 ? preferred : null;
  }

  /** Where the decompressed kernel goes in RAM. */
  #room(output: number, length = this.#context.image.payload!.outputLength): Uint8Array {
    const { memory } = this.#context;
    const room = length ?? memory.bytesFrom(output);
    if (room <= 0 || !memory.contains(output, room)) {
      throw new BootscopeError(
        'stub-memory',
        `the kernel needs ${hex(Math.max(room, 0))} bytes at ${hex(output)}, RAM ends at ${hex(memory.end)} (--memory gives more)`,
      );
    }
    return memory.view(output, room);
  }

  /** Reports the sizes as a verbose stub does, and finds the place for the kernel. */
  #choose(
    bytes: Uint8Array,
    mode: KaslrRequest,
    disabled: (() => void) | null,
  ): { physical: number; virtual: number | null } {
    const { image, stub, zo, memory } = this.#context;
    const { output, inputAddress, inputLength, bootParams } = this.#passed;
    const unchanged = { physical: output, virtual: this.#loadAddressHint() };
    if (!startsWithElf(bytes)) {
      return unchanged;
    }
    const elf = readKernelElf(bytes);
    const generation = findKaslr(image, stub);
    const total = kernelTotalSize(this.#context, this.#passed, elf);
    const needed = Math.max(bytes.length, total.bytes);
    const rounded = generation?.roundsSize === false || stub.bits === 32 ? needed : alignTwoMib(needed);
    const variable = this.#messages.verbose ? findTrampolineVariable(image, stub) : null;
    this.#messages.values(
      {
        input_data: inputAddress,
        input_len: inputLength,
        output,
        output_len: bytes.length,
        run_size: total.bytes,
        kernel_total_size: total.bytes,
        needed_size: rounded,
      },
      variable === null ? null : memory.read64(zo + variable),
    );
    if (mode.kind === 'off') {
      disabled?.();
      return unchanged;
    }
    const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
    const alignment = image.header.get('kernel_alignment') || 2 ** 21;
    if (mode.kind === 'forced') {
      if (generation?.setsFlag === true) {
        memory.write8(bootParams + LOADFLAGS, memory.read8(bootParams + LOADFLAGS) | KASLR_FLAG);
      }
      return this.#forced(mode, rounded, alignment, loadPhysicalAddress);
    }
    if (!total.confirmed && !looksAtLengthAlone(image, generation!)) {
      this.#notices.push(
        `the kernel's size with bss (${hex(total.bytes)}) is taken from its program headers; the stub's code does not show it`,
      );
    }
    const choice = chooseRandomLocation(
      kaslrInput(this.#context, this.#passed, generation!, elf, bytes.length, total.bytes),
      mode.entropy,
      {
        warn: (text) => this.#console.warn(text),
        debug: (text) => this.#messages.debug(text),
      },
    );
    this.#kaslr = choice;
    this.#notices.push(...choice.slots.notices);
    return { physical: choice.physical, virtual: stub.bits === 64 ? choice.virtual : null };
  }

  #forced(
    mode: { readonly physical: number | null; readonly virtual: number | null },
    size: number,
    alignment: number,
    loadPhysicalAddress: number,
  ): { physical: number; virtual: number } {
    const physical = mode.physical ?? this.#passed.output;
    const virtual = mode.virtual ?? loadPhysicalAddress;
    const { memory, stub, zo, image } = this.#context;
    for (const [name, value] of [
      ['physical', physical],
      ['virtual', virtual],
    ] as const) {
      if (value % alignment !== 0) {
        throw new BootscopeError(
          'kaslr-forced',
          `the forced ${name} address ${hex(value)} is no multiple of ${hex(alignment)}`,
        );
      }
    }
    if (physical < loadPhysicalAddress && physical < this.#passed.output) {
      throw new BootscopeError(
        'kaslr-forced',
        `the forced physical address ${hex(physical)} lies below ${hex(loadPhysicalAddress)}, where the kernel may begin`,
      );
    }
    if (!memory.contains(physical, size)) {
      throw new BootscopeError(
        'kaslr-forced',
        `a kernel of ${hex(size)} bytes at ${hex(physical)} does not fit into RAM, which ends at ${hex(memory.end)}`,
      );
    }
    // Decompressing in place is safe at the output alone; elsewhere the kernel must keep clear of the stub.
    const stubEnd = zo + (this.#details?.end ?? image.protectedModeCode.length);
    if (
      physical !== this.#passed.output &&
      physical < stubEnd &&
      physical + size > this.#passed.inputAddress
    ) {
      throw new BootscopeError(
        'kaslr-forced',
        `a kernel of ${hex(size)} bytes at ${hex(physical)} lies over the compressed one at ${hex(this.#passed.inputAddress)} to ${hex(stubEnd)}`,
      );
    }
    if (stub.bits === 64 && (virtual < loadPhysicalAddress || virtual + size > 2 ** 30)) {
      throw new BootscopeError(
        'kaslr-forced',
        `the forced virtual address ${hex(virtual)} is outside ${hex(loadPhysicalAddress)} to ${hex(2 ** 30 - size)}`,
      );
    }
    return { physical, virtual };
  }

  /** The checks of extract_kernel between the choice and the decompression. */
  #checkDestination(output: number): void {
    const { image, stub, zo } = this.#context;
    const { header } = image;
    // MIN_KERNEL_ALIGN; older stubs check against CONFIG_PHYSICAL_ALIGN, which is kernel_alignment.
    const alignment = header.has('min_alignment')
      ? 2 ** header.get('min_alignment')
      : header.get('kernel_alignment');
    if (alignment > 0 && output % alignment !== 0) {
      this.#halt.stop(
        [
          'Destination physical address inappropriately aligned',
          'Destination address inappropriately aligned',
          'Destination address not CONFIG_PHYSICAL_ALIGN aligned',
          'Destination address not 2M aligned',
        ],
        `${hex(output)} is no multiple of ${hex(alignment)}`,
      );
    }
    if (stub.bits === 64 && zo > 0x3fffffffffff) {
      this.#halt.stop(['Destination address too large'], `the heap lies above ${hex(0x3fffffffffff)}`);
    }
    const preferred = header.get('pref_address');
    const fixed = header.has('relocatable_kernel') && header.get('relocatable_kernel') === 0;
    if (fixed && preferred !== 0 && output !== preferred) {
      this.#halt.stop(
        [
          'Destination address does not match LOAD_PHYSICAL_ADDR',
          'Destination virtual address changed when not relocatable',
          'Wrong destination address',
        ],
        `${hex(output)} is not ${hex(preferred)}, and the kernel cannot be moved`,
      );
    }
  }

  /** parse_elf, handle_relocations and the way out. */
  #place(output: number, chosenVirtual: number | null, length: number): Extraction {
    const { image, stub, memory, zo } = this.#context;
    const payload = image.payload!;
    const address = BigInt(zo + stub.extractKernel);
    this.#steps.push({
      name: 'decompressed',
      address,
      summary: `${payload.codec}: ${payload.length} bytes at ${hex(this.#passed.inputAddress)} became ${length} at ${hex(output)}`,
    });
    this.#writes.push({ start: output, end: output + length, role: 'decompressed' });
    const bytes = memory.view(output, length);
    if (!startsWithElf(bytes)) {
      return this.#flat(output, length);
    }
    this.#messages.parsingElf();
    const elf = readKernelElf(bytes);
    const loadPhysicalAddress = loadPhysicalAddressOf(image, elf);
    this.#checkMapping(elf);
    const file = readKernelFileParts(
      bytes,
      elf.segments.map(({ paddr, vaddr, memsz }) => ({
        paddr: BigInt(output + paddr - loadPhysicalAddress),
        vaddr,
        memsz: BigInt(memsz),
      })),
    );
    const placed = this.#guestErrors(() =>
      placeSegments(
        memory,
        output,
        length,
        elf,
        loadPhysicalAddress,
        stubHasText(image, "Alignment of LOAD segment isn't multiple of 2MB"),
      ),
    );
    this.#steps.push({
      name: 'parse_elf',
      address,
      summary: `${placed.length} segments moved to ${placed.map((segment) => hex(segment.address)).join(', ')}`,
    });
    for (const [index, segment] of placed.entries()) {
      this.#writes.push({
        start: segment.address,
        end: segment.address + segment.filesz,
        role: 'segment',
        segment: index,
      });
    }
    const virtual = chosenVirtual ?? loadPhysicalAddress;
    const relocations = this.#relocate(output, length, elf, loadPhysicalAddress, virtual, placed);
    const total = relocations.relocations32 + relocations.inverse32 + relocations.relocations64;
    if (total > 0) {
      this.#steps.push({
        name: 'handle_relocations',
        address,
        summary: `${relocations.relocations32} 32-bit, ${relocations.inverse32} inverse and ${relocations.relocations64} 64-bit relocations`,
      });
    }
    const offset = elf.entry - loadPhysicalAddress;
    this.#messages.done(offset);
    this.#mapTouched(output, length, placed);
    const entry = stub.abi.endsWith('rmode-output') ? output + offset : output;
    const virtualShift =
      elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : BigInt(output - loadPhysicalAddress);
    const kernelVirtual = elf.virtualOffset + BigInt(elf.physicalBase);
    return this.#result(output, length, {
      virtualBase: kernelVirtual + virtualShift,
      entry,
      segments: placed.map((segment) => ({
        paddr: BigInt(segment.address),
        // The per-CPU segment of x86-64 is linked at 0 and never moves.
        vaddr: segment.vaddr >= kernelVirtual ? segment.vaddr + virtualShift : segment.vaddr,
        filesz: BigInt(segment.filesz),
        memsz: BigInt(segment.memsz),
        flags: segment.flags,
      })),
      file,
      relocations,
    });
  }

  /** Kernels up to about 2.6.28: the payload is the kernel's memory image itself. */
  #flat(output: number, length: number): Extraction {
    const refusal = 'Kernel is not a valid ELF file';
    if (stubHasText(this.#context.image, refusal)) {
      const start = Buffer.from(this.#context.memory.viewUpTo(output, 4)).toString('hex');
      this.#halt.stop([refusal], `the ${length} bytes at ${hex(output)} start with ${start}`);
    }
    this.#messages.done(0);
    return this.#result(output, length, {
      virtualBase: BigInt(output),
      entry: output,
      segments: [flatSegment(output, length)],
      file: null,
      relocations: NO_RELOCATIONS,
    });
  }

  /** i386: kernel memory must lie in the direct mapping, less 128 MiB for vmalloc. */
  #checkMapping(elf: KernelElf): void {
    const { stub, zo } = this.#context;
    if (stub.bits !== 32) {
      return;
    }
    const heap = zo + (this.#details?.heap ?? this.#details?.bss?.start ?? 0);
    const limit = Number(BigInt.asUintN(32, -elf.virtualOffset - BigInt(128 << 20) - 1n) & 0x7fffffffn);
    if (heap > limit) {
      this.#halt.stop(['Destination address too large'], `the heap at ${hex(heap)} lies above ${hex(limit)}`);
    }
  }

  /** i386 kernels move with their physical address, x86-64 kernels with the virtual one that KASLR chooses. */
  #relocate(
    output: number,
    length: number,
    elf: KernelElf,
    loadPhysicalAddress: number,
    virtual: number,
    placed: readonly PlacedSegment[],
  ): RelocationCounts {
    const { stub, memory, image } = this.#context;
    // Stubs that do not take the return value (jmp *%ebp) relocate by themselves, in assembly, after the call.
    if (stub.exitRegister !== 'rax') {
      return NO_RELOCATIONS;
    }
    const physicalDelta = BigInt(output - loadPhysicalAddress);
    const delta = elf.bits === 64 ? BigInt(virtual - loadPhysicalAddress) : physicalDelta;
    if (stubHasText(image, 'relocation outside of kernel') && !this.#skipsRelocations(output)) {
      this.#messages.relocating(delta !== 0n);
    }
    return this.#guestErrors(() =>
      applyRelocations({
        memory,
        output,
        length,
        bits: elf.bits,
        inverse: stubHasText(image, 'inverse 32-bit relocation outside of kernel'),
        map: physicalDelta - elf.virtualOffset,
        delta,
        end: Math.max(...placed.map((segment) => segment.address + segment.memsz)),
      }),
    );
  }

  /** The text of a `guest-error` belongs on the guest's console too. */
  #guestErrors<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      if (error instanceof BootscopeError && error.code === 'guest-error') {
        this.#messages.halt(/"([^"]*)"/.exec(error.message)?.[1] ?? error.message);
      }
      throw error;
    }
  }

  /** Leaves the page tables as the guest's own accesses would have. */
  #mapTouched(output: number, length: number, placed: readonly PlacedSegment[]): void {
    const { zo, memory, stub } = this.#context;
    if (stub.bits !== 64) {
      return;
    }
    try {
      mapIdentity(
        {
          memory,
          cr3: this.#context.readRegister('cr3'),
          fiveLevels: (this.#context.readRegister('cr4') & CR4_LA57) !== 0n,
          stubStart: zo,
          stubEnd: zo + (this.#details?.end ?? 0),
          maps: this.#details?.handlesPageFaults ?? false,
        },
        [
          { start: 0, end: 0x100000, written: false },
          {
            start: this.#passed.inputAddress,
            end: this.#passed.inputAddress + this.#passed.inputLength,
            written: false,
          },
          { start: output, end: output + length, written: true },
          ...placed.map(({ address, filesz }) => ({ start: address, end: address + filesz, written: true })),
        ],
      );
    } catch (error) {
      // The guest can map what it misses by itself, as long as its handler stands.
      if (!(error instanceof BootscopeError)) {
        throw error;
      }
      this.#notices.push(
        `the kernel's memory could not be mapped in the stub's page tables: ${error.message}`,
      );
    }
  }

  #result(
    output: number,
    length: number,
    kernel: {
      readonly virtualBase: bigint;
      readonly entry: number;
      readonly segments: readonly ExtractedSegment[];
      readonly file: KernelFileParts | null;
      readonly relocations: RelocationCounts;
    },
  ): Extraction {
    return {
      output: BigInt(output),
      outputLength: length,
      virtualBase: kernel.virtualBase,
      returnValue: BigInt(kernel.entry),
      entry: BigInt(kernel.entry),
      segments: kernel.segments,
      file: kernel.file,
      relocations: kernel.relocations,
      steps: this.#steps,
      writes: this.#writes,
      kaslr: this.#kaslr,
      console: this.#console.text,
      clearsIdt: this.#clearsIdt(),
      notices: this.#notices,
    };
  }
}

/** The first kernels with KASLR look at the decompressed length alone, until they are passed run_size too. */
function looksAtLengthAlone(image: KernelImage, generation: KaslrGeneration): boolean {
  return generation.avoids === 'parts' && (findStubDetails(image)?.argumentCount ?? 0) <= 6;
}

/** The kernel's size with bss and brk, as the stub knows it. */
function kernelTotalSize(
  context: ExtractionContext,
  passed: ExtractArguments,
  elf: KernelElf,
): { readonly bytes: number; readonly confirmed: boolean } {
  return passed.runSize === null
    ? findKernelTotalSize(context.image, context.stub, elf)
    : { bytes: passed.runSize, confirmed: true };
}

function kaslrInput(
  context: ExtractionContext,
  passed: ExtractArguments,
  generation: KaslrGeneration,
  elf: KernelElf,
  outputLength: number,
  totalSize: number,
): KaslrInput {
  const { image, stub, zo, memory } = context;
  const details = findStubDetails(image);
  const heap = details?.heap ?? null;
  const stackEnd = details?.stackEnd ?? null;
  const cr3 = stub.bits === 64 ? Number(context.readRegister('cr3')) : 0;
  return {
    bits: stub.bits,
    generation,
    memory,
    bootParams: passed.bootParams,
    input: passed.inputAddress,
    inputLength: passed.inputLength,
    output: passed.output,
    outputSize: looksAtLengthAlone(image, generation) ? outputLength : Math.max(outputLength, totalSize),
    loadPhysicalAddress: loadPhysicalAddressOf(image, elf),
    alignment: image.header.get('kernel_alignment') || 2 ** 21,
    startedAt32: cr3 >= zo && cr3 < zo + (details?.end ?? 0),
    ...(heap !== null && stackEnd !== null ? { heapAndStack: { start: zo + heap, end: zo + stackEnd } } : {}),
  };
}

/**
 * What KASLR would choose from in a guest that stands at the first instruction of extract_kernel. Changes nothing there.
 *
 * @returns null for a stub without KASLR
 * @throws BootscopeError as `extractKernel`
 */
export async function readKaslrInput(context: ExtractionContext): Promise<KaslrInput | null> {
  const { image, stub, memory } = context;
  const payload = image.payload;
  const generation = payload === null ? null : findKaslr(image, stub);
  if (payload === null || generation === null) {
    return null;
  }
  const passed = readArguments(context, payload.offset, payload.length);
  const buffer = new Uint8Array(
    payload.outputLength ?? Math.min(memory.bytesFrom(passed.output), LONGEST_KERNEL),
  );
  const codec = await codecByName(payload.codec);
  const { bytesWritten } = await codec.decompress(payloadBytes(context, passed.inputAddress), buffer);
  const elf = readKernelElf(buffer.subarray(0, bytesWritten));
  const total = kernelTotalSize(context, passed, elf);
  return kaslrInput(context, passed, generation, elf, bytesWritten, total.bytes);
}

function alignTwoMib(value: number): number {
  return Math.ceil(value / 2 ** 21) * 2 ** 21;
}
