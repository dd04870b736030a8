// `bootscope report IMAGE`: boots and writes the trace as a page, a picture, a file for Perfetto, or JSON.

import { extname } from 'node:path';
import { type Command, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import { SCALE_MODES, type ScaleMode } from '../report/address-scale.ts';
import { chromeTrace } from '../report/chrome-trace.ts';
import { traceToJson } from '../report/json.ts';
import { reportModel } from '../report/report-model.ts';
import { parseTrace } from '../report/saved-trace.ts';
import { formatSvg } from '../report/svg.ts';
import { looksLikeJson } from '../report/trace-json.ts';
import type { BootTrace } from '../trace/boot-trace.ts';
import { nameTrace, readSymbolFiles } from '../trace/kernel-names.ts';
import {
  addBootOptions,
  type BootFlags,
  givenOptions,
  IMAGE_ARGUMENT,
  readBootRequest,
} from './boot-options.ts';
import { addExamples, addOutputOptions } from './common-options.ts';
import { checkOutput, writeOutput } from './output-file.ts';
import { withProgress } from './progress.ts';
import {
  addKernelSymbolFiles,
  addStubSymbolOptions,
  type KernelSymbolFlags,
  type StubSymbolFlags,
} from './symbol-options.ts';

const FORMATS = ['html', 'svg', 'chrome-trace', 'json'] as const;
type Format = (typeof FORMATS)[number];

interface Flags extends BootFlags, StubSymbolFlags, KernelSymbolFlags {
  readonly output: string;
  readonly format?: Format;
  readonly scale?: ScaleMode;
  readonly force?: boolean;
}

export function registerReport(program: Command): void {
  const command = program
    .command('report')
    .description(
      'boot IMAGE, or read a recorded trace, and write what happened as one HTML page, an SVG picture, JSON or a ' +
        'Perfetto trace',
    )
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope report vmlinuz -o boot.html', 'all of a boot as one page that needs no network'],
    ['bootscope report vmlinuz -o boot.json --format chrome-trace', 'for ui.perfetto.dev'],
    ['bootscope report trace.json -o boot.html', 'of what `boot --json` or `report --format json` wrote'],
  ]);
  addBootOptions(addOutputOptions(command));
  addKernelSymbolFiles(addStubSymbolOptions(command, { bounds: true }))
    .addOption(new Option('--format <format>', 'by default what the name of the file says').choices(FORMATS))
    .addOption(
      new Option('--scale <scale>', 'scale of the picture (folded for html, even for svg)').choices(
        SCALE_MODES,
      ),
    )
    .action(async (path: string | undefined, flags: Flags) => {
      const force = flags.force === true;
      const asked = flags.format ?? formatOf(flags.output);
      checkOutput(flags.output, force);
      const bytes = path === undefined ? null : await readImageFile(path);
      const trace =
        bytes !== null && looksLikeJson(bytes)
          ? savedTrace(path!, bytes, command)
          : await bootedTrace(path, bytes, flags);
      const text = await format(trace, asked, flags.scale);
      await writeOutput(flags.output, text, force);
      process.exitCode = trace.kernel === null ? 1 : 0;
    });
}

async function bootedTrace(
  path: string | undefined,
  bytes: Uint8Array | null,
  flags: Flags,
): Promise<BootTrace> {
  const { image, options } = await readBootRequest(path, flags, bytes);
  const files = await readSymbolFiles(flags);
  const finished = await withProgress(`booting ${image.path}`, () => boot(image, options));
  finished.close();
  return nameTrace(finished.trace, image, files, { kallsyms: true });
}

/** @throws BootscopeError `cli-unused-options` where something is asked for that only a boot could follow */
function savedTrace(path: string, bytes: Uint8Array, command: Command): BootTrace {
  const symbols = ['zoVmlinux', 'vmlinux', 'systemMap'].filter(
    (name) => command.getOptionValueSource(name) === 'cli',
  );
  if (givenOptions(command).size > 0 || symbols.length > 0) {
    throw new BootscopeError(
      'cli-unused-options',
      `${path} is a recorded trace; nothing is booted, so options of a boot and files with symbols change nothing`,
    );
  }
  return parseTrace(path, new TextDecoder().decode(bytes));
}

const ENDINGS: Readonly<Record<string, Format>> = {
  '.html': 'html',
  '.htm': 'html',
  '.svg': 'svg',
  '.json': 'json',
};

/** @throws BootscopeError `cli-format` where the name does not say it */
function formatOf(path: string): Format {
  const format = path === '-' ? 'html' : ENDINGS[extname(path).toLowerCase()];
  if (format !== undefined) return format;
  const known = Object.keys(ENDINGS).join(', ');
  throw new BootscopeError(
    'cli-format',
    `${path} does not say by its ending what it is to be (${known}); --format does`,
  );
}

async function format(trace: BootTrace, as: Format, scale: ScaleMode | undefined): Promise<string> {
  switch (as) {
    case 'html': {
      // Carries the page's script and style, which no other command needs.
      const { formatHtml } = await import('../report/html.ts');
      return formatHtml(reportModel(trace), { scale: scale ?? 'folded' });
    }
    case 'svg':
      return formatSvg(reportModel(trace), { scale: scale ?? 'even' });
    case 'chrome-trace':
      return `${JSON.stringify(chromeTrace(reportModel(trace)))}\n`;
    case 'json':
      return `${JSON.stringify(traceToJson(trace, { events: true }), null, 2)}\n`;
  }
}
