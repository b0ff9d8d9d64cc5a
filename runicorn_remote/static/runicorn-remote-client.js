/**
 * A client of Runicorn's Remote API, one method a route. For browsers and Node >= 18; no dependencies.
 *
 *   import RunicornRemoteClient from 'http://localhost:23300/static/runicorn-remote-client.js';
 *
 *   const client = new RunicornRemoteClient();
 *   await client.connect({ host: 'gpu1', username: 'me' });
 *   const { session } = await client.startViewer({ host: 'gpu1', username: 'me', remoteRoot: '~/runicorn_data' });
 *   console.log(session.url);
 *
 * Options are camelCase; null and undefined mean: not given. Answers are what the API sends, so some of
 * their names are snake_case. A list comes as an array that also has the answer's own fields:
 * `const envs = await client.listCondaEnvs(id)` and `const { envs } = …` are the same array.
 *
 * The last argument of every method is `{ signal, timeout }`: an AbortSignal, and milliseconds. Either ends
 * the wait, not what the server does; a start is cancelled with `stopViewer`. Nothing is sent twice but a
 * start whose connection was cut: it has a key that makes the second the same as the first.
 */

const SECOND = 1000;
const QUICK = 30 * SECOND;
// The server asks a host first. Longer than the server's own deadlines, which end in better errors.
const SLOW = 180 * SECOND;
const START = 300 * SECOND;
// For what may be sent again: how often, and after which pause.
const TIMES_AGAIN = 2;
const PAUSE = SECOND / 2;

/** An answer that is an error. `message` is a sentence for a person, without any secret. */
export class RunicornRemoteError extends Error {
  constructor(message, { status, detail, code, hint, retryAfter } = {}) {
    super(message);
    this.name = 'RunicornRemoteError';
    this.status = status;
    /** As it was sent: a sentence; for 422 a list of faults; for a host key an object. */
    this.detail = detail;
    /** A stable upper-case word to branch on, or undefined. */
    this.code = code;
    /** What to do, or undefined. */
    this.hint = hint;
    /** Seconds after which to try again (a limit of the server's), or undefined. */
    this.retryAfter = retryAfter;
  }

  /** The key to decide on if that is what the error is about: pass it to `acceptHostKey`. */
  get hostKey() {
    return this.code === 'HOST_KEY_CONFIRMATION_REQUIRED' ? this.detail?.host_key : undefined;
  }

  /**
   * What the host asks at the login, such as a one-time code, if that is what the error is about. Repeat the
   * request with `challengeId: error.challenge.challenge_id` and `responses`, a text for each of its `prompts`.
   */
  get challenge() {
    const asks = this.code === 'INTERACTIVE_AUTH_REQUIRED' && Array.isArray(this.detail?.prompts);
    return asks ? this.detail : undefined;
  }
}

export class RunicornRemoteClient {
  #headers;
  #timeout;
  #fetch;

  /**
   * `token` goes into every request as a bearer token; `timeout`, in milliseconds, holds for every request
   * instead of 30 s, 180 s where the server asks a host first, and 300 s for a viewer's start; `fetch`
   * replaces the global one.
   */
  constructor(baseUrl = 'http://localhost:23300', { token, timeout, fetch } = {}) {
    this.baseUrl = String(baseUrl).replace(/\/+$/, '');
    this.#headers = { Accept: 'application/json', ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    this.#timeout = timeout;
    // Looked up at each call, and called as a function of the global object: browsers insist.
    this.#fetch = fetch ?? ((...request) => globalThis.fetch(...request));
  }

  // --- connections

  /** Log in: `{ host, username, port, password, privateKey, privateKeyPath, passphrase, useAgent, savedServerId }`. */
  connect(options, request) {
    return this.#post('/connect', snakeCase(options), SLOW, request);
  }

