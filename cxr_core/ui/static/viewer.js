// The viewer: one or two linked panes with a film and the maps over it, and their controls.
//
// Python is told of a click on the film, and of nothing else: all the rest happens here.

const PLAIN = { opacity: 50, threshold: 0, style: "both", linked: false, colours: 0 };
const STYLES = ["heatmap", "contour", "both"];
const NAMES = {
  i: "invert", f: "fit", 1: "exact", 0: "reset", k: "link", t: "turn", w: "window", c: "colours",
  m: "measure", backspace: "undo", delete: "undo", "?": "help",
};
const BUTTONS = [
  "original", "invert", "window", "link", "fit", "exact", "measure", "undo", "turn", "reset", "help",
];
const FIRST_PRESET = 2; // the digit that is the first window's key
const NO_SPACING = "This film's file does not say how far apart its pixels are: nothing to measure by.";
const TURNED = ["", "turned by 90°", "turned by 180°", "turned by 270°"];
const ZOOMS = { "+": 1.2, "=": 1.2, "-": 1 / 1.2 };
const STEPS = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] };
const TAP = 300; // milliseconds; a key held for longer is let go at its end
// Where keys are for typing, or for choosing from an open list.
const EDITABLE = "input:not([type=range], [inputmode=none]), textarea, select, [contenteditable], " +
  "[aria-expanded=true][role=combobox], [role=listbox]";
const ASKED = "asked"; // heard by canvas.py

class Viewer {
  constructor(root) {
    this.root = root;
    this.panes = [];
    this.fixed = false; // Original was pressed, or its key tapped
    this.held = 0; // since when its key is down
    this.measuring = false;
    this.find = (selector) => root.querySelector(selector);
    this.look = SHARED.look ??= { ...PLAIN };
    this.buttons();
    this.gone = new AbortController();
    const listen = (name, act) =>
      document.addEventListener(name, act.bind(this), { signal: this.gone.signal });
    listen("keydown", this.press);
    listen("keyup", this.release);
    listen(ARRIVED, this.refresh);
    // A key let go in another window is not heard of.
    window.addEventListener("blur", () => this.letGo(), { signal: this.gone.signal });
    this.sizes = new ResizeObserver(() => this.refresh());
    this.sizes.observe(this.find(".panes"));
  }

  // Take what Python says; the way in which the film is looked at stays as it was.
  update(data, tell) {
    const { header, array } = unpack(data);
    this.tell = tell;
    this.asks = header.asks;
    this.region = header.region;
    this.looked = header.film;
    this.told = header;
    this.tables = Object.fromEntries(
      [...header.colours, header.signed].map((name) => [name, array(name)]));
    const { panes } = header, room = this.find(".panes");
    while (this.panes.length > panes.length) this.panes.pop().close();
    while (this.panes.length < panes.length) {
      this.panes.push(new Pane(this));
      room.append(this.panes.at(-1).figure);
    }
    room.classList.toggle("pair", panes.length > 1);
    panes.forEach((told, k) => this.panes[k].update(told, array, panes.length === 1));
    const { views } = SHARED;
    if (!views.has(this.looked)) views.set(this.looked, new View());
    this.view = views.get(this.looked);
    this.find("[name=link]").hidden = panes.every(({ film }) => film === this.looked);
    this.refresh();
  }

  close() {
    this.gone.abort();
    this.panes.forEach((pane) => pane.close());
    this.sizes.disconnect();
  }

  // The pane of the film looked at.
  get main() {
    return this.panes.find((pane) => pane.own) ?? this.panes[0];
  }

  // The panes whose films are there.
  get there() {
    return this.panes.filter((pane) => pane.film);
  }

  get bare() {
    return this.fixed || this.held > 0;
  }

