// ConnectionBadge: one line for each connection (connection.py names the cells).

const [SERVER, STATE, DETAIL, SINCE, GAPS, GAP_START, GAP_END, GAP_DETAIL] = Array.from({ length: 8 }, (_, i) => i);
const WORDS = { connected: "Connected", connecting: "Connecting …", waiting: "Not connected, trying again", refused: "Refused", closed: "Closed" };
const SHAPE = { connected: "finished", connecting: "running", waiting: "warning", refused: "failed", closed: "skipped" };
const RANK = { refused: 0, waiting: 1, connecting: 2, connected: 3, closed: 4 };
const MANY = 4; // connections, above which they fold into one line

function line() {
  const parts = { mark: h("span", {}), name: h("strong", { class: "nb-cut" }), state: h("span", {}), since: h("span", { class: "nb-quiet" }), gaps: h("span", { class: "link-gaps" }) };
  const el = h("div", { class: "link-row", role: "listitem" }, ...Object.values(parts));
  return {
    el,
    draw(row) {
      attribute(el, "data-state", row[STATE]);
      setIcon(parts.mark, SHAPE[row[STATE]] ?? "unknown");
      put(parts.name, plain(row[SERVER]));
      const why = row[STATE] !== "connected" && row[DETAIL] ? `: ${plain(row[DETAIL])}` : "";
      put(parts.state, `${WORDS[row[STATE]] ?? plain(row[STATE])}${why}`);
      attribute(parts.state, "title", row[DETAIL] ? plain(row[DETAIL]) : null);
      put(parts.since, row[SINCE] ? `since ${clock(row[SINCE])}` : "");
      attribute(parts.since, "title", exact(row[SINCE]) || null);
      const last = row[GAP_START] ? `, the last from ${clock(row[GAP_START])} to ${row[GAP_END] ? clock(row[GAP_END]) : "now"}` : "";
      put(parts.gaps, row[GAPS] ? `${plural(row[GAPS], "gap")}${last}` : "no gaps");
      parts.gaps.classList.toggle("nb-quiet", !row[GAPS]);
      attribute(parts.gaps, "title", row[GAP_DETAIL] ? plain(row[GAP_DETAIL]) : null);
    },
  };
}

export default view(({ store, root }) => {
  root.parentElement.classList.add("link-badge");
  const lines = new Map();
  const rowsEl = h("div", { class: "link-rows", role: "list", "aria-label": "Connections" });
  const text = h("span", { class: "link-summary" });
  const mark = h("span", {});
  let open = false;
  const more = h("button", { class: "nb-button plain", type: "button", onclick: () => { open = !open; store.changed(); } });
  const summary = h("div", { class: "link-row" }, mark, text, more);
  const empty = h("div", { class: "link-row nb-quiet" }, "Not connected to a server: these tables were filled otherwise.");
  root.append(h("div", { role: "status", class: "link-status" }, summary), rowsEl, empty);
  return () => {
    const rows = [...store.rows].sort(([a, one], [b, two]) => (RANK[one[STATE]] ?? 9) - (RANK[two[STATE]] ?? 9) || a - b);
    const many = rows.length > MANY;
    empty.hidden = rows.length > 0;
    summary.hidden = !many;
    const down = rows.filter(([, row]) => row[STATE] !== "connected");
    const shown = many && !open ? down.slice(0, MANY) : rows;
    for (const [id, item] of lines)
      if (!shown.some(([known]) => known === id)) {
        item.el.remove();
        lines.delete(id);
      }
    shown.forEach(([id, row], index) => {
      if (!lines.has(id)) lines.set(id, line());
      const item = lines.get(id);
      if (rowsEl.children[index] !== item.el) rowsEl.insertBefore(item.el, rowsEl.children[index] ?? null);
      item.draw(row);
    });
    if (many) {
      setIcon(mark, down.length ? "warning" : "finished");
      const gaps = rows.reduce((sum, [, row]) => sum + row[GAPS], 0);
      put(text, `${number(rows.length - down.length)} of ${plural(rows.length, "server")} connected · ${plural(gaps, "gap")}`);
      put(more, open ? "Show less" : "Show all");
      attribute(more, "aria-expanded", String(open));
    }
  };
});
