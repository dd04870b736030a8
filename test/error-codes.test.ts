// The list of error codes is that of the sources.

import { expect, test } from 'vitest';
import { errorCodesInSources } from '../scripts/error-codes.ts';
import { ERROR_CODES } from '../src/error-codes.ts';
import { BootscopeError } from '../src/index.ts';

test('src/error-codes.ts has the code of every error (npx tsx scripts/error-codes.ts makes it anew)', () => {
  expect(ERROR_CODES).toEqual(errorCodesInSources());
});

test('an error carries its code, and the numbers of its sentence as data', () => {
  const cause = new Error('why');
  const error = new BootscopeError('image-too-large', 'it has 5 bytes, at most 4 are read', {
    cause,
    data: { size: 5, limit: 4 },
  });
  expect(error).toMatchObject({ code: 'image-too-large', data: { size: 5, limit: 4 }, cause });
  expect(new BootscopeError('place', 'nowhere').data).toEqual({});
});
