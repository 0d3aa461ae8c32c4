// AlertsView: what rules on guard have found. alerts_view.py names the cells.

const [STATE, RULE, SEVERITY, KEY, SINCE, FIRED, PEAK, MESSAGE, ACKNOWLEDGED, SILENCED, BEHIND] = Array.from({ length: 11 }, (_, i) => i);
const SILENCES = [[null, "Silence…"], ["3600", "for 1 hour"], ["14400", "for 4 hours"], ["86400", "for a day"], ["604800", "for a week"]];
const SIGNS = { critical: "failed", warning: "warning", info: "info" };
const RANK = { critical: 0, warning: 1, info: 2 };

function render({ store, root, signal }) {
  const counts = h("div", { class: "alerts-counts", role: "status" });
  const all = button("Acknowledge all", () => store.send("acknowledge", { row: null }), { kind: "plain" });
  let sure = 0;
  const disarm = button("Disarm", () => {
    if (!sure) {
      sure = setTimeout(() => ((sure = 0), store.changed()), 4000);
      store.changed();
    } else {
      clearTimeout(sure);
      sure = 0;
      store.send("disarm");
    }
  }, { kind: "danger" });
  const ticking = setInterval(() => !document.hidden && root.isConnected && store.changed(), 15_000); // "3 min ago"
  signal.addEventListener("abort", () => {
    clearTimeout(sure);
    clearInterval(ticking);
  });
  const wrong = h("div", { class: "nb-error", role: "alert", hidden: true });
  const list = h("ul", { class: "alerts-list", "aria-label": "Alerts that fire or are pending" });
  const empty = h("div", { class: "nb-empty", hidden: true });
  const past = h("details", { class: "alerts-past" });
  const pastHead = h("summary", {});
  const pastList = h("ul", { class: "alerts-list past", "aria-label": "Incidents that are over" });
  past.append(pastHead, pastList);
  const told = h("div", { class: "alerts-told nb-quiet" });
  root.append(
    h("div", { class: "nb-head" }, h("h2", { class: "nb-title" }, "Alerts"), counts, h("span", { class: "nb-fill" }), all, disarm),
    wrong, list, empty, past, told,
  );
  const items = new Map();

  function build(id) {
    const sign = h("span", { class: "alerts-sign" });
    const rule = h("strong", { class: "nb-cut" });
    const key = h("span", { class: "nb-cut nb-mono" });
    const message = h("div", { class: "alerts-message" });
    const when = h("span", { class: "nb-quiet" });
    const badge = h("span", { class: "alerts-badge" });
    const ack = button("Acknowledge", () => store.send("acknowledge", { row: id }));
    const silence = picker("Silence", (value) => {
      if (value) store.send("silence", { row: id, seconds: Number(value) });
      silence.el.value = "";
    });
    silence.draw(null, SILENCES);
    const unsilence = button("End silence", () => store.send("unsilence", { row: id }), { kind: "plain" });
    const el = h("li", {}, sign,
      h("div", { class: "alerts-what" }, h("div", { class: "alerts-name" }, rule, key, badge), message, when),
      h("div", { class: "alerts-do" }, ack, silence.el, unsilence));
    return {
      el,
      draw(row) {
        const firing = row[STATE] === "firing";
        attribute(el, "data-state", row[STATE]);
        attribute(el, "data-severity", row[SEVERITY]);
        setIcon(sign, firing ? SIGNS[row[SEVERITY]] ?? "warning" : "pending");
        put(rule, plain(row[RULE]));
        put(key, plain(row[KEY]));
        put(message, plain(row[MESSAGE]));
        put(when, firing ? `${row[SEVERITY]} · firing since ${clock(row[FIRED])} (${ago(row[FIRED] + row[BEHIND])})` : `pending · true since ${clock(row[SINCE])}`);
        attribute(when, "title", exact(firing ? row[FIRED] : row[SINCE]));
        const badges = [firing && row[ACKNOWLEDGED] ? "acknowledged" : "", row[SILENCED] ? `silent until ${clock(row[SILENCED], { seconds: false })}` : ""];
        put(badge, badges.filter(Boolean).join(" · "));
        badge.hidden = !badge.textContent;
        ack.hidden = !firing || row[ACKNOWLEDGED];
        silence.el.hidden = Boolean(row[SILENCED]);
        unsilence.hidden = !row[SILENCED];
        attribute(silence.el, "aria-label", `Silence ${plain(row[RULE])} ${plain(row[KEY])}`);
        attribute(ack, "aria-label", `Acknowledge ${plain(row[RULE])} ${plain(row[KEY])}`);
      },
    };
  }

  return () => {
    const { counts: c, armed, past: over = [], notifiers = [] } = store.values;
    if (!c) return;
    const parts = [
      h("span", { class: c.firing ? "alerts-firing" : "nb-quiet" }, `${number(c.firing)} firing`),
      h("span", { class: "nb-quiet" }, `${number(c.pending)} pending · ${plural(c.rules, "rule")}${armed ? "" : " · disarmed"}`),
    ];
    if (counts.textContent !== parts.map((p) => p.textContent).join("")) counts.replaceChildren(...parts);
    put(disarm.querySelector("span"), sure ? "Really disarm?" : "Disarm");
    disarm.classList.toggle("sure", Boolean(sure));
    disarm.hidden = !armed;
    all.hidden = ![...store.rows.values()].some((row) => row[STATE] === "firing" && !row[ACKNOWLEDGED]);
    wrong.hidden = !store.values.rule_error;
    put(wrong, store.values.rule_error ? `A rule cannot go on: ${plain(store.values.rule_error)}` : "");

    const sorted = [...store.rows].sort(([, a], [, b]) =>
      (a[STATE] === "firing" ? 0 : 1) - (b[STATE] === "firing" ? 0 : 1) || RANK[a[SEVERITY]] - RANK[b[SEVERITY]] || (b[FIRED] ?? b[SINCE]) - (a[FIRED] ?? a[SINCE]));
    for (const [id, item] of items) if (!store.rows.has(id)) item.el.remove(), items.delete(id);
    sorted.forEach(([id, row], position) => {
      if (!items.has(id)) items.set(id, build(id));
      const item = items.get(id);
      item.draw(row);
      if (list.children[position] !== item.el) list.insertBefore(item.el, list.children[position] ?? null);
    });
    empty.hidden = store.rows.size > 0;
    if (!empty.hidden && empty.armed !== armed) {
      empty.armed = armed;
      empty.replaceChildren(h("strong", {}, armed ? "All quiet" : "Disarmed"), armed ? "No rule fires, and none is about to." : "Nothing is judged any more: monitor.arm(rules) starts anew.");
    }

    past.hidden = !over.length;
    put(pastHead, `${plural(store.values.past_count ?? 0, "incident")} over`);
    if (past.shown !== over) {
      past.shown = over;
      pastList.replaceChildren(...over.map(([rule, severity, key, fired, resolved, message, reason]) =>
        h("li", { "data-state": "over" }, h("span", { class: "alerts-sign" }, icon(reason === "no data" ? "unknown" : "finished")),
          h("div", { class: "alerts-what" },
            h("div", { class: "alerts-name" }, h("strong", { class: "nb-cut" }, plain(rule)), h("span", { class: "nb-cut nb-mono" }, plain(key))),
            h("div", { class: "alerts-message" }, plain(message)),
            h("span", { class: "nb-quiet" }, `${severity} · ${clock(fired)}, for ${duration((resolved - fired) / 1e6)}${reason === "no data" ? ", then no data" : ""}`)))));
    }
    const said = notifiers.length
      ? `Tells ${notifiers.map((n) => `${n.name} (${plural(n.sent, "message")}${n.failed ? `, ${n.failed} given up: ${plain(n.error)}` : n.error ? `, failing: ${plain(n.error)}` : ""})`).join(", ")}`
      : "Tells nobody: pass notify= to arm().";
    put(told, said);
    told.classList.toggle("bad", notifiers.some((n) => n.error));
  };
}

export default view(render);
