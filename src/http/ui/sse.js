// Server-sent events over fetch: EventSource cannot send an Authorization header.

/** Takes a stream of text apart into events, wherever its chunks end. */
export class EventParser {
  /** The id of the last event that came as a whole; what a reconnect sends as Last-Event-ID. */
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

  /** Takes the next chunk. */
  push(text) {
    if (text === '') return;
    // A line may end in CR, LF or both, and the two may come in two chunks.
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

  /** Forgets the event that a broken connection left half-finished. */
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

const SHORTEST = 1_000;
const LONGEST = 30_000;
/** The server sends a comment much more often than this; a connection that is silent for so long is gone. */
const SILENCE = 60_000;

/** How long to wait before the next attempt: doubled each time, less up to half of it by chance. */
export function backoff(failures, random = Math.random) {
  const most = Math.min(LONGEST, SHORTEST * 2 ** Math.min(failures, 10));
  return Math.round(most / 2 + (random() * most) / 2);
}

/**
 * Follows a stream until the signal is aborted, and connects again whenever it ends.
 *
 * `open(lastEventId, signal)` gives a Response or throws; an error that has `final` ends the following and is thrown.
 * `onState` is told `connecting`, `live` and `waiting`, the last one with the error and the delay.
 */
export async function follow({ open, onEvent, onState, signal, wait = pause, random = Math.random, silence = SILENCE }) {
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
    // The connection is given up; whether it hears of that does not matter.
    reader.cancel().catch(() => {});
  }
}

/** Waits, at most until the signal is aborted. */
export function pause(delay, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delay);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
