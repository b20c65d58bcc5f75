// The page of one agent: first its problems, then all details.

import { el, keyed, setAttribute, setText, setTime, timeNode } from './dom.js';
import { badge } from './list.js';
import * as model from './model.js';

/** The page of one agent. `onBack` is called when the person returns to the list. */
export class Detail {
  #root = document.getElementById('agent');
  #now = Date.now();
  #parts = {};
  #onBack;

  constructor(onBack) {
    this.#onBack = onBack;
    this.clear();
  }

  /** Replaces the page by an empty page. Nothing of the agent stays in the document. */
  clear() {
    const back = el('a', { class: 'back', href: './' }, '← All agents');
    back.addEventListener('click', (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.#onBack();
    });
    const p = (this.#parts = {});
    p.title = el('h1', { tabindex: '-1' });
    p.badge = badge();
    p.sub = el('p', { class: 'sub' });
    p.trouble = el('p', { class: 'notice', role: 'status', hidden: '' });
    const head = el('header', { class: 'head' }, el('div', { class: 'title' }, p.title, p.badge.node), p.sub);
    p.steps = section('What to do next', el('ul', { class: 'steps' }));
    p.facts = section('Agent', el('dl'));
    p.conditions = section('Conditions', el('ul', { class: 'conditions' }));
    p.error = section('Last error', el('p'), el('p', { class: 'hint' }));
    p.files = section('Workspace files', el('ul', { class: 'files' }));
    p.token = section('Token', el('dl'));
    p.wake = section('Wakes', el('dl'));
    p.requests = section('Requests', el('ul', { class: 'lines' }));
    p.profile = section('Identity profile', el('dl'));
    p.heartbeat = section('Heartbeat', el('dl'));
    p.events = section('Events', el('ul', { class: 'lines' }), el('p', { class: 'hint' }));
    p.commands = section('Commands', el('ul', { class: 'commands' }));
    p.body = el('div', { class: 'detail' },
      el('div', {}, p.steps.node, p.error.node, p.conditions.node, p.events.node, p.commands.node),
      el('div', {}, p.facts.node, p.files.node, p.token.node, p.wake.node, p.requests.node, p.heartbeat.node, p.profile.node));
    this.#root.replaceChildren(back, p.trouble, head, p.body);
  }

  /** Starts with another agent. `item` is the agent's item in the list, if the list has it. */
  open(id, item) {
    const p = this.#parts;
    this.say('');
    setText(p.title, item?.name ?? 'Agent');
    setText(p.sub, item ? `${item.namespace}/${item.resource_name}` : id);
    p.badge.node.hidden = !item;
    if (item) p.badge.update(item.status);
    p.body.hidden = true;
  }

  focus() {
    this.#parts.title.focus({ preventScroll: true });
  }

  /** Shows a problem of this page; hides it when the text is empty. */
  say(text, bad = false) {
    const { trouble } = this.#parts;
    setText(trouble, text);
    trouble.hidden = !text;
    trouble.classList.toggle('bad', bad);
  }

  /** Shows the agent's item of the list before the details are loaded. */
  item(item) {
    this.#parts.badge.node.hidden = false;
    this.#parts.badge.update(item.status);
    setText(this.#parts.title, item.name);
  }

  /** Shows the details of an agent. */
  show(agent) {
    const p = this.#parts;
    this.item(agent);
    const words = [agent.role && model.word(agent.role), agent.is_observed && 'Observed'].filter(Boolean);
    setText(p.sub, [...words, `${agent.namespace}/${agent.resource_name}`].join(' · '));
    const conditions = agent.conditions ?? [];
    this.#steps(model.nextSteps(conditions));
    this.#conditions(model.sortConditions(conditions));
    facts(p.facts, identity(agent));
    const { last_error: error } = agent;
    p.error.node.hidden = !error;
    setText(p.error.inner[0], error ? [error.code, error.message].filter(Boolean).join(': ') : '');
    const hint = error?.transient ? 'Muster retries automatically.' : 'Muster retries after the next change.';
    setText(p.error.inner[1], error ? hint : '');
    this.#files(agent.files ?? []);
    facts(p.token, token(agent.token));
    facts(p.wake, wake(agent.wake));
    this.#requests(agent.requests ?? []);
    facts(p.profile, model.settings(agent.identity_profile));
    facts(p.heartbeat, model.settings(agent.heartbeat_config));
    this.#commands(model.commands(agent));
    p.body.hidden = false;
    this.tick(this.#now);
  }

  /** Shows the agent's events, or the cause of missing events. */
  events(items, why = '') {
    const { events } = this.#parts;
    setText(events.inner[1], why || (items.length === 0 ? 'None in the last hour.' : ''));
    const sorted = [...items].sort((a, b) => model.compareText(b.last_seen_at, a.last_seen_at));
    keyed(events.inner[0], sorted, (e) => `${e.type} ${e.reason} ${e.message}`, () => {
      const [name, message, time] = [el('strong'), el('p'), timeNode()];
      const count = el('span', { class: 'soft' });
      const node = el('li', {}, el('p', { class: 'over' }, name, ' ', count, ' ', time), message);
      return {
        node,
        update(event) {
          setAttribute(node, 'data-tone', event.type === 'Warning' ? 'bad' : null);
          setText(name, event.type === 'Warning' ? `Warning: ${event.reason}` : event.reason);
          setText(count, event.count > 1 ? `${event.count} times` : '');
          setText(message, event.message ?? '');
          setAttribute(time, 'data-time', event.last_seen_at ?? '');
        },
      };
    });
    this.tick(this.#now);
  }

  /** Updates the relative times. */
  tick(now) {
    this.#now = now;
    for (const node of this.#root.querySelectorAll('time[data-time]')) {
      const time = node.getAttribute('data-time');
      setTime(node, time, model.ago(time, now));
    }
  }

  #steps(steps) {
    const { steps: part } = this.#parts;
    part.node.hidden = steps.length === 0;
    keyed(part.inner[0], steps, (step) => step.type, () => {
      const [name, message] = [el('strong'), el('p')];
      const node = el('li', {}, name, message);
      return {
        node,
        update(step) {
          setAttribute(node, 'data-tone', model.tone(step));
          setText(name, step.reason || step.type);
          setText(message, step.message || `${step.type} is ${step.status}`);
        },
      };
    });
  }

  #conditions(conditions) {
    const { conditions: part } = this.#parts;
    part.node.hidden = conditions.length === 0;
    keyed(part.inner[0], conditions, (condition) => condition.type, () => {
      const [type, status, reason, message, time] = [el('strong'), el('span', { class: 'truth' }), el('span', { class: 'soft' }), el('p'), timeNode()];
      const node = el('li', {}, el('p', { class: 'over' }, type, ' ', status, ' ', reason, ' ', time), message);
      return {
        node,
        update(condition) {
          setAttribute(node, 'data-tone', model.tone(condition));
          setText(type, condition.type);
          setText(status, condition.status);
          setText(reason, condition.reason ?? '');
          setText(message, condition.message ?? '');
          setAttribute(time, 'data-time', condition.last_transition_time ?? '');
        },
      };
    });
  }

  #files(files) {
    const { files: part } = this.#parts;
    part.node.hidden = files.length === 0;
    keyed(part.inner[0], files, (file) => file.name, () => {
      const [name, size, state, hint] = [el('code'), el('span', { class: 'soft' }), el('span', { class: 'truth' }), el('span', { class: 'soft hint' })];
      const node = el('li', {}, name, state, hint, size);
      return {
        node,
        update(file) {
          const { text, tone, hint: why } = model.fileState(file);
          setAttribute(node, 'data-tone', tone);
          setText(name, file.name);
          setText(state, text);
          setText(hint, why);
          setText(size, Number.isFinite(file.size) ? `${file.size.toLocaleString('en')} bytes` : '');
        },
      };
    });
  }

  #requests(requests) {
    const { requests: part } = this.#parts;
    part.node.hidden = requests.length === 0;
    keyed(part.inner[0], requests, (request) => request.kind, ({ kind }) => {
      const [asked, done, open] = [timeNode(), timeNode(), el('span', {}, 'nothing was to be done')];
      const handled = el('span', {}, 'handled ', done);
      const node = el('li', {}, el('strong', {}, model.label(kind)), ' requested ', asked, ', ', handled, open);
      return {
        node,
        update(request) {
          setAttribute(asked, 'data-time', request.requested_at ?? '');
          setAttribute(done, 'data-time', request.handled_at ?? '');
          handled.hidden = !request.handled_at;
          open.hidden = Boolean(request.handled_at);
        },
      };
    });
  }

