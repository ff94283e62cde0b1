"use strict";
/* The cut's shapes on paper, made once: what is drawn in each frame is ready beforehand. */

dbg.Geometry = class {
  constructor(cut, plan) {
    Object.assign(this, cut);
    this.plan = plan;
    const { sheet, tile, number, u0, u1, v0, v1 } = this.pieces;
    this.machine = tile.map((i) => plan.tiles.machine[i]);
    this.corners = new Float32Array(8 * sheet.length);
    this.ofSheet = this.sheets.layer.map(() => []);
    this.anchors = new Map();
    sheet.forEach((s, i) => {
      this.corners.set(this.quad(s, number[i], u0[i], u1[i], v0[i], v1[i]), 8 * i);
      this.ofSheet[s].push(i);
      const key = this.key(s, this.machine[i]);
      if (!this.anchors.has(key)) this.anchors.set(key, this.centre(i));
    });
    this.boxes = this.sheets.layer.map((_, s) => this.box(s));
    this.halosOf = this.sheets.layer.map(() => []);
    this.halos.sheet.forEach((s, i) => this.halosOf[s].push(i));
    this.order = this.sheets.layer.map((_, s) => s).sort((a, b) => this.sheets.x[b] - this.sheets.x[a]);
    this.width = Math.max(...this.boxes.map((b) => b.x + b.width)) + Math.min(...this.boxes.map((b) => b.x));
    this.height = Math.max(...this.boxes.map((b) => b.y + b.height)) * 1.12;
    this.rooms = this.boxes.map((box) => this.roomOf(box));
    this.smallest = this.sheets.layer.map((_, s) => this.smallestSide(s));
    this.fills = this.sheets.layer.map((_, s) => this.fillsOf(s));
    this.hatches = this.sheets.layer.map((_, s) => this.hatchesOf(s));
  }

  key(sheet, machine) {
    return sheet * 65536 + machine;
  }

  point(s, number, u, v) {
    const { x, y, width, height, rise, units, deep, gap } = this.sheets;
    const depth = v / deep[s];
    return [x[s] + number * gap[s] + depth * width[s], y[s] + (u / units[s]) * height[s] - depth * rise[s]];
  }

  quad(s, number, u0, u1, v0, v1) {
    return [[u0, v0], [u0, v1], [u1, v1], [u1, v0]].flatMap(([u, v]) => this.point(s, number, u, v));
  }

  centre(i) {
    const c = this.corners;
    return [(c[8 * i] + c[8 * i + 4]) / 2, (c[8 * i + 1] + c[8 * i + 5]) / 2];
  }

  anchor(sheet, machine) {
    const box = this.boxes[sheet];
    return this.anchors.get(this.key(sheet, machine)) ?? [box.x + box.width / 2, box.y + box.height / 2];
  }

  /** All of a sheet, those behind it included. */
  box(s) {
    const { x, y, width, height, rise, count, gap } = this.sheets;
    return { x: x[s], y: y[s] - rise[s], width: width[s] + gap[s] * (count[s] - 1), height: height[s] + rise[s] };
  }

  /** From the middle of a sheet to that of the nearest column. */
  roomOf(box) {
    const middle = (b) => b.x + b.width / 2;
    const apart = this.boxes.map((b) => Math.abs(middle(b) - middle(box))).filter((x) => x > 40);
    return Math.min(260, ...apart);
  }

  /** Of a sheet's pieces, on average the shorter side. */
  smallestSide(s) {
    const { width, height, units, deep } = this.sheets;
    const { u0, u1, v0, v1 } = this.pieces;
    const sides = this.ofSheet[s].map((i) => Math.min(((u1[i] - u0[i]) / units[s]) * height[s],
      ((v1[i] - v0[i]) / deep[s]) * width[s]));
    return sides.reduce((sum, side) => sum + side, 0) / sides.length;
  }

  trace(path, corners, at) {
    path.moveTo(corners[at], corners[at + 1]);
    for (let k = 2; k < 8; k += 2) path.lineTo(corners[at + k], corners[at + k + 1]);
    path.closePath();
  }

  /** Sheet by sheet from behind, then colour by colour: paths. */
  fillsOf(s) {
    const found = Array.from({ length: this.sheets.count[s] }, () => new Map());
    for (const i of this.ofSheet[s]) {
      const paths = found[this.pieces.number[i]];
      const colour = this.colours[this.machine[i]] ?? 0;
      if (!paths.has(colour)) paths.set(colour, new Path2D());
      this.trace(paths.get(colour), this.corners, 8 * i);
    }
    return found;
  }

  /** What machines read of each other's regions: a path for each of the sheets. */
  hatchesOf(s) {
    const found = Array.from({ length: this.sheets.count[s] }, () => new Path2D());
    const seen = new Set();
    if (this.plan.layers.op[this.sheets.layer[s]] === "input") return found;
    for (const i of this.halosOf[s]) {
      const { number, u0, u1, v0, v1 } = this.halos;
      const key = [number[i], u0[i], u1[i], v0[i], v1[i]].join();
      if (seen.has(key)) continue;
      seen.add(key);
      this.trace(found[number[i]], this.haloQuad(i), 0);
    }
    return found;
  }

  haloQuad(i) {
    const { sheet, number, u0, u1, v0, v1 } = this.halos;
    return this.quad(sheet[i], number[i], u0[i], u1[i], v0[i], v1[i]);
  }

  piecesPath(pieces) {
    const path = new Path2D();
    for (const i of pieces) this.trace(path, this.corners, 8 * i);
    return path;
  }

  /** From one share to another. Where the layer is one, out and back: over the top of a row, beside
      a sheet. */
  curve(path, from, machine, to, other) {
    const [ax, ay] = this.anchor(from, machine);
    const [bx, by] = this.anchor(to, other);
    if (from === to && !this.sheets.flat[from]) {
      const top = this.boxes[from].y;
      const over = top - 14 - Math.abs(bx - ax) * 0.5;
      const start = (x) => top + this.sheets.rise[from] * (1 - (x - this.boxes[from].x) / this.boxes[from].width);
      path.moveTo(ax, start(ax));
      path.bezierCurveTo(ax, over, bx, over, bx, start(bx));
    } else if (from === to) {
      const bend = 24 + Math.abs(by - ay) * 0.2;
      path.moveTo(ax, ay);
      const side = Math.min(ax, bx, this.boxes[from].x) - bend;
      path.bezierCurveTo(side, ay, side, by, bx, by);
    } else {
      path.moveTo(ax, ay);
      const half = (bx - ax) / 2;
      path.bezierCurveTo(ax + half, ay, bx - half, by, bx, by);
    }
  }

  /** The piece at a place: the one in front. */
  at(x, y) {
    for (const s of [...this.order].reverse()) {
      const box = this.boxes[s];
      if (x < box.x || x > box.x + box.width || y < box.y || y > box.y + box.height) continue;
      let best = -1;
      for (const i of this.ofSheet[s]) {
        if (!this.inside(i, x, y)) continue;
        if (best < 0 || this.pieces.number[i] < this.pieces.number[best]) best = i;
      }
      if (best >= 0) return best;
    }
    return -1;
  }

  inside(i, x, y) {
    const [ax, ay, bx, by, , , dx, dy] = this.corners.subarray(8 * i, 8 * i + 8);
    const [px, py, qx, qy] = [bx - ax, by - ay, dx - ax, dy - ay];
    const area = px * qy - py * qx;
    const s = ((x - ax) * qy - (y - ay) * qx) / area;
    const t = (px * (y - ay) - py * (x - ax)) / area;
    return s >= 0 && s <= 1 && t >= 0 && t <= 1;
  }
};
