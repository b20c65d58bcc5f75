// The list of agents, filtered and grouped by board. Each agent keeps its row.

import { el, keyed, order, setAttribute, setText, setTime, timeNode } from './dom.js';
import * as model from './model.js';

const byId = (id) => document.getElementById(id);

/** The list of agents. It calls `on.filter(filter, typed)` with a chosen filter, and `on.open(id)` with a chosen agent. */
export class List {
  #fleet;
  #filter = model.readFilter('');
  #rows = new Map();
  #groups = new Map();
  #on;

  constructor(fleet, on) {
    this.#fleet = fleet;
    this.#on = on;
    byId('filter-text').addEventListener('input', (event) => this.#choose({ text: event.target.value }, true));
    for (const part of ['board', 'gateway', 'role']) {
      byId(`filter-${part}`).addEventListener('change', (event) => this.#choose({ [part]: event.target.value }));
    }
    byId('filter-clear').addEventListener('click', () => {
      this.#on.filter(model.readFilter(''), false);
      byId('filter-text').focus();
    });
  }

  /** Sets the filter. */
  filter(filter) {
    this.#filter = filter;
    const text = byId('filter-text');
    if (text.value !== filter.text) text.value = filter.text;
    for (const row of this.#rows.values()) row.show(filter);
    this.#sum();
  }

  /** Updates the agents with these ids. */
  change(ids) {
    const dirty = new Set();
    for (const id of ids) this.#take(id, this.#fleet.agents.get(id), dirty);
    for (const group of dirty) {
      if (group.rows.size > 0) group.sort();
      else this.#groups.delete(group.key);
    }
    if (dirty.size > 0) {
      const groups = [...this.#groups.values()].sort((a, b) => model.compareGroups(a.about, b.about));
      order(byId('groups'), groups.map((group) => group.node));
    }
    this.#sum();
  }

  /** Brings the relative times up to date. */
  tick(now) {
    for (const row of this.#rows.values()) row.tick(now);
  }

  #choose(part, typed = false) {
    this.#on.filter({ ...this.#filter, ...part }, typed);
  }

  #take(id, item, dirty) {
    let row = this.#rows.get(id);
    const before = row?.group;
    if (!item) {
      if (!row) return;
      this.#rows.delete(id);
      before.rows.delete(row);
      row.node.remove();
      dirty.add(before);
      return;
    }
    const about = model.groupOf(item);
    const group = this.#groups.get(about.key) ?? new Group(about);
    this.#groups.set(about.key, group);
    if (!row) this.#rows.set(id, (row = new Row(item, (event) => this.#opened(event, id))));
    const moved = before !== group || row.item.name !== item.name || row.item.is_board_lead !== item.is_board_lead;
    row.update(item);
    row.show(this.#filter);
    if (group.name(about) || moved) dirty.add(group);
    if (before !== group) {
      if (before) before.rows.delete(row), dirty.add(before);
      row.group = group;
      group.rows.add(row);
    }
  }

  #opened(event, id) {
    // The browser handles a click that opens another tab or a download.
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    this.#on.open(id);
  }

  #sum() {
    const total = this.#rows.size;
    const counts = new Map();
    let shown = 0;
    for (const row of this.#rows.values()) {
      if (row.rest) counts.set(row.item.status, (counts.get(row.item.status) ?? 0) + 1);
      if (row.shown) shown += 1;
    }
    for (const group of this.#groups.values()) group.sum();
    this.#phases(counts);
    this.#choices();
    const filtered = model.isFiltered(this.#filter);
    setText(byId('found'), filtered ? `${shown} of ${total} agents` : total === 1 ? '1 agent' : `${total} agents`);
    byId('filter-clear').hidden = !filtered;
    byId('none').hidden = shown > 0 || total === 0;
    byId('empty').hidden = total > 0;
    document.querySelector('.filters').hidden = total === 0;
  }

  #phases(counts) {
    const { phases } = this.#filter;
    const all = [...counts.values()].reduce((a, b) => a + b, 0);
    const shown = model.PHASES.filter((phase) => counts.has(phase) || phases.has(phase));
    const items = [
      { phase: '', text: 'All', count: all, on: phases.size === 0 },
      ...shown.map((phase) => ({ phase, text: model.word(phase), count: counts.get(phase) ?? 0, on: phases.has(phase) })),
    ];
    keyed(byId('phases'), items, (item) => item.phase, ({ phase }) => {
      const count = el('b');
      const text = el('span');
      const node = el('button', { type: 'button', class: 'phase', 'data-phase': phase || 'all' }, count, ' ', text);
      node.addEventListener('click', () => this.#toggle(phase));
      return {
        node,
        update(item) {
          setText(count, String(item.count));
          setText(text, item.text);
          setAttribute(node, 'aria-pressed', String(item.on));
        },
      };
    });
  }

  #toggle(phase) {
    const phases = new Set(phase ? this.#filter.phases : []);
    if (phase && !phases.delete(phase)) phases.add(phase);
    this.#choose({ phases });
  }

  #choices() {
    const boards = new Map();
    const gateways = new Map();
    const roles = new Map();
    for (const { item } of this.#rows.values()) {
      if (item.board_id) boards.set(item.board_id, item.board_name ?? item.board_id);
      if (item.gateway_id) gateways.set(item.gateway_id, item.gateway_name ?? item.gateway_id);
      if (item.role) roles.set(item.role, model.word(item.role));
    }
    choices(byId('filter-board'), 'All boards', boards, this.#filter.board);
    choices(byId('filter-gateway'), 'All gateways', gateways, this.#filter.gateway);
    choices(byId('filter-role'), 'All roles', roles, this.#filter.role);
  }
}

function choices(select, all, options, chosen) {
  // A shared URL may name a missing object. The filter must still be visible.
  if (chosen && !options.has(chosen)) options.set(chosen, `${chosen} (not found)`);
  const sorted = [...options].sort((a, b) => model.compareText(a[1], b[1]));
  keyed(select, [['', all], ...sorted], ([value]) => value, ([value]) => {
    const node = el('option', { value });
    return { node, update: ([, text]) => setText(node, text) };
  });
  if (select.value !== chosen) select.value = chosen;
  select.parentElement.hidden = options.size < 2 && !chosen;
  setAttribute(select, 'data-on', chosen ? '' : null);
}

/** The group of one board's or one gateway's agents. */
class Group {
  rows = new Set();
  #title = el('h2');
  #meta = el('p', { class: 'meta' });
  #flaws = el('p', { class: 'meta flaws' });
  #list = el('ul', { class: 'rows' });

  constructor(about) {
    this.key = about.key;
    this.node = el('section', { class: 'group' }, el('header', {}, this.#title, this.#meta, this.#flaws), this.#list);
    this.name(about);
  }

  /** Sets the names. Returns whether a name changed. */
  name(about) {
    const changed = this.about?.name !== about.name || this.about.gateway !== about.gateway;
    this.about = about;
    setText(this.#title, about.name);
    return changed;
  }

  sort() {
    const rows = [...this.rows].sort((a, b) => model.compareAgents(a.item, b.item));
    order(this.#list, rows.map((row) => row.node));
  }

  sum() {
    let shown = 0;
    let flawed = 0;
    for (const row of this.rows) {
      if (!row.shown) continue;
      shown += 1;
      if (row.item.ready !== true) flawed += 1;
    }
    this.node.hidden = shown === 0;
    const { kind, gateway, name } = this.about;
    const where = kind === 'Board' && gateway && gateway !== name ? `Board on ${gateway}` : kind;
    const count = shown === 1 ? '1 agent' : `${shown} agents`;
    setText(this.#meta, [where, count].filter(Boolean).join(' · '));
    setText(this.#flaws, flawed ? `${flawed} not ready` : '');
  }
}

/** The row of one agent. */
class Row {
  shown = true;
  rest = true;
  group = null;
  #name = el('span', { class: 'name' });
  #role = el('span', { class: 'tag' });
  #observed = el('span', { class: 'tag' }, 'Observed');
  #sub = el('span', { class: 'sub' });
  #badge = badge();
  #reason = el('strong');
  #message = el('span');
  #trouble = el('p', { class: 'trouble' }, this.#reason, ' ', this.#message);
  #task = el('p', { class: 'task' });
  #time = timeNode();
  #link = el('a', {}, this.#name);

  constructor(item, onOpen) {
    this.item = item;
    this.#link.addEventListener('click', onOpen);
    const who = el('div', { class: 'who' }, this.#link, ' ', this.#role, ' ', this.#observed, this.#sub);
    const what = el('div', { class: 'what' }, this.#task, this.#trouble);
    const seen = el('p', { class: 'seen' }, el('span', { class: 'lead' }, 'Last seen '), this.#time);
    this.node = el('li', { class: 'row', 'data-id': item.id }, who, this.#badge.node, what, seen);
  }

  update(item) {
    this.item = item;
    this.haystack = model.searchText(item);
    setText(this.#name, item.name);
    setAttribute(this.#link, 'href', model.writeQuery(model.readFilter(''), item.id));
    setText(this.#role, model.word(item.role));
    this.#role.hidden = !item.role || item.role.toLowerCase() === 'worker';
    this.#observed.hidden = !item.is_observed;
    setText(this.#sub, `${item.namespace}/${item.resource_name}`);
    this.#badge.update(item.status);
    this.#trouble.hidden = item.ready === true;
    setText(this.#reason, item.reason ?? '');
    setText(this.#message, item.message ?? '');
    this.#task.hidden = !item.current_task_id;
    setText(this.#task, item.current_task_id ? `Task ${item.current_task_id}` : '');
    this.tick(this.now ?? Date.now(), true);
  }

  show(filter) {
    this.rest = model.matchesRest(this.item, filter, this.haystack);
    this.shown = this.rest && model.matchesPhase(this.item, filter);
    this.node.hidden = !this.shown;
  }

  tick(now, always = false) {
    this.now = now;
    if (!always && !this.shown) return;
    const text = model.ago(this.item.last_seen_at, now);
    if (text === this.said && this.item.last_seen_at === this.at) return;
    this.said = text;
    this.at = this.item.last_seen_at;
    setTime(this.#time, this.at, text);
  }
}

/** A node with a phase as a coloured word. */
export function badge() {
  const node = el('span', { class: 'badge' });
  return {
    node,
    update(status) {
      setAttribute(node, 'data-phase', status);
      setText(node, model.word(status));
    },
  };
}
