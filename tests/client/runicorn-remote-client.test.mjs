// Run by test_js_client.py: BASE_URL is a live server; SSH_* an account on a live host; nothing is known yet.

import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';

import RunicornRemoteClient, {
  RunicornRemoteClient as Named,
  RunicornRemoteError,
} from '../../runicorn_remote/static/runicorn-remote-client.js';

const { BASE_URL, SSH_HOST, SSH_PORT, SSH_USER, SSH_KEY, SSH_KEY_TEXT, CONDA_ENV } = process.env;
const account = { host: SSH_HOST, port: Number(SSH_PORT), username: SSH_USER };
const credentials = { ...account, privateKeyPath: SSH_KEY };
const connectionId = `${SSH_USER}@${SSH_HOST}:${SSH_PORT}`;

/** A `fetch` that keeps what was asked and gives one answer. */
function scripted(status, body, headers = {}) {
  const requests = [];
  const fetch = async (url, options) => {
    requests.push({ url, ...options });
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return new Response(text, { status, headers });
  };
  return { fetch, requests };
}

async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail('it was not rejected');
}

describe('the journey', () => {
  const client = new RunicornRemoteClient(BASE_URL);
  let session;

  test('the server is there', async () => {
    assert.equal((await client.health()).status, 'ok');
    assert.deepEqual([...(await client.listSessions())], []);
  });

  test('an unknown host key is shown, and accepted', async () => {
    const error = await errorOf(client.connect(credentials));
    assert.ok(error instanceof RunicornRemoteError);
    assert.equal(error.status, 409);
    assert.equal(error.code, 'HOST_KEY_CONFIRMATION_REQUIRED');
    assert.equal(error.message, 'Host key verification failed');
    assert.equal(error.hostKey.reason, 'unknown');
    assert.equal(error.hostKey, error.detail.host_key);
    assert.deepEqual(await client.acceptHostKey(error.hostKey), { ok: true });
    const [entry] = await client.listKnownHosts();
    assert.equal(entry.fingerprint_sha256, error.hostKey.fingerprint_sha256);
  });

  test('connect', async () => {
    const answer = await client.connect({ ...credentials, password: null, passphrase: undefined, useAgent: false });
    assert.deepEqual(answer, { ok: true, connection_id: connectionId, connected: true, ...account });
    assert.equal((await client.connect({ ...account, privateKey: SSH_KEY_TEXT })).ok, true);
    const sessions = await client.listSessions();
    assert.deepEqual(sessions.map(({ key }) => key), [connectionId]);
    assert.equal(sessions.sessions, sessions);
    assert.equal(JSON.stringify(sessions)[0], '[');
  });

  test('what is on the host', async () => {
    const { envs } = await client.listCondaEnvs(connectionId);
    assert.ok(envs.find(({ name }) => name === CONDA_ENV).path.endsWith('/bin/python'));
    assert.equal((await client.envConfigs(connectionId)).configs[CONDA_ENV].runicornVersion, '0.7.2');
    const config = await client.config(connectionId, { condaEnv: CONDA_ENV });
    assert.equal(config.condaEnv, CONDA_ENV);
    assert.equal((await client.config(connectionId)).condaEnv, 'system');
    const found = await client.storageCandidates(connectionId, { scanRoot: config.homeDirectory, maxDepth: 2 });
    assert.equal(found.max_depth, 2);
    const listing = await client.listDirectory(connectionId, config.homeDirectory);
    assert.ok(listing.items.some(({ name, is_dir }) => name === 'storage' && is_dir));
    assert.equal((await client.pathExists(connectionId, `${config.homeDirectory}/nothing`)).exists, false);
    assert.equal((await client.listDirectory(connectionId)).path[0], '/');
  });

  test('startViewer', async () => {
    const answer = await client.startViewer({ ...credentials, remoteRoot: '~/storage', condaEnv: CONDA_ENV });
    ({ session } = answer);
    assert.equal(session.status, 'running');
    assert.equal((await (await fetch(`${session.url}/api/health`)).json()).status, 'ok');
    assert.equal((await client.getViewerSession(session.sessionId)).sessionId, session.sessionId);
    assert.equal((await client.listViewerSessions()).length, 1);
    assert.equal((await client.status()).viewer_session_count, 1);
  });

  test('a local port that is taken', async () => {
    const start = { ...account, remoteRoot: '~/storage', condaEnv: CONDA_ENV, localPort: session.localPort };
    const error = await errorOf(client.startViewer(start));
    assert.deepEqual([error.status, error.code, error.hostKey], [409, 'LOCAL_PORT_IN_USE', undefined]);
  });

  test('install', async () => {
    let install = await client.install(connectionId, { condaEnv: 'no such environment', version: '0.7.2' });
    const { installId } = install;
    while (install.state === 'running') install = await client.getInstall(installId, { after: install.nextLine });
    assert.deepEqual([install.state, install.errorCode], ['failed', 'ENVIRONMENT_NOT_FOUND']);
    assert.equal((await client.cancelInstall(installId)).ok, true);
    assert.equal((await errorOf(client.getInstall('none'))).code, 'INSTALL_NOT_FOUND');
  });

  test('resources', async () => {
    const { memory, disk, gpus } = await client.resources(connectionId, { storageRoot: '~/storage' });
    assert.ok(memory.availableBytes < memory.totalBytes);
    assert.ok(disk.path.endsWith('/storage'));
    assert.ok(gpus === null || Array.isArray(gpus));
  });

  test('a start in the background, its events and its log', async () => {
    const start = { ...credentials, remoteRoot: '~/storage', condaEnv: CONDA_ENV, wait: false };
    const { session: begun } = await client.startViewer(start);
    assert.equal(begun.status, 'connecting');
    const seen = [];
    let running;
    for await (const { id, event, data } of client.viewerEvents(begun.sessionId)) {
      seen.push(event === 'end' ? data.reason : `${data.status} ${data.phase}`);
      if (data.status === 'running') {
        running = id;
        const { lines, live } = await client.viewerLog(begun.sessionId, { tail: 1000 });
        assert.equal(lines[0], 'serving');
        assert.equal(live, true);
        break;
      }
    }
    assert.deepEqual(seen.slice(-1), ['running ready']);
    const rest = client.viewerEvents(begun.sessionId, { lastEventId: running });
    const next = rest.next();
    await client.stopViewer(begun.sessionId);
    assert.equal((await next).value.data.status, 'stopping');
    assert.deepEqual((await rest.next()).value.data.reason, 'removed');
    assert.equal((await rest.next()).done, true);
    const error = await errorOf(client.viewerEvents(begun.sessionId).next());
    assert.equal(error.code, 'SESSION_NOT_FOUND');
  });

  test('a stream of events ends with its signal', async () => {
    const controller = new AbortController();
    const events = client.viewerEvents(session.sessionId, {}, { signal: controller.signal });
    assert.equal((await events.next()).value.event, 'session');
    controller.abort();
    assert.equal((await errorOf((async () => { for await (const _ of events); })())).name, 'AbortError');
  });

  test('a stream of events that is cut is taken up again', async () => {
    const asked = [];
    const event = (id, name) => `id: ${id}\nevent: ${name}\ndata: {"at":1}\n\n`;
    const bodies = [`retry: 1\n\n${event('a-1', 'session')}: still there\n\nid: a-2\ndata: {`, event('a-2', 'end')];
    const fetch = async (url, { headers }) => {
      asked.push(headers['Last-Event-ID']);
      return new Response(bodies[asked.length - 1], { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const ids = [];
    for await (const { id } of new RunicornRemoteClient('http://gpu1', { fetch }).viewerEvents('x')) ids.push(id);
    assert.deepEqual(ids, ['a-1', 'a-2']);
    assert.deepEqual(asked, [undefined, 'a-1']);
  });

  test('stopViewer and disconnect', async () => {
    assert.equal((await client.stopViewer(session.sessionId)).ok, true);
    const error = await errorOf(client.getViewerSession(session.sessionId));
    assert.deepEqual([error.status, error.code], [404, 'SESSION_NOT_FOUND']);
    assert.equal(error.message, error.detail);
    assert.equal((await client.disconnect(account)).ok, true);
    assert.equal((await client.disconnect(account)).ok, false);
  });

  test('saved entries keep their spelling', async () => {
    const entry = { kind: 'server', id: 's1', name: 'one', authMethod: 'password', createdAt: 1, ...account };
    await client.saveConnections([{ ...entry, password: 'hunter2' }]);
    const [saved] = await client.savedConnections();
    assert.equal(saved.authMethod, 'password');
    assert.equal(saved.hasSavedPassword, true);
    assert.equal(saved.password, undefined);
    const error = await errorOf(client.connect({ savedServerId: 's1' }));
    assert.equal(error.code, 'AUTH_FAILED');
    assert.ok(!error.message.includes('hunter2'));
    await client.saveConnections([]);
  });

  test('a host key is forgotten', async () => {
    const [{ host, port, key_type }] = await client.listKnownHosts();
    assert.equal((await client.removeKnownHost({ host, port, keyType: key_type })).changed, true);
    assert.equal((await client.removeKnownHost({ host, port, key_type })).changed, false);
  });

  test('errors', async () => {
    const none = await errorOf(client.connect({}));
    assert.equal(none.status, 422);
    assert.equal(none.code, 'VALIDATION_FAILED');
    assert.deepEqual(none.detail.map(({ loc }) => loc[1]).sort(), ['host', 'username']);
    const nobody = await errorOf(client.listCondaEnvs(connectionId));
    assert.deepEqual([nobody.status, nobody.code], [404, 'CONNECTION_NOT_FOUND']);
    assert.equal(nobody.hint, 'POST /api/remote/connect first.');
  });
});

describe('errors the server does not give on demand', () => {
  test('a limit says when to try again', async () => {
    const { fetch } = scripted(503, { detail: 'Too many', code: 'TOO_MANY_VIEWERS' }, { 'Retry-After': '30' });
    const error = await errorOf(new RunicornRemoteClient(BASE_URL, { fetch }).status());
    assert.deepEqual([error.retryAfter, error.message], [30, 'Too many']);
  });

  for (const body of ['<html>', '', '[1]', 'null', '"text"']) {
    test(`an error of somebody in between: ${body}`, async () => {
      const { fetch } = scripted(502, body);
      const error = await errorOf(new RunicornRemoteClient(BASE_URL, { fetch }).status());
      assert.deepEqual([error.status, error.message], [502, 'The server answered 502']);
    });
    test(`a 200 that is not of this API: ${body}`, async () => {
      const { fetch } = scripted(200, body);
      const error = await errorOf(new RunicornRemoteClient(BASE_URL, { fetch }).status());
      assert.match(error.message, /is not the Remote API/);
    });
  }
});

describe('what goes out', () => {
  test('the contract of the constructor', () => {
    assert.equal(Named, RunicornRemoteClient);
    assert.equal(new RunicornRemoteClient().baseUrl, 'http://localhost:23300');
  });

  test('options in camelCase, without what is not given', async () => {
    const { fetch, requests } = scripted(200, {});
    const client = new RunicornRemoteClient('http://gpu1/prefix/', { fetch, token: 'a-token' });
    await client.startViewer({ host: 'gpu1', privateKeyPath: '~/k', useAgent: false, localPort: null, condaEnv: undefined });
    await client.getViewerSession('a/b c');
    const [start, status] = requests;
    assert.equal(start.url, 'http://gpu1/prefix/api/remote/viewer/start');
    assert.deepEqual(JSON.parse(start.body), { host: 'gpu1', private_key_path: '~/k', use_agent: false });
    assert.equal(start.headers['Content-Type'], 'application/json');
    assert.equal(start.headers.Authorization, 'Bearer a-token');
    assert.equal(status.url, 'http://gpu1/prefix/api/remote/viewer/status/a%2Fb%20c');
    assert.equal(status.body, undefined);
  });

  test('localhost that is refused is tried as 127.0.0.1, once', async () => {
    const urls = [];
    const refusing = async (url) => {
      urls.push(url);
      throw new TypeError('fetch failed', { cause: Object.assign(new Error(), { code: 'ECONNREFUSED' }) });
    };
    await errorOf(new RunicornRemoteClient('http://localhost:1', { fetch: refusing }).status());
    assert.deepEqual(urls, ['http://localhost:1/api/remote/status', 'http://127.0.0.1:1/api/remote/status']);
    urls.length = 0;
    await errorOf(new RunicornRemoteClient('http://127.0.0.1:1', { fetch: refusing }).status());
    assert.equal(urls.length, 1);
  });

  test('any other failure is not tried again', async () => {
    const urls = [];
    const failing = async (url) => {
      urls.push(url);
      throw new TypeError('fetch failed', { cause: Object.assign(new Error(), { code: 'ECONNRESET' }) });
    };
    await errorOf(new RunicornRemoteClient('http://localhost:1', { fetch: failing }).stopViewer('1'));
    assert.equal(urls.length, 1);
  });

  test('a start that was cut off is sent again with the same key', async () => {
    const keys = [];
    const failing = async (url, { headers }) => {
      keys.push(headers['Idempotency-Key']);
      throw new TypeError('fetch failed', { cause: Object.assign(new Error(), { code: 'ECONNRESET' }) });
    };
    const client = new RunicornRemoteClient('http://127.0.0.1:1', { fetch: failing });
    await errorOf(client.startViewer({ host: 'gpu1', remoteRoot: '~' }));
    assert.equal(keys.length, 3);
    assert.equal(new Set(keys).size, 1);
    assert.match(keys[0], /^"[!#-~]{16,}"$/);
    await errorOf(client.startViewer({ host: 'gpu1', remoteRoot: '~' }, { idempotencyKey: 'mine' }));
    assert.equal(keys[3], '"mine"');
  });

  test('the live server under the name localhost', async () => {
    const client = new RunicornRemoteClient(BASE_URL.replace('127.0.0.1', 'localhost'));
    assert.equal((await client.health()).status, 'ok');
  });
});

describe('a server that does not answer', () => {
  const sockets = new Set();
  const server = net.createServer((socket) => sockets.add(socket));
  let url;

  before(async () => {
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });

  test('a time-out ends the wait', async () => {
    assert.equal((await errorOf(new RunicornRemoteClient(url, { timeout: 50 }).status())).name, 'TimeoutError');
    assert.equal((await errorOf(new RunicornRemoteClient(url).status({ timeout: 50 }))).name, 'TimeoutError');
  });

  test('an AbortSignal ends the wait', async () => {
    const client = new RunicornRemoteClient(url);
    const controller = new AbortController();
    const waiting = errorOf(client.connect({ host: 'gpu1', username: 'me' }, { signal: controller.signal }));
    controller.abort();
    assert.equal((await waiting).name, 'AbortError');
    const late = await errorOf(client.status({ signal: AbortSignal.abort(new Error('enough')) }));
    assert.equal(late.message, 'enough');
  });
});
