// The command boots by EFI variables in a file and writes them, and nothing else, where it was told to.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { char16Bytes } from '../src/machine/uefi/service.ts';
import { efiProgram, ProgramWriter } from '../src/machine/uefi/test-program.ts';
import { encodeDevicePath, filePathNode } from '../src/protocol/efi-device-path.ts';
import { EFI_GUIDS, guidBytes } from '../src/protocol/efi-guids.ts';
import { EFI_STATUS, RUNTIME_SERVICES, TABLE_HEADER_SIZE } from '../src/protocol/efi-tables.ts';
import { bootscope, buildCommand } from './command.ts';

const setVariable = TABLE_HEADER_SIZE + RUNTIME_SERVICES.indexOf('SetVariable') * 8;
const CODE = 0x1000;
/** Where the program below has the variable's name and vendor. */
const DATA = 0x800;

/** A program at any address that sets a variable that is kept, and returns. */
function setting(name: string, status: bigint): Uint8Array {
  const program = efiProgram(new ProgramWriter().returning(status));
  // Its name and vendor behind the code, and RIP-relative pointers to them in front of it.
  const text = char16Bytes(name);
  const at = (offset: number): readonly number[] => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(offset);
    return [...bytes];
  };
  const lea = (opcode: readonly number[], position: number, target: number): readonly number[] => [
    ...opcode,
    ...at(target - position - 7),
  ];
  const code: number[] = [0x53, 0x48, 0x83, 0xec, 0x30, 0x48, 0x8b, 0x42, 0x58];
  code.push(...lea([0x48, 0x8d, 0x0d], code.length, DATA));
  code.push(...lea([0x48, 0x8d, 0x15], code.length, DATA + 0x100));
  // mov r8d, 7; mov r9d, 2; mov [rsp + 20h], rcx; call [rax + SetVariable]
  code.push(0x41, 0xb8, 7, 0, 0, 0, 0x41, 0xb9, 2, 0, 0, 0, 0x48, 0x89, 0x4c, 0x24, 0x20);
  code.push(0xff, 0x90, ...at(setVariable));
  const left = Buffer.alloc(8);
  left.writeBigUInt64LE(status);
  code.push(0x48, 0xb8, ...left, 0x48, 0x83, 0xc4, 0x30, 0x5b, 0xc3);
  const start = program.length - 0x1000;
  program.fill(0, start);
  program.set(code, start);
  program.set(text, start + DATA);
  program.set(guidBytes(EFI_GUIDS.LoaderInterface), start + DATA + 0x100);
  expect(code.length).toBeLessThan(CODE / 2);
  return program;
}

