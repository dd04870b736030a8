// Opening a CPU where no engine is installed, as in a browser: whoever opens a boot gives an engine along.

import { BootscopeError } from '../error.ts';
import type { Cpu, EngineName } from './cpu.ts';
import type * as installed from './open.ts';

export function openCpu({ engine = 'auto' }: { readonly engine?: 'auto' | EngineName }): Promise<Cpu> {
  return Promise.reject(
    new BootscopeError(
      'cpu-no-engine',
      `there is no engine '${engine}' in a browser but the one that is given along`,
    ),
  );
}

const fits: typeof installed.openCpu = (options = {}) => openCpu(options);
void fits;
