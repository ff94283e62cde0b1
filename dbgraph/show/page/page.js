"use strict";
/* The shell of every page: tabs, search, filter, theme, keyboard, details. shell.py describes it. */

dbg.bus = (() => {
  const listeners = {};
  const last = {};
  return {
    on(event, fn) {
      (listeners[event] ||= []).push(fn);
      if (event in last) fn(last[event]);
    },
    emit(event, value) {
      last[event] = value;
      for (const fn of listeners[event] || []) fn(value);
    },
  };
})();

dbg.start = async () => {
  const byId = (id) => document.getElementById(id);
  const { bus, el } = dbg;
  const data = (dbg.data = await unpack(byId("data").textContent));
  const { subtitle, machines, problems } = data.page;
  byId("subtitle").textContent = subtitle;

  theme();
  problem_list();
  filters();
  details();
  search();
  tabs();
  help();
  keyboard();
  document.documentElement.dataset.ready = "true";

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  // Views

  function tabs() {
    const list = byId("tabs");
    const mounted = new Set();
    const find = (id) => dbg.views.findIndex((view) => view.id === id);
    for (const view of dbg.views) {
      const open = () => bus.emit("show", view.id);
      list.append(el("button", { id: `tab-${view.id}`, role: "tab", type: "button",
        "aria-controls": `view-${view.id}`, onclick: open }, view.title));
      byId("views").append(el("section", { id: `view-${view.id}`, role: "tabpanel",
        "aria-labelledby": `tab-${view.id}`, hidden: true }));
    }
    bus.on("show", (id) => {
      for (const view of dbg.views) {
        const shown = view.id === id;
        const root = byId(`view-${view.id}`);
        const tab = byId(`tab-${view.id}`);
        tab.setAttribute("aria-selected", shown);
        tab.tabIndex = shown ? 0 : -1;
        root.hidden = !shown;
        if (shown && !mounted.has(id)) {
          mounted.add(id);
          view.mount(root, data, bus);
        }
      }
      history.replaceState(null, "", `#${id}`);
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = dbg.views.findIndex((view) => byId(`tab-${view.id}`) === document.activeElement);
      const next = dbg.views[(at + step + dbg.views.length) % dbg.views.length].id;
      bus.emit("show", next);
      byId(`tab-${next}`).focus();
    });
    const asked = location.hash.slice(1);
    const first = dbg.views[Math.max(0, find(asked))];
    if (first) bus.emit("show", first.id);
  }

  // Dark and light

  function theme() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const root = document.documentElement;
    const dark = () => (root.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
    const tell = () => {
      byId("theme").textContent = dark() ? "☀" : "☾";
      bus.emit("theme", dark() ? "dark" : "light");
    };
    byId("theme").addEventListener("click", () => {
      root.style.colorScheme = dark() ? "light" : "dark";
      tell();
    });
    system.addEventListener("change", tell);
    let before = "";
    addEventListener("beforeprint", () => {
      before = root.style.colorScheme;
      root.style.colorScheme = "light";
      dbg.printing = true;
      tell();
      for (const stage of dbg.stages) stage.draw(); // at once: no frame comes before the print
    });
    addEventListener("afterprint", () => {
      root.style.colorScheme = before;
      dbg.printing = false;
      tell();
    });
    tell();
  }

  // What is wrong

  function problem_list() {
    const box = byId("problems");
    box.hidden = !problems.length;
    for (const { text, kind, id, hint } of problems) {
      const show = () => bus.emit("select", { kind, id });
      const where = kind ? [el("button", { type: "button", onclick: show }, "Show")] : [];
      box.append(el("p", {}, el("b", {}, "✗ "), text, hint ? el("i", {}, ` ${hint}`) : "", ...where));
    }
  }

  // Show only …

  function filters() {
    const select = byId("machine");
    const crossing = byId("crossing");
    byId("only").hidden = byId("crosses").hidden = !machines;
    select.append(el("option", { value: "" }, "all"));
    for (let p = 0; p < machines; p++) select.append(el("option", { value: p }, String(p)));
    const tell = () => bus.emit("filter", {
      machine: select.value === "" ? null : Number(select.value),
      crossing: crossing.checked,
    });
    select.addEventListener("change", tell);
    crossing.addEventListener("change", tell);
    bus.on("filter", (filter) => {
      select.value = filter.machine ?? "";
      crossing.checked = filter.crossing;
    });
    tell();
  }

  // The side panel

  function details() {
    const panel = byId("details");
    bus.on("details", (found) => {
      panel.hidden = !found;
      panel.replaceChildren();
      if (!found) return;
      const close = () => bus.emit("select", null);
      const rows = (found.rows || []).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]);
      const actions = (found.actions || []).map(
        ([label, fn]) => el("button", { type: "button", onclick: fn }, label));
      panel.append(
        el("button", { class: "close", type: "button", "aria-label": "Close", onclick: close }, "×"),
        el("h2", {}, found.title), el("dl", {}, ...rows), el("p", { class: "actions" }, ...actions));
    });
    bus.on("select", (value) => value || bus.emit("details", null));
  }

  // Search

  function search() {
    const field = byId("search");
    const list = byId("found");
    let found = [];
    let at = -1;
    const close = () => {
      list.hidden = true;
      field.setAttribute("aria-expanded", "false");
    };
    const mark = (index) => {
      at = index;
      [...list.children].forEach((item, i) => item.setAttribute("aria-selected", i === at));
      list.children[at]?.scrollIntoView({ block: "nearest" });
      field.setAttribute("aria-activedescendant", at < 0 ? "" : `found-${at}`);
    };
    const pick = (index) => {
      if (!found[index]) return;
      close();
      bus.emit("select", found[index].select);
    };
    const update = () => {
      const text = field.value.trim().toLowerCase();
      found = text ? dbg.finders.flatMap((find) => find(text, data)).slice(0, 50) : [];
      list.replaceChildren(...found.map(({ text, hint }, i) => el("li", { id: `found-${i}`,
        role: "option", onmousedown: (event) => { event.preventDefault(); pick(i); } },
        text, el("small", {}, hint || ""))));
      if (text && !found.length) list.append(el("li", { class: "none" }, "nothing of that name"));
      list.hidden = !text;
      field.setAttribute("aria-expanded", String(!!text));
      mark(found.length ? 0 : -1);
      bus.emit("search", text);
    };
    field.addEventListener("input", update);
    field.addEventListener("focus", update);
    field.addEventListener("blur", close);
    field.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && found.length) mark((at + step + found.length) % found.length);
      else if (event.key === "Enter") pick(at);
      else if (event.key === "Escape") {
        field.value = "";
        update();
        field.blur();
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  // Help and keys

  function help() {
    const dialog = byId("help");
    const common = [["/", "search: layers, tiles, values, machines"],
      ["1 … 9", "the views"], ["[ ]", "show only the previous, the next machine"],
      ["x", "show only what crosses"], ["t", "dark or light"], ["?", "this help"],
      ["Esc", "take back: the search, the selection, the filter"]];
    const list = (keys) => el("dl", {}, ...keys.flatMap(([key, does]) => [
      el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)]));
    dialog.append(el("h2", {}, "Keys"), list(common), ...dbg.views.filter((view) => view.keys)
      .flatMap((view) => [el("h3", {}, view.title), list(view.keys)]),
      el("form", { method: "dialog" }, el("button", {}, "Close")));
    byId("ask").addEventListener("click", () => dialog.showModal());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  function keyboard() {
    let filter;
    let selected = null;
    bus.on("filter", (value) => { filter = value; });
    bus.on("select", (value) => { selected = value; });
    const machine = (step) => {
      if (!machines) return;
      const next = filter.machine === null ? (step > 0 ? 0 : machines - 1) : filter.machine + step;
      bus.emit("filter", { ...filter, machine: next in [...Array(machines)] ? next : null });
    };
    const back = () => {
      if (selected) bus.emit("select", null);
      else bus.emit("filter", { machine: null, crossing: false });
    };
    const keys = {
      "/": () => byId("search").focus(),
      "?": () => byId("help").showModal(),
      "[": () => machine(-1),
      "]": () => machine(1),
      x: () => machines && bus.emit("filter", { ...filter, crossing: !filter.crossing }),
      t: () => byId("theme").click(),
      Escape: back,
    };
    addEventListener("keydown", (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (typing && event.key !== "Escape") return;
      if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
      const view = dbg.views[Number(event.key) - 1];
      const act = view ? () => bus.emit("show", view.id) : keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }
};
