// Loads koffi, through which Node calls native code.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Koffi = typeof import('koffi');

/**
 * koffi, from wherever it is installed.
 *
 * @throws what `require` throws where it is not
 */
export function requireKoffi(): Koffi {
  const require = createRequire(import.meta.url);
  const addOn = requireAddOn(require);
  if (addOn !== null) return addOn;
  try {
    // CommonJS: loading the add-on through require takes half the time of an import.
    return require('koffi') as Koffi;
  } catch (cause) {
    return requireWithShippedBinary(require, cause);
  }
}

/**
 * The add-on itself, which lies beside koffi: all that koffi's own modules do is to find it and to add deprecated functions, which
 * takes a start 8 ms. Null where it does not lie there, or is of another generation than the one whose functions we call.
 */
function requireAddOn(require: NodeJS.Require): Koffi | null {
  const { platform, arch } = process;
  try {
    const addOn = require(`@koromix/koffi-${platform}-${arch}/${platform}_${arch}/koffi.node`) as Koffi & {
      readonly version?: string;
    };
    return addOn.version?.startsWith('3.') ? addOn : null;
  } catch {
    return null;
  }
}

/**
 * koffi where its binary, an optional package, was left out: with the one that lies beside the bundle in a published package.
 * koffi looks for it below `process.resourcesPath`, which Electron sets and Node.js does not.
 */
function requireWithShippedBinary(require: NodeJS.Require, cause: unknown): Koffi {
  const [shipped] = ['.', '..']
    .map((up) => fileURLToPath(new URL(up, import.meta.url)))
    .filter((folder) => existsSync(join(folder, 'koffi')));
  const host = process as { resourcesPath?: string };
  if (shipped === undefined || host.resourcesPath !== undefined) throw cause;
  host.resourcesPath = shipped;
  try {
    return require('koffi') as Koffi;
  } finally {
    delete host.resourcesPath;
  }
}
