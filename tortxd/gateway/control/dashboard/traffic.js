// Throughput and latency: two plots, each with a table that says the same.

import { Chart, SPAN, line } from "./chart.js";
import { byId, fillTable, setText } from "./dom.js";
import { ago, rate, seconds, short } from "./format.js";
import { now } from "./store.js";

const AVERAGED = 15; // seconds for each row of the table

export class Throughput {
  #store;
  #details = byId("throughput-table");

  constructor(store) {
    this.#store = store;
    this.chart = new Chart(byId("throughput"), (one) => short(rate(one)), 1000, () => this.draw());
    this.#details.addEventListener("toggle", () => this.#fill());
  }

  draw() {
    const at = now();
    const points = this.#store.bandwidth.filter((one) => at - one.at <= SPAN);
    const last = points.at(-1);
    const current = last && at - last.at < 3 ? last : { read: 0, written: 0 };
    setText(byId("fact-read"), rate(current.read));
    setText(byId("fact-written"), rate(current.written));
    const most = points.reduce((so, one) => Math.max(so, one.read, one.written), 0);
    this.chart.draw(most, () => {
      const of = (name) => line(points.map((one) => [this.chart.x(at - one.at), this.chart.y(one[name])]));
      const marks = [
        ["path", { d: of("written"), class: "line written" }],
        ["path", { d: of("read"), class: "line read" }],
      ];
      if (points.length > 1) {
        const [from, to] = [points[0], last].map((one) => this.chart.x(at - one.at).toFixed(1));
        const under = `${of("read")}L${to} ${this.chart.bottom}L${from} ${this.chart.bottom}Z`;
        marks.unshift(["path", { d: under, class: "area read" }]);
      }
      return marks;
    });
    this.#fill();
  }

  #fill() {
    if (!this.#details.open) return;
    const at = now();
    const sums = Array.from({ length: SPAN / AVERAGED }, () => ({ read: 0, written: 0, any: false }));
    for (const one of this.#store.bandwidth) {
      const sum = sums[Math.floor((at - one.at) / AVERAGED)];
      if (sum === undefined) continue;
      sum.read += one.read;
      sum.written += one.written;
      sum.any = true;
    }
    const rows = sums.flatMap(({ read, written, any }, row) =>
      any ? [[ago(row * AVERAGED), rate(read / AVERAGED), rate(written / AVERAGED)]] : [],
    );
    fillTable(this.#details.querySelector("tbody"), rows);
  }
}

export class Latency {
  #intervals = [];
  #since = 0;
  #details = byId("latency-table");

  constructor() {
    this.chart = new Chart(byId("latency"), (one) => short(seconds(one)), 0.5, () => this.draw());
    this.#details.addEventListener("toggle", () => this.#fill());
  }

  /** Take over what the gateway counted, 5 seconds each. */
  take(intervals) {
    this.#intervals = intervals;
    this.#since = now();
    this.draw();
  }

  draw() {
    const passed = now() - this.#since;
    const most = this.#intervals.reduce((so, one) => Math.max(so, one.longest ?? 0), 0);
    const width = Math.max(2, (this.chart.x(0) - this.chart.x(5)) * 0.7);
    this.chart.draw(most, () => {
      const marks = [];
      const median = [];
      for (const one of this.#intervals) {
        const x = this.chart.x(Math.max(0, one.age - 2.5 + passed));
        const from = x - width / 2;
        if (one.longest !== null) {
          const y = this.chart.y(one.longest);
          marks.push(["rect", { x: from, y, width, height: this.chart.bottom - y, class: "bar longest" }]);
        }
        if (one.failed > 0)
          marks.push(["rect", { x: from, y: this.chart.bottom - 3, width, height: 6, class: "bar failed" }]);
        if (one.median !== null) {
          const y = this.chart.y(one.median);
          median.push(["line", { x1: from, x2: from + width, y1: y, y2: y, class: "line median" }]);
        }
      }
      return [...marks, ...median];
    });
    this.#fill();
  }

  #fill() {
    if (!this.#details.open) return;
    const rows = this.#intervals
      .filter((one) => one.requests > 0)
      .reverse()
      .map((one) => [ago(one.age), `${one.requests}`, `${one.failed}`, seconds(one.median), seconds(one.longest)]);
    fillTable(this.#details.querySelector("tbody"), rows.length ? rows : [["-", "0", "0", "-", "-"]]);
  }
}
