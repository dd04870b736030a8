// `bootscope info IMAGE`: says what a kernel file is and prints every header field with its meaning.

import type { Command } from 'commander';
import { BootscopeError } from '../error.ts';
import type { ErrorCode } from '../error-codes.ts';
import { readKernelFile } from '../image/describe-file.ts';
import { readImageFile } from '../image/image-file.ts';
import { isKernelFile, type KernelFile } from '../image/kernel-file.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { showable } from './control-characters.ts';
import { kernelFileToText } from './info-format.ts';
import { kernelFileToJson } from './info-json.ts';
import { print } from './standard-output.ts';
import { printText } from './text-output.ts';

/** Adds the subcommand `info`. */
export function registerInfo(program: Command): void {
  const command = program
    .command('info')
    .description('say what a kernel file is: its format, version, sizes and every header field')
    .argument('<image>', 'any file a kernel comes in; - for standard input');
  addExamples(command, [
    ['bootscope info vmlinuz', 'what the file is; every field of the setup header with its meaning'],
    ['bootscope info vmlinuz --json | jq .header.init_size', 'one of them, for a script'],
  ]);
  addJsonOption(command, 'the file').action(async (path: string, flags: { readonly json?: boolean }) => {
    const file = await readKernelFile(path, await readImageFile(path));
    const json = flags.json === true;
    if (json) print(`${showable(kernelFileToJson(file))}\n`);
    if (!isKernelFile(file)) throw new BootscopeError(notKernelCode(file), notKernelSentence(file));
    if (!json) printText(kernelFileToText(file));
    if (file.problem !== null) throw new BootscopeError('image-damaged', file.problem);
  });
}

/** By the code, `main.ts` adds the option that would use the file. */
function notKernelCode({ kind }: KernelFile): ErrorCode {
  return kind === 'disk' || kind === 'initrd' ? `image-${kind}` : 'image-not-kernel';
}

function notKernelSentence(file: KernelFile): string {
  const reason = file.problem === null ? '' : ` (${file.problem})`;
  const what = file.what.startsWith('no ') ? file.what : `${file.what}, not a kernel`;
  return `${file.path} is ${what}${reason}${file.advice === null ? '' : `: ${file.advice}`}`;
}
