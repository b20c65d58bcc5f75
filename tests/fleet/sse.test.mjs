// The stream: events from chunks, and reconnects.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventParser, backoff, follow } from '../../src/http/ui/sse.js';

function parse(...chunks) {
  const events = [];
  const parser = new EventParser((event) => events.push(event));
  for (const chunk of chunks) parser.push(chunk);
  return events;
}

test('an event has a type, an id and its data', () => {
  assert.deepEqual(parse('event: agent\nid: 7\ndata: {"a":1}\n\n'), [{ type: 'agent', id: '7', data: '{"a":1}' }]);
});

test('chunk boundaries do not change an event', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    const text = ['event: agent', 'id: 7', 'data: one', 'data: two', '', 'data:three', '', ''].join(end);
    const whole = parse(text);
    assert.deepEqual(whole.map((e) => e.data), ['one\ntwo', 'three'], JSON.stringify(end));
    for (let at = 0; at <= text.length; at += 1) {
      assert.deepEqual(parse(text.slice(0, at), text.slice(at)), whole, `${JSON.stringify(end)} at ${at}`);
    }
    assert.deepEqual(parse(...text), whole, 'one character at a time');
  }
});

test('comments, unknown fields and events without data are ignored', () => {
  assert.deepEqual(parse(': keep-alive\n\nevent: agent\n\nretry: 5\nnonsense\ndata: x\n\n').map((e) => [e.type, e.data]), [
    ['message', 'x'],
  ]);
});

test('one space after the colon is removed', () => {
  assert.deepEqual(parse('data:  a: b\n\n').map((e) => e.data), [' a: b']);
});

test('an id lasts until the next id, and an id with a NUL is ignored', () => {
  assert.deepEqual(parse('id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n').map((e) => e.id), ['1', '1', '1', '']);
});

test('a reset discards the incomplete event and keeps the last id', () => {
  const events = [];
  const parser = new EventParser((event) => events.push(event));
  parser.push('id: 3\ndata: a\n\nid: 4\ndata: ha');
  assert.equal(parser.lastEventId, '3', 'event 4 is incomplete');
  parser.reset();
  parser.push('data: b\n\n');
  assert.deepEqual(events.map((e) => [e.id, e.data]), [['3', 'a'], ['3', 'b']]);
});

test('the backoff grows to 30 s, with up to 50 % jitter', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map((n) => backoff(n, () => 1)), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  assert.deepEqual([0, 50].map((n) => backoff(n, () => 0)), [500, 15000]);
});

/** Follows a script of attempts, each a list of chunks or an error, and returns what was seen. */
async function play(attempts) {
  const stop = new AbortController();
  const seen = { ids: [], events: [], states: [], waits: [] };
  const following = follow({
    async open(lastEventId) {
      seen.ids.push(lastEventId);
      const attempt = attempts.shift();
      if (!attempt) stop.abort();
      if (attempt instanceof Error) throw attempt;
      return new Response(ReadableStream.from((attempt ?? []).map((text) => Buffer.from(text, 'latin1'))));
    },
    onEvent: (event) => seen.events.push(event.data),
    onState: (state, { error }) => seen.states.push(error ? `${state}: ${error.message}` : state),
    wait: async (delay) => void seen.waits.push(delay),
    random: () => 1,
    signal: stop.signal,
  });
  return { seen, following };
}

test('an ended stream is reopened at its last event id', async () => {
  const { seen, following } = await play([['id: 1\ndata: a\n\n'], ['id: 2\ndata: b\n\n']]);
  await following;
  assert.deepEqual(seen.events, ['a', 'b']);
  assert.deepEqual(seen.ids, ['', '1', '2']);
  assert.deepEqual(seen.states.slice(0, 4), ['connecting', 'live', 'waiting', 'connecting']);
});

test('the backoff grows without events and is reset by an event', async () => {
  const down = new Error('down');
  const { seen, following } = await play([down, down, [], ['data: a\n\n'], down]);
  await following;
  assert.deepEqual(seen.waits, [1000, 2000, 4000, 1000, 2000]);
  assert.ok(seen.states.includes('waiting: down'));
});

test('a final error ends the stream', async () => {
  const { following } = await play([Object.assign(new Error('who?'), { final: true })]);
  await assert.rejects(following, /who\?/);
});

test('a character split over two chunks is decoded', async () => {
  const bytes = Buffer.from('data: é\n\n', 'utf8').toString('latin1');
  const { seen, following } = await play([[bytes.slice(0, 7), bytes.slice(7)]]);
  await following;
  assert.deepEqual(seen.events, ['é']);
});

test('a silent connection is closed', async () => {
  const stop = new AbortController();
  let opened = 0;
  await follow({
    open: async () => (opened++ === 0 ? new Response(new ReadableStream({})) : (stop.abort(), new Response(''))),
    onEvent: () => {},
    onState: () => {},
    wait: async () => {},
    silence: 5,
    signal: stop.signal,
  });
  assert.equal(opened, 2);
});