function entry(description: string, file: string, data = ''): string {
  const path = encodeDevicePath([filePathNode(file)]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(1);
  head.writeUInt16LE(path.length, 4);
  return Buffer.concat([head, char16Bytes(description), path, Buffer.from(data, 'utf16le')]).toString('hex');
}

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  buildCommand();
  folder = mkdtempSync(join(tmpdir(), 'bootscope-boot-order-'));
  mkdirSync(at('esp/EFI/BOOT'), { recursive: true });
  writeFileSync(at('esp/first.efi'), setting('First', EFI_STATUS.NOT_FOUND));
  writeFileSync(at('esp/EFI/BOOT/BOOTX64.EFI'), setting('Second', EFI_STATUS.SUCCESS));
  const variable = (name: string, data: string) => ({ name, guid: EFI_GUIDS.GlobalVariable, attr: 7, data });
  const variables = [
    variable('BootOrder', '02000100'),
    variable('BootNext', '0300'),
    variable('Boot0001', entry('first', '\\first.efi')),
    variable('Boot0003', entry('gone', '\\gone.efi')),
  ];
  writeFileSync(at('vars.json'), JSON.stringify({ version: 2, variables }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const namesIn = (path: string): readonly string[] =>
  JSON.parse(readFileSync(path, 'utf8')).variables.map(({ name }: { name: string }) => name);

describe('a boot by EFI variables', () => {
  it('goes on with the next entry where a program gives up, and keeps what was set', async () => {
    const before = readFileSync(at('vars.json'), 'utf8');
    const boot = ['boot', '--esp', at('esp'), '--efi-vars', at('vars.json'), '--json'];
    const { status, stdout, stderr } = await bootscope([...boot, '--save-efi-vars', at('new.json')]);
    expect(status, stderr).toBe(1);
    const trace = JSON.parse(stdout);
    expect(trace.phases.map((each: { program?: string }) => each.program)).toEqual([
      'first.efi',
      'BOOTX64.EFI',
    ]);
    expect(trace.stopped).toContain('the image returned to the firmware with SUCCESS');
    expect(trace.notices).toEqual([
      `Boot0003 (gone) is passed over: there is no \\gone.efi on ${at('esp')}`,
      'Boot0002 is passed over: there is no such variable',
      'Boot0001 (first) starts \\first.efi',
      'the image returned to the firmware with NOT_FOUND: \\EFI\\BOOT\\BOOTX64.EFI is next',
    ]);
    expect(namesIn(at('new.json'))).toEqual([
      ...['Lang', 'PlatformLang', 'BootOrder', 'Boot0001', 'Boot0003', 'First', 'Second'],
    ]);
    expect(readFileSync(at('vars.json'), 'utf8')).toBe(before);
    const again = await bootscope([...boot, '--save-efi-vars', at('vars.json')]);
    expect(again.status).toBe(1);
    expect(namesIn(at('vars.json'))).toContain('First');
  });

  it('is recorded with its disk and variables, and checked without an image', async () => {
    const [reference, vars] = [at('boot.ref.json'), at('record.json')];
    const variable = { name: 'BootOrder', guid: EFI_GUIDS.GlobalVariable, attr: 7 };
    const first = { ...variable, name: 'Boot0001', data: entry('first', '\\first.efi') };
    const write = (order: string): void =>
      writeFileSync(vars, JSON.stringify({ version: 2, variables: [{ ...variable, data: order }, first] }));
    write('0100');
    const recorded = await bootscope([
      ...['record', '--esp', at('esp'), '--efi-vars', vars, '--efi-protocol', 'rng', '--efi-nx'],
      ...['--efi-fail', 'GetTime:2=DEVICE_ERROR', '--keys', 'down,enter,e', '-o', reference],
    ]);
    expect(recorded.status).toBe(1);
    const { options } = JSON.parse(readFileSync(reference, 'utf8'));
    expect(options).toMatchObject({
      ...{ withoutImage: true, esp: 'esp', efiProtocols: ['rng'], efiNx: true, keys: 'down,enter,e' },
      ...{ efiFaults: ['GetTime:2=DEVICE_ERROR'], handoverRoom: 'init-size' },
    });
    write('0200');
    expect(await bootscope(['check', reference])).toMatchObject({ status: 0 });
    const matrix = at('matrix.json');
    writeFileSync(matrix, JSON.stringify([{ reference: 'boot.ref.json' }]));
    expect(await bootscope(['check', '--matrix', matrix, '--jobs', '1'])).toMatchObject({ status: 0 });
    const other = await bootscope(['check', reference, '--efi-vars', vars]);
    expect(other.status).toBe(1);
    expect(other.stdout).toContain('program: first.efi → BOOTX64.EFI');
    expect((await bootscope(['check', at('esp/first.efi'), reference])).stderr).toMatch(
      /boot\.ref\.json is of a boot from disks, which it names: leave out .*first\.efi/,
    );
  });

  it('writes over nothing that holds no variables', async () => {
    const boot = ['boot', '--esp', at('esp'), '--save-efi-vars'];
    const program = at('esp/first.efi');
    const before = readFileSync(program);
    expect(await bootscope([...boot, program])).toMatchObject({
      status: 2,
      stderr: `bootscope: ${program} holds no EFI variables as JSON: it is not written over\n`,
    });
    expect(readFileSync(program).equals(before)).toBe(true);
    expect(
      await bootscope(['boot', 'images/demo/demo-gzip.bzImage', '--save-efi-vars', at('x.json')]),
    ).toMatchObject({
      status: 2,
      stderr: `bootscope: --save-efi-vars ${at('x.json')} has no effect: this boot is not by UEFI\n`,
    });
    expect(await bootscope(['boot', '--esp', at('esp'), '--efi-vars', program])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/first\.efi is neither JSON with "version": 2 and "variables"/),
    });
  });
});
