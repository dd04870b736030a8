import { XMLParser } from 'fast-xml-parser';
import { describe, expect, it } from 'vitest';
import { GdbConnection, type GdbFarewell } from './connection.ts';
import { encodePacket, PacketReader, textToHex } from './packets.ts';
import { GDB_REGISTERS, type GdbRegisterName } from './registers.ts';
import type { GdbPoint, GdbResume, GdbStop, GdbTarget } from './target.ts';

const MEMORY_SIZE = 0x1000;

/** Registers and memory, and stops as the test says. */
class FakeTarget implements GdbTarget {
  readonly registers = new Map<GdbRegisterName, bigint>([
    ['rip', 0x100000n],
    ['mode', 2n],
  ]);
  readonly memory = new Uint8Array(MEMORY_SIZE);
  pointKinds = new Set<GdbPoint['kind']>(['software', 'hardware', 'write', 'read', 'access']);
  points: readonly GdbPoint[] = [];
  readonly resumed: GdbResume[] = [];
  nextStop: GdbStop = { kind: 'step' };
  modeAfter: bigint | null = null;
  #interrupted: (() => void) | null = null;
  runs = false;

  readRegister(name: GdbRegisterName): bigint | null {
    return name.startsWith('st') || name.startsWith('f') ? null : (this.registers.get(name) ?? 0n);
  }
  writeRegister(name: GdbRegisterName, value: bigint): string | null {
    if (name === 'cs') return 'segment registers are loaded by guest code';
    this.registers.set(name, value);
    return null;
  }
  readMemory(address: bigint, length: number): Uint8Array {
    return this.memory.slice(Number(address), Number(address) + length);
  }
  writeMemory(address: bigint, bytes: Uint8Array): boolean {
    if (Number(address) + bytes.length > MEMORY_SIZE) return false;
    this.memory.set(bytes, Number(address));
    return true;
  }
  setPoints(points: readonly GdbPoint[]): void {
    this.points = points;
  }
  async resume(how: GdbResume): Promise<GdbStop> {
    this.resumed.push(how);
    if (this.modeAfter !== null) this.registers.set('mode', this.modeAfter);
    if (!this.runs) return this.nextStop;
    await new Promise<void>((resolve) => {
      this.#interrupted = resolve;
    });
    return { kind: 'interrupted' };
  }
  interrupt(): void {
    this.#interrupted?.();
  }
  async monitor(command: string): Promise<string> {
    return `${command}: ${'x'.repeat(0x5000)}\n`;
  }
  memoryMap() {
    return [
      { start: 0n, length: 0xa0000n, type: 'ram' },
      { start: 0xf0000n, length: 0x10000n, type: 'rom' },
    ] as const;
  }
  status(): string {
    return 'prot32, phase startup_32';
  }
}

function connect(target = new FakeTarget()) {
  const sent: string[] = [];
  const reader = new PacketReader();
  let farewell: GdbFarewell | null = null;
  const connection = new GdbConnection(
    target,
    {
      send: (bytes) => {
        for (const each of reader.read(bytes)) sent.push(each.kind === 'packet' ? each.payload : each.kind);
      },
      end: () => sent.push('(end)'),
    },
    (how) => {
      farewell = how;
    },
  );
  const raw = (text: string) => connection.receive(Uint8Array.from(text, (each) => each.charCodeAt(0)));
  /** All that comes back, without acknowledgements. */
  const ask = async (payload: string): Promise<string[]> => {
    const from = sent.length;
    connection.receive(encodePacket(payload));
    await connection.settled;
    return sent.slice(from).filter((each) => each !== 'ack');
  };
  return { target, connection, sent, raw, ask, farewell: () => farewell };
}

const number = (name: GdbRegisterName) =>
  GDB_REGISTERS.findIndex((register) => register.name === name).toString(16);

