// The dashboard: what Tor does and what the gateway does for whom, live.

import { get, renewAll } from "./api.js";
import { Circuits } from "./circuits.js";
import { showConfig } from "./config.js";
import { byId, say, setText } from "./dom.js";
import { Fetching } from "./fetching.js";
import { count, retired } from "./format.js";
import { Live } from "./live.js";
import { Requests } from "./requests.js";
import { showStatus } from "./status.js";
import { Store } from "./store.js";
import { Latency, Throughput } from "./traffic.js";

const DRAWN_EVERY = 150; // milliseconds, at most: however many events come
const ASKED_EVERY = 3000; // milliseconds, for what no event tells

const CONNECTIONS = {
  live: "Live",
  lost: "Connection lost, reconnecting",
  refused: "Signed out",
};
const SIGNED_OUT = "The daemon does not know this browser any more: it was started anew. Run `tortxd dashboard` to go on.";

const stale = new Set();
let scheduled = false;
let drawnAt = 0;

function schedule(what) {
  stale.add(what);
  if (scheduled) return;
  scheduled = true;
  const wait = Math.max(0, DRAWN_EVERY - (performance.now() - drawnAt));
  setTimeout(() => requestAnimationFrame(draw), wait);
}

function draw() {
  scheduled = false;
  drawnAt = performance.now();
  const all = stale.has("snapshot");
  if (all || stale.has("status")) showStatus(store.health);
  if (all || stale.has("circuit") || stale.has("stream")) circuits.draw();
  if (all || stale.has("bandwidth")) throughput.draw();
  stale.clear();
}

const store = new Store(schedule);
const circuits = new Circuits(store);
const throughput = new Throughput(store);
const latency = new Latency();
const requests = new Requests();
new Fetching(store, askRequests);
const live = new Live((type, value) => store.hear(type, value), connection);

function connection(state) {
  const shown = byId("connection");
  const before = shown.dataset.is;
  shown.dataset.is = state;
  setText(shown, CONNECTIONS[state]);
  document.body.classList.toggle("stale", state !== "live");
  if (state === "live") {
    if (before !== "waiting") say("Connected again.");
    showConfig().catch(() => {});
    askRequests();
  } else if (state === "lost") say("Connection lost, reconnecting. What is shown may be old.", { bad: true, keep: true });
  else say(SIGNED_OUT, { bad: true, keep: true });
}

async function askRequests() {
  if (document.hidden) return;
  try {
    const answer = await get("requests");
    requests.take(answer);
    latency.take(answer.intervals);
  } catch {
    // The stream of events says whether the connection is there.
  }
}

byId("renew").addEventListener("click", async () => {
  try {
    const answer = await renewAll();
    const again = answer.nextNewnym ? ` Tor makes the next in ${Math.ceil(answer.nextNewnym)} s.` : "";
    say("Every request uses new circuits from now on. The guard stays. "
      + `${count(answer.keys, "key")} renewed, ${retired(answer)}.${again}`);
  } catch (error) {
    say(error.message, { bad: true });
  }
});

setInterval(() => {
  if (document.hidden) return;
  if (store.forget()) schedule("circuit");
  circuits.tick();
  requests.tick();
  latency.draw();
}, 1000);
setInterval(askRequests, ASKED_EVERY);
document.addEventListener("visibilitychange", askRequests);
live.open();
