// `bootscope events IMAGE`: what the guest did to the system around its code, a line each.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { boot } from '../boot/boot.ts';
import { eventLine } from '../report/event-lines.ts';
import { toJson } from '../report/json.ts';
import { EVENT_CHOICE_HELP, type EventChoice, isChosen, parseEventChoice } from '../trace/event-choice.ts';
import { addBootOptions, type BootFlags, IMAGE_ARGUMENT, readBootRequest } from './boot-options.ts';
import { addExamples, addJsonOption } from './common-options.ts';
import { showable } from './control-characters.ts';
import { withProgress } from './progress.ts';
import { print, printError } from './standard-output.ts';
import { addStubSymbolOptions, namesOnRequest, type StubSymbolFlags } from './symbol-options.ts';
import { printText } from './text-output.ts';

interface Flags extends BootFlags, StubSymbolFlags {
  readonly only?: readonly EventChoice[];
  readonly json?: boolean;
}

function parseChoices(text: string): readonly EventChoice[] {
  return text.split(',').map((part) => {
    const choice = parseEventChoice(part.trim());
    if (choice === null) throw new InvalidArgumentError(`it is a list of: ${EVENT_CHOICE_HELP}.`);
    return choice;
  });
}

export function registerEvents(program: Command): void {
  const command = program
    .command('events')
    .description(
      'boot IMAGE and list what it did to the machine, a line each: BIOS calls with what they got and returned, ports, MSRs, control registers, modes, copies, and what it printed',
    )
    .argument(...IMAGE_ARGUMENT);
  addExamples(command, [
    ['bootscope events vmlinuz --only bios', 'what setup asks the BIOS, and what it gets'],
    ['bootscope events vmlinuz --only bios=0x15/0xe820', 'the calls of one service alone'],
    ['bootscope events vmlinuz --json | grep cr0', 'an event a line, for a script'],
  ]);
  addStubSymbolOptions(addBootOptions(command, { without: ['hash'] })).addOption(
    new Option('--only <events>', `only these: ${EVENT_CHOICE_HELP}`).argParser(parseChoices),
  );
  addJsonOption(command, 'a list with an event a line').action(
    async (path: string | undefined, flags: Flags) => {
      const { image, options } = await readBootRequest(path, flags);
      const named = await namesOnRequest(flags);
      const finished = await withProgress(`booting ${image.path}`, () =>
        boot(image, { ...options, hash: false, pageTables: false }),
      );
      finished.close();
      const { events, stopped, notices } = await named(finished.trace, image);
      const wanted = events.filter((event) => flags.only?.some((choice) => isChosen(event, choice)) ?? true);
      if (flags.json === true) {
        print(`[${wanted.map((event) => `\n${showable(JSON.stringify(toJson(event)))}`).join(',')}\n]\n`);
      } else {
        printText(wanted.map((event) => `${eventLine(event)}\n`).join(''));
      }
      for (const notice of notices) printError(`bootscope: ${notice}\n`);
      if (stopped !== null) printError(`bootscope: no kernel was reached: ${stopped}\n`);
      process.exitCode = stopped === null ? 0 : 1;
    },
  );
}
