// Writes test/golden anew, of the images that are named or of all.

import { readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { goldenLists } from '../test/golden-lists.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DEMO = join(ROOT, 'images/demo');

const named = process.argv.slice(2);
const images = named.length > 0 ? named.map((path) => basename(path)) : readdirSync(DEMO).toSorted();
for (const name of images) {
  const text = await goldenLists(join(DEMO, name));
  writeFileSync(join(ROOT, 'test/golden', `${name}.txt`), text);
  process.stdout.write(`${name}: ${text.length} bytes\n`);
}
