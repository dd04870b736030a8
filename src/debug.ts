// `bootscope/debug`: questions to a held boot, as a debugger asks them, and gdb's remote protocol without a socket.

export type { ObservedAccess } from './boot/access-observer.ts';
export type { DecodedInstruction } from './boot/instruction-decoder.ts';
export type { InstructionListener, InstructionStream, RegisterChanges } from './boot/instruction-stream.ts';
export { GdbConnection, type GdbFarewell, type GdbStream } from './debug/gdb/connection.ts';
export type { GdbRegisterName } from './debug/gdb/registers.ts';
export type { GdbMemoryRange, GdbPoint, GdbResume, GdbStop, GdbTarget } from './debug/gdb/target.ts';
export { findLastStop, type LastStop, type WatchedPoints } from './debug/last-stop.ts';
export { Monitor, type MonitorFiles } from './debug/monitor.ts';
export { decodeContext } from './debug/session-context.ts';
export { SessionTarget } from './debug/session-target.ts';
export { type Accessor, type Accessors, findAccessors } from './debug/writers.ts';
export {
  type DecodeContext,
  decodeStructure,
  STRUCTURE_NAMES,
  type StructureName,
} from './trace/decode/decode.ts';
export { type DecodedField, formatDecoded } from './trace/decode/decoded.ts';
