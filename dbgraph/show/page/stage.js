"use strict";
/* A canvas that pans and zooms: by pointer, wheel, two fingers and keyboard.

   dbg.stage(root, {
     label,                    // for screen readers
     axes: "xy" | "x",         // which axes zoom and pan; "xy" if left out
     limit: 200,               // how often it may be enlarged from "fit"; 200 if left out
     bounds: () => ({width, height}),   // of the world, from 0, 0; what "fit" shows
     draw(ctx, view) {},       // view: {x, y, kx, ky, width, height, margin}; screen = (world - x) * kx
     over(ctx, view) {},       // above that, in every frame: what is cheap, and must not lag behind
     at(x, y, view) => thing or null,   // what is at a place of the world
     hover(thing, event) {}, pick(thing) {}, open(thing) {},   // pointer on it, click, double click
     key(event) => true where it was handled,
     buffered: false,          // true: while it moves, a picture is moved that was drawn before
   })

   It returns {canvas, view, request(), refresh(), draw(), fit(), show(box), pan(dx, dy),
   zoom(factor, x, y)}: request() draws in the next frame, draw() at once, refresh() only what is
   over; show() moves a box {x, y, width, height} of the world into sight; pan() and zoom() go by
   pixels of the screen.

   A buffered stage draws more than what is in sight, a quarter of it on each side (of which
   `margin` pixels are to the left). While it pans or zooms, frames only copy that, until it does not
   reach or all has come to rest. So a frame costs the same whatever the world holds. */

dbg.stages = [];

