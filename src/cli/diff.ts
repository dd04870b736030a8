// `bootscope diff A B`: what changed between two boots, each a recorded trace or an image that is booted now.

import type { Command } from 'commander';
import { boot } from '../boot/boot.ts';
import { BootscopeError } from '../error.ts';
import { readImageFile } from '../image/image-file.ts';
import { compareTraces, formatDifferences } from '../report/difference.ts';
import { traceToJson } from '../report/json.ts';
import { checkTrace, looksLikeJson, parseTraceJson, type TraceJson } from '../report/trace-json.ts';
import { addBootOptions, type BootFlags, bootOptions, givenOptions, readBootImage } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { parseOwnOptions } from './own-options.ts';
import { withProgress } from './progress.ts';
import { printJson, printText } from './text-output.ts';

interface Flags extends BootFlags {
  readonly aOptions?: string;
  readonly bOptions?: string;
  readonly registers?: boolean;
  readonly sections?: boolean;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export function registerDiff(program: Command): void {
  const command = program
    .command('diff')
    .description(
      'compare two boots: traces from `boot --json` or `report --format json`, or images to boot; exit status 1 ' +
        'when something differs',
    )
    .argument('<a>', 'a trace in JSON, or an image')
    .argument('<b>', 'a trace in JSON, or an image');
  addBootOptions(command, { without: ['fromState'] })
    .option('--a-options <options>', 'boot options for A alone, such as "--cmdline nokaslr"')
    .option('--b-options <options>', 'boot options for B alone; the others go to both')
    .option('--registers', 'print each register that differs')
    .option('--sections', 'print each section of the kernel that differs')
    .option('--strict', 'compare also the path of the image and the engine');
  addExamples(command, [
    ['bootscope diff old.json vmlinuz-new --cmdline nokaslr', 'a recorded trace against a boot of now'],
    ['bootscope diff vmlinuz vmlinuz --b-options "--memory 1G"', 'one kernel under two settings'],
  ]);
  addJsonOption(command, 'the differences').action(async (pathA: string, pathB: string, flags: Flags) => {
    const [bytesA, bytesB] = [await readImageFile(pathA), await readImageFile(pathB)];
    const [isTraceA, isTraceB] = [looksLikeJson(bytesA), looksLikeJson(bytesB)];
    if (isTraceA && isTraceB && givenOptions(command).size > 0) {
      throw new BootscopeError(
        'cli-unused-options',
        `${pathA} and ${pathB} are recorded traces; nothing is booted, so boot options change nothing`,
      );
    }
    const a = await side(pathA, bytesA, isTraceA, flags, flags.aOptions, '--a-options');
    const b = await side(pathB, bytesB, isTraceB, flags, flags.bOptions, '--b-options');
    const differences = compareTraces(a, b, { strict: flags.strict === true });
    if (flags.json === true) {
      printJson({ a: identity(a), b: identity(b), equal: differences.length === 0, differences });
    } else {
      printText(
        formatDifferences(a, b, differences, {
          registers: flags.registers === true,
          sections: flags.sections === true,
          hints: { registers: '--registers shows the values', sections: '--sections shows them' },
        }),
      );
    }
    process.exitCode = differences.length === 0 ? 0 : 1;
  });
}

function identity(trace: TraceJson): { readonly path: unknown; readonly kernelVersion: unknown } {
  return { path: trace.image.path ?? null, kernelVersion: trace.image.kernelVersion ?? null };
}

async function side(
  path: string,
  bytes: Uint8Array,
  isTrace: boolean,
  shared: BootFlags,
  own: string | undefined,
  option: string,
): Promise<TraceJson> {
  if (isTrace) {
    if (own !== undefined) {
      throw new BootscopeError(
        'cli-unused-options',
        `${option}: ${path} is a recorded trace, it is not booted`,
      );
    }
    return parseTraceJson(path, new TextDecoder().decode(bytes));
  }
  const flags = own === undefined ? shared : { ...shared, ...parseOwnOptions(own, option) };
  const image = await readBootImage(path, flags.entry, bytes);
  const options = await bootOptions(flags);
  const finished = await withProgress(`booting ${path}`, () => boot(image, options));
  const { trace } = finished;
  finished.close();
  return checkTrace(path, traceToJson(trace));
}
