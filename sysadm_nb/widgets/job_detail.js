// The open job of JobsView: what it is, its commands, and its log, which keeps to its end until the reader scrolls up.

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
    findAll();
    hit = hits.length ? 0 : -1;
    drawSearch(true);
  }

  function findAll() {
    hits = [];
    if (query)
      log.items.forEach((item, index) => {
        const line = item.line.text.toLowerCase();
        for (let at = line.indexOf(query); at >= 0 && hits.length < 10000; at = line.indexOf(query, at + query.length))
          hits.push([index, at, at + query.length]);
      });
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
      if (query && items.length !== before) {
        findAll(); // more of the log: the reader stays at the match it was at
        hit = Math.min(Math.max(hit, 0), hits.length - 1);
      }
      drawSearch(false);
    },
  };
}
