// A path of relays: guard, middle, exit.

import { make, unseen } from "./dom.js";
import { country, relayName } from "./format.js";

const ROLES = ["Guard", "Middle", "Exit"];

/** What each relay of a path of this length is, as far as a client's circuit goes. */
function role(at, length) {
  if (at === 0) return ROLES[0];
  return at === length - 1 && length >= 3 ? ROLES[2] : ROLES[1];
}

function relay(one, name) {
  const where = make("span", { class: "country", title: country(one.country) },
    unseen(`${country(one.country)}, `),
    make("span", { "aria-hidden": "true", text: one.country?.toUpperCase() ?? "??" }));
  return make("li", {},
    make("span", { class: "role", text: name }),
    make("span", { class: "relay" }, where, make("span", { class: "nickname", text: relayName(one) })));
}

/** The path as a list; relays between the second and the last are counted in its middle. */
export function path(relays, { built = true } = {}) {
  const list = make("ol", { class: "path plain" });
  const length = built ? relays.length : Math.max(3, relays.length);
  relays.forEach((one, at) => list.append(relay(one, role(at, length))));
  return list;
}
