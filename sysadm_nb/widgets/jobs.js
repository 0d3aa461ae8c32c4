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

// ---- the open job ----------------------------------------------------------------------------------------------

function detail(store, close, signal) {
  let id = null;
  let follow = true;
  let terminals = new Map(); // step: {command, terminal}
  let hits = [];
  let hit = -1;
  let query = "";
  let asked = 0;
  let missed = 0;
  const mark = h("span", { class: "jobs-mark" });
  const heading = h("h3", { class: "jobs-heading nb-mono" });
  const facts = h("div", { class: "jobs-facts" });
  const steps = h("ol", { class: "jobs-steps" });
  const note = h("div", { class: "jobs-note nb-quiet", role: "status" });
  const sure = button("Kill it", () => kill(), { kind: "danger sure", shape: "stop" });
  const keep = button("Keep", () => confirm(false));
  const ask = button("Kill", () => confirm(true), { kind: "danger", shape: "stop", hint: "Kill this job" });
  const question = h("span", { class: "jobs-sure", role: "alertdialog", "aria-label": "Kill this job?" }, "Kill this job?", sure, keep);
  const killed = h("span", { class: "nb-quiet" });
  const closer = button("", close, { shape: "close", kind: "plain", hint: "Close the job" });
  const find = searchBox("Find in log", (text) => search(text));
  const found = h("span", { class: "nb-quiet jobs-found", role: "status" });
  const previous = button("", () => go(-1), { shape: "up", kind: "plain", hint: "Previous match" });
  const next = button("", () => go(1), { shape: "down", kind: "plain", hint: "Next match" });
  const copied = h("span", {}, "Copy");
  const copier = h("button", { class: "nb-button", type: "button", onclick: copy, title: "Copy the log" }, icon("copy"), copied);
  const toEnd = h("button", { class: "nb-button jobs-end on", type: "button", hidden: true, onclick: end });
  const log = windowed({
    label: "Log",
    role: "log",
    rowRole: "presentation",
    height: () => 18,
    over: 60,
    build: () => h("div", { class: "jobs-line" }),
    fill: fillLine,
  });
  log.el.classList.add("jobs-log");
  attribute(log.el, "aria-live", "off");
  log.el.addEventListener("scroll", () => {
    const at = log.atEnd();
    if (at) missed = 0;
    if (at !== follow && log.items.length) {
      follow = at;
      drawEnd();
    }
  });
  find.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    go(event.shiftKey ? -1 : 1);
    event.preventDefault();
  });
  const el = h(
    "section",
    { class: "jobs-detail", "aria-label": "Open job", hidden: true },
    h("header", { class: "jobs-detail-head" }, mark, heading, killed, ask, question, closer),
    facts,
    steps,
    h("div", { class: "jobs-log-head" }, find.el, previous, next, found, h("span", { class: "nb-fill" }), copier),
    note,
    h("div", { class: "jobs-log-box" }, log.el, toEnd),
  );
  el.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      event.stopPropagation();
    }
  });
  signal.addEventListener("abort", () => log.destroy());

  function confirm(on) {
    ask.hidden = on || !mayKill(store.rows.get(id));
    question.hidden = !on;
    if (on) keep.focus();
  }

  function mayKill(row) {
    return row && (row[STATE] === "running" || row[STATE] === "pending") && store.values.may_run?.includes(row[SERVER]);
  }

  function kill() {
    store.send("kill", { row: id });
    put(killed, "Asked to end it …");
    confirm(false);
    ask.hidden = true;
  }

  function end() {
    follow = true;
    missed = 0;
    log.toEnd();
    log.draw(false);
    drawEnd();
  }

  function drawEnd() {
    toEnd.hidden = follow;
    if (!follow) toEnd.replaceChildren(icon("down"), h("span", {}, missed > 0 ? `${plural(missed, "new line")}` : "To the end"));
  }

  function search(text) {
    query = text.toLowerCase();
    hits = [];
    if (query)
      log.items.forEach((item, index) => {
        const line = item.line.text.toLowerCase();
        for (let at = line.indexOf(query); at >= 0 && hits.length < 10000; at = line.indexOf(query, at + query.length))
          hits.push([index, at, at + query.length]);
      });
    hit = hits.length ? 0 : -1;
    drawSearch(true);
  }

  function go(by) {
    if (!hits.length) return;
    hit = (hit + by + hits.length) % hits.length;
    drawSearch(true);
  }

  function drawSearch(move) {
    put(found, query ? (hits.length ? `${hit + 1} of ${number(hits.length)}` : "nothing found") : "");
    previous.disabled = next.disabled = hits.length < 2;
    if (move && hit >= 0) log.show(hits[hit][0]);
    log.draw(true);
  }

  async function copy() {
    const text = log.items.map((item) => item.line.text).join("\n");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = h("textarea", { class: "nb-hidden-text" }); // pages without https have no clipboard object
      area.value = text;
      el.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    put(copied, "Copied");
    setTimeout(() => put(copied, "Copy"), 1500);
  }

  function fillLine(element, item, index) {
    element.className = `nb-row jobs-line ${item.kind}`;
    const here = query ? hits.filter((h) => h[0] === index).map(([, a, b]) => [a, b, hits[hit]?.[0] === index && hits[hit]?.[1] === a]) : [];
    drawLine(element, item.line, item.styles, here);
  }

  function lines(row) {
    const out = [];
    const info = store.values[`steps/${id}`] ?? [];
    for (const [number, [command, state, code]] of info.entries()) {
      let entry = terminals.get(number);
      if (!entry) terminals.set(number, (entry = { terminal: new Terminal(), head: null, wrap: new Map() }));
      entry.terminal.show(store.texts.get(`${id}/${number}`) ?? "");
      if (state === "pending" || state === "skipped") continue;
      const headed = `$ ${plain(command)}`;
      if (entry.head?.line.text !== headed) entry.head = { kind: "head", line: { text: headed, marks: null }, styles: [] };
      out.push(entry.head);
      const all = entry.terminal.lines;
      const count = all.length > 1 && !all.at(-1).text ? all.length - 1 : all.length === 1 && !all[0].text ? 0 : all.length;
      for (let i = 0; i < count; i++) out.push({ kind: "", line: all[i], styles: entry.terminal.styles });
      if (code !== null && code !== 0)
        out.push({ kind: "bad", line: { text: code === -1 ? "✕ could not be started, or ended by force (exit -1)" : `✕ exit ${code}`, marks: null }, styles: [] });
    }
    return out;
  }

  function drawFacts(row, several) {
    const took = duration(seconds(row));
    const pairs = [
      ["Process", plain(row[PROCESS])],
      ["From", about(row, several)],
      ["Started", clock(row[STARTED]), exact(row[STARTED])],
      ["Took", row[STATE] === "running" ? null : took],
      ["Running for", row[STATE] === "running" ? took : null],
    ].filter(([, value]) => value);
    const key = JSON.stringify(pairs);
    if (facts.shown === key) return;
    facts.shown = key;
    facts.replaceChildren(...pairs.map(([name, value, hint]) => h("span", { title: hint }, h("span", { class: "nb-quiet" }, `${name} `), value)));
  }

  function drawSteps(info) {
    steps.hidden = info.length < 2;
    const key = JSON.stringify(info);
    if (steps.shown === key) return;
    steps.shown = key;
    steps.replaceChildren(
      ...info.map(([command, state, code]) =>
        h(
          "li",
          { "data-state": code ? "failed" : state },
          icon(code ? "failed" : state),
          h("span", { class: "nb-mono nb-cut" }, plain(command)),
          h("span", { class: "jobs-code" }, code !== null ? `exit ${code}` : state === "skipped" ? "not run" : ""),
        ),
      ),
    );
  }

  return {
    el,
    draw(wanted, several) {
      const row = wanted === null || wanted === undefined ? null : store.rows.get(wanted);
      if (wanted !== id) {
        id = wanted;
        terminals = new Map();
        follow = true;
        missed = 0;
        query = find.input.value = "";
        hits = [];
        log.set([]);
        put(killed, "");
        asked = Date.now();
        confirm(false);
      }
      el.hidden = !row;
      if (!row) return;
      setIcon(mark, row[STATE]);
      if (el.dataset.state !== row[STATE]) {
        el.dataset.state = row[STATE];
        put(killed, "");
        confirm(false);
      }
      if (question.hidden && !killed.textContent) ask.hidden = !mayKill(row);
      put(heading, title(row));
      attribute(heading, "title", title(row));
      drawFacts(row, several);
      const info = store.values[`steps/${id}`];
      drawSteps(info ?? []);
      const before = log.items.length;
      const items = lines(row);
      log.set(items);
      if (!follow && items.length > before) missed += items.length - before;
      put(
        note,
        row[AT_END]
          ? "This server sends the log of such a job only when it ends."
          : !info && row[STATE] !== "pending"
            ? Date.now() - asked > 1500
              ? "The log comes as soon as the kernel is free."
              : "Fetching the log …"
            : row[STATE] === "pending"
              ? "Waiting for its turn."
              : items.length <= (info ?? []).length && row[STATE] !== "running"
                ? "No output."
                : "",
      );
      note.hidden = !note.textContent;
      log.draw(true);
      if (follow) {
        log.toEnd();
        log.draw(false);
      }
      drawEnd();
      if (query && items.length !== before) search(find.input.value);
      else drawSearch(false);
    },
  };
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
