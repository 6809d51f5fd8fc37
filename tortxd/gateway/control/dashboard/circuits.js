// The circuits, each with its path and the streams on it. Only what has changed is drawn anew.

import { closeCircuit, rotateKeyOf } from "./api.js";
import { arrange, byId, make, say, setHidden, setText } from "./dom.js";
import { age, count, country, hue, relayName, retired, seconds, WAYS, words } from "./format.js";
import { path } from "./relays.js";
import { now } from "./store.js";

const FIRST = 20;
const MORE = 50;
const MOST_STREAMS = 3;

const STATES = {
  LAUNCHED: "building",
  EXTENDED: "building",
  GUARD_WAIT: "waiting for its guard",
  BUILT: "built",
  CLOSED: "closed",
  FAILED: "failed",
};
const CONFLUX = "Conflux: the legs of a set end at one exit, and traffic takes the faster one";
const STREAM_STATES = {
  NEW: "new",
  NEWRESOLVE: "looking up",
  REMAP: "starting",
  SENTCONNECT: "connecting",
  SENTRESOLVE: "looking up",
  SUCCEEDED: "open",
  DETACHED: "waiting",
  CONTROLLER_WAIT: "waiting",
  XOFF_SENT: "paused",
  XOFF_RECV: "paused",
  XON_SENT: "open",
  XON_RECV: "open",
};

/** The key that circuits and streams are for. */
export function keyTag(isolation) {
  return make("span", { class: `tag hue${hue(isolation)}`, text: isolation });
}

