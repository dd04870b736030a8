// `bootscope manual`: the manual page in roff, made of the commands' own tables.

import type { Command, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { COMMAND_GROUPS, COMMANDS } from './commands.ts';
import { addExamples, BOOT_OPTIONS_HEADING } from './common-options.ts';
import { loadCommands } from './completion.ts';
import { print } from './standard-output.ts';

export function registerManual(program: Command): void {
  const command = program.command('manual').description('print the manual page, in roff');
  addExamples(command, [
    ['bootscope manual | man -l -', 'to read it'],
    ['bootscope manual > /usr/local/share/man/man1/bootscope.1', 'to install it'],
  ]);
  command.action(async () => print(manualPage(await loadCommands())));
}

/** Text as roff takes it literally. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/gm, '\\&$1')
    .replace(
      /[^\0-\x7f]/gu,
      (character) => `\\[u${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}]`,
    );
}

function optionText({ flags, description, argChoices }: Option): string {
  const choices = argChoices === undefined ? '' : ` One of: ${argChoices.join(', ')}.`;
  return `.TP\n.B ${roff(flags)}\n${roff(description.replace(/\s+/g, ' ') + choices)}\n`;
}

const isBootOption = ({ helpGroupHeading }: Option): boolean => helpGroupHeading === BOOT_OPTIONS_HEADING;

function manualPage(commands: readonly Command[]): string {
  let text = `.TH BOOTSCOPE 1 "" "bootscope ${packageJson.version}"\n.SH NAME\nbootscope \\- boot a Linux kernel image on an emulated x86 CPU and show what lies where in memory\n`;
  text += '.SH SYNOPSIS\n.B bootscope\n.I command\n[options] [image]\n';
  text += `.SH DESCRIPTION\n${roff(packageJson.description)}.\n`;
  const bootOptions = new Map<string, Option>();
  for (const [group, heading] of Object.entries(COMMAND_GROUPS)) {
    text += `.SH ${heading.replace(':', '').toUpperCase()}\n`;
    for (const { name, group: own } of COMMANDS) {
      const command = commands.find((each) => each.name() === name);
      if (own !== group || command === undefined) continue;
      text += `.SS ${roff(`${name} ${command.usage()}`)}\n${roff(command.description().replace(/\s+/g, ' '))}\n`;
      for (const option of command.options) {
        if (isBootOption(option)) bootOptions.set(option.flags, option);
        else text += optionText(option);
      }
      if (command.options.some(isBootOption)) text += '.PP\nTakes the boot options below.\n';
    }
  }
  text += `.SH BOOT OPTIONS\n${[...bootOptions.values()].map(optionText).join('')}`;
  text +=
    '.SH EXIT STATUS\n.TP\n.B 0\nThe jump into the kernel was reached, or a check found nothing.\n' +
    '.TP\n.B 1\nThe guest stopped before the jump, or a check found a difference.\n' +
    '.TP\n.B 2\nThe command or its input is unusable.\n';
  text +=
    '.SH ENVIRONMENT\n.TP\n.B BOOTSCOPE_LIBUNICORN\nThe libunicorn to load.\n' +
    '.TP\n.B BOOTSCOPE_UNICORN_JS\nThe Unicorn.js to load.\n' +
    '.TP\n.B NO_COLOR, FORCE_COLOR\nNo colours, or colours also where the output is no terminal; \\-\\-color goes before both.\n';
  return text;
}
