// The decisions of the page, by value.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readToken } from '../../src/http/ui/api.js';
import * as model from '../../src/http/ui/model.js';
import { Fleet } from '../../src/http/ui/store.js';

const agent = (more = {}) => ({
  id: 'u1', name: 'Dev Ops', namespace: 'fleet', resource_name: 'dev-ops', role: 'Worker', board_id: 'b1', board_name: 'Ops',
  gateway_id: 'g1', gateway_name: 'openclaw', status: 'active', ready: true, reason: 'Reconciled', message: '', ...more,
});
const condition = (type, status, reason = 'R', message = `${type} says`) => ({ type, status, reason, message });
const matches = (item, query) => {
  const filter = model.readFilter(query);
  return model.matchesRest(item, filter, model.searchText(item)) && model.matchesPhase(item, filter);
};

test('a filter survives a round trip through the URL', () => {
  for (const query of ['', '?phase=failed,active', '?board=b1&gateway=g1&role=Lead&q=a+b%26c', '?agent=u1&q=x']) {
    const id = new URLSearchParams(query).get('agent') ?? '';
    assert.equal(model.writeQuery(model.readFilter(query), id), query);
  }
});

test('an unknown phase is ignored', () => {
  assert.equal(model.isFiltered(model.readFilter('?phase=flying')), false);
});

test('a filter requires each of its parts and every word of the text', () => {
  const item = agent({ current_task_id: 'T-7', message: 'Fix it' });
  for (const query of ['', '?phase=active', '?phase=idle,active', '?board=b1', '?gateway=g1', '?role=Worker', '?q=t-7+FIX', '?q=fleet/dev']) {
    assert.ok(matches(item, query), query);
  }
  for (const query of ['?phase=idle', '?board=b2', '?gateway=g2', '?role=Lead', '?q=fix+nothing', '?phase=active&q=zzz']) {
    assert.ok(!matches(item, query), query);
  }
});

test('agents are grouped by board, main agents by gateway, and agents without either by name', () => {
  const group = (more) => model.groupOf(agent(more));
  assert.deepEqual([group().kind, group().name], ['Board', 'Ops']);
  const main = group({ board_id: null, board_name: null, is_gateway_main: true });
  assert.deepEqual([main.kind, main.name], ['Gateway', 'openclaw']);
  const lost = group({ board_id: null, board_name: 'elsewhere', gateway_id: null, gateway_name: null });
  assert.deepEqual([lost.kind, lost.name], ['Board', 'elsewhere']);
  assert.equal(group({ board_id: null, board_name: null, gateway_id: null, gateway_name: null }).name, 'No board');
  const sorted = [lost, model.groupOf(agent()), main].sort(model.compareGroups);
  assert.deepEqual(sorted.map((g) => g.name), ['openclaw', 'Ops', 'elsewhere']);
});

test('the lead comes first and the others by name in natural order', () => {
  const items = [agent({ name: 'a10' }), agent({ name: 'a9' }), agent({ name: 'z', is_board_lead: true })];
  assert.deepEqual(items.sort(model.compareAgents).map((i) => i.name), ['z', 'a9', 'a10']);
});

test('a time is shown in its natural unit', () => {
  const now = Date.parse('2026-05-01T12:00:00Z');
  const before = (seconds) => model.ago(new Date(now - seconds * 1000).toISOString(), now);
  assert.deepEqual([0, 12, 59, 60, 3599, 3600, 86_400 * 3, -90].map(before), [
    'just now', '12 s ago', '59 s ago', '1 min ago', '59 min ago', '1 h ago', '3 d ago', 'in 1 min',
  ]);
  assert.deepEqual([model.ago(null, now), model.ago('soon', now)], ['never', 'soon']);
});

test('next steps list bad conditions by severity and each message once', () => {
  const steps = model.nextSteps([
    condition('Paused', 'False'),
    condition('SessionReady', 'Unknown'),
    condition('FilesSynced', 'False', 'TemplateError', 'same'),
    condition('CheckedIn', 'False', 'WaitingForCheckIn'),
    condition('Registered', 'True'),
    condition('Ready', 'False', 'TemplateError', 'same'),
    condition('Stalled', 'True', 'TemplateError', 'same'),
    condition('TokenIssued', 'False', 'SecretConflict'),
  ]);
  assert.deepEqual(steps.map((s) => s.type), ['Stalled', 'TokenIssued', 'SessionReady', 'CheckedIn']);
});

