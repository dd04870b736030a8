import { afterEach, beforeEach, expect, it } from 'vitest';
import { countingHookMachineCode } from './counting-hook.ts';
import { describeEachTransport } from './each-engine.ts';
import type { Pointer, Transport } from './transport.ts';

const UC_ARCH_X86 = 4;
const UC_MODE_64 = 8;
const UC_PROT_ALL = 7;
const RAM_SIZE = 0x10_0000;
const RAX = 35;
const LOOP = 0x1000;

describeEachTransport('a counted block hook', (create) => {
  let transport: Transport;
  let ram: Pointer;
  let scratch: Pointer;

  beforeEach(async () => {
    transport = await create();
    transport.open(UC_ARCH_X86, UC_MODE_64);
    ram = transport.allocate(RAM_SIZE)!;
    scratch = transport.allocate(4096)!;
    transport.memMapPtr(0n, RAM_SIZE, UC_PROT_ALL, ram);
    // loop: dec rax; jnz loop; hlt
    transport.view(ram, RAM_SIZE).set([0x48, 0xff, 0xc8, 0x75, 0xfb, 0xf4], LOOP);
  });
  afterEach(() => {
    transport.close();
  });

  /** Goes round the loop, a block each time, and comes to the block of HLT. */
  function loop(rounds: number): void {
    const bytes = transport.view(scratch, 8);
    new DataView(bytes.buffer, bytes.byteOffset, 8).setBigUint64(0, BigInt(rounds), true);
    transport.regWrite(RAX, scratch);
    expect(transport.emuStart(BigInt(LOOP), 0n)).toBe(0);
  }

  const hasOne = (added: ReturnType<Transport['hookAddCounted']>): added is NonNullable<typeof added> =>
    added !== null || (transport.engine === 'native' && countingHookMachineCode() === null);

  it('is called for every n-th block', ({ skip }) => {
    const called: bigint[] = [];
    const added = transport.hookAddCounted(10, (address) => called.push(address));
    expect(hasOne(added)).toBe(true);
    if (added === null) skip('this host runs no machine code of ours');
    loop(99);
    expect(called).toHaveLength(10);
    expect(called[0]).toBe(BigInt(LOOP));
    expect(called[9]).toBe(BigInt(LOOP + 5));
  });

  it('is called for the next block when that is asked for, and counts anew from there', ({ skip }) => {
    let calls = 0;
    const added = transport.hookAddCounted(1000, () => {
      calls++;
    });
    if (added === null) skip('this host runs no machine code of ours');
    transport.callCounted();
    loop(500);
    expect(calls).toBe(1);
    loop(500);
    expect(calls).toBe(2);
  });

  it('ends a run from within', ({ skip }) => {
    const added = transport.hookAddCounted(100, () => {
      transport.emuStop();
    });
    if (added === null) skip('this host runs no machine code of ours');
    loop(1_000_000);
    transport.regRead(RAX, scratch);
    expect(transport.view(scratch, 1)[0]).toBe((1_000_000 - 99) & 0xff);
  });

  it('is called no more when it is deleted, and can be added again', ({ skip }) => {
    let calls = 0;
    const added = transport.hookAddCounted(1, () => {
      calls++;
    });
    if (added === null) skip('this host runs no machine code of ours');
    loop(4);
    expect(calls).toBe(5);
    transport.hookDel(added?.hook ?? 0);
    loop(4);
    expect(calls).toBe(5);
    transport.hookAddCounted(2, () => {
      calls += 100;
    });
    transport.flushCache();
    loop(4);
    expect(calls).toBe(205);
  });
});
