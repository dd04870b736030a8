// What decoding a structure needs of a held boot.

import type { BootSession } from '../boot/session.ts';
import { BootscopeError } from '../error.ts';
import type { DecodeContext } from '../trace/decode/decode.ts';
import type { TableRegister } from '../trace/decode/descriptors.ts';
import { EFER_LMA } from '../x86/control-registers.ts';

/** @param address - where the structure is said to be; null: where the machine says it is */
export function decodeContext(session: BootSession, address: number | null): DecodeContext {
  const { memory, machine } = session;
  const table = (name: 'gdtr' | 'idtr'): TableRegister => {
    const { base, limit } = machine.cpu.readDescriptorTable(name);
    const physical = memory.physical(base);
    if (physical === null) {
      throw new BootscopeError(
        'debug-unmapped',
        `${name} holds 0x${base.toString(16)}, which no page table maps`,
      );
    }
    return { base: physical, limit };
  };
  return {
    memory: { read: (at, length) => memory.read(at, length) },
    address,
    efiMap: () => {
      const firmware = machine.uefi;
      return firmware === null || firmware.bootServicesExited ? null : firmware.pages.describe();
    },
    bootParams: () => bootParamsAddress(session),
    gdtr: table('gdtr'),
    idtr: table('idtr'),
    longMode: (session.registers.efer & EFER_LMA) !== 0n,
    pageTables: () => session.pageTables(),
  };
}

/** From the layout, which knows it from `startup_32` on. */
function bootParamsAddress(session: BootSession): number {
  const region = session.layout().find(({ kind }) => kind === 'boot-params');
  if (region !== undefined) return Number(region.start);
  throw new BootscopeError(
    'debug-boot-params',
    `boot_params is not known in phase ${session.phase ?? 'before the first'}: it is from startup_32 on, or give its address`,
  );
}
