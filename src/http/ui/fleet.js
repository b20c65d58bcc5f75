// The page: the session, the URL, and the visible view.

import { Api, readToken } from './api.js';
import { Detail } from './detail.js';
import { setText } from './dom.js';
import { List } from './list.js';
import * as model from './model.js';
import { follow, pause } from './sse.js';
import { Fleet } from './store.js';

const TOKEN = 'muster.token';
/** How long changes of an agent are batched before its details are loaded again, in milliseconds. */
const BATCH_WINDOW_MS = 300;
/** How often an agent's details are loaded again without a change, in milliseconds: new events do not change the agent. */
const REFRESH_INTERVAL_MS = 30_000;

const byId = (id) => document.getElementById(id);
const fleet = new Fleet(changed);
const list = new List(fleet, { filter: choose, open: (id) => go(id, filter) });
const detail = new Detail(back);

/** The filter in the URL. */
let filter = model.readFilter('');
/** The session of the signed-in person: `{api, stop, state, loaded, problem, since, retry}`; null without a session. */
let session = null;
/** The open agent page: `{id, stop, poke, said}`; null when the list is open. */
let view = null;
/** The last announced phases. */
const phases = new Map();
let listScroll = 0;

// Sign-in and sign-out.

function signIn(token) {
  sessionStorage.setItem(TOKEN, token);
  const stop = new AbortController();
  session = { api: new Api(token), stop, state: 'connecting', loaded: false, problem: null, since: null, retry: () => {} };
  run(session);
  route();
}

/** Ends the session. Nothing that the session loaded stays in the document. */
function signOut(message = '') {
  sessionStorage.removeItem(TOKEN);
  session?.stop.abort();
  session = null;
  close();
  detail.clear();
  fleet.list(new Map(), true);
  phases.clear();
  for (const id of ['about', 'trouble-text']) setText(byId(id), '');
  byId('token').value = '';
  refuse(message);
  show();
  byId('token').focus();
}

function refuse(message) {
  setText(byId('sign-in-error'), message);
  byId('sign-in-error').hidden = !message;
}

// The stream.

async function run(mine) {
  try {
    await follow({
      open: (lastEventId, signal) => connect(mine, lastEventId, signal),
      onEvent: ({ type, data }) => {
        if (type === 'agent' && mine === session) fleet.put(JSON.parse(data).agent);
      },
      onState: (state, { error }) => become(mine, state, error),
      wait: (delay, signal) =>
        new Promise((resolve) => {
          mine.retry = resolve;
          pause(delay, signal).then(resolve);
        }),
      signal: mine.stop.signal,
    });
  } catch (error) {
    failed(mine, error);
  }
}

/** Opens the stream and then loads the list. Events of the stream are read after the list and are newer. */
async function connect(mine, lastEventId, signal) {
  const response = await mine.api.stream(lastEventId, signal);
  try {
    const { all, complete } = await mine.api.agents(signal);
    fleet.list(all, complete);
  } catch (error) {
    response.body.cancel().catch(() => {});
    throw error;
  }
  mine.loaded = true;
  return response;
}

function become(mine, state, error) {
  if (mine !== session) return;
  if (state === 'live') {
    mine.problem = null;
    mine.since = null;
    view?.poke();
  }
  if (state === 'waiting') {
    mine.since ??= new Date();
    // A stream that ends without an error is opened again without a message.
    mine.problem = error ?? mine.problem;
  }
  // The state of the last attempt is shown until a new attempt succeeds.
  if (state !== 'connecting' || !mine.since) mine.state = state;
  show();
}

/** Handles an error that is not retried automatically. */
function failed(mine, error) {
  if (mine !== session) return;
  if (error.status === 401) {
    const hint = 'Tokens last an hour unless you ask for more; create another one.';
    return signOut(`This token was not accepted. ${model.sentence(error.message)} ${hint}`);
  }
  mine.stop.abort();
  mine.problem = error;
  mine.state = 'refused';
  // An open agent page ends with the session. The next session opens it again.
  close();
  show();
}

function again() {
  if (session?.state === 'refused') signIn(sessionStorage.getItem(TOKEN));
  else session?.retry();
}

// The URL.

function go(id, to, replace = false) {
  if (!view) listScroll = scrollY;
  const address = model.writeQuery(to, id) || location.pathname;
  if (replace) history.replaceState(history.state, '', address);
  else history.pushState({ inside: true }, '', address);
  route();
}

function choose(to, typed) {
  // A search adds one entry to the history, not one entry for each letter.
  go('', to, typed && filter.text !== '' && to.text !== '');
}

function back() {
  if (history.state?.inside) history.back();
  else go('', filter);
}

function route() {
  filter = model.readFilter(location.search);
  list.filter(filter);
  const id = new URLSearchParams(location.search).get('agent') ?? '';
  if ((view?.id ?? '') !== id) {
    const left = Boolean(view);
    close();
    if (id) open(id);
    else if (left) requestAnimationFrame(() => scrollTo(0, listScroll));
  }
  show();
}

