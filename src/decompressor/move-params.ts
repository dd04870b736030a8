// decompress_kernel of the stubs up to 2.6.21: a zImage's goes straight to 1 MiB; a bzImage's, which lies there itself, goes
// to low memory and behind the stub, and struct moveparams tells the stub's move routine what to put where.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { bootParamsOffset } from '../protocol/boot-params.ts';
import { readUint32 } from './extract-arguments.ts';
import {
  type Extraction,
  type ExtractionContext,
  flatSegment,
  NO_RELOCATIONS,
  type WrittenRange,
} from './extraction.ts';
import { findStubDetails } from './find-stub.ts';
import { GuestConsole } from './guest-console.ts';
import { GuestHalt, payloadBytes } from './guest-halt.ts';
import { StubMessages } from './stub-messages.ts';

const ONE_MIB = 0x100000;
/** Where the low buffer starts, and the highest address it may end at. */
const LOW_BUFFER_START = 0x2000;
const LOW_BUFFER_MAX = 0x90000;
/** Where stubs to 2.2 take the boot parameters from, which later ones are passed. */
const FIXED_BOOT_PARAMS = 0x90000;
/** Fields of the boot parameters as old stubs read them: extended memory in KiB by INT 15h AH=88h and AX=E801h. */
const EXT_MEM_K = bootParamsOffset('ext_mem_k');
const ALT_MEM_K = bootParamsOffset('alt_mem_k');

/**
 * The extraction of a `moveparams` stub. The decompressed kernel is not yet at its place in a bzImage: `returnValue` 1 sends
 * the stub to its move routine, which the guest then executes.
 */
