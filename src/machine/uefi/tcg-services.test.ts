// Measuring into a TPM (TCG EFI Protocol Specification 1.06 and its predecessor for TPM 1.2): structures as Linux and GRUB pass them.

import { describe, expect, it } from 'vitest';
import { char16Bytes } from './service.ts';
import { TestFirmware } from './test-firmware.ts';

/** SHA-256 of "abc" (FIPS 180-2, appendix B.1). */
const ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const firmware = new TestFirmware({ configuration: { protocols: ['tcg', 'tcg2'] } });
const [tpm1, tpm2] = [firmware.protocol('Tcg'), firmware.protocol('Tcg2')];
const data = firmware.put(text('abc'));
/** What the last call has said of itself. */
const said = (): string => firmware.calls.at(-1)!.replace(/^.*\) = /, '');

describe('TPM 2.0', () => {
  const EXTEND = 16;
  /** EFI_TCG2_EVENT: size, size of the header, its version, PCR, type, the event. */
  const event = (
    pcr: number,
    type: number,
    description: Uint8Array,
    { header = 14, size = 18 + description.length } = {},
  ): number => {
    const bytes = new Uint8Array(18 + description.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, size, true);
    view.setUint32(4, header, true);
    view.setUint16(8, 1, true);
    view.setUint32(10, pcr, true);
    view.setUint32(14, type, true);
    bytes.set(description, 18);
    return firmware.put(bytes);
  };
  const extend = (at: number, from = data, length = 3): string =>
    firmware.method(tpm2, EXTEND, 0, from, length, at);

  it('measures with the digest, and says what the event says of itself', () => {
    expect(extend(event(8, 0xd, text('grub_cmd: linux /vmlinuz')))).toBe('SUCCESS');
    expect(said()).toBe(`SUCCESS: PCR 8 EV_IPL "grub_cmd: linux /vmlinuz", 3 bytes, sha256 ${ABC}`);
    expect(firmware.firmware.measurements.at(-1)).toEqual({
      ...{ pcr: 8, type: 'EV_IPL', description: 'grub_cmd: linux /vmlinuz', size: 3, sha256: ABC },
    });
  });

  it.each([
    ['UTF-16, as systemd-boot writes it', char16Bytes('quiet splash'), 'quiet splash'],
    ['ASCII with its NUL', text('kernel_cmdline\0'), 'kernel_cmdline'],
    ['a text in a larger field', text('linuxefi\0\0\0\0\0'), 'linuxefi'],
    ['a text in a far larger field', Uint8Array.of(...text('linuxefi'), ...new Uint8Array(9)), '17 bytes'],
    ['three letters', text('abc'), '3 bytes'],
    ['four letters', text('abcd'), 'abcd'],
    ['what is no text', Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), '8 bytes'],
    ['UTF-16 that is no ASCII', char16Bytes('äöüß'), '10 bytes'],
    ['UTF-16 that is only the beginning', Uint8Array.of(...char16Bytes('ab'), 1, 2, 3, 4), '10 bytes'],
    ['nothing', new Uint8Array(0), '0 bytes'],
  ])('describes %s', (_, description, shown) => {
    expect(extend(event(9, 5, description))).toBe('SUCCESS');
    expect(said()).toContain(`PCR 9 EV_ACTION "${shown}", `);
  });

  it('leaves out the number and size that a tagged event begins with', () => {
    const tagged = Uint8Array.of(0xdc, 0x8f, 0x1f, 0x8e, 12, 0, 0, 0, ...text('Linux initrd'));
    expect(extend(event(9, 6, tagged))).toBe('SUCCESS');
    expect(said()).toContain('PCR 9 EV_EVENT_TAG "Linux initrd", ');
  });

  it('knows types by their numbers', () => {
    expect(extend(event(23, 0x8000_0003, text('boot')))).toBe('SUCCESS');
    expect(said()).toContain('PCR 23 EV_EFI_BOOT_SERVICES_APPLICATION');
    expect(extend(event(0, 0x1234, text('boot')))).toBe('SUCCESS');
    expect(said()).toContain('PCR 0 0x1234');
  });

  it.each([
    ['PCR 24', () => event(24, 5, text('boot'))],
    ['a header that is too short', () => event(8, 5, text('boot'), { header: 13 })],
    ['a header that is longer than the event', () => event(8, 5, text('boot'), { header: 19, size: 22 })],
    ['an event that is longer than any', () => event(8, 5, text('boot'), { size: 18 + 0x1001 })],
    ['an event behind the end of memory', () => 64 * 2 ** 20 - 17],
    ['no event', () => 0],
  ])('refuses %s', (_, make) => {
    const before = firmware.firmware.measurements.length;
    expect(extend(make())).toBe('INVALID_PARAMETER');
    expect(firmware.firmware.measurements).toHaveLength(before);
  });

  it('refuses no event and no data, whatever lies at address 0', () => {
    const at = event(8, 5, text('boot'));
    firmware.memory.copyIn(0, firmware.memory.copyOut(at, 22));
    expect([extend(0), extend(at, 0)]).toEqual(['INVALID_PARAMETER', 'INVALID_PARAMETER']);
    firmware.memory.fill(0, 22, 0);
  });

  it('refuses data that is not there', () => {
    const at = event(8, 5, text('boot'));
    expect([extend(at, 0), extend(at, 64 * 2 ** 20 - 2)]).toEqual(['INVALID_PARAMETER', 'INVALID_PARAMETER']);
  });

  it('tells what it can do, once there is room for that', () => {
    const capability = firmware.put(new Uint8Array(40).fill(0xff));
    firmware.memory.write8(capability, 35);
    expect(firmware.method(tpm2, 0, capability)).toBe('BUFFER_TOO_SMALL');
    expect(firmware.memory.read8(capability)).toBe(36);
    expect(firmware.method(tpm2, 0, capability)).toBe('SUCCESS');
    // Size, structure 1.1, protocol 1.1; SHA-256; the log's format 2; a TPM with 4096 bytes a command; banks.
    expect([...firmware.memory.copyOut(capability, 36)]).toEqual([
      ...[36, 1, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0],
      ...[1, 0, 0, 16, 0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0],
    ]);
    expect(firmware.method(tpm2, 0, 0)).toBe('INVALID_PARAMETER');
    const banks = firmware.put64(0);
    expect(firmware.method(tpm2, 32, banks)).toBe('SUCCESS');
    expect(firmware.memory.read32(banks)).toBe(2);
    expect([24, 40, 48].map((offset) => firmware.method(tpm2, offset, 0, 0))).toEqual([
      'UNSUPPORTED',
      'SUCCESS',
      'UNSUPPORTED',
    ]);
  });

  it('has a log of the second format, with nothing in it', () => {
    const [location, last, truncated] = [firmware.put64(0), firmware.put64(9), firmware.put64(9)];
    const getLog = (format: number): string => firmware.method(tpm2, 8, format, location, last, truncated);
    expect(getLog(1)).toBe('INVALID_PARAMETER');
    expect(getLog(2)).toBe('SUCCESS');
    const log = Number(firmware.read64(location));
    expect(firmware.firmware.pages.typeAt(log)).toBe('BootServicesData');
    expect([firmware.read64(log), firmware.read64(last), firmware.memory.read8(truncated)]).toEqual([
      0n,
      0n,
      0,
    ]);
  });
});