  /** The SSH connections users opened. */
  async listSessions(request) {
    return asList(await this.#get('/sessions', {}, QUICK, request), 'sessions');
  }

  /** Let go of a connection. Viewers over the same host go on, unless `stopViewers`. */
  disconnect({ host, username, port, stopViewers } = {}, request) {
    return this.#post('/disconnect', snakeCase({ host, username, port, stopViewers }), SLOW, request);
  }

  /** Connections and viewers at a glance. */
  status(request) {
    return this.#get('/status', {}, QUICK, request);
  }

  /** Whether the server is there, and its version. */
  health(request) {
    return this.#send('GET', '/api/health', undefined, QUICK, request);
  }

  // --- host keys

  /** Trust a key, the `hostKey` of an error, for good. Then repeat the request. */
  acceptHostKey({ host, port, key_type, public_key, fingerprint_sha256 } = {}, request) {
    const key = { host, port, key_type, public_key, fingerprint_sha256 };
    return this.#post('/known-hosts/accept', key, QUICK, request);
  }

  async listKnownHosts(request) {
    return asList(await this.#get('/known-hosts/list', {}, QUICK, request), 'entries');
  }

  /** Forget a host's keys of one type: `{ host, port, keyType }`. */
  removeKnownHost({ host, port = 22, keyType, key_type = keyType } = {}, request) {
    return this.#post('/known-hosts/remove', { host, port, key_type }, QUICK, request);
  }

  // --- a host's environments and files; all need a live connection

  async listCondaEnvs(connectionId, request) {
    return asList(await this.#get('/conda-envs', { connectionId }, SLOW, request), 'envs');
  }

  /** The versions in every environment: `{ ok, configs: { name: { pythonVersion, runicornVersion } } }`. */
  envConfigs(connectionId, request) {
    return this.#get('/env-configs', { connectionId }, SLOW, request);
  }

  /** What starting a viewer with one environment needs: `{ condaEnv }`. */
  config(connectionId, { condaEnv } = {}, request) {
    return this.#get('/config', { connectionId, condaEnv }, SLOW, request);
  }

  /** Directories that look like storage, the best first: `{ condaEnv, scanRoot, maxDepth }`. */
  storageCandidates(connectionId, { condaEnv, scanRoot, maxDepth } = {}, request) {
    return this.#get('/storage-candidates', { connectionId, condaEnv, scanRoot, maxDepth }, SLOW, request);
  }

  /**
   * Install runicorn on a host: `{ condaEnv, version }`. Resolves when it has begun, with what `getInstall` takes.
   * Without `condaEnv` into an environment of its own, which is called runicorn-remote.
   */
  async install(connectionId, { condaEnv, version } = {}, request) {
    const body = snakeCase({ connectionId, condaEnv, version });
    return (await this.#post('/environments/install', body, SLOW, request)).install;
  }

  /** How far an installation is, with the lines since number `after`: the `nextLine` of an earlier answer. */
  getInstall(installId, { after } = {}, request) {
    return this.#get(`/environments/install/${encodeURIComponent(installId)}`, { after }, QUICK, request);
  }

  /** End an installation; what it has begun on the host is taken back. */
  cancelInstall(installId, request) {
    return this.#post(`/environments/install/${encodeURIComponent(installId)}/cancel`, {}, QUICK, request);
  }

  listDirectory(connectionId, path, request) {
    return this.#get('/fs/list', { connectionId, path }, SLOW, request);
  }

  pathExists(connectionId, path, request) {
    return this.#get('/fs/exists', { connectionId, path }, SLOW, request);
  }

  /** How busy the host is: load, memory, disk of `storageRoot`, GPUs. null is what it does not tell. */
  resources(connectionId, { storageRoot } = {}, request) {
    return this.#get(`/hosts/${encodeURIComponent(connectionId)}/resources`, { storageRoot }, SLOW, request);
  }

  // --- viewers

  /**
   * Start a viewer; resolves when it answers: the options of `connect`, `remoteRoot`, `localPort`,
   * `remotePort`, `condaEnv`. With `wait` false it resolves at once, and the session tells how it goes.
   *
   * Every start has an `idempotencyKey` (in the last argument, else one is made) and is sent again when no
   * answer comes: the server starts one viewer for one key.
   */
  async startViewer(options, { idempotencyKey = newKey(), ...request } = {}) {
    const body = JSON.stringify(snakeCase(options));
    const headers = { 'Idempotency-Key': `"${idempotencyKey}"` };
    for (let left = TIMES_AGAIN; ; left -= 1) {
      try {
        return await this.#send('POST', '/api/remote/viewer/start', body, START, request, headers);
      } catch (error) {
        // fetch's own error for a connection that is cut; time-outs and signals have others.
        if (left === 0 || !(error instanceof TypeError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
  }

  /** End a viewer, or cancel one that is starting. */
  stopViewer(sessionId, request) {
    return this.#post('/viewer/stop', snakeCase({ sessionId }), SLOW, request);
  }

  getViewerSession(sessionId, request) {
    return this.#get(`/viewer/status/${encodeURIComponent(sessionId)}`, {}, QUICK, request);
  }

  /** The last lines of a viewer's log: `{ sessionId, lines, at, live }`; `{ tail }` is 100, at most 1000. */
  viewerLog(sessionId, { tail } = {}, request) {
    return this.#get(`/viewer/${encodeURIComponent(sessionId)}/log`, { tail }, SLOW, request);
  }

  /**
   * What happens to a viewer, as it happens, from its beginning:
   *
   *   for await (const { event, data } of client.viewerEvents(id)) console.log(event, data.status, data.phase);
   *
   * `{ id, event, data }`: `event` is "session" after each change, and "end" at last. A stream that is cut is
   * taken up again where it was; `{ lastEventId }` does so across pages. The last argument has a `signal`.
   * With fetch, not EventSource: that sends no token.
   */
  async *viewerEvents(sessionId, { lastEventId } = {}, { signal } = {}) {
    for (let seen = lastEventId; ; ) {
      const response = await this.#reach(`/api/remote/viewer/${encodeURIComponent(sessionId)}/events`, {
        headers: { ...this.#headers, Accept: 'text/event-stream', ...(seen ? { 'Last-Event-ID': seen } : {}) },
        cache: 'no-store',
        redirect: 'error',
        signal,
      });
      if (response.status === 204) return;
      if (!response.ok || !response.headers.get('Content-Type')?.startsWith('text/event-stream')) await read(response);
      try {
        for await (const event of eventsOf(response)) {
          seen = event.id;
          yield event;
          if (event.event === 'end') return;
        }
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // else it was cut
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  async listViewerSessions(request) {
    return asList(await this.#get('/viewer/sessions', {}, QUICK, request), 'sessions');
  }

  // --- saved servers and profiles

  async savedConnections(request) {
    return asList(await this.#get('/connections/saved', {}, QUICK, request), 'connections');
  }

  /** Replace the whole list. Entries are sent as they are; a secret that is missing is kept. */
  saveConnections(connections, request) {
    return this.#post('/connections/saved', connections, QUICK, request);
  }

  // --- HTTP

  #get(path, query, wait, request) {
    const search = new URLSearchParams(snakeCase(query)).toString();
    return this.#send('GET', `/api/remote${path}${search && `?${search}`}`, undefined, wait, request);
  }

  #post(path, body, wait, request) {
    return this.#send('POST', `/api/remote${path}`, JSON.stringify(body), wait, request);
  }

  async #send(method, path, body, wait, { signal, timeout = this.#timeout ?? wait } = {}, headers = {}) {
    const limit = new AbortController();
    const abort = () => limit.abort(signal.reason);
    const late = () => limit.abort(new DOMException(`No answer within ${timeout} ms`, 'TimeoutError'));
    const timer = setTimeout(late, timeout);
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    try {
      const response = await this.#reach(path, {
        method,
        body,
        headers: { ...this.#headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
        cache: 'no-store',
        // The API redirects nowhere, and a body with a password follows nobody elsewhere.
        redirect: 'error',
        signal: limit.signal,
      });
      return await read(response);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Node 18 tries only the first address of `localhost`, often ::1; the server may listen on 127.0.0.1 alone. */
  async #reach(path, options) {
    try {
      return await this.#fetch(this.baseUrl + path, options);
    } catch (error) {
      const url = new URL(this.baseUrl);
      // Refused: nothing was sent.
      if (url.hostname !== 'localhost' || error?.cause?.code !== 'ECONNREFUSED') throw error;
      url.hostname = '127.0.0.1';
      return await this.#fetch(url.href.replace(/\/+$/, '') + path, options);
    }
  }
}

export default RunicornRemoteClient;

/** The events of a response's body. Comments and what makes no sense are skipped. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: ?(.*)/s, 2)));
        const data = parse(fields.data);
        if (data !== undefined) yield { id: fields.id, event: fields.event ?? 'message', data };
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // of a stream that is over, or cut
  }
}

/** A key nobody else has. `randomUUID` is not there in Node 18, and in pages without https. */
function newKey() {
  const digits = () => Math.random().toString(36).slice(2);
  return globalThis.crypto?.randomUUID?.() ?? `${Date.now()}-${digits()}-${digits()}`;
}

/** `{ privateKeyPath: … }` as `{ private_key_path: … }`, without what is not given. */
function snakeCase(options) {
  const given = Object.entries(options ?? {}).filter(([, value]) => value !== null && value !== undefined);
  const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(given.map(([name, value]) => [snake(name), value]));
}

/** The list in an answer, with the answer's fields on it, unseen by loops and JSON. */
function asList(answer, name) {
  const list = answer[name];
  for (const [field, value] of Object.entries(answer)) Object.defineProperty(list, field, { value });
  return list;
}

async function read(response) {
  const text = await response.text();
  const answer = parse(text);
  if (response.ok && isObject(answer)) return answer;
  const status = response.status;
  if (response.ok) {
    const type = response.headers.get('Content-Type');
    const where = response.url.split('?')[0];
    throw new RunicornRemoteError(`${where} is not the Remote API: it answered ${status} with ${type}`, { status });
  }
  const { detail, code, hint } = isObject(answer) ? answer : {};
  const retryAfter = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
  throw new RunicornRemoteError(sentence(status, detail), {
    status,
    detail,
    code: code ?? detail?.code,
    hint,
    retryAfter: Number.isNaN(retryAfter) ? undefined : retryAfter,
  });
}

function sentence(status, detail) {
  if (typeof detail === 'string' && detail) return detail;
  if (Array.isArray(detail)) {
    const faults = detail.map(({ loc, msg }) => (loc?.length > 1 ? `${loc.slice(1).join('.')}: ${msg}` : msg));
    return `The request is not valid: ${faults.join('; ')}`;
  }
  return detail?.message ?? `The server answered ${status}`;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
