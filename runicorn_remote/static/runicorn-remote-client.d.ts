/** Types of runicorn-remote-client.js. */

export interface ClientOptions {
  /** Goes into every request as a bearer token. */
  token?: string;
  /** Milliseconds for every request, instead of 30 s, 180 s where a host is asked, 300 s for a start. */
  timeout?: number;
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** Last argument of every method. Ends the wait, not what the server does. */
export interface RequestOptions {
  signal?: AbortSignal;
  /** Milliseconds. */
  timeout?: number;
}

export interface StartRequestOptions extends RequestOptions {
  /** The same again is the same viewer; one is made unless it is given. */
  idempotencyKey?: string;
}

/** null and undefined mean: not given. */
export interface Credentials {
  host?: string | null;
  /** 22 if not given. */
  port?: number | null;
  username?: string | null;
  password?: string | null;
  /** The text of a private key. */
  privateKey?: string | null;
  /** A file on the server's machine, `~` allowed. */
  privateKeyPath?: string | null;
  passphrase?: string | null;
  useAgent?: boolean | null;
  /** Supplies what is missing. Without it, host and username are required. */
  savedServerId?: string | null;
  /** Of a `challenge`, and one text for each of its prompts. */
  challengeId?: string | null;
  responses?: string[] | null;
}

export interface StartOptions extends Credentials {
  /** The storage directory on the host. */
  remoteRoot: string;
  localPort?: number | null;
  remotePort?: number | null;
  condaEnv?: string | null;
  /** Fills the command by which the server starts viewers on that cluster's nodes; names go as they are. */
  launchArgs?: Record<string, string> | null;
  /** false: resolve at once; the session tells how the start goes. */
  wait?: boolean | null;
}

/** A list that also has the fields of the answer it came in. */
export type ListOf<Item, Name extends string> = Item[] & { readonly [name in Name]: Item[] };

export interface Ok {
  ok: boolean;
  message: string;
}

/** `warning`: only if the server stores no secrets, and was given some. */
export interface Saved extends Ok {
  warning?: string;
}

export interface Connected {
  ok: boolean;
  /** user@host:port */
  connection_id: string;
  host: string;
  port: number;
  username: string;
  connected: boolean;
}

export interface Connection {
  /** The connection_id. */
  key: string;
  host: string;
  port: number;
  username: string;
  connected: boolean;
}

export interface HostKey {
  host: string;
  port: number;
  known_hosts_host: string;
  key_type: string;
  fingerprint_sha256: string;
  public_key: string;
  reason: 'unknown' | 'changed';
  expected_fingerprint_sha256?: string;
  expected_public_key?: string;
}

/** What a host asks at the login; the texts are its own. */
export interface Challenge {
  code: string;
  message: string;
  challenge_id: string;
  /** Who asks, which may be a jump host. */
  host: string;
  port: number;
  username: string;
  name: string;
  instructions: string;
  /** `echo`: the answer may be shown while it is typed. */
  prompts: { prompt: string; echo: boolean }[];
  /** Seconds. */
  expires_in: number;
}

export interface KnownHost {
  host: string;
  port: number;
  known_hosts_host: string;
  key_type: string;
  key_base64: string;
  fingerprint_sha256: string;
}

export interface Environment {
  name: string;
  /** conda, system, venv, virtualenv, pyenv, uv, poetry or pixi */
  type: string;
  python_version: string;
  /** The absolute interpreter. */
  path: string;
  is_default: boolean;
}

export interface EnvironmentConfigs {
  ok: boolean;
  configs: Record<string, { pythonVersion: string; runicornVersion: string | null; advice: string | null }>;
}

export interface Config {
  ok: boolean;
  condaEnv: string;
  pythonVersion: string;
  runicornVersion: string | null;
  defaultStorageRoot: string;
  storageRootExists: boolean;
  suggestedRemotePort: number;
  connectionId: string;
  homeDirectory: string;
  /** For a person; null if all is well. */
  advice: string | null;
}

/** The installation of runicorn on a host. */
export interface Install {
  installId: string;
  connectionId: string;
  condaEnv: string | null;
  version: string;
  state: 'running' | 'done' | 'failed' | 'cancelled';
  /** preparing, installing, downloading, copying or done */
  phase: string;
  /** Milliseconds since the epoch. */
  startedAt: number;
  elapsedSeconds: number;
  lines: string[];
  nextLine: number;
  /** `source` is index, or wheels that were copied there. */
  result: { condaEnv: string; python: string; runicornVersion: string; source: string } | null;
  error: string | null;
  errorCode: string | null;
  hint: string | null;
}

export interface StorageCandidates {
  scan_root: string;
  max_depth: number;
  /** The best first. */
  candidates: { path: string; run_count: number; has_archive: boolean; has_index: boolean; score: number }[];
}

export interface Directory {
  path: string;
  /** Directories first, then by name; size in bytes, mtime in seconds since the epoch. */
  items: { name: string; is_dir: boolean; size: number; mtime: number }[];
}

export interface PathExists {
  path: string;
  exists: boolean;
  is_dir: boolean;
}

/** How busy a host is; null is what it does not tell. */
export interface Resources {
  ok: boolean;
  connectionId: string;
  hostname: string | null;
  /** linux or darwin */
  platform: string | null;
  cpus: number | null;
  /** Over 1, 5 and 15 minutes. */
  loadAverage: number[] | null;
  uptimeSeconds: number | null;
  memory: { totalBytes: number; availableBytes: number } | null;
  disk: { path: string | null; totalBytes: number; freeBytes: number } | null;
  diskError: string | null;
  /** Empty without NVIDIA's tool; null if it fails, and gpuError says why. */
  gpus:
    | {
        index: number;
        name: string;
        memoryTotalBytes: number | null;
        memoryUsedBytes: number | null;
        utilizationPercent: number | null;
      }[]
    | null;
  gpuError: string | null;
}

export interface ViewerSession {
  sessionId: string;
  host: string;
  sshPort: number;
  username: string;
  localPort: number;
  remotePort: number | null;
  remoteRoot: string;
  remotePid: number | null;
  /** connecting, running, degraded, reconnecting, disconnected, error, stopped or stopping */
  status: string;
  /** Milliseconds since the epoch. */
  startedAt: number;
  uptimeSeconds: number;
  isActive: boolean;
  url: string;
  condaEnv: string | null;
  runicornVersion: string | null;
  /** The compute node it runs on; null: the host itself. */
  node: string | null;
  error: string | null;
  errorCode: string | null;
  /** What a person has to decide on or answer: the `detail` of a 409 or 401. */
  errorDetail: { code: string; message: string; host_key: HostKey } | Challenge | null;
  /** Of a start: connecting, preparing, launching, waiting or ready. */
  phase: string;
  /** Of the latest start; `seconds` is null while it lasts, and of "ready". */
  phases: { name: string; startedAt: number; seconds: number | null }[];
  tunnel: { bytesIn: number; bytesOut: number; openConnections: number; totalConnections: number };
  reconnects: number;
  restarts: number;
  /** Milliseconds since the epoch. */
  lastHealthyAt: number | null;
}

export type ViewerEvent =
  | {
      id: string;
      event: 'session';
      data: Pick<
        ViewerSession,
        'sessionId' | 'status' | 'phase' | 'phases' | 'url' | 'error' | 'errorCode' | 'errorDetail'
      > & { at: number };
    }
  | { id: string; event: 'end'; data: { sessionId: string; at: number; reason: 'ended' | 'removed' } };

export interface ViewerLog {
  sessionId: string;
  /** The oldest first. */
  lines: string[];
  /** When it was read, milliseconds since the epoch. */
  at: number;
  /** false: as it was last seen; it cannot be read now. */
  live: boolean;
}

export interface StartedViewer {
  ok: boolean;
  session: ViewerSession;
  message: string;
}

export interface Status {
  connections: Connection[];
  viewer_sessions: ViewerSession[];
  connection_count: number;
  viewer_session_count: number;
}

export interface Health {
  status: string;
  version: string;
  server: { name: string; version: string };
}

/** Of `kind` "server" or "connection"; other fields of the caller's own are kept. */
export interface SavedEntry {
  kind: 'server' | 'connection';
  id: string;
  [field: string]: unknown;
}

/** One fault of a 422. */
export interface Fault {
  loc: (string | number)[];
  msg: string;
  type: string;
}

/** An answer that is an error; `message` is a sentence. That no answer comes is fetch's own error. */
export class RunicornRemoteError extends Error {
  constructor(
    message: string,
    values?: { status?: number; detail?: unknown; code?: string; hint?: string; retryAfter?: number },
  );
  status: number;
  /** A sentence; for 422 a list of faults; for a host key and for what a host asks an object. */
  detail: string | Fault[] | { code: string; message: string; host_key: HostKey } | Challenge | undefined;
  /** A stable upper-case word to branch on. */
  code: string | undefined;
  /** What to do. */
  hint: string | undefined;
  /** Seconds after which to try again. */
  retryAfter: number | undefined;
  /** The key to decide on if that is what the error is about. */
  readonly hostKey: HostKey | undefined;
  /** What the host asks: repeat the request with its `challengeId` and `responses`, one a prompt. */
  readonly challenge: Challenge | undefined;
}

export class RunicornRemoteClient {
  /** `baseUrl` is `http://localhost:23300` by default. */
  constructor(baseUrl?: string | URL, options?: ClientOptions);
  baseUrl: string;

