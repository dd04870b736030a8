// `bootscope/session`: a boot that is held, stepped and looked into.

export { type BootOptions, DEFAULT_BOOT_OPTIONS } from './boot/options.ts';
export { type BootSession, openBoot, type SessionMemory } from './boot/session.ts';
export type {
  PlaceOrText,
  Position,
  RunOptions,
  Stop,
  StopCause,
  StopReason,
  WatchedAccess,
  WatchedRange,
} from './boot/stop.ts';
export type { EventChoice } from './trace/event-choice.ts';
export { type Place, parsePlace, placeName } from './trace/place.ts';
