// Elements from text and nothing else: what Tor or the network says is never read as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with these properties (class, text, attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Change an element's text, if it is another. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** Text for screen readers alone. */
export const unseen = (text) => make("span", { class: "hidden", text });

/** Let the children of `parent` be these, in this order; those that stay are not touched. */
export function arrange(parent, children) {
  const kept = new Set(children);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  children.forEach((child, at) => {
    const there = parent.children[at];
    if (there === child) return;
    const focused = child.contains(document.activeElement) ? document.activeElement : null;
    parent.insertBefore(child, there ?? null);
    focused?.focus({ preventScroll: true });
  });
}

/** Let a table's body have these rows of texts; the first cell of each is its head. */
export function fillTable(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((texts, at) => {
    const row = body.rows[at] ?? body.insertRow();
    texts.forEach((text, column) => {
      const cell =
        row.cells[column] ??
        row.appendChild(make(column ? "td" : "th", column ? {} : { scope: "row" }));
      setText(cell, text);
    });
  });
}

/**
 * Say something to whoever cannot see what has changed, and show it for a while: as bad news, for
 * as long as it holds (`keep`), or not at all, where it is `seen` elsewhere.
 */
export function say(text, { bad = false, keep = false, seen = false } = {}) {
  const said = byId("said");
  said.classList.toggle("bad", bad);
  said.classList.toggle("hidden", seen);
  said.textContent = text;
  clearTimeout(say.timer);
  if (!keep) say.timer = setTimeout(() => (said.textContent = ""), bad ? 20000 : 10000);
}