export async function decompressMoved(context: ExtractionContext): Promise<Extraction> {
  const { image, stub, memory, zo } = context;
  const payload = image.payload!;
  const stack = Number(context.readRegister('rsp'));
  const moveParams = readUint32(memory, stack + 4);
  const details = findStubDetails(image);
  const end = details?.bss?.end;
  const bootParams = details?.argumentCount === 1 ? FIXED_BOOT_PARAMS : readUint32(memory, stack + 8);
  if (details === null || end === undefined) {
    throw new BootscopeError(
      'stub-arguments',
      'the stub does not show where its bss ends, behind which it decompresses to (emulated decompression runs it instead)',
    );
  }
  if (zo !== details.linkBase) {
    throw new BootscopeError(
      'stub-arguments',
      `the stub runs at ${hex(zo)} and is linked to ${hex(details.linkBase)}`,
    );
  }
  const high = zo + end >= ONE_MIB;
  const extended = Math.max(memory.read16(bootParams + EXT_MEM_K), memory.read32(bootParams + ALT_MEM_K));
  const needed = high ? 3 * 1024 : 1024;
  const console = new GuestConsole(memory, bootParams, context.ports ?? null);
  const messages = new StubMessages(image, stub, console, '', 0);
  const halt = new GuestHalt(context, messages);
  if (extended < needed) {
    halt.stop(
      [`Less than ${high ? 4 : 2}MB of memory`],
      `boot_params tells ${extended} KiB above 1 MiB, ${needed} are asked for`,
    );
  }
  messages.decompressing();
  const inputAddress = zo + payload.offset;
  const address = BigInt(zo + stub.extractKernel);
  const entry = readUint32(memory, zo + stub.exitJump + 1);
  const base = {
    output: BigInt(entry),
    virtualBase: BigInt(entry),
    entry: BigInt(entry),
    file: null,
    relocations: NO_RELOCATIONS,
    kaslr: null,
    cr3: null,
    clearsIdt: false,
    notices: [],
  };
  const input = payloadBytes(context, inputAddress);

  if (!high) {
    const room = payload.outputLength ?? memory.bytesFrom(ONE_MIB);
    if (!memory.contains(ONE_MIB, room)) {
      throw memoryError(room, ONE_MIB, memory.end);
    }
    const length = await halt.decompress(input, memory.view(ONE_MIB, room), inputAddress);
    messages.done(0);
    return {
      ...base,
      outputLength: length,
      returnValue: 0n,
      segments: [flatSegment(ONE_MIB, length)],
      console: console.text,
      steps: [
        {
          name: 'decompressed',
          address,
          summary: `${payload.codec}: ${payload.length} bytes at ${hex(inputAddress)} became ${length} at ${hex(ONE_MIB)}`,
        },
      ],
      writes: [{ start: ONE_MIB, end: ONE_MIB + length, role: 'decompressed' }],
    };
  }

  const heapEnd = findHeapEnd(context, zo + end);
  const lowEnd = Math.min(bootParams, LOW_BUFFER_MAX) & ~0xfff;
  const lowSize = lowEnd - LOW_BUFFER_START;
  const moveHigh = ONE_MIB + lowSize <= heapEnd;
  const highStart = moveHigh ? heapEnd : ONE_MIB + lowSize;
  const room = payload.outputLength ?? memory.bytesFrom(highStart);
  const bytes = await halt.decompressed(input, room, inputAddress);
  const { length } = bytes;
  const lowCount = Math.min(length, lowSize);
  const highCount = length - lowCount;
  if (!memory.contains(highStart, highCount)) {
    throw memoryError(highCount, highStart, memory.end);
  }
  memory.view(LOW_BUFFER_START, lowCount).set(bytes.subarray(0, lowCount));
  memory.view(highStart, highCount).set(bytes.subarray(lowCount));
  memory.write32(moveParams, LOW_BUFFER_START);
  memory.write32(moveParams + 4, lowCount);
  memory.write32(moveParams + 8, highStart);
  memory.write32(moveParams + 12, moveHigh ? highCount : 0);
  messages.done(0);
  const writes: WrittenRange[] = [
    { start: LOW_BUFFER_START, end: LOW_BUFFER_START + lowCount, role: 'low-buffer' },
  ];
  if (highCount > 0) {
    writes.push({ start: highStart, end: highStart + highCount, role: 'high-buffer' });
  }
  return {
    ...base,
    outputLength: length,
    returnValue: 1n,
    segments: [flatSegment(entry, length)],
    console: console.text,
    steps: [
      {
        name: 'decompressed',
        address,
        summary: `${payload.codec}: ${payload.length} bytes at ${hex(inputAddress)} became ${lowCount} at ${hex(LOW_BUFFER_START)} and ${highCount} at ${hex(highStart)}`,
      },
    ],
    writes,
  };
}

function memoryError(bytes: number, address: number, ramSize: number): BootscopeError {
  return new BootscopeError(
    'stub-memory',
    `the kernel needs ${hex(bytes)} bytes at ${hex(address)}, RAM ends at ${hex(ramSize)}`,
  );
}

/**
 * The end of the heap behind the stub's bss, HEAP_SIZE further on: 8 to 16 KiB, whole pages. The compiler folds the sum into one
 * number, so the stub holds it as it is.
 */
function findHeapEnd(context: ExtractionContext, bssEnd: number): number {
  const { image } = context;
  const stubLength = image.payload!.offset;
  const view = new DataView(
    image.protectedModeCode.buffer,
    image.protectedModeCode.byteOffset,
    image.protectedModeCode.byteLength,
  );
  const found = new Set<number>();
  for (let at = 0; at + 4 <= stubLength; at++) {
    const distance = view.getUint32(at, true) - bssEnd;
    if (distance > 0 && distance <= 0x10000 && distance % 0x1000 === 0) {
      found.add(bssEnd + distance);
    }
  }
  const [heapEnd] = found;
  if (heapEnd === undefined || found.size > 1) {
    throw new BootscopeError(
      'stub-arguments',
      `the stub names ${found.size} ends of the heap behind ${hex(bssEnd)} (emulated decompression runs it instead)`,
    );
  }
  return heapEnd;
}
