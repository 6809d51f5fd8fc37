// The box that fetches a URL through Tor, and says what came of it and by which way.

import { address } from "./api.js";
import { byId, make, say, setHidden, setText } from "./dom.js";
import { bytes, seconds } from "./format.js";
import { path } from "./relays.js";

const KEPT = 5;
const MOST = 262144; // bytes that are read of a body
const SHOWN = 4000; // characters of it
const PATIENCE = 1500; // milliseconds for the circuit to be told of by an event

export class Fetching {
  #store;
  #form = byId("fetch");
  #button = this.#form.querySelector("button");
  #under = null;

  /** `done()` is called when a request is over. */
  constructor(store, done) {
    this.#store = store;
    this.done = done;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#under) this.#under.abort();
      else this.#fetch();
    });
  }

  async #fetch() {
    const url = withScheme(byId("fetch-url").value.trim());
    const headers = {};
    const token = byId("fetch-token").value;
    if (token) headers["Tortxd-Token"] = token;
    const target = `proxy?url=${encodeURIComponent(url)}`;
    const key = byId("fetch-key").value;
    if (key) headers["Tor-Stream-Isolation"] = key;
    this.#under = new AbortController();
    setText(this.#button, "Stop");
    say("Fetching.", { seen: true });
    const from = performance.now();
    try {
      const options = { headers, signal: this.#under.signal, cache: "no-store", redirect: "follow" };
      const response = await fetch(address(target), options);
      const took = (performance.now() - from) / 1000;
      const body = await read(response);
      await this.#show(url, response, took, body);
    } catch (error) {
      const stopped = error.name === "AbortError";
      this.#put(url, [make("p", { class: "outcome bad", text: stopped ? "Stopped" : sentence(error) })]);
      say(stopped ? "Stopped." : sentence(error), { seen: true });
    } finally {
      this.#under = null;
      setText(this.#button, "Fetch through Tor");
      this.done();
    }
  }

  async #show(url, response, took, body) {
    const code = response.headers.get("Tortxd-Error");
    if (code === "unauthorized") setHidden(byId("fetch-token-row"), false);
    const own = code === null ? null : parsed(body.text);
    const status = `${response.status}${code ? ` ${code}` : ""}`;
    const parts = [
      make("p", { class: "outcome" },
        make("strong", { class: response.ok ? "good" : "bad", text: status }),
        make("span", { text: `after ${seconds(took)}` }),
        make("span", { class: "soft", text: response.headers.get("Content-Type") ?? "" })),
    ];
    if (own?.error) parts.push(make("p", { text: own.error }));
    parts.push(...(await this.#way(response)));
    if (own === null)
      parts.push(make("details", {},
        make("summary", { text: `Body, ${body.whole ? "" : "more than "}${bytes(body.size)}` }),
        make("pre", { tabindex: "0", text: body.text.slice(0, SHOWN) || "(empty)" })));
    this.#put(url, parts);
    say(`${status}, after ${seconds(took)}. ${own?.error ?? ""}`, { seen: true });
  }

  /** By which circuit the response came. */
  async #way(response) {
    const id = response.headers.get("Tortxd-Circuit");
    if (id === null) return [];
    const circuit = await this.#circuit(id);
    const relays = circuit?.path ?? [{
      nickname: null,
      fingerprint: response.headers.get("Tortxd-Exit"),
      country: response.headers.get("Tortxd-Exit-Country"),
    }];
    const exit = response.headers.get("Tortxd-Exit-Address");
    return [
      path(relays, { built: true }),
      make("p", { class: "soft", text: `Circuit ${id}${exit ? `, seen by the destination as ${exit}` : ""}` }),
    ];
  }

  async #circuit(id) {
    const until = performance.now() + PATIENCE;
    while (!this.#store.circuits.get(id)?.path.length && performance.now() < until)
      await new Promise((resume) => setTimeout(resume, 100));
    return this.#store.circuits.get(id);
  }

  #put(url, parts) {
    const list = byId("fetched");
    list.prepend(make("li", {}, make("p", { class: "url", text: url }), ...parts));
    while (list.children.length > KEPT) list.lastElementChild.remove();
  }
}

const withScheme = (url) => (/^[a-z][a-z0-9+.-]*:/i.test(url) ? url : `https://${url}`);

const sentence = (error) =>
  error instanceof TypeError ? "The daemon could not be reached, or the response broke off." : error.message;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { error: null };
  }
}

/** The beginning of a body, as text. */
async function read(response) {
  const reader = response.body?.getReader();
  if (!reader) return { text: "", size: 0, whole: true };
  const decoder = new TextDecoder();
  let [text, size] = ["", 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), size, whole: true };
    size += value.length;
    text += decoder.decode(value, { stream: true });
    if (size > MOST) {
      await reader.cancel();
      return { text, size, whole: false };
    }
  }
}
