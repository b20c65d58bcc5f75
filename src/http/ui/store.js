// The latest state of the agents, from lists and from the stream.

/** All agents by id. `onChange` is called at most once a frame, with the ids of the changed agents. */
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

  /** Sets the state of one agent. */
  put(item) {
    if (item.status === 'deleted') return this.#remove(item.id);
    this.agents.set(item.id, item);
    this.#touch(item.id);
  }

  /** Adds the agents of a list. A complete list removes agents that are not in it. */
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
