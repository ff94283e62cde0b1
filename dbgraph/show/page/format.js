"use strict";
/* Text: numbers as dbgraph/units.py writes them, and elements of HTML. */

globalThis.dbg = { views: [], finders: [] };

dbg.digits = (value) => String(Number(value.toPrecision(3)));

/** 41777152 → "41.8 M". */
dbg.count = (value) => {
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= unit) return `${dbg.digits(value / unit)} ${letter}`;
  }
  return dbg.digits(value);
};

/** 1536 → "1.5 KiB". */
dbg.bytes = (value) => {
  for (const [power, letter] of [[40, "TiB"], [30, "GiB"], [20, "MiB"], [10, "KiB"]]) {
    const scaled = value / 2 ** power;
    if (Math.abs(scaled) >= 1) {
      return `${scaled < 1000 ? dbg.digits(scaled) : Math.round(scaled)} ${letter}`;
    }
  }
  return `${Math.round(value)} B`;
};

/** 0.0032 → "3.2 ms". */
dbg.seconds = (value) => {
  if (value >= 120) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  for (const [unit, letter] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) {
    if (value >= unit) return `${dbg.digits(value / unit)} ${letter}`;
  }
  return value ? `${dbg.digits(value * 1e9)} ns` : "0 s";
};

/** 0.345 → "35 %". */
dbg.percent = (share) => `${Math.round(share * 100)} %`;

/** 1234567 → "1,234,567". */
dbg.whole = (value) => value.toLocaleString("en");

/** "1 tile", "2 tiles". */
dbg.plural = (n, word) => `${dbg.whole(n)} ${word}${n === 1 ? "" : "s"}`;

/** An element. Attributes that begin with "on" are listeners; children are elements or text. */
dbg.el = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

/** What a colour of page.css is now, dark or light; for canvases. */
dbg.colour = (name) => {
  const probe = dbg.el("i", { style: `color:var(${name})` });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};
