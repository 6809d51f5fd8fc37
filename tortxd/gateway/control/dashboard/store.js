// What the events have said so far, and what of it has changed since it was last drawn.

const ENDED = new Set(["CLOSED", "FAILED"]);
const KEPT = 10; // seconds for which a circuit that has ended stays in sight
const MOST_ENDED = 20;
export const SECONDS = 300; // of bandwidth

export const now = () => performance.now() / 1000;

export class Store {
  health = null;
  /** By id; each has `born`, and `ended` (seconds, as `now` has them) once it is over. */
  circuits = new Map();
  streams = new Map();
  /** The ids of streams by the circuit that they are on, "" for none. */
  onCircuit = new Map();
  /** {at, read, written}, the oldest first. */
  bandwidth = [];

  /** The ids of circuits that are to be drawn anew. */
  changed = new Set();

  constructor(notify) {
    this.notify = notify;
  }

  hear(type, value) {
    if (type === "bandwidth") this.second(value);
    else this[type](value);
    this.notify(type);
  }

  snapshot({ status, circuits, streams, bandwidth }) {
    if (status) this.health = status;
    for (const id of this.circuits.keys()) this.changed.add(id);
    this.circuits.clear();
    this.streams.clear();
    this.onCircuit.clear();
    for (const circuit of circuits ?? []) this.circuit(circuit);
    for (const stream of streams ?? []) this.stream(stream);
    const at = now();
    this.bandwidth = (bandwidth ?? []).map(({ read, written, age }) => ({ at: at - age, read, written }));
  }

  status(health) {
    this.health = health;
  }

  circuit(circuit) {
    const { id } = circuit;
    const before = this.circuits.get(id);
    const entry = { ...circuit, born: now() - (circuit.age ?? 0), ended: null };
    if (ENDED.has(circuit.state)) {
      if (before === undefined) return;
      Object.assign(entry, { path: circuit.path?.length ? circuit.path : before.path, ended: now() });
    }
    this.circuits.set(id, entry);
    this.changed.add(id);
  }

  stream(stream) {
    const { id } = stream;
    const before = this.streams.get(id);
    if (before) this.#leave(before);
    if (ENDED.has(stream.state)) {
      this.streams.delete(id);
      return;
    }
    const entry = { ...stream, born: now() - (stream.age ?? 0) };
    this.streams.set(id, entry);
    const on = entry.circuit ?? "";
    if (!this.onCircuit.has(on)) this.onCircuit.set(on, new Set());
    this.onCircuit.get(on).add(id);
    this.changed.add(on);
  }

  #leave(stream) {
    const on = stream.circuit ?? "";
    const left = this.onCircuit.get(on);
    left?.delete(stream.id);
    if (left?.size === 0) this.onCircuit.delete(on);
    this.changed.add(on);
  }

  second(value) {
    this.bandwidth.push({ at: now(), ...value });
    if (this.bandwidth.length > SECONDS) this.bandwidth.shift();
  }

  /** The streams on a circuit, the oldest first. */
  streamsOn(id) {
    return [...(this.onCircuit.get(id) ?? [])].map((stream) => this.streams.get(stream));
  }

  get open() {
    let number = 0;
    for (const circuit of this.circuits.values()) if (circuit.ended === null) number += 1;
    return number;
  }

  /** Forget circuits that ended a while ago; true if there were any. */
  forget() {
    const ended = [...this.circuits.values()].filter((one) => one.ended !== null);
    const latest = now() - KEPT;
    const gone = ended.filter((one, at) => one.ended < latest || at < ended.length - MOST_ENDED);
    for (const { id } of gone) {
      this.circuits.delete(id);
      this.changed.add(id);
    }
    return gone.length > 0;
  }
}
