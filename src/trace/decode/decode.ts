// Every structure that memory can be shown as, by the name that one asks for it with.

import type { EfiMemoryDescriptor } from '../../protocol/efi-memory-map.ts';
import type { PageTableWalk } from '../../x86/page-tables.ts';
import { decodeAcpi } from './acpi.ts';
import {
  decodeBootParams,
  decodeE820,
  decodeEfiMap,
  decodeEfiMemoryMap,
  decodeSetupData,
} from './boot-params.ts';
import type { DecodedField, MemoryReader } from './decoded.ts';
import { decodeGdt, decodeIdt, type TableRegister } from './descriptors.ts';
import { decodePageTables } from './page-tables.ts';
import { decodeBda, decodeIvt } from './real-mode-tables.ts';

/** What there is to know besides memory, at the place that is looked at. */
export interface DecodeContext {
  readonly memory: MemoryReader;
  /** Where the structure is said to be; null: where the machine says it is. */
  readonly address: number | null;
  /** The map that UEFI firmware has now; null without one, and once boot services are gone. */
  readonly efiMap: () => readonly EfiMemoryDescriptor[] | null;
  /** Physical address of boot_params; throws where there is none yet. */
  readonly bootParams: () => number;
  readonly gdtr: TableRegister;
  readonly idtr: TableRegister;
  /** EFER.LMA. */
  readonly longMode: boolean;
  readonly pageTables: () => PageTableWalk | null;
}

type Decoder = (context: DecodeContext) => readonly DecodedField[];

const at = ({ address, bootParams }: DecodeContext): number => address ?? bootParams();

const DECODERS = {
  boot_params: (context) => decodeBootParams(context.memory, at(context)),
  e820: (context) => decodeE820(context.memory, at(context)),
  gdt: ({ memory, address, gdtr, longMode }) =>
    decodeGdt(memory, address === null ? gdtr : { ...gdtr, base: address }, longMode),
  idt: ({ memory, address, idtr, longMode }) =>
    decodeIdt(memory, address === null ? idtr : { ...idtr, base: address }, longMode),
  'page-tables': ({ pageTables }) => decodePageTables(pageTables()),
  setup_data: (context) => decodeSetupData(context.memory, at(context)),
  ivt: ({ memory }) => decodeIvt(memory),
  bda: ({ memory }) => decodeBda(memory),
  acpi: ({ memory, address }) => decodeAcpi(memory, address),
  'efi-memory-map': (context) => {
    const map = context.address === null ? context.efiMap() : null;
    return map === null ? decodeEfiMemoryMap(context.memory, at(context)) : decodeEfiMap(map);
  },
} as const satisfies Readonly<Record<string, Decoder>>;

/** The name of a structure that memory can be shown as. */
export type StructureName = keyof typeof DECODERS;
/** What memory can be shown as. */
export const STRUCTURE_NAMES = Object.keys(DECODERS) as readonly StructureName[];

/** @throws BootscopeError where there is no such structure at the place */
export function decodeStructure(name: StructureName, context: DecodeContext): readonly DecodedField[] {
  return DECODERS[name](context);
}
