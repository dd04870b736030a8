// A ChromeOS kernel partition (vboot_reference, firmware/2lib/include/2struct.h): key block, preamble, then a body of the
// protected-mode code, a page of command line, a page of boot_params, a boot loader, and the kernel's own setup at the end.

import { concatBytes } from '../host/host.ts';
import { ByteView } from './byte-view.ts';
import { imageFromBootParams } from './rebuild-image.ts';

const MAGIC = 'CHROMEOS';
const PAGE = 0x1000;

export interface VbootPartition {
  /** Version of the preamble, `2.2`. */
  readonly version: string;
  /** Where firmware loads the body; physical. */
  readonly bodyAddress: number;
  /** Offset in the file, and bytes by the preamble's signature. */
  readonly body: { readonly offset: number; readonly length: number };
  readonly bootLoader: { readonly address: number; readonly length: number };
  readonly cmdline: string | null;
  /** The boot image that the body was made of; null where it holds none for x86. */
  readonly image: Uint8Array | null;
  /** Whether `image` has its setup code; partitions of before preamble 2.1 keep the header alone. */
  readonly hasSetupCode: boolean;
}

/** Reads the headers and puts the boot image together; null where the bytes are no such partition, or cut in the headers. */
export function readVboot(bytes: Uint8Array): VbootPartition | null {
  const view = new ByteView(bytes, 'vboot header');
  if (!view.startsWith(MAGIC) || !view.has(0, 24)) return null;
  const preamble = Number(view.u64(16));
  if (!view.has(preamble, 96)) return null;
  const bodyOffset = preamble + Number(view.u64(preamble));
  if (!view.has(bodyOffset, 0)) return null;
  const [major, minor] = [view.u32(preamble + 32), view.u32(preamble + 36)];
  const bodyAddress = Number(view.u64(preamble + 48));
  const loaderAddress = Number(view.u64(preamble + 56));
  const bodyLength = view.u32(preamble + 88);
  const body = new ByteView(bytes.subarray(bodyOffset, bodyOffset + bodyLength), 'vboot body');
  const cmdlineAt = loaderAddress - bodyAddress - 2 * PAGE;
  const cmdline = body.has(cmdlineAt, PAGE) ? body.text(cmdlineAt, PAGE).trimEnd() : null;

  const hasHeaderField = (major > 2 || (major === 2 && minor >= 1)) && view.has(preamble + 96, 16);
  const setupLength = hasHeaderField ? view.u32(preamble + 104) : 0;
  const setupAt = hasHeaderField ? Number(view.u64(preamble + 96)) - bodyAddress : 0;
  const hasSetupCode = setupLength > 0 && body.has(setupAt, setupLength);
  const paramsAt = cmdlineAt + PAGE;
  const image = hasSetupCode
    ? concatBytes([body.slice(setupAt, setupLength), body.slice(0, Math.max(cmdlineAt, 0))])
    : body.has(paramsAt, PAGE)
      ? imageFromBootParams(body.slice(paramsAt, PAGE), body.slice(0, cmdlineAt))
      : null;
  return {
    version: `${major}.${minor}`,
    bodyAddress,
    body: { offset: bodyOffset, length: bodyLength },
    bootLoader: { address: loaderAddress, length: view.u32(preamble + 64) },
    cmdline,
    image,
    hasSetupCode: image !== null && hasSetupCode,
  };
}
