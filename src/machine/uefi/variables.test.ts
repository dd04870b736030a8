// UEFI variables: what SetVariable and GetVariable answer, before and after ExitBootServices (UEFI 2.10, 8.2, and what edk2 does).

import { describe, expect, it } from 'vitest';
import { EFI_GUIDS } from '../../protocol/efi-guids.ts';
import { EFI_STATUS, efiStatusName } from '../../protocol/efi-tables.ts';
import { MAXIMUM_VARIABLE, VariableStore } from './variables.ts';

const [NV, BS, RT, APPEND] = [1, 2, 4, 0x40];
const VENDOR = EFI_GUIDS.LoaderInterface;

/** Sets `name` to bytes and tells the status. */
function setter(store: VariableStore) {
  return (
    name: string,
    attributes: number,
    data: readonly number[],
    { atRuntime = false, vendor = VENDOR as string } = {},
  ): string => efiStatusName(store.set({ name, vendor, attributes, data: Uint8Array.from(data) }, atRuntime));
}

describe('UEFI variables', () => {
  it('are set, appended to, and deleted by no data or no access', () => {
    const store = new VariableStore();
    const set = setter(store);
    const get = (): readonly number[] | null => {
      const found = store.get('A', VENDOR, false);
      return found === undefined ? null : [...found.data];
    };
    expect(set('A', NV | BS, [1])).toBe('SUCCESS');
    expect([set('A', NV | BS | APPEND, [2, 3]), get()]).toEqual(['SUCCESS', [1, 2, 3]]);
    expect([set('A', NV | BS | APPEND, []), get()]).toEqual(['SUCCESS', [1, 2, 3]]);
    expect(store.get('A', VENDOR, false)!.attributes).toBe(NV | BS);
    expect([set('A', NV | BS, []), get(), set('A', NV | BS, [])]).toEqual(['SUCCESS', null, 'NOT_FOUND']);
    set('A', BS, [4]);
    expect([set('A', 0, [5]), get()]).toEqual(['SUCCESS', null]);
  });

  it('keep the attributes that they were made with', () => {
    const set = setter(new VariableStore());
    expect([set('A', NV | BS, [1]), set('A', BS, [2]), set('A', NV | BS | RT, [])]).toEqual([
      'SUCCESS',
      'INVALID_PARAMETER',
      'INVALID_PARAMETER',
    ]);
    expect([set('B', RT, [1]), set('B', BS | 0x20, [1]), set('B', BS | 8, [1])]).toEqual([
      'INVALID_PARAMETER',
      'UNSUPPORTED',
      'INVALID_PARAMETER',
    ]);
    expect(set('SecureBoot', BS | RT, [1], { vendor: EFI_GUIDS.GlobalVariable })).toBe('WRITE_PROTECTED');
  });

  it('that are for boot services alone are gone after ExitBootServices, and volatile ones cannot be written', () => {
    const store = new VariableStore();
    const set = setter(store);
    for (const [name, attributes] of [
      ['BootOnly', NV | BS],
      ['Volatile', BS | RT],
      ['Both', NV | BS | RT],
    ] as const) {
      set(name, attributes, [1]);
    }
    const names = (atRuntime: boolean): readonly string[] => {
      const found: string[] = [];
      for (let at = store.next(null, atRuntime); at != null; at = store.next(at, atRuntime))
        found.push(at.name);
      return found;
    };
    expect([names(false), names(true)]).toEqual([
      ['BootOnly', 'Volatile', 'Both'],
      ['Volatile', 'Both'],
    ]);
    expect(store.next({ name: 'BootOnly', vendor: VENDOR }, true)).toBeUndefined();
    expect(store.get('BootOnly', VENDOR, true)).toBeUndefined();
    const late = { atRuntime: true };
    expect([
      set('Volatile', BS | RT, [2], late),
      set('Both', NV | BS | RT, [2], late),
      set('New', NV | BS, [2], late),
      set('New', BS | RT, [2], late),
      set('New', NV | BS | RT, [2], late),
    ]).toEqual(['WRITE_PROTECTED', 'SUCCESS', 'INVALID_PARAMETER', 'INVALID_PARAMETER', 'SUCCESS']);
  });

  it('have only so much room', () => {
    const store = new VariableStore();
    const large = new Uint8Array(MAXIMUM_VARIABLE - 100);
    const put = (name: string, data: Uint8Array): bigint =>
      store.set({ name, vendor: VENDOR, attributes: BS, data }, false);
    expect([put('A', large), put('A', large)]).toEqual([EFI_STATUS.SUCCESS, EFI_STATUS.SUCCESS]);
    expect(put('B', new Uint8Array(MAXIMUM_VARIABLE))).toBe(EFI_STATUS.INVALID_PARAMETER);
    expect([put('B', large), put('C', large)]).toEqual([EFI_STATUS.SUCCESS, EFI_STATUS.OUT_OF_RESOURCES]);
    expect(store.used).toBe(2 * (60 + 4 + large.length));
  });
});
