// PoolsView: a card a pool. The kernel sends the newest sample of each pool (pools.py names the cells) and, now and then,
// the line of its history and the path of its forecast, which sparkline.js draws.

const [SERVER, POOL, HOST, SIZE, ALLOC, FREE, USED, FRAG, DEDUP, HEALTH, MEANING, TIME, REPAIRED, OUTLOOK, DAYS] = Array.from(
  { length: 15 },
  (_, i) => i,
);
const SPANS = [["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["all", "All"]];

const percent = (value) => (value === null ? "–" : `${value >= 10 ? Math.round(value) : value.toFixed(1)} %`);

/** ok | warning | critical | sick | gone: what a pool's card stands for. */
function standing(row, warning, critical) {
  if (row[HEALTH] === "GONE") return "gone";
  if (row[HEALTH] !== "ONLINE") return "sick";
  if (row[USED] !== null && row[USED] >= critical) return "critical";
  if (row[USED] !== null && row[USED] >= warning) return "warning";
  return "ok";
}
const RANK = { sick: 0, critical: 1, warning: 2, ok: 3, gone: 4 };

function capacityBar() {
  const fill = h("i", { class: "pools-fill" });
  const warn = h("b", { class: "pools-tick" });
  const crit = h("b", { class: "pools-tick critical" });
  const el = h("div", { class: "pools-bar", role: "meter", "aria-valuemin": "0", "aria-valuemax": "100" }, fill, warn, crit);
  return {
    el,
    draw(row, warning, critical) {
      fill.style.width = `${Math.min(100, Math.max(0, row[USED] ?? 0))}%`;
      warn.style.left = `${warning}%`;
      crit.style.left = `${critical}%`;
      attribute(el, "aria-valuenow", row[USED] ?? 0);
      attribute(el, "aria-valuetext", `${percent(row[USED])} of ${plain(row[POOL])} used`);
      attribute(el, "title", `marks at ${warning} % and ${critical} %`);
    },
  };
}

const ICON = { sick: "failed", critical: "warning", warning: "warning", ok: "finished", gone: "unknown" };

function card(signal) {
  const mark = h("span", { class: "pools-icon" });
  const name = h("h3", { class: "pools-name nb-cut" });
  const where = h("span", { class: "nb-quiet nb-cut" });
  const used = h("span", { class: "pools-used" });
  const bar = capacityBar();
  const sizes = h("div", { class: "pools-sizes" });
  const facts = h("div", { class: "pools-facts nb-quiet" });
  const health = h("div", { class: "pools-health" });
  const outlook = h("div", { class: "pools-outlook" });
  const spark = sparkline(signal);
  const el = h(
    "article",
    { class: "pools-card" },
    h("header", { class: "pools-head" }, mark, h("div", { class: "pools-title" }, name, where), used),
    bar.el,
    sizes,
    facts,
    health,
    spark.el,
    outlook,
  );
  return {
    el,
    draw(row, line, path, limits, several) {
      const how = standing(row, ...limits);
      if (el.dataset.how !== how) el.dataset.how = how;
      setIcon(mark, ICON[how]);
      put(name, plain(row[POOL]));
      put(where, several ? plain(row[SERVER]) : plain(row[HOST]));
      put(used, percent(row[USED]));
      bar.draw(row, ...limits);
      put(sizes, `${size(row[ALLOC])} of ${size(row[SIZE])} used · ${size(row[FREE])} free`);
      attribute(sizes, "title", row[SIZE] === null ? null : `${number(row[ALLOC] ?? 0)} of ${number(row[SIZE])} bytes, as of ${exact(row[TIME])}`);
      const extra = [
        row[FRAG] === null ? null : `fragmentation ${row[FRAG]} %`,
        row[DEDUP] === null ? null : `dedup ${row[DEDUP].toFixed(2)}x`,
        row[REPAIRED] ? "columns put right" : null,
      ];
      put(facts, extra.filter(Boolean).join(" · "));
      const over = how === "critical" ? limits[1] : how === "warning" ? limits[0] : null;
      put(health, how === "gone" ? `Gone: not reported since ${clock(row[TIME])}, exported or destroyed` : how === "sick" ? `${plain(row[HEALTH])}: ${row[MEANING]}` : over !== null ? `Over ${over} % · online, ${row[MEANING]}` : `Online: ${row[MEANING]}`);
      spark.draw(line, path, row, ...limits);
      put(outlook, row[OUTLOOK] ? plain(row[OUTLOOK]) : "");
      outlook.hidden = !row[OUTLOOK];
      outlook.classList.toggle("soon", row[DAYS] !== null && row[DAYS] < 30);
      attribute(el, "aria-label", `Pool ${plain(row[POOL])}: ${percent(row[USED])} used, ${row[HEALTH] === "ONLINE" ? "online" : plain(row[HEALTH])}`);
    },
  };
}

function line() {
  const mark = h("span", { class: "pools-icon" });
  const name = h("span", { class: "pools-line-name nb-cut" });
  const where = h("span", { class: "nb-quiet nb-cut pools-line-where" });
  const bar = capacityBar();
  const used = h("span", { class: "pools-line-used" });
  const free = h("span", { class: "nb-quiet pools-line-free" });
  const el = h("div", { class: "pools-slim", role: "listitem" }, mark, name, where, bar.el, used, free);
  return {
    el,
    draw(row, line, path, limits, several) {
      const how = standing(row, ...limits);
      if (el.dataset.how !== how) el.dataset.how = how;
      setIcon(mark, ICON[how]);
      put(name, plain(row[POOL]));
      put(where, several ? plain(row[SERVER]) : "");
      bar.draw(row, ...limits);
      put(used, percent(row[USED]));
      put(free, `${size(row[FREE])} free`);
      attribute(el, "title", `${plain(row[POOL])}: ${size(row[ALLOC])} of ${size(row[SIZE])} used, ${row[MEANING]}, as of ${exact(row[TIME])}`);
    },
  };
}

/** Children of a place, in this order, made by make() where they are new; keeps elements, so that focus stays. */
function keyed(place, keys, known, make) {
  const wanted = new Set(keys);
  for (const [key, item] of known)
    if (!wanted.has(key)) {
      item.el.remove();
      known.delete(key);
    }
  let before = place.firstChild;
  for (const key of keys) {
    let item = known.get(key);
    if (!item) known.set(key, (item = make(key)));
    if (item.el === before) before = before.nextSibling;
    else place.insertBefore(item.el, before);
  }
}

function group(signal) {
  const heading = h("h3", { class: "pools-server" });
  const cards = h("div", { class: "pools-cards" });
  const slim = h("div", { class: "pools-slims", role: "list" });
  const shownCards = new Map();
  const shownLines = new Map();
  const el = h("section", { class: "pools-group" }, heading, cards, slim);
  return {
    el,
    draw(title, ids, collapsed, store, limits, several) {
      put(heading, title ?? "");
      heading.hidden = title === null;
      const isSlim = (id) => collapsed && standing(store.rows.get(id), ...limits) === "ok";
      keyed(cards, ids.filter((id) => !isSlim(id)), shownCards, () => card(signal));
      keyed(slim, ids.filter(isSlim), shownLines, () => line());
      slim.hidden = !shownLines.size;
      cards.hidden = !shownCards.size;
      for (const shown of [shownCards, shownLines])
        for (const [id, item] of shown) item.draw(store.rows.get(id), store.values[`line/${id}`], store.values[`path/${id}`], limits, several);
    },
  };
}

export default view(({ store, root, signal }) => {
  const spans = choice("Span of the history", SPANS, (value) => store.set({ span: value }));
  const sort = picker("Order", (value) => store.set({ sort: value }));
  const fold = button("Collapse healthy", () => store.set({ collapse: !folded }), { kind: "" });
  const told = h("span", { class: "nb-quiet pools-told" });
  const place = h("div", { class: "pools-groups" });
  const empty = h("div", { class: "nb-empty" }, h("strong", {}, "No pools yet"), "They appear with the server's first report of its state.");
  const groups = new Map();
  let folded = false;
  root.append(
    h("header", { class: "nb-head" }, h("h2", { class: "nb-title" }, "Pools"), told, h("span", { class: "nb-fill" }), fold, sort.el, spans.el),
    place,
    empty,
  );
  return () => {
    const limits = [store.control("warning_pct") ?? 80, store.control("critical_pct") ?? 90];
    const rows = store.rows;
    const ids = [...rows.keys()];
    const order = store.control("sort") ?? "urgency";
    const rank = (id) => RANK[standing(rows.get(id), ...limits)] + ((rows.get(id)[DAYS] ?? 99) < 30 ? -0.5 : 0);
    const byName = (a, b) => (rows.get(a)[POOL] < rows.get(b)[POOL] ? -1 : rows.get(a)[POOL] > rows.get(b)[POOL] ? 1 : a - b);
    const byUsed = (a, b) => (rows.get(b)[USED] ?? -1) - (rows.get(a)[USED] ?? -1);
    ids.sort(order === "name" ? byName : order === "used" ? byUsed : (a, b) => rank(a) - rank(b) || byUsed(a, b) || byName(a, b));
    const servers = new Set(ids.map((id) => rows.get(id)[SERVER]));
    const several = servers.size > 1;
    folded = store.control("collapse") ?? ids.length > 9;
    attribute(fold, "aria-pressed", String(folded));
    fold.classList.toggle("on", folded);
    fold.hidden = ids.length < 2;
    spans.draw(store.control("span"));
    sort.draw(order, [["urgency", "Most urgent first"], ["name", "By name"], ["used", "Fullest first"]]);
    sort.el.hidden = ids.length < 2;
    const bad = ids.filter((id) => standing(rows.get(id), ...limits) === "sick").length;
    const full = ids.filter((id) => ["warning", "critical"].includes(standing(rows.get(id), ...limits))).length;
    put(told, [plural(ids.length, "pool"), bad ? `${bad} not healthy` : null, full ? `${full} over ${limits[0]} %` : null].filter(Boolean).join(" · "));
    empty.hidden = ids.length > 0;
    told.hidden = !ids.length;
    const grouped = several && (store.control("by_server") ?? true);
    // Groups stand in the order of their most urgent pool.
    const keys = grouped ? [...new Set(ids.map((id) => rows.get(id)[SERVER]))] : ids.length ? [""] : [];
    keyed(place, keys, groups, () => group(signal));
    for (const key of keys)
      groups.get(key).draw(grouped ? plain(key) : null, grouped ? ids.filter((id) => rows.get(id)[SERVER] === key) : ids, folded, store, limits, several && !grouped);
  };
});
