// A pool's sparkline: the line of its history up to now and, where there is a forecast, its dashed continuation with the
// 80 % interval as a band. Both sides have the same seconds to a pixel. pools.js names the cells.

const HIGH = 44; // of a sparkline, in its own units
const WIDE = 300;
const READINGS = 12; // of a forecast, by pointer or arrow keys

/** Times (s) and percentages of a line, with what came since it was read; null in a gap. */
function points(line, row) {
  const out = line ? line.t.map((t, i) => [line.from + t, line.y[i]]) : [];
  const now = row[TIME] / 1e6;
  // The line's times are rounded to tenths of a second: by so little it is the same sample.
  if (row[USED] !== null && (!out.length || now > out.at(-1)[0] + 0.1)) out.push([now, row[USED]]);
  return out;
}

/** Straight between two points of equal length. */
const mix = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);

/** The forecast from the newest sample on: [[t, percent, low, high]]; empty where there is none. */
function continuation(path, [last, used], until) {
  const all = path.t.map((t, i) => [path.from + t, path.y[i], path.low[i], path.high[i]]);
  const after = all.findIndex(([t]) => t > last);
  if (after < 0) return [];
  const out = [[last, used, used, used]];
  for (let i = after; i < all.length; i++) {
    if (all[i][0] < until) out.push(all[i]);
    else {
      const before = all[i - 1] ?? out[0];
      out.push(mix(before, all[i], (until - before[0]) / (all[i][0] - before[0])));
      break;
    }
  }
  return out;
}

/** Where a continuation is at a time. */
function reading(future, t) {
  const next = Math.max(1, future.findIndex((point) => point[0] >= t));
  const [a, b] = [future[next - 1], future[next]];
  return mix(a, b, (t - a[0]) / (b[0] - a[0]));
}

/** The first time that a continuation comes up to a mark, as a reading with the mark behind it; null if never. */
function crossing(future, mark) {
  const next = future.findIndex((point) => point[1] >= mark);
  if (next < 1) return null;
  const [a, b] = [future[next - 1], future[next]];
  return [...mix(a, b, (mark - a[1]) / (b[1] - a[1])), mark];
}

/** A length of time for the axis. */
function far(seconds) {
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  const [length, unit] = seconds < 2 * 86400 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
  return `${Number(length.toFixed(length < 10 ? 1 : 0))} ${unit}`;
}

const reaches = (mark) => (mark >= 100 ? "full" : `reaches ${mark} %`);

