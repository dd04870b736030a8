// The loopback server under attack: whatever does not come from its own page with its token gets nothing.

import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { MAX_REQUEST_LENGTH } from './protocol.ts';
import { type ExplorerServer, startExplorerServer } from './server.ts';

const received: string[] = [];
let machines = 0;
let emptied = 0;
let server: ExplorerServer;
let url: URL;

beforeAll(async () => {
  server = await startExplorerServer({
    port: 0,
    files: new Map([
      ['', { type: 'text/html', body: 'the page', scripts: ['go()'] }],
      ['explorer.js', { type: 'text/javascript', body: 'the script' }],
    ]),
    connect: (say) => {
      machines++;
      return {
        send: (text) => {
          received.push(text);
          say(`heard ${text}`);
        },
        close: () => {
          machines--;
        },
      };
    },
    onEmpty: () => {
      emptied++;
    },
  });
  url = new URL(server.url);
});

afterAll(() => server.close());

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

function get(
  path: string,
  more: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((done, fail) => {
    const asked = request({ host: url.hostname, port: url.port, path, ...more }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => done({ status: response.statusCode!, headers: response.headers, body }));
    });
    asked.on('error', fail).end();
  });
}

/** What a socket with these headers is answered with: `open`, or the status. */
function socket(path: string, headers: Record<string, string>): Promise<string> {
  return new Promise((done) => {
    const opened = new WebSocket(`ws://${url.host}${path}`, { headers });
    opened.on('open', () => {
      opened.close();
      done('open');
    });
    opened.on('unexpected-response', (_request, response) => done(String(response.statusCode)));
    opened.on('error', (error) => done(error.message));
  });
}

describe('the explorer’s server', () => {
  it('gives its page to who knows the token, and a policy with it', async () => {
    const { status, headers, body } = await get(url.pathname);
    expect([status, body]).toEqual([200, 'the page']);
    const hash = createHash('sha256').update('go()').digest('base64');
    expect(headers['content-security-policy']).toContain(
      `default-src 'none'; script-src 'sha256-${hash}'; style-src 'none'; connect-src 'self'`,
    );
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect((await get(`${url.pathname}explorer.js`)).body).toBe('the script');
    expect(await get(url.pathname, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  it.each([
    ['without a token', '/', 404],
    ['with another token', `/${'A'.repeat(32)}/`, 404],
    ['with a part of the token', () => url.pathname.slice(0, -2), 404],
    ['by a path that climbs', () => `${url.pathname}../../etc/passwd`, 404],
    ['by an escaped path that climbs', () => `${url.pathname}..%2f..%2fetc%2fpasswd`, 404],
    ['for a file that is not its own', () => `${url.pathname}package.json`, 404],
    ['for what every object has', () => `${url.pathname}constructor`, 404],
    ['by a proxy’s request', () => `http://example.invalid${url.pathname}`, 404],
  ])('gives nothing %s', async (_how, path, status) => {
    const answer = await get(typeof path === 'function' ? path() : path);
    expect([answer.status, answer.body]).toEqual([status, '']);
  });

  it('gives nothing to a name that was bound to its address', async () => {
    for (const host of ['example.invalid', `example.invalid:${url.port}`, `${url.hostname}:1`]) {
      expect(await get(url.pathname, { headers: { host } })).toMatchObject({ status: 403, body: '' });
    }
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('takes no %s', async (method) => {
    expect(await get(url.pathname, { method })).toMatchObject({ status: 405, body: '' });
  });

  it('opens a socket for its own page alone', async () => {
    const path = `${url.pathname}socket`;
    const origin = `http://${url.host}`;
    expect(await socket(path, { origin })).toBe('open');
    expect(await socket(path, {})).toBe('403');
    expect(await socket(path, { origin: 'http://example.invalid' })).toBe('403');
    expect(await socket(path, { origin: 'null' })).toBe('403');
    expect(await socket(path, { origin, host: 'example.invalid' })).toBe('403');
    expect(await socket('/socket', { origin })).toBe('404');
    expect(await socket(`/${'A'.repeat(32)}/socket`, { origin })).toBe('404');
  });

  it('closes on what is no text of a sane length, and serves others on', async () => {
    const path = `ws://${url.host}${url.pathname}socket`;
    const closed = (send: (opened: WebSocket) => void): Promise<number> =>
      new Promise((done) => {
        const opened = new WebSocket(path, { origin: `http://${url.host}` });
        opened.on('open', () => send(opened));
        opened.on('error', () => {});
        opened.on('close', (code) => done(code));
      });
    expect(await closed((opened) => opened.send('x'.repeat(MAX_REQUEST_LENGTH + 1)))).toBe(1009);
    expect(await closed((opened) => opened.send(Uint8Array.of(1, 2, 3)))).toBe(1003);
    // Bytes that are no frame at all.
    await new Promise<void>((done) => {
      const raw = connect(Number(url.port), url.hostname, () => {
        raw.write(
          `GET ${url.pathname}socket HTTP/1.1\r\nHost: ${url.host}\r\nOrigin: http://${url.host}\r\nUpgrade: websocket\r\n` +
            'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\xff\xff\xff\xff\xff',
        );
      });
      raw.resume().on('close', () => done());
      raw.on('error', () => done());
    });
    expect((await get(url.pathname)).status).toBe(200);
  });

  it('carries texts both ways, and ends the machine with its page', async () => {
    const opened = new WebSocket(`ws://${url.host}${url.pathname}socket`, { origin: `http://${url.host}` });
    const heard = new Promise<string>((done) => {
      opened.on('message', (data) => done(data.toString()));
    });
    opened.on('open', () => opened.send('hello'));
    expect(await heard).toBe('heard hello');
    expect(received).toEqual(['hello']);
    expect(machines).toBe(1);
    const gone = new Promise((done) => opened.on('close', done));
    opened.close();
    await gone;
    await expect.poll(() => machines).toBe(0);
    await expect.poll(() => emptied, { timeout: 10_000 }).toBeGreaterThan(0);
  });

  it('serves at most four pages at a time', async () => {
    const path = `ws://${url.host}${url.pathname}socket`;
    const pages = Array.from({ length: 4 }, () => new WebSocket(path, { origin: `http://${url.host}` }));
    await Promise.all(pages.map((page) => new Promise((done) => page.on('open', done))));
    expect(await socket(`${url.pathname}socket`, { origin: `http://${url.host}` })).toBe('503');
    for (const page of pages) page.close();
    await expect.poll(() => machines).toBe(0);
  });
});
