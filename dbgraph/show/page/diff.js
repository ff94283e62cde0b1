"use strict";
/* The difference of two plans: diff.py says what is in the data. */

dbg.views.push({
  id: "diff",
  title: "Difference",
  mount(root, data, bus) {
    const { el } = dbg;
    const { same, tables, machines, before_s, after_s } = data.diff;

    const table = ({ title, head, rows }) => {
      const aligned = head.map((_, k) => (rows.some((row) => isNumber(row[k])) ? "number" : ""));
      return el("section", { class: "table" }, el("h2", {}, title),
        el("table", {}, el("thead", {}, el("tr", {}, ...head.map((text, k) => el("th", { class: aligned[k] }, text)))),
          el("tbody", {}, ...rows.map((row) => el("tr", { "data-text": row.join(" ").toLowerCase() },
            ...row.map((text, k) => el("td", { class: `${aligned[k]} ${verdict(text)}` }, text)))))));
    };

    /** Such as 54, +1.0%, 2.8 ms. */
    const isNumber = (text) => /^[+-]?[\d.,]+( ?[%µ\w]+)?$/.test(text);

    /** Less is better in all figures. */
    const verdict = (text) => (/^[+-][\d.]+%$/.test(text) ? (text[0] === "+" ? "worse" : "better") : "");

    const most = Math.max(...before_s, ...after_s);
    const bar = (name, value) => el("i", { class: name, style: `width:${value / most * 100}%`,
      title: `${name}: ${dbg.seconds(value)}` });
    const key = (name) => el("span", {}, el("i", { class: name }), name);
    const bars = el("section", { class: "bars" }, el("h2", {}, "How busy machines are", key("before"), key("after")),
      el("div", { class: "beside" }, ...machines.flatMap((machine, i) => [
        el("span", {}, String(machine)),
        el("div", {}, bar("before", before_s[i]), bar("after", after_s[i])),
        el("span", {}, `${dbg.seconds(before_s[i])} → ${dbg.seconds(after_s[i])}`)])));

    root.append(el("div", { class: "diff" },
      ...(same ? [el("p", {}, "Both plans do the same on the same machines.")] : []),
      ...tables.slice(0, 1).map(table), ...(machines.length ? [bars] : []),
      ...tables.slice(1).map(table)));

    bus.on("search", (text) => {
      for (const row of root.querySelectorAll("[data-text]")) {
        row.hidden = !row.dataset.text.includes(text);
      }
    });
  },
});
