import { describe, expect, it } from 'vitest';
import { DEFAULT_BOOT_OPTIONS } from '../boot/options.ts';
import { bootOptions } from './boot-options.ts';

describe('the options of a boot', () => {
  it('are the defaults where a command does not have an option', async () => {
    const { memory, cpu } = DEFAULT_BOOT_OPTIONS;
    const options = await bootOptions({
      cmdline: 'quiet',
      memory,
      engine: 'native',
      cpu,
    });
    expect(options).toEqual({ ...DEFAULT_BOOT_OPTIONS, engine: 'native', cmdline: 'quiet' });
  });
});
