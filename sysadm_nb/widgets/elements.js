// Put in front of every view's module: elements, controls, windowed rows, words. Text from a server becomes page content
// only by text nodes: nothing here or in the views uses innerHTML, and no attribute that a browser would follow or run
// is made from data.

/** An element. Properties that start with "on" are listeners, the rest attributes; strings become text nodes. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function s(tag, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set text only where it differs: an unchanged node costs no layout and keeps a reader's selection. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Every state has a shape of its own, so that colour only repeats what the shape says.
const SHAPES = {
  pending: [["circle", { cx: 8, cy: 8, r: 5.5, class: "line dots" }]],
  running: [
    ["circle", { cx: 8, cy: 8, r: 5.5, class: "line faint" }],
    ["path", { d: "M8 2.5a5.5 5.5 0 0 1 5.5 5.5", class: "line turn" }],
  ],
  finished: [["path", { d: "M3 8.6l3.2 3.2L13 4.8", class: "line" }]],
  failed: [
    ["rect", { x: 1, y: 1, width: 14, height: 14, rx: 3, class: "fill" }],
    ["path", { d: "M5 5l6 6M11 5l-6 6", class: "line on" }],
  ],
  unknown: [
    ["circle", { cx: 8, cy: 8, r: 6.2, class: "line dots" }],
    ["path", { d: "M6.2 6.4a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2", class: "line thin" }],
    ["circle", { cx: 8, cy: 11.6, r: 0.9, class: "fill" }],
  ],
  warning: [
    ["path", { d: "M8 1.6l6.8 12.2H1.2z", class: "fill" }],
    ["path", { d: "M8 6v3.6", class: "line on" }],
    ["circle", { cx: 8, cy: 11.7, r: 0.9, class: "fill-on" }],
  ],
  info: [["circle", { cx: 8, cy: 8, r: 2.4, class: "fill" }]],
  skipped: [["path", { d: "M4 8h8", class: "line" }]],
  search: [["circle", { cx: 7, cy: 7, r: 4.2, class: "line" }], ["path", { d: "M10.2 10.2L14 14", class: "line" }]],
  copy: [
    ["rect", { x: 5.5, y: 5.5, width: 8, height: 8, rx: 1.5, class: "line" }],
    ["path", { d: "M10.5 3.2a1.2 1.2 0 0 0-1-.7h-6a1 1 0 0 0-1 1v6a1.2 1.2 0 0 0 .7 1", class: "line" }],
  ],
  close: [["path", { d: "M4 4l8 8M12 4l-8 8", class: "line" }]],
  down: [["path", { d: "M3.5 6l4.5 4.5L12.5 6", class: "line" }]],
  up: [["path", { d: "M3.5 10L8 5.5l4.5 4.5", class: "line" }]],
  play: [["path", { d: "M4.5 2.8v10.4L13 8z", class: "fill" }]],
  pause: [["path", { d: "M5 3v10M11 3v10", class: "line thick" }]],
  stop: [["rect", { x: 3.5, y: 3.5, width: 9, height: 9, rx: 1.5, class: "fill" }]],
};

function icon(name) {
  const shapes = SHAPES[name] ?? SHAPES.info;
  return s(
    "svg",
    { viewBox: "0 0 16 16", class: `nb-icon nb-icon-${name in SHAPES ? name : "info"}`, "aria-hidden": "true" },
    ...shapes.map(([tag, props]) => s(tag, props)),
  );
}

function setIcon(place, name) {
  if (place.icon === name) return;
  place.icon = name;
  place.replaceChildren(icon(name));
}

function button(label, onclick, { shape = null, kind = "", hint = null } = {}) {
  return h(
    "button",
    { class: `nb-button ${kind}`, type: "button", onclick, "aria-label": hint, title: hint },
    shape ? icon(shape) : null,
    label ? h("span", {}, label) : null,
  );
}

/** One choice of few, as a row of buttons. options: [[value, label, shape?]]; returns {el, draw(value, counts)}. */
function choice(label, options, onpick) {
  const buttons = options.map(([value, text, shape]) => {
    const count = h("span", { class: "nb-count" });
    const el = h(
      "button",
      { class: "nb-choice", type: "button", "data-value": value, onclick: () => onpick(value) },
      shape ? icon(shape) : null,
      h("span", {}, text),
      count,
    );
    return { value, el, count };
  });
  return {
    el: h("div", { class: "nb-choices", role: "group", "aria-label": label }, ...buttons.map((b) => b.el)),
    draw(chosen, counts = {}) {
      for (const { value, el, count } of buttons) {
        attribute(el, "aria-pressed", String(value === chosen));
        put(count, counts[value] ? number(counts[value]) : "");
      }
    },
  };
}

/** A drop-down that fills itself; returns {el, draw(value, options)}. */
function picker(label, onpick) {
  const el = h("select", { class: "nb-select", "aria-label": label, onchange: () => onpick(el.value || null) });
  let shown = "";
  return {
    el,
    draw(value, options) {
      const key = JSON.stringify(options);
      if (key !== shown) {
        shown = key;
        el.replaceChildren(...options.map(([v, text]) => h("option", { value: v ?? "" }, text)));
      }
      if (el.value !== (value ?? "")) el.value = value ?? "";
    },
  };
}

