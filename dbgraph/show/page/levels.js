"use strict";
/* The plan level by level: a layer opens into its nodes, these into their tiles; a machine into its
   program. Only the rows in sight are elements, so a plan may have millions. */

dbg.views.push({
  id: "levels",
  title: "Levels",
  keys: [["↑ ↓", "the rows"], ["→ ←", "opens, closes"], ["Enter", "selects"],
    ["Home End", "the first, the last row"]],
  mount(root, data, bus) {
    new dbg.LevelsView(root, dbg.plan(data), bus);
  },
});

dbg.LevelsView = class {
  static ROW = 26;
  static HEAD = 32;
  static COLUMNS = ["name", "region, or what it does", "machine", "parameters", "FLOP", "bytes", "declared at"];

  constructor(root, plan, bus) {
    this.plan = plan;
    this.bus = bus;
    this.open = new Set(["layers:0"]);
    this.rows = [];
    this.at = 0;
    this.filter = { machine: null, crossing: false };
    this.build(root);
    bus.on("filter", (filter) => { this.filter = filter; this.update(); });
    bus.on("search", (words) => { this.words = words; this.render(); });
    bus.on("select", (what) => this.reveal(this.plan.thing(what)));
    new ResizeObserver(() => this.render()).observe(this.grid);
  }

  build(root) {
    const { el } = dbg;
    root.classList.add("levels");
    const head = el("div", { class: "row head", role: "row" },
      ...dbg.LevelsView.COLUMNS.map((name) => el("span", { role: "columnheader" }, name)));
    this.body = el("div", { class: "rows" });
    this.grid = el("div", { class: "grid", role: "treegrid", tabindex: 0, "aria-label": "The plan, level by level",
      onscroll: () => this.render(), onkeydown: (event) => this.key(event), onfocus: () => this.render() }, head, this.body);
    root.append(this.grid);
  }

  /** Of the rows' part of the view, below the heading. */
  get height() {
    return this.grid.clientHeight - dbg.LevelsView.HEAD;
  }

  // Rows: {key, depth, kind, id, opens}

  update() {
    const key = this.rows[this.at]?.key;
    this.rows = [...this.top()];
    this.at = Math.max(0, this.rows.findIndex((row) => row.key === key));
    this.body.style.height = `${this.rows.length * dbg.LevelsView.ROW}px`;
    this.render();
  }

  *top() {
    yield* this.row(0, "layers", 0, () => this.each("layer", this.plan.layers.name.length));
    yield* this.row(0, "machines", 0, () => this.machines());
  }

  /** A row, and what is below it where it is open. */
  *row(depth, kind, id, below) {
    const key = `${kind}:${id}`;
    yield { key, depth, kind, id, opens: !!below };
    if (below && this.open.has(key)) for (const child of below()) yield* this.row(depth + 1, ...child);
  }

  *each(kind, count) {
    for (let id = 0; id < count; id++) if (this.layerShown(id)) yield [kind, id, () => this.inLayer(id)];
  }

  *machines() {
    for (let p = 0; p < this.plan.count; p++) {
      if (this.filter.machine === null || this.filter.machine === p) yield ["machine", p, () => this.inProgram(p)];
    }
  }

  *inLayer(layer) {
    if (!this.filter.crossing) {
      for (const node of this.plan.nodesOfLayer[layer]) {
        if (this.tilesOf(node).length) yield ["node", node, () => this.tilesOf(node).map((tile) => ["tile", tile])];
      }
    }
    if (this.sentOf(layer).length) yield ["sends", layer, () => this.sentOf(layer).map((t) => ["transfer", t])];
  }

  *inProgram(p) {
    const { programs, firstInstruction } = this.plan;
    for (let k = 0; k < programs[p].length; k++) {
      const id = firstInstruction[p] + k;
      if (!this.filter.crossing || this.plan.instruction(id).transfer !== null) yield ["instruction", id];
    }
  }

  tilesOf(node) {
    const tiles = this.plan.tilesOfNode[node];
    const { machine } = this.filter;
    return machine === null ? tiles : tiles.filter((i) => this.plan.tiles.machine[i] === machine);
  }

  sentOf(layer) {
    const { source, to } = this.plan.transfers;
    const { machine } = this.filter;
    const all = this.plan.transfersOfLayer[layer];
    return machine === null ? all : all.filter((t) => source[t] === machine || to[t] === machine);
  }

  layerShown(layer) {
    const tiles = () => this.plan.nodesOfLayer[layer].some((node) => this.tilesOf(node).length);
    return (!this.filter.crossing && tiles()) || this.sentOf(layer).length > 0;
  }

  // What stands in a row

  cells({ kind, id }) {
    const { plan } = this;
    const { count, bytes, whole, plural } = dbg;
    const some = (value, write) => (value ? write(value) : "");
    switch (kind) {
      case "layers": return ["Layers", plural(plan.layers.name.length, "layer")];
      case "machines": return ["Machines", plural(plan.count, "machine")];
      case "layer": {
        const l = plan.layers;
        return [l.name[id], `${l.op[id]}, ${l.shape[id]}; ${l.cut[id]}`, "", some(l.parameters[id], whole),
          some(l.flop[id], count), some(l.forward_bytes[id] + l.backward_bytes[id], bytes), l.source[id]];
      }
      case "node": return [plan.nodes.name[id], `${plan.nodes.op[id]}, ${plural(this.tilesOf(id).length, "tile")}`];
      case "sends": {
        const sent = this.sentOf(id);
        return ["what crosses", plural(sent.length, "transfer"), "", "", "",
          bytes(sent.reduce((sum, t) => sum + plan.transferBytes(t), 0))];
      }
      case "tile": {
        const t = plan.tiles;
        return [plan.tileName(id), `${plan.region(id)}; ${plan.tileShape(id)}`, t.machine[id], some(t.parameters[id], whole),
          some(t.flop[id], count), bytes(t.bytes[id]), plan.layers.source[plan.tileLayer(id)]];
      }
      case "transfer": {
        const t = plan.transfers;
        const reader = t.reader[id] < 0 ? "" : `, for ${plan.layerName(t.reader[id])}`;
        return [plan.valueName(id), `t${id}${t.back[id] ? ", backward" : ""}${reader}`, `${t.source[id]} → ${t.to[id]}`,
          "", "", bytes(plan.transferBytes(id)), plan.layers.source[t.layer[id]] ?? ""];
      }
      case "machine": {
        const m = plan.machines;
        return [`machine ${id}`, `${plural(plan.programs[id].length, "instruction")}; busy ${dbg.seconds(m.busy_s[id])}`, id,
          some(m.parameters[id], whole), some(m.flop[id], count), bytes(m.out_bytes[id])];
      }
      default: return this.instructionCells(id);
    }
  }

  instructionCells(id) {
    const one = this.plan.instruction(id);
    const size = one.transfer in this.plan.transfers.to ? dbg.bytes(this.plan.transfers.bytes[one.transfer]) : "";
    const flop = one.segment === null ? undefined : this.plan.segments[one.machine].flop[one.segment];
    return [this.plan.instructionName(one), this.plan.instructionWords(one), one.machine, "",
      flop ? dbg.count(flop) : "", size];
  }

  wrong({ kind, id }) {
    return this.plan.wrong[kind]?.has(id);
  }

  render() {
    if (!this.grid.clientHeight) return;
    const height = dbg.LevelsView.ROW;
    const first = Math.max(0, Math.floor(this.grid.scrollTop / height) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil(this.grid.clientHeight / height) + 8);
    const elements = [];
    for (let i = first; i < last; i++) elements.push(this.element(this.rows[i], i));
    this.body.replaceChildren(...elements);
    this.grid.setAttribute("aria-activedescendant", `level-${this.at}`);
    this.grid.setAttribute("aria-rowcount", this.rows.length);
  }

  element(row, i) {
    const { el } = dbg;
    const cells = this.cells(row);
    const open = this.open.has(row.key);
    const found = this.words && String(cells[0]).toLowerCase().includes(this.words);
    const chosen = this.selected?.kind === row.kind && this.selected.id === row.id;
    const mark = row.opens ? (open ? "▾" : "▸") : "";
    const classes = ["row", `is-${row.kind}`, found && "found", chosen && "chosen", this.wrong(row) && "wrong",
      i === this.at && "at"].filter(Boolean).join(" ");
    return el("div", { class: classes, role: "row", id: `level-${i}`, "aria-level": row.depth + 1, "aria-rowindex": i + 1,
      "aria-expanded": row.opens ? String(open) : null, style: `top:${i * dbg.LevelsView.ROW}px`,
      onclick: () => this.click(i) },
    ...dbg.LevelsView.COLUMNS.map((_, k) => {
      const text = String(cells[k] ?? "");
      const lead = k === 0 ? [el("i", { style: `margin-left:${row.depth * 18}px` }, mark), this.wrong(row) ? "✗ " : ""] : [];
      return el("span", { role: "gridcell", title: text }, ...lead, text);
    }));
  }

  // Acting

  click(i) {
    this.go(i);
    this.toggle(!this.open.has(this.rows[i].key));
    this.choose();
  }

  go(i) {
    this.at = Math.min(this.rows.length - 1, Math.max(0, i));
    const top = this.at * dbg.LevelsView.ROW;
    const { scrollTop } = this.grid;
    const end = top + dbg.LevelsView.ROW;
    if (top < scrollTop) this.grid.scrollTop = top;
    if (end > scrollTop + this.height) this.grid.scrollTop = end - this.height;
    this.render();
  }

  toggle(open) {
    const row = this.rows[this.at];
    if (!row.opens) return;
    if (open) this.open.add(row.key);
    else this.open.delete(row.key);
    this.update();
  }

  choose() {
    const { kind, id } = this.rows[this.at];
    if (!["layers", "machines", "sends"].includes(kind)) this.bus.emit("select", { kind, id });
  }

  parent() {
    const { depth } = this.rows[this.at];
    for (let i = this.at; i >= 0; i--) if (this.rows[i].depth < depth) return i;
    return this.at;
  }

  key(event) {
    const row = this.rows[this.at];
    const page = Math.floor(this.height / dbg.LevelsView.ROW) - 1;
    const open = this.open.has(row.key);
    const keys = {
      ArrowDown: () => this.go(this.at + 1),
      ArrowUp: () => this.go(this.at - 1),
      PageDown: () => this.go(this.at + page),
      PageUp: () => this.go(this.at - page),
      Home: () => this.go(0),
      End: () => this.go(this.rows.length - 1),
      ArrowRight: () => (row.opens && !open ? this.toggle(true) : this.go(this.at + 1)),
      ArrowLeft: () => (row.opens && open ? this.toggle(false) : this.go(this.parent())),
      Enter: () => this.choose(),
      " ": () => this.toggle(!open),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** Opens what is above the selected thing, and goes there. */
  reveal(thing) {
    this.selected = thing;
    if (!thing) return this.render();
    for (const key of this.above(thing)) this.open.add(key);
    this.update();
    const at = this.rows.findIndex((row) => row.kind === thing.kind && row.id === thing.id);
    if (at >= 0) this.go(at);
  }

  above({ kind, id }) {
    const { plan } = this;
    const layer = (i) => ["layers:0", `layer:${i}`];
    switch (kind) {
      case "layer": return ["layers:0"];
      case "node": return layer(plan.nodes.layer[id]);
      case "tile": return [...layer(plan.tileLayer(id)), `node:${plan.tiles.node[id]}`];
      case "transfer": return [...layer(plan.transfers.layer[id]), `sends:${plan.transfers.layer[id]}`];
      case "machine": return ["machines:0"];
      case "instruction": return ["machines:0", `machine:${plan.instruction(id).machine}`];
      default: return [];
    }
  }
};