  #commands(commands) {
    keyed(this.#parts.commands.inner[0], commands, (command) => command.what, ({ what }) => {
      const code = el('code');
      const copy = el('button', { type: 'button', class: 'quiet', 'aria-label': `Copy: ${what}` }, 'Copy');
      copy.addEventListener('click', () => copied(copy, code));
      const node = el('li', {}, el('p', {}, what), el('div', { class: 'command' }, el('pre', { tabindex: '0' }, code), copy));
      return { node, update: ({ text }) => setText(code, text) };
    });
  }
}

function section(title, ...inner) {
  return { node: el('section', { class: 'part' }, el('h2', {}, title), ...inner), inner };
}

/** Shows lines of `{label, text}` or `{label, time}` in a section. Hides a section without lines. */
function facts(part, lines) {
  part.node.hidden = lines.length === 0;
  keyed(part.inner[0], lines, (line) => line.label, (line) => {
    const value = 'time' in line ? timeNode() : el(line.code ? 'code' : 'span');
    return {
      node: el('div', {}, el('dt', {}, line.label), el('dd', {}, value)),
      update: ({ text, time }) => (time === undefined ? setText(value, text) : setAttribute(value, 'data-time', time ?? '')),
    };
  });
}

function identity(agent) {
  const code = (label, text) => (text ? [{ label, text, code: true }] : []);
  const line = (label, text) => (text ? [{ label, text }] : []);
  return [
    ...line('Board', agent.board_name),
    ...line('Gateway', agent.gateway_name),
    ...line('Current task', agent.current_task_id),
    { label: 'Last seen', time: agent.last_seen_at },
    ...code('Id on the gateway', agent.openclaw_agent_id),
    ...code('Session', agent.openclaw_session_id),
    ...code('Workspace', agent.workspace_path),
    ...code('Id in the API', agent.id),
    { label: 'Created', time: agent.created_at },
    { label: 'Changed', time: agent.updated_at },
  ];
}

function token(token) {
  if (!token) return [];
  const confirmed = token.confirmed_at
    ? { label: 'In use since', time: token.confirmed_at }
    : { label: 'In use', text: 'not yet: the agent has not called with it' };
  return [{ label: 'Revision', text: String(token.revision ?? '') }, { label: 'Issued', time: token.issued_at }, confirmed];
}

function wake(wake) {
  if (!wake) return [];
  return [
    { label: 'Attempts', text: String(wake.attempts ?? 0) },
    { label: 'Last sent', time: wake.last_sent_at },
    ...(wake.deadline ? [{ label: 'Answer due', time: wake.deadline }] : []),
  ];
}

async function copied(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    setText(button, 'Copied');
  } catch {
    // Without HTTPS the browser has no clipboard API. The text is selected, so that the keyboard can copy it.
    getSelection().selectAllChildren(code);
    setText(button, 'Selected');
  }
  setTimeout(() => setText(button, 'Copy'), 2_000);
}
