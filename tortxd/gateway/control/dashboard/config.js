// What the daemon was started with.

import { get } from "./api.js";
import { byId, make, setText } from "./dom.js";
import { count } from "./format.js";

function shown(value) {
  if (value === null || value === "") return "none";
  if (value === true) return "on";
  if (value === false) return "off";
  if (Array.isArray(value)) return value.length ? value.map(shown).join(", ") : "none";
  if (typeof value === "object")
    return Object.entries(value).map(([from, to]) => `${from} = ${shown(to)}`).join(", ") || "none";
  return `${value}`;
}

const source = ({ source: from, set }) => (from === "default" ? "default" : set ? `${from}: ${set}` : from);

export async function showConfig() {
  const { options, endpoints } = await get("config");
  const set = options.filter((one) => one.source !== "default");
  const rest = options.filter((one) => one.source === "default");
  const rows = [...set, ...rest].map((one) =>
    make("tr", { class: one.source === "default" ? "soft" : null },
      make("th", { scope: "row" }, make("code", { text: one.option ?? one.name })),
      make("td", { text: shown(one.value) }),
      make("td", { text: source(one) })));
  byId("config").querySelector("tbody").replaceChildren(...rows);
  const at = endpoints.length ? `Listening on ${endpoints.join(" and ")}. ` : "";
  setText(byId("endpoints"), `${at}${count(set.length, "option")} set, ${rest.length} as by default.`);
}
