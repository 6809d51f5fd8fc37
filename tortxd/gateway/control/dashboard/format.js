// Numbers, times and Tor's words, as people read them.

export function bytes(number) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (number >= size) return `${digits(number / size)} ${unit}`;
  return `${Math.round(number)} B`;
}

export const rate = (number) => `${bytes(number)}/s`;

/** The same without zeros that say nothing, for an axis. */
export const short = (text) => text.replace(/\.0+ /, " ").replace(/(\.\d*?)0+ /, "$1 ");

function digits(number) {
  return number >= 99.95 ? Math.round(number).toString() : number.toFixed(number < 9.995 ? 2 : 1);
}

/** How long something took, or null. */
export function seconds(number) {
  if (number === null || number === undefined) return "-";
  return number < 1 ? `${Math.round(number * 1000)} ms` : `${digits(number)} s`;
}

/** How long ago something was, within minutes. */
export function ago(number) {
  const whole = Math.round(number);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** How old something is. */
export function age(number) {
  const whole = Math.max(0, Math.floor(number));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** What a new identity did to connections, as the gateway answers. */
export const retired = (answer) => `${count(answer.connections, "connection")} retired`;

const countries = new Intl.DisplayNames(["en"], { type: "region", fallback: "none" });

/** The name of a country, by its two letters. */
export function country(code) {
  if (!code) return "Country unknown";
  try {
    return countries.of(code.toUpperCase()) ?? code.toUpperCase();
  } catch {
    return code;
  }
}

export const relayName = (relay) => relay.nickname || relay.fingerprint?.slice(0, 8) || "unnamed";

/** Tor's words in capitals, as HS_CLIENT_REND. */
export const words = (name) => name.toLowerCase().replaceAll("_", " ");

export const WAYS = {
  proxy: "/proxy",
  "absolute-form": "HTTP proxy",
  connect: "CONNECT",
  library: "library",
  probe: "a probe of tortxd's",
  socks: "SOCKS",
};

/** One of eight colours for a key, always the same. */
export function hue(key) {
  let sum = 0;
  for (const letter of key) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return sum % 8;
}
