// What Tor is doing, and why it does not get on.

import { byId, make, setHidden, setText } from "./dom.js";
import { seconds } from "./format.js";

const TITLES = {
  ok: ["good", () => "Tor is ready"],
  degraded: ["wait", () => "Tor is ready, but something is wrong"],
  bootstrapping: ["wait", (health) => `Tor is ${health.bootstrap.progress} % ready`],
  starting: ["wait", () => "Tor is starting"],
  down: ["bad", () => "Tor is down"],
  stopping: ["bad", () => "tortxd is stopping"],
};

function sentences(health) {
  const { status, reasons, warning, reason, retryIn, bootstrap } = health;
  if (status === "ok") return ["Requests are served."];
  const told = [...(reasons ?? [])];
  if (status === "bootstrapping") told.push(`${bootstrap.summary}.`);
  if (warning) told.push(`It does not get on: ${warning}`);
  if (reason) told.push(reason);
  if (retryIn !== undefined && retryIn !== null) told.push(`It is tried again in ${seconds(retryIn)}.`);
  return told;
}

const time = (text) => new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

let drawn = "";

export function showStatus(health) {
  const sign = JSON.stringify(health);
  if (sign === drawn || health === null) return;
  drawn = sign;
  const [kind, title] = TITLES[health.status] ?? ["wait", () => health.status];
  setText(byId("status-title"), title(health));
  byId("status").dataset.is = kind;
  document.title = `${title(health)} - tortxd`;
  const progress = byId("progress");
  setHidden(progress, health.status !== "bootstrapping");
  progress.value = health.bootstrap?.progress ?? 0;
  const since = health.since ? [make("p", { class: "soft", text: `Since ${time(health.since)}` })] : [];
  byId("reasons").replaceChildren(...sentences(health).map((text) => make("p", { text })), ...since);
  setHidden(byId("private"), health.network !== "private");
  const network = { public: "the public Tor network", private: "a private test network" }[health.network];
  setText(byId("about"), [`version ${health.version}`, network, health.tor].filter(Boolean).join(" · "));
}
