"use strict";
/* Machines as bars against their limits, the busiest first; and who sends how much to whom. */

dbg.views.push({
  id: "machines",
  title: "Machines",
  keys: [["↑ ↓", "the machines"], ["Enter", "shows only this one"]],
  mount(root, data, bus) {
    new dbg.MachinesView(root, dbg.plan(data), bus);
  },
});

dbg.MachinesView = class {
  constructor(root, plan, bus) {
    this.plan = plan;
    this.bus = bus;
    this.sort = "load";
    this.filter = { machine: null };
    root.classList.add("machines");
    this.body = dbg.el("tbody", { onkeydown: (event) => this.key(event) });
    root.append(dbg.el("div", { class: "bars" }, dbg.el("table", {}, this.head(), this.body)));
    new dbg.Matrix(root, plan, bus);
    this.render();
    bus.on("filter", (filter) => { this.filter = filter; this.mark(); });
    bus.on("select", (thing) => { this.selected = plan.machineOf(thing); this.mark(); });
  }

  get columns() {
    const m = this.plan.machines;
    const step = this.plan.head.step_s;
    const most = (key) => Math.max(...m[key], 1e-12);
    const parts = (names) => (p) => names.map(([key, colour]) => [m[key][p], colour]);
    return [
      { key: "load", name: "load", hint: step ? `of a step of ${dbg.seconds(step)}` : "",
        limit: () => step, write: (p) => dbg.seconds(this.value("load", p)),
        parts: parts([["compute_s", "--blue"], ["send_s", "--orange"], ["receive_s", "--sky"]]) },
      { key: "idle_s", name: "idle", hint: "of the step", limit: () => step,
        write: (p) => dbg.percent(step ? m.idle_s[p] / step : 0), parts: parts([["idle_s", "--grey"]]) },
      { key: "memory_bytes", name: "memory", hint: "at the peak, of what there is",
        limit: (p) => m.limit_bytes[p] || most("memory_bytes"), write: (p) => dbg.bytes(m.memory_bytes[p]),
        parts: parts([["memory_bytes", "--green"]]) },
      { key: "in_bytes", name: "in", hint: "of its line in a step", limit: () => step,
        write: (p) => dbg.bytes(m.in_bytes[p]), parts: parts([["in_s", "--sky"]]) },
      { key: "out_bytes", name: "out", hint: "of its line in a step", limit: () => step,
        write: (p) => dbg.bytes(m.out_bytes[p]), parts: parts([["out_s", "--orange"]]) },
      { key: "parameters", name: "parameters", hint: "of the most", limit: () => most("parameters"),
        write: (p) => dbg.count(m.parameters[p]), parts: parts([["parameters", "--purple"]]) },
    ];
  }

  head() {
    const sorter = ({ key, name, hint }) => dbg.el("th", {}, dbg.el("button", { type: "button", "data-key": key,
      onclick: () => { this.sort = key; this.render(); } }, name), dbg.el("small", {}, hint));
    return dbg.el("thead", {}, dbg.el("tr", {}, dbg.el("th", {}, "machine"), ...this.columns.map(sorter),
      dbg.el("th", {}, "waits most for")));
  }

  /** What a column is sorted by. */
  value(key, p) {
    const m = this.plan.machines;
    return key === "load" ? m.compute_s[p] + m.send_s[p] + m.receive_s[p] : m[key][p];
  }

  render() {
    const order = [...this.plan.machines.name.keys()]
      .sort((a, b) => this.value(this.sort, b) - this.value(this.sort, a) || a - b);
    const { columns } = this;
    this.body.replaceChildren(...order.map((p, i) => this.row(p, i, columns)));
    for (const button of this.body.parentElement.querySelectorAll("[data-key]")) {
      button.classList.toggle("sorted", button.dataset.key === this.sort);
    }
    this.mark();
  }

  row(p, i, columns) {
    const { el } = dbg;
    const wrong = this.plan.wrong.machine.has(p);
    const pick = () => this.bus.emit("select", { kind: "machine", id: p });
    return el("tr", { "data-machine": p, tabindex: i ? -1 : 0, class: wrong ? "wrong" : null, onclick: pick, onfocus: pick },
      el("td", { class: "number" }, `${wrong ? "✗ " : ""}${p}`),
      ...columns.map((column) => el("td", {}, this.bar(column, p))),
      el("td", { class: "faint" }, this.plan.machines.waits[p]));
  }

  /** Parts against a limit; what is above it, is marked. Without a forecast little is known. */
  bar({ key, name, limit, parts, write }, p) {
    const { el } = dbg;
    if (!this.plan.head.step_s && key !== "parameters") return el("div", { class: "bar" }, el("span"), el("b", {}, "–"));
    const most = limit(p) || 1;
    const shares = parts(p).map(([value, colour]) => [Math.min(1, value / most), colour]);
    const over = parts(p).reduce((sum, [value]) => sum + value, 0) > most * 1.0001;
    return el("div", { class: over ? "bar over" : "bar", title: `${name}: ${write(p)}` },
      el("span", {}, ...shares.map(([share, colour]) => el("i", { style: `width:${(100 * share).toFixed(1)}%;background:var(${colour})` }))),
      el("b", {}, write(p)));
  }

  mark() {
    for (const row of this.body.children) {
      const p = Number(row.dataset.machine);
      row.hidden = this.filter.machine !== null && this.filter.machine !== p;
      row.classList.toggle("chosen", this.selected === p);
      if (this.selected === p && !row.contains(document.activeElement)) row.scrollIntoView({ block: "nearest" });
    }
  }

  key(event) {
    const row = event.target.closest("tr");
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (next) row[next]?.focus();
    else if (event.key === "Enter") this.bus.emit("filter", { machine: Number(row.dataset.machine), crossing: false });
    else return;
    event.preventDefault();
  }
};

