"use strict";
/* Charts as SVG: curves over steps or time, and bars. Read by pointer or by keyboard.

   const chart = dbg.chart(title, {format, note});
   chart.show([{name, colour, stroke, faint, dots, points: [[x, y], …]}],
     {axis, x: format, log, zero, bytes});   // zero: the scale begins there; bytes: it counts in
                                             // KiB, MiB, …; axis: changes with x's meaning
*/

{
  const NS = "http://www.w3.org/2000/svg";
  const HEIGHT = 230;
  const EDGE = { right: 14, top: 10, bottom: 24 };
  const DASHES = { solid: "none", dashed: "7 4", dotted: "2 3" };
  const LETTER = 7.2; // as wide as the widest of a label

  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  /** Round numbers from low to high, about so many. */
  const ticks = (low, high, count, unit = 1) => {
    const rough = (high - low || 1) / count / unit;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((one) => one * power >= rough) * unit;
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      found.push(Number((i * step).toPrecision(12)));
    }
    return found;
  };

  /** 1, 2 and 5 times the powers of ten; the powers alone where those are many. */
  const log_ticks = (low, high) => {
    const found = [];
    const wide = Math.log10(high / low) > 3;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const digit of wide ? [1] : [1, 2, 5]) {
        const value = Number((digit * 10 ** e).toPrecision(3));
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found.length > 1 ? found : ticks(low, high, 4);
  };

  const linear = (low, high, from, to) => {
    const scale = (to - from) / (high - low || 1);
    return (value) => from + (value - low) * scale;
  };

  const room_for = (labels) => 14 + LETTER * Math.max(4, ...labels.map((label) => label.length));

  /** What bytes are counted in on an axis up to there. */
  const binary = (high) => 1024 ** Math.max(0, Math.floor(Math.log2(high || 1) / 10));

  const scale_y = (values, { log, zero, bytes }, bottom, top) => {
    let low = Math.min(...values);
    let high = Math.max(...values);
    if (log && low > 0) {
      [low, high] = [low / 1.15, high * 1.15];
      const at = linear(Math.log10(low), Math.log10(high), bottom, top);
      return { at: (value) => at(Math.log10(value)), ticks: log_ticks(low, high) };
    }
    const air = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = [low >= 0 && (zero || low < high / 3) ? 0 : low - air, high + air];
    return { at: linear(low, high, bottom, top), ticks: ticks(low, high, 5, bytes ? binary(high) : 1) };
  };

  /** The index of the point whose x is nearest. */
  const nearest = (points, x) => {
    let low = 0;
    let high = points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
  };

  const line = (points, x, y) =>
    points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");

  /** A figure with its title, its legend and the place of its drawing. */
  const frame = (title, note) => {
    const { el } = dbg;
    const legend = el("ul", { class: "series", "aria-live": "polite" });
    const plot = el("div", { class: "plot", tabindex: 0, role: "img" });
    const head = el("figcaption", {}, el("h2", {}, title), note ? el("small", {}, note) : "", legend);
    const figure = el("figure", {}, head, plot);
    return { figure, legend, plot };
  };

  /** The pointer chooses a place by its pixel, the keyboard by steps, infinite ones for the ends. */
  const reading = (plot, pointed, stepped, left) => {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      pointed(event.clientX - box.left);
    });
    plot.addEventListener("pointerleave", left);
    plot.addEventListener("blur", left);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step) stepped(step);
      else if (event.key === "Escape") left();
      else return;
      event.preventDefault();
    });
  };

  /** A piece of a curve, for legends. */
  dbg.swatch = (colour, stroke) =>
    dbg.el("i", { class: "swatch", style: `border-top:3px ${stroke} ${colour}` });

  dbg.chart = (title, { format, note = "" }) => {
    const { el } = dbg;
    const { figure, legend, plot } = frame(title, note);
    let series = [];
    let options = { x: String, log: false };
    let read = null; // the x at which values are read; null: the last ones
    let x = null;

    const xs = () => series.reduce((a, s) => (s.points.length > a.length ? s.points : a), []);

    const draw = () => {
      const width = plot.clientWidth;
      const shown = series.filter((one) => one.points.length);
      plot.replaceChildren();
      if (!width || !shown.length) return;
      const all = shown.flatMap((one) => one.points);
      const right = width - EDGE.right;
      const bottom = HEIGHT - EDGE.bottom;
      const high = Math.max(...all.map(([a]) => a));
      const low = Math.min(0, ...all.map(([a]) => a));
      const y = scale_y(all.map(([, b]) => b), options, bottom, EDGE.top);
      const left = room_for(y.ticks.map(format));
      x = linear(low, high, left, right);
      x.back = (pixel) => low + ((pixel - left) * (high - low)) / (right - left);
      const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
      for (const value of y.ticks) {
        const at = y.at(value);
        picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
          svg("text", { x: left - 8, y: at + 4, class: "end" }, format(value)));
      }
      for (const value of ticks(low, high, Math.max(2, width / 90))) {
        picture.append(svg("text", { x: x(value), y: HEIGHT - 6, class: "middle" }, options.x(value)));
      }
      for (const one of shown) picture.append(...curve(one, x, y.at));
      if (read !== null) picture.append(...mark(shown, y.at, bottom));
      plot.append(picture);
    };

    const curve = (one, to_x, to_y) => {
      const style = `stroke:${one.colour}`;
      const kind = one.faint ? "curve faint" : "curve";
      const found = [svg("path", { d: line(one.points, to_x, to_y), class: kind, style,
        "stroke-dasharray": DASHES[one.stroke] })];
      const dots = one.points.length === 1 || (one.dots && one.points.length <= 60) ? one.points : [];
      for (const [a, b] of dots) {
        found.push(svg("circle", { cx: to_x(a), cy: to_y(b), r: 2.6, style: `fill:${one.colour}` }));
      }
      return found;
    };

    const mark = (shown, to_y, bottom) => [
      svg("line", { class: "cross", x1: x(read), x2: x(read), y1: EDGE.top, y2: bottom }),
      ...shown.map(({ points, colour }) => {
        const [a, b] = points[nearest(points, read)];
        return svg("circle", { class: "read", cx: x(a), cy: to_y(b), r: 4, style: `fill:${colour}` });
      })];

    const tell = () => {
      const at = read === null ? "" : options.x(read, true);
      legend.replaceChildren(...series.filter((one) => one.points.length).map((one) => {
        const point = read === null ? one.points.at(-1) : one.points[nearest(one.points, read)];
        return el("li", { class: one.faint ? "faint" : "" },
          dbg.swatch(one.colour, one.stroke), one.name, el("b", {}, format(point[1])));
      }), el("li", { class: "at" }, at));
      const last = series.filter((one) => one.points.length)
        .map((one) => `${one.name} ${format(one.points.at(-1)[1])}`);
      plot.setAttribute("aria-label", `${title}: ${last.join(", ")}`);
    };

    const to = (value) => {
      read = value;
      draw();
      tell();
    };

    reading(plot,
      (pixel) => x && xs().length && to(xs()[nearest(xs(), x.back(pixel))][0]),
      (step) => {
        const points = xs();
        if (!points.length) return;
        const now = read === null ? points.length : nearest(points, read);
        to(points[Math.max(0, Math.min(points.length - 1, now + step))][0]);
      },
      () => read !== null && to(null));
    new ResizeObserver(draw).observe(plot);

    const show = (next, how) => {
      if (how.axis !== options.axis) read = null; // it was a place on the other axis
      [series, options] = [next, how];
      figure.hidden = !series.some((one) => one.points.length);
      draw();
      tell();
    };
    return { figure, show };
  };

  /** Bars: chart.show([[value, count], …]) of whole numbers. */
  dbg.bars = (title, { note, colour, words }) => {
    const { el } = dbg;
    const { figure, legend, plot } = frame(title, note);
    const left = room_for([]);
    let bins = [];
    let read = null;

    const draw = () => {
      const width = plot.clientWidth;
      plot.replaceChildren();
      if (!width || !bins.length) return;
      const bottom = HEIGHT - EDGE.bottom;
      const y = linear(0, Math.max(...bins.map((bin) => bin.count)), bottom, EDGE.top + 14);
      const each = (width - left - EDGE.right) / bins.length;
      const every = Math.ceil(34 / each);
      const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
      for (const value of ticks(0, Math.max(...bins.map((bin) => bin.count)), 4)) {
        picture.append(svg("line", { class: "grid", x1: left, x2: width - EDGE.right,
          y1: y(value), y2: y(value) }),
        svg("text", { x: left - 8, y: y(value) + 4, class: "end" }, dbg.count(value)));
      }
      bins.forEach((bin, i) => {
        const from = left + i * each + each * 0.1;
        const wide = Math.min(each * 0.8, 72);
        picture.append(svg("rect", { x: from, width: wide,
          y: y(bin.count), height: bottom - y(bin.count), rx: 2, style: `fill:${colour}`,
          class: read === null || read === i ? "" : "other" }));
        if (i % every === 0) {
          picture.append(svg("text", { x: from + wide / 2, y: HEIGHT - 6, class: "middle" }, bin.low));
        }
      });
      plot.append(picture);
    };

    const tell = () => {
      const bin = bins[read];
      const text = bin ? `${bin.name}: ${dbg.whole(bin.count)}` : words(bins);
      legend.replaceChildren(el("li", {}, text));
      plot.setAttribute("aria-label", `${title}: ${words(bins)}`);
    };

    const to = (index) => {
      read = index;
      draw();
      tell();
    };

    reading(plot,
      (pixel) => {
        const share = (pixel - left) / (plot.clientWidth - left - EDGE.right);
        if (bins.length) to(Math.max(0, Math.min(bins.length - 1, Math.floor(share * bins.length))));
      },
      (step) => bins.length && to(Math.max(0, Math.min(bins.length - 1, (read ?? bins.length) + step))),
      () => read !== null && to(null));
    new ResizeObserver(draw).observe(plot);

    const show = (pairs) => {
      bins = binned(pairs);
      if (read !== null && read >= bins.length) read = null;
      figure.hidden = !bins.length;
      draw();
      tell();
    };
    return { figure, show };
  };

  /** At most 40 bins of equal width, from 0 to the largest value. */
  const binned = (pairs) => {
    if (!pairs.length) return [];
    const width = Math.ceil((pairs.at(-1)[0] + 1) / 40);
    const bins = [];
    for (let low = 0; low <= pairs.at(-1)[0]; low += width) {
      bins.push({ low, name: width === 1 ? `${low}` : `${low} to ${low + width - 1}`, count: 0, sum: 0 });
    }
    for (const [value, count] of pairs) {
      bins[Math.floor(value / width)].count += count;
      bins[Math.floor(value / width)].sum += value * count;
    }
    return bins;
  };
}