async function attempt(button, work, done) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    const answer = await work();
    say(typeof done === "string" ? done : done(answer));
  } catch (error) {
    say(error.message, { bad: true });
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

class StreamRow {
  constructor() {
    this.target = make("span", { class: "target" });
    this.about = make("span", { class: "soft" });
    this.element = make("li", {}, this.target, this.about);
  }

  show(stream) {
    this.born = stream.born;
    setText(this.target, stream.target);
    this.text = [STREAM_STATES[stream.state] ?? words(stream.state), WAYS[stream.way] ?? stream.way]
      .filter(Boolean).join(" · ");
    this.tick();
  }

  tick() {
    setText(this.about, `${this.text} · ${age(now() - this.born)}`);
  }
}

class CircuitRow {
  #drawn = { path: null, key: null };
  #streams = [];

  constructor(id) {
    this.id = id;
    this.state = make("span", { class: "state" });
    this.about = make("span", { class: "soft about" });
    const head = make("div", { class: "head" },
      make("h3", {}, make("span", { class: "hidden", text: "Circuit " }), make("span", { text: id })),
      this.about, this.state);
    this.path = make("div", { class: "cell" });
    this.key = make("div", { class: "for" });
    this.rotate = make("button", { type: "button", class: "quiet small", text: "Rotate key",
      "aria-label": `Rotate the key of circuit ${id}`,
      title: "New circuits for this key, from its next request on" });
    this.rotate.addEventListener("click", () => attempt(this.rotate, () => rotateKeyOf(id), (answer) =>
      `The key of circuit ${id} gets new circuits from its next request on. ${retired(answer)}.`));
    this.close = make("button", { type: "button", class: "quiet small", text: "Close",
      "aria-label": `Close circuit ${id}` });
    this.close.addEventListener("click", () => attempt(this.close, () => closeCircuit(id), `Circuit ${id} is closed.`));
    this.actions = make("div", { class: "actions" }, this.rotate, this.close);
    this.list = make("ul", { class: "streams plain", "aria-label": `Streams on circuit ${id}` });
    this.more = make("p", { class: "soft more" });
    this.element = make("li", { class: "circuit" }, head, this.path, this.key, this.list, this.more, this.actions);
  }

  show(circuit, streams) {
    this.circuit = circuit;
    const over = circuit.ended !== null;
    this.element.classList.toggle("ended", over);
    const built = circuit.state === "BUILT" && circuit.buildTime ? ` in ${seconds(circuit.buildTime)}` : "";
    setText(this.state, (STATES[circuit.state] ?? words(circuit.state)) + built);
    this.state.dataset.is = circuit.state;
    setHidden(this.actions, over);
    setHidden(this.rotate, !circuit.isolation);
    this.#showPath(circuit);
    this.#showKey(circuit);
    this.#showStreams(over ? [] : streams);
    this.tick();
  }

  #showPath(circuit) {
    const built = circuit.state !== "LAUNCHED" && circuit.state !== "EXTENDED";
    const sign = JSON.stringify([built, circuit.path]);
    if (sign === this.#drawn.path) return;
    this.#drawn.path = sign;
    this.path.replaceChildren(
      circuit.path.length ? path(circuit.path, { built }) : make("p", { class: "soft", text: "No relay yet" }));
  }

  #showKey(circuit) {
    const parts = [];
    if (circuit.ended !== null) parts.push(ending(circuit));
    else if (circuit.conflux) parts.push(`leg ${circuit.conflux.leg} of ${circuit.conflux.set.slice(0, 4)}`);
    else if (circuit.purpose !== "GENERAL") parts.push(words(circuit.purpose ?? ""));
    const sign = JSON.stringify([circuit.isolation, parts]);
    if (sign === this.#drawn.key) return;
    this.#drawn.key = sign;
    const text = parts.join(" · ") || (circuit.isolation ? "" : "nobody's yet");
    this.key.replaceChildren(
      ...(circuit.isolation ? [make("span", { class: "hidden", text: "Key " }), keyTag(circuit.isolation)] : []),
      make("span", { class: "soft", text, title: circuit.conflux ? CONFLUX : null }));
  }

  #showStreams(streams) {
    const shown = streams.slice(0, MOST_STREAMS);
    while (this.#streams.length > shown.length) this.#streams.pop().element.remove();
    shown.forEach((stream, at) => {
      if (this.#streams[at] === undefined) {
        this.#streams[at] = new StreamRow();
        this.list.append(this.#streams[at].element);
      }
      this.#streams[at].show(stream);
    });
    setHidden(this.list, shown.length === 0);
    const left = streams.length - shown.length;
    setHidden(this.more, left === 0);
    setText(this.more, left ? `and ${count(left, "more stream")}` : "");
  }

  tick() {
    const { born, ended } = this.circuit;
    setText(this.about, ended === null ? `${age(now() - born)} old` : `${age(now() - ended)} ago`);
    for (const stream of this.#streams) stream.tick();
  }
}

/** Why a circuit is over. */
function ending({ reason, remoteReason }) {
  const why = [reason, remoteReason].filter(Boolean).map(words);
  return why.length ? why.join(", remote: ") : "no reason given";
}

export class Circuits {
  #store;
  #rows = new Map();
  #most = FIRST;
  #filter = "";

  constructor(store) {
    this.#store = store;
    this.list = byId("list");
    byId("filter").addEventListener("input", (event) => {
      this.#filter = event.target.value.trim().toLowerCase();
      this.#most = FIRST;
      this.draw();
    });
    byId("more-circuits").addEventListener("click", () => {
      const last = this.list.lastElementChild;
      this.#most += MORE;
      this.draw();
      last?.nextElementSibling?.querySelector("button:not([hidden])")?.focus();
    });
  }

  draw() {
    const store = this.#store;
    const found = this.#found();
    const shown = found.slice(0, this.#most);
    const focused = this.#focused();
    const ids = new Set(shown.map((one) => one.id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    for (const circuit of shown) {
      const there = this.#rows.get(circuit.id);
      if (there !== undefined && !store.changed.has(circuit.id)) continue;
      const row = there ?? new CircuitRow(circuit.id);
      this.#rows.set(circuit.id, row);
      row.show(circuit, store.streamsOn(circuit.id));
    }
    store.changed.clear();
    arrange(this.list, shown.map((one) => this.#rows.get(one.id).element));
    this.#refocus(focused);
    this.#summarize(found.length, shown.length);
  }

  /** Let the ages go on. */
  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  /** The circuits that the filter lets through: those in use first, the newest of each first. */
  #found() {
    const rank = (one) => (one.isolation || this.#store.onCircuit.has(one.id) ? 1 : 0);
    return [...this.#store.circuits.values()]
      .filter((one) => this.#filter === "" || this.#matches(one))
      .sort((a, b) => rank(b) - rank(a) || b.born - a.born || b.id - a.id);
  }

  #matches(circuit) {
    const texts = [circuit.id, circuit.isolation, circuit.purpose];
    for (const one of circuit.path) texts.push(relayName(one), one.country, country(one.country), one.fingerprint);
    for (const stream of this.#store.streamsOn(circuit.id)) texts.push(stream.target);
    return texts.some((text) => text?.toLowerCase().includes(this.#filter));
  }

  #summarize(found, shown) {
    const { open, streams, onCircuit } = this.#store;
    setText(byId("fact-circuits"), open.toLocaleString("en"));
    setText(byId("fact-streams"), streams.size.toLocaleString("en"));
    const waiting = onCircuit.get("")?.size ?? 0;
    const parts = [count(open, "circuit"), count(streams.size, "stream")];
    if (waiting) parts.push(`${count(waiting, "stream")} without a circuit yet`);
    if (this.#filter) parts.push(`${found} found`);
    setText(byId("circuits-count"), parts.join(", "));
    const none = byId("no-circuits");
    setHidden(none, found > 0);
    setText(none, this.#filter ? "No circuit has that." : "No circuit is open.");
    const left = found - shown;
    const more = byId("more-circuits");
    setHidden(more, left === 0);
    setText(more, left > MORE ? `Show ${MORE} more of ${left.toLocaleString("en")} that are not shown` : `Show ${left} more`);
  }

  /** Where the focus is, if it is on a button of the list. */
  #focused() {
    const row = document.activeElement?.closest?.("#list > li");
    return row ? { element: document.activeElement, next: row.nextElementSibling } : null;
  }

  /** Whoever was on a button that is gone goes on at the next circuit. */
  #refocus(before) {
    if (before === null || (before.element.isConnected && !before.element.closest("[hidden]"))) return;
    const next = before.next?.isConnected ? before.next.querySelector(".actions:not([hidden]) button:not([hidden])") : null;
    (next ?? byId("circuits")).focus({ preventScroll: true });
  }
}
