// What a boot loader has to know of an image before it loads it, by each way in: what goes where, how it is aligned, what will be
// overwritten and when, and the state of the CPU that the entry wants (boot.rst; pvh.pandoc; the kernel's kexec-bzimage64.c). The
// run area follows from the same rules that hazards are found by.

import { BootscopeError } from '../error.ts';
import { hex } from '../hex.ts';
import { type ElfFile, PT_LOAD, readElf } from '../image/elf.ts';
import { extractVmlinux } from '../image/extract-vmlinux.ts';
import type { KernelImage } from '../image/kernel-image.ts';
import { readPe } from '../image/pe.ts';
import { describeVmlinux, readXenNotes } from '../image/vmlinux.ts';
import { BOOT_PARAMS_SIZE } from '../protocol/boot-params.ts';
import { runArea } from '../trace/hazards.ts';
import type { Extent } from '../trace/placements.ts';
import { type HandoverEntry, handoverTexts } from './handover-rules.ts';
import { headerRules } from './layout-facts.ts';

const FOUR_GIB = 2 ** 32;
const PAGE = 0x1000;
const ONE_MIB = 0x100000;
/** Lowest end of conventional memory that loaders reckon with: an EBDA of 1 KiB. */
const LOW_MEMORY_END = 0x9fc00;
const SETUP_SEGMENT = 0x90000;
const XLF_CAN_BE_LOADED_ABOVE_4G = 0x02;
const XLF_KERNEL_64 = 0x01;

export type PlannedEntry = 'real16' | 'prot32' | 'long64' | 'pvh' | 'efi' | 'kexec' | 'kdump';

/** Something that the loader places. Addresses are physical; `to` is exclusive. */
export interface PlannedPart {
  readonly what: string;
  /** Bytes; null where they are the loader's to say. */
  readonly size: number | null;
  /** Where it may lie: all of it in [from, to). */
  readonly from: number;
  readonly to: number;
  readonly alignment: number;
  readonly note: string | null;
}

/** Memory that is written before the kernel has read its memory map. */
export interface PlannedOverwrite extends Extent {
  readonly by: string;
  readonly when: string;
}

/** What a boot loader must know and keep free to enter a kernel in one way. */
export interface EntryPlan {
  readonly entry: PlannedEntry;
  /** Null: this image can be entered so; else why not. */
  readonly unavailable: string | null;
  /** Where the entry is. */
  readonly jump: string;
  readonly parts: readonly PlannedPart[];
  /** For the addresses that boot.rst proposes; elsewhere they move along. */
  readonly overwrites: readonly PlannedOverwrite[];
  /** What the kernel expects in setup or boot_params, and of the CPU: the rules that a loader's state is judged by. */
  readonly fields: readonly string[];
  readonly cpu: readonly string[];
  readonly notes: readonly string[];
}

const MISSING = { jump: '', parts: [], overwrites: [], fields: [], cpu: [], notes: [] } as const;

function expected(image: KernelImage, entry: HandoverEntry): Pick<EntryPlan, 'fields' | 'cpu'> {
  return { fields: handoverTexts(image, entry, 'fields'), cpu: handoverTexts(image, entry, 'cpu') };
}

/**
 * Plans every way in.
 *
 * @throws {@link BootscopeError} `plan-image` for what is no bzImage, zImage or vmlinux
 * @example
 * ```ts
 * import { planLoading, readKernelImage } from 'bootscope';
 *
 * const plans = await planLoading(await readKernelImage('demo-zstd.bzImage'));
 * const { parts, overwrites } = plans.find(({ entry }) => entry === 'prot32')!;
 * console.log(parts.map(({ what, from, alignment }) => `${what} from ${from}, aligned to ${alignment}`), overwrites);
 * ```
 */
