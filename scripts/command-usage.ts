// What a run of the bundled command takes of the host, as the process itself tells when it ends.

import { spawnSync } from 'node:child_process';

const REPORT =
  'import{writeSync}from"node:fs";process.on("exit",()=>{const{maxRSS,userCPUTime,systemCPUTime}=' +
  'process.resourceUsage();writeSync(3,JSON.stringify([maxRSS*1024,(userCPUTime+systemCPUTime)/1000]))})';

export interface Usage {
  /** Peak resident memory in bytes. */
  readonly memory: number;
  /** Processor time in milliseconds. */
  readonly cpu: number;
}

/**
 * @param command - the bundled command
 * @param input - what it finds on standard input; without it there is none
 */
export function usageOf(
  command: string,
  parameters: readonly string[],
  env: NodeJS.ProcessEnv,
  input?: string,
): Usage {
  const { output } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${REPORT}`, command, ...parameters],
    {
      ...(input === undefined ? {} : { input }),
      stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
      env,
    },
  );
  const [memory, cpu] = JSON.parse(output[3] || '[0,0]') as [number, number];
  return { memory, cpu };
}
