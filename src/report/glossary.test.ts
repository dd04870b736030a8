// The glossary and the page of documentation that is made of it.

import { describe, expect, it } from 'vitest';
import { GLOSSARY } from './glossary.ts';

/** As a reader looks for it. */
const key = (word: string): string => word.replace(/[^a-z0-9]/g, '');

describe('the glossary', () => {
  it('names each word once, in alphabetical order', () => {
    const words = GLOSSARY.map(({ word }) => word.toLowerCase());
    expect(words).toEqual([...new Set(words)].sort((a, b) => (key(a) < key(b) ? -1 : 1)));
  });

  it('is what docs/glossary.md says (vitest -u writes it anew)', async () => {
    const rows = GLOSSARY.map(({ word, meaning }) => `**${word}**  \n${meaning}\n`);
    await expect(
      `# Glossary\n\nThe words that the commands, the report and the explorer use.\n\n${rows.join('\n')}`,
    ).toMatchFileSnapshot('../../docs/glossary.md');
  });
});