// The page of one agent.

function open(id) {
  if (!session) return;
  view = { id, stop: new AbortController(), poke: () => {}, said: '', eventsRefused: false };
  detail.open(id, fleet.agents.get(id));
  watch(view, session);
  requestAnimationFrame(() => {
    scrollTo(0, 0);
    detail.focus();
  });
}

function close() {
  view?.stop.abort();
  view = null;
}

async function watch(mine, { api, stop }) {
  const signal = AbortSignal.any([mine.stop.signal, stop.signal]);
  while (!signal.aborted) {
    const poked = new Promise((resolve) => (mine.poke = resolve));
    try {
      await look(mine, api, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return failed(session, error);
      detail.say(error.status === 404 ? 'There is no such agent, or it was deleted.' : model.sentence(error.message), true);
    }
    await Promise.race([poked, pause(REFRESH_INTERVAL_MS, signal)]);
    await pause(BATCH_WINDOW_MS, signal);
  }
}

async function look(mine, api, signal) {
  const agent = await api.agent(mine.id, signal);
  if (signal.aborted) return;
  const said = JSON.stringify(agent);
  if (said !== mine.said) detail.show(agent);
  mine.said = said;
  detail.say('');
  document.title = `${agent.name} · Muster`;
  if (mine.eventsRefused) return;
  try {
    const events = await api.events(mine.id, signal);
    if (!signal.aborted) detail.events(events);
  } catch (error) {
    if (signal.aborted || error.status === 401) throw error;
    mine.eventsRefused = error.status === 403;
    detail.events([], mine.eventsRefused ? 'Your account may not list events in this namespace.' : model.sentence(error.message));
  }
}

// The visible view.

function changed(ids) {
  list.change(ids);
  announce(ids);
  if (view && ids.has(view.id)) {
    const item = fleet.agents.get(view.id);
    if (item) detail.item(item);
    view.poke();
  }
  show();
}

/** Announces changed phases to screen readers. */
function announce(ids) {
  const news = [];
  for (const id of ids) {
    const item = fleet.agents.get(id);
    const before = phases.get(id);
    if (item) phases.set(id, item.status);
    else phases.delete(id);
    if (view && view.id !== id) continue;
    if (item && before && before !== item.status) news.push(`${item.name} is now ${model.word(item.status)}`);
    else if (!item && before && session) news.push('An agent was deleted');
  }
  if (news.length > 0) setText(byId('about'), news.length > 3 ? `${news.length} agents changed` : news.join('. '));
}

const LIVE = { connecting: 'Connecting', live: 'Live', waiting: 'Reconnecting', refused: 'Refused' };

function show() {
  const loaded = Boolean(session?.loaded) || fleet.agents.size > 0;
  const refused = session?.state === 'refused';
  byId('sign-in').hidden = Boolean(session);
  byId('sign-out').hidden = !session;
  byId('live').hidden = !session;
  byId('live').dataset.state = session?.state ?? '';
  setText(byId('live'), session ? LIVE[session.state] : '');
  byId('loading').hidden = !session || loaded || Boolean(session.problem);
  byId('list').hidden = !session || !loaded || Boolean(view) || refused;
  byId('agent').hidden = !session || !view || refused;
  byId('trouble').hidden = !session?.problem;
  if (session?.problem) setText(byId('trouble-text'), trouble(session, loaded));
  if (!view) document.title = 'Fleet · Muster';
}

function trouble({ problem, since, state }, loaded) {
  const what = model.sentence(problem.message).slice(0, -1);
  if (state === 'refused') return `${what}.`;
  if (!loaded) return `${what}. The page retries automatically.`;
  return `${what}. The page shows the state of ${since?.toLocaleTimeString() ?? 'a moment ago'} and retries automatically.`;
}

byId('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = readToken(byId('token').value);
  if (!token) return refuse('This is no token: it has spaces or other characters in it that tokens do not have.');
  refuse('');
  byId('token').value = '';
  signIn(token);
  byId('main').focus({ preventScroll: true });
});
byId('sign-out').addEventListener('click', () => {
  signOut();
  // The search and the id in the URL belong to the session too.
  go('', model.readFilter(''), true);
});
byId('trouble-again').addEventListener('click', again);
byId('home').addEventListener('click', (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  listScroll = 0;
  go('', model.readFilter(''));
});
addEventListener('popstate', route);
addEventListener('online', () => session?.retry());
setInterval(() => {
  if (document.hidden || !session) return;
  const now = Date.now() + session.api.clockOffset;
  if (view) detail.tick(now);
  else list.tick(now);
}, 1_000);

const kept = sessionStorage.getItem(TOKEN);
if (kept) signIn(kept);
else {
  route();
  byId('token').focus();
}
