// EventsView: a tail of events, the newest at the end. While it is paused it shows what was there; the kernel holds new
// rows back meanwhile (events.py names the cells).

const [TIME, SERVER, EVENT, LEVEL, SUBJECT, SUMMARY, ORIGIN, SKIPPED] = Array.from({ length: 8 }, (_, i) => i);
const MARK = { Warning: "warning", Critical: "failed", Urgent: "failed" };
const ORIGINS = { last: "resent", polled: "asked", backfill: "from the log", file: "from a file" };

function buildEvent() {
  const row = h("div", { class: "events-row" });
  row.parts = {
    time: h("span", { class: "events-time nb-quiet" }),
    mark: h("span", { class: "events-mark" }),
    event: h("span", { class: "events-class nb-cut" }),
    what: h("span", { class: "events-what nb-cut" }),
    side: h("span", { class: "events-side nb-quiet nb-cut" }),
  };
  row.append(...Object.values(row.parts));
  return row;
}

/** The event's JSON, indented; whatever it is, as text. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export default view(({ store, root, signal }) => {
  const event = picker("Class of event", (value) => store.set({ event: value }));
  const server = picker("Server", (value) => store.set({ server: value }));
  const level = picker("Level", (value) => store.set({ level: value }));
  let typing = 0;
  const search = searchBox("Filter events", (text) => {
    clearTimeout(typing);
    typing = setTimeout(() => store.set({ search: text }), 250);
  });
  const pauseText = h("span", {}, "Pause");
  const pauseIcon = h("span", {});
  const pause = h("button", { class: "nb-button", type: "button", onclick: () => setPaused(!store.control("paused")) }, pauseIcon, pauseText);
  const told = h("span", { class: "nb-quiet events-told" });
  const toEnd = h("button", { class: "nb-button on jobs-end events-end", type: "button", hidden: true, onclick: () => end() });
  const json = h("pre", { class: "events-json nb-mono", tabindex: "0" });
  const heading = h("h3", { class: "events-heading" });
  const detail = h(
    "section",
    { class: "events-detail", hidden: true, "aria-label": "Open event" },
    h("header", { class: "events-detail-head" }, heading, button("", () => store.set({ selected: null }), { shape: "close", kind: "plain", hint: "Close the event" })),
    json,
  );
  const empty = h("div", { class: "nb-empty" });
  let follow = true;
  let fresh = 0;
  let frozen = null; // rows that stay while it is paused, by id
  let last = 0;
  let asked = null;
  const at = (id) => frozen?.get(id) ?? store.rows.get(id);
  const narrow = () => root.clientWidth < 560;
  const list = windowed({
    label: "Events",
    height: () => (narrow() ? 44 : 28),
    build: buildEvent,
    fill: fillEvent,
    onopen: (id) => {
      asked = Date.now();
      store.set({ selected: store.control("selected") === id ? null : id });
    },
  });
  list.el.classList.add("events-list");
  list.el.addEventListener("scroll", () => {
    const there = list.atEnd();
    if (there) fresh = 0;
    if (there !== follow && list.items.length) {
      follow = there;
      drawEnd();
    }
  });
  root.addEventListener("keydown", (key) => {
    if (key.key === "Escape" && !detail.hidden) store.set({ selected: null });
  }, { signal });
  root.append(
    h("header", { class: "nb-head" }, h("h2", { class: "nb-title" }, "Events"), told, h("span", { class: "nb-fill" }), event.el, server.el, level.el, search.el, pause),
    h("div", { class: "events-box" }, list.el, toEnd, empty),
    detail,
  );
  const sizes = new ResizeObserver(() => {
    root.classList.toggle("narrow", narrow());
    fit();
    list.draw(true);
    if (follow && !frozen) end();
  });
  sizes.observe(root);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    list.destroy();
    clearTimeout(typing);
  });

  function fillEvent(element, id) {
    const row = at(id);
    if (!row) return;
    const { parts } = element;
    put(parts.time, clock(row[TIME]));
    attribute(parts.time, "title", exact(row[TIME]));
    setIcon(parts.mark, MARK[row[LEVEL]] ?? "info");
    attribute(element, "data-level", row[LEVEL]);
    put(parts.event, plain(row[EVENT]));
    put(parts.what, plain(row[SUMMARY] ?? row[SUBJECT]));
    const side = [row[SKIPPED] ? `${number(row[SKIPPED])} before it not shown` : null, ORIGINS[row[ORIGIN]], store.values.servers?.length > 1 ? plain(row[SERVER]) : null];
    put(parts.side, side.filter(Boolean).join(" · "));
    element.classList.toggle("after-skip", row[SKIPPED] > 0);
    attribute(element, "aria-selected", String(store.control("selected") === id));
  }

  function fit() {
    list.el.style.height = `${Math.min(Math.max(list.items.length, 1), 10) * (narrow() ? 44 : 28)}px`;
  }

  function setPaused(on) {
    store.set({ paused: on });
    if (!on) follow = true;
  }

  function end() {
    follow = true;
    fresh = 0;
    list.toEnd();
    list.draw(false);
    drawEnd();
  }

  function drawEnd() {
    toEnd.hidden = follow;
    if (!follow) toEnd.replaceChildren(icon("down"), h("span", {}, fresh ? plural(fresh, "new event") : "To the end"));
  }

  function drawDetail() {
    const selected = store.control("selected") ?? null;
    const row = selected === null ? null : at(selected);
    detail.hidden = selected === null;
    if (selected === null) return;
    put(heading, row ? `${plain(row[EVENT])} · ${exact(row[TIME])}${row[LEVEL] ? ` · ${row[LEVEL]}` : ""} · no. ${number(selected)}` : `Event no. ${number(selected)}`);
    const text = store.texts.get(`args/${selected}`);
    const waiting = asked && Date.now() - asked > 1500 ? "It comes as soon as the kernel is free." : "…";
    const shown = text === undefined ? waiting : pretty(text);
    if (json.shown !== shown) {
      json.shown = shown;
      put(json, shown.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd"));
    }
  }

  return () => {
    const paused = Boolean(store.control("paused"));
    if (paused && !frozen) frozen = new Map(store.rows);
    if (!paused) frozen = null;
    const values = store.values;
    const ids = [...(frozen ?? store.rows).keys()].sort((a, b) => a - b);
    event.draw(store.control("event"), [[null, "All classes"], ...(values.classes ?? []).map((name) => [name, plain(name)])]);
    server.el.hidden = (values.servers ?? []).length < 2;
    server.draw(store.control("server"), [[null, "All servers"], ...(values.servers ?? []).map((name) => [name, plain(name)])]);
    level.draw(store.control("level"), [[null, "All levels"], ["Warning", "Warning and up"], ["Critical", "Critical and up"], ["Urgent", "Urgent"]]);
    if (document.activeElement !== search.input && search.input.value !== (store.control("search") ?? "")) search.input.value = store.control("search") ?? "";
    setIcon(pauseIcon, paused ? "play" : "pause");
    put(pauseText, paused ? "Go on" : "Pause");
    attribute(pause, "aria-pressed", String(paused));
    pause.classList.toggle("on", paused);
    const skipped = values.skipped ? `${number(values.skipped)} not shown (in the events table)` : null;
    put(told, [plural(values.total ?? 0, "event"), paused ? `paused, ${number(values.waiting ?? 0)} waiting` : skipped].filter(Boolean).join(" · "));
    const newest = ids.at(-1) ?? 0;
    if (!follow && newest > last) fresh += ids.length - ids.findIndex((id) => id > last);
    last = newest;
    list.set(ids);
    empty.hidden = ids.length > 0;
    list.el.hidden = !ids.length;
    if (!ids.length)
      empty.replaceChildren(h("strong", {}, values.total ? "No event matches" : "No events yet"), values.total ? "Widen the filters above to see others." : "They appear here as they come.");
    fit();
    list.draw(true);
    if (follow && !paused) {
      list.toEnd();
      list.draw(false);
    }
    drawEnd();
    drawDetail();
  };
});