  connect(options: Credentials, request?: RequestOptions): Promise<Connected>;
  listSessions(request?: RequestOptions): Promise<ListOf<Connection, 'sessions'>>;
  disconnect(
    account: { host: string; username: string; port?: number; stopViewers?: boolean },
    request?: RequestOptions,
  ): Promise<Ok>;
  status(request?: RequestOptions): Promise<Status>;
  health(request?: RequestOptions): Promise<Health>;

  acceptHostKey(
    hostKey: Pick<HostKey, 'host' | 'port' | 'key_type' | 'public_key' | 'fingerprint_sha256'>,
    request?: RequestOptions,
  ): Promise<{ ok: boolean }>;
  listKnownHosts(request?: RequestOptions): Promise<ListOf<KnownHost, 'entries'>>;
  removeKnownHost(
    entry: { host: string; port?: number; keyType: string } | Pick<KnownHost, 'host' | 'port' | 'key_type'>,
    request?: RequestOptions,
  ): Promise<{ ok: boolean; changed: boolean }>;

  listCondaEnvs(connectionId: string, request?: RequestOptions): Promise<ListOf<Environment, 'envs'>>;
  envConfigs(connectionId: string, request?: RequestOptions): Promise<EnvironmentConfigs>;
  config(connectionId: string, options?: { condaEnv?: string }, request?: RequestOptions): Promise<Config>;
  storageCandidates(
    connectionId: string,
    options?: { condaEnv?: string; scanRoot?: string; maxDepth?: number },
    request?: RequestOptions,
  ): Promise<StorageCandidates>;
  install(
    connectionId: string,
    options?: { condaEnv?: string; version?: string },
    request?: RequestOptions,
  ): Promise<Install>;
  getInstall(installId: string, options?: { after?: number }, request?: RequestOptions): Promise<Install>;
  cancelInstall(installId: string, request?: RequestOptions): Promise<Ok>;
  listDirectory(connectionId: string, path?: string, request?: RequestOptions): Promise<Directory>;
  pathExists(connectionId: string, path: string, request?: RequestOptions): Promise<PathExists>;

  resources(
    connectionId: string,
    options?: { storageRoot?: string },
    request?: RequestOptions,
  ): Promise<Resources>;

  startViewer(options: StartOptions, request?: StartRequestOptions): Promise<StartedViewer>;
  stopViewer(sessionId: string, request?: RequestOptions): Promise<Ok>;
  getViewerSession(sessionId: string, request?: RequestOptions): Promise<ViewerSession>;
  viewerLog(sessionId: string, options?: { tail?: number }, request?: RequestOptions): Promise<ViewerLog>;
  /** From the beginning, or from behind `lastEventId`; ends by itself after the event "end". */
  viewerEvents(
    sessionId: string,
    options?: { lastEventId?: string },
    request?: { signal?: AbortSignal },
  ): AsyncGenerator<ViewerEvent, void, void>;
  listViewerSessions(request?: RequestOptions): Promise<ListOf<ViewerSession, 'sessions'>>;

  savedConnections(request?: RequestOptions): Promise<ListOf<SavedEntry, 'connections'>>;
  saveConnections(connections: SavedEntry[], request?: RequestOptions): Promise<Saved>;
}

export default RunicornRemoteClient;
