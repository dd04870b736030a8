// The distribution's kernels that set-up has fetched. Their versions change with the archive: a test that wants one of a kind
// takes the newest of it.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../images/cache/debian', import.meta.url));

/** Path of the newest of a release and flavour, `6.1` and `cloud-amd64`; of no file where none was fetched. */
export function debianKernel(release: string, flavour: string): string {
  let names: string[] = [];
  try {
    names = readdirSync(FOLDER);
  } catch {
    // Nothing was fetched.
  }
  const [start, end] = [`vmlinuz-${release}.`, `-${flavour}`];
  const newest = names
    .filter((name) => name.startsWith(start) && name.endsWith(end))
    .filter((name) => /^\d+(-\d+|\+deb\d+)$/.test(name.slice(start.length, -end.length)))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  return join(FOLDER, newest ?? `vmlinuz-${release}-${flavour}`);
}

/** 6.1 for virtual machines, compressed with lz4. */
export const CLOUD_KERNEL = debianKernel('6.1', 'cloud-amd64');
