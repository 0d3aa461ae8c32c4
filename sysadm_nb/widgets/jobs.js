// JobsView: the rows of jobs, and the open job with its log. The kernel sends all rows (jobs.py names the cells), so
// that filtering, sorting and scrolling work while a cell keeps the kernel busy.

const [SERVER, PROCESS, RUN, SUBSYSTEM, ACTION, STATE, COMMANDS, STEP, DONE, PERCENT, STARTED, FINISHED, SINCE, CODE, AT_END] =
  Array.from({ length: 15 }, (_, i) => i);

const WORDS = { pending: "Waiting", running: "Running", finished: "Done", failed: "Failed", unknown: "Unknown" };
const URGENCY = { failed: 0, running: 1, pending: 2, unknown: 3, finished: 4 };

const seconds = (row) =>
  row[FINISHED] !== null && row[STARTED] !== null
    ? (row[FINISHED] - row[STARTED]) / 1e6
    : row[SINCE] !== null && row[STATE] === "running"
      ? Date.now() / 1e3 - row[SINCE] / 1e6
      : null;

/** How far a job is, 0 to 1, or null: the server's percentage, else how many of its commands are done. */
function progress(row) {
  if (row[STATE] === "finished") return 1;
  if (row[PERCENT] !== null) return Math.min(1, Math.max(0, row[PERCENT] / 100));
  return row[COMMANDS].length > 1 ? row[DONE] / row[COMMANDS].length : null;
}

const title = (row) => plain(row[COMMANDS].length ? row[COMMANDS].join("  ›  ") : row[PROCESS]);

const about = (row, several) =>
  [row[SUBSYSTEM], row[ACTION], row[RUN] > 1 ? `run ${row[RUN]}` : null, several ? row[SERVER] : null]
    .filter(Boolean)
    .map(plain)
    .join(" · ");

function outcome(row) {
  if (row[STATE] === "failed") return row[CODE] === null ? "Failed" : `Failed · exit ${row[CODE]}`;
  if (row[STATE] === "finished") return row[CODE] === null ? "Done" : "Done · exit 0";
  if (row[STATE] === "unknown") return "Connection lost: outcome unknown";
  if (row[STATE] === "pending") return "Waiting";
  if (row[PERCENT] !== null) return `${Math.round(row[PERCENT])} %`;
  return row[COMMANDS].length > 1 ? `${row[DONE]} of ${row[COMMANDS].length} done` : "Running";
}

function progressBar() {
  const fill = h("i");
  const el = h("div", { class: "jobs-bar" }, fill);
  return {
    el,
    draw(row) {
      const share = progress(row);
      const shown = row[STATE] === "running" || row[STATE] === "pending";
      el.hidden = !shown;
      if (!shown) return;
      el.classList.toggle("wavy", share === null && row[STATE] === "running");
      fill.style.width = share === null ? "" : `${(share * 100).toFixed(1)}%`;
    },
  };
}

function buildRow() {
  const row = h("div", { class: "jobs-row" });
  const cell = (name, ...children) => {
    const el = h("div", { class: `jobs-${name}`, role: "gridcell" }, ...children);
    row.append(el);
    return el;
  };
  const bar = progressBar();
  const parts = (row.parts = {
    mark: h("span", { class: "jobs-mark" }),
    title: h("div", { class: "jobs-title nb-mono nb-cut" }),
    about: h("div", { class: "jobs-about nb-quiet nb-cut" }),
    outcome: h("span", { class: "jobs-outcome nb-cut" }),
    bar,
  });
  cell("what", parts.mark, h("div", { class: "jobs-words" }, parts.title, parts.about));
  cell("progress", bar.el, parts.outcome);
  parts.started = cell("started");
  parts.took = cell("took");
  return row;
}

function fillRow(element, row, id, store, several) {
  const { parts } = element;
  const state = row[STATE];
  if (element.dataset.state !== state) element.dataset.state = state;
  setIcon(parts.mark, state);
  const chain = row[COMMANDS];
  const current = state === "running" && chain.length > 1 && row[STEP] ? plain(chain[row[STEP] - 1]) : null;
  put(parts.title, current ?? title(row));
  const hint = current ? `step ${row[STEP]} of ${chain.length}` : null;
  const late = row[AT_END] ? "log comes when it ends" : null;
  put(parts.about, [hint, about(row, several), late].filter(Boolean).join(" · "));
  put(parts.outcome, outcome(row));
  parts.bar.draw(row);
  put(parts.started, clock(row[STARTED]));
  attribute(parts.started, "title", exact(row[STARTED]) || null);
  put(parts.took, duration(seconds(row)));
  const open = store.control("selected") === id;
  attribute(element, "aria-selected", String(open));
  attribute(element, "aria-label", `${WORDS[state]}: ${title(row)}. ${outcome(row)}`);
}

