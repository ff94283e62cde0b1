"use strict";
/* What all views of a plan share: names, words, details, search. plan.py lists the data. */

/** The plan's tables with what is looked up in them; made once. */
dbg.plan = (data) => (dbg.plan.made ||= new dbg.Plan(data.plan, data.page.problems));

dbg.Plan = class {
  constructor(tables, problems) {
    Object.assign(this, tables);
    this.count = this.head.partitions;
    this.tilesOfNode = group(this.tiles.node, this.nodes.name.length);
    this.nodesOfLayer = group(this.nodes.layer, this.layers.name.length);
    this.transfersOfLayer = group(this.transfers.layer, this.layers.name.length);
    this.firstInstruction = [0];
    for (const program of this.programs) this.firstInstruction.push(this.firstInstruction.at(-1) + program.length);
    this.wrong = { layer: new Set(), machine: new Set(), transfer: new Set(), instruction: new Set() };
    for (const problem of problems) this.mark(problem);

    function group(keys, n) {
      const found = Array.from({ length: n }, () => []);
      keys.forEach((key, i) => found[key]?.push(i));
      return found;
    }
  }

  /** Where a problem is, so is one in all that holds the place. */
  mark({ kind, id }) {
    this.wrong[kind]?.add(id);
    if (kind === "instruction") {
      const { machine, transfer } = this.instruction(id);
      this.wrong.machine.add(machine);
      if (transfer !== null && transfer < this.transfers.to.length) this.wrong.transfer.add(transfer);
    }
    if (kind === "transfer") this.wrong.layer.add(this.transfers.layer[id]);
  }

  tileName(i) {
    const node = this.tiles.node[i];
    const name = this.nodes.name[node];
    return this.tilesOfNode[node].length > 1 ? `${name}[${this.tiles.number[i]}]` : name;
  }

  tileLayer(i) {
    return this.nodes.layer[this.tiles.node[i]];
  }

  /** "rows 0:12, cols 6:12": the axes along which it is less than the whole. */
  region(i) {
    const box = this.boxes[this.tiles.box[i]];
    const node = this.tiles.node[i];
    const parts = this.nodes.axes[node].flatMap((name, axis) => {
      const [low, high] = [box[2 * axis], box[2 * axis + 1]];
      return low === 0 && high === this.nodes.shape[node][axis] ? [] : [`${name} ${low}:${high}`];
    });
    return parts.join(", ") || "all of it";
  }

  tileShape(i) {
    const box = this.boxes[this.tiles.box[i]];
    return box.filter((_, k) => k % 2).map((high, k) => high - box[2 * k]).join(" × ") || "scalar";
  }

  valueName(t) {
    return this.values[this.transfers.value[t]];
  }

  transferBytes(t) {
    return this.transfers.bytes[t] * this.transfers.times[t];
  }

  /** {machine, position, kind, transfer, segment, microbatch} of an instruction's number. */
  instruction(id) {
    let machine = 0;
    while (machine + 1 < this.count && this.firstInstruction[machine + 1] <= id) machine++;
    const position = id - this.firstInstruction[machine];
    const code = this.programs[machine][position];
    const microbatch = code % this.head.microbatches;
    const rest = Math.floor(code / this.head.microbatches);
    const index = Math.floor(rest / 4);
    const kind = ["RUN", "SEND", "RECV", "UPDATE"][rest % 4];
    const moves = kind === "SEND" || kind === "RECV";
    return { machine, position, kind, microbatch, index, transfer: moves ? index : null,
      segment: kind === "RUN" ? index : null };
  }

  /** The transfer of a machine's instruction; null for those that move nothing. */
  transferAt(machine, position) {
    const rest = Math.floor(this.programs[machine][position] / this.head.microbatches);
    return rest % 4 === 1 || rest % 4 === 2 ? Math.floor(rest / 4) : null;
  }

  /** What is selected: of a block of the timeline the instruction that it shows. */
  thing(what) {
    return what?.kind === "block" ? dbg.instructionOf(this, what.id) : what;
  }

  instructionName({ kind, index, microbatch }) {
    if (kind === "UPDATE") return kind;
    return `${kind} ${kind === "RUN" ? "s" : "t"}${index}.${microbatch}`;
  }

  /** What an instruction is about, in words. */
  instructionWords({ machine, kind, index }) {
    if (kind === "UPDATE") return "the optimiser's rule, on its parameters";
    if (kind === "RUN") {
      const { nodes, first, last } = this.segments[machine];
      if (!(index in nodes)) return "no such segment";
      const ends = [...new Set([first[index], last[index]])].map((l) => this.layerName(l));
      return `${ends.join(" … ")}, ${dbg.plural(nodes[index], "node")}`;
    }
    if (!(index in this.transfers.to)) return "no such transfer";
    const peer = kind === "SEND" ? `to ${this.transfers.to[index]}` : `from ${this.transfers.source[index]}`;
    return `${this.valueName(index)} ${peer}`;
  }

  layerName(i) {
    return this.layers.name[i] ?? "total loss";
  }

  /** What hovering and selecting show: {title, rows}; null for what is unknown. */
  describe({ kind, id }) {
    const write = { layer: this.aboutLayer, machine: this.aboutMachine, tile: this.aboutTile,
      transfer: this.aboutTransfer, instruction: this.aboutInstruction, node: this.aboutNode }[kind];
    return write && id >= 0 ? write.call(this, id) : null;
  }

  aboutLayer(i) {
    const l = this.layers;
    const tiles = this.nodesOfLayer[i].flatMap((node) => this.tilesOfNode[node]);
    const machines = new Set(tiles.map((t) => this.tiles.machine[t])).size;
    return { title: l.name[i], rows: [["kind", l.op[i]], ["of one example", `${l.shape[i]}, ${l.dtype[i]}`],
      ["cut", l.cut[i]], ["stands on", dbg.plural(machines, "machine")],
      ["parameters", dbg.whole(l.parameters[i])], ["FLOP forward", dbg.count(l.flop[i])],
      ["sends", dbg.bytes(l.forward_bytes[i])], ["sends back", dbg.bytes(l.backward_bytes[i])],
      ["declared at", l.source[i] || "nowhere"]] };
  }

  aboutNode(i) {
    const { name, op, shape, layer } = this.nodes;
    return { title: name[i], rows: [["kind", op[i]], ["layer", this.layerName(layer[i])],
      ["of a microbatch", shape[i].join(" × ") || "scalar"], ["tiles", dbg.whole(this.tilesOfNode[i].length)],
      ["declared at", this.layers.source[layer[i]]]] };
  }

  aboutTile(i) {
    const t = this.tiles;
    const layer = this.tileLayer(i);
    return { title: this.tileName(i), rows: [["layer", this.layerName(layer)], ["machine", String(t.machine[i])],
      ["kind", this.nodes.op[t.node[i]]], ["region", this.region(i)], ["shape", this.tileShape(i)],
      ["parameters", dbg.whole(t.parameters[i])], ["FLOP forward", dbg.count(t.flop[i])],
      ["bytes", dbg.bytes(t.bytes[i])], ["declared at", this.layers.source[layer]]] };
  }

  aboutMachine(i) {
    const m = this.machines;
    const rows = [["kind", m.name[i]], ["tiles", dbg.whole(m.tiles[i])], ["parameters", dbg.whole(m.parameters[i])],
      ["memory", dbg.bytes(m.memory_bytes[i]) + (m.limit_bytes[i] ? ` of ${dbg.bytes(m.limit_bytes[i])}` : "")],
      ["FLOP", dbg.count(m.flop[i])], ["in", dbg.bytes(m.in_bytes[i])], ["out", dbg.bytes(m.out_bytes[i])],
      ["busy", dbg.seconds(m.busy_s[i])], ["computes", dbg.seconds(m.compute_s[i])],
      ["messages", dbg.seconds(m.send_s[i] + m.receive_s[i])], ["idle", dbg.seconds(m.idle_s[i])],
      ["waits most for", m.waits[i]]];
    return { title: `Machine ${i}`, rows: rows.filter(([, text]) => text) };
  }

  aboutTransfer(i) {
    const t = this.transfers;
    const reader = t.reader[i] < 0 ? "" : this.layerName(t.reader[i]);
    return { title: this.valueName(i), rows: [["transfer", `t${i}`], ["from", `machine ${t.source[i]}`],
      ["to", `machine ${t.to[i]}`], ["bytes", dbg.bytes(t.bytes[i])], ["times a step", String(t.times[i])],
      ["direction", t.back[i] ? "backward" : "forward"], ["layer", this.layerName(t.layer[i])],
      ["read by", reader], ["declared at", this.layers.source[t.layer[i]] ?? ""]].filter(([, text]) => text) };
  }

  aboutInstruction(id) {
    const one = this.instruction(id);
    const rows = [["machine", String(one.machine)], ["place in its program", `${one.position + 1} of ${this.programs[one.machine].length}`],
      ["does", this.instructionWords(one)]];
    if (one.transfer !== null && one.transfer in this.transfers.to) rows.push(...this.aboutTransfer(one.transfer).rows.slice(1));
    if (one.segment !== null && one.segment in this.segments[one.machine].flop) {
      rows.push(["FLOP", dbg.count(this.segments[one.machine].flop[one.segment])]);
    }
    return { title: this.instructionName(one), rows };
  }

  /** The machine that a thing belongs to; null for layers. */
  machineOf(what) {
    const thing = this.thing(what);
    if (!thing) return null;
    if (thing.kind === "machine") return thing.id;
    if (thing.kind === "tile") return this.tiles.machine[thing.id];
    if (thing.kind === "instruction") return this.instruction(thing.id).machine;
    return null;
  }
};

