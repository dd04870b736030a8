// Lays out the parts of an image as a table, and tells how its build made them, in the words of the kernel's Makefiles.

import type { ImageParts } from '../image/image-parts.ts';
import type { ManifestPart, PartManifest } from '../image/part-manifest.ts';
import { columns } from './columns.ts';

/** Each part with its place, and what is compressed in it. */
export function formatParts(folder: string, manifest: PartManifest): string {
  const rows: string[][] = [['PART', 'OFFSET', 'BYTES', 'WHAT IT IS']];
  for (const { file, fileOffset, size, what } of manifest.parts) {
    rows.push([file, `0x${fileOffset.toString(16)}`, String(size), what]);
    for (const part of manifest.unpacked.filter(({ from }) => from === file)) {
      rows.push([`  ${part.file}`, '', String(part.size), part.what]);
    }
  }
  const version = manifest.image.kernelVersion?.split(' ')[0];
  return `${folder}: ${manifest.image.name}${version === undefined ? '' : `, ${version}`}\n${columns(rows, '  ')}`;
}

/** The steps of the build, last one last; the sizes are those that its own tool prints. */
export function tellStory(manifest: PartManifest, { image }: ImageParts): string {
  const byRole = (role: ManifestPart['role']): ManifestPart | undefined =>
    manifest.parts.find((part) => part.role === role);
  const [payload, head, stub, setup] = (['payload', 'head', 'stub', 'setup'] as const).map(byRole);
  const kernel = manifest.unpacked.find(({ role }) => role === 'kernel');
  const relocations = manifest.unpacked.find(({ role }) => role === 'relocations');
  const steps: string[] = [];
  if (kernel !== undefined) {
    steps.push(`${kernel.file}, ${kernel.size} bytes: ${kernel.madeBy}`);
    if (relocations !== undefined) {
      steps.push(
        `${relocations.file}, ${relocations.size} bytes: ${relocations.madeBy}; behind the kernel it makes vmlinux.bin.all`,
      );
    }
  }
  if (payload !== undefined) {
    steps.push(`${payload.file}, ${payload.size} bytes: ${payload.madeBy}`);
  }
  if (image !== null && head !== undefined && stub !== undefined && payload !== undefined) {
    steps.push(
      `arch/x86/boot/compressed/vmlinux is linked of ${head.file} (${head.size} bytes), ${payload.file} and ${stub.file} ` +
        `(${stub.size} bytes); objcopy -O binary makes arch/x86/boot/vmlinux.bin of it`,
    );
  }
  if (setup !== undefined) steps.push(`${setup.file}, ${setup.size} bytes: ${setup.madeBy}`);
  if (image !== null) {
    const system = manifest.parts
      .filter(({ role }) => role === 'head' || role === 'payload' || role === 'stub' || role === 'code')
      .reduce((sum, { size }) => sum + size, 0);
    const setupBytes = image.setupSize - 512;
    steps.push(
      `bzImage is setup.bin and vmlinux.bin one behind the other:\n` +
        `     Boot sector 512 bytes.\n` +
        `     Setup is ${setupBytes} bytes.\n` +
        `     System is ${Math.ceil(system / 1024)} kB`,
    );
    if (byRole('checksum') !== undefined)
      steps.push('crc32.bin: tools/build appends the CRC-32 of all before it');
  }
  const signature = byRole('signature');
  if (signature !== undefined) steps.push(`${signature.file}, ${signature.size} bytes: ${signature.madeBy}`);
  return steps.map((step, index) => `${String(index + 1).padStart(2)}. ${step}\n`).join('');
}
