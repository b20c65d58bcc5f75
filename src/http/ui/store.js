// The agents as they were last heard of, from lists and from the stream.

/** All agents by id. Tells `onChange` once a frame which of them changed, however many did. */
export class Fleet {
  agents = new Map();
  #changed = new Set();
  #frame = null;
  #schedule;
  #onChange;

  constructor(onChange, schedule = (work) => requestAnimationFrame(work)) {
    this.#onChange = onChange;
    this.#schedule = schedule;
  }

  /** Takes what is said of one agent. */
  put(item) {
    if (item.status === 'deleted') return this.#remove(item.id);
    this.agents.set(item.id, item);
    this.#touch(item.id);
  }

  /** Takes a list. When it is complete, agents that are not in it are gone. */
  list(all, complete) {
    for (const item of all.values()) this.put(item);
    if (!complete) return;
    for (const id of [...this.agents.keys()]) if (!all.has(id)) this.#remove(id);
  }

  #remove(id) {
    if (this.agents.delete(id)) this.#touch(id);
  }

  #touch(id) {
    this.#changed.add(id);
    this.#frame ??= this.#schedule(() => {
      const changed = this.#changed;
      this.#changed = new Set();
      this.#frame = null;
      this.#onChange(changed);
    });
  }
}
