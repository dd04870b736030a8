// `bootscope gdb IMAGE`: holds a boot for a debugger that speaks gdb's remote protocol.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { openBoot, SNAPSHOT_MEMORY } from '../boot/session.ts';
import { SessionTarget } from '../debug/session-target.ts';
import { PT_LOAD, readElf } from '../image/elf.ts';
import { readImageFile } from '../image/image-file.ts';
import { readSetupSymbols, readStubSymbols } from '../trace/kernel-names.ts';
import { PLACE_HELP, type Place, parsePlace } from '../trace/place.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples } from './common-options.ts';
import { listenForGdb, serveStandardInput } from './gdb-server.ts';
import { printError } from './standard-output.ts';
import { addCodeSymbolOptions, type CodeSymbolFlags } from './symbol-options.ts';

const DEFAULT_PORT = 1234;
const MAX_PORT = 65_535;

interface Flags extends BootFlags, CodeSymbolFlags {
  readonly port: number;
  readonly stdio?: boolean;
  readonly at?: Place;
  readonly vmlinux?: string;
}

function parsePort(text: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= MAX_PORT)) throw new InvalidArgumentError(`it is a port, 0 (any) to ${MAX_PORT}.`);
  return port;
}

export function registerGdb(program: Command): void {
  const command = program
    .command('gdb')
    .description(
      'boot IMAGE for a debugger: forward, back, breakpoints and watchpoints in every mode of the CPU. Connect with `target remote 127.0.0.1:PORT`',
    )
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope gdb vmlinuz --at startup_64', 'and `gdb -ex "target remote 127.0.0.1:1234"` elsewhere'],
    [
      "gdb -ex 'target remote | bootscope gdb vmlinuz --stdio'",
      'in one line, with nothing to end afterwards',
    ],
  ]);
  addCodeSymbolOptions(addBootOptions(command))
    .option('--vmlinux <file>', 'of the kernel: `monitor symbols` tells where its symbols belong')
    .addOption(
      new Option('--port <n>', 'of 127.0.0.1; 0 for any that is free')
        .argParser(parsePort)
        .default(DEFAULT_PORT),
    )
    .option(
      '--stdio',
      'speak through standard input and output: `target remote | bootscope gdb IMAGE --stdio`',
    )
    .addOption(new Option('--at <place>', `where the boot stands first: ${PLACE_HELP}`).argParser(parsePlace))
    .action(async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const files = {
        symbols: { setup: await readSetupSymbols(flags.setupElf), stub: await readStubSymbols(flags) },
        ...(flags.setupElf === undefined ? {} : { setupElf: flags.setupElf }),
        ...(flags.zoVmlinux === undefined ? {} : { zoVmlinux: flags.zoVmlinux }),
        ...(flags.vmlinux === undefined
          ? {}
          : { vmlinux: flags.vmlinux, vmlinuxBase: await linkedBase(flags.vmlinux) }),
      };
      const session = await openBoot(image, { ...options, hash: false, snapshotMemory: SNAPSHOT_MEMORY });
      try {
        if (flags.at !== undefined) await session.goTo(flags.at);
        const target = new SessionTarget(session, image, files);
        if (flags.stdio === true) await serveStandardInput(target);
        else await serveSocket(target, flags.port);
      } finally {
        session.close();
      }
      process.exitCode = 0;
    });
}

async function serveSocket(target: SessionTarget, port: number): Promise<void> {
  const server = await listenForGdb(target, port);
  const script = scriptPath();
  printError(
    `bootscope: ${target.status()}; waiting for gdb: target remote 127.0.0.1:${server.port}\n${script === null ? '' : `bootscope: for 16- and 32-bit code in gdb 13: source ${script}\n`}`,
  );
  const stop = (): void => server.close();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  await server.ended;
}

/** The Python file that belongs to this installation. */
function scriptPath(): string | null {
  const here = dirname(fileURLToPath(import.meta.url));
  return [join(here, '../gdb/bootscope.py'), join(here, '../../gdb/bootscope.py')].find(existsSync) ?? null;
}

/** Linear address of the first segment of a vmlinux. */
async function linkedBase(path: string): Promise<bigint> {
  const { programHeaders } = readElf(await readImageFile(path));
  return programHeaders.find(({ type }) => type === PT_LOAD)?.vaddr ?? 0n;
}
