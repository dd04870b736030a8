// The part of the CPU's state that Unicorn has no register number for: hidden segment bases and the last exception's details.

import { CR0_PG, EFER_LME, EFER_NXE } from '../x86/control-registers.ts';
import type { Pointer, Transport } from './transport.ts';

/**
 * Reads and repairs hidden state through `uc_context_save`/`_restore`, whose memory is QEMU's CPUX86State
 * as it stands up to its `retaddr` field.
 */
export interface GuestEnvironment {
  /** Base address in the hidden part of CS. */
  readCsBase(): bigint;
  /** Attributes in the hidden part of CS, at the bits that they have in a descriptor's second doubleword. */
  readCsAttributes(): number;
  /** Base addresses in the hidden parts of the segment registers, by their numbers: ES, CS, SS, DS, FS, GS. */
  readSegmentBases(): readonly bigint[];
  /** Hidden part of SS: its base, and attributes as those of CS. */
  readStackSegment(): { readonly base: bigint; readonly attributes: number };
  /** Loads CS as real mode does: the base follows from the selector, the rest stays. */
  loadRealModeCs(selector: number): void;
  /** Sets or clears EFER.NXE; false where this build does not show it. */
  setNoExecute(enabled: boolean): boolean;
  /** Does something while CR0 says that paging is off, and nothing else has changed; false where this build does not show CR0. */
  withoutPaging(act: () => void): boolean;
  /** Sets the hidden copy of CR4.OSFXSR; true where it was clear. */
  allowVectorExtensions(): boolean;
  /**
   * Details of the exception or software interrupt that is being reported, and marks it as delivered.
   * QEMU's core counts a fault during an undelivered one as a double fault, and Unicorn never delivers.
   */
  takeException(): { readonly errorCode: number; readonly isSoftware: boolean };
}

const UC_X86_REG_GDTR = 243;
const UC_X86_REG_RAX = 35;
const UC_X86_REG_R15 = 113;
const UC_X86_REG_DR0 = 66;

const UC_X86_REG_CR0 = 50;
const UC_X86_REG_MSR = 248;
const MSR_EFER = 0xc0000080;

/** Offsets from `regs[0]` in CPUX86State of a 64-bit target (16 registers, eip, eflags, 3 cc words, 4 words of 32 bits). */
const R15 = 15 * 8;
const HIDDEN_FLAGS = 176;
const HIDDEN_OSFXSR = 1 << 22;
const SEGMENTS = 184;
const SEGMENT_SIZE = 24;
const SEGMENT_BASE = 8;
const SEGMENT_LIMIT = 16;
const SEGMENT_FLAGS = 20;
const SEGMENT_REGISTERS = 6;
const CS = 1;
const SS = 2;
/** After the six segments come LDT and TR, and behind GDT and IDT CR0. */
const GDT = 8;
const CR0 = 10;
/** From `dr[0]`: error_code, exception_is_int and exception_next_eip lie before it, old_exception behind it. */
const ERROR_CODE = -16;
const IS_INT = -12;
const DEBUG_REGISTERS = 8 * 8;
const DEBUG_POINTERS = 4;
const NO_EXCEPTION = -1;

const MARK = 0x5ca1_ab1e_0dd5_eed5n;
const MARK_LIMIT = 0xb007;

/** Offset of eight bytes, or -1. The state follows a header that may be no multiple of 8 long. */
function findWord(view: DataView, word: bigint): number {
  for (let offset = 0; offset + 8 <= view.byteLength; offset += 4) {
    if (view.getBigUint64(offset, true) === word) return offset;
  }
  return -1;
}

/** Offset of eight bytes that have been changed like this, or -1 where that is not the only place. */
function findChanged(before: DataView, after: DataView, from: bigint, to: bigint): number {
  const found: number[] = [];
  for (let offset = 0; offset + 8 <= after.byteLength; offset += 4) {
    if (after.getUint32(offset, true) === before.getUint32(offset, true)) continue;
    if (after.getBigUint64(offset, true) === to && before.getBigUint64(offset, true) === from)
      found.push(offset);
  }
  return found.length === 1 ? found[0]! : -1;
}

/**
 * Finds where the fields lie by writing marks through numbered registers and looking for them in a saved
 * context; the context is restored. Null where a build's layout doesn't match what is expected.
 * `scratch` points to 32 bytes that may be overwritten.
 */
