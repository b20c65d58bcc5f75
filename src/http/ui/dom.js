// The document. Text of the API becomes text and nothing else: nothing on this page is parsed as HTML.

/** An element with attributes and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets the text of an element, if it is another. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, if it is another; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Puts the children of a parent into this order and moves only those that stand elsewhere. */
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

/** Shows items as children of a parent, each in a node of its own that stays. `create(item)` gives `{node, update}`. */
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

/** A time, relative and ticking; the absolute one is its title. */
export function timeNode(className = '') {
  return el('time', { 'data-time': '', class: className || null });
}

/** Gives a time node another time. */
export function setTime(node, time, text) {
  const date = new Date(time ?? NaN);
  const known = !Number.isNaN(date.getTime());
  setAttribute(node, 'datetime', known ? date.toISOString() : null);
  setAttribute(node, 'title', known ? date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'long' }) : null);
  setText(node, text);
}
