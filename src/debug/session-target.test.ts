// What continuing in a debugger stops for besides its breakpoints.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBoot } from '../boot/session.ts';
import { hasNativeEngine } from '../cpu/native.ts';
import { readKernelImage } from '../image/kernel-image.ts';
import { SessionTarget } from './session-target.ts';

const DEMO = new URL('../../images/demo/demo-gzip.bzImage', import.meta.url).pathname;

describe.skipIf(!hasNativeEngine())('stops of a debugger', () => {
  it('are the places that it is told, each time, until it is told of none', async () => {
    const image = await readKernelImage(DEMO, readFileSync(DEMO));
    using session = await openBoot(image, { cmdline: 'nokaslr', engine: 'native' });
    const target = new SessionTarget(session, image);
    const goOn = async (): Promise<string> => {
      const stop = await target.resume({ direction: 'forward', step: false });
      const { reason } = session.stop;
      return `${stop.kind} ${reason === 'event' ? session.stop.event.kind : reason}`;
    };
    expect(await target.monitor('stops')).toBe('none\n');
    expect(await target.monitor('stops bios=0x15/0xE820,startup_32,#3')).toBe(
      'bios=0x15/0xe820\nstartup_32\n#3\n',
    );
    expect(await goOn()).toBe('step count');
    const calls: number[] = [];
    for (;;) {
      const stopped = await goOn();
      if (stopped !== 'step bios') break;
      calls.push(session.instructions!);
    }
    expect(calls.length).toBeGreaterThan(2);
    expect(new Set(calls).size).toBe(calls.length);
    expect(session.stop).toMatchObject({ reason: 'phase', phase: 'startup_32' });
    expect(await target.monitor('stops nowhere')).toContain('"nowhere" is no place in a boot');
    expect(await target.monitor('stops none')).toBe('none\n');
    expect(await goOn()).toBe('end ended');
  });
});
