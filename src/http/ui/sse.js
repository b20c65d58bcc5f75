// Server-sent events over fetch: EventSource cannot send an Authorization header.

/** Parses the events of a text stream. A chunk may end at any character. */
export class EventParser {
  /** The id of the last complete event. A reconnect sends it as Last-Event-ID. */
  lastEventId = '';
  #id = '';
  #onEvent;
  #line = '';
  #afterCr = false;
  #type = '';
  #data = [];

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** Parses the next chunk. */
  push(text) {
    if (text === '') return;
    // A line may end in CR, LF or CR LF, and CR LF may be split between two chunks.
    let start = this.#afterCr && text[0] === '\n' ? 1 : 0;
    this.#afterCr = text.endsWith('\r');
    const ends = /\r\n|\r|\n/g;
    ends.lastIndex = start;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this.#take(this.#line + text.slice(start, end.index));
      this.#line = '';
      start = ends.lastIndex;
    }
    this.#line += text.slice(start);
  }

  /** Drops the incomplete event of a broken connection. */
  reset() {
    this.#line = '';
    this.#afterCr = false;
    this.#id = this.lastEventId;
    this.#type = '';
    this.#data = [];
  }

  #take(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }

  #dispatch() {
    this.lastEventId = this.#id;
    const event = { type: this.#type || 'message', data: this.#data.join('\n'), id: this.lastEventId };
    const empty = this.#data.length === 0;
    this.#type = '';
    this.#data = [];
    if (!empty) this.#onEvent(event);
  }
}

const MIN_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
/** How long a connection may be silent, in milliseconds. The server sends a comment every 15 s. */
const SILENCE_TIMEOUT_MS = 60_000;

/** The wait before the next attempt, in milliseconds: doubled each time, with up to 50 % jitter. */
export function backoff(failures, random = Math.random) {
  const most = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** Math.min(failures, 10));
  return Math.round(most / 2 + (random() * most) / 2);
}

/**
 * Follows a stream until the signal is aborted. A stream that ends is opened again.
 *
 * `open(lastEventId, signal)` returns a Response or throws. An error with `final` is thrown and ends the function.
 * `onState` is called with `connecting`, `live` and `waiting`; `waiting` has the error and the delay.
 */
export async function follow({ open, onEvent, onState, signal, wait = pause, random = Math.random, silence = SILENCE_TIMEOUT_MS }) {
  const parser = new EventParser(onEvent);
  let failures = 0;
  while (!signal.aborted) {
    let error = null;
    try {
      onState('connecting', {});
      const body = (await open(parser.lastEventId, signal)).body;
      onState('live', {});
      parser.reset();
      await read(body, silence, signal, (text) => {
        failures = 0;
        parser.push(text);
      });
    } catch (thrown) {
      if (signal.aborted) return;
      if (thrown.final) throw thrown;
      error = thrown;
    }
    if (signal.aborted) return;
    const delay = backoff(failures, random);
    failures += 1;
    onState('waiting', { error, delay });
    await wait(delay, signal);
  }
}

async function read(body, silence, signal, onText) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let timer;
  try {
    while (!signal.aborted) {
      const silent = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error('nothing came for a minute')), silence);
      });
      const { done, value } = await Promise.race([reader.read(), silent]);
      clearTimeout(timer);
      if (done) return;
      onText(decoder.decode(value, { stream: true }));
    }
  } finally {
    clearTimeout(timer);
    // The connection is closed. An error of the close does not matter.
    reader.cancel().catch(() => {});
  }
}

/** Waits for a delay in milliseconds, or until the signal is aborted. */
export function pause(delay, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delay);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