/** A small box beside the pointer: dbg.tip(root) → show(found, x, y), found as details are. */
dbg.tip = (root) => {
  const box = dbg.el("div", { class: "tip", hidden: true });
  root.append(box);
  return (found, x, y) => {
    box.hidden = !found;
    if (!found) return;
    box.replaceChildren(dbg.el("b", {}, found.title),
      dbg.el("dl", {}, ...found.rows.flatMap(([name, text]) => [dbg.el("dt", {}, name), dbg.el("dd", {}, text)])));
    const [width, height] = [root.clientWidth, root.clientHeight];
    box.style.left = `${Math.max(4, x + box.offsetWidth + 24 > width ? x - box.offsetWidth - 14 : x + 16)}px`;
    box.style.top = `${Math.max(4, Math.min(y + 12, height - box.offsetHeight - 8))}px`;
  };
};

/** The colour of each machine, as CSS names them. */
dbg.machineColours = ["--blue", "--orange", "--green", "--purple", "--sky", "--vermillion", "--grey"];

// The side panel shows what is selected.
dbg.bus.on("select", (thing) => {
  if (!thing || !dbg.data?.plan) return;
  const plan = dbg.plan(dbg.data);
  const found = plan.describe(thing);
  if (!found) return;
  if (thing.kind === "instruction") dbg.bus.emit("show", "levels");
  const actions = [["Open in levels", () => dbg.bus.emit("show", "levels")]];
  const machine = plan.machineOf(thing);
  if (machine !== null) {
    actions.push([`Only machine ${machine}`, () => dbg.bus.emit("filter", { machine, crossing: false })]);
  }
  dbg.bus.emit("details", { ...found, actions });
});

