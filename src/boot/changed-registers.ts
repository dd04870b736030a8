// Which general registers, and whether the flags, an instruction may change: those that need not be looked at otherwise.

import type * as Iced from 'iced-x86';

/** RFLAGS in a set of registers, behind the sixteen by their numbers. */
export const FLAGS_PLACE = 16;
export const ALL_REGISTERS = 2 ** (FLAGS_PLACE + 1) - 1;
const FLAGS = 1 << FLAGS_PLACE;

/** As a set: a bit for each general register, by its number, and one for RFLAGS. Of what is no instruction all. */
export function changedRegisters(
  iced: typeof Iced,
  factory: Iced.InstructionInfoFactory,
  instruction: Iced.Instruction,
): number {
  const { FlowControl, OpAccess, RegisterExt } = iced;
  const { flowControl } = instruction;
  // What these do is the host's matter.
  if (
    instruction.isInvalid ||
    flowControl === FlowControl.Interrupt ||
    flowControl === FlowControl.Exception ||
    instruction.isPrivileged
  ) {
    return ALL_REGISTERS;
  }
  let changes = instruction.rflagsModified === 0 ? 0 : FLAGS;
  const info = factory.info(instruction);
  for (const used of info.usedRegisters()) {
    const { access, register } = used;
    used.free();
    const reads = access === OpAccess.Read || access === OpAccess.CondRead || access === OpAccess.NoMemAccess;
    if (!reads && RegisterExt.isGPR(register)) {
      changes |= 1 << RegisterExt.number(RegisterExt.fullRegister(register));
    }
  }
  info.free();
  return changes;
}
