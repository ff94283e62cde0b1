"use strict";
/* What stands below each sheet of the cut, as large at any distance: its name, shape, cut and what
   it sends. Where columns stand close there are names alone; closer still these lie aslant. */

dbg.Labels = class {
  static LINE = 15;
  static DETAILS = 60; // pixels between columns, from which on there is more than names
  static ASLANT = -Math.PI / 3;
  static LONGEST = 140; // of a name aslant

  constructor(plan, shape) {
    this.plan = plan;
    this.shape = shape;
  }

  draw(ctx, view, colours) {
    const { layer } = this.shape.sheets;
    const places = layer.map((_, s) => this.place(s, view));
    const aslant = places.some(({ room }) => room < dbg.Labels.DETAILS);
    ctx.save();
    ctx.lineJoin = "round";
    ctx.lineWidth = 3;
    ctx.strokeStyle = colours.back; // around letters: edges run below them
    places.forEach((place, s) => {
      const { x, y, room } = place;
      if (x < -room || x > view.width + room + dbg.Labels.LONGEST || y < -60 || y > view.height) return;
      if (aslant) this.drawAslant(ctx, view, s, places, colours);
      else this.drawLines(ctx, s, place, colours);
    });
    ctx.restore();
  }

  /** Of a sheet's label on the screen: the middle of its upper edge, and how wide it may be. */
  place(s, view) {
    const box = this.shape.boxes[s];
    return { x: (box.x + box.width / 2 - view.x) * view.kx, y: (box.y + box.height - view.y) * view.ky + 8,
      room: this.shape.rooms[s] * view.kx - 8 };
  }

  name(s, { text, wrong }) {
    const layer = this.shape.sheets.layer[s];
    const bad = this.plan.wrong.layer.has(layer);
    return [`${bad ? "✗ " : ""}${this.plan.layers.name[layer]}`, bad ? wrong : text, "600 12px"];
  }

  drawLines(ctx, s, { x, y, room }, colours) {
    const { layers } = this.plan;
    const layer = this.shape.sheets.layer[s];
    const sent = layers.forward_bytes[layer] + layers.backward_bytes[layer];
    const lines = [this.name(s, colours), [layers.shape[layer], colours.faint, "11px"]];
    if (layers.op[layer] !== "input") lines.push([layers.cut[layer], colours.faint, "11px"]);
    if (sent) lines.push([`sends ${dbg.bytes(sent)}`, colours.text, "11px"]);
    ctx.textAlign = "center";
    ctx.textBaseline = "top";
    for (const line of lines) {
      this.pen(ctx, line);
      for (const part of this.folded(ctx, line[0], room)) {
        this.write(ctx, part, x, y);
        y += dbg.Labels.LINE;
      }
    }
  }

  /** It ends below its sheet, and is as long as it can be without hiding another one. */
  drawAslant(ctx, view, s, places, colours) {
    const { x, y, room } = places[s];
    const free = Math.min(dbg.Labels.LONGEST, ...this.shape.boxes.map((box) => this.until(box, view, x, y)),
      ...places.map((other) => this.apart(x, y, other)));
    if (room < 6 || free < 24) return;
    const line = this.name(s, colours);
    this.pen(ctx, line);
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    ctx.save();
    ctx.translate(x + 4, y);
    ctx.rotate(dbg.Labels.ASLANT);
    this.write(ctx, this.shortened(ctx, line[0], free), 0, 0);
    ctx.restore();
  }

  /** How far from a place of the screen a line aslant comes upon a sheet, in pixels. */
  until(box, view, x, y) {
    const near = 8; // half a line
    const [along, down] = [Math.cos(dbg.Labels.ASLANT), -Math.sin(dbg.Labels.ASLANT)];
    const left = (box.x - view.x) * view.kx - near;
    const top = (box.y - view.y) * view.ky - near;
    const right = left + box.width * view.kx + 2 * near;
    const bottom = top + box.height * view.ky + near;
    const enters = Math.max((x - right) / along, (top - y) / down);
    const leaves = Math.min((x - left) / along, (bottom - y) / down);
    return leaves > Math.max(0, enters) ? enters : Infinity;
  }

  /** How far from a place a line aslant comes upon the beginning of another one, in pixels. */
  apart(x, y, other) {
    const [along, down] = [Math.cos(dbg.Labels.ASLANT), -Math.sin(dbg.Labels.ASLANT)];
    const [left, below] = [x - other.x, other.y - y];
    const beside = Math.abs(left * down - below * along);
    const ahead = left * along + below * down;
    return ahead > 1 && beside < dbg.Labels.LINE ? ahead : Infinity;
  }

  pen(ctx, [, colour, font]) {
    ctx.font = `${font} system-ui, sans-serif`;
    ctx.fillStyle = colour;
  }

  write(ctx, text, x, y) {
    ctx.strokeText(text, x, y);
    ctx.fillText(text, x, y);
  }

  /** In one line, or in two: broken after a space or the like where that is possible. */
  folded(ctx, line, room) {
    const most = this.reach(ctx, line, room);
    if (most === line.length) return [line];
    const gap = line.slice(0, most + 1).search(/[ _\-/.][^ _\-/.]*$/);
    const cut = gap > 0 ? gap + 1 : most;
    return [line.slice(0, cut).trimEnd(), this.shortened(ctx, line.slice(cut), room)];
  }

  shortened(ctx, line, room) {
    const fits = this.reach(ctx, line, room);
    return fits === line.length ? line : `${line.slice(0, fits - 1)}…`;
  }

  /** How many letters there is room for, at least one. */
  reach(ctx, line, room) {
    let length = line.length;
    while (length > 1 && ctx.measureText(line.slice(0, length)).width > room) length--;
    return length;
  }
};
