"use strict";
/* The page of one run that goes on, or of several that are over. Each is a RunView as JSON, see
   fold.py; it is drawn anew whenever there is a newer one. */

dbg.run = () => {
  const { el, count, whole, seconds, percent, digits } = dbg;
  const byId = (id) => document.getElementById(id);
  const given = JSON.parse(byId("data").textContent);
  const COLOURS = ["blue", "orange", "green", "purple", "vermillion", "sky", "grey"];
  const STROKES = ["solid", "dashed", "dotted"];
  const FEW = 4;
  const SILENT_S = 10;
  let runs = given.runs;
  let link = given.live ? "waiting" : "";

  const number = (value) => (value == null ? "–" : digits(value));
  const share = (value) => (value == null ? "–" : `${Number((value * 100).toFixed(2))} %`);
  const rate = (value) => (value == null ? "–" : `${count(value)}/s`);
  const traffic = (value) => `${dbg.bytes(value)}/s`;

  /** 75 → "1:15". */
  const clock = (value_s) => {
    if (value_s < 60) return `${digits(value_s)} s`;
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    const [h, m, s] = [value_s / 3600, (value_s / 60) % 60, value_s % 60];
    return h >= 1 ? `${Math.floor(h)}:${two(m)}:${two(s)}` : `${Math.floor(m)}:${two(s)}`;
  };

  const colour = (r) => `var(--${COLOURS[r % COLOURS.length]})`;
  const stroke = (r) => STROKES[Math.floor(r / COLOURS.length) % STROKES.length];

  // Charts

  const CHARTS = [
    { title: "Loss", format: digits, scaled: true,
      lines: [["loss", "training"], ["held_out_loss", "held out"]] },
    { title: "Accuracy", format: share, judged: true,
      lines: [["accuracy", "training"], ["held_out_accuracy", "held out"]] },
    { title: "Throughput", note: "examples per second", format: count, zero: true,
      lines: [["examples_per_s", "examples/s"]] },
    { title: "Parameter server", note: "all shards together", format: traffic, zero: true, bytes: true,
      lines: [["pushed_bytes_per_s", "pushed"], ["fetched_bytes_per_s", "fetched"]] },
  ];
  for (const spec of CHARTS) spec.chart = dbg.chart(spec.title, spec);
  const staleness = dbg.bars("Staleness", {
    note: "updates between fetch and push",
    colour: "var(--green)",
    words: (bins) => {
      const total = bins.reduce((sum, bin) => sum + bin.count, 0);
      const mean = bins.reduce((sum, bin) => sum + bin.sum, 0) / total;
      return `${whole(total)} pushes, ${digits(mean)} on average`;
    },
  });
  byId("charts").prepend(...CHARTS.map((spec) => spec.chart.figure), staleness.figure);

  /** Runs beside each other are told apart by colour; of what is judged, held-out data are enough. */
  const curves = (spec, axis) => runs.flatMap((run, r) => {
    const alone = runs.length === 1;
    const drawn = spec.lines.filter(([name]) => run.curves[name]?.points.length);
    const all = alone || (runs.length <= FEW && !spec.judged);
    const known = all ? drawn : drawn.slice(-1);
    return known.map(([name, label]) => {
      const i = spec.lines.findIndex((line) => line[0] === name);
      const points = run.curves[name].points.map((point) => [point[axis], point[2]]);
      return {
        name: alone ? label : spec.lines.length > 1 ? `${run.name}, ${label}` : run.name,
        colour: alone ? `var(--${COLOURS[i]})` : colour(r),
        stroke: stroke(r),
        faint: !alone && known.length > 1 && i === 0,
        dots: name.startsWith("held_out"),
        points: points.sort((a, b) => a[0] - b[0]),
      };
    });
  });

  const draw_charts = () => {
    const axis = Number(byId("axis").value);
    const x = axis ? clock : (value, full) => (full ? `step ${whole(value)}` : count(value));
    for (const spec of CHARTS) {
      const log = spec.scaled && byId("log").checked;
      spec.chart.show(curves(spec, axis), { x, axis, log, zero: spec.zero, bytes: spec.bytes });
    }
    staleness.show(runs.length === 1 ? runs[0].staleness : []);
  };

  // Progress, figures

  const WORDS = { unknown: "waiting", running: "running", done: "done", interrupted: "interrupted",
    failed: "failed" };

  const state = (run) => {
    const lost = link === "lost" && run.state === "running";
    const text = lost ? "connection lost" : WORDS[run.state];
    return el("b", { class: `state ${lost ? "lost" : run.state}` }, text);
  };

  const progress = (run) => {
    const done = run.steps ? run.step / run.steps : 0;
    const told = [`step ${whole(run.step)} of ${whole(run.steps)}`, clock(Math.round(run.elapsed_s))];
    if (run.left_s != null) told.push(`${clock(Math.round(run.left_s))} left`);
    if (run.state === "done" && run.reason !== "steps") told.push(run.reason);
    if (run.state === "failed") told.push(run.error);
    return [state(run),
      el("div", { class: "bar", role: "progressbar", "aria-valuenow": Math.round(done * 100),
        "aria-label": "Steps done" }, el("i", { style: `width:${done * 100}%` })),
      el("span", {}, told.join(" · "))];
  };

  const tile = (name, value, more = "") =>
    el("div", { class: "tile" }, el("span", {}, name), el("strong", {}, value), el("small", {}, more));

  const best_words = (run) => (run.best ? `best ${number(run.best.loss)} at step ${whole(run.best.step)}` : "");

  const tiles = (run) => {
    const { latest } = run;
    const best = run.best?.accuracy;
    const found = [tile("Training loss", number(latest.loss))];
    if (latest.held_out_loss != null) {
      found.push(tile("Held-out loss", number(latest.held_out_loss), best_words(run)));
    }
    if (latest.held_out_accuracy != null) {
      found.push(tile("Held-out accuracy", share(latest.held_out_accuracy),
        best == null ? "" : `${share(best)} with the best loss`));
    } else if (latest.accuracy != null) found.push(tile("Training accuracy", share(latest.accuracy)));
    found.push(tile("Examples", rate(latest.examples_per_s),
      run.examples_per_step ? `${whole(run.examples_per_step)} in a step` : ""));
    if (run.checkpoint) found.push(tile("Checkpoint", run.checkpoint.split("/").pop()));
    return found;
  };

  // Tables

  /** Columns are [head, cell(row), is it a number]. */
  const table = (title, columns, rows, kind = "") => el("figure", { class: `table ${kind}` },
    el("figcaption", {}, el("h2", {}, title)),
    el("table", {},
      el("thead", {}, el("tr", {}, ...columns.map(([head, , right]) =>
        el("th", { scope: "col", class: right ? "number" : "" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...columns.map(([, cell, right]) =>
        el("td", { class: right ? "number" : "" }, cell(row))))))));

  const meter = (value, most, text) =>
    el("span", { class: "meter" }, text, el("i", {}, el("i", { style: `width:${(100 * value) / (most || 1)}%` })));

  /** Columns for as long as the run goes on. */
  const now = (run, ...columns) => (given.live && run.state === "running" ? columns : []);

  /** A replica that the run goes on without. */
  const has_left = (run, one) => run.state === "running" && one.doing === "gone";

  const last_heard = (run) => ["last heard", (one) => {
    const since_s = Math.max(0, Date.now() / 1000 - run.standing_s + one.heard_s);
    const text = since_s < 1 ? "now" : `${clock(Math.round(since_s))} ago`;
    return since_s > SILENT_S && !has_left(run, one) ? el("b", { class: "wrong" }, `silent: ${text}`) : text;
  }, true];

  const standing = (run) => {
    const most = (rows, name) => Math.max(...rows.map((row) => row[name]));
    const per_s = (rows, name, text) => (row) => meter(row[name], most(rows, name), text(row[name]));
    const found = [];
    if (run.machines.length) {
      found.push(table("Machines", [["", (m) => m.name], ...now(run, ["doing", doing]),
        ["examples", per_s(run.machines, "examples_per_s", rate), true],
        ...now(run, last_heard(run))], run.machines));
    }
    if (run.replicas.length) {
      found.push(table("Replicas", [["", (r) => `replica ${r.replica}`], ["doing", (r) => r.doing],
        ["done", (r) => whole(r.examples), true],
        ["examples", (r) => (has_left(run, r) ? "–" : per_s(run.replicas, "examples_per_s", rate)(r)), true],
        ["staleness", (r) => number(r.staleness), true],
        ...now(run, last_heard(run))], run.replicas));
    }
    if (run.shards.length) {
      found.push(table("Shards", [["", (s) => `shard ${s.shard}`],
        ["updates", (s) => whole(s.updates), true],
        ["per second", per_s(run.shards, "updates_per_s", rate), true],
        ["pushed", per_s(run.shards, "pushed_bytes_per_s", traffic), true],
        ["fetched", per_s(run.shards, "fetched_bytes_per_s", traffic), true],
        ["saved", (s) => dbg.bytes(s.saved_bytes), true], ...now(run, last_heard(run))], run.shards));
    }
    return found;
  };

  const doing = (machine) => {
    if (!machine.alive) return el("b", { class: "wrong" }, "does not run");
    return el("span", { class: "text" }, machine.waiting ? `waits for ${machine.waiting}` : machine.doing);
  };

  const named = (run) => el("span", {}, dbg.swatch(colour(runs.indexOf(run)),
    stroke(runs.indexOf(run))), run.name);

  const compared = () => [
    table("Runs", [["run", named], ["", state], ["steps", (run) => whole(run.step), true],
      ["time", (run) => seconds(run.elapsed_s), true],
      ["examples", (run) => rate(run.latest.examples_per_s), true],
      ["training loss", (run) => number(run.latest.loss), true],
      ["held-out loss", (run) => number(run.latest.held_out_loss), true],
      ["held-out accuracy", (run) => share(run.latest.held_out_accuracy), true],
      ["best loss", (run) => number(run.best?.loss), true],
      ["at step", (run) => (run.best ? whole(run.best.step) : "–"), true],
      ["alarms", (run) => run.alarm_count, true]], runs),
  ];

  const differences = () => {
    const flat = runs.map((run) => flatten(run.about));
    const names = [...new Set(flat.flatMap(Object.keys))].filter(
      (name) => new Set(flat.map((one) => one[name])).size > 1);
    if (!names.length) return [];
    const columns = runs.map((run, i) => [run.name, (name) => flat[i][name] ?? "–"]);
    return [table("Options that differ", [["", (name) => name.replaceAll("_", " ")], ...columns], names, "whole")];
  };

  /** Options of options are options; lists and nothing are text. */
  const flatten = (options) => Object.fromEntries(Object.entries(options).flatMap(([name, value]) =>
    (value && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(flatten(value)) : [[name, String(value ?? "–")]])));

  const options = (run) => {
    const rows = Object.entries(flatten(run.about)).filter(([, value]) => value !== "–");
    const list = el("dl", {}, ...rows.map(([name, value]) =>
      el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, value))));
    return el("figure", { class: "table options" }, el("figcaption", {}, el("h2", {}, "Options")), list);
  };

  // All of it

  const draw_alarms = () => {
    const told = runs.flatMap((run) => run.alarms.slice(-5).map((alarm) => el("p", {},
      el("b", {}, `⚠ step ${whole(alarm.step)} `), runs.length > 1 ? `${run.name}: ` : "", alarm.rule)));
    const hidden = runs.reduce((sum, run) => sum + Math.max(0, run.alarm_count - 5), 0);
    byId("alarms").hidden = !told.length;
    byId("alarms").replaceChildren(...(hidden ? [el("p", {}, `${whole(hidden)} earlier alarms`)] : []), ...told);
  };

  const headings = () => {
    const run = runs[0];
    const alone = runs.length === 1;
    const { network, partitions, algorithm, rule, backend } = run.about;
    byId("heading").querySelector("h1").textContent = alone ? network ?? "training" : document.title;
    const cut = partitions ? dbg.plural(partitions, "partition") : "";
    byId("subtitle").textContent = alone
      ? [cut, algorithm, rule, backend].filter(Boolean).join(" · ")
      : `${runs.length} runs`;
    if (given.live) document.title = `${percent(run.steps ? run.step / run.steps : 0)} · ${network ?? ""}`;
  };

  const draw = () => {
    if (!runs.length) return;
    const alone = runs.length === 1;
    headings();
    draw_alarms();
    byId("status").hidden = !alone;
    if (alone) byId("status").replaceChildren(...progress(runs[0]));
    byId("figures").replaceChildren(...(alone ? tiles(runs[0]) : compared()));
    draw_charts();
    draw_tables();
  };

  const draw_tables = () => {
    const alone = runs.length === 1;
    byId("tables").replaceChildren(...(alone ? [...standing(runs[0]), options(runs[0])] : differences()));
  };

  // Controls

  const theme = () => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const root = document.documentElement;
    const dark = () => (root.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
    const tell = () => { byId("theme").textContent = dark() ? "☀" : "☾"; };
    byId("theme").addEventListener("click", () => {
      root.style.colorScheme = dark() ? "light" : "dark";
      tell();
    });
    system.addEventListener("change", tell);
    tell();
  };

  const controls = () => {
    byId("axis").addEventListener("change", draw_charts);
    byId("log").addEventListener("change", draw_charts);
    byId("ask").addEventListener("click", () => byId("help").showModal());
    const keys = {
      a: () => { byId("axis").value = 1 - byId("axis").value; draw_charts(); },
      l: () => byId("log").click(),
      t: () => byId("theme").click(),
      "?": () => byId("help").showModal(),
    };
    addEventListener("keydown", (event) => {
      const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
      if (!plain || event.target.tagName === "SELECT" || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  };

  const listen = () => {
    const events = new EventSource(`events${location.search}`);
    events.addEventListener("message", (event) => {
      link = "open";
      runs = [{ name: "", ...JSON.parse(event.data) }];
      draw();
    });
    events.addEventListener("end", () => events.close());
    events.addEventListener("error", () => {
      link = "lost";
      draw();
    });
    setInterval(draw_tables, 1000); // time passes, also where nothing is heard
  };

  theme();
  controls();
  draw();
  if (given.live) listen();
  document.documentElement.dataset.ready = "true";
};
