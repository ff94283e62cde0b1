"use strict";
/* The cut as a picture. Sheets that lie further right are behind; what flows into a sheet is drawn
   over it, what flows out begins behind it. Level of detail: units and numbers when there is room
   for them, borders when regions are wide enough, and of very many edges the heaviest alone. */

dbg.views.push({
  id: "cut",
  title: "The cut",
  keys: [["← →", "the previous, the next layer"], ["↑ ↓", "the regions of a layer"],
    ["Enter", "opens the layer or the tile in levels"], ["Shift + arrows", "move"],
    ["+ − 0", "nearer, further, all of it"]],
  mount(root, data, bus) {
    new dbg.CutView(root, data, bus);
  },
});

dbg.CutView = class {
  static MOST_EDGES = 1500;
  static MANY = 200; // so many edges would cover the sheets
  static WIDTHS = [0.7, 1.4, 2.4, 3.8, 5.6, 8];

  constructor(root, data, bus) {
    this.bus = bus;
    this.plan = dbg.plan(data);
    this.shape = new dbg.Geometry(data.cut, this.plan);
    this.labels = new dbg.Labels(this.plan, this.shape);
    this.filter = { machine: null, crossing: false };
    this.focus = { sheet: -1, piece: -1 };
    this.selected = null;
    this.hovered = null;
    this.words = "";
    this.edges = this.readEdges();
    this.heavy = this.heaviestOfEach(this.edges);
    this.bundles = this.bundled(this.heavy);
    root.classList.add("cut");
    this.stage = dbg.stage(root, {
      label: "The cut: layers from left to right, regions coloured by machine. Arrows go through them.",
      bounds: () => this.shape,
      draw: (ctx, view) => this.draw(ctx, view),
      at: (x, y) => this.at(x, y),
      hover: (thing, event) => this.hover(thing, event),
      pick: (thing) => bus.emit("select", thing),
      open: (thing) => thing && bus.emit("show", "levels"),
      key: (event) => this.key(event),
      buffered: true,
    });
    this.tip = dbg.tip(root);
    this.legend(root);
    const again = () => this.stage.request();
    bus.on("theme", () => { this.palette = null; again(); });
    bus.on("filter", (filter) => { this.filter = filter; again(); });
    bus.on("search", (words) => { this.words = words; again(); });
    bus.on("select", (what) => {
      this.selected = this.plan.thing(what);
      this.follow(this.selected);
      again();
    });
  }

  // Edges

  /** Those that cross, the heaviest first; then those that stay. */
  readEdges() {
    const e = this.shape.edges;
    const all = e.from.map((from, i) => ({ from, machine: e.from_machine[i], to: e.to[i],
      other: e.to_machine[i], bytes: e.bytes[i] + e.back[i] }));
    this.stays = all.filter((edge) => !edge.bytes);
    this.heaviest = all.reduce((most, edge) => Math.max(most, edge.bytes), 1);
    this.crossers = new Set(all.filter((edge) => edge.bytes).flatMap((edge) => [
      this.shape.key(edge.from, edge.machine), this.shape.key(edge.to, edge.other)]));
    return all.filter((edge) => edge.bytes).sort((a, b) => b.bytes - a.bytes);
  }

  /** Of each pair of layers the heaviest: so none seems to send nothing. */
  heaviestOfEach(edges) {
    const pair = (edge) => this.shape.key(edge.from, edge.to);
    const share = Math.ceil(dbg.CutView.MOST_EDGES / new Set(edges.map(pair)).size);
    const taken = new Map();
    return edges.filter((edge) => {
      const before = taken.get(pair(edge)) ?? 0;
      taken.set(pair(edge), before + 1);
      return before < share;
    });
  }

  /** sheet → paths by width of what flows into it. */
  bundled(edges) {
    const found = this.shape.sheets.layer.map(() => dbg.CutView.WIDTHS.map(() => null));
    for (const edge of edges) {
      const step = Math.sqrt(edge.bytes / this.heaviest) * dbg.CutView.WIDTHS.length;
      const width = Math.min(dbg.CutView.WIDTHS.length - 1, Math.floor(step));
      const path = (found[edge.to][width] ||= new Path2D());
      this.shape.curve(path, edge.from, edge.machine, edge.to, edge.other);
    }
    return found;
  }

  /** sheet → a path of what stays on its machine; of very many some, evenly. */
  thin(edges) {
    const found = this.shape.sheets.layer.map(() => null);
    const step = Math.ceil(edges.length / dbg.CutView.MOST_EDGES);
    for (let i = 0; i < edges.length; i += step) {
      const edge = edges[i];
      const path = (found[edge.to] ||= new Path2D());
      this.shape.curve(path, edge.from, edge.machine, edge.to, edge.other);
    }
    return found;
  }

  // What is shown

  /** The machine that is singled out; null for none. */
  get machine() {
    return this.filter.machine ?? this.plan.machineOf(this.hovered) ?? this.plan.machineOf(this.selected);
  }

  colours() {
    const names = { text: "--text", faint: "--faint", line: "--line", strong: "--strong", back: "--back",
      wrong: "--wrong", accent: "--accent" };
    this.palette ||= {
      machines: dbg.machineColours.map(dbg.colour),
      ...Object.fromEntries(Object.entries(names).map(([key, name]) => [key, dbg.colour(name)])),
    };
    return this.palette;
  }

  draw(ctx, view) {
    const one = this.machine;
    this.single(one);
    ctx.save();
    ctx.scale(view.kx, view.ky);
    ctx.translate(-view.x, -view.y);
    const behind = one === null && this.edges.length > dbg.CutView.MANY;
    for (const s of this.shape.order) {
      if (behind) this.drawEdges(ctx, view, s, one);
      if (this.inSight(s, view)) this.drawSheet(ctx, view, s, one);
      if (!behind) this.drawEdges(ctx, view, s, one);
    }
    if (one !== null) this.drawOne(ctx, view, one);
    this.drawMarks(ctx, view);
    ctx.restore();
    this.labels.draw(ctx, view, this.colours());
  }

  /** Paths of the machine that is singled out, kept until another one is. */
  single(machine) {
    if (machine === null || this.singled?.machine === machine) return;
    const own = (edge) => edge.machine === machine || edge.other === machine;
    const pieces = this.shape.machine.flatMap((m, i) => (m === machine ? [i] : []));
    const halo = new Path2D();
    this.shape.halos.machine.forEach((m, i) => m === machine && this.shape.trace(halo, this.shape.haloQuad(i), 0));
    this.singled = { machine, pieces, path: this.shape.piecesPath(pieces), halo,
      bundles: this.bundled(this.edges.filter(own)), thin: this.thin(this.stays.filter(own)) };
  }

  inSight(s, view) {
    const b = this.shape.boxes[s];
    return b.x < view.x + view.width / view.kx && b.x + b.width > view.x
      && b.y < view.y + view.height / view.ky && b.y + b.height > view.y;
  }

  drawSheet(ctx, view, s, one) {
    const { machines, back, strong } = this.colours();
    const { units, deep } = this.shape.sheets;
    const room = this.shape.smallest[s] * view.kx;
    const fills = this.shape.fills[s];
    for (let number = fills.length - 1; number >= 0; number--) {
      const whole = new Path2D();
      this.shape.trace(whole, this.shape.quad(s, number, 0, units[s], 0, deep[s]), 0);
      ctx.fillStyle = one === null ? strong : back;
      ctx.fill(whole);
      for (const [colour, path] of fills[number]) {
        ctx.globalAlpha = one === null ? 1 : 0.2;
        ctx.fillStyle = machines[colour];
        ctx.fill(path);
        ctx.globalAlpha = 1;
        if (room > 4) {
          ctx.strokeStyle = back;
          ctx.lineWidth = Math.min(1.5, room / 12) / view.kx;
          ctx.stroke(path);
        }
      }
      if (one === null && room > 14) this.hatch(ctx, view, this.shape.hatches[s][number], back, 0.55);
      this.drawUnits(ctx, view, s, number, one);
      ctx.lineWidth = 1 / view.kx;
      ctx.strokeStyle = strong;
      ctx.stroke(whole);
    }
    if (this.filter.crossing) this.fade(ctx, s, back);
    if (one === null) this.drawNumbers(ctx, view, s, () => true);
  }

  /** Shares that neither send nor receive, where only what crosses is asked for. */
  fade(ctx, s, back) {
    const quiet = this.shape.ofSheet[s].filter((i) => !this.crossers.has(this.shape.key(s, this.shape.machine[i])));
    ctx.globalAlpha = 0.75;
    ctx.fillStyle = back;
    ctx.fill(this.shape.piecesPath(quiet));
    ctx.globalAlpha = 1;
  }

  /** Stripes as wide on the screen at any distance. */
  hatch(ctx, view, path, colour, alpha) {
    const tile = dbg.el("canvas", { width: 6, height: 6 });
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    for (const shift of [-6, 0, 6]) {
      pen.moveTo(shift, 6);
      pen.lineTo(shift + 6, 0);
    }
    pen.stroke();
    const pattern = ctx.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(1 / view.kx));
    ctx.globalAlpha = alpha;
    ctx.fillStyle = pattern;
    ctx.fill(path);
    ctx.globalAlpha = 1;
  }

  /** Units as dots, once they are large enough: only those in sight. */
  drawUnits(ctx, view, s, number, one) {
    const { units, deep, width, height } = this.shape.sheets;
    const size = Math.min(height[s] / units[s], width[s] / deep[s]);
    if (size * view.kx < 7 || units[s] * deep[s] < 2) return;
    const radius = size * 0.26;
    const [right, bottom] = [view.x + view.width / view.kx, view.y + view.height / view.ky];
    ctx.fillStyle = this.colours().back;
    ctx.globalAlpha = one === null ? 0.62 : 0.35;
    ctx.beginPath();
    for (let v = 0; v < deep[s]; v++) {
      const [x, top] = this.shape.point(s, number, 0, v + 0.5);
      if (x < view.x - radius || x > right + radius) continue;
      const first = Math.max(0, Math.floor(((view.y - top) / height[s]) * units[s]));
      const last = Math.min(units[s], Math.ceil(((bottom - top) / height[s]) * units[s]));
      for (let u = first; u < last; u++) {
        const y = top + ((u + 0.5) / units[s]) * height[s];
        ctx.moveTo(x + radius, y);
        ctx.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  /** Machines' numbers on the regions in front, where they fit. */
  drawNumbers(ctx, view, s, shown) {
    if (this.shape.smallest[s] * view.kx < 4 + 8 * String(this.plan.count - 1).length) return;
    const { back, text } = this.colours();
    ctx.font = `600 ${12 / view.kx}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineWidth = 3.5 / view.kx;
    ctx.lineJoin = "round";
    for (const i of this.shape.ofSheet[s]) {
      const machine = this.shape.machine[i];
      if (this.shape.pieces.number[i] > 0 || !shown(machine)) continue;
      const [x, y] = this.shape.centre(i);
      ctx.strokeStyle = back;
      ctx.strokeText(machine, x, y);
      ctx.fillStyle = text;
      ctx.fillText(machine, x, y);
    }
  }

  drawEdges(ctx, view, s, one) {
    const { text, strong, machines } = this.colours();
    const single = one !== null;
    const thin = single ? this.singled.thin[s] : (this.thinPaths ||= this.thin(this.stays))[s];
    if (thin && !this.filter.crossing) {
      ctx.strokeStyle = single ? machines[this.shape.colours[one]] : strong;
      ctx.lineWidth = (single ? 1.5 : 1) / view.kx;
      ctx.stroke(thin);
    }
    const many = this.edges.length > dbg.CutView.MANY;
    ctx.globalAlpha = single ? 0.85 : many ? 0.3 : 0.75;
    ctx.strokeStyle = single ? machines[this.shape.colours[one]] : text;
    (single ? this.singled : this).bundles[s].forEach((path, k) => {
      if (!path) return;
      ctx.lineWidth = dbg.CutView.WIDTHS[k] * (many && !single ? 0.5 : 1) / Math.sqrt(view.kx);
      ctx.stroke(path);
    });
    ctx.globalAlpha = 1;
  }

  /** The machine that is singled out, above all others: its regions, and what it reads of others. */
  drawOne(ctx, view, one) {
    const { machines, text } = this.colours();
    ctx.fillStyle = machines[this.shape.colours[one]];
    ctx.globalAlpha = 0.9;
    ctx.fill(this.singled.path);
    ctx.globalAlpha = 1;
    ctx.lineWidth = 1.5 / view.kx;
    ctx.strokeStyle = text;
    ctx.stroke(this.singled.path);
    this.hatch(ctx, view, this.singled.halo, machines[this.shape.colours[one]], 0.9);
    ctx.setLineDash([4 / view.kx, 3 / view.kx]);
    ctx.strokeStyle = machines[this.shape.colours[one]];
    ctx.stroke(this.singled.halo);
    ctx.setLineDash([]);
    for (const s of this.shape.order) this.drawNumbers(ctx, view, s, (machine) => machine === one);
  }

  /** What is focused, selected, found, or wrong. */
  drawMarks(ctx, view) {
    const { accent, wrong } = this.colours();
    const around = (path, colour, width) => {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width / view.kx;
      ctx.stroke(path);
    };
    const { sheets } = this.shape;
    const whole = (s) => {
      const path = new Path2D();
      for (let k = 0; k < sheets.count[s]; k++) {
        this.shape.trace(path, this.shape.quad(s, k, 0, sheets.units[s], 0, sheets.deep[s]), 0);
      }
      return path;
    };
    sheets.layer.forEach((layer, s) => {
      const found = this.words && this.plan.layers.name[layer].toLowerCase().includes(this.words);
      const chosen = this.selected?.kind === "layer" && this.selected.id === layer;
      if (found || chosen) around(whole(s), accent, 3);
      if (this.plan.wrong.layer.has(layer)) around(whole(s), wrong, 3.5);
    });
    const bad = this.shape.machine.flatMap((m, i) => (this.plan.wrong.machine.has(m) ? [i] : []));
    around(this.shape.piecesPath(bad), wrong, 2.5);
    around(this.transfersPath(this.plan.wrong.transfer), wrong, 4);
    const { transfer, pieces } = this.chosen();
    if (transfer !== null) around(this.transfersPath([transfer]), accent, 4);
    around(this.shape.piecesPath(pieces), accent, 4);
    if (document.activeElement !== this.stage.canvas) return;
    if (this.focus.piece >= 0) around(this.shape.piecesPath([this.focus.piece]), accent, 3);
    else if (this.focus.sheet >= 0) around(whole(this.focus.sheet), accent, 3);
  }

  /** Of what is selected: the transfer, or null, and the regions. */
  chosen() {
    const { plan, shape, selected } = this;
    if (selected?.kind === "tile") return { transfer: null, pieces: indices(shape.pieces.tile, (tile) => tile === selected.id) };
    if (selected?.kind === "transfer") return { transfer: selected.id, pieces: [] };
    if (selected?.kind !== "instruction") return { transfer: null, pieces: [] };
    const { machine, transfer } = plan.instruction(selected.id);
    const layers = new Set(transfer === null ? selected.layers : []);
    const own = (m, i) => m === machine && layers.has(shape.sheets.layer[shape.pieces.sheet[i]]);
    return { transfer, pieces: indices(shape.machine, own) };

    function indices(list, wanted) {
      return [...list.keys()].filter((i) => wanted(list[i], i));
    }
  }

  /** The curves of transfers, from layer to layer. */
  transfersPath(those) {
    const path = new Path2D();
    const { layer, reader, source, to } = this.plan.transfers;
    for (const t of those) {
      const [from, into] = [layer[t], reader[t]].map((one) => this.shape.sheets.layer.indexOf(one));
      if (from >= 0 && into >= 0) this.shape.curve(path, from, source[t], into, to[t]);
    }
    return path;
  }

  legend(root) {
    const { el } = dbg;
    const swatch = (colour) => el("i", { style: `background:var(${colour})` });
    const few = this.plan.count <= dbg.machineColours.length;
    const machines = few
      ? this.shape.colours.map((colour, p) => el("span", {}, swatch(dbg.machineColours[colour]), `machine ${p}`))
      : [el("span", {}, ...dbg.machineColours.map(swatch), "machines: neighbours differ; point at one to single it out")];
    const drawn = this.heavy.length;
    const heavy = drawn < this.edges.length
      ? `; drawn are ${dbg.whole(drawn)} of ${dbg.whole(this.edges.length)}, the heaviest of each pair of layers` : "";
    root.append(el("div", { class: "legend" }, ...machines,
      ...(drawn ? [el("span", {}, el("i", { class: "thick" }), `crosses, up to ${dbg.bytes(this.heaviest)}${heavy}`)] : []),
      el("span", {}, el("i", { class: "thin" }), "stays on its machine"),
      ...(this.shape.halos.sheet.length ? [el("span", {}, el("i", { class: "hatch" }), "read by others too")] : [])));
  }

  // Pointer and keyboard

  at(x, y) {
    const piece = this.shape.at(x, y);
    if (piece >= 0) return { kind: "tile", id: this.shape.pieces.tile[piece] };
    const s = this.shape.boxes.findIndex((b) =>
      x > b.x - 10 && x < b.x + b.width + 10 && y > b.y + b.height && y < b.y + b.height + 64);
    return s < 0 ? null : { kind: "layer", id: this.shape.sheets.layer[s] };
  }

  hover(thing, event) {
    const same = thing?.kind === this.hovered?.kind && thing?.id === this.hovered?.id;
    this.tip(thing && this.plan.describe(thing), event.offsetX, event.offsetY);
    this.stage.canvas.style.cursor = thing ? "pointer" : "grab";
    if (same) return;
    this.hovered = thing;
    this.bus.emit("hover", thing);
    this.stage.request();
  }

  key(event) {
    if (event.shiftKey) return false;
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (along) this.focusSheet(along);
    else if (down && this.focus.sheet >= 0) this.focusPiece(down);
    else if (event.key === "Enter" && this.focus.sheet >= 0) this.bus.emit("show", "levels");
    else return false;
    return true;
  }

  focusSheet(step) {
    const order = [...this.shape.order].reverse();
    const at = order.indexOf(this.focus.sheet);
    const sheet = order[Math.min(order.length - 1, Math.max(0, at + step))];
    this.focus = { sheet, piece: -1 };
    this.bus.emit("select", { kind: "layer", id: this.shape.sheets.layer[sheet] });
    this.stage.show(this.shape.boxes[sheet]);
  }

  focusPiece(step) {
    const pieces = this.shape.ofSheet[this.focus.sheet];
    const at = this.focus.piece < 0 ? (step > 0 ? -1 : 0) : pieces.indexOf(this.focus.piece);
    const piece = pieces[(at + step + pieces.length) % pieces.length];
    this.focus = { ...this.focus, piece };
    this.bus.emit("select", { kind: "tile", id: this.shape.pieces.tile[piece] });
  }

  /** What is selected elsewhere comes into sight. */
  follow(thing) {
    if (!thing || !this.stage?.view.width) return;
    const layer = { layer: () => thing.id, tile: () => this.plan.tileLayer(thing.id),
      transfer: () => this.plan.transfers.layer[thing.id],
      instruction: () => this.plan.transfers.layer[this.plan.instruction(thing.id).transfer]
        ?? thing.layers?.[0] }[thing.kind]?.();
    const s = this.shape.sheets.layer.indexOf(layer);
    if (s >= 0 && !this.inSight(s, this.stage.view)) this.stage.show(this.shape.boxes[s]);
  }
};
