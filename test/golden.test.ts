// The golden lists say in text what every demo image does; a change of any line shows here, and is wanted or is not.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { hasNativeEngine } from '../src/cpu/native.ts';
import { goldenLists } from './golden-lists.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEMO = join(ROOT, 'images/demo');
const missing = hasNativeEngine() ? '' : ' (left out: no libunicorn 2.x found)';

describe.skipIf(missing !== '')(`the golden lists${missing}`, () => {
  for (const name of readdirSync(DEMO).toSorted()) {
    it(`are what ${name} does through every entry (scripts/golden writes them anew)`, async () => {
      const path = join(ROOT, 'test/golden', `${name}.txt`);
      expect(existsSync(path)).toBe(true);
      expect(await goldenLists(join(DEMO, name))).toBe(readFileSync(path, 'utf8'));
    });
  }
});
