// What the explorer's machine takes for a request, and what it refuses.

import { describe, expect, it } from 'vitest';
import { MAX_READ_LENGTH, MAX_REQUEST_LENGTH, parseRequest } from './protocol.ts';

const request = (command: unknown): string => JSON.stringify({ id: 7, command });

describe('requests', () => {
  it.each([
    { do: 'open' },
    { do: 'survey' },
    { do: 'cancel' },
    {
      do: 'run',
      until: ['startup_64', '0x100000', 'bios', 'port=0x3f8'],
      writes: [{ start: '0x1000', end: '0x2000' }],
    },
    { do: 'find', text: 'start_kernel' },
    { do: 'step', instructions: -3 },
    { do: 'goTo', place: '#12' },
    { do: 'read', start: '0x7c00', length: MAX_READ_LENGTH },
    { do: 'disassemble', start: '0x100000', count: 10 },
    { do: 'who', start: '0x90000', end: '0x90001' },
    { do: 'decode', structure: 'gdt', start: null },
    { do: 'decode', structure: 'boot_params', start: '0x90000' },
  ])('are read as they are: %j', (command) => {
    expect(parseRequest(request(command))).toEqual({ id: 7, command });
  });

  it('lose what nobody asked for', () => {
    expect(parseRequest(request({ do: 'open', path: '/etc/passwd' })).command).toEqual({ do: 'open' });
  });

  it.each([
    ['', 'a message is no JSON'],
    ['{', 'a message is no JSON'],
    ['[]', 'a message is no object'],
    ['null', 'a message is no object'],
    ['{"id":"1","command":{"do":"open"}}', 'a message has no id'],
    ['{"id":1e400,"command":{"do":"open"}}', 'a message has no id'],
    [request('open'), 'a command is no object'],
    [request({ do: 'eval' }), 'there is no command "eval"'],
    [request({}), 'there is no command undefined'],
    [request({ do: 'run', until: 'x', writes: [] }), 'until is no list of at most 100'],
    [request({ do: 'run', until: [1], writes: [] }), 'until is no text of at most 64 characters'],
    [request({ do: 'run', until: [], writes: [{ start: 0 }] }), 'start is no text of at most 64 characters'],
    [request({ do: 'step', instructions: 0.5 }), 'instructions is no whole number'],
    [
      request({ do: 'decode', structure: 'toString', start: null }),
      'structure is none of boot_params, e820, gdt',
    ],
    [request({ do: 'goTo', place: 'x'.repeat(65) }), 'place is no text of at most 64 characters'],
    [request({ do: 'read', start: '0x-1', length: 1 }), 'start is no address such as 0x100000'],
    [
      request({ do: 'read', start: '0x0', length: MAX_READ_LENGTH + 1 }),
      `length is no whole number from 1 to ${MAX_READ_LENGTH}`,
    ],
    ['x'.repeat(MAX_REQUEST_LENGTH + 1), `has ${MAX_REQUEST_LENGTH + 1} characters`],
  ])('are refused with the reason: %.60s', (text, sentence) => {
    expect(() => parseRequest(text)).toThrow(sentence);
  });
});
