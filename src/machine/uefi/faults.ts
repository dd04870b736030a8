// Services that answer with an error although nothing is wrong, to try out what the guest makes of it.

import { BootscopeError } from '../../error.ts';
import { EFI_STATUS, type EfiStatusName } from '../../protocol/efi-tables.ts';
import { BOOT_SERVICE_ROWS } from './boot-services.ts';
import { PROTOCOL_SERVICE_NAMES } from './protocol-services.ts';
import { RUNTIME_SERVICE_ROWS } from './runtime-services.ts';
import { TCG_SERVICE_NAMES } from './tcg-services.ts';

export interface EfiFault {
  /** As the service's row names it. */
  readonly service: string;
  /** Which call of it, from 1; null: all. */
  readonly call: number | null;
  readonly status: bigint;
}

/**
 * Reads `SERVICE[:N]=STATUS`: `ExitBootServices:1=INVALID_PARAMETER`. Names in any case; the status as the specification names it,
 * with or without `EFI_`.
 *
 * @throws BootscopeError `efi-fault`
 */
export function parseEfiFault(text: string): EfiFault {
  const match = /^([\w.]+)(?::(\d+))?=(\w+)$/.exec(text);
  if (match === null) {
    throw new BootscopeError(
      'efi-fault',
      `"${text}" is not SERVICE[:N]=STATUS, as ExitBootServices:1=INVALID_PARAMETER is`,
    );
  }
  const names = [
    ...Object.keys(BOOT_SERVICE_ROWS),
    ...Object.keys(RUNTIME_SERVICE_ROWS),
    ...PROTOCOL_SERVICE_NAMES,
    ...TCG_SERVICE_NAMES,
  ];
  const service = names.find((name) => name.toLowerCase() === match[1]!.toLowerCase());
  if (service === undefined) {
    throw new BootscopeError(
      'efi-fault',
      `there is no EFI service "${match[1]}"; there are ${names.join(', ')}`,
    );
  }
  const wanted = match[3]!.toUpperCase().replace(/^EFI_/, '');
  const status = (Object.keys(EFI_STATUS) as EfiStatusName[]).find((name) => name === wanted);
  if (status === undefined) {
    throw new BootscopeError(
      'efi-fault',
      `"${match[3]}" is no EFI status; there are ${Object.keys(EFI_STATUS).join(', ')}`,
    );
  }
  const call = match[2] === undefined ? null : Number(match[2]);
  if (call === 0) throw new BootscopeError('efi-fault', `${text}: calls are counted from 1`);
  return { service, call, status: EFI_STATUS[status] };
}
