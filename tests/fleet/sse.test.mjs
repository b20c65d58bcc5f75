// The stream: events out of chunks, and connections out of connections.

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

test('an event is the same wherever the chunks end', () => {
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

test('comments, unknown fields and events without data are passed over', () => {
  assert.deepEqual(parse(': keep-alive\n\nevent: agent\n\nretry: 5\nnonsense\ndata: x\n\n').map((e) => [e.type, e.data]), [
    ['message', 'x'],
  ]);
});

test('only the first space after the colon is no part of the data', () => {
  assert.deepEqual(parse('data:  a: b\n\n').map((e) => e.data), [' a: b']);
});

test('the id stays until another one comes, and one with a NUL does not count', () => {
  assert.deepEqual(parse('id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n').map((e) => e.id), ['1', '1', '1', '']);
});

test('what a broken connection left half-finished is forgotten, its id is not', () => {
  const events = [];
  const parser = new EventParser((event) => events.push(event));
  parser.push('id: 3\ndata: a\n\nid: 4\ndata: ha');
  assert.equal(parser.lastEventId, '3', 'event 4 has not come');
  parser.reset();
  parser.push('data: b\n\n');
  assert.deepEqual(events.map((e) => [e.id, e.data]), [['3', 'a'], ['3', 'b']]);
});

test('the wait grows, is never longer than 30 s, and is less by chance', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map((n) => backoff(n, () => 1)), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  assert.deepEqual([0, 50].map((n) => backoff(n, () => 0)), [500, 15000]);
});

/** Follows a script of attempts, each a list of chunks or an error, and tells what was seen. */
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

test('a stream that ends is opened again where it ended', async () => {
  const { seen, following } = await play([['id: 1\ndata: a\n\n'], ['id: 2\ndata: b\n\n']]);
  await following;
  assert.deepEqual(seen.events, ['a', 'b']);
  assert.deepEqual(seen.ids, ['', '1', '2']);
  assert.deepEqual(seen.states.slice(0, 4), ['connecting', 'live', 'waiting', 'connecting']);
});

test('the wait grows while nothing comes and begins anew when something does', async () => {
  const down = new Error('down');
  const { seen, following } = await play([down, down, [], ['data: a\n\n'], down]);
  await following;
  assert.deepEqual(seen.waits, [1000, 2000, 4000, 1000, 2000]);
  assert.ok(seen.states.includes('waiting: down'));
});

test('an error that is final ends it', async () => {
  const { following } = await play([Object.assign(new Error('who?'), { final: true })]);
  await assert.rejects(following, /who\?/);
});

test('a character that two chunks share is one character', async () => {
  const bytes = Buffer.from('data: é\n\n', 'utf8').toString('latin1');
  const { seen, following } = await play([[bytes.slice(0, 7), bytes.slice(7)]]);
  await following;
  assert.deepEqual(seen.events, ['é']);
});

test('a connection on which nothing comes is given up', async () => {
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
