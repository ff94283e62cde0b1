"use strict";
/* The timeline: a row per track, a box per block, an arrow from each send to its receive. What is
   drawn stands in timeline_draw.js, what is where in timeline_model.js. */

(() => {
  const { axis: AXIS, colours: COLOURS, order: ORDER, body } = dbg.timeline_style;
  const HEAD = 20; // height of the name of a group
  const [LOW, TALL, HIGH] = [4, 20, 120]; // heights of rows: least, when they are enlarged, most
  const WORDS = { compute: "computes", update: "updates parameters", send: "sends",
    receive: "receives", wait: "waits", server: "parameter server", orders: "the driver's orders" };

  let unpacked = null;
  const model_of = (data) => (unpacked ||= dbg.timeline_model(data.timeline));

  dbg.finders.push((text, data) => model_of(data).named(text, 8).map(
    ([name, id]) => ({ text: name, hint: "timeline", select: { kind: "block", id } })));
  dbg.bus.on("select", (what) => what?.kind === "block" && dbg.bus.emit("show", "timeline"));

  /** The instruction of a plan that a block shows, with the layers that it is about; or null. */
  dbg.instructionOf = (plan, block) => {
    const model = model_of(dbg.data);
    const position = model.instruction(block);
    const { machine } = model.tracks[model.track[block]];
    if (position < 0 || machine === null) return null;
    const layers = model.about(block).split(", ").map((name) => plan.layers.name.indexOf(name));
    return { kind: "instruction", id: plan.firstInstruction[machine] + position, layers };
  };

  /** 1 for each block of what is selected in another view of a plan; null where that is nothing. */
  function chosen(model, plan, what) {
    if (!what || what.kind === "block") return null;
    const own = (of) => Uint8Array.from(model.track, (track, block) => of(model.tracks[track].machine, block));
    const layer = { layer: () => what.id, node: () => plan.nodes.layer[what.id],
      tile: () => plan.tileLayer(what.id) }[what.kind]?.();
    if (layer !== undefined) {
      const found = model.of_layer(plan.layerName(layer));
      return what.kind === "tile" ? own((m, i) => found[i] && m === plan.machineOf(what)) : found;
    }
    if (what.kind === "machine") return own((machine) => machine === what.id);
    const one = what.kind === "instruction" ? plan.instruction(what.id) : null;
    const transfer = one ? one.transfer : what.id;
    if (transfer === null) return own((m, i) => m === one.machine && model.instruction(i) === one.position);
    return own((machine, block) => {
      const position = machine === null ? -1 : model.instruction(block);
      return position >= 0 && plan.transferAt(machine, position) === transfer;
    });
  }

  dbg.views.push({
    id: "timeline",
    title: "Timeline",
    mount,
    keys: [["← →", "the block before, the block after"], ["↑ ↓", "the track above, below"],
      ["Enter", "from a send to its receive, and back"],
      ["n p", "the next, the previous that is found, selected elsewhere, or critical"],
      ["c", "the critical path alone"], ["e", "tall rows"], ["w s  + -", "zoom"], ["a d", "pan"],
      ["f", "zoom to the block"], ["0", "everything"]],
  });

  function mount(root, data, bus) {
    const { el } = dbg;
    const model = model_of(data);
    const { tracks, start, stop, kind, kinds, critical, arrows } = model;
    const state = { selected: -1, hovered: -1, critical: false, tall: false, machine: null,
      crossing: false, found: null, chosen: null, rows: [], row_of: [], colours: {} };
    let [height, laid_for] = [0, -1];
    const limit = Math.max(200, 10 * model.size);

    // The parts of the view

    const pressed = (label, key, name) => el("button", { type: "button", "aria-pressed": "false",
      title: `${label} (${key})`, "data-switch": name, onclick: () => turn(name) }, label);
    const longest = Math.max(...tracks.map(({ label, group }) => Math.max(label.length, group.length)));
    const gutter = el("div", { class: "names", style: `width:min(28vw, ${24 + 7 * longest}px)` });
    const tip = el("div", { class: "tip", hidden: true });
    const place = el("div", { class: "place" });
    root.append(el("div", { class: "timeline" },
      el("div", { class: "strip" }, ...legend(), el("span", { class: "note" }, data.timeline.note),
        ...(critical.includes(1) ? [pressed("Critical path", "c", "critical")] : []),
        pressed("Tall rows", "e", "tall"),
        el("button", { type: "button", title: "Everything (0)", onclick: () => stage.fit() }, "Fit")),
      el("div", { class: "chart" }, gutter, place)));

    const { draw, over } = dbg.timeline_drawing(model, state);
    const stage = dbg.stage(place, {
      label: `${data.timeline.title}: ${tracks.length} tracks. Arrow keys go from block to block, `
        + "Enter from a send to its receive.",
      axes: "x",
      limit: limit,
      bounds: () => ({ width: model.total_s || 1, height: layout() }),
      draw(ctx, view) {
        layout();
        draw(ctx, view);
      },
      over(ctx, view) {
        gutter.firstChild.style.transform = `translateY(${-view.y}px)`;
        over(ctx, view);
      },
      buffered: true,
      at: (time_s, y, view) => {
        const row = y - view.y < AXIS ? null : state.rows.find((one) => y < AXIS + one.y + one.height);
        const block = row && row.track !== undefined ? model.at(row.track, time_s, 4 / view.kx) : -1;
        return block < 0 ? null : block;
      },
      hover(block, event) {
        state.hovered = block ?? -1;
        tell_tip(event);
        stage.refresh();
      },
      pick: (block) => select(block ?? -1),
      open: (block) => block !== null && jump(block),
      key,
    });
    place.append(tip);

    function legend() {
      const there = new Set(model.kind);
      const one = (colour, text) => el("span", { class: "key" },
        el("i", { style: `background:var(${colour})` }), text);
      const entries = ORDER.filter((name) => there.has(kinds.indexOf(name)))
        .map((name) => one(COLOURS[name], WORDS[name]));
      if (critical.includes(1)) entries.push(one(COLOURS.critical, "critical path"));
      return entries;
    }

    // Rows

    /** Places them, and returns the height of all. */
    function layout() {
      const { view } = stage;
      if (laid_for === view.height) return height;
      laid_for = view.height;
      const own = tracks.map((_, i) => i).filter((i) => tracks[i].machine === state.machine);
      const those = state.machine !== null && own.length ? own : [...tracks.keys()];
      const heads = those.filter(
        (i, at) => tracks[i].group && tracks[i].group !== tracks[those[at - 1]]?.group);
      const each = Math.floor((view.height - AXIS - 8 - heads.length * HEAD) / those.length);
      const tall = Math.min(HIGH, Math.max(each, state.tall ? TALL : LOW));
      const rows = [];
      let y = 4;
      for (const track of those) {
        if (heads.includes(track)) {
          rows.push({ y, height: HEAD, group: tracks[track].group });
          y += HEAD;
        }
        rows.push({ y, height: tall, track });
        y += tall;
      }
      height = AXIS + y + 4;
      state.rows = rows;
      state.row_of = [];
      for (const row of rows) if (row.track !== undefined) state.row_of[row.track] = row;
      name_rows();
      return height;
    }

    function relayout() {
      laid_for = -1;
      layout();
      stage.view.y = 0;
      stage.request();
    }

    /** Names stand beside the canvas, as many as there is room for. */
    function name_rows() {
      const step = Math.max(1, Math.ceil(13 / (state.rows.at(-1)?.height || 13)));
      gutter.replaceChildren(el("div", {}, ...state.rows.flatMap((row, i) => {
        const high = Math.max(row.height, 14);
        const top = AXIS + row.y + (body(row.height) - high) / 2;
        const style = `top:${top}px;height:${high}px;line-height:${high}px`;
        if (row.track === undefined) return [el("b", { style }, row.group)];
        const { name, label, machine } = tracks[row.track];
        if (i % step) return [];
        const show = () => machine !== null && bus.emit("select", { kind: "machine", id: machine });
        return [el("button", { type: "button", style, tabindex: -1, title: name, onclick: show,
          "data-machine": machine }, label)];
      })));
    }

    // What is chosen

    function select(block) {
      bus.emit("select", block < 0 ? null : { kind: "block", id: block });
    }

    function show(block) {
      layout(); // what is selected may be what opens this view
      if (!state.row_of[model.track[block]]) bus.emit("filter", { machine: null, crossing: state.crossing });
      const row = state.row_of[model.track[block]];
      const width = Math.max(stop[block] - start[block], 1 / stage.view.kx);
      const top = row.y + AXIS; // the times hide what is below them
      stage.show({ x: start[block], y: top - Math.min(AXIS, row.y), width, height: row.height + AXIS });
    }

    function jump(block) {
      const other = model.partner(block);
      if (other >= 0) select(other);
    }

    function details(block) {
      const other = model.partner(block);
      const rows = [
        ["is", WORDS[kinds[kind[block]]]],
        ["on", tracks[model.track[block]].name],
        ["from", dbg.seconds(start[block])],
        ["takes", dbg.seconds(stop[block] - start[block])],
      ];
      if (model.about(block)) rows.push(["of", model.about(block).replaceAll(", ", "\n")]);
      if (model.bytes(block)) rows.push(["bytes", dbg.bytes(model.bytes(block))]);
      const arrow = model.arrow(block);
      if (arrow >= 0) {
        const away_s = start[arrows.to[arrow]] - stop[arrows.source[arrow]];
        rows.push(["under way", dbg.seconds(Math.max(0, away_s))]);
      }
      if (critical[block]) rows.push(["critical", "on the critical path"]);
      const verb = kinds[kind[block]] === "send" ? "receive" : "send";
      const where = other < 0 ? "" : tracks[model.track[other]].name;
      const actions = other < 0 ? [] : [[`Go to its ${verb}, on ${where}`, () => jump(block)]];
      return { title: model.name(block), rows, actions };
    }

    function tell_tip(event) {
      const block = state.hovered;
      tip.hidden = block < 0;
      if (block < 0) return;
      const takes = dbg.seconds(stop[block] - start[block]);
      const size = model.bytes(block) ? `, ${dbg.bytes(model.bytes(block))}` : "";
      tip.replaceChildren(el("b", {}, model.name(block)), el("br"),
        `${WORDS[kinds[kind[block]]]}, ${takes}${size}, from ${dbg.seconds(start[block])}`);
      const right = event.offsetX > stage.view.width / 2;
      tip.style.left = right ? "" : `${event.offsetX + 14}px`;
      tip.style.right = right ? `${stage.view.width - event.offsetX + 14}px` : "";
      tip.style.top = `${Math.min(event.offsetY + 16, stage.view.height - 50)}px`;
    }

    function turn(name) {
      state[name] = !state[name];
      root.querySelector(`[data-switch=${name}]`).setAttribute("aria-pressed", state[name]);
      if (name === "tall") relayout();
      if (state.selected >= 0) show(state.selected);
      stage.request();
    }

    // Keyboard

    function key(event) {
      const { view } = stage;
      const selected = state.selected;
      const zoom = (factor) => stage.zoom(factor, view.width / 2, view.height / 2);
      if (event.shiftKey && event.key.startsWith("Arrow")) return false; // the stage pans
      const acts = {
        ArrowRight: () => beside(1),
        ArrowLeft: () => beside(-1),
        ArrowDown: () => across(1),
        ArrowUp: () => across(-1),
        Enter: () => selected >= 0 && jump(selected),
        n: () => next(1),
        p: () => next(-1),
        c: () => critical.includes(1) && turn("critical"),
        e: () => turn("tall"),
        f: () => selected >= 0 && zoom_to(selected),
        w: () => zoom(1.5),
        s: () => zoom(1 / 1.5),
        a: () => stage.pan(-80, 0),
        d: () => stage.pan(80, 0),
      };
      if (!acts[event.key]) return false;
      acts[event.key]();
      return true;
    }

    function beside(step) {
      if (state.selected < 0) return across(1);
      const { first, after } = tracks[model.track[state.selected]];
      const other = state.selected + step;
      return other >= first && other < after && select(other);
    }

    /** The block on the next track at the time of the selected one, or in the middle of the view. */
    function across(step) {
      const { view } = stage;
      const shown = state.rows.filter((row) => row.track !== undefined).map((row) => row.track);
      const block = state.selected;
      const middle_s = Math.min(view.x + view.width / view.kx / 2, model.total_s);
      const moment_s = block < 0 ? middle_s : (start[block] + stop[block]) / 2;
      const at = block < 0 ? -1 : shown.indexOf(model.track[block]);
      for (let i = at + step; i >= 0 && i < shown.length; i += step) {
        const other = model.at(shown[i], moment_s, model.total_s);
        const there = model.at(shown[i], moment_s, 0);
        if (there >= 0 || other >= 0) return select(there >= 0 ? there : other);
      }
      return null;
    }

    /** In the order of time: what was found, or what is critical. */
    function next(step) {
      const wanted = state.found ?? state.chosen ?? critical;
      const there = [];
      for (let i = 0; i < model.size; i++) if (wanted[i]) there.push(i);
      there.sort((a, b) => start[a] - start[b] || stop[a] - stop[b] || a - b);
      if (!there.length) return;
      const at = there.indexOf(state.selected);
      select(there[(at < 0 ? (step > 0 ? 0 : there.length - 1) : at + step + there.length) % there.length]);
    }

    function zoom_to(block) {
      const { view } = stage;
      const length = Math.max(stop[block] - start[block], model.total_s / limit);
      stage.zoom(view.width * 0.6 / length / view.kx, 0, 0);
      view.x = start[block] - 0.2 * view.width / view.kx;
      show(block);
    }

    // What other views say

    bus.on("theme", () => {
      const names = { ...COLOURS, text: "--text", faint: "--faint", line: "--line",
        strong: "--strong", back: "--back" };
      for (const [name, of] of Object.entries(names)) state.colours[name] = dbg.colour(of);
      stage.request();
    });
    bus.on("select", (what) => {
      state.selected = what?.kind === "block" ? what.id : -1;
      state.chosen = data.plan ? chosen(model, dbg.plan(data), what) : null;
      if (state.selected >= 0) {
        show(state.selected);
        bus.emit("details", details(state.selected));
        stage.canvas.focus({ preventScroll: true }); // so that Enter goes on from here
      }
      stage.request();
    });
    bus.on("select", (what) => {
      for (const name of gutter.querySelectorAll("button")) {
        name.classList.toggle("chosen", what?.kind === "machine" && name.dataset.machine === String(what.id));
      }
    });
    bus.on("filter", ({ machine, crossing }) => {
      Object.assign(state, { machine, crossing });
      relayout();
    });
    bus.on("search", (text) => {
      state.found = text ? model.matching(text) : null;
      stage.request();
    });
  }
})();