/** A row for each sender, a column for each receiver, the darker the more bytes. */
dbg.Matrix = class {
  constructor(root, plan, bus) {
    this.plan = plan;
    this.cells = new Map(plan.links.source.map((a, i) => [a * plan.count + plan.links.to[i], i]));
    this.most = plan.links.bytes.reduce((most, bytes) => Math.max(most, bytes), 1);
    this.one = null;
    this.size = 12;
    const box = dbg.el("div", { class: "matrix" }, dbg.el("h2", {}, "Who sends to whom"),
      dbg.el("p", {}, plan.head.step_s || plan.links.bytes.length
        ? `in a step; the darkest: ${dbg.bytes(this.most)}. Rows send, columns receive.`
        : "There is no forecast."));
    const frame = dbg.el("div", { class: "frame" });
    box.append(frame);
    root.append(box);
    this.stage = dbg.stage(frame, {
      label: "Traffic between machines: rows send, columns receive",
      bounds: () => this.bounds(),
      draw: (ctx, view) => this.draw(ctx, view),
      at: (x, y) => this.at(x, y),
      hover: (pair, event) => this.hover(pair, event),
      pick: (pair) => bus.emit("select", pair && { kind: "machine", id: pair[0] }),
    });
    this.tip = dbg.tip(frame);
    bus.on("theme", () => { this.colours = null; this.stage.request(); });
    bus.on("select", (thing) => { this.one = plan.machineOf(thing); this.stage.request(); });
    bus.on("filter", ({ machine }) => { this.only = machine; this.stage.request(); });
  }

  /** Below the heading, where there is more room than it takes. */
  bounds() {
    const { width, height } = this.stage?.view ?? { width: 1, height: 1 };
    const side = (this.plan.count + 2) * this.size;
    return { width: side, height: side * Math.max(1, height / (width || 1)) };
  }

  at(x, y) {
    const [a, b] = [Math.floor(y / this.size) - 1, Math.floor(x / this.size) - 1];
    return a >= 0 && b >= 0 && a < this.plan.count && b < this.plan.count ? [a, b] : null;
  }

  hover(pair, event) {
    const i = pair && this.cells.get(pair[0] * this.plan.count + pair[1]);
    this.tip(pair && { title: `${pair[0]} → ${pair[1]}`, rows: i === undefined ? [["", "nothing"]]
      : [["bytes", dbg.bytes(this.plan.links.bytes[i])], ["messages", dbg.whole(this.plan.links.messages[i])]] },
    event.offsetX, event.offsetY);
    this.pair = pair;
    this.stage.request();
  }

  draw(ctx, view) {
    this.colours ||= { cell: dbg.colour("--accent"), text: dbg.colour("--text"), faint: dbg.colour("--faint"), line: dbg.colour("--line"),
      back: dbg.colour("--back") };
    const { size } = this;
    const { source, to, bytes } = this.plan.links;
    ctx.save();
    ctx.scale(view.kx, view.ky);
    ctx.translate(-view.x, -view.y);
    ctx.strokeStyle = this.colours.line;
    ctx.lineWidth = 1 / view.kx;
    ctx.strokeRect(size, size, this.plan.count * size, this.plan.count * size);
    ctx.fillStyle = this.colours.cell;
    for (let i = 0; i < source.length; i++) {
      const shown = this.only === null || this.only === source[i] || this.only === to[i];
      ctx.globalAlpha = (0.12 + 0.88 * Math.sqrt(bytes[i] / this.most)) * (shown ? 1 : 0.08);
      ctx.fillRect((to[i] + 1) * size, (source[i] + 1) * size, size, size);
    }
    ctx.globalAlpha = 1;
    if (size * view.kx >= 60) this.amounts(ctx, view);
    this.cross(ctx, view);
    this.numbers(ctx, view);
    ctx.restore();
  }

  /** In cells that are large enough. */
  amounts(ctx, view) {
    const { size } = this;
    const { source, to, bytes } = this.plan.links;
    ctx.font = `${12 / view.kx}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (let i = 0; i < source.length; i++) {
      const dark = Math.sqrt(bytes[i] / this.most) > 0.5 && (this.only === null || this.only === source[i] || this.only === to[i]);
      ctx.fillStyle = dark ? this.colours.back : this.colours.text;
      ctx.fillText(dbg.bytes(bytes[i]), (to[i] + 1.5) * size, (source[i] + 1.5) * size);
    }
  }

  /** The row and the column of what is chosen. */
  cross(ctx, view) {
    const { size } = this;
    const whole = this.plan.count * size;
    ctx.strokeStyle = this.colours.text;
    ctx.lineWidth = 1.5 / view.kx;
    const [a, b] = this.pair ?? [this.one, this.one];
    if (a === null) return;
    ctx.strokeRect(size, (a + 1) * size, whole, size);
    ctx.strokeRect((b + 1) * size, size, size, whole);
  }

  /** As many as there is room for. */
  numbers(ctx, view) {
    const { size } = this;
    const step = [1, 2, 4, 8, 16, 32, 64, 128].find((n) => n * size * view.kx >= 20) ?? 256;
    ctx.fillStyle = this.colours.faint;
    ctx.font = `${10.5 / view.kx}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    for (let p = 0; p < this.plan.count; p += step) {
      ctx.textAlign = "right";
      ctx.fillText(p, size - 3 / view.kx, (p + 1.5) * size);
      ctx.textAlign = "center";
      ctx.fillText(p, (p + 1.5) * size, size - 8 / view.kx);
    }
  }
};