export function findEnvironment(transport: Transport, scratch: Pointer): GuestEnvironment | null {
  const size = transport.contextSize();
  const saved = transport.contextAlloc();
  const probe = transport.contextAlloc();
  if (saved === null || probe === null || transport.contextSave(saved) !== 0) return null;
  const word = new DataView(transport.view(scratch, 32).buffer, transport.view(scratch, 32).byteOffset, 32);
  const mark = (id: number, value: bigint) => {
    word.setBigUint64(0, value, true);
    return transport.regWrite(id, scratch) === 0;
  };
  const marked =
    mark(UC_X86_REG_RAX, MARK) &&
    mark(UC_X86_REG_R15, MARK + 1n) &&
    mark(UC_X86_REG_DR0, MARK + 2n) &&
    mark(UC_X86_REG_DR0 + 1, MARK + 3n);
  word.setBigUint64(0, 0n, true);
  word.setBigUint64(8, MARK + 4n, true);
  word.setUint32(16, MARK_LIMIT, true);
  word.setUint32(20, 0, true);
  const markedTable = transport.regWrite(UC_X86_REG_GDTR, scratch) === 0;
  // EFER takes no marks, but every version that runs 64-bit code lets this bit be turned round.
  word.setUint32(0, MSR_EFER, true);
  const readMsr = transport.regRead(UC_X86_REG_MSR, scratch) === 0;
  const oldEfer = word.getBigUint64(8, true);
  word.setBigUint64(8, oldEfer ^ EFER_LME, true);
  const markedMsr = readMsr && transport.regWrite(UC_X86_REG_MSR, scratch) === 0;
  const kept = transport.contextSave(probe) === 0;
  if (transport.contextRestore(saved) !== 0 || !marked || !markedTable || !markedMsr || !kept) return null;

  const context = (pointer = probe) => {
    const bytes = transport.view(pointer, size);
    return new DataView(bytes.buffer, bytes.byteOffset, size);
  };
  let view = context();
  const regs = findWord(view, MARK);
  const debug = findWord(view, MARK + 2n);
  const efer = findChanged(context(saved), view, oldEfer, oldEfer ^ EFER_LME);
  if (regs < 0 || debug < 0) return null;
  const table = regs + SEGMENTS + GDT * SEGMENT_SIZE;
  const oldException = debug + DEBUG_REGISTERS + DEBUG_POINTERS * transport.pointerSize;
  const fits =
    oldException + 4 <= size &&
    view.getBigUint64(regs + R15, true) === MARK + 1n &&
    view.getBigUint64(debug + 8, true) === MARK + 3n &&
    view.getBigUint64(table + SEGMENT_BASE, true) === MARK + 4n &&
    view.getUint32(table + SEGMENT_LIMIT, true) === MARK_LIMIT &&
    // Nothing or a vector that counts for double faults.
    [NO_EXCEPTION, 0, 8, 10, 11, 12, 13, 14].includes(view.getInt32(oldException, true));
  transport.contextFree(saved);
  if (!fits) {
    transport.contextFree(probe);
    return null;
  }
  const save = () => {
    transport.contextSave(probe);
    // A view on a heap that has grown since throws when asked for its own length.
    if (view.buffer.byteLength === 0) view = context();
  };
  const cs = regs + SEGMENTS + CS * SEGMENT_SIZE;
  const ss = regs + SEGMENTS + SS * SEGMENT_SIZE;
  return {
    readCsBase() {
      save();
      return view.getBigUint64(cs + SEGMENT_BASE, true);
    },
    readCsAttributes() {
      save();
      return view.getUint32(cs + SEGMENT_FLAGS, true);
    },
    readSegmentBases() {
      save();
      return Array.from({ length: SEGMENT_REGISTERS }, (_, number) =>
        view.getBigUint64(regs + SEGMENTS + number * SEGMENT_SIZE + SEGMENT_BASE, true),
      );
    },
    readStackSegment() {
      save();
      return {
        base: view.getBigUint64(ss + SEGMENT_BASE, true),
        attributes: view.getUint32(ss + SEGMENT_FLAGS, true),
      };
    },
    loadRealModeCs(selector) {
      save();
      view.setUint32(cs, selector, true);
      view.setBigUint64(cs + SEGMENT_BASE, BigInt(selector) << 4n, true);
      transport.contextRestore(probe);
    },
    setNoExecute(enabled) {
      if (efer < 0) return false;
      save();
      const value = view.getBigUint64(efer, true);
      view.setBigUint64(efer, enabled ? value | EFER_NXE : value & ~EFER_NXE, true);
      transport.contextRestore(probe);
      return true;
    },
    withoutPaging(act) {
      save();
      const cr0 = view.getBigUint64(regs + SEGMENTS + CR0 * SEGMENT_SIZE, true);
      if (transport.regRead(UC_X86_REG_CR0, scratch) !== 0 || word.getBigUint64(0, true) !== cr0)
        return false;
      const put = (value: bigint) => {
        if (view.buffer.byteLength === 0) view = context();
        view.setBigUint64(regs + SEGMENTS + CR0 * SEGMENT_SIZE, value, true);
        transport.contextRestore(probe);
      };
      put(cr0 & ~CR0_PG);
      try {
        act();
      } finally {
        put(cr0);
      }
      return true;
    },
    allowVectorExtensions() {
      save();
      const flags = view.getUint32(regs + HIDDEN_FLAGS, true);
      if ((flags & HIDDEN_OSFXSR) !== 0) return false;
      view.setUint32(regs + HIDDEN_FLAGS, flags | HIDDEN_OSFXSR, true);
      transport.contextRestore(probe);
      return true;
    },
    takeException() {
      save();
      const errorCode = view.getInt32(debug + ERROR_CODE, true) >>> 0;
      const isSoftware = view.getInt32(debug + IS_INT, true) !== 0;
      if (view.getInt32(oldException, true) !== NO_EXCEPTION) {
        view.setInt32(oldException, NO_EXCEPTION, true);
        transport.contextRestore(probe);
      }
      return { errorCode, isSoftware };
    },
  };
}
