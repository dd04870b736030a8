// The commands in README and docs: found, run in a folder that has the files they name, and compared with what is printed there.
//
// In a fenced `console` block a line after `$ ` is a command (`\` goes on in the next line), what follows is its output, whole.
// In a `sh` block each line that begins with `bootscope` is run with files for the names in capitals; it has to end with 0 or 1.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEMO = join(ROOT, 'images/demo');
const DEBIAN = join(ROOT, 'images/cache/debian');

export interface DocCommand {
  readonly command: string;
  /** Null in a `sh` block, which shows none. */
  readonly output: string | null;
  /** Where the output stands in the document, [start, end), to be written anew. */
  readonly start: number;
  readonly end: number;
}

/** What is said for the name of a file, of which there is no one in particular. */
const STANDS_FOR: readonly (readonly [RegExp, string])[] = [
  [/\barch\/x86\/boot\/bzImage\b/g, 'demo-zstd.bzImage'],
  [/\bIMAGE\b|\bvmlinuz(?![-\w.])/g, 'demo-zstd.bzImage'],
  [/\bOLD\b/g, 'demo-gzip.bzImage'],
  [/\bNEW\b/g, 'demo-zstd.bzImage'],
  [/\bDISK\b/g, 'demo.zImage'],
];
/** Commands that serve until they are ended, that a build of a kernel is needed for, whose file is anybody's, or that take minutes. */
const NOT_RUN =
  /\bbootscope (explore|gdb)\b|vmlinux|monitor |vmlinuz-(good|new|6\.1\b)|\buki\.efi|\befi-map\.txt|\bverify vmlinuz --entry efi|--from-state|\b(ISO|FLOPPY|FOLDER|DISK2)\b|--esp /;

/** The commands of a document, in their order. */
export function commandsOf(text: string): DocCommand[] {
  const found: DocCommand[] = [];
  for (const block of text.matchAll(/^```(console|sh)\n(.*?)^```$/gms)) {
    const from = block.index + block[0].indexOf('\n') + 1;
    const body = block[2]!;
    if (block[1] === 'sh') {
      for (const line of body.split('\n')) {
        if (!/^bootscope /.test(line) || NOT_RUN.test(line)) continue;
        found.push({ command: line.replace(/ +# .*$/, ''), output: null, start: 0, end: 0 });
      }
      continue;
    }
    for (const part of body.matchAll(/^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)/gm)) {
      if (NOT_RUN.test(part[1]!)) continue;
      const start = from + part.index + part[0].length - part[2]!.length;
      found.push({ command: part[1]!, output: part[2]!, start, end: start + part[2]!.length });
    }
  }
  return found;
}

/** `cli; hlt`, and the signature. */
const BOOT_SECTOR: Readonly<Record<number, number>> = { 0: 0xfa, 1: 0xf4, 510: 0x55, 511: 0xaa };

/** A folder with what the documents name: kernels, demo images, an initrd, a kernel's log. */
export function prepareFolder(folder: string): void {
  for (const from of [DEMO, DEBIAN]) {
    if (!existsSync(from)) continue;
    for (const name of readdirSync(from)) symlinkSync(join(from, name), join(folder, name));
  }
  writeFileSync(join(folder, 'initrd.img'), '070701'.padEnd(0xf4_2400, '0'));
  const [, images] = /^```json\n(.*?)^```$/ms.exec(readDocument('docs/continuous-integration.md')) ?? [];
  writeFileSync(join(folder, 'images.json'), images ?? '');
  for (const [architecture, demo] of Object.entries({ x86_64: 'demo-xz', i386: 'demo-i386' })) {
    mkdirSync(join(folder, 'out', architecture), { recursive: true });
    symlinkSync(join(DEMO, `${demo}.bzImage`), join(folder, 'out', architecture, 'bzImage'));
  }
  mkdirSync(join(folder, 'refs'));
  // A disk whose boot sector halts, and what firmware boots from.
  writeFileSync(
    join(folder, 'disk.img'),
    Uint8Array.from({ length: 512 }, (_, at) => BOOT_SECTOR[at] ?? 0),
  );
  const kernel = distributionKernel();
  if (kernel !== null) {
    mkdirSync(join(folder, 'esp/EFI/BOOT'), { recursive: true });
    symlinkSync(join(DEBIAN, kernel), join(folder, 'esp/EFI/BOOT/BOOTX64.EFI'));
  }
  writeFileSync(
    join(folder, 'dmesg.txt'),
    [
      '[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable',
      '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000003fffffff] usable',
      '[    0.000000] Command line: root=/dev/sda1 ro quiet',
      '[    0.000000] RAMDISK: [mem 0x34a5c000-0x363fbfff]',
      '',
    ].join('\n'),
  );
}

/** For commands that the demo images have nothing for, since they have neither KASLR nor a PE header; null where none was fetched. */
function distributionKernel(): string | null {
  if (!existsSync(DEBIAN)) return null;
  const names = readdirSync(DEBIAN).filter((name) => name.startsWith('vmlinuz-6.1'));
  // The cloud kernel is compressed with lz4, and so decompressed in a tenth of the time.
  return names.find((name) => name.includes('cloud')) ?? names[0] ?? null;
}

const BEYOND_DEMOS = /\bkaslr (IMAGE|vmlinuz(?![-\w.]))|(IMAGE|vmlinuz(?![-\w.])) --entry efi/;

/** The kernel that a command needs and that is not here; null where all is. */
export function missingFile({ command }: DocCommand): string | null {
  if (BEYOND_DEMOS.test(command) && distributionKernel() === null) return "a kernel of Debian's";
  const [name] = /\bvmlinuz-[\w.+-]+/.exec(command) ?? [];
  return name === undefined || existsSync(join(DEBIAN, name)) ? null : name;
}

export interface Ran {
  readonly status: number | null;
  /** Standard output and standard error as they came. */
  readonly output: string;
}

export function runCommand(folder: string, { command }: DocCommand): Ran {
  let words = command;
  if (BEYOND_DEMOS.test(command))
    words = words.replace(/\bIMAGE\b|\bvmlinuz(?![-\w.])/, distributionKernel()!);
  for (const [name, file] of STANDS_FOR) words = words.replace(name, file);
  const script = `bootscope() { '${process.execPath}' '${join(ROOT, 'dist/bootscope.cjs')}' "$@"; }\n${words}\n`;
  const { status, stdout } = spawnSync('bash', ['-c', `exec 2>&1\n${script}`], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
    maxBuffer: 1 << 28,
  });
  return { status, output: stdout };
}

/** Without what differs between machines: the engine. */
export function comparable(output: string): string {
  return output.replace(/Unicorn \d+\.\d+\.\d+ \((native|wasm)\)/g, 'Unicorn');
}

/** A file of an example of the documents, in a folder of its own. */
export function writeExample(folder: string, name: string, text: string): string {
  const path = join(folder, basename(name));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

export function readDocument(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

export function documents(): readonly string[] {
  return ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
    name.endsWith('.md'),
  );
}