function searchBox(label, oninput) {
  const input = h("input", {
    class: "nb-input",
    type: "search",
    placeholder: label,
    "aria-label": label,
    spellcheck: "false",
    oninput: () => oninput(input.value),
  });
  return { el: h("label", { class: "nb-search" }, icon("search"), input), input };
}

/**
 * Rows of equal height of which only those in sight exist. build() makes an empty row element, fill(element, item)
 * draws one. With onopen the list takes the keyboard: arrows, Page, Home and End move, Enter opens.
 */
function windowed({ label, height, build, fill, onopen = null, role = "listbox", rowRole = "option", over = 8 }) {
  const space = h("div", { class: "nb-space", role: "presentation" });
  const el = h("div", { class: "nb-window", role, "aria-label": label, tabindex: "0" }, space);
  const used = new Map(); // index: element
  let spare = [];
  let items = [];
  let active = null;
  const prefix = `nb${Math.random().toString(36).slice(2, 9)}`;

  function draw(refill = true) {
    const tall = height();
    const first = Math.max(0, Math.floor(el.scrollTop / tall) - over);
    const last = Math.min(items.length, Math.ceil((el.scrollTop + el.clientHeight) / tall) + over);
    const total = `${items.length * tall}px`;
    if (space.style.height !== total) space.style.height = total;
    for (const [index, row] of used)
      if (index < first || index >= last) {
        used.delete(index);
        row.hidden = true;
        spare.push(row);
      }
    for (let index = first; index < last; index++) {
      let row = used.get(index);
      const item = items[index];
      if (!row) {
        row = spare.pop();
        if (!row) {
          row = build();
          row.classList.add("nb-row");
          row.setAttribute("role", rowRole);
          space.append(row);
        }
        row.hidden = false;
        used.set(index, row);
        row.item = undefined;
      }
      const top = `translateY(${index * tall}px)`;
      if (row.style.transform !== top) row.style.transform = top;
      if (refill || row.item !== item) {
        row.item = item;
        row.id = `${prefix}-${index}`;
        attribute(row, rowRole === "row" ? "aria-rowindex" : "aria-posinset", index + 1);
        if (rowRole !== "row") attribute(row, "aria-setsize", items.length);
        row.classList.toggle("nb-active", onopen !== null && item === active);
        fill(row, item, index);
      }
    }
    if (onopen) {
      const at = items.indexOf(active);
      attribute(el, "aria-activedescendant", used.has(at) ? `${prefix}-${at}` : null);
    }
  }

  function show(index) {
    const tall = height();
    if (index * tall < el.scrollTop) el.scrollTop = index * tall;
    else if ((index + 1) * tall > el.scrollTop + el.clientHeight) el.scrollTop = (index + 1) * tall - el.clientHeight;
  }

  el.addEventListener("scroll", () => draw(false), { passive: true });
  const sizes = new ResizeObserver(() => draw(true));
  sizes.observe(el);
  if (onopen) {
    el.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(el.clientHeight / height()) - 1);
      const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key in moves && items.length) {
        const from = Math.max(items.indexOf(active), moves[event.key] > 0 ? -1 : 0);
        const to = Math.min(items.length - 1, Math.max(0, from + moves[event.key]));
        active = items[to];
        show(to);
        draw(true);
      } else if ((event.key === "Enter" || event.key === " ") && items.includes(active)) onopen(active);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    el.addEventListener("click", (event) => {
      const row = event.target.closest(".nb-row");
      if (!row || event.target.closest("button")) return;
      active = row.item;
      onopen(row.item);
      draw(true);
    });
  }
  return {
    el,
    draw,
    show,
    set(next) {
      items = next;
      if (rowRole === "row") attribute(el, "aria-rowcount", items.length);
    },
    get items() {
      return items;
    },
    atEnd: () => el.scrollHeight - el.scrollTop - el.clientHeight < 24,
    toEnd: () => (el.scrollTop = el.scrollHeight),
    activate(item) {
      active = item;
    },
    destroy: () => sizes.disconnect(),
  };
}

// ---- words and numbers -----------------------------------------------------------------------------------------

const number = (value) => value.toLocaleString("en-US");

/** Bytes as `zpool list` prints them: 1024-based, three significant digits. */
function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let unit = 0;
  while (bytes >= 1024 && unit < 6) {
    bytes /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(bytes)}B`;
  const digits = bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
  return `${Number.isInteger(bytes) ? bytes : bytes.toFixed(digits)}${"BKMGTPE"[unit]}`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  seconds = Math.max(0, seconds);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}:${two((seconds / 60) % 60)} h`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds / 3600) % 24)} h`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** A time in microseconds since the epoch, in the reader's zone, as short as today allows. */
function clock(us, { seconds = true } = {}) {
  if (us === null || us === undefined) return "";
  const date = new Date(us / 1000);
  const now = new Date();
  const time = seconds ? CLOCK.format(date) : CLOCK.format(date).slice(0, 5);
  if (date.toDateString() === now.toDateString()) return time;
  const day = date.getFullYear() === now.getFullYear() ? DAY.format(date) : YEAR.format(date);
  return `${day} ${time.slice(0, 5)}`;
}

const exact = (us) => (us === null || us === undefined ? "" : new Date(us / 1000).toISOString().replace("T", " "));

function ago(us) {
  const seconds = (Date.now() - us / 1000) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Text for a label or an attribute: control characters out, so that a name cannot reorder or hide what follows. */
const plain = (text) => String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
