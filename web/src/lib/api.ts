/** Talking to the server: relative to <base>, JSON, errors with the server's own words. */

export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The path prefix that the UI is served under, with a slash at its end. */
export function basePath(): string {
  return new URL(document.baseURI).pathname;
}

export function url(path: string): string {
  return basePath() + path.replace(/^\//, '');
}

type Param = string | number | boolean | null | undefined | readonly string[];

/** Query text of parameters; empty ones are left out, lists are repeated. */
export function query(params: Record<string, Param>): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) {
    if (v === null || v === undefined || v === '') continue;
    if (Array.isArray(v)) for (const x of v as readonly string[]) q.append(k, x);
    else q.set(k, String(v));
  }
  const s = q.toString();
  return s ? '?' + s : '';
}

/** One readable text of Airflow's `detail`: a text, a list of findings, or an object with a reason. */
export function detailOf(body: unknown, status: number): string {
  if ((body as { error?: unknown } | null)?.error === 'API route not found') return 'This server does not serve that part of the REST API.';
  const detail = (body as { detail?: unknown } | null)?.detail;
  if (typeof detail === 'string' && detail) return detail;
  if (Array.isArray(detail)) {
    return detail
      .map((d: { loc?: unknown[]; msg?: string }) => {
        const where = (d.loc ?? []).filter((l) => l !== 'body' && l !== 'query').join('.');
        return (where ? where + ': ' : '') + (d.msg ?? '');
      })
      .join('; ');
  }
  if (detail && typeof detail === 'object') {
    const o = detail as { reason?: string; message?: string };
    if (o.reason === 'Unique constraint violation') return 'It exists already.';
    return o.reason ?? o.message ?? JSON.stringify(detail);
  }
  const words: Record<number, string> = {
    403: 'You may not do that.',
    404: 'Not found.',
    413: 'That is too large.',
    429: 'Too many requests; wait a moment.',
    501: 'This server does not offer that.',
    503: 'The server is busy; try again.',
  };
  return words[status] ?? `The server answered ${status}.`;
}

let leaving = false;

/** Leads to the sign-in page and back to where one was. */
function signIn() {
  if (leaving) return;
  leaving = true;
  const next = location.pathname + location.search + location.hash;
  location.assign(url('auth/login') + query({ next }));
}

export interface Options {
  method?: string;
  body?: unknown;
  accept?: string;
  signal?: AbortSignal;
}

export async function raw(path: string, o: Options = {}): Promise<Response> {
  const init: RequestInit = { method: o.method ?? 'GET', credentials: 'same-origin', headers: { Accept: o.accept ?? 'application/json' } };
  if (o.signal) init.signal = o.signal;
  if (o.body !== undefined) {
    init.body = JSON.stringify(o.body);
    (init.headers as Record<string, string>)['Content-Type'] = 'application/json';
  }
  let r: Response;
  try {
    r = await fetch(url(path), init);
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    throw new ApiError(0, 'The server does not answer.');
  }
  if (r.status === 401) signIn();
  if (!r.ok) {
    let body: unknown = null;
    try {
      body = await r.json();
    } catch {
      /* not JSON: the status says it */
    }
    throw new ApiError(r.status, r.status === 401 ? 'Please sign in.' : detailOf(body, r.status));
  }
  return r;
}

export async function call<T>(path: string, o: Options = {}): Promise<T> {
  const r = await raw(path, o);
  if (r.status === 204) return undefined as T;
  return (await r.json()) as T;
}

export const get = <T>(path: string, signal?: AbortSignal) => call<T>(path, signal ? { signal } : {});
export const post = <T>(path: string, body: unknown) => call<T>(path, { method: 'POST', body });
export const patch = <T>(path: string, body: unknown) => call<T>(path, { method: 'PATCH', body });
export const put = <T>(path: string, body?: unknown) => call<T>(path, body === undefined ? { method: 'PUT' } : { method: 'PUT', body });
export const del = <T>(path: string) => call<T>(path, { method: 'DELETE' });

const e = encodeURIComponent;

/** Paths of the REST API. */
export const api = {
  dag: (d: string) => `api/v2/dags/${e(d)}`,
  run: (d: string, r: string) => `api/v2/dags/${e(d)}/dagRuns/${e(r)}`,
  ti: (d: string, r: string, t: string, mapIndex = -1) => `api/v2/dags/${e(d)}/dagRuns/${e(r)}/taskInstances/${e(t)}` + (mapIndex >= 0 ? `/${mapIndex}` : ''),
};

/** Paths of views: Airflow's, so that bookmarks and links in mails keep working. */
export const to = {
  dag: (d: string, tab = '') => `/dags/${e(d)}` + (tab ? '/' + tab : ''),
  run: (d: string, r: string, tab = '') => `/dags/${e(d)}/runs/${e(r)}` + (tab ? '/' + tab : ''),
  ti: (d: string, r: string, t: string, mapIndex = -1, tab = '') =>
    `/dags/${e(d)}/runs/${e(r)}/tasks/${e(t)}` + (mapIndex >= 0 ? `/mapped/${mapIndex}` : '') + (tab ? '/' + tab : ''),
};
