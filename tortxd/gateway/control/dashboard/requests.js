// Which requests failed, and whose fault that was; how many there are.

import { arrange, byId, make, setHidden, setText } from "./dom.js";
import { age, country, relayName, WAYS } from "./format.js";
import { keyTag } from "./circuits.js";
import { now } from "./store.js";

const FIRST = 4;
const FAULTS = ["destination", "tor", "client", "gateway"];
const WHOSE = { destination: "destination", tor: "Tor", client: "client", gateway: "tortxd" };
/** Of codes that are not among the recent failures. */
const BY_CODE = {
  client: ["bad_request", "bad_url", "unauthorized", "forbidden_origin", "forbidden_host", "target_forbidden",
    "redirect_forbidden", "not_found", "method_not_allowed", "request_timeout", "too_large", "not_implemented"],
  destination: ["connect_failed", "connect_refused", "resolve_failed", "exit_policy", "onion_unreachable",
    "onion_auth_required", "origin_reset", "bad_response", "tls_failed", "origin_timeout",
    "exit_unavailable"],
  tor: ["tor_not_ready", "tor_down", "tor_timeout"],
  gateway: ["internal", "overloaded"],
};

function faultOf(code, failures) {
  const known = failures.find((one) => one.code === code);
  if (known) return known.fault;
  return FAULTS.find((fault) => BY_CODE[fault].includes(code)) ?? "gateway";
}

export class Requests {
  #failures = [];
  #since = 0;
  #all = false;
  #drawn = "";
  #ages = [];

  constructor() {
    byId("more-failures").addEventListener("click", () => {
      this.#all = true;
      this.#drawn = "";
      this.#draw();
      byId("failures").children[FIRST]?.focus();
    });
  }

  take({ underWay, counts, failures }) {
    this.#failures = failures;
    this.#since = now();
    const served = counts.reduce((sum, one) => sum + one.count, 0);
    setText(byId("fact-requests"), served.toLocaleString("en"));
    setText(byId("fact-under-way"), underWay.toLocaleString("en"));
    this.#count(counts.filter((one) => one.outcome !== "ok"));
    this.#draw();
  }

  #count(failed) {
    const byCode = new Map();
    const byFault = new Map(FAULTS.map((fault) => [fault, 0]));
    for (const { outcome, count: number } of failed) {
      const fault = faultOf(outcome, this.#failures);
      const code = byCode.get(outcome) ?? { fault, number: 0 };
      code.number += number;
      byCode.set(outcome, code);
      byFault.set(fault, (byFault.get(fault) ?? 0) + number);
    }
    FAULTS.forEach((fault, at) => {
      const box = byId("faults").children[at];
      setText(box.lastElementChild, byFault.get(fault).toLocaleString("en"));
      box.classList.toggle("some", byFault.get(fault) > 0);
    });
    setHidden(byId("no-failures"), byCode.size > 0);
    setHidden(byId("codes"), byCode.size === 0);
    const rows = [...byCode].sort((a, b) => b[1].number - a[1].number || a[0].localeCompare(b[0]))
      .map(([code, { fault, number }]) => make("tr", {},
        make("th", { scope: "row" }, make("code", { text: code })),
        make("td", { text: WHOSE[fault] }),
        make("td", { class: "number", text: number.toLocaleString("en") })));
    byId("codes").tBodies[0].replaceChildren(...rows);
  }

  #draw() {
    const shown = this.#all ? this.#failures : this.#failures.slice(0, FIRST);
    const left = this.#failures.length - shown.length;
    setHidden(byId("recent-title"), shown.length === 0);
    setHidden(byId("more-failures"), left === 0);
    setText(byId("more-failures"), `Show ${left} more`);
    // An age alone is no change: what is being read is not drawn anew for it.
    const sign = JSON.stringify(shown.map(({ age: _, ...rest }) => rest)) + this.#all;
    if (sign !== this.#drawn) {
      this.#drawn = sign;
      this.#ages = [];
      arrange(byId("failures"), shown.map((one) => this.#failure(one)));
    }
    this.tick();
  }

  #failure(one) {
    const when = make("span");
    this.#ages.push(when);
    const facts = [WAYS[one.way] ?? one.way, one.torReason ? `Tor says ${one.torReason}` : null,
      one.circuit ? `circuit ${one.circuit}` : null,
      one.exit ? `exit ${relayName(one.exit)}, ${country(one.exit.country)}` : null,
      one.retryable ? "trying again may help" : "trying again will not help"];
    return make("li", { tabindex: "-1" },
      make("p", { class: "head" }, make("code", { class: `fault ${one.fault}`, text: one.code }),
        make("span", { class: "soft", text: `at fault: ${WHOSE[one.fault] ?? one.fault}` })),
      make("p", { text: one.error }),
      make("p", { class: "soft" }, when, make("span", { text: ` · ${facts.filter(Boolean).join(" · ")}` }),
        one.isolation ? keyTag(one.isolation) : null));
  }

  tick() {
    const passed = now() - this.#since;
    this.#ages.forEach((when, at) => setText(when, `${age(this.#failures[at].age + passed)} ago`));
  }
}
