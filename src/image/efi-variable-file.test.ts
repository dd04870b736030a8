// Files of EFI variables: JSON as virt-fw-vars writes it, and OVMF's flash.

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EFI_GUIDS, guidBytes } from '../protocol/efi-guids.ts';
import { formatEfiVariables, isEfiVariablesJson, readEfiVariables } from './efi-variable-file.ts';

const GLOBAL = EFI_GUIDS.GlobalVariable;
const OVMF_VARS = '/usr/share/OVMF/OVMF_VARS.fd';
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const json = (variables: readonly object[], version: unknown = 2): Uint8Array =>
  bytesOf(JSON.stringify({ version, variables }));

/** A firmware volume of 4 KiB with records of a state each. */
function flash(records: readonly { state: number; name: string; data: readonly number[] }[]): Uint8Array {
  const bytes = new Uint8Array(4096).fill(0xff);
  const view = new DataView(bytes.buffer);
  bytes.set(bytesOf('_FVH'), 40);
  view.setUint16(48, 72, true);
  bytes.set(guidBytes('aaf32c78-947b-439a-a180-2e144ec37792'), 72);
  view.setUint32(88, 4096 - 72, true);
  let at = 100;
  for (const { state, name, data } of records) {
    bytes.fill(0, at, at + 60);
    view.setUint16(at, 0x55aa, true);
    bytes[at + 2] = state;
    view.setUint32(at + 4, 7, true);
    view.setUint32(at + 36, name.length * 2 + 2, true);
    view.setUint32(at + 40, data.length, true);
    bytes.set(guidBytes(GLOBAL), at + 44);
    const text = [...name, '\0'].flatMap((letter) => [letter.charCodeAt(0), 0]);
    bytes.set([...text, ...data], at + 60);
    at = Math.ceil((at + 60 + text.length + data.length) / 4) * 4;
  }
  return bytes;
}

describe('a file of EFI variables', () => {
  it('is JSON that is written as it is read, without what is not kept', () => {
    const text = formatEfiVariables([
      { name: 'BootOrder', vendor: GLOBAL, attributes: 7, data: Uint8Array.of(1, 0) },
      { name: 'LoaderInfo', vendor: EFI_GUIDS.LoaderInterface, attributes: 6, data: Uint8Array.of(1) },
    ]);
    expect(JSON.parse(text)).toEqual({
      version: 2,
      variables: [{ name: 'BootOrder', guid: GLOBAL, attr: 7, data: '0100' }],
    });
    expect(formatEfiVariables(readEfiVariables('v.json', bytesOf(text)))).toBe(text);
    expect(isEfiVariablesJson('v.json', bytesOf(text))).toBe(true);
  });

  it('may be the flash of OVMF, where records that were replaced do not count', () => {
    const store = flash([
      { state: 0x3c, name: 'Timeout', data: [9, 9] },
      { state: 0x3e, name: 'BootOrder', data: [1, 0] },
      { state: 0x3f, name: 'BootOrder', data: [2, 0, 1, 0] },
      { state: 0x3f, name: 'BootNext', data: [1, 0] },
    ]);
    expect(readEfiVariables('VARS.fd', store)).toEqual([
      { name: 'BootOrder', vendor: GLOBAL, attributes: 7, data: Uint8Array.of(2, 0, 1, 0) },
      { name: 'BootNext', vendor: GLOBAL, attributes: 7, data: Uint8Array.of(1, 0) },
    ]);
    expect(isEfiVariablesJson('VARS.fd', store)).toBe(false);
  });

  it.skipIf(!existsSync(OVMF_VARS))('as Debian ships it is empty (left out where ovmf is missing)', () => {
    expect(readEfiVariables(OVMF_VARS, readFileSync(OVMF_VARS))).toEqual([]);
  });

  it('that is none is refused, with what is wrong', () => {
    const read = (bytes: Uint8Array) => () => readEfiVariables('v', bytes);
    const good = { name: 'A', guid: GLOBAL, attr: 7, data: '00' };
    expect(read(bytesOf('nothing'))).toThrow(/^v is neither JSON with "version": 2 and "variables"/);
    expect(read(bytesOf('{"version": 2,'))).toThrow(/^v is no JSON: /);
    expect(read(bytesOf('{"version": 2}'))).toThrow('v holds no list of "variables"');
    expect(read(json([], 3))).toThrow('v says "version": 3, 2 is what is known');
    expect(read(json([good, { ...good, name: '' }]))).toThrow('v has a variable 2 without a name');
    expect(read(json([{ ...good, guid: 'here' }]))).toThrow('v has a variable 1 (A) without the GUID');
    expect(read(json([{ ...good, attr: '7' }]))).toThrow('v has a variable 1 (A) whose "attr" is no number');
    expect(read(json([{ ...good, data: '0' }]))).toThrow('v has a variable 1 (A) whose "data" is not in hex');
    const cut = flash([{ state: 0x3f, name: 'A', data: [1] }]);
    new DataView(cut.buffer).setUint32(140, 5000, true);
    expect(read(cut)).toThrow('v has a variable at 0x64 that ends behind its store, at 0x142c');
    expect(read(cut.subarray(0, 1000))).toThrow(
      'v has a variable store up to 0x1000, the file ends at 0x3e8',
    );
    const other = flash([]);
    other[72] = 0;
    expect(read(other)).toThrow(/^v is a firmware volume that holds .*, no authenticated variable store$/);
  });
});