describe('TPM 1.2', () => {
  const EXTEND = 32;
  /** TCG_PCR_EVENT: PCR, type, digest, size, the event. */
  const event = (pcr: number, type: number, description: Uint8Array, size = description.length): number => {
    const bytes = new Uint8Array(32 + description.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, pcr, true);
    view.setUint32(4, type, true);
    view.setUint32(28, size, true);
    bytes.set(description, 32);
    return firmware.put(bytes);
  };
  const extend = (at: number, from = data): string => firmware.method(tpm1, EXTEND, from, 3, 4, at);

  it('measures data, or without any the event itself', () => {
    expect(extend(event(4, 0xd, text('stage2')))).toBe('SUCCESS');
    expect(said()).toBe(`SUCCESS: PCR 4 EV_IPL "stage2", 3 bytes, sha256 ${ABC}`);
    expect(extend(event(5, 4, text('abc')), 0)).toBe('SUCCESS');
    expect(said()).toBe(`SUCCESS: PCR 5 EV_SEPARATOR "3 bytes", 3 bytes, sha256 ${ABC}`);
  });

  it('refuses an event that is not there', () => {
    expect([
      extend(0),
      extend(64 * 2 ** 20 - 31),
      extend(event(4, 0xd, text('boot'), 0x1001)),
      extend(event(24, 0xd, text('boot'))),
    ]).toEqual(new Array(4).fill('INVALID_PARAMETER'));
  });

  it('tells what it can do, wherever somebody wants to know', () => {
    const capability = firmware.put(new Uint8Array(16).fill(0xff));
    const [flags, location, last] = [firmware.put64(9), firmware.put64(9), firmware.put64(9)];
    const before = firmware.memory.copyOut(0, 16);
    expect(firmware.method(tpm1, 0, 0, 0, 0, 0)).toBe('SUCCESS');
    expect(firmware.memory.copyOut(0, 16)).toEqual(before);
    expect(firmware.method(tpm1, 0, capability, flags, location, last)).toBe('SUCCESS');
    // Size, structure and protocol 1.2.0.0, SHA-1, a TPM that is there and works.
    expect([...firmware.memory.copyOut(capability, 13)]).toEqual([12, 1, 2, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0xff]);
    expect(firmware.memory.read32(flags)).toBe(0);
    expect(firmware.read64(location)).toBe(firmware.read64(last));
    expect(firmware.firmware.pages.typeAt(Number(firmware.read64(last)))).toBe('BootServicesData');
    expect([8, 16, 24].map((offset) => firmware.method(tpm1, offset, 0, 0))).toEqual([
      'UNSUPPORTED',
      'SUCCESS',
      'UNSUPPORTED',
    ]);
  });
});