export async function planLoading(image: KernelImage): Promise<readonly EntryPlan[]> {
  if (image.kind === 'vmlinux') return planVmlinux(image);
  if (image.kind !== 'bzImage' && image.kind !== 'zImage') {
    throw new BootscopeError(
      'plan-image',
      `${image.path} is a ${image.kind}; a plan is made of a bzImage, zImage or vmlinux`,
    );
  }
  return [
    planReal16(image),
    planProtected(image, 'prot32'),
    planProtected(image, 'long64'),
    await planPvh(image),
    planEfi(image),
    planKexec(image, 'kexec'),
    planKexec(image, 'kdump'),
  ];
}

/** What the kernel takes to unpack itself and start, for the code at `loadAddress`. */
function overwritten(image: KernelImage, loadAddress: number): readonly PlannedOverwrite[] {
  const area = runArea({ ...headerRules(image), loadAddress });
  if (area === null) return [];
  return [
    {
      ...area,
      by: `init_size ${hex(area.end - area.start)}`,
      when: 'from startup_32 or startup_64 on: the stub moves itself to its end, the kernel is unpacked from its start',
    },
  ];
}

function alignmentOf(image: KernelImage): number {
  return image.header.get('relocatable_kernel') === 0 ? 1 : Math.max(1, image.header.get('kernel_alignment'));
}

function commandLinePart(image: KernelImage, to: number): PlannedPart {
  const { header } = image;
  const size = header.has('cmdline_size') ? header.get('cmdline_size') : 255;
  return {
    what: 'command line',
    size: size + 1,
    ...{ from: 0, to, alignment: 1 },
    note: `at most ${size} characters and a NUL, by cmd_line_ptr`,
  };
}

function initrdPart(image: KernelImage, above4GiB: boolean): PlannedPart {
  const { initrdAddressMax } = headerRules(image);
  return {
    what: 'initrd',
    size: null,
    from: ONE_MIB,
    to: above4GiB ? Number.MAX_SAFE_INTEGER : Math.min((initrdAddressMax ?? 0) + 1, FOUR_GIB),
    alignment: 0x1000,
    note: above4GiB
      ? `above 4 GiB with ext_ramdisk_image; old loaders keep below initrd_addr_max ${hex(initrdAddressMax ?? 0)}`
      : `below initrd_addr_max ${hex(initrdAddressMax ?? 0)}, as high as there is usable RAM, out of what is overwritten`,
  };
}

function planReal16(image: KernelImage): EntryPlan {
  const { header, setupSize, protectedModeCode } = image;
  const high = image.kind === 'bzImage';
  const heapEnd = header.protocol >= 0x0202 && high ? 0xe000 : 0x9800;
  const load = high ? ONE_MIB : 0x10000;
  return {
    entry: 'real16',
    unavailable: null,
    jump: 'CS:IP = segment of setup + 0x20 : 0',
    parts: [
      {
        what: 'setup with heap and stack',
        size: heapEnd,
        ...{ from: header.protocol >= 0x0202 ? 0x1000 : SETUP_SEGMENT, to: LOW_MEMORY_END, alignment: 16 },
        note: `${setupSize} bytes of it are the file's; heap_end_ptr ${hex(heapEnd - 0x200)}`,
      },
      {
        what: 'protected-mode code',
        size: protectedModeCode.length,
        ...{ from: load, to: load + protectedModeCode.length, alignment: 1 },
        note: high ? 'at 0x100000 and nowhere else' : 'at 0x10000, from where setup moves it to 0x1000',
      },
      commandLinePart(image, LOW_MEMORY_END),
      ...(header.protocol >= 0x0200 ? [initrdPart(image, false)] : []),
    ],
    overwrites: overwritten(image, load),
    ...expected(image, 'real16'),
    notes: [],
  };
}