// What a search finds: layers, machines, tiles, values; those that begin so come first.
dbg.finders.push((text, data) => {
  if (!data.plan) return [];
  const plan = dbg.plan(data);
  const most = 40;
  const found = [];
  const add = (name, hint, kind, id) => {
    if (found.length < most) found.push({ text: name, hint, select: { kind, id } });
  };
  const number = text.match(/^(?:machine|partition)?\s*(\d+)$/)?.[1];
  if (number !== undefined && Number(number) < plan.count) add(`machine ${number}`, plan.machines.name[number], "machine", Number(number));
  const matches = (name) => name.toLowerCase().includes(text);
  plan.layers.name.forEach((name, i) => matches(name) && add(name, `layer, ${plan.layers.cut[i]}`, "layer", i));
  if (number === undefined && "machine".startsWith(text)) for (let p = 0; p < plan.count; p++) add(`machine ${p}`, "", "machine", p);
  const { node, machine } = plan.tiles;
  for (let i = 0; i < node.length && found.length < most; i++) {
    const name = plan.tileName(i);
    if (matches(name)) add(name, `tile, machine ${machine[i]}`, "tile", i);
  }
  for (let t = 0; t < plan.transfers.to.length && found.length < most; t++) {
    if (matches(plan.valueName(t)) || text === `t${t}`) {
      add(plan.valueName(t), `t${t}, ${plan.transfers.source[t]} → ${plan.transfers.to[t]}`, "transfer", t);
    }
  }
  return found;
});
