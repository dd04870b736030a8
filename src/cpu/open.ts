// Opening a CPU: which binding of Unicorn to take, and what to say when there is none.

import { BootscopeError } from '../error.ts';
import type { Cpu, EngineName } from './cpu.ts';
import { compareVersions } from './find-library.ts';
import { type Transport, versionText } from './transport.ts';
import { createUnicorn } from './unicorn.ts';

export interface OpenCpuOptions {
  /** `auto` takes the newest version that is installed, at a tie the native library. */
  readonly engine?: 'auto' | EngineName;
}

const NO_ENGINE =
  'No Unicorn engine is installed: run scripts/setup, or install libunicorn 2.x (Debian: apt install libunicorn2) or the npm package @alexaltea/unicorn-js.';

/** The environment variable that names each binding's file. */
const OVERRIDES: Readonly<Record<EngineName, string>> = {
  native: 'BOOTSCOPE_LIBUNICORN',
  wasm: 'BOOTSCOPE_UNICORN_JS',
};

async function openTransport(engine: EngineName): Promise<Transport> {
  // Imported only when taken: loading either binding costs tens of milliseconds.
  if (engine === 'native') return (await import('./native.ts')).nativeTransport();
  return (await import('./wasm-file.ts')).wasmTransport();
}

/** What `auto` tries, in this order: what was named, else the newest. */
async function candidates(): Promise<readonly EngineName[]> {
  const [named, other] = (['native', 'wasm'] as const).filter((engine) => process.env[OVERRIDES[engine]]);
  if (named !== undefined && other === undefined) return [named];
  const { findWasmEngine, wasmEngineVersion } = await import('./wasm-file.ts');
  const file = findWasmEngine();
  if (file === null) return ['native'];
  try {
    const native = await openTransport('native');
    const version = versionText(native.version());
    native.close();
    return compareVersions(wasmEngineVersion(file) ?? '0', version) > 0
      ? ['wasm', 'native']
      : ['native', 'wasm'];
  } catch (error) {
    if (!(error instanceof BootscopeError) || error.code !== 'cpu-no-engine') throw error;
    return named === undefined ? ['wasm', 'native'] : ['native', 'wasm'];
  }
}

/**
 * Opens one Unicorn instance in 64-bit mode.
 *
 * @throws BootscopeError `cpu-no-engine` where the asked binding (or, for `auto`, every binding) is missing
 */
export async function openCpu(options: OpenCpuOptions = {}): Promise<Cpu> {
  const engine = options.engine ?? 'auto';
  if (engine !== 'auto') return createUnicorn(await openTransport(engine));
  const causes: unknown[] = [];
  for (const candidate of await candidates()) {
    try {
      return createUnicorn(await openTransport(candidate));
    } catch (error) {
      if (!(error instanceof BootscopeError) || error.code !== 'cpu-no-engine') throw error;
      // An engine that was named must not be passed over in silence.
      if (process.env[OVERRIDES[candidate]]) throw error;
      causes.push(error);
    }
  }
  throw new BootscopeError('cpu-no-engine', NO_ENGINE, { cause: new AggregateError(causes) });
}