describe('GdbConnection', () => {
  it('acknowledges packets until it is told not to, and asks for damaged ones again', async () => {
    const { ask, sent, raw } = connect();
    await ask('?');
    expect(sent[0]).toBe('ack');
    raw('$?#00');
    expect(sent.at(-1)).toBe('nack');
    await ask('QStartNoAckMode');
    const from = sent.length;
    await ask('qC');
    expect(sent.slice(from)).toEqual(['QC1']);
  });

  it('sends its last packet again when the debugger has not understood it', async () => {
    const { ask, sent, raw } = connect();
    await ask('qC');
    raw('-');
    expect(sent.slice(-2)).toEqual(['QC1', 'QC1']);
  });

  it('sends no old packet to a debugger that has grown tired of waiting for the next', async () => {
    const { connection, ask, sent, raw } = connect();
    await ask('qC');
    const from = sent.length;
    connection.receive(encodePacket('vCont;c'));
    raw('-');
    await connection.settled;
    expect(sent.slice(from).filter((each) => each === 'QC1')).toEqual([]);
    expect(sent.at(-1)).toMatch(/^T05/);
    await ask('QStartNoAckMode');
    raw('-');
    expect(sent.at(-1)).toBe('OK');
    expect(sent.at(-2)).toBe('ack');
  });

  it('offers going back, the description and the memory map, and takes no packet that it does not offer', async () => {
    const { ask } = connect();
    const [features] = await ask('qSupported:multiprocess+;swbreak+');
    expect(features).toMatch(/ReverseStep\+;ReverseContinue\+/);
    expect(features).toMatch(/qXfer:features:read\+/);
    for (const unknown of ['vMustReplyEmpty', 'qTStatus', 'R00', 'Z9,0,1', 'qXfer:auxv:read::0,10']) {
      expect(await ask(unknown)).toEqual(['']);
    }
  });

  it('describes the registers in the order of the g packet, in pieces as long as asked for', async () => {
    const { ask } = connect();
    let document = '';
    for (;;) {
      const [part] = await ask(`qXfer:features:read:target.xml:${document.length.toString(16)},200`);
      document += part!.slice(1);
      if (part![0] === 'l') break;
      expect(part!.length).toBe(0x201);
    }
    const parsed = new XMLParser({ ignoreAttributes: false, attributeNamePrefix: '' }).parse(document);
    expect(parsed.target.architecture).toBe('i386:x86-64');
    const registers = parsed.target.feature.flatMap(
      (feature: { reg: { name: string; bitsize: string }[] }) => feature.reg,
    );
    expect(registers.map(({ name }: { name: string }) => name)).toEqual(
      GDB_REGISTERS.map(({ name }) => name),
    );
    const bytes = registers.reduce(
      (sum: number, { bitsize }: { bitsize: string }) => sum + Number(bitsize) / 8,
      0,
    );
    expect((await ask('g'))[0]!.length).toBe(bytes * 2);
  });

  it('reads and writes single registers, little endian, and says which it will not write', async () => {
    const { ask, target } = connect();
    expect(await ask(`p${number('rip')}`)).toEqual(['0000100000000000']);
    expect(await ask(`P${number('rax')}=efbeadde00000000`)).toEqual(['OK']);
    expect(target.registers.get('rax')).toBe(0xdeadbeefn);
    expect(await ask(`P${number('cs')}=10000000`)).toEqual(['E.segment registers are loaded by guest code']);
    expect(await ask(`p${number('st0')}`)).toEqual(['x'.repeat(20)]);
    expect(await ask('pff')).toEqual(['E01']);
  });

  it('writes with G only what differs', async () => {
    const { ask, target } = connect();
    const [all] = await ask('g');
    expect(await ask(`G34120000${all!.slice(8)}`)).toEqual(['OK']);
    expect(target.registers.get('rax')).toBe(0x1234n);
    expect(target.registers.has('cs')).toBe(false);
  });

  it('reads memory up to where it ends and writes it in both forms', async () => {
    const { ask, target } = connect();
    expect(await ask('M10,3:0a0b0c')).toEqual(['OK']);
    expect(await ask('M10,4:0a0b0c')).toEqual(['E01']);
    expect(await ask('X20,4:#$}*')).toEqual(['OK']);
    expect([...target.memory.subarray(0x20, 0x24)].map((each) => String.fromCharCode(each)).join('')).toBe(
      '#$}*',
    );
    expect(await ask('X0,0:')).toEqual(['OK']);
    expect(await ask('m10,4')).toEqual(['0a0b0c00']);
    expect(await ask('mfff,10')).toEqual(['00']);
    expect(await ask('m1000,1')).toEqual(['E0e']);
    expect(await ask('Mfff,2:0102')).toEqual(['E0e']);
    expect(await ask('M0,2:01')).toEqual(['E01']);
    expect(await ask('m0')).toEqual(['E01']);
  });

  it('keeps all five kinds of points until they are removed', async () => {
    const { ask, target } = connect();
    for (const type of [0, 1, 2, 3, 4]) expect(await ask(`Z${type},1000,4`)).toEqual(['OK']);
    expect(target.points.map(({ kind }) => kind)).toEqual([
      'software',
      'hardware',
      'write',
      'read',
      'access',
    ]);
    expect(await ask('z2,1000,4')).toEqual(['OK']);
    expect(target.points).toHaveLength(4);
  });

  it('refuses a kind of point that the machine cannot stop for', async () => {
    const target = new FakeTarget();
    target.pointKinds.delete('read');
    const { ask } = connect(target);
    expect(await ask('Z3,1000,4')).toEqual(['']);
    expect(target.points).toEqual([]);
  });

  it('steps and continues both ways and names the reason of the stop', async () => {
    const { ask, target } = connect();
    expect((await ask('vCont;s:1;c'))[0]).toMatch(/^T05.*thread:1;$/);
    target.nextStop = { kind: 'breakpoint', point: 'hardware' };
    expect((await ask('c'))[0]).toMatch(/hwbreak:;$/);
    target.nextStop = { kind: 'watchpoint', point: 'write', address: 0x9000n };
    expect((await ask('bc'))[0]).toMatch(/watch:9000;$/);
    target.nextStop = { kind: 'beginning' };
    expect((await ask('bs'))[0]).toMatch(/replaylog:begin;$/);
    expect(target.resumed).toEqual([
      { direction: 'forward', step: true },
      { direction: 'forward', step: false },
      { direction: 'backward', step: false },
      { direction: 'backward', step: true },
    ]);
  });

  it('sends RIP, RSP and the mode with each stop', async () => {
    const { ask } = connect();
    const [reply] = await ask('s');
    expect(reply).toContain(`${number('rip')}:0000100000000000;`);
    expect(reply).toContain(`${number('mode')}:02000000;`);
  });

  it('goes on at the address that is given with c', async () => {
    const { ask, target } = connect();
    await ask('c7c00');
    expect(target.registers.get('rip')).toBe(0x7c00n);
  });

  it('prints the mode when it has changed, and why the boot has ended', async () => {
    const { ask, target } = connect();
    target.modeAfter = 4n;
    target.nextStop = { kind: 'end', text: "this is the kernel's entry" };
    const replies = await ask('c');
    expect(replies[0]).toBe(`O${textToHex("bootscope: this is the kernel's entry\n")}`);
    expect(replies[1]).toBe(`O${textToHex('bootscope: prot32, phase startup_32\n')}`);
    expect(replies[2]).toMatch(/replaylog:end;$/);
  });

  it('interrupts a running machine and answers with SIGINT', async () => {
    const { target, raw, sent, connection } = connect();
    target.runs = true;
    connection.receive(encodePacket('c'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent.filter((each) => each !== 'ack')).toEqual([]);
    raw('\x03');
    await connection.settled;
    expect(sent.at(-1)).toMatch(/^T02/);
  });

  it('sends the answer of a monitor command in pieces that fit into packets', async () => {
    const { ask } = connect();
    const replies = await ask(`qRcmd,${textToHex('phases')}`);
    expect(replies.at(-1)).toBe('OK');
    expect(replies.length).toBeGreaterThan(2);
    const text = replies.slice(0, -1).map((each) => Buffer.from(each.slice(1), 'hex').toString());
    expect(text.join('')).toBe(`phases: ${'x'.repeat(0x5000)}\n`);
  });

  it('shows one thread with the state of the machine', async () => {
    const { ask } = connect();
    expect(await ask('qfThreadInfo')).toEqual(['m1']);
    expect(await ask('qThreadExtraInfo,1')).toEqual([textToHex('prot32, phase startup_32')]);
    expect(await ask('Hg0')).toEqual(['OK']);
  });

  it('gives the memory map as the debugger wants it', async () => {
    const { ask } = connect();
    const [reply] = await ask('qXfer:memory-map:read::0,1000');
    expect(reply).toContain('<memory type="rom" start="0xf0000" length="0x10000"/>');
  });

  it('takes its points away when the debugger detaches, and lets another one come', async () => {
    const first = connect();
    await first.ask('Z0,1000,1');
    expect(await first.ask('D')).toEqual(['OK', '(end)']);
    expect(first.farewell()).toBe('detached');
    expect(first.target.points).toEqual([]);
    const second = connect(first.target);
    expect((await second.ask('?'))[0]).toMatch(/^T05/);
  });

  it('ends without an answer when it is killed, and when the stream ends while the machine runs', async () => {
    const killed = connect();
    expect(await killed.ask('k')).toEqual(['(end)']);
    expect(killed.farewell()).toBe('killed');
    const lost = connect();
    lost.target.runs = true;
    lost.connection.receive(encodePacket('c'));
    await new Promise((resolve) => setImmediate(resolve));
    lost.connection.closed();
    await lost.connection.settled;
    expect(lost.farewell()).toBe('closed');
    expect(lost.sent.filter((each) => each !== 'ack')).toEqual(['(end)']);
  });

  it('sends nothing more when it has gone, also what it worked on', async () => {
    const { connection, ask, sent, farewell } = connect();
    connection.receive(encodePacket('vKill;1'));
    connection.receive(encodePacket('qC'));
    await connection.settled;
    expect(sent.filter((each) => each !== 'ack')).toEqual(['OK', '(end)']);
    expect(farewell()).toBe('killed');
    expect(await ask('?')).toEqual([]);
  });

  it('takes numbers in hexadecimal only, and says so of everything else', async () => {
    const { ask, target } = connect();
    const bad = [
      'px',
      `P${number('rax')}`,
      `P${number('rax')}=0`,
      'Pff=00',
      'Px=00',
      'mx,1',
      'm0,x',
      'M0,x:00',
    ];
    for (const packet of [
      ...bad,
      'Mx,1:00',
      'M0,1:0',
      'M0:00',
      'Z0,x,1',
      'Z0,0,x',
      'Z0,0',
      'cx',
      'vCont;x',
    ]) {
      expect([packet, await ask(packet)]).toEqual([packet, ['E01']]);
    }
    expect(await ask('qXfer:features:read:target.xml:x,1')).toEqual(['E01']);
    expect(await ask('qXfer:features:read:target.xml:0,x')).toEqual(['E01']);
    expect(await ask('qRcmd,0')).toEqual(['E01']);
    expect([target.points, target.resumed, target.registers.size]).toEqual([[], [], 2]);
    expect(target.memory.every((byte) => byte === 0)).toBe(true);
  });

  it('transfers only what it has, and only to read', async () => {
    const { ask } = connect();
    expect(await ask('qXfer:features:write:target.xml:0,10')).toEqual(['']);
    expect(await ask('qXfer:features:read:other.xml:0,10')).toEqual(['E00']);
    expect(await ask('qXfer:memory-map:read:x:0,10')).toEqual(['']);
  });

  it('steps and continues by each of the packets for it', async () => {
    const { ask, target } = connect();
    const steps = [];
    for (const packet of ['s', 'S05', 'vCont;s', 'vCont;S05', 'c', 'C05', 'vCont;c', 'vCont;C05:1']) {
      target.resumed.length = 0;
      await ask(packet);
      steps.push(...target.resumed);
    }
    const forward = (step: boolean) => ({ direction: 'forward', step });
    expect(steps).toEqual([...Array(4).fill(forward(true)), ...Array(4).fill(forward(false))]);
    await ask('C05;7c00');
    expect(target.registers.get('rip')).toBe(0x7c00n);
    expect(await ask('bx')).toEqual(['']);
    expect(await ask('vCont?')).toEqual(['vCont;c;C;s;S']);
  });

  it('sends no packet larger than it has offered', async () => {
    const { ask, target } = connect();
    const [features] = await ask('qSupported');
    const size = Number.parseInt(/PacketSize=([0-9a-f]+)/.exec(features!)![1]!, 16);
    for (const reply of await ask(`qRcmd,${textToHex('where')}`)) expect(reply.length).toBeLessThan(size);
    target.readMemory = (_, length) => new Uint8Array(length);
    expect((await ask('m0,ffff'))[0]!.length).toBe(size - 2);
  });

  it('gives a command to the monitor without the blanks around it', async () => {
    const { ask } = connect();
    const [first] = await ask(`qRcmd,${textToHex('  phases \n')}`);
    expect(Buffer.from(first!.slice(1), 'hex').toString()).toMatch(/^phases: x/);
  });

  it('answers with what went wrong where the machine fails', async () => {
    const { ask, target } = connect();
    target.status = () => {
      throw new Error('no machine');
    };
    expect(await ask('qThreadExtraInfo,1')).toEqual(['E.no machine']);
    expect(await ask('qC')).toEqual(['QC1']);
  });
});
