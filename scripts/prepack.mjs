// What npm runs before it packs: the build, so that no package holds an old one, and koffi's binaries for the common systems,
// so that the package works where optional packages are left out.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import './build.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const PLATFORMS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64', 'win32-x64'];
const { version } = JSON.parse(await readFile('node_modules/koffi/package.json', 'utf8'));

await rm('dist/koffi', { recursive: true, force: true });
await mkdir('dist/koffi', { recursive: true });
await cp('node_modules/koffi/LICENSE.txt', 'dist/koffi/LICENSE.txt');
const scratch = await mkdtemp(join(tmpdir(), 'bootscope-pack-'));
try {
  for (const platform of PLATFORMS) {
    const name = `@koromix/koffi-${platform}`;
    const folder = existsSync(`node_modules/${name}`)
      ? `node_modules/${name}`
      : await download(name, platform);
    if (folder === null) continue;
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const binary = join(folder, entry.name, 'koffi.node');
      if (entry.isDirectory() && existsSync(binary)) await cp(binary, `dist/koffi/${entry.name}/koffi.node`);
    }
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
}

/** The unpacked package of another platform; null, said on stderr, where the registry cannot be asked. */
async function download(name, platform) {
  const folder = join(scratch, platform);
  await mkdir(folder);
  try {
    const [{ filename }] = JSON.parse(
      execFileSync('npm', ['pack', '--json', `${name}@${version}`, '--pack-destination', folder], {
        stdio: ['ignore', 'pipe', 'ignore'],
        shell: process.platform === 'win32',
        timeout: 60_000,
      }),
    );
    execFileSync('tar', ['-xzf', filename.replace('/', '-').replace('@', ''), '-C', '.'], { cwd: folder });
    return join(folder, 'package');
  } catch {
    process.stderr.write(
      `prepack: ${name} ${version} cannot be had; the package works there with optional packages only\n`,
    );
    return null;
  }
}
