// The few fields of an image that a reference needs, read here by hand so that the witness owes nothing to src/.

export interface ImageFields {
  readonly setupSize: number;
  /** 0x20f for 2.15; 0 where there is no setup header. */
  readonly protocol: number;
  readonly loadedHigh: boolean;
  /** Where setup jumps to in protected mode. */
  readonly code32Start: bigint;
  /** From there to the end of the file: the compressed kernel with its stub, where it is loaded. */
  readonly protectedModeCode: Buffer;
  readonly kernelVersion: string | null;
  readonly payload: { readonly offset: number; readonly length: number } | null;
}

const SECTOR = 512;

/** @throws Error when the file is no zImage or bzImage */
export function readImageFields(file: Buffer): ImageFields {
  if (file.length < 2 * SECTOR || file.readUInt16LE(0x1fe) !== 0xaa55)
    throw new Error(`the file of ${file.length} bytes has no boot sector signature 0xaa55 at 0x1fe`);
  if (file.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new Error('the file has no setup header ("HdrS" at 0x202)');
  const protocol = file.readUInt16LE(0x206);
  const setupSize = ((file[0x1f1] || 4) + 1) * SECTOR;
  const loadedHigh = (file[0x211]! & 1) !== 0;
  const versionAt = file.readUInt16LE(0x20e) + 0x200;
  const versionEnd = file.indexOf(0, versionAt);
  return {
    setupSize,
    protocol,
    loadedHigh,
    code32Start: BigInt(loadedHigh ? file.readUInt32LE(0x214) : 0x1000),
    protectedModeCode: file.subarray(setupSize),
    kernelVersion:
      versionAt > 0x200 && versionEnd > 0 ? file.toString('latin1', versionAt, versionEnd) : null,
    payload:
      protocol >= 0x208 && file.readUInt32LE(0x24c) !== 0
        ? { offset: file.readUInt32LE(0x248), length: file.readUInt32LE(0x24c) }
        : null,
  };
}
