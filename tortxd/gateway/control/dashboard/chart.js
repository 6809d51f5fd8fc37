// Plots over the last five minutes, as SVG.

const SVG = "http://www.w3.org/2000/svg";
export const SPAN = 300; // seconds
const HEIGHT = 150; // as in the style
const MARGIN = { top: 8, right: 4, bottom: 20, left: 66 };

function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The least round number (1, 2 or 5 times a power of ten) that is not below `most`. */
export function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 5, 10].find((one) => one * power >= most * 0.9999);
}

export class Chart {
  #name;
  #marks = shape("g", {});
  #axis = shape("g", { class: "axis" });
  #width = 0;
  #most = 0;

  /** `name(number)` writes a value of the upright axis, of which `least` is the lowest end. */
  constructor(svg, name, least, changed) {
    this.#name = name;
    this.least = least;
    svg.append(this.#axis, this.#marks);
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      this.#drawAxis();
      changed();
    }).observe(svg);
  }

  x(age) {
    const inner = this.#width - MARGIN.left - MARGIN.right;
    return MARGIN.left + inner * (1 - Math.min(age, SPAN) / SPAN);
  }

  y(value) {
    const inner = HEIGHT - MARGIN.top - MARGIN.bottom;
    return MARGIN.top + inner * (1 - Math.min(value / this.#most, 1));
  }

  get bottom() {
    return HEIGHT - MARGIN.bottom;
  }

  /** Draw marks, given as [tag, attributes], where `most` is the greatest value. */
  draw(most, marks) {
    if (this.#width === 0) return;
    const top = ceiling(Math.max(most, this.least));
    if (top !== this.#most) {
      this.#most = top;
      this.#drawAxis();
    }
    this.#marks.replaceChildren(...marks().map(([tag, attributes]) => shape(tag, attributes)));
  }

  #drawAxis() {
    if (this.#width === 0 || this.#most === 0) return;
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(this.y(this.#most * share)) + 0.5;
      parts.push(
        shape("line", { x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: y, y2: y, class: share ? "grid" : "base" }),
        shape("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, this.#name(this.#most * share)),
      );
    }
    for (const minutes of [5, 4, 3, 2, 1, 0]) {
      const anchor = minutes === 5 ? "start" : minutes === 0 ? "end" : "middle";
      const text = minutes === 0 ? "now" : minutes === 5 ? "5 min" : `${minutes}`;
      parts.push(shape("text", { x: this.x(minutes * 60), y: HEIGHT - 4, "text-anchor": anchor }, text));
    }
    this.#axis.replaceChildren(...parts);
  }
}

/** A path through points, with gaps where `y` is null. */
export function line(points) {
  let path = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (y === null) {
      pen = "M";
      continue;
    }
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return path;
}
