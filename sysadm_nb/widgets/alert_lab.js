// AlertLab: a rule's controls above the past that it is tried on. The kernel works out lines and incidents
// (alert_lab_model.py); while a hand is on the slider one edit is under way at a time, and the newest follows it.

const FORS = [[0, "at once"], [300, "5 min"], [900, "15 min"], [1800, "30 min"], [3600, "1 h"], [7200, "2 h"], [21600, "6 h"], [43200, "12 h"], [86400, "1 day"], [259200, "3 days"]];
const NAMES = {
  pools: "Pools", system: "System state", jobs: "Jobs", life_preserver: "Backups", connection: "Connection",
  capacity_pct: "capacity", frag_pct: "fragmentation", free_bytes: "free space", alloc_bytes: "allocated", size_bytes: "size",
  expandsz_bytes: "expandable", dedup_ratio: "dedup ratio", duration_s: "duration", percent_done: "percent done",
};
const WIDE = 1000;
const HIGH = 240;
const LANES = 30; // below the lines: what was found, what was compared with, what was real

const label = (name) => NAMES[name] ?? name.replaceAll("_", " ");
// As rules, marks and backtests write times, not in the reader's zone as the live views: it is said where they stand.
const day = (us) => new Date(us / 1000).toISOString().slice(0, 16).replace("T", " ");

function shown(value, name) {
  if (value === null || value === undefined) return "–";
  if (name.endsWith("_bytes")) return size(value);
  if (name.endsWith("_pct") || name === "percent_done") return `${Math.round(value * 10) / 10} %`;
  if (name.endsWith("_s")) return duration(value);
  return String(Math.round(value * 1000) / 1000);
}