dbg.stage = (root, options) => {
  const canvas = dbg.el("canvas", { tabindex: 0, role: "application", "aria-label": options.label });
  root.append(canvas);
  const ctx = canvas.getContext("2d");
  const view = { x: 0, y: 0, kx: 1, ky: 1, width: 0, height: 0, margin: 0 };
  const both = options.axes !== "x";
  const margin = 24;
  const limit = options.limit ?? 200;
  let fitted = true;
  let least = 1;
  let frame = 0;
  const spare = 0.25;
  const rest = 150; // ms without a move, after which all is drawn anew
  const buffer = options.buffered ? document.createElement("canvas") : null;
  let held = null; // the view that the buffer shows
  let resting = 0;
  let stale = true; // something else is to be drawn than what the buffer shows

  const refresh = () => {
    frame ||= requestAnimationFrame(() => ((resting || !stale) && reaches() ? copy() : draw()));
  };
  const request = () => {
    stale = true;
    refresh();
  };

  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    if (!view.width) return;
    stale = false;
    if (!buffer) {
      paint(canvas, view);
      options.over?.(ctx, view);
      return;
    }
    const [left, top] = [Math.round(view.width * spare), Math.round(view.height * spare)]; // whole: sharp
    held = { ...view, x: view.x - left / view.kx, y: view.y - top / view.ky,
      width: view.width + 2 * left, height: view.height + 2 * top, margin: left };
    paint(buffer, held);
    copy();
  }

  function paint(target, seen) {
    const ratio = devicePixelRatio || 1;
    const pen = target.getContext("2d");
    const [width, height] = [Math.round(seen.width * ratio), Math.round(seen.height * ratio)];
    if (target.width !== width || target.height !== height) Object.assign(target, { width, height });
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, seen.width, seen.height);
    options.draw(pen, seen);
  }

  /** Whether the buffer holds all of the world that is in sight, and not much too coarse. */
  function reaches() {
    if (!buffer || !held || view.kx > 2 * held.kx) return false;
    const { width, height } = options.bounds();
    const along = (from, size, k, low, length, end) =>
      Math.max(0, from) >= low - 1e-6 && Math.min(end, from + size / k) <= low + length + 1e-6;
    return along(view.x, view.width, view.kx, held.x, held.width / held.kx, width)
      && along(view.y, view.height, view.ky, held.y, held.height / held.ky, height);
  }

  function copy() {
    frame = 0;
    const ratio = devicePixelRatio || 1;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    const still = held.kx === view.kx ? Math.round : (x) => x;
    ctx.drawImage(buffer, still((held.x - view.x) * view.kx * ratio), still((held.y - view.y) * view.ky * ratio),
      buffer.width * (view.kx / held.kx), buffer.height * (view.ky / held.ky));
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    options.over?.(ctx, view);
  }

  function fit() {
    const { width, height } = options.bounds();
    const kx = (view.width - 2 * margin) / width;
    const ky = (view.height - 2 * margin) / height;
    least = both ? Math.min(kx, ky) : kx;
    view.kx = least;
    view.ky = both ? least : 1;
    view.x = (width - view.width / view.kx) / 2;
    view.y = both ? (height - view.height / view.ky) / 2 : 0;
    fitted = true;
    request();
  }

  /** The world stays in sight, and "x" stages do not move up and down by themselves. */
  function moved() {
    const { width, height } = options.bounds();
    const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
    view.x = clamp(view.x, -view.width / view.kx * 0.8, width - view.width / view.kx * 0.2);
    view.y = both
      ? clamp(view.y, -view.height / view.ky * 0.8, height - view.height / view.ky * 0.2)
      : clamp(view.y, 0, height - view.height);
    fitted = false;
    clearTimeout(resting);
    resting = setTimeout(() => { resting = 0; request(); }, rest);
    request();
  }

  function pan(dx, dy) {
    view.x += dx / view.kx;
    view.y += dy / view.ky;
    moved();
  }

  /** Around a place of the screen, which stays where it is. */
  function zoom(factor, sx, sy) {
    const kx = Math.min(Math.max(view.kx * factor, least * 0.5), least * limit);
    view.x += sx / view.kx - sx / kx;
    if (both) view.y += sy / view.ky - sy / kx;
    view.kx = kx;
    if (both) view.ky = kx;
    moved();
  }

  function show(box) {
    const k = Math.min(view.width / box.width, both ? view.height / box.height : Infinity) * 0.8;
    if (k < view.kx) zoom(k / view.kx, 0, 0);
    const out = (low, size, from, length) => low < from || low + size > from + length;
    const out_x = out(box.x, box.width, view.x, view.width / view.kx);
    const out_y = out(box.y, box.height, view.y, view.height / view.ky);
    if (out_x) view.x = box.x + box.width / 2 - view.width / view.kx / 2;
    if (out_y) view.y = box.y + box.height / 2 - view.height / view.ky / 2;
    if (out_x || out_y) moved(); // what is in sight stays as it is, fitted too
  }

  const thing = (event) => options.at?.(
    event.offsetX / view.kx + view.x, event.offsetY / view.ky + view.y, view) ?? null;

  // Pointers: one drags, two pinch; one that hardly moved has clicked.

  const pointers = new Map();
  let travelled = 0;
  const span = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y) || 1;
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      options.hover?.(thing(event), event);
      return;
    }
    const apart = pointers.size === 2 ? span() : 0;
    const [dx, dy] = [event.offsetX - before.x, event.offsetY - before.y];
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    travelled += Math.abs(dx) + Math.abs(dy);
    if (apart) zoom(span() / apart, event.offsetX, event.offsetY);
    else pan(-dx, -dy);
  });
  const release = (event) => pointers.delete(event.pointerId);
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.size === 1 && travelled < 4) options.pick?.(thing(event));
    release(event);
  });
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", (event) => options.hover?.(null, event));
  canvas.addEventListener("dblclick", (event) => options.open?.(thing(event)));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.shiftKey) pan(event.deltaX + event.deltaY, 0);
    else zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.offsetX, event.offsetY);
  }, { passive: false });

  // Keyboard

  const step = 60;
  const keys = {
    ArrowLeft: () => pan(-step, 0),
    ArrowRight: () => pan(step, 0),
    ArrowUp: () => pan(0, -step),
    ArrowDown: () => pan(0, step),
    "+": () => zoom(1.3, view.width / 2, view.height / 2),
    "=": () => zoom(1.3, view.width / 2, view.height / 2),
    "-": () => zoom(1 / 1.3, view.width / 2, view.height / 2),
    0: fit,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!options.key?.(event)) {
      if (!keys[event.key]) return;
      keys[event.key]();
    }
    event.preventDefault();
    event.stopPropagation();
  });

  new ResizeObserver(() => {
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    Object.assign(view, { width, height });
    if (fitted) fit();
    draw();
  }).observe(canvas);

  const stage = { canvas, view, request, refresh, draw, fit, show, pan, zoom };
  dbg.stages.push(stage);
  return stage;
};