test('a healthy agent has no next steps', () => {
  const well = ['Ready', 'Registered', 'CheckedIn'].map((type) => condition(type, 'True'));
  assert.deepEqual(model.nextSteps([...well, condition('Paused', 'False'), condition('CheckedIn', 'False', 'NotWoken')]), []);
  assert.deepEqual(model.nextSteps([...well, condition('FilesSynced', 'Unknown', 'NotManaged')]), [], 'it is only observed');
});

test('Paused and Reconciling are no failures', () => {
  assert.deepEqual([condition('Paused', 'True'), condition('Reconciling', 'True'), condition('Stalled', 'True')].map(model.tone), [
    'note', 'note', 'bad',
  ]);
});

test('a file shows its state, even an unknown one', () => {
  assert.equal(model.fileState({ state: 'Folded', into: 'AGENTS.md' }).text, 'Folded into AGENTS.md');
  assert.equal(model.fileState({ state: 'TooLarge' }).tone, 'bad');
  assert.deepEqual(model.fileState({ state: 'Shiny' }), { text: 'Shiny', tone: 'unknown', hint: '' });
});

test('an API message becomes a sentence', () => {
  assert.deepEqual(['the token has ended', 'Ended.'].map(model.sentence), ['The token has ended.', 'Ended.']);
});

test('a name in a command is quoted', () => {
  const texts = model.commands({ namespace: 'fleet', resource_name: "x'; rm -rf $HOME" }).map((c) => c.text);
  assert.equal(texts[0], `kubectl -n fleet describe agents.muster.dev 'x'\\''; rm -rf $HOME'`);
  const plain = model.commands({ namespace: 'fleet', resource_name: 'one' }).map((c) => c.text);
  assert.ok(plain.includes(`kubectl -n fleet annotate --overwrite agents.muster.dev one muster.dev/rotate-requested-at="$(date -u +%FT%TZ)"`));
  const observed = model.commands({ namespace: 'fleet', resource_name: 'one', is_observed: true }).map((c) => c.text);
  assert.deepEqual(observed, ['kubectl -n fleet describe agents.muster.dev one']);
});

test('settings become lines without unset fields', () => {
  const lines = model.settings({ role: 'Dev', tone: null, expertise: ['a', 'b'], extra: { team_name: 'X' }, activeHours: { start: '8' }, enabled: false });
  assert.deepEqual(lines.map((l) => `${l.label} = ${l.text}`), [
    'Role = Dev', 'Expertise = a, b', 'Extra: team name = X', 'Active hours: start = 8', 'Enabled = no',
  ]);
});

test('a pasted token is trimmed and validated', () => {
  assert.equal(readToken('  Bearer abc.def \n'), 'abc.def');
  assert.deepEqual(['', 'a b', 'ä'].map(readToken), [null, null, null]);
});

test('changes are published once per frame and deleted agents are removed', () => {
  const frames = [];
  const published = [];
  const fleet = new Fleet((ids) => published.push([...ids]), (work) => frames.push(work));
  fleet.put(agent({ id: 'a' }));
  fleet.put(agent({ id: 'b' }));
  fleet.put(agent({ id: 'a', status: 'idle' }));
  assert.equal(frames.length, 1);
  frames.pop()();
  assert.deepEqual(published.pop(), ['a', 'b']);
  fleet.put(agent({ id: 'a', status: 'deleted' }));
  assert.deepEqual([...fleet.agents.keys()], ['b']);
});

test('only a complete list removes missing agents', () => {
  const fleet = new Fleet(() => {}, () => 1);
  fleet.put(agent({ id: 'a' }));
  fleet.list(new Map([['b', agent({ id: 'b' })]]), false);
  assert.deepEqual([...fleet.agents.keys()], ['a', 'b']);
  fleet.list(new Map([['b', agent({ id: 'b' })]]), true);
  assert.deepEqual([...fleet.agents.keys()], ['b']);
});
