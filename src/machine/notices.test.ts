// What the machine says of what the guest asked for and it does not have.

import { describe, expect, it } from 'vitest';
import { NoticeList } from './notices.ts';

describe('notices', () => {
  it('are none where nothing was missing', () => {
    expect(new NoticeList().texts).toEqual([]);
  });

  it('tell missing RAM first, then services, ports and pages', () => {
    const notices = new NoticeList();
    notices.addMemory(0xfee00000);
    notices.addWrite(0x300);
    notices.addRead(0x300);
    notices.addRead(0x301);
    notices.addService('INT 60h');
    notices.addService('INT 60h');
    notices.addService('INT 61h');
    notices.setMissingRam('1 GiB is not there');
    expect(notices.texts).toEqual([
      '1 GiB is not there',
      'INT 60h is not provided (called 2 times)',
      'INT 61h is not provided (called once)',
      'port 0x300 has no device (read once, written once)',
      'port 0x301 has no device (read once)',
      'no memory answers at 0xfee00000',
    ]);
  });

  it('tell more than eight ports in one line, with twelve ranges at most', () => {
    const notices = new NoticeList();
    for (let port = 0; port < 8; port++) notices.addWrite(port * 2);
    expect(notices.texts).toHaveLength(8);
    for (let port = 8; port < 12; port++) notices.addWrite(port * 2);
    notices.addRead(0);
    notices.addRead(1);
    expect(notices.texts).toEqual([
      '13 ports have no device (read 2 times, written 12 times): 0x0-0x2, 0x4, 0x6, 0x8, 0xa, 0xc, 0xe, 0x10, 0x12, 0x14, 0x16',
    ]);
    notices.addRead(0x100);
    expect(notices.texts[0]).toMatch(/0x16, 0x100$/);
    notices.addRead(0x200);
    notices.addRead(0x300);
    expect(notices.texts[0]).toMatch(/0x16, 0x100 and 2 more ranges$/);
  });

  it('name eight pages, by address', () => {
    const notices = new NoticeList();
    for (let page = 8; page > 0; page--) notices.addMemory(page * 0x1000);
    const eight = 'no memory answers at 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000, 0x8000';
    expect(notices.texts).toEqual([eight]);
    notices.addMemory(0xa000);
    notices.addMemory(0x9000);
    expect(notices.texts).toEqual([`${eight} and 2 more`]);
  });
});