// ---- the run box -----------------------------------------------------------------------------------------------

function runBox(store) {
  const input = h("textarea", {
    class: "nb-input nb-mono jobs-run-input",
    rows: "1",
    "aria-label": "Commands to run on the server, one a line, until one fails",
    placeholder: "zpool scrub tank",
    spellcheck: "false",
  });
  const where = picker("Server to run on", () => {});
  const form = h(
    "form",
    { class: "jobs-run", hidden: true },
    h("span", { class: "nb-quiet" }, "Run on the server, one command a line:"),
    input,
    where.el,
    h("button", { class: "nb-button on", type: "submit" }, icon("play"), h("span", {}, "Run")),
  );
  const submit = () => {
    const commands = input.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!commands.length) return;
    store.send("run", { commands, server: where.el.value || null });
    input.value = "";
    input.rows = 1;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  input.addEventListener("input", () => (input.rows = Math.min(6, input.value.split("\n").length)));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    }
    event.stopPropagation();
  });
  const toggle = button("Run …", () => {
    form.hidden = !form.hidden;
    attribute(toggle, "aria-expanded", String(!form.hidden));
    if (!form.hidden) input.focus();
  }, { shape: "play" });
  return {
    toggle,
    form,
    draw() {
      const servers = store.values.may_run ?? [];
      const may = servers.length > 0;
      toggle.hidden = !may;
      if (!may) form.hidden = true;
      where.el.hidden = servers.length < 2;
      where.draw(where.el.value || servers[0], servers.map((name) => [name, plain(name)]));
    },
  };
}

