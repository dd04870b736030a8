// A boot loader enters a kernel by the Multiboot Specification: another protocol, told of and not followed any further.

import type { Unhook } from '../../cpu/cpu.ts';
import { BootscopeError } from '../../error.ts';
import { hex } from '../../hex.ts';
import { indexOfBytes } from '../../host/host.ts';
import { CR0_PE, CR0_PG } from '../../x86/control-registers.ts';
import type { BootRun } from '../boot-run.ts';

/** What EAX holds at the entry (Multiboot Specification 0.6.96, 3.2; Multiboot2 Specification 2.0, 3.3). */
const MAGICS: ReadonlyMap<number, string> = new Map([
  [0x2badb002, 'Multiboot'],
  [0x36d76289, 'Multiboot2'],
]);
const HIGH_MEMORY = 0x100000;
/** Of the information that EBX points to (3.3): flags, and by them memory, command line, modules, the loader's name. */
const MULTIBOOT_1 = 'Multiboot';
const KNOWN_FLAGS = 0x1fff;
const INFORMATION_SIZE = 120;
const [HAS_COMMAND_LINE, HAS_MODULES, HAS_LOADER_NAME] = [0x4, 0x8, 0x200];
const LONGEST_TEXT = 1024;

/** Ends the boot with what was entered and what it was given. */
export function watchForMultiboot(boot: BootRun): Unhook {
  const { cpu, machine } = boot;
  const loader = boot.image;
  const unhook = boot.hookNewCode((address) => {
    if (boot.busy || boot.image !== loader || address < HIGH_MEMORY) return;
    const protocol = MAGICS.get(Number(cpu.readRegister('rax') & 0xffff_ffffn));
    const cr0 = cpu.readRegister('cr0');
    if (protocol === undefined || (cr0 & CR0_PE) === 0n || (cr0 & CR0_PG) !== 0n) return;
    const information = Number(cpu.readRegister('rbx') & 0xffff_ffffn);
    if (!machine.memory.contains(information, INFORMATION_SIZE)) return;
    const flags = machine.memory.read32(information);
    if (protocol === MULTIBOOT_1 && (flags & ~KNOWN_FLAGS) !== 0) return;
    boot.defer(() => {
      unhook();
      const { loads } = machine.drives;
      const file = loads.files.find(({ file: each }) => holds(boot, each.read(), address));
      const what = file === undefined ? 'a kernel' : file.name;
      boot.beginPhase('multiboot_entry', address, what);
      const given = protocol === MULTIBOOT_1 ? `, ${informationText(boot, information, flags)}` : '';
      throw new BootscopeError(
        'guest-multiboot',
        `${what} was entered at ${hex(address)} by the ${protocol} Specification (EAX ${hex(cpu.readRegister('rax') & 0xffff_ffffn)}, ` +
          `its information at ${hex(information)}${given}): that is no kernel of Linux's boot protocol, and is not followed further`,
      );
    });
  });
  return unhook;
}

const NEEDLE = 16;
const LARGEST_KERNEL = 2 ** 26;

/** Whether the code at an address is out of a file. */
function holds({ machine }: BootRun, bytes: Uint8Array, address: number): boolean {
  const code = machine.memory.viewUpTo(address, NEEDLE);
  return bytes.length <= LARGEST_KERNEL && indexOfBytes(bytes, code) >= 0;
}

function informationText({ machine: { memory } }: BootRun, at: number, flags: number): string {
  const text = (address: number): string => {
    const bytes = memory.viewUpTo(address, LONGEST_TEXT);
    const end = bytes.indexOf(0);
    return new TextDecoder('latin1').decode(bytes.subarray(0, end < 0 ? bytes.length : end));
  };
  const parts = [
    ...((flags & HAS_LOADER_NAME) === 0 ? [] : [`from ${text(memory.read32(at + 64))}`]),
    ...((flags & HAS_COMMAND_LINE) === 0 ? [] : [`command line "${text(memory.read32(at + 16))}"`]),
    ...((flags & HAS_MODULES) === 0 ? [] : [`modules: ${memory.read32(at + 20)}`]),
  ];
  return [`flags ${hex(flags)}`, ...parts].join(', ');
}
