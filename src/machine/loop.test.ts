import { describe, expect, it } from 'vitest';
import { findLoop } from './loop.ts';

describe('findLoop', () => {
  it('finds the shortest round at the end, and how often it was gone', () => {
    expect(findLoop([9, 8, 7, 1, 2, 3, 1, 2, 3, 1, 2, 3])).toEqual({
      ...{ lowest: 1, highest: 3, length: 3, rounds: 3 },
    });
    expect(findLoop([5, 5, 5, 5])).toEqual({ lowest: 5, highest: 5, length: 1, rounds: 4 });
  });

  it('finds a round that has a round of its own in it', () => {
    expect(findLoop([1, 2, 2, 3, 1, 2, 2, 3])).toMatchObject({ length: 4, rounds: 2 });
  });

  it('finds none where nothing repeats up to the end', () => {
    expect(findLoop([])).toBeNull();
    expect(findLoop([1])).toBeNull();
    expect(findLoop([1, 2, 1, 2, 3])).toBeNull();
    expect(findLoop([1, 2, 3, 1, 2, 4, 1])).toBeNull();
  });
});
