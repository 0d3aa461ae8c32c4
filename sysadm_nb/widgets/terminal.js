// A log as a terminal would show it: colours, carriage returns, erased lines. A line is {text, marks}, marks[i] being
// the style of character i (0: plain) or the whole of it null. Unknown sequences are swallowed, never shown or obeyed.

const TOKENS =
  /\x1b\[([0-9;:?<=>]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*(?:\x1b\\)|\x1b[@-Z\\-~]?|[\r\n\b\t]|[^\x00-\x1f\x7f-\x9f]+|[\x00-\x1f\x7f-\x9f]/g;
const UNFINISHED = /\x1b(?:\[[0-9;:?<=>]*[ -/]*|[\]PX^_][^\x07\x1b]{0,4096}\x1b?)?$/;
const WIDEST = 4096; // a cursor sent further right is stopped here

class Terminal {
  lines = [{ text: "", marks: null }];
  styles = [null]; // style 0 is plain
  #seen = new Map();
  #style = 0;
  #now = {};
  #row = 0;
  #column = 0;
  #held = "";
  #source = "";

  /** Show this text; only what is new of it is read. */
  show(text) {
    if (text === this.#source) return false;
    if (!text.startsWith(this.#source)) {
      this.lines = [{ text: "", marks: null }];
      this.#style = this.#row = this.#column = 0;
      this.#now = {};
      this.#held = this.#source = "";
    }
    const more = text.slice(this.#source.length);
    this.#source = text;
    this.#write(more);
    return true;
  }

  #write(chunk) {
    chunk = this.#held + chunk;
    const cut = chunk.match(UNFINISHED);
    this.#held = cut ? cut[0] : "";
    if (cut) chunk = chunk.slice(0, cut.index);
    for (const token of chunk.matchAll(TOKENS)) {
      const text = token[0];
      if (text === "\n") this.#newLine();
      else if (text === "\r") this.#column = 0;
      else if (text === "\b") this.#column = Math.max(0, this.#column - 1);
      else if (text === "\t") this.#print(" ".repeat(8 - (this.#column % 8)));
      else if (token[2]) this.#control(token[1], token[2]);
      else if (text.charCodeAt(0) >= 32 && text[0] !== "\x7f" && !(text[0] >= "\x80" && text[0] <= "\x9f")) this.#print(text);
    }
  }

  #newLine() {
    this.#row += 1;
    this.#column = 0;
    if (this.#row >= this.lines.length) this.lines.push({ text: "", marks: null });
  }

  #print(text) {
    const old = this.lines[this.#row];
    const at = this.#column;
    const before = old.text.length < at ? old.text.padEnd(at) : old.text.slice(0, at);
    const line = { text: before + text + old.text.slice(at + text.length), marks: old.marks };
    if (this.#style || old.marks) {
      const marks = old.marks ? old.marks.slice() : new Array(old.text.length).fill(0);
      while (marks.length < at) marks.push(0);
      for (let i = 0; i < text.length; i++) marks[at + i] = this.#style;
      line.marks = marks;
    }
    this.lines[this.#row] = line; // a new object: what drew the old one sees that it changed
    this.#column = at + text.length;
  }

  #erase(from, to) {
    const old = this.lines[this.#row];
    const rest = to === Infinity ? "" : " ".repeat(Math.max(0, Math.min(to, old.text.length) - from)) + old.text.slice(to);
    const text = old.text.slice(0, from) + rest;
    this.lines[this.#row] = { text, marks: old.marks?.slice(0, text.length).map((mark, i) => (i >= from && i < to ? 0 : mark)) ?? null };
  }

  #control(parameters, final) {
    const count = Math.min(Number.parseInt(parameters, 10) || 0, WIDEST);
    if (final === "m") this.#colour(parameters);
    else if (final === "K") {
      if (count === 0) this.#erase(this.#column, Infinity);
      else this.#erase(0, count === 1 ? this.#column + 1 : Infinity);
    } else if (final === "G") this.#column = Math.max(0, (count || 1) - 1);
    else if (final === "C") this.#column = Math.min(WIDEST, this.#column + (count || 1));
    else if (final === "D") this.#column = Math.max(0, this.#column - (count || 1));
    else if (final === "A" || final === "F") {
      this.#row = Math.max(0, this.#row - (count || 1));
      if (final === "F") this.#column = 0;
    } else if (final === "B" || final === "E") {
      this.#row = Math.min(this.lines.length - 1, this.#row + (count || 1));
      if (final === "E") this.#column = 0;
    } else if (final === "J" && count === 0) {
      this.lines.length = this.#row + 1;
      this.#erase(this.#column, Infinity);
    }
  }

  #colour(parameters) {
    const codes = (parameters || "0").split(/[;:]/).map(Number);
    const now = { ...this.#now };
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      if (code === 0) for (const name of Object.keys(now)) delete now[name];
      else if (code === 1) now.bold = true;
      else if (code === 2) now.dim = true;
      else if (code === 3) now.italic = true;
      else if (code === 4) now.underline = true;
      else if (code === 7) now.inverse = true;
      else if (code === 9) now.struck = true;
      else if (code === 22) delete now.bold, delete now.dim;
      else if (code === 23) delete now.italic;
      else if (code === 24) delete now.underline;
      else if (code === 27) delete now.inverse;
      else if (code === 29) delete now.struck;
      else if (code >= 30 && code <= 37) now.front = code - 30;
      else if (code >= 90 && code <= 97) now.front = code - 82;
      else if (code === 39) delete now.front;
      else if (code >= 40 && code <= 47) now.back = code - 40;
      else if (code >= 100 && code <= 107) now.back = code - 92;
      else if (code === 49) delete now.back;
      else if (code === 38 || code === 48) {
        const where = code === 38 ? "front" : "back";
        if (codes[i + 1] === 5) (now[where] = palette(codes[i + 2])), (i += 2);
        else if (codes[i + 1] === 2) (now[where] = rgb(codes.slice(i + 2, i + 5))), (i += 4);
      }
    }
    this.#now = now;
    const key = JSON.stringify(now);
    if (key === "{}") this.#style = 0;
    else {
      if (!this.#seen.has(key) && this.styles.length < 4096) {
        this.#seen.set(key, this.styles.length);
        this.styles.push(now);
      }
      this.#style = this.#seen.get(key) ?? 0;
    }
  }

  /** The text of all lines, as it would be copied from a terminal. */
  get plainText() {
    return this.lines.map((line) => line.text).join("\n");
  }
}

function rgb(parts) {
  const [red, green, blue] = parts.map((part) => Math.min(255, Math.max(0, Math.trunc(part) || 0)));
  return `rgb(${red ?? 0}, ${green ?? 0}, ${blue ?? 0})`;
}

function palette(index) {
  index = Math.min(255, Math.max(0, Math.trunc(index) || 0));
  if (index < 16) return index;
  if (index >= 232) return rgb(Array(3).fill(8 + (index - 232) * 10));
  const level = (n) => (n ? 55 + n * 40 : 0);
  index -= 16;
  return rgb([level(Math.floor(index / 36)), level(Math.floor(index / 6) % 6), level(index % 6)]);
}

/** Draw one line into an element; hits is a list of [from, to, current] to mark. */
function drawLine(element, line, styles, hits = []) {
  const cuts = new Set([0, line.text.length]);
  if (line.marks) for (let i = 1; i < line.text.length; i++) if (line.marks[i] !== line.marks[i - 1]) cuts.add(i);
  for (const [from, to] of hits) cuts.add(from).add(to);
  const places = [...cuts].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i + 1 < places.length; i++) {
    const [from, to] = [places[i], places[i + 1]];
    const text = line.text.slice(from, to);
    const style = styles[line.marks?.[from] ?? 0];
    const hit = hits.find(([start, end]) => from >= start && from < end);
    if (!style && !hit) {
      parts.push(text);
      continue;
    }
    const span = h(hit ? "mark" : "span", {}, text);
    if (hit?.[2]) span.classList.add("now");
    if (style) paint(span, style);
    parts.push(span);
  }
  element.replaceChildren(...parts);
}

function paint(span, style) {
  for (const name of ["bold", "dim", "italic", "underline", "struck", "inverse"]) if (style[name]) span.classList.add(`t-${name}`);
  const [front, back] = style.inverse ? [style.back, style.front] : [style.front, style.back];
  if (typeof front === "number") span.classList.add(`t-f${front}`);
  else if (front) span.style.color = front;
  if (typeof back === "number") span.classList.add(`t-b${back}`);
  else if (back) span.style.backgroundColor = back;
}
