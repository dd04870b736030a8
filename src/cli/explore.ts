// `bootscope explore IMAGE`: a page on loopback for a boot that one moves in. Each page's machine is a process of its own, so
// that an engine that breaks down takes nothing else along.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { openBoot } from '../boot/session.ts';
import { BootscopeError } from '../error.ts';
import { explorerFiles } from '../explorer/explorer-files.ts';
import { ExplorerHost } from '../explorer/explorer-host.ts';
import { startExplorerServer } from '../explorer/server.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { thisCommand } from './child-command.ts';
import { addExamples } from './common-options.ts';
import { MACHINE_PARTS, MACHINE_READY, type MachinePart, PageMachines } from './page-machines.ts';
import { print, printError } from './standard-output.ts';

interface Flags extends BootFlags {
  readonly port: number;
  readonly open?: boolean;
  readonly keep?: boolean;
  readonly pageMachine?: MachinePart;
}

const SIGINT_STATUS = 0;

function parsePort(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 65535) throw new InvalidArgumentError('it is a port from 0 to 65535.');
  return value;
}

export function registerExplore(program: Command): void {
  const command = program
    .command('explore')
    .description('open a page for a boot that one steps through, goes back in and looks into')
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope explore vmlinuz --cmdline nokaslr', 'in the browser, with everything that boot takes'],
    ['bootscope explore vmlinuz --no-open --port 8080', 'prints the address, for a browser elsewhere'],
  ]);
  addBootOptions(command)
    .addOption(
      new Option('--port <number>', 'where the page is served, on this machine alone; 0: any that is free')
        .argParser(parsePort)
        .default(0),
    )
    .option('--no-open', 'print the address and open no browser')
    .option('--keep', 'stay when the last page has gone')
    // What the server starts for its pages.
    .addOption(new Option('--page-machine <part>').choices(MACHINE_PARTS).hideHelp())
    .action(async (path: string | undefined, flags: Flags) => {
      if (flags.pageMachine !== undefined) {
        await answerPages(path, flags, flags.pageMachine);
        return;
      }
      // It starts while this process reads the image, to tell at once what is wrong with it.
      const machines = new PageMachines(thisCommand());
      try {
        await readBootRequest(path, flags);
        await serve(flags, machines);
      } finally {
        machines.close();
      }
      process.exit(SIGINT_STATUS);
    });
}

async function answerPages(path: string | undefined, flags: Flags, part: MachinePart): Promise<void> {
  const { image, options } = await readBootRequest(path, flags);
  const session = () => openBoot(image, { ...options, hash: false });
  const host = new ExplorerHost({ image, open: session, survey: session }, (message) => {
    process.stdout.write(`${JSON.stringify(message)}\n`);
  });
  void host.begin(part === 'held' ? 'open' : 'survey').then(() => print(`${MACHINE_READY}\n`));
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => host.receive(line));
  lines.on('close', () => host.close());
}

async function serve(flags: Flags, machines: PageMachines): Promise<void> {
  let done: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    done = resolve;
  });
  const server = await startExplorerServer({
    port: flags.port,
    files: await explorerFiles(),
    connect: (say) => machines.connect(say),
    onEmpty: () => {
      if (flags.keep !== true) done();
    },
  }).catch((error: Error) => {
    throw new BootscopeError('explorer-port', `port ${flags.port} cannot be served on: ${error.message}`);
  });
  print(`${server.url}\n`);
  printError('bootscope: the page is served to this machine alone; Ctrl-C ends it\n');
  if (flags.open !== false) openBrowser(server.url);
  process.once('SIGINT', done);
  process.once('SIGTERM', done);
  await ended;
  await server.close();
}

function openBrowser(url: string): void {
  const [tool, ...before] =
    process.platform === 'darwin'
      ? ['open']
      : process.platform === 'win32'
        ? ['cmd', '/c', 'start', '']
        : ['xdg-open'];
  const child = spawn(tool!, [...before, url], { stdio: 'ignore', detached: true });
  // Without one the address on the terminal has to do.
  child.on('error', () => {});
  child.unref();
}