function long(seconds) {
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 360) / 10} h`;
  return `${Math.round(seconds / 8640) / 10} days`;
}

let labs = 0;

function field(text, control, kind = "") {
  const id = `nb-lab-${++labs}`;
  const target = control.matches("input,select") ? control : control.querySelector("input,select");
  target.id = id;
  return h("div", { class: `lab-field ${kind}` }, h("label", { for: id }, text), control);
}

function chart(store, signal) {
  const svg = s("svg", { class: "lab-chart", viewBox: `0 0 ${WIDE} ${HIGH + LANES}`, preserveAspectRatio: "none", role: "img", tabindex: "0" });
  const layer = (name) => svg.appendChild(s("g", { class: name }));
  const [bands, grid, lines, marks, lanes] = ["lab-bands", "lab-grid", "lab-lines", "lab-level", "lab-lanes"].map(layer);
  const drag = svg.appendChild(s("rect", { class: "lab-drag", y: 0, height: HIGH + LANES, width: 0 }));
  const cursor = svg.appendChild(s("line", { class: "lab-cursor", y1: 0, y2: HIGH, "vector-effect": "non-scaling-stroke" }));
  const axis = h("div", { class: "lab-axis nb-quiet", "aria-hidden": "true" });
  const times = h("div", { class: "lab-times nb-quiet", "aria-hidden": "true" });
  const readout = h("div", { class: "lab-readout", "aria-live": "polite", hidden: true });
  const el = h("div", { class: "lab-plot" }, svg, axis, times, readout);
  let x = () => 0;
  let back = () => 0;
  let from = null;
  let at = null;
  let last = {};
  let parts = [];

  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const stretch = (a, b) => {
    drag.setAttribute("x", Math.min(a, b) * WIDE);
    drag.setAttribute("width", Math.abs(b - a) * WIDE);
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !store.values.span) return;
    from = place(event);
    svg.setPointerCapture(event.pointerId);
  }, { signal });
  svg.addEventListener("pointermove", (event) => {
    if (from !== null) stretch(from, place(event));
    point(place(event));
  }, { signal });
  svg.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const to = place(event);
    if (Math.abs(to - from) > 0.004) store.send("mark", { start: back(from), end: back(to), key: store.values.setting.key });
    from = null;
    stretch(0, 0);
  }, { signal });
  svg.addEventListener("pointercancel", () => ((from = null), stretch(0, 0)), { signal });
  svg.addEventListener("pointerleave", () => from === null && point(null), { signal });
  svg.addEventListener("blur", () => ((from = null), stretch(0, 0), point(null)), { signal });
  // the same without a mouse: arrows move a cursor, Shift with them stretches a period, Enter marks it
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.005, ArrowRight: 0.005, PageUp: -0.1, PageDown: 0.1, Home: -1, End: 1 }[event.key];
    if (step !== undefined && store.values.span) {
      const old = at ?? 0.5;
      const to = Math.min(1, Math.max(0, old + step));
      from = event.shiftKey ? (from ?? old) : null;
      point(to);
      if (from === null) stretch(0, 0);
      else stretch(from, to);
    } else if (event.key === "Enter" && from !== null) {
      store.send("mark", { start: back(from), end: back(at), key: store.values.setting.key });
      from = null;
      stretch(0, 0);
    } else if (event.key === "Escape" && from !== null) {
      from = null;
      stretch(0, 0);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });

  function point(share) {
    at = share;
    readout.hidden = share === null || !store.values.span;
    cursor.style.display = readout.hidden ? "none" : "";
    if (readout.hidden) return;
    cursor.setAttribute("x1", share * WIDE);
    cursor.setAttribute("x2", share * WIDE);
    const time = back(share);
    const { setting, words } = store.values;
    const here = (store.values.lines ?? []).slice(0, 4).map((line) => {
      let best = -1;
      for (let i = 0; i < line.t.length && line.t[i] <= time; i++) best = i;
      const value = best < 0 ? null : line.y[best];
      return `${plain(line.key)} ${value === null ? "no data" : words ? plain(words[value]) : shown(value, setting.value)}`;
    });
    const found = (store.values.result?.incidents ?? []).filter((i) => i[0] <= time && i[1] >= time).length;
    put(readout, [`${day(time)} UTC`, ...here, found ? `${plural(found, "incident")} here` : ""].filter(Boolean).join(" · "));
    readout.style.left = share < 0.5 ? `${share * 100}%` : "auto";
    readout.style.right = share < 0.5 ? "auto" : `${(1 - share) * 100}%`;
  }

  function drawLines(values) {
    const { lines: data = [], setting, words, span } = values;
    x = (t) => ((t - span[0]) / Math.max(1, span[1] - span[0])) * WIDE;
    back = (share) => Math.round(span[0] + share * (span[1] - span[0]));
    const known = data.flatMap((line) => line.y.filter((y) => y !== null));
    let bottom = known.length ? Math.min(...known) : 0;
    let top = known.length ? Math.max(...known) : 1;
    if (words) [bottom, top] = [-0.5, words.length - 0.5];
    else {
      if (typeof setting.threshold === "number") {
        // the level in sight where it is near; a far one must not flatten the line
        const reach = (top - bottom || 1) * 1.5;
        if (setting.threshold > top && setting.threshold < top + reach) top = setting.threshold;
        if (setting.threshold < bottom && setting.threshold > bottom - reach) bottom = setting.threshold;
      }
      const room = (top - bottom || 1) * 0.08;
      [bottom, top] = [bottom - room, top + room];
      if (setting.value.endsWith("_pct")) [bottom, top] = [Math.max(0, bottom), Math.min(100, Math.max(top, bottom + 1))];
    }
    const y = (value) => HIGH - ((value - bottom) / (top - bottom || 1)) * HIGH;
    lines.replaceChildren(
      ...data.map((line, number_) => {
        let d = "";
        let down = false;
        line.t.forEach((t, i) => {
          if (line.y[i] === null) down = false;
          else {
            d += `${down ? (words ? `H${x(t).toFixed(1)}V` : "L") : "M"}${down && words ? "" : `${x(t).toFixed(1)} `}${y(line.y[i]).toFixed(1)}`;
            down = true;
          }
        });
        return s("path", { d, class: `lab-line lab-line-${number_}`, "vector-effect": "non-scaling-stroke" });
      }).reverse(),
    );
    const ticks = words ? words.map((_, i) => i) : [0.1, 0.5, 0.9].map((part) => bottom + part * (top - bottom));
    grid.replaceChildren(...ticks.map((tick) => s("line", { x1: 0, x2: WIDE, y1: y(tick), y2: y(tick), "vector-effect": "non-scaling-stroke" })));
    axis.replaceChildren(...ticks.map((tick) => {
      const text = h("span", {}, words ? plain(words[tick]) : shown(tick, setting.value));
      text.style.top = `${(y(tick) / (HIGH + LANES)) * 100}%`;
      return text;
    }));
    times.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, `${day(back(part))}${part === 1 ? " UTC" : ""}`)));
    return y;
  }

  const bar = (incident, top, height, kind) =>
    s("rect", { x: x(incident[0]), width: Math.max(2, x(incident[1]) - x(incident[0])), y: top, height, class: kind });

  function draw(values) {
    if (!values.span) {
      for (const group of [bands, grid, lines, marks, lanes]) group.replaceChildren();
      axis.replaceChildren();
      times.replaceChildren();
      return;
    }
    const level = `${values.setting.threshold} ${values.setting.until}`;
    if (parts[0] !== values.lines || parts[1] !== values.span || last.level !== level) {
      last.y = drawLines(values);
      parts = [values.lines, values.span];
      last.level = level;
      last.bands = null;
    }
    if (last.bands === values.result && last.other === values.other_result && last.labels === values.labels) return;
    last = { ...last, bands: values.result, other: values.other_result, labels: values.labels };
    const { setting } = values;
    const found = values.result?.incidents ?? [];
    bands.replaceChildren(...found.map((i) => bar(i, 0, HIGH, i[5] ? "lab-band real" : "lab-band")));
    lanes.replaceChildren(
      ...found.map((i) => bar(i, HIGH + 5, 6, i[5] ? "lab-lane real" : "lab-lane")),
      ...(values.other_result?.incidents ?? []).map((i) => bar(i, HIGH + 13, 6, "lab-lane other")),
      ...(values.labels ?? []).map((i) => bar(i, HIGH + 21, 7, "lab-lane label")),
    );
    const level_ = (value, kind) => s("line", { x1: 0, x2: WIDE, y1: last.y(value), y2: last.y(value), class: kind, "vector-effect": "non-scaling-stroke" });
    const at_ = values.words ? values.words.indexOf(setting.threshold) : setting.threshold;
    marks.replaceChildren(
      ...(at_ === -1 && values.words ? [] : [level_(at_, "lab-threshold")]),
      ...(typeof setting.until === "number" ? [level_(setting.until, "lab-until")] : []),
    );
    attribute(svg, "aria-label",
      `${label(setting.value)} from ${day(values.span[0])} to ${day(values.span[1])} UTC, ${plural(found.length, "incident")}. ` +
      "Arrow keys move a cursor; with Shift they stretch a period, Enter marks it as a real incident.");
  }
  return { el, draw };
}

function render({ store, root, signal }) {
  let n = 0;
  let waiting = false;
  let next = null;
  const mine = {}; // set here and not yet confirmed
  function edit(setting) {
    Object.assign(mine, setting);
    next = { ...next, ...setting };
    if (!waiting) sendNext();
    store.changed();
  }
  function sendNext() {
    if (!next) return;
    waiting = true;
    const setting = next;
    next = null;
    // numbered by the clock: what other copies, or this page before a reload, had answered is older
    n = Math.max(n + 1, Date.now(), (store.values.answered ?? 0) + 1);
    store.send("edit", { setting, n });
  }
  const now = (name) => (name in mine ? mine[name] : store.values.setting?.[name]);

  const table = picker("Table", (value) => edit({ table: value }));
  const value = picker("Value", (v) => edit({ value: v }));
  const sign = picker("Comparison", (v) => edit({ sign: v }));
  const slider = h("input", { type: "range", class: "lab-slider", "aria-label": "Threshold, slider", oninput: () => edit({ threshold: Number(slider.value) }) });
  const exact = h("input", { type: "number", class: "nb-input lab-number", "aria-label": "Threshold", step: "any",
    oninput: () => exact.value !== "" && edit({ threshold: Number(exact.value) }) });
  const word = picker("Word", (v) => edit({ threshold: v ?? "" }));
  const hold = picker("For at least", (v) => edit({ for_s: Number(v) }));
  const until = h("input", { type: "number", class: "nb-input lab-number", placeholder: "same", step: "any", "aria-label": "Ends at",
    oninput: () => edit({ until: until.value === "" ? null : Number(until.value) }) });
  const key = picker("Show", (v) => edit({ key: v }));
  const name = h("input", { class: "nb-input lab-name", "aria-label": "Name of the rule", spellcheck: "false", oninput: () => name.value.trim() && edit({ name: name.value.trim() }) });
  const severity = picker("Severity", (v) => edit({ severity: v }));
  const path = h("input", { class: "nb-input lab-path", "aria-label": "File to save in", spellcheck: "false" });

  const copied = h("span", { class: "nb-hidden-text", "aria-live": "polite" });
  const code = h("pre", { class: "lab-code nb-mono", tabindex: "0", "aria-label": "The rule as Python" });
  const copy = button("Copy as Python", async () => {
    try {
      await navigator.clipboard.writeText(store.values.code);
    } catch {
      getSelection().selectAllChildren(code); // no clipboard here: then it is ready for Ctrl-C
      document.execCommand("copy");
    }
    put(copied, "Copied");
    copy.querySelector("span").textContent = "Copied";
    setTimeout(() => (copy.querySelector("span").textContent = "Copy as Python"), 1500);
  }, { shape: "copy" });
  const save = button("Save", () => store.send("save", { path: path.value }));
  const guard = button("Arm", () => store.send(store.values.armed ? "disarm" : "arm"), { kind: "lab-arm" });
  const note = h("div", { class: "lab-note", role: "status", hidden: true });

  const compare = button("Compare", () => store.send("compare", { on: !store.values.other }), { hint: "Keep this setting and compare others with it" });
  const swap = button("Swap", () => store.send("swap"), { kind: "plain", hint: "Exchange the two settings" });

  const plot = chart(store, signal);
  const legend = h("div", { class: "lab-legend nb-quiet" });
  const facts = h("div", { class: "lab-facts", role: "status" });
  const list = h("ol", { class: "lab-list", "aria-label": "Incidents found" });
  const marked = h("ul", { class: "lab-list", "aria-label": "Periods marked as real incidents" });
  const listHead = h("h3", {});
  const markedHead = h("h3", {});
  const empty = h("div", { class: "nb-empty", hidden: true }, h("strong", {}, "No rows to try a rule on yet"), "As soon as some have come, or in a recording, the past shows here.");
  const work = h("div", { class: "lab-work" }, plot.el, legend, facts,
    h("div", { class: "lab-lists" }, h("section", {}, listHead, list), h("section", {}, markedHead, marked)));

  root.append(
    h("div", { class: "nb-head" }, h("h2", { class: "nb-title" }, "Alert lab"), name, severity.el, h("span", { class: "nb-fill" }),
      copy, copied, h("span", { class: "lab-save" }, path, save), guard),
    note,
    h("div", { class: "lab-controls", role: "group", "aria-label": "The rule" },
      field("Table", table.el), field("Value", value.el), field("is", sign.el),
      field("Threshold", h("span", { class: "lab-threshold-box" }, exact, slider, word.el), "wide"),
      field("for at least", hold.el), field("ends at", until), field("Show", key.el), h("span", { class: "lab-compare" }, compare, swap)),
    empty, work,
    h("details", { class: "lab-source" }, h("summary", {}, "As Python"), code),
  );

  function fact(title, text, other, kind = "") {
    return h("div", { class: `lab-fact ${kind}` }, h("span", { class: "nb-quiet" }, title), h("strong", {}, text),
      other === null ? null : h("span", { class: "lab-than" }, `other: ${other}`));
  }

  function drawFacts(values) {
    const { result, other_result: other } = values;
    const versus = (read) => (other ? read(other) : null);
    const judged = result.judged;
    const items = [
      fact("Incidents", number(result.count), versus((r) => number(r.count))),
      fact("Time firing", long(result.total_s), versus((r) => long(r.total_s))),
      fact("Longest", long(result.longest_s), versus((r) => long(r.longest_s))),
    ];
    if (judged) {
      const than = (read) => (other?.judged ? read(other.judged) : null);
      items.push(
        fact("False alarms", number(judged.false), than((j) => number(j.false)), judged.false ? "bad" : "good"),
        fact("False a week", judged.weekly === null ? "–" : (Math.round(judged.weekly * 10) / 10).toString(), than((j) => (Math.round(j.weekly * 10) / 10).toString())),
        fact("Real ones found", `${judged.found} of ${judged.periods}`, than((j) => `${j.found} of ${j.periods}`), judged.found < judged.periods ? "bad" : "good"),
        fact("Delay", judged.delay_s === null ? "–" : long(judged.delay_s), than((j) => (j.delay_s === null ? "–" : long(j.delay_s)))),
      );
    } else items.push(fact("False alarms", "–", null), h("span", { class: "lab-hint nb-quiet" }, "Mark what really was an incident: drag over the chart, or tick one below."));
    facts.replaceChildren(...items);
  }

  let listed = null;
  let focus = null;
  function drawList(values) {
    const key_ = JSON.stringify([values.result.incidents, values.labels, values.setting.value]);
    if (key_ === listed) return;
    listed = key_;
    const active = root.contains(root.getRootNode().activeElement) ? root.getRootNode().activeElement?.dataset?.id : null;
    const found = [...values.result.incidents].reverse();
    const count = values.result.count > found.length ? `The newest ${number(found.length)} of ${number(values.result.count)} incidents` : plural(found.length, "incident");
    put(listHead, found.length ? `${count}, times in UTC` : count);
    list.replaceChildren(...found.slice(0, 100).map((i) => {
      const [start, end, who, peak, open, real] = i;
      const box = h("input", { type: "checkbox", "data-id": `${who} ${start}`, onchange: () => store.send("toggle", { start, end, key: who }) });
      box.checked = real;
      return h("li", { class: real ? "real" : "" }, h("label", {}, box,
        h("span", { class: "nb-cut lab-who" }, plain(who)), h("span", { class: "nb-quiet" }, day(start)),
        h("span", {}, open ? `${long((end - start) / 1e6)} so far` : long((end - start) / 1e6)),
        h("span", { class: "nb-quiet" }, peak === null ? "" : shown(peak, values.setting.value)), h("span", { class: "lab-real" }, real ? "real" : "")));
    }));
    const labels_ = values.labels ?? [];
    put(markedHead, labels_.length ? `${plural(labels_.length, "period")} marked as real, times in UTC` : "Nothing marked as real yet");
    marked.replaceChildren(...labels_.map(([start, end, who], position) => h("li", {},
      h("span", { class: "nb-cut lab-who" }, plain(who ?? "all")), h("span", { class: "nb-quiet" }, `${day(start)} to ${day(end)}`),
      button("", () => store.send("unmark", { position }), { shape: "close", kind: "plain", hint: `Forget the mark at ${day(start)}` }))));
    if (active) root.querySelector(`[data-id="${CSS.escape(active)}"]`)?.focus();
  }

  const settle = (input, text) => {
    if (root.getRootNode().activeElement !== input && input.value !== text) input.value = text;
  };

  return () => {
    const values = store.values;
    if (!values.setting) return;
    if (waiting && values.answered >= n) {
      // an edit that failed is answered too
      waiting = false;
      if (next) sendNext();
      else for (const one of Object.keys(mine)) delete mine[one];
    }
    const offered = values.choices[now("table")] ?? [];
    const kind = offered.find(([column]) => column === now("value"))?.[1] ?? "number";
    const words = kind === "word";
    table.draw(now("table"), Object.keys(values.choices).map((t) => [t, label(t)]));
    value.draw(now("value"), offered.map(([column]) => [column, label(column)]));
    sign.draw(now("sign"), Object.entries(values.signs).filter(([sign_]) => words === ["==", "!="].includes(sign_)).map(([sign_, text]) => [sign_, text]));
    word.el.hidden = !words;
    slider.hidden = exact.hidden = words;
    until.closest(".lab-field").hidden = words;
    const threshold = now("threshold");
    if (words) word.draw(threshold, [...new Set([...(values.words ?? []), threshold].filter((w) => w !== null))].map((w) => [w, plain(w) || "–"]));
    else {
      const [low, high, step] = values.range ?? [0, 100, 1];
      attribute(slider, "min", Math.min(low, threshold));
      attribute(slider, "max", Math.max(high, threshold));
      attribute(slider, "step", step);
      if (Number(slider.value) !== threshold && root.getRootNode().activeElement !== slider) slider.value = threshold;
      if (root.getRootNode().activeElement === slider && slider.value === "") slider.value = threshold;
      attribute(slider, "aria-valuetext", shown(threshold, now("value")));
      settle(exact, String(threshold));
    }
    const holds = FORS.some(([seconds]) => seconds === now("for_s")) ? FORS : [...FORS, [now("for_s"), long(now("for_s"))]];
    hold.draw(String(now("for_s")), holds.map(([seconds, text]) => [String(seconds), text]));
    settle(until, now("until") === null || now("until") === undefined ? "" : String(now("until")));
    key.draw(now("key") ?? null, [[null, `all (${number(values.keys?.length ?? 0)})`], ...(values.keys ?? []).map((k) => [k, plain(k)])]);
    settle(name, now("name"));
    severity.draw(now("severity"), ["info", "warning", "critical"].map((v) => [v, v]));
    settle(path, values.path ?? "rules.toml");
    put(code, values.code ?? "");
    put(guard.querySelector("span"), values.armed ? "Disarm" : "Arm");
    guard.classList.toggle("on", Boolean(values.armed));
    note.hidden = !values.note;
    if (values.note && note.said !== values.note) {
      note.said = values.note;
      note.replaceChildren(h("span", {}, values.note), button("", () => store.send("forget_note"), { shape: "close", kind: "plain", hint: "Close" }));
    }
    if (!values.note) note.said = null;
    put(compare.querySelector("span"), values.other ? "End comparison" : "Compare");
    swap.hidden = !values.other;
    empty.hidden = Boolean(values.span);
    work.hidden = !values.span;
    plot.draw({ ...values, setting: { ...values.setting } });
    legend.replaceChildren(
      ...(values.lines ?? []).map((line, i) => h("span", {}, h("i", { class: `lab-key lab-line-${i}` }), plain(line.key))),
      (values.keys?.length ?? 0) > (values.lines?.length ?? 0) && !values.setting.key ? h("span", {}, `and ${number(values.keys.length - values.lines.length)} more, judged too`) : null,
      values.other ? h("span", {}, h("i", { class: "lab-key other" }), `other: ${values.other.rule}`) : null,
      (values.labels ?? []).length ? h("span", {}, h("i", { class: "lab-key label" }), "marked as real") : null,
    );
    for (const child of [...legend.childNodes]) if (child.nodeType === 3) child.remove();
    if (values.result) {
      drawFacts(values);
      drawList(values);
    }
  };
}

export default view(render);
