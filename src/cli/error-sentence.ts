// An error as the one sentence that a command prints.

import { BootscopeError } from '../error.ts';
import type { ErrorCode } from '../error-codes.ts';

/** The option that does what an error's sentence advises; below the command line no sentence names one. */
const HINTS: Readonly<Partial<Record<ErrorCode, string>>> = {
  'boot-entry': '--entry chooses the way in',
  'boot-load-address': '--entry chooses the way in',
  'boot-memory': '--memory gives it',
  'kaslr-option': '--kaslr takes one',
  'kaslr-emulated': '--kaslr, --decompress',
  'kaslr-entropy': '--kaslr lists them',
  'image-disk': '--disk, --floppy or --cdrom boots from it',
  'image-initrd': '--initrd takes it beside a kernel',
  'check-ignore': '--ignore',
  'report-not-a-trace': '`bootscope boot --json` writes one',
};

/** The error's own words, and which option helps; of what nobody foresaw, how to learn more. */
export function errorSentence(error: unknown): string {
  if (!(error instanceof BootscopeError)) return `${oneLine(messageOf(error))} (--debug prints where)`;
  const hint = HINTS[error.code];
  return `${oneLine(error.message)}${hint === undefined ? '' : ` (${hint})`}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `internal error: ${error.message}` : String(error);
}

/** A message that quotes a file may bring its line ends and control characters along. */
function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, ' ');
}
