// LifePreserverView: a row for each dataset, failures first (life_preserver.py names the cells).

const [SERVER, DATASET, SNAPSHOT, STATE, SINCE, REPLICATED, PERCENT, SENT, TOTAL, LOGFILE, MESSAGE] = Array.from({ length: 11 }, (_, i) => i);
const RANK = { failed: 0, running: 1, finished: 2 };

function build() {
  const row = h("div", { class: "backup-row" });
  const fill = h("i");
  const bar = h("div", { class: "jobs-bar backup-bar" }, fill);
  row.parts = {
    fill,
    bar,
    mark: h("span", { class: "backup-mark", role: "gridcell" }),
    dataset: h("div", { class: "nb-mono nb-cut" }),
    about: h("div", { class: "nb-quiet nb-cut backup-about" }),
    snapshot: h("div", { class: "backup-snapshot nb-cut", role: "gridcell" }),
    state: h("span", { class: "backup-state nb-cut" }),
  };
  const { parts } = row;
  row.append(
    parts.mark,
    h("div", { class: "backup-words", role: "gridcell" }, parts.dataset, parts.about),
    parts.snapshot,
    h("div", { class: "backup-replication", role: "gridcell" }, bar, parts.state),
  );
  return row;
}

export default view(({ store, root, signal }) => {
  const told = h("span", { class: "nb-quiet" });
  const empty = h("div", { class: "nb-empty" }, h("strong", {}, "No snapshots or replications yet"), "They appear with the server's next report of one.");
  const narrow = () => root.clientWidth < 520;
  // A simulated or recorded clock is not the reader's: "3 min ago" is counted from where that clock stands.
  const since = (us) => ago(us + (store.values.clock_behind_s ?? 0) * 1e6);
  const list = windowed({ label: "Backups", role: "grid", rowRole: "row", height: () => (narrow() ? 64 : 44), build, fill });
  list.el.classList.add("backup-list");
  root.append(h("header", { class: "nb-head" }, h("h2", { class: "nb-title" }, "Backups"), told), list.el, empty);
  const sizes = new ResizeObserver(() => {
    root.classList.toggle("narrow", narrow());
    size_();
    list.draw(true);
  });
  sizes.observe(root);
  const ticking = setInterval(() => !document.hidden && root.isConnected && list.draw(true), 15_000);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    list.destroy();
    clearInterval(ticking);
  });

  function size_() {
    list.el.style.height = `${Math.min(list.items.length, 8) * (narrow() ? 64 : 44)}px`;
  }

  function fill(element, id) {
    const row = store.rows.get(id);
    if (!row) return;
    const { parts } = element;
    const state = row[STATE];
    attribute(element, "data-state", state ?? "none");
    setIcon(parts.mark, state ?? (row[SNAPSHOT] ? "finished" : "unknown"));
    put(parts.dataset, plain(row[DATASET]));
    const several = new Set([...store.rows.values()].map((r) => r[SERVER])).size > 1;
    const old = row[REPLICATED] && state !== "finished" ? `last replicated ${since(row[REPLICATED])}` : null;
    put(parts.about, [several ? plain(row[SERVER]) : null, state === "failed" && row[LOGFILE] ? `log: ${plain(row[LOGFILE])}` : null, old].filter(Boolean).join(" · "));
    put(parts.snapshot, row[SNAPSHOT] ? `Snapshot ${since(row[SNAPSHOT])}` : "No snapshot seen");
    attribute(parts.snapshot, "title", exact(row[SNAPSHOT]) || null);
    parts.bar.hidden = state !== "running";
    parts.bar.classList.toggle("wavy", row[PERCENT] === null);
    parts.fill.style.width = row[PERCENT] === null ? "" : `${Math.min(100, row[PERCENT])}%`;
    const amount = row[SENT] !== null ? ` · ${size(row[SENT])}${row[TOTAL] ? ` of ${size(row[TOTAL])}` : ""}` : "";
    put(
      parts.state,
      state === "failed"
        ? `Replication failed ${since(row[SINCE])}`
        : state === "running"
          ? `${row[PERCENT] === null ? "Replicating" : `${row[PERCENT].toFixed(0)} %`}${amount}`
          : state === "finished"
            ? `Replicated ${since(row[SINCE])}`
            : "Not replicated",
    );
    attribute(parts.state, "title", row[MESSAGE] ? plain(row[MESSAGE]) : exact(row[SINCE]) || null);
    attribute(element, "aria-label", `${plain(row[DATASET])}: ${parts.state.textContent}, ${parts.snapshot.textContent}`);
  }

  return () => {
    const rows = store.rows;
    const ids = [...rows.keys()].sort((a, b) => {
      const [one, two] = [rows.get(a), rows.get(b)];
      return (RANK[one[STATE]] ?? 3) - (RANK[two[STATE]] ?? 3) || (one[DATASET] < two[DATASET] ? -1 : one[DATASET] > two[DATASET] ? 1 : a - b);
    });
    const failed = ids.filter((id) => rows.get(id)[STATE] === "failed").length;
    const running = ids.filter((id) => rows.get(id)[STATE] === "running").length;
    put(told, [plural(ids.length, "dataset"), failed ? `${failed} failed` : null, running ? `${running} replicating` : null].filter(Boolean).join(" · "));
    told.hidden = !ids.length;
    empty.hidden = ids.length > 0;
    list.el.hidden = !ids.length;
    list.set(ids);
    size_();
    list.draw(true);
  };
});
