// Keys that are pressed one after the other, each when the guest asks for one: menus of boot loaders are gone through so.

import { BootscopeError } from '../error.ts';

export interface Key {
  /** As INT 16h gives it: scan code in the high byte, ASCII in the low. */
  readonly bios: number;
  /** EFI_INPUT_KEY (UEFI 2.10, 12.3.1): one of them is 0. */
  readonly scanCode: number;
  readonly character: number;
}

const NAMED: Readonly<Record<string, Key>> = {
  enter: { bios: 0x1c0d, scanCode: 0, character: 0x0d },
  esc: { bios: 0x011b, scanCode: 0x17, character: 0 },
  tab: { bios: 0x0f09, scanCode: 0, character: 0x09 },
  space: { bios: 0x3920, scanCode: 0, character: 0x20 },
  backspace: { bios: 0x0e08, scanCode: 0, character: 0x08 },
  up: { bios: 0x4800, scanCode: 0x01, character: 0 },
  down: { bios: 0x5000, scanCode: 0x02, character: 0 },
  right: { bios: 0x4d00, scanCode: 0x03, character: 0 },
  left: { bios: 0x4b00, scanCode: 0x04, character: 0 },
  f10: { bios: 0x4400, scanCode: 0x14, character: 0 },
};

/**
 * Reads `down,enter` or `e,linux`: names of keys and texts to type, with commas between.
 *
 * @throws BootscopeError `machine-keys` for a text that is not ASCII
 */
export function parseKeys(text: string): readonly Key[] {
  return text.split(',').flatMap((part): readonly Key[] => {
    const named = NAMED[part.toLowerCase()];
    if (named !== undefined) return [named];
    return Array.from(part, (letter) => {
      const code = letter.codePointAt(0)!;
      if (code < 0x20 || code > 0x7e) {
        throw new BootscopeError(
          'machine-keys',
          `${JSON.stringify(letter)} is no key: letters are ASCII, others are ${Object.keys(NAMED).join(', ')}`,
        );
      }
      return { bios: code, scanCode: 0, character: code };
    });
  });
}

/** The text that `parseKeys` reads so. */
export function keysText(keys: readonly Key[]): string {
  const names = new Map(Object.entries(NAMED).map(([name, { bios }]) => [bios, name]));
  return keys.map(({ bios }) => names.get(bios) ?? String.fromCharCode(bios)).join(',');
}

/** Why a run ends in which nobody presses a key. @param minutes - of the guest's time */
export function nobodyPresses(minutes: number): string {
  return `the guest asks for a key again and again, and nobody has pressed one for ${minutes} minutes of its time`;
}
