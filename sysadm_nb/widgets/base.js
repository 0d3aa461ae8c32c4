// Put in front of every view's module, with elements.js: the state as the kernel tells it, and how a view is drawn.

/** What the kernel said, kept in step by patches; one for each model, shared by all its copies on the page. */
class Store {
  v = -1;
  rows = new Map();
  values = {};
  texts = new Map();
  touched = null; // rows changed since the last draw; null: all of them
  #listeners = new Set();
  #own = {}; // controls set here that a busy kernel has not confirmed yet
  #asked = 0;
  #frame = 0;

  connect(model) {
    this.model = model;
    const state = model.get("_state");
    if (state) this.#load(JSON.parse(state));
    const receive = (message) => this.#receive(message);
    model.on("msg:custom", receive);
    this.send("open");
    return () => model.off("msg:custom", receive);
  }

  #receive(message) {
    if (!message?.kind) return;
    const body = JSON.parse(message.body);
    if (message.kind === "full") this.#load(body);
    else if (message.kind === "patch" && body.base === this.v) this.#apply(body);
    else if (body.v !== this.v && Date.now() - this.#asked > 1000) {
      this.#asked = Date.now(); // a message was lost on the way
      this.send("open");
    }
    this.changed();
  }

  #load(full) {
    this.v = full.v;
    this.rows = new Map(Object.entries(full.rows).map(([id, cells]) => [Number(id), cells]));
    this.values = full.values;
    this.texts = new Map(Object.entries(full.texts));
    this.touched = null;
    this.loads = (this.loads ?? 0) + 1;
  }

  #apply(patch) {
    this.v = patch.v;
    const touch = (id) => this.touched?.add(id);
    for (const [id, cells] of Object.entries(patch.rows ?? {})) {
      this.rows.set(Number(id), cells);
      touch(Number(id));
    }
    patch.changed?.forEach((id, i) => {
      const row = this.rows.get(id);
      if (row) for (const [column, cells] of Object.entries(patch.cells)) row[column] = cells[i];
      touch(id);
    });
    for (const id of patch.drop ?? []) {
      this.rows.delete(id);
      touch(id);
    }
    Object.assign(this.values, patch.values);
    if (patch.values?.controls) this.#compareControls();
    for (const [name, change] of Object.entries(patch.texts ?? {})) {
      if (!change) this.texts.delete(name);
      else this.texts.set(name, change[0] === "+" ? (this.texts.get(name) ?? "") + change[1] : change[1]);
    }
  }

  /** What the kernel says counts, but it may be the answer to what was set before the last: that is waited for. */
  #compareControls() {
    for (const [name, own] of Object.entries(this.#own)) {
      if (JSON.stringify(own.value) === JSON.stringify(this.values.controls[name])) delete this.#own[name];
      else
        setTimeout(() => {
          if (this.#own[name] !== own) return;
          delete this.#own[name];
          this.touched = null;
          this.changed();
        }, 1500);
    }
  }

  /** Draw all copies at the next animation frame. */
  changed() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      for (const draw of this.#listeners) draw();
      this.touched = new Set();
    });
  }

  listen(draw) {
    this.#listeners.add(draw);
    this.touched = null;
    this.changed();
    return () => this.#listeners.delete(draw);
  }

  send(what, args = {}) {
    try {
      this.model.send({ ...args, do: what });
    } catch {
      // a saved page has no kernel: the state is shown, controls have nobody to talk to
    }
  }

  control(name) {
    return name in this.#own ? this.#own[name].value : this.values.controls?.[name];
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) this.#own[name] = { value };
    this.send("set", { values });
    this.touched = null;
    this.changed();
  }
}

/** The default export of a view's module. render({store, root, signal}) builds the elements and returns draw(). */
function view(render) {
  return () => {
    const store = new Store();
    return {
      initialize: ({ model }) => store.connect(model),
      render({ el }) {
        const root = h("div", { class: "sysadm-nb", "data-lm-suppress-shortcuts": "true" });
        const error = h("div", { class: "nb-error", role: "alert", hidden: true });
        const body = h("div", { class: "nb-body" });
        root.append(error, body);
        // a notebook takes arrow keys that reach it: sliders and drop-downs need them first
        root.addEventListener("keydown", (event) => {
          if (event.target.matches("input, select, textarea") && event.key !== "Escape") event.stopPropagation();
        });
        el.append(root);
        const ending = new AbortController();
        const draw = render({ store, root: body, signal: ending.signal });
        const stop = store.listen(() => {
          drawError(error, store);
          draw();
        });
        return () => {
          ending.abort();
          stop();
          root.remove();
        };
      },
    };
  };
}

function drawError(place, store) {
  const text = store.values.error ?? null;
  if (place.shown === text) return;
  place.shown = text;
  place.hidden = !text;
  if (!text) return place.replaceChildren();
  place.replaceChildren(
    icon("failed"),
    h("span", {}, text),
    h("button", { class: "nb-button", type: "button", onclick: () => store.send("dismiss") }, "Dismiss"),
  );
}
