// The decisions of the page, from values to values. This file does not use the document.

/** All phases. Phases that need a person come first. */
export const PHASES = ['failed', 'offline', 'provisioning', 'ready', 'active', 'idle', 'paused', 'deleting'];

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });
export const compareText = (a, b) => collator.compare(a ?? '', b ?? '') || (a < b ? -1 : a > b ? 1 : 0);

/** The display name of a phase such as `provisioning`. */
export const word = (text) => (text ? text[0].toUpperCase() + text.slice(1).replaceAll('_', ' ') : '');

/** A message of the API as a sentence. */
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, '')}.`;

/** The filter in a query. */
export function readFilter(search) {
  const query = new URLSearchParams(search);
  const phases = (query.get('phase') ?? '').split(',').filter((phase) => PHASES.includes(phase));
  return {
    phases: new Set(phases),
    board: query.get('board') ?? '',
    gateway: query.get('gateway') ?? '',
    role: query.get('role') ?? '',
    text: query.get('q') ?? '',
  };
}

/** The query for a filter and an open agent. */
export function writeQuery(filter, agent = '') {
  const phase = PHASES.filter((p) => filter.phases.has(p)).join(',');
  const { board, gateway, role, text } = filter;
  const parts = Object.entries({ agent, phase, board, gateway, role, q: text }).filter(([, value]) => value);
  // A comma needs no escape in a query, and people read these URLs.
  const query = new URLSearchParams(parts).toString().replaceAll('%2C', ',');
  return query ? `?${query}` : '';
}

export const isFiltered = ({ phases, board, gateway, role, text }) =>
  Boolean(phases.size || board || gateway || role || text.trim());

/** The text of an agent in which the free text is searched. */
export function searchText(item) {
  const { name, namespace, resource_name, role, board_name, gateway_name, status, reason, message } = item;
  const more = [item.current_task_id, item.openclaw_agent_id, item.id];
  const observed = item.is_observed ? 'observed' : '';
  const all = [name, `${namespace}/${resource_name}`, role, observed, board_name, gateway_name, status, reason, message, ...more];
  return all.filter(Boolean).join('\n').toLowerCase();
}

/** Whether an agent matches a filter, without the filter's phases. */
export function matchesRest(item, filter, haystack) {
  if (filter.board && filter.board !== item.board_id) return false;
  if (filter.gateway && filter.gateway !== item.gateway_id) return false;
  if (filter.role && filter.role !== item.role) return false;
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((w) => haystack.includes(w));
}

export const matchesPhase = (item, filter) => filter.phases.size === 0 || filter.phases.has(item.status);

/** The group of an agent: its board, or the gateway of a main agent. */
export function groupOf(item) {
  const { board_id, board_name, gateway_id, gateway_name, namespace } = item;
  const gateway = gateway_name ?? '';
  if (board_id) return { key: `board/${board_id}`, kind: 'Board', name: board_name ?? board_id, gateway, namespace };
  if (item.is_gateway_main && gateway_id) {
    return { key: `gateway/${gateway_id}`, kind: 'Gateway', name: gateway_name ?? gateway_id, gateway, namespace };
  }
  const name = board_name ?? gateway_name;
  if (!name) return { key: 'none', kind: '', name: 'No board', gateway: '', namespace: '' };
  const kind = item.is_gateway_main ? 'Gateway' : 'Board';
  return { key: `missing/${namespace}/${kind}/${name}`, kind, name, gateway, namespace };
}

/** Compares groups: by gateway, a gateway's main agents before its boards, groups without a gateway last. */
export function compareGroups(a, b) {
  const last = (g) => (g.gateway ? 0 : 1);
  const own = (g) => (g.kind === 'Gateway' ? 0 : 1);
  const names = () => compareText(a.gateway, b.gateway) || own(a) - own(b) || compareText(a.name, b.name);
  return last(a) - last(b) || names() || compareText(a.key, b.key);
}

/** Compares agents: the lead first, then by name. */
export function compareAgents(a, b) {
  const lead = (i) => (i.is_board_lead ? 0 : 1);
  return lead(a) - lead(b) || compareText(a.name, b.name) || compareText(a.id, b.id);
}

/** The age of a time: `12 s ago`. */
export function ago(time, now) {
  if (!time) return 'never';
  const seconds = Math.round((now - Date.parse(time)) / 1000);
  if (Number.isNaN(seconds)) return String(time);
  if (seconds < 0) return `in ${span(-seconds)}`;
  return seconds < 2 ? 'just now' : `${span(seconds)} ago`;
}

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Conditions that are good when false. All other conditions are good when true. */
const WELL_WHEN_FALSE = ['Paused', 'Reconciling', 'Stalled'];

/** Reasons of conditions that pass without a person, or that a person requested. */
const PASSING = [
  'Progressing', 'Deleting', 'WaitingForCheckIn', 'WaitingForConfigWrite', 'NotSettled', 'RateLimited', 'NotWoken', 'Suspended',
];

/** The rating of a condition: `good`, `bad`, `unknown`, or `note` for a reason that passes or was requested. */
export function tone({ type, status, reason }) {
  if (status === 'Unknown') return 'unknown';
  if ((status === 'True') !== WELL_WHEN_FALSE.includes(type)) return 'good';
  return type === 'Paused' || type === 'Reconciling' || PASSING.includes(reason) ? 'note' : 'bad';
}

const URGENCY = { bad: 0, unknown: 1, note: 2, good: 3 };
const FIRST = ['Stalled', 'Ready'];
const rank = ({ type }) => (FIRST.includes(type) ? FIRST.indexOf(type) : FIRST.length);

/** Conditions sorted for people. */
export const sortConditions = (conditions) =>
  [...conditions].sort(
    (a, b) => URGENCY[tone(a)] - URGENCY[tone(b)] || rank(a) - rank(b) || compareText(a.type, b.type),
  );

/** Reasons of conditions that are no problem, because the spec asks for them. */
const REQUESTED = ['NotWoken', 'NotManaged'];

/** The problems of an agent, each message once. */
export function nextSteps(conditions) {
  const said = new Set();
  return sortConditions(conditions).filter((condition) => {
    const text = condition.message || condition.reason;
    if (tone(condition) === 'good' || REQUESTED.includes(condition.reason) || !text || said.has(text)) return false;
    said.add(text);
    return true;
  });
}

/** The display names of the states of a file, and whether a state needs a person. */
export function fileState({ state, into }) {
  const states = {
    Synced: ['Synced', 'good', 'As rendered'],
    Kept: ['Kept', 'good', "Written once; now the agent's own"],
    Drifted: ['Drifted', 'note', 'Changed by another client, and left as the spec asks'],
    Ignored: ['Ignored', 'good', 'Written; what became of it since is not looked at'],
    Left: ['Left', 'note', 'No longer wanted; it stays on the gateway'],
    Folded: [into ? `Folded into ${into}` : 'Folded', 'good', 'The gateway takes no file of this name'],
    TooLarge: ['TooLarge', 'bad', 'Longer than the gateway passes on, and not written'],
    Pending: ['Pending', 'note', 'Not written yet'],
    Unmanaged: ['Unmanaged', 'unknown', 'Left alone, as the spec asks'],
  };
  const [text, tone, hint] = states[state] ?? [state ?? 'Unknown', 'unknown', ''];
  return { text, tone, hint };
}

/** A text quoted as one word of a shell. */
export const shellWord = (text) => (/^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** The kubectl commands for an agent. */
export function commands({ namespace, resource_name, is_observed }) {
  const [ns, name] = [shellWord(namespace), shellWord(resource_name)];
  const request = (kind) =>
    `kubectl -n ${ns} annotate --overwrite agents.muster.dev ${name} muster.dev/${kind}-requested-at="$(date -u +%FT%TZ)"`;
  const describe = { what: 'See everything about it', text: `kubectl -n ${ns} describe agents.muster.dev ${name}` };
  // An agent that Muster only observes is neither written nor paused.
  if (is_observed) return [describe];
  return [
    describe,
    { what: 'Read and write everything again', text: request('sync') },
    { what: 'The same, files that are normally kept included', text: request('overwrite') },
    { what: 'Replace its token', text: request('rotate') },
    { what: 'Write BOOTSTRAP.md again', text: request('bootstrap') },
    { what: 'Reset its session', text: request('reset-session') },
    { what: 'Pause it', text: `kubectl -n ${ns} patch agents.muster.dev ${name} --type=merge -p '{"spec":{"suspend":true}}'` },
    { what: 'Let it go on', text: `kubectl -n ${ns} patch agents.muster.dev ${name} --type=merge -p '{"spec":{"suspend":false}}'` },
  ];
}

/** The display name of a field such as `communication_style` or `communicationStyle`. */
export function label(key) {
  const words = key.replaceAll('_', ' ').replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase();
  return words[0].toUpperCase() + words.slice(1);
}

/** The lines for an object of settings, without settings that are not set. */
export function settings(object) {
  return Object.entries(object ?? {}).flatMap(([key, value]) => {
    if (value === null || value === '' || (Array.isArray(value) && value.length === 0)) return [];
    if (Array.isArray(value)) return [{ label: label(key), text: value.map(plain).join(', ') }];
    if (typeof value !== 'object') return [{ label: label(key), text: plain(value) }];
    return settings(value).map((inner) => ({ label: `${label(key)}: ${inner.label.toLowerCase()}`, text: inner.text }));
  });
}

const plain = (value) =>
  typeof value === 'object' ? JSON.stringify(value) : value === true ? 'yes' : value === false ? 'no' : String(value);