function sparkline(signal) {
  const still = { "vector-effect": "non-scaling-stroke" };
  const area = s("path", { class: "pools-area" });
  const path = s("path", { class: "pools-line", ...still });
  const band = s("path", { class: "pools-band" });
  const ahead = s("path", { class: "pools-ahead", ...still });
  const now = s("line", { class: "pools-now", y1: 0, y2: HIGH, ...still });
  const gaps = s("g", { class: "pools-gaps" });
  const marks = s("g", {});
  const cursor = s("line", { class: "pools-cursor", y1: 0, y2: HIGH, ...still });
  const svg = s(
    "svg",
    { class: "pools-spark", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", tabindex: "0" },
    gaps,
    area,
    band,
    marks,
    now,
    path,
    ahead,
    cursor,
  );
  const crossings = h("div", { class: "pools-crossings" });
  const low = h("span", {});
  const high = h("span", {});
  const [start, middle, end] = [h("span", {}), h("span", {}), h("span", {})];
  const readout = h("div", { class: "pools-readout", "aria-live": "polite" });
  const el = h(
    "div",
    { class: "pools-history" },
    h("div", { class: "pools-plot" }, svg, crossings),
    h("div", { class: "pools-scale nb-quiet", "aria-hidden": "true" }, high, low),
    h("div", { class: "pools-axis nb-quiet", "aria-hidden": "true" }, start, middle, end),
    readout,
  );
  let data = []; // readings: [t, percent] of the history, then [t, percent, low, high] of the forecast
  let newest = 0; // the last reading of the history
  let x = (t) => t;
  let at = null;
  let size_ = null;
  let shown = "";
  let shownPath = null;

  function words([t, value, least, most, mark]) {
    if (value === null) return `${clock(t * 1e6)} · no data`;
    if (least === undefined) return `${clock(t * 1e6)} · ${value.toFixed(2)} %${size_ ? ` · ${size((value / 100) * size_)}` : ""}`;
    const crossed = mark === undefined ? "" : `${reaches(mark)}: `;
    const [a, b, c] = [value, least, most].map((each) => each.toFixed(most - least < 0.5 ? 2 : 1));
    return `${crossed}forecast ${a} % (${b} to ${c} %), ${clock(t * 1e6, { seconds: false })}`;
  }

  function point(index) {
    at = index;
    const here = index === null ? null : data[index];
    cursor.style.display = here ? "" : "none";
    if (here) {
      cursor.setAttribute("x1", x(here[0]));
      cursor.setAttribute("x2", x(here[0]));
    }
    put(readout, here ? words(here) : "");
    readout.hidden = !here;
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const where = ((event.clientX - box.left) / box.width) * WIDE;
    let best = null;
    data.forEach(([t], i) => {
      if (best === null || Math.abs(x(t) - where) < Math.abs(x(data[best][0]) - where)) best = i;
    });
    point(best);
  }, { signal });
  svg.addEventListener("pointerleave", () => point(null), { signal });
  svg.addEventListener("blur", () => point(null), { signal });
  svg.addEventListener("focus", () => data.length && svg.matches(":focus-visible") && point(newest), { signal });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !data.length) return;
    point(Math.min(data.length - 1, Math.max(0, (at ?? newest) + step)));
    event.preventDefault();
    event.stopPropagation();
  }, { signal });

  return {
    el,
    draw(line, forecast, row, warning, critical) {
      const past = points(line, row);
      size_ = row[SIZE];
      const key = `${line?.to} ${line?.from} ${past.length} ${past.at(-1)} ${warning} ${critical}`;
      if (key === shown && forecast === shownPath) return;
      shown = key;
      shownPath = forecast;
      const known = past.filter(([, y]) => y !== null);
      el.hidden = known.length < 2;
      if (el.hidden) return;
      const from = line?.from ?? known[0][0];
      const to = Math.max(line?.to ?? 0, known.at(-1)[0]);
      const reach = forecast?.ahead ?? 0;
      let future = forecast ? continuation(forecast, known.at(-1), to + reach) : [];
      if (future.length && future.at(-1)[0] <= to) future = []; // time ran ahead of it: a new one is on its way
      const crossed = [...new Set([critical, 100])].map((mark) => crossing(future, mark)).filter(Boolean);
      x = (t) => Math.max(-2, ((t - from) / Math.max(1, to - from + reach)) * WIDE);

      // As high as the lines need, and so much more for the band that it leaves them half of the height.
      const values = [...known, ...future].map(([, y]) => y);
      let [least, most] = [Math.min(...values), Math.max(...values)];
      const room = Math.max(most - least, 1) / 2;
      least = Math.max(least - room, Math.min(least, ...future.map((point) => point[2])));
      most = Math.min(most + room, Math.max(most, ...future.map((point) => point[3])));
      const half = Math.max((most - least) / 2, 0.5) * 1.15;
      const bottom = Math.max(0, (least + most) / 2 - half);
      const top = Math.min(100, bottom + 2 * half);
      const y = (value) => (HIGH - ((Math.min(top, Math.max(bottom, value)) - bottom) / (top - bottom)) * HIGH).toFixed(2);
      const where = (t, value) => `${x(t).toFixed(2)} ${y(value)}`;

      let draw = "";
      let fill = "";
      let pen = null;
      const holes = [];
      past.forEach(([t, value], i) => {
        if (value === null) {
          const after = past[i + 1];
          if (pen !== null) fill += `L${x(pen).toFixed(2)} ${HIGH}Z`;
          if (pen !== null && after) holes.push([x(pen), x(after[0])]);
          pen = null;
        } else {
          const here = where(t, value);
          if (pen === null) {
            draw += `M${here}`;
            fill += `M${x(t).toFixed(2)} ${HIGH}L${here}`;
          } else {
            draw += `L${here}`;
            fill += `L${here}`;
          }
          pen = t;
        }
      });
      if (pen !== null) fill += `L${x(pen).toFixed(2)} ${HIGH}Z`;
      path.setAttribute("d", draw);
      area.setAttribute("d", fill);
      gaps.replaceChildren(...holes.map(([a, b]) => s("rect", { x: a, y: 0, width: Math.max(1, b - a), height: HIGH })));
      const upper = future.map(([t, , , value]) => where(t, value));
      const lower = future.map(([t, , value]) => where(t, value)).reverse();
      ahead.setAttribute("d", future.length ? `M${future.map(([t, value]) => where(t, value)).join("L")}` : "");
      band.setAttribute("d", future.length ? `M${[...upper, ...lower].join("L")}Z` : "");
      now.style.display = reach ? "" : "none";
      attribute(now, "x1", x(to));
      attribute(now, "x2", x(to));
      marks.replaceChildren(
        ...[warning, critical]
          .filter((mark) => mark > bottom && mark < top)
          .map((mark) => s("line", { x1: 0, x2: WIDE, y1: y(mark), y2: y(mark), class: "pools-mark", ...still })),
      );
      crossings.replaceChildren(
        ...crossed.map(([t, value, , , mark]) =>
          h("i", { class: mark >= 100 ? "full" : "", style: `left: ${(x(t) / WIDE) * 100}%; top: ${(y(value) / HIGH) * 100}%` }),
        ),
      );
      for (const [place, value] of [[high, top], [low, bottom]]) put(place, `${value.toFixed(value % 100 ? 1 : 0)} %`);
      put(start, `−${far(to - from)}`);
      put(middle, Math.abs(Date.now() / 1000 - to) < 86400 ? "now" : clock(to * 1e6, { seconds: false }).replace(/ [0-9:]*$/, ""));
      middle.style.left = `${(x(to) / WIDE) * 100}%`;
      middle.classList.toggle("last", !reach);
      put(end, reach ? `+${far(reach)}` : "");

      newest = past.length - 1;
      const readings = future.length
        ? Array.from({ length: READINGS }, (_, i) => {
            const last = future.at(-1)[0];
            return reading(future, i === READINGS - 1 ? last : to + ((i + 1) / READINGS) * (last - to));
          })
        : [];
      data = [...past, ...[...readings, ...crossed].sort((a, b) => a[0] - b[0])];
      const held = holes.length ? `, ${plural(holes.length, "gap")} in the data` : "";
      const used = known.map(([, value]) => value.toFixed(1));
      const told = future.length ? ` Ahead: ${[...crossed, future.at(-1)].map(words).join("; ").replaceAll(" %", " percent")}.` : "";
      attribute(svg, "aria-label", `Used from ${clock(from * 1e6)} to ${clock(to * 1e6)}: ${used[0]} to ${used.at(-1)} percent${held}.${told} Arrow keys read single values.`);
      point(at !== null && at < data.length ? at : null);
    },
  };
}