function planProtected(image: KernelImage, entry: 'prot32' | 'long64'): EntryPlan {
  const { header, protectedModeCode } = image;
  const flags = header.get('xloadflags');
  const long = entry === 'long64';
  const why =
    image.kind === 'zImage'
      ? 'a zImage is loaded low and entered through real mode'
      : header.protocol < 0x0202
        ? `boot protocol ${header.version} takes its command line through the segment of setup`
        : long && (flags & XLF_KERNEL_64) === 0
          ? `xloadflags ${hex(flags)} lack XLF_KERNEL_64`
          : null;
  if (why !== null) return { entry, unavailable: why, ...MISSING };
  const above = long && (flags & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0;
  const to = above ? Number.MAX_SAFE_INTEGER : FOUR_GIB;
  const relocatable = headerRules(image).relocatable;
  return {
    entry,
    unavailable: null,
    jump: long ? 'the protected-mode code + 0x200' : 'the first byte of the protected-mode code',
    parts: [
      {
        what: 'protected-mode code',
        size: protectedModeCode.length,
        from: relocatable ? ONE_MIB : header.get('code32_start') || ONE_MIB,
        to,
        // It realigns itself to kernel_alignment (boot.rst), but its own sections are linked to lie on pages.
        alignment: PAGE,
        note: relocatable
          ? `relocatable: pref_address ${hex(header.get('pref_address'))}, where it need not move, is the best`
          : 'not relocatable: it goes where code32_start says',
      },
      {
        what: 'boot_params',
        size: BOOT_PARAMS_SIZE,
        ...{ from: 0x1000, to, alignment: 16 },
        note: 'zeroes, then the setup header of the file from 0x1f1 on, the memory map, the screen',
      },
      commandLinePart(image, to),
      initrdPart(image, above),
    ],
    overwrites: overwritten(image, ONE_MIB),
    ...expected(image, entry),
    notes: above ? ['kernel, boot_params, command line and initrd may lie above 4 GiB'] : [],
  };
}

async function planPvh(image: KernelImage): Promise<EntryPlan> {
  const none = (reason: string): EntryPlan => ({ entry: 'pvh', unavailable: reason, ...MISSING });
  if (image.payload === null) return none('there is no kernel in it that can be unpacked');
  const { elf } = await extractVmlinux(image, { unchecked: true });
  return elf === null ? none('the kernel in it is no ELF file') : planPvhOf(image, elf);
}

/** The segments of a vmlinux, each where its program header says. */
function segmentParts(elf: ElfFile, of: string): readonly PlannedPart[] {
  return elf.programHeaders
    .filter(({ type, memsz }) => type === PT_LOAD && memsz > 0n)
    .map(({ paddr, memsz, filesz }, index) => ({
      what: `segment ${index} of the ${of}`,
      size: Number(memsz),
      ...{ from: Number(paddr), to: Number(paddr + memsz), alignment: 1 },
      note: filesz === memsz ? null : `${hex(filesz)} bytes are the file's, the rest is zero`,
    }));
}

function planPvhOf(image: KernelImage, elf: ElfFile): EntryPlan {
  const of = image.kind === 'vmlinux' ? 'vmlinux' : 'vmlinux in it';
  const entry = readXenNotes(elf).pvhEntry;
  if (entry === null) {
    const unavailable = `the ${image.kind === 'vmlinux' ? 'file' : 'kernel in it'} has no Xen note PHYS32_ENTRY`;
    return { entry: 'pvh', unavailable, ...MISSING };
  }
  return {
    entry: 'pvh',
    unavailable: null,
    jump: `${hex(entry)}, the note's address`,
    parts: [
      ...segmentParts(elf, of),
      { ...commandLinePart(image, FOUR_GIB), note: 'by cmdline_paddr of hvm_start_info' },
      { ...initrdPart(image, false), note: 'the first module of hvm_start_info' },
    ],
    overwrites: [],
    ...expected(image, 'pvh'),
    notes: [],
  };
}

/** The kernel proper, as virtual machine monitors load it. */
function planVmlinux(image: KernelImage): readonly EntryPlan[] {
  const elf = readElf(image.bytes);
  const { physicalEntry } = describeVmlinux(elf);
  const own: HandoverEntry = elf.bits === 64 ? 'long64' : 'prot32';
  const to = own === 'long64' ? Number.MAX_SAFE_INTEGER : FOUR_GIB;
  const without = (entry: PlannedEntry, unavailable: string): EntryPlan => ({
    entry,
    unavailable,
    ...MISSING,
  });
  const direct: EntryPlan = {
    entry: own,
    unavailable: null,
    jump: `${hex(physicalEntry)}, the physical address of e_entry`,
    parts: [
      ...segmentParts(elf, 'vmlinux'),
      {
        what: 'boot_params',
        size: BOOT_PARAMS_SIZE,
        ...{ from: 0x1000, to, alignment: 16 },
        note: 'zeroes, then a setup header that the loader makes: boot_flag, HdrS, type_of_loader; the memory map',
      },
      {
        ...commandLinePart(image, to),
        size: null,
        note: 'by cmd_line_ptr; as long as COMMAND_LINE_SIZE of the kernel, 2048',
      },
      {
        ...{ what: 'initrd', size: null, from: ONE_MIB, to, alignment: 0x1000 },
        note: 'behind the kernel, in usable RAM',
      },
    ],
    overwrites: [],
    ...expected(image, own),
    notes: [
      'it is not unpacked and does not move: it runs where its segments say, without KASLR of its address',
    ],
  };
  const setup = 'a vmlinux has no setup code; that is in front of the bzImage';
  return [
    without('real16', setup),
    ...(own === 'long64'
      ? [without('prot32', 'this vmlinux is of 64 bits, its own entry is of the entry long64')]
      : [direct]),
    ...(own === 'long64' ? [direct] : [without('long64', 'this vmlinux is of 32 bits')]),
    planPvhOf(image, elf),
    without('efi', 'a vmlinux has no PE header; the bzImage may have one'),
    without('kexec', 'kexec_file_load takes a bzImage; kexec_load of kexec-tools takes a vmlinux, too'),
    without('kdump', 'kexec_file_load takes a bzImage; kexec_load of kexec-tools takes a vmlinux, too'),
  ];
}

function planEfi(image: KernelImage): EntryPlan {
  if (readPe(image.bytes) === null) {
    return {
      entry: 'efi',
      unavailable: 'the file has no PE header: it was built without CONFIG_EFI_STUB',
      ...MISSING,
    };
  }
  const { header } = image;
  return {
    entry: 'efi',
    unavailable: null,
    jump: "the PE header's entry",
    parts: [],
    overwrites: [],
    fields: [],
    cpu: ['as the firmware calls an application: image handle and system table, boot services on'],
    notes: [
      'LoadImage of the firmware places it; command line by LoadOptions, initrd by LoadFile2',
      `the kernel asks for ${hex(header.get('init_size'))} bytes aligned to ${hex(alignmentOf(image))} by itself`,
    ],
  };
}

/** kexec_file_load: the 64-bit entry; the range must hold init_size in one piece. */
function planKexec(image: KernelImage, entry: 'kexec' | 'kdump'): EntryPlan {
  const plan = planProtected(image, 'long64');
  if (plan.unavailable !== null) return { ...plan, entry };
  const { header } = image;
  const size = header.get('init_size');
  const whole = `${hex(size)} bytes (init_size) in one piece of usable RAM, aligned to ${hex(alignmentOf(image))}`;
  return {
    ...plan,
    entry,
    parts: plan.parts.map((part) =>
      part.what === 'protected-mode code'
        ? { ...part, size, alignment: alignmentOf(image), note: whole }
        : part,
    ),
    notes: [
      ...plan.notes,
      entry === 'kexec'
        ? 'purgatory and the segments lie where the running kernel finds room, top down'
        : 'all of it lies within crashkernel=, which must hold init_size, the initrd and what the crash kernel runs in',
    ],
  };
}