export default view(({ store, root, signal }) => {
  const states = choice(
    "Show jobs by state",
    [[null, "All"], ["running", "Running", "running"], ["pending", "Waiting", "pending"], ["failed", "Failed", "failed"], ["finished", "Done", "finished"]],
    (value) => store.set({ state: value }),
  );
  const subsystem = picker("Subsystem", (value) => store.set({ subsystem: value }));
  const server = picker("Server", (value) => store.set({ server: value }));
  const sort = picker("Order", (value) => store.set({ sort: value }));
  let typing = 0;
  const search = searchBox("Filter jobs", (text) => {
    clearTimeout(typing);
    typing = setTimeout(() => store.set({ search: text }), 150);
  });
  const run = runBox(store);
  const status = h("div", { class: "nb-hidden-text", role: "status", "aria-live": "polite" });
  const empty = h("div", { class: "nb-empty" });
  const narrow = () => root.clientWidth < 640;
  let several = false;
  const list = windowed({
    label: "Jobs",
    role: "grid",
    rowRole: "row",
    height: () => (narrow() ? 64 : 46),
    build: buildRow,
    fill: (element, id) => {
      const row = store.rows.get(id);
      if (row) fillRow(element, row, id, store, several);
    },
    onopen: (id) => store.set({ selected: store.control("selected") === id ? null : id }),
  });
  list.el.classList.add("jobs-list");
  const open = detail(
    store,
    () => {
      store.set({ selected: null });
      list.el.focus();
    },
    signal,
  );
  const heads = h(
    "div",
    { class: "jobs-row jobs-heads nb-quiet", "aria-hidden": "true" },
    ...["Job", "Progress", "Started", "Duration"].map((text, i) =>
      h("div", { class: `jobs-${["what", "progress", "started", "took"][i]}` }, text),
    ),
  );
  const main = h("div", { class: "jobs-main" }, h("div", { class: "jobs-rows" }, heads, list.el, empty), open.el);
  root.append(
    h(
      "header",
      { class: "nb-head" },
      h("h2", { class: "nb-title" }, "Jobs"),
      states.el,
      h("span", { class: "nb-fill" }),
      subsystem.el,
      server.el,
      search.el,
      sort.el,
      run.toggle,
    ),
    run.form,
    main,
    status,
  );
  const known = new Map(); // id: state, to tell a screen reader what ended
  const ticking = setInterval(() => {
    if (document.hidden || !root.isConnected) return;
    list.draw(true);
    const selected = store.control("selected");
    if (store.rows.get(selected)?.[STATE] === "running") open.draw(selected, several);
  }, 1000);
  const sizes = new ResizeObserver(() => {
    root.classList.toggle("narrow", narrow());
    root.classList.toggle("wide", root.clientWidth >= 1080);
    fit();
    list.draw(true);
  });
  sizes.observe(root);
  signal.addEventListener("abort", () => {
    clearInterval(ticking);
    clearTimeout(typing);
    sizes.disconnect();
    list.destroy();
  });

  function fit() {
    const tall = narrow() ? 64 : 46;
    const opened = root.classList.contains("opened");
    list.el.style.height = opened && root.classList.contains("wide") ? "" : `${Math.min(list.items.length, opened ? 5 : 9) * tall}px`;
  }

  function pick() {
    const want = Object.fromEntries(["state", "subsystem", "server", "search"].map((name) => [name, store.control(name)]));
    const text = (want.search ?? "").toLowerCase();
    const counts = {};
    const servers = new Set();
    const subsystems = new Set();
    const ids = [];
    for (const [id, row] of store.rows) {
      servers.add(row[SERVER]);
      subsystems.add(row[SUBSYSTEM]);
      if (want.server && row[SERVER] !== want.server) continue;
      if (want.subsystem && row[SUBSYSTEM] !== want.subsystem) continue;
      if (text && ![...row[COMMANDS], row[PROCESS], row[ACTION], row[SUBSYSTEM]].some((part) => part?.toLowerCase().includes(text))) continue;
      counts[row[STATE]] = (counts[row[STATE]] ?? 0) + 1;
      if (!want.state || row[STATE] === want.state) ids.push(id);
    }
    const order = store.control("sort") ?? "newest";
    const rows = store.rows;
    if (order !== "oldest") ids.reverse();
    if (order === "state") ids.sort((a, b) => URGENCY[rows.get(a)[STATE]] - URGENCY[rows.get(b)[STATE]] || b - a);
    if (order === "longest") {
      const took = new Map(ids.map((id) => [id, seconds(rows.get(id)) ?? -1]));
      ids.sort((a, b) => took.get(b) - took.get(a) || b - a);
    }
    return { ids, counts, servers: [...servers].sort(), subsystems: [...subsystems].sort(), want };
  }

  function tellEnded() {
    for (const id of store.touched ?? []) {
      const row = store.rows.get(id);
      if (!row) known.delete(id);
      else if (known.get(id) === "running" && (row[STATE] === "failed" || row[STATE] === "finished"))
        put(status, `Job ${row[STATE] === "failed" ? "failed" : "done"}: ${title(row)}`);
      if (row) known.set(id, row[STATE]);
    }
  }

  return () => {
    const { ids, counts, servers, subsystems, want } = pick();
    several = servers.length > 1;
    states.draw(want.state ?? null, counts);
    subsystem.el.hidden = subsystems.length < 2;
    subsystem.draw(want.subsystem, [[null, "All subsystems"], ...subsystems.map((name) => [name, plain(name)])]);
    server.el.hidden = servers.length < 2;
    server.draw(want.server, [[null, "All servers"], ...servers.map((name) => [name, plain(name)])]);
    sort.draw(store.control("sort"), [["newest", "Newest first"], ["oldest", "Oldest first"], ["state", "Most urgent first"], ["longest", "Longest first"]]);
    if (document.activeElement !== search.input && search.input.value !== (want.search ?? "")) search.input.value = want.search ?? "";
    run.draw();
    tellEnded();
    list.set(ids);
    const none = ids.length === 0;
    empty.hidden = !none;
    list.el.hidden = heads.hidden = none;
    if (none) {
      const words = store.rows.size
        ? ["No job matches", "Widen the filters above to see the others."]
        : ["No jobs yet", "They appear here as soon as the server reports one."];
      empty.replaceChildren(h("strong", {}, words[0]), words[1]);
    }
    const selected = store.control("selected") ?? null;
    root.classList.toggle("opened", selected !== null && store.rows.has(selected));
    fit();
    list.draw(true);
    open.draw(selected, several);
  };
});
