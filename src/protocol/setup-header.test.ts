import { describe, expect, it } from 'vitest';
import { explainSetupHeaderField, setupHeaderFlags } from '../image/setup-header-meaning.ts';
import { makeBootImage } from '../image/test-images.ts';
import { readSetupHeader, SETUP_HEADER_FIELDS, writeSetupHeaderField } from './setup-header.ts';

describe('the table of header fields', () => {
  it('covers every byte from setup_sects to the end of protocol 2.15 once, without gaps', () => {
    let next = 0x1f1;
    for (const { offset, size } of SETUP_HEADER_FIELDS) {
      expect(offset).toBe(next);
      next = offset + size;
    }
    expect(next).toBe(0x26c);
  });

  it('has every meaning in one line that fits a terminal', () => {
    for (const { meaning } of SETUP_HEADER_FIELDS) {
      expect(meaning).not.toContain('\n');
      expect(meaning.length).toBeLessThan(110);
    }
  });
});

describe('readSetupHeader', () => {
  it('reads numbers little endian in their own widths', () => {
    const header = readSetupHeader(
      makeBootImage({
        protocol: 0x020f,
        fields: {
          vid_mode: 0xfffd,
          initrd_addr_max: 0x7fffffff,
          pref_address: 0x1000000n,
          min_alignment: 21,
        },
      }),
    );
    expect(header.protocol).toBe(0x020f);
    expect(header.version).toBe('2.15');
    expect(header.get('vid_mode')).toBe(0xfffd);
    expect(header.get('initrd_addr_max')).toBe(0x7fffffff);
    expect(header.getBig('pref_address')).toBe(0x1000000n);
    expect(header.get('min_alignment')).toBe(21);
  });

  it('writes a minor version with two digits', () => {
    expect(readSetupHeader(makeBootImage({ protocol: 0x0203 })).version).toBe('2.03');
  });

  it('knows only the boot sector fields of an image without HdrS', () => {
    const header = readSetupHeader(makeBootImage({ protocol: 0 }));
    expect(header.protocol).toBe(0);
    expect(header.version).toBeNull();
    expect(header.has('root_dev')).toBe(true);
    expect(header.has('loadflags')).toBe(false);
    expect(header.get('loadflags')).toBe(0);
  });

  it('does not find a field that is newer than the protocol, whatever lies at its place', () => {
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x0202, fields: { initrd_addr_max: 0xe8000400 } }),
    );
    expect(header.has('initrd_addr_max')).toBe(false);
    expect(header.get('initrd_addr_max')).toBe(0);
  });

  it('does not find a field behind the end that the jump gives, whatever the version says', () => {
    const image = makeBootImage({ protocol: 0x020f, fields: { init_size: 0x12345 } });
    image[0x201] = 0x22c - 0x202;
    const header = readSetupHeader(image);
    expect(header.end).toBe(0x22c);
    expect(header.has('cmd_line_ptr')).toBe(true);
    expect(header.has('init_size')).toBe(false);
  });

  it('takes only 16 bits of syssize before protocol 2.04', () => {
    const fields = { syssize: 0x12345678 };
    expect(readSetupHeader(makeBootImage({ protocol: 0x0203, fields })).get('syssize')).toBe(0x5678);
    expect(readSetupHeader(makeBootImage({ protocol: 0x0204, fields })).get('syssize')).toBe(0x12345678);
  });

  it('treats the burnt protocol 2.14 as 2.13, without kernel_info', () => {
    const header = readSetupHeader(makeBootImage({ protocol: 0x020e }));
    expect(header.has('handover_offset')).toBe(true);
    expect(header.has('kernel_info_offset')).toBe(false);
  });

  it.each([0, 1, 0x1f1, 0x1fe, 0x202, 0x206, 0x210, 0x26b])(
    'reads the first %i bytes of an image without an error',
    (length) => {
      const header = readSetupHeader(makeBootImage({ protocol: 0x020f }).subarray(0, length));
      for (const { name } of SETUP_HEADER_FIELDS) expect(header.getBig(name)).toBeTypeOf('bigint');
    },
  );

  it('says in one sentence that an address is too large to be one', () => {
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x020f, fields: { setup_data: 2n ** 64n - 1n } }),
    );
    expect(() => header.get('setup_data')).toThrow(/setup_data is 0xffffffffffffffff/);
    expect(header.getBig('setup_data')).toBe(2n ** 64n - 1n);
  });

  it('keeps what it read when the bytes change later', () => {
    const image = Buffer.from(makeBootImage({ protocol: 0x020f, fields: { vid_mode: 7 } }));
    const header = readSetupHeader(image);
    image.fill(0);
    expect(header.get('vid_mode')).toBe(7);
  });
});

