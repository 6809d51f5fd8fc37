// The gateway's routes. The page may be anywhere in a site: all addresses are relative to its own.

const ROOT = new URL("../", import.meta.url);

export const address = (path) => new URL(path, ROOT).href;

/** What a route refuses with, as its JSON says it. */
export class Refusal extends Error {
  constructor(status, body) {
    super(body?.error ?? `The gateway answered with status ${status}.`);
    this.status = status;
    this.code = body?.code ?? null;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(address(path), { headers: { Accept: "application/json" }, ...options });
  } catch {
    throw new Error("The daemon could not be reached.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refusal(response.status, body);
  return body;
}

export const get = (path) => ask(path, {});

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

export const closeCircuit = (id) => post(`circuits/${encodeURIComponent(id)}/close`);
export const rotateKeyOf = (circuit) => post("identity/new", { circuit });
export const renewAll = () => post("identity/new");
