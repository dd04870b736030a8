// What runs of boot loaders, with boot sectors that are made here; those of others are compared in test/loader-references.test.ts.

import { describe, expect, it } from 'vitest';
import { bootDisk } from '../../image/boot-disk.ts';
import { diskOfBytes } from '../../image/disk-image.ts';
import { openBoot } from '../session.ts';

/** A disk with code in its first sector, and more behind it. */
function disk(code: readonly number[], size = 2880 * 512): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(code);
  bytes.set([0x55, 0xaa], 510);
  return bytes;
}

const INT_18H = [0xcd, 0x18];
const CLI_HLT = [0xfa, 0xf4];

async function programsOf(...given: Parameters<typeof openBoot>) {
  using session = await openBoot(...given);
  await session.run();
  const { phases, stopped } = session.trace();
  return {
    stopped,
    phases: phases.map(({ name, program, registers }) => [name, program, Number(registers.rdx & 0xffn)]),
  };
}

describe('the programs of a boot loader', () => {
  it('are followed to the next device, where the first gives up by INT 18h', async () => {
    const disks = [diskOfBytes('first.img', disk(INT_18H))];
    const { phases, stopped } = await programsOf(bootDisk('first.img', 'disk'), {
      ...{ disks, floppy: disk(CLI_HLT), bootOrder: ['disk', 'floppy'], entry: 'boot-sector' },
    });
    expect(phases).toEqual([
      ['boot-sector', 'boot sector', 0x80],
      ['boot-sector', 'boot sector', 0],
    ]);
    expect(stopped).toContain('halted with interrupts off');
  });

  it('end where there is no next device', async () => {
    const disks = [diskOfBytes('only.img', disk(INT_18H))];
    const { stopped } = await programsOf(bootDisk('only.img', 'disk'), {
      ...{ disks, entry: 'boot-sector' },
    });
    expect(stopped).toContain('INT 18h: it found nothing to boot');
  });

  it('are known by where INT 13h has read them to', async () => {
    // mov ax, 0201h; mov cx, 2; mov bx, 8000h; int 13h; jmp 0:8000h
    const read = [0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xbb, 0x00, 0x80, 0xcd, 0x13, 0xea, 0x00, 0x80, 0, 0];
    const bytes = disk(read);
    bytes.set(CLI_HLT, 512);
    const disks = [diskOfBytes('two.img', bytes)];
    const { phases } = await programsOf(bootDisk('two.img', 'disk'), { ...{ disks, entry: 'boot-sector' } });
    expect(phases.map(([name, program]) => [name, program])).toEqual([
      ['boot-sector', 'boot sector'],
      ['stage1.5', 'no file system'],
    ]);
  });
});
