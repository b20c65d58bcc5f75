// Helpers for the document. A text of the API becomes a text node and is never parsed as HTML.

/** Creates an element with attributes and children. Strings become text nodes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets the text of an element, if the text differs. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, if the value differs. Null removes the attribute. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Orders the children of a parent, and moves only children at another position. */
export function order(parent, nodes) {
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const kept = new WeakMap();

/** Shows items as children of a parent. Each item keeps its own node. `create(item)` returns `{node, update}`. */
export function keyed(parent, items, key, create) {
  const old = kept.get(parent) ?? new Map();
  const rows = new Map();
  for (const item of items) {
    const row = old.get(key(item)) ?? create(item);
    row.update(item);
    rows.set(key(item), row);
  }
  kept.set(parent, rows);
  order(parent, [...rows.values()].map((row) => row.node));
}

/** Creates a node with a relative time, which is updated. The title is the absolute time. */
export function timeNode(className = '') {
  return el('time', { 'data-time': '', class: className || null });
}

/** Sets the time of a time node. */
export function setTime(node, time, text) {
  const date = new Date(time ?? NaN);
  const known = !Number.isNaN(date.getTime());
  setAttribute(node, 'datetime', known ? date.toISOString() : null);
  setAttribute(node, 'title', known ? date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'long' }) : null);
  setText(node, text);
}
