"use strict";
/* What is drawn of a timeline. Narrow blocks are pixels of strips (timeline_strips.js); those of less
   than two pixels are drawn together, in the colour of what takes most of the time.

   dbg.timeline_drawing(model, state) returns {draw(ctx, view), over(ctx, view)}, see stage.js; over is
   what must keep up with the pointer, and the times. They read of the state: rows ({y, height, track},
   or {y, height, group}), row_of (by track), colours, selected, hovered (blocks, or -1), critical and
   crossing (only these are lit), found and chosen (1 for blocks that the search finds, or that are of
   what is selected in another view; or null). */

dbg.timeline_style = {
  axis: 26, // height of the times, in pixels
  colours: { compute: "--compute", update: "--sky", send: "--orange", receive: "--green",
    wait: "--strong", server: "--purple", orders: "--yellow", critical: "--vermillion" },
  order: ["wait", "orders", "compute", "update", "server", "receive", "send"], // on top: the last
  /** The height of a block in a row. */
  body: (row) => (row < 8 ? row : row - Math.max(2, Math.round(row * 0.16))),
};

dbg.timeline_drawing = (model, state) => {
  const { axis: AXIS, order: ORDER, body } = dbg.timeline_style;
  const FINE = 2; // blocks narrower than this are drawn together
  const BOX = 5; // those narrower than this are drawn as pixels, without a gap between them
  const ARROWS = 250; // as many are drawn at once; if there are more, those that matter
  const DIM = 0.13;
  const LETTER = 6.1; // width of a letter of 11 pixels
  const { tracks, start, stop, kind, kinds, critical, arrows } = model;
  const idle = kinds.map((name) => name === "wait" || name === "orders"); // drawn thin
  const taken = new Float64Array(kinds.length); // of the time, by kind
  const [FULL, THIN, PATH] = [0, 1, 2]; // the strips of a row
  const strips = dbg.timeline_strips(3);

  const x_of = (time_s, view) => (time_s - view.x) * view.kx;
  const mark = (tall) => (tall >= 24 ? 4 : tall >= 12 ? 3 : 1.5);
  const is_lit = (block) => (!state.critical || critical[block])
    && (!state.found || state.found[block]) && (!state.chosen || state.chosen[block])
    && (!state.crossing || model.bytes(block) > 0);

  return { draw, over };

  function draw(ctx, view) {
    const boxes = kinds.map(() => [[], []]); // by kind; not dimmed, dimmed
    const path = [];
    const labels = [];
    const top = (row) => AXIS + row.y - view.y;
    const shown = state.rows.filter((row) => row.track !== undefined
      && top(row) + row.height >= 0 && top(row) <= view.height);
    const inks = inks_of();
    strips.begin(view.width, shown.length);
    shown.forEach((row, at) => collect(row.track, at, top(row), row.height, view, inks, boxes, path, labels));
    strips.end();
    lines(ctx, view);
    for (const name of ORDER) fill(ctx, state.colours[name], boxes[kinds.indexOf(name)]);
    shown.forEach((row, at) => draw_strips(ctx, at, top(row), row.height));
    fill(ctx, state.colours.critical, [path, []]);
    write(ctx, view, labels);
    draw_arrows(ctx, view);
  }

  /** By kind: lit, dimmed; and of the critical path. */
  function inks_of() {
    const both = (name) => [dbg.ink(state.colours[name], 1), dbg.ink(state.colours[name], DIM)];
    return { kinds: kinds.map(both), critical: dbg.ink(state.colours.critical, 1) };
  }

  function draw_strips(ctx, at, y, tall) {
    const [inner, high] = [body(tall), mark(tall)];
    ctx.imageSmoothingEnabled = false;
    strips.draw(ctx, at, FULL, y, inner);
    strips.draw(ctx, at, THIN, y + inner * 0.42, inner * 0.16);
    strips.draw(ctx, at, PATH, y + inner - high, high);
  }

  function over(ctx, view) {
    for (const block of [state.selected, state.hovered]) {
      const arrow = block < 0 ? -1 : model.arrow(block);
      if (arrow >= 0) curve(ctx, view, arrow, state.colours.text, 2, 1);
    }
    outline(ctx, view, state.hovered, 1);
    outline(ctx, view, state.selected, 2);
    axis(ctx, view);
    if (dbg.printing) names(ctx, view);
  }

  /** On paper there is nothing beside the canvas: at the left, as many as there is room for. */
  function names(ctx, view) {
    ctx.font = "600 11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    let free = AXIS;
    for (const { y, height, track, group } of state.rows) {
      const middle = AXIS + y - view.y + body(height) / 2;
      if (middle - 6 < free) continue;
      const name = track === undefined ? group : tracks[track].name;
      ctx.fillStyle = state.colours.back;
      ctx.fillRect(0, middle - 7, ctx.measureText(name).width + 5, 14);
      ctx.fillStyle = state.colours.text;
      ctx.fillText(name, 2, middle);
      free = middle + 8;
    }
  }

  /** The boxes of one track: x, y, width, height, one after another; and its strips. */
  function collect(track, at, y, tall, view, inks, boxes, path, labels) {
    const { after } = tracks[track];
    const end_s = view.x + view.width / view.kx;
    const inner = body(tall);
    const high = mark(tall);
    for (let i = model.from(track, view.x); i < after && start[i] < end_s;) {
      const left = Math.max(-2, x_of(start[i], view));
      const right = Math.min(x_of(stop[i], view), view.width + 2);
      if (right - left < FINE) {
        i = collect_fine(i, after, at, left, tall, view, inks);
        continue;
      }
      const block = i++;
      const wide = right - left;
      const lit = is_lit(block);
      const thin = tall >= 8 && idle[kind[block]];
      if (wide < BOX) {
        strips.put(at, thin ? THIN : FULL, left, right, inks.kinds[kind[block]][lit ? 0 : 1]);
        if (critical[block] && lit) strips.put(at, PATH, left, right, inks.critical);
        continue;
      }
      boxes[kind[block]][lit ? 0 : 1].push(
        left, thin ? y + inner * 0.42 : y, wide - 1, thin ? inner * 0.16 : inner);
      if (critical[block] && lit) path.push(left, y + inner - high, wide - 1, high);
      if (wide > 34 && tall >= (thin ? 28 : 14) && lit) {
        labels.push({ block, left, wide, y, inner, thin });
      }
    }
  }

  /** From a narrow block on, as many as are narrow too and begin close by; returns the next one. */
  function collect_fine(block, after, at, left, tall, view, inks) {
    let [i, most, on_path, lit] = [block, kind[block], 0, false];
    const near_s = view.x + (left + FINE) / view.kx;
    const fine_s = FINE / view.kx;
    taken.fill(0);
    for (; i < after && (i === block || start[i] < near_s); i++) {
      const length_s = stop[i] - start[i];
      if (i > block && length_s >= fine_s) break;
      taken[kind[i]] += length_s;
      on_path |= critical[i];
      lit ||= is_lit(i);
    }
    for (let k = 0; k < taken.length; k++) if (taken[k] > taken[most]) most = k;
    const right = Math.max(left + FINE, x_of(stop[i - 1], view));
    strips.put(at, tall >= 8 && idle[most] ? THIN : FULL, left, right, inks.kinds[most][lit ? 0 : 1]);
    if (on_path && lit) strips.put(at, PATH, left, right, inks.critical);
    return i;
  }

  function fill(ctx, colour, [lit, dim]) {
    ctx.fillStyle = colour;
    const all = (list) => {
      for (let i = 0; i < list.length; i += 4) ctx.fillRect(list[i], list[i + 1], list[i + 2], list[i + 3]);
    };
    all(lit);
    ctx.globalAlpha = DIM;
    all(dim);
    ctx.globalAlpha = 1;
  }

  function write(ctx, view, labels) {
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    for (const { block, left, wide, y, inner, thin } of labels) {
      const from = Math.max(left, view.margin);
      const room = Math.floor((left + wide - from - 8) / LETTER);
      const name = model.name(block);
      if (room < Math.min(8, name.length)) continue;
      ctx.fillStyle = thin ? state.colours.faint : kinds[kind[block]] === "compute" ? "#fff" : "#111";
      const text = name.length <= room ? name : `${name.slice(0, room - 1).replace(/[\s…,]+$/, "")}…`;
      ctx.fillText(text, from + 4, thin ? y + inner * 0.42 - 6 : y + inner / 2);
    }
  }

  function lines(ctx, view) {
    ctx.fillStyle = state.colours.line;
    for (const row of state.rows) {
      const y = AXIS + row.y - view.y;
      if (row.track === undefined || row.height >= 12) ctx.fillRect(0, y - 1, view.width, 1);
    }
  }

  // Arrows

  function draw_arrows(ctx, view) {
    const shown = in_sight(view, (arrow) => !state.critical || model.arrow_critical[arrow]);
    for (const arrow of shown) {
      const on_path = critical[arrows.source[arrow]] && critical[arrows.to[arrow]];
      if (!state.critical) curve(ctx, view, arrow, state.colours.faint, 1, 0.55);
      else curve(ctx, view, arrow, state.colours.critical, on_path ? 2 : 1, on_path ? 1 : 0.45);
    }
  }

  /** Arrows of which something is seen; none if there are too many. */
  function in_sight(view, wanted) {
    const [from_s, to_s] = [view.x, view.x + view.width / view.kx];
    const there = new Set(state.rows.map((row) => row.track));
    const shown = [];
    for (let a = 0; a < arrows.source.length; a++) {
      const [source, to] = [arrows.source[a], arrows.to[a]];
      if (stop[source] > to_s || start[to] < from_s || !wanted(a)) continue;
      if (!there.has(model.track[source]) || !there.has(model.track[to])) continue;
      if (state.found && !state.found[source] && !state.found[to]) continue;
      shown.push(a);
      if (shown.length > ARROWS && !state.critical) return [];
    }
    return shown;
  }

  function curve(ctx, view, arrow, colour, wide, alpha) {
    const [source, to] = [arrows.source[arrow], arrows.to[arrow]];
    const [a, b] = [state.row_of[model.track[source]], state.row_of[model.track[to]]];
    if (!a || !b) return;
    const middle = (row) => AXIS + row.y - view.y + body(row.height) / 2;
    const [x1, y1, x2, y2] = [x_of(stop[source], view), middle(a), x_of(start[to], view), middle(b)];
    const bend = Math.min(60, Math.max(12, Math.abs(x2 - x1) / 2));
    ctx.globalAlpha = alpha;
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = wide;
    ctx.beginPath();
    ctx.moveTo(x1, y1);
    ctx.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2 - 5, y2);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x2, y2);
    ctx.lineTo(x2 - 6, y2 - 3.5);
    ctx.lineTo(x2 - 6, y2 + 3.5);
    ctx.fill();
    ctx.globalAlpha = 1;
  }

  function outline(ctx, view, block, wide) {
    const row = block < 0 ? null : state.row_of[model.track[block]];
    if (!row) return;
    const left = x_of(start[block], view);
    const right = Math.max(left + FINE, x_of(stop[block], view));
    ctx.strokeStyle = state.colours.text;
    ctx.lineWidth = wide;
    ctx.strokeRect(left - 1, AXIS + row.y - view.y - 1, right - left + 1, body(row.height) + 2);
  }

  // Times

  function axis(ctx, view) {
    ctx.fillStyle = state.colours.back;
    ctx.fillRect(0, 0, view.width, AXIS - 1);
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    const rough = 110 / view.kx;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const first = Math.max(0, Math.ceil(view.x / step));
    for (let n = first; x_of(n * step, view) < view.width; n++) {
      if (n * step > model.total_s) break;
      const x = x_of(n * step, view);
      ctx.fillStyle = state.colours.line;
      ctx.fillRect(x, AXIS - 6, 1, 5);
      ctx.fillStyle = state.colours.faint;
      ctx.fillText(time(n * step, step), x + 4, AXIS / 2);
    }
    ctx.fillStyle = state.colours.strong;
    ctx.fillRect(0, AXIS - 1, view.width, 1);
  }

  /** With as many digits as the step between two times needs. */
  function time(value_s, step_s) {
    if (!value_s) return "0";
    const [unit, letter] = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]].find(
      ([one]) => value_s >= one) ?? [1e-9, "ns"];
    const digits = Math.max(0, -Math.floor(Math.log10(step_s / unit) + 1e-9));
    return `${(value_s / unit).toFixed(digits)} ${letter}`;
  }
};
