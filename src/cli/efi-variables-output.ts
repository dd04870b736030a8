// `--save-efi-vars FILE`: writes what the flash of UEFI firmware holds after a boot; over nothing but such a file.

import { existsSync } from 'node:fs';
import { BootscopeError } from '../error.ts';
import { formatEfiVariables, isEfiVariablesJson } from '../image/efi-variable-file.ts';
import { readImageFile } from '../image/image-file.ts';
import type { Machine } from '../machine/machine.ts';
import { checkOutput, writeOutput } from './output-file.ts';

/**
 * Before the boot: whether there will be something to write, and whether the file may be written to.
 *
 * @throws BootscopeError `cli-output` for a file that is there and holds something else, `cli-unused-options` without UEFI firmware
 */
export async function checkVariablesFile(path: string, { uefi }: Machine): Promise<void> {
  if (uefi === null) {
    throw new BootscopeError(
      'cli-unused-options',
      `--save-efi-vars ${path} has no effect: this boot is not by UEFI`,
    );
  }
  const isThere = path !== '-' && existsSync(path);
  checkOutput(path, isThere);
  if (!isThere) return;
  const bytes = await readImageFile(path, { what: 'file of EFI variables' });
  if (!isEfiVariablesJson(path, bytes)) {
    throw new BootscopeError('cli-output', `${path} holds no EFI variables as JSON: it is not written over`);
  }
}

export async function writeVariablesFile(path: string, { uefi }: Machine): Promise<void> {
  if (uefi !== null) await writeOutput(path, formatEfiVariables(uefi.variables.all), true);
}
