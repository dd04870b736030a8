// Makes a Unified Kernel Image of a kernel with Debian's systemd-stub and objcopy, the same bytes each time.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const SYSTEMD_STUB = '/usr/lib/systemd/boot/efi/linuxx64.efi.stub';
export const UKI_CMDLINE = 'nokaslr console=ttyS0';
/** Bytes of the made-up initrd. */
const INITRD_SIZE = 300_000;

/** Why none can be made here; null where it can. */
export function missingForUki(): string | null {
  if (!existsSync(SYSTEMD_STUB)) return `${SYSTEMD_STUB} of systemd-boot-efi is not there`;
  try {
    execFileSync('objcopy', ['--version'], { stdio: 'ignore' });
  } catch {
    return 'objcopy is not there';
  }
  return null;
}

export function ukiInitrd(): Uint8Array {
  return Uint8Array.from({ length: INITRD_SIZE }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
}

/** @param vma - where `.initrd` lies in the image; the default leaves room for the kernel behind `.linux` */
export function makeUki(kernel: string, output: string, folder: string, vma = 0x500_0000): void {
  const sections: readonly (readonly [name: string, content: string | Uint8Array | null, address: number])[] =
    [
      ['.osrel', 'ID=demo\nVERSION_ID=1\nPRETTY_NAME="Demo"\n', 0x20000],
      ['.cmdline', UKI_CMDLINE, 0x30000],
      ['.uname', 'demo', 0x40000],
      ['.initrd', ukiInitrd(), vma],
      ['.linux', null, 0x200_0000],
    ];
  const args = sections.flatMap(([name, content, address]) => {
    const file = content === null ? kernel : join(folder, `section${name}`);
    if (content !== null) writeFileSync(file, content);
    return ['--add-section', `${name}=${file}`, '--change-section-vma', `${name}=0x${address.toString(16)}`];
  });
  execFileSync('objcopy', [...args, SYSTEMD_STUB, output]);
  // What changes from run to run: TimeDateStamp and CheckSum.
  const bytes = readFileSync(output);
  const pe = bytes.readUInt32LE(0x3c);
  bytes.writeUInt32LE(0, pe + 8);
  bytes.writeUInt32LE(0, pe + 24 + 64);
  writeFileSync(output, bytes);
}
