// The stream of events, and what becomes of it: it is opened anew until it is there again.

import { address, get } from "./api.js";

const TYPES = ["snapshot", "status", "circuit", "stream", "bandwidth"];
const AGAIN = 2000; // milliseconds
const SILENCE = 45000; // a comment comes every 15 s, but scripts are not told of it

/**
 * Listen, for as long as the page is there.
 *
 * `heard(type, value)` is called for each event; `changed(state)` with "live", "lost" (it is being
 * tried again) or "refused" (whoever looks is no operator any more).
 */
export class Live {
  #source = null;
  #state = "";
  #timer = 0;

  constructor(heard, changed) {
    this.heard = heard;
    this.changed = changed;
  }

  open() {
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource(address("events"));
    this.#source = source;
    for (const type of TYPES)
      source.addEventListener(type, (event) => {
        this.#is("live");
        this.#watch();
        this.heard(type, JSON.parse(event.data));
      });
    source.addEventListener("error", () => this.#failed(source));
    this.#watch();
  }

  #watch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), SILENCE);
  }

  async #failed(source) {
    if (source !== this.#source) return;
    this.#is("lost");
    // The browser tries again by itself, but at ever longer intervals, and never after a refusal.
    source.close();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retry(), AGAIN);
  }

  async #retry() {
    try {
      await get("config");
    } catch (error) {
      if (error.status === 401) {
        this.#is("refused");
        return;
      }
      this.#timer = setTimeout(() => this.#retry(), AGAIN);
      return;
    }
    this.open();
  }

  #is(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.changed(state);
  }
}
