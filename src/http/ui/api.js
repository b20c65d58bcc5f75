// Client of Muster's HTTP API for people. URLs are relative, so that the page also works below a path.

const PAGE_SIZE = 200;

/** An error of a request to the API. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
    /** Whether a retry with the same token cannot succeed. A final error is not retried automatically. */
    this.final = status === 401 || status === 403;
  }
}

/** The API with one person's token. */
export class Api {
  /** How far the server's clock is ahead of the browser's clock, in milliseconds. */
  clockOffset = 0;
  #token;

  constructor(token) {
    this.#token = token;
  }

  async agent(id, signal) {
    return (await this.#get(`api/v1/agents/${encodeURIComponent(id)}`, signal)).json();
  }

  async events(id, signal) {
    return (await (await this.#get(`api/v1/agents/${encodeURIComponent(id)}/events`, signal)).json()).items ?? [];
  }

  /** All agents, read page by page. `complete` is false if the total changed between pages, because an agent may be missing. */
  async agents(signal) {
    const all = new Map();
    let [total, steady] = [null, true];
    for (let offset = 0; total === null || offset < total; offset += PAGE_SIZE) {
      const page = await (await this.#get(`api/v1/agents?limit=${PAGE_SIZE}&offset=${offset}`, signal)).json();
      steady &&= total === null || page.total === total;
      total = page.total;
      for (const item of page.items) all.set(item.id, item);
      if (page.items.length === 0) break;
    }
    return { all, complete: steady && all.size === total };
  }

  stream(lastEventId, signal) {
    const headers = { accept: 'text/event-stream' };
    if (lastEventId) headers['last-event-id'] = lastEventId;
    return this.#get('api/v1/agents/stream', signal, headers);
  }

  async #get(path, signal, headers = { accept: 'application/json' }) {
    let response;
    try {
      const authorization = `Bearer ${this.#token}`;
      response = await fetch(path, { headers: { ...headers, authorization }, signal, cache: 'no-store', redirect: 'error' });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, 'unreachable', 'Muster cannot be reached');
    }
    const date = Date.parse(response.headers.get('date') ?? '');
    // The header has whole seconds, so a difference of up to 2 s is ignored.
    this.clockOffset = Math.abs(date - Date.now()) > 2_000 ? date - Date.now() : 0;
    if (response.ok) return response;
    const { code, message } = await response.json().catch(() => ({}));
    throw new ApiError(response.status, code ?? 'error', message ?? `Muster answered with HTTP status ${response.status}`);
  }
}

/** The token in a pasted text; null if the text is not a valid token. */
export function readToken(text) {
  const token = text.trim().replace(/^bearer\s+/i, '');
  return /^[\x21-\x7e]+$/.test(token) ? token : null;
}