describe('writeSetupHeaderField', () => {
  it('writes at the base it is given and leaves the neighbours alone', () => {
    const image = makeBootImage({ protocol: 0x020f });
    const memory = new Uint8Array(0x1000 + image.length);
    memory.set(image, 0x1000);
    writeSetupHeaderField(memory, 0x1000, 'cmd_line_ptr', 0x99000);
    const header = readSetupHeader(memory.subarray(0x1000));
    expect(header.get('cmd_line_ptr')).toBe(0x99000);
    expect(header.get('ext_loader_type')).toBe(0);
    expect(header.get('initrd_addr_max')).toBe(0);
  });

  it('refuses to write 0x22c of a protocol 2.02 image, where its code begins', () => {
    const image = makeBootImage({ protocol: 0x0202 });
    const before = Uint8Array.from(image);
    expect(() => writeSetupHeaderField(image, 0, 'initrd_addr_max', 1)).toThrow(
      'initrd_addr_max at 0x22c cannot be written: it needs boot protocol 2.03, the image has boot protocol 2.02',
    );
    expect(image).toEqual(before);
  });

  it('refuses every field of protocol 2.00 in an image without a header', () => {
    const image = makeBootImage({ protocol: 0 });
    expect(() => writeSetupHeaderField(image, 0, 'type_of_loader', 0xff)).toThrow(
      /the image has no setup header/,
    );
  });

  it('refuses a value that the field cannot hold', () => {
    const image = makeBootImage({ protocol: 0x020f });
    expect(() => writeSetupHeaderField(image, 0, 'type_of_loader', 256)).toThrow(
      'type_of_loader has 1 bytes and cannot hold 256',
    );
    expect(() => writeSetupHeaderField(image, 0, 'vid_mode', -1)).toThrow(/cannot hold -1/);
    expect(() => writeSetupHeaderField(image, 0, 'vid_mode', 1.5)).toThrow(/whole number/);
    expect(() => writeSetupHeaderField(image, 1e9, 'vid_mode', 1)).toThrow(/no setup header can be at/);
  });

  it('writes eight bytes of an address above 4 GiB', () => {
    const image = makeBootImage({ protocol: 0x020f });
    writeSetupHeaderField(image, 0, 'setup_data', 0x1_2345_6789n);
    expect(readSetupHeader(image).getBig('setup_data')).toBe(0x1_2345_6789n);
  });

  it('can write every field that the header says it has, and no other', () => {
    for (const protocol of [
      0, 0x0200, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0209, 0x020a, 0x020c, 0x020f,
    ]) {
      const header = readSetupHeader(makeBootImage({ protocol }));
      for (const { name } of SETUP_HEADER_FIELDS) {
        const write = (): void => writeSetupHeaderField(makeBootImage({ protocol }), 0, name, 1);
        if (header.has(name)) expect(write).not.toThrow();
        else expect(write).toThrow(/cannot be written/);
      }
    }
  });
});

describe('what the values mean', () => {
  it('names flag bits, also those it does not know', () => {
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x020f, fields: { loadflags: 0x85, xloadflags: 0x8001 } }),
    );
    expect(setupHeaderFlags(header, 'loadflags').map(({ name }) => name)).toEqual([
      'LOADED_HIGH',
      'CAN_USE_HEAP',
      'bit 2',
    ]);
    expect(explainSetupHeaderField(header, 'xloadflags')).toBe('XLF_KERNEL_64 | bit 15');
  });

  it('names the boot loader, with extended ids', () => {
    const explain = (fields: Parameters<typeof makeBootImage>[0]['fields']): string | null =>
      explainSetupHeaderField(
        readSetupHeader(makeBootImage({ protocol: 0x020f, ...(fields && { fields }) })),
        'type_of_loader',
      );
    expect(explain({ type_of_loader: 0xb0 })).toBe('QEMU, version 0');
    expect(explain({ type_of_loader: 0xe1, ext_loader_type: 2 })).toBe('OVMF, version 1');
    expect(explain({ type_of_loader: 0xff })).toBe('a loader without an id');
    expect(explain({})).toBeNull();
  });

  it('gives sizes in bytes', () => {
    const header = readSetupHeader(
      makeBootImage({ protocol: 0x020f, fields: { setup_sects: 0, syssize: 0x10 } }),
    );
    expect(explainSetupHeaderField(header, 'setup_sects')).toBe('2048 bytes');
    expect(explainSetupHeaderField(header, 'syssize')).toBe('256 bytes');
  });
});