  // Paint soon, once for all that happened since.
  refresh() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      if (!this.view) return;
      this.panes.forEach((pane) => pane.paint());
      this.report();
    });
  }

  // Show on every control how things stand.
  report() {
    const { look, view } = this, press = (name, on) =>
      this.find(`[name=${name}]`).setAttribute("aria-pressed", on);
    press("original", this.bare);
    press("invert", view.invert);
    press("link", look.linked);
    const measurable = this.there.some((pane) => pane.film.millimetres);
    this.measuring &&= measurable;
    press("measure", this.measuring);
    const measure = this.find("[name=measure]");
    measure.setAttribute("aria-disabled", !measurable && this.there.length > 0);
    measure.title = measurable ? "Measure a length: draw a line (key M)" : NO_SPACING;
    this.find("[name=undo]").hidden = !this.measuring;
    this.offer();
    for (const name of ["opacity", "threshold"]) {
      this.find(`[name=${name}]`).value = look[name];
      this.find(`[name=${name}]`).setAttribute("aria-valuetext", `${look[name]} per cent`);
    }
    for (const name of STYLES) press(name, look.style === name);
    this.find(".strip").classList.toggle("idle", !this.panes.some((pane) => pane.layer));
    const pane = this.main, parts = [];
    if (view.turn) parts.push(`${TURNED[view.turn]} on screen only`);
    if (pane.film && !view.whole)
      parts.push(`${(view.zoom / view.exactly(pane)).toFixed(2)} : 1`);
    if (this.there.some((one) => one.coarse))
      parts.push(pane.film.sheets.length > 1 ? "too large for its own pixels" : "finer pixels follow");
    if (this.ruled) parts.push(Rulers.inWords(this.ruled.rulers.all.at(-1), this.ruled.film));
    for (const { width, level, plain } of new Set(this.panes.map((one) => one.greys)))
      if (!plain) parts.push(`window ${width.toFixed(2)}, level ${level.toFixed(2)}`);
    const told = parts.join(" · ");
    Object.assign(this.find("output"), { textContent: told, title: told });
  }

  buttons() {
    for (const name of BUTTONS)
      this.find(`[name=${name}]`).onclick = () => this[name]();
    for (const name of STYLES)
      this.find(`[name=${name}]`).onclick = () => this.set({ style: name });
    for (const name of ["opacity", "threshold"])
      this.find(`[name=${name}]`).oninput = ({ target }) => this.set({ [name]: +target.value });
  }

  set(look) {
    Object.assign(this.look, look);
    this.refresh();
  }

  original() {
    this.fixed = !this.fixed;
    this.refresh();
  }

  invert() {
    this.view.invert = !this.view.invert;
    this.refresh();
  }

  fit() {
    this.view.fit();
    this.refresh();
  }

  exact() {
    const pane = this.main;
    if (!pane.film) return;
    this.view.fit();
    this.view.zoomTo(this.view.exactly(pane), pane);
    this.refresh();
  }

  // The names of the film's windows, in the order of their keys.
  get presets() {
    const named = this.main.film?.windows ?? [];
    return [...Object.keys(SHARES), ...named.map(([name], k) =>
      `${name ? name[0] + name.slice(1).toLowerCase() : `Window ${k + 1}`} (file)`)];
  }

  // Open a window on every film that has it.
  preset(number) {
    const worked = Object.values(SHARES), at = number - worked.length;
    for (const { film, greys } of this.there) {
      if (number < worked.length) greys.open(...greysAt(film, worked[number]));
      else if (film.windows[at]) greys.open(...film.windows[at].slice(1));
    }
    this.refresh();
  }

  // List the windows that there are.
  offer() {
    const list = this.find(".presets"), { presets } = this;
    if (list.dataset.names === presets.join()) return;
    list.dataset.names = presets.join();
    list.replaceChildren(...presets.map((name, k) => {
      const button = document.createElement("button"), key = k + FIRST_PRESET;
      Object.assign(button, { type: "button", textContent: name });
      if (key < 10) button.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      button.onclick = () => this.preset(k);
      return button;
    }));
  }

  window() {
    this.unfold("presets", "window");
  }

  help() {
    this.unfold("help", "help");
  }

  // Show or hide a list; the other one makes way.
  unfold(name, button) {
    for (const [one, its] of [["presets", "window"], ["help", "help"]]) {
      const list = this.find(`.${one}`);
      list.hidden = one !== name || !list.hidden;
      this.find(`[name=${its}]`).setAttribute("aria-expanded", !list.hidden);
    }
  }

  // The colours of a map.
  palette(signed) {
    return signed ? this.told.signed : this.told.colours[this.look.colours];
  }

  colours() {
    this.set({ colours: (this.look.colours + 1) % this.told.colours.length });
  }

  measure() {
    const measurable = this.there.some((pane) => pane.film.millimetres);
    this.reason = measurable ? "" : NO_SPACING; // until the next thing is done
    this.measuring = measurable && !this.measuring;
    this.forgo();
  }

  // The pane with the line that was drawn last.
  get ruled() {
    const drawn = this.there.filter((pane) => pane.rulers.all.length);
    return drawn.find((pane) => pane === this.hand) ?? drawn[0];
  }

  // Delete the line that was drawn last.
  undo() {
    this.ruled?.rulers.lines.pop();
    this.forgo();
  }

  // Leave a line that was begun.
  forgo() {
    this.panes.forEach((pane) => {
      pane.rulers.forgo();
      pane.keyed = false;
    });
    this.refresh();
  }

  // A quarter clockwise on screen; what lies in the middle stays there.
  turn() {
    this.view.turn = (this.view.turn + 1) % 4;
    this.refresh();
  }

  // Open the windows of two films together, or each alone.
  link() {
    this.set({ linked: !this.look.linked });
  }

  // Open the window of a pane's film; that of the other likewise, where they are linked.
  adjust(wider, brighter, pane) {
    const panes = this.look.linked ? this.panes : [pane];
    for (const greys of new Set(panes.map((one) => one.greys))) greys.adjust(wider, brighter);
  }

  reset() {
    Object.assign(this.view, new View());
    for (const pane of this.panes) Object.assign(pane.greys, new Greys());
    this.fixed = false;
    this.set(PLAIN);
  }

  // Ask what the model says without a region; a click into the region takes it back.
  ask([x, y]) {
    if (!this.asks) return;
    const box = this.region;
    const again = box && x >= box[0] && y >= box[1] && x < box[2] && y < box[3];
    this.tell(ASKED, again ? [] : [x, y]);
  }

  press(event) {
    const at = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || at.closest?.(EDITABLE)) return;
    if (!this.panes.some((pane) => pane.film)) return;
    const pane = this.panes.find((one) => one.canvas === at), key = event.key.toLowerCase();
    this.reason = "";
    if (NAMES[key] === "undo" && !this.measuring) return;
    if (key in NAMES) this[NAMES[key]]();
    else if (/^[2-9]$/.test(key) && this.presets[key - FIRST_PRESET]) this.preset(key - FIRST_PRESET);
    else if (key === "o" || (key === " " && pane)) this.hold(event);
    else if (key === "escape") {
      if (!this.escape()) return;
    }
    else if (!this.steer(key, event.shiftKey, pane)) return;
    event.preventDefault();
  }

  // Take back what was done last: an open list, a line, measuring, the region asked about.
  escape() {
    const open = ["help", "window"].find((name) =>
      this.find(`[name=${name}]`).getAttribute("aria-expanded") === "true");
    if (open) this[open]();
    else if (this.panes.some((pane) => pane.rulers.begun)) this.forgo();
    else if (this.measuring) this.measure();
    else if (this.region) this.tell(ASKED, []);
    else return false;
    return true;
  }

  // Move, zoom, or ask by keys; what needs one pane only does so when it has the focus.
  steer(key, shift, pane) {
    const { canvas, film } = pane ?? this.main;
    const middle = [canvas.width / 2, canvas.height / 2], [across, down] = STEPS[key] ?? [];
    if (!film) return false;
    if (key in ZOOMS) this.view.zoomAt(middle, ZOOMS[key], pane ?? this.main);
    else if (!pane) return false;
    else if (key === "enter" && this.measuring && film.millimetres) pane.mark();
    else if (key === "enter" && pane.own) this.ask(this.view.place(pane).under(middle));
    else if (!(key in STEPS)) return false;
    else if (shift) this.adjust(-0.05 * across, 0.05 * down, pane);
    else this.view.move(0.08 * canvas.width * across, 0.08 * canvas.height * down, pane);
    this.refresh();
    return true;
  }

  hold(event) {
    if (!event.repeat) this.held = event.timeStamp;
    this.refresh();
  }

  // A key that was tapped stands; one that was held is let go.
  release(event) {
    if (!this.held || !["o", " "].includes(event.key.toLowerCase())) return;
    if (event.timeStamp - this.held < TAP) this.fixed = !this.fixed;
    this.letGo();
  }

  letGo() {
    this.held = 0;
    this.refresh();
  }
}

export default function show({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".viewer");
  const viewer = (root.viewer ??= new Viewer(root));
  viewer.update(data, setTriggerValue);
  return () => viewer.close();
}
