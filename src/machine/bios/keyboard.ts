// INT 16h: keys from the buffer in the BDA, where one is put when the guest asks and there is none.

import type { PhysicalMemory } from '../../x86/physical-memory.ts';
import type { Clock } from '../clock.ts';
import { type Key, nobodyPresses } from '../keys.ts';
import {
  BDA,
  BDA_KEYBOARD_END,
  BDA_KEYBOARD_FLAGS,
  BDA_KEYBOARD_HEAD,
  BDA_KEYBOARD_START,
  BDA_KEYBOARD_TAIL,
} from './rom.ts';
import type { BiosRegisters, BiosService, BiosVector } from './service.ts';

/** A guest that asks for a key and gets none is waiting: time passes for it. */
const POLL_NANOSECONDS = 1_000_000;
/** One that has asked so often in vain waits for its time to be up, which then passes in timer ticks. */
const PATIENT_POLLS = 64;
/** Half an hour of ticks. */
const MOST_POLLS = 32768;
const SUPPORTED_FUNCTIONS = 0x30; // extended keyboard, typematic rate can be set

export interface KeyboardParts {
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  /** What is pressed now that nothing waits; null for nothing. */
  readonly nextKey: () => Key | null;
  /** Ends the run: nobody will ever press a key. */
  readonly stop: (reason: string) => void;
}

/** Puts a key (scan code in the high, ASCII in the low byte) into the buffer; false where it is full. */
export function pushKey(memory: PhysicalMemory, key: number): boolean {
  const tail = memory.read16(BDA_KEYBOARD_TAIL);
  const next = following(memory, tail);
  if (next === memory.read16(BDA_KEYBOARD_HEAD)) {
    return false;
  }
  memory.write16(BDA + tail, key);
  memory.write16(BDA_KEYBOARD_TAIL, next);
  return true;
}

/** The services of INT 16h. */
export function keyboardVector(parts: KeyboardParts): BiosVector {
  const { memory, clock } = parts;
  let emptyPolls = 0;

  function peek(): number | null {
    const head = memory.read16(BDA_KEYBOARD_HEAD);
    if (head === memory.read16(BDA_KEYBOARD_TAIL)) {
      const key = parts.nextKey();
      if (key !== null) pushKey(memory, key.bios);
    }
    return head === memory.read16(BDA_KEYBOARD_TAIL) ? null : memory.read16(BDA + head);
  }

  function read(r: BiosRegisters): void {
    const key = peek();
    if (key === null) {
      parts.stop('the guest waits for a key, and there is nobody to press one');
      return;
    }
    memory.write16(BDA_KEYBOARD_HEAD, following(memory, memory.read16(BDA_KEYBOARD_HEAD)));
    r.ax = key;
  }

  function status(r: BiosRegisters): void {
    const key = peek();
    r.zero = key === null;
    if (key === null) {
      if (++emptyPolls > MOST_POLLS) {
        parts.stop(nobodyPresses(30));
      } else if (emptyPolls > PATIENT_POLLS) clock.advanceToNextTick();
      else clock.advance(POLL_NANOSECONDS);
    } else {
      emptyPolls = 0;
      r.ax = key;
    }
  }

  function shiftFlags(r: BiosRegisters): void {
    r.al = memory.read8(BDA_KEYBOARD_FLAGS);
  }

  const byAh: readonly (readonly [number, BiosService])[] = [
    [0x00, { name: 'read key', run: read }],
    [0x01, { name: 'check for a key', run: status }],
    [0x02, { name: 'get shift flags', run: shiftFlags }],
    [0x03, { name: 'set typematic rate', run: () => {} }],
    [
      0x05,
      {
        name: 'store key in buffer',
        run: (r) => {
          r.al = pushKey(memory, r.cx) ? 0 : 1;
        },
      },
    ],
    [
      0x09,
      {
        name: 'get keyboard functionality',
        run: (r) => {
          r.al = SUPPORTED_FUNCTIONS;
        },
      },
    ],
    [
      0x0a,
      {
        name: 'get keyboard ID',
        run: (r) => {
          r.bx = 0x41ab;
        },
      },
    ],
    [0x10, { name: 'read extended key', run: read }],
    [0x11, { name: 'check for an extended key', run: status }],
    [
      0x12,
      {
        name: 'get extended shift flags',
        run: (r) => {
          r.ax = memory.read16(BDA_KEYBOARD_FLAGS);
        },
      },
    ],
    [
      0x92,
      {
        name: 'keyboard capabilities check',
        run: (r) => {
          r.ah = 0x80;
        },
      },
    ],
    [0xa2, { name: 'keyboard capabilities check', run: () => {} }],
  ];
  return { vector: 0x16, byAh: new Map(byAh) };
}

function following(memory: PhysicalMemory, pointer: number): number {
  const next = pointer + 2;
  return next >= memory.read16(BDA_KEYBOARD_END) ? memory.read16(BDA_KEYBOARD_START) : next;
}
