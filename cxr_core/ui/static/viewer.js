// The viewer: one or two linked panes with a film and the maps over it, and their controls.
//
// Python is told of a click on the film, and of nothing else: all the rest happens here.

const PLAIN = { opacity: 50, threshold: 0, style: "both", linked: false };
const STYLES = ["heatmap", "contour", "both"];
const NAMES = { i: "invert", f: "fit", 1: "exact", 0: "reset", l: "link", "?": "help" };
const ZOOMS = { "+": 1.2, "=": 1.2, "-": 1 / 1.2 };
const STEPS = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] };
const STILL = 4; // pixels that a click may move
const TAP = 300; // milliseconds; a key held for longer is let go at its end
// Where keys are for typing, or for choosing from an open list.
const EDITABLE = "input:not([type=range], [inputmode=none]), textarea, select, [contenteditable], " +
  "[aria-expanded=true][role=combobox], [role=listbox]";
const ASKED = "asked"; // heard by canvas.py

class Pane {
  constructor(viewer) {
    this.viewer = viewer;
    this.figure = document.createElement("figure");
    this.figure.innerHTML =
      '<div class="glass"><canvas tabindex="0" role="img"></canvas>' +
      '<div class="region" hidden></div></div><figcaption></figcaption>';
    this.canvas = this.figure.querySelector("canvas");
    this.painter = WebGLPainter.on(this.canvas) ?? new SoftwarePainter(this.canvas);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter.begin();
      viewer.refresh();
    });
    this.hands = new Hands(this);
  }

  close() {
    this.painter.end();
    this.figure.remove();
  }

  // Its film, once that is there and the film looked at, to which it is linked, too.
  get film() {
    const looked = SHARED.films.get(this.viewer.looked);
    return looked && SHARED.films.get(this.told.film);
  }

  get link() {
    return new Link(SHARED.films.get(this.viewer.looked), this.film, this.told.align);
  }

  get greys() {
    return SHARED.greys.get(this.told.film);
  }

  // Whether it shows the film that the model answered for.
  get own() {
    return this.told.film === this.viewer.looked;
  }

  // Take what Python says of this pane: film, title, and a layer or null.
  update(told, array, alone) {
    this.told = told;
    if (!SHARED.greys.has(told.film)) SHARED.greys.set(told.film, new Greys());
    this.canvas.setAttribute("aria-label", told.title);
    this.layer = told.layer && {
      ...told.layer, values: array(told.layer.values), table: array(told.layer.table),
    };
    const caption = this.figure.querySelector("figcaption");
    caption.replaceChildren();
    const add = (tag, text) => {
      const part = caption.appendChild(document.createElement(tag));
      part.textContent = text;
      return part;
    };
    if (!alone) add("strong", told.name);
    if (!this.layer) return;
    const [low, high] = told.layer.ends, { table } = this.layer, stops = [];
    for (let row = told.layer.signed ? 1 : 0; row < 256; row += 15)
      stops.push(`rgba(${table.slice(4 * row, 4 * row + 3)}, ${table[4 * row + 3] / 255})`);
    add("span", low);
    add("i", "").style.background = `linear-gradient(90deg, ${stops})`;
    add("span", high);
  }

  // Match the canvas to its place on the screen, pixel for pixel.
  fit() {
    const box = this.canvas.parentElement.getBoundingClientRect(), dense = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * dense));
    const height = Math.max(1, Math.round(box.height * dense));
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
  }

  // Paint film and map. A painter is given the film, the layer or null, where the film lies on
  // the canvas (View.place), and how both are drawn: shares but for reach, in pixels.
  paint() {
    this.fit();
    const { viewer, canvas, film } = this, { look, view } = viewer;
    const where = film && view.place(this);
    // Painted from a whole pixel on, so that a film at 1:1 is not smeared over two.
    if (film) [where.left, where.top] = [Math.round(where.left), Math.round(where.top)];
    this.painter.paint(film, viewer.bare ? null : this.layer, where, {
      window: this.greys.through(view.invert),
      opacity: look.opacity / 100,
      threshold: look.threshold / 100,
      heat: look.style !== "contour",
      lined: look.style === "contour" || (look.style === "both" && !!this.layer?.lined),
      reach: 2 * (devicePixelRatio || 1),
    });
    canvas.classList.toggle("moved", view.zoom > 1);
    const frame = this.figure.querySelector(".region"), box = viewer.region;
    frame.hidden = !box || !film || !this.own;
    if (frame.hidden) return;
    const dense = canvas.width / canvas.clientWidth;
    const across = (share) => (where.left + share * film.width * where.scale) / dense;
    const down = (share) => (where.top + share * film.height * where.scale) / dense;
    Object.assign(frame.style, {
      left: `${across(box[0])}px`, width: `${across(box[2]) - across(box[0])}px`,
      top: `${down(box[1])}px`, height: `${down(box[3]) - down(box[1])}px`,
    });
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const dense = this.canvas.width / box.width;
    return [(event.clientX - box.left) * dense, (event.clientY - box.top) * dense];
  }
}

// Mouse, pen and fingers on one pane.
class Hands {
  constructor(pane) {
    this.pane = pane;
    this.down = new Map(); // by pointer: where it is
    this.moved = false;
    const on = (name, act) => pane.canvas.addEventListener(name, act.bind(this));
    on("pointerdown", this.press);
    on("pointermove", this.drag);
    on("pointerup", this.release);
    on("pointercancel", this.forget);
    on("wheel", this.wheel);
    on("contextmenu", (event) => event.preventDefault());
  }

  press(event) {
    if (!this.pane.film) return;
    if (!this.down.size) this.moved = false;
    this.down.set(event.pointerId, this.pane.point(event));
    this.start = this.pane.point(event);
    this.pane.canvas.setPointerCapture(event.pointerId);
  }

  drag(event) {
    const before = this.down.get(event.pointerId);
    if (!before) return;
    const { pane } = this, { view } = pane.viewer, now = pane.point(event);
    const far = Math.hypot(now[0] - this.start[0], now[1] - this.start[1]);
    const dense = pane.canvas.width / pane.canvas.clientWidth;
    if (!this.moved && far < STILL * dense) return;
    this.moved = true;
    const [across, down] = [now[0] - before[0], now[1] - before[1]];
    if (this.down.size > 1) this.pinch(event.pointerId, before, now);
    else if (event.pointerType === "touch" || event.shiftKey || event.buttons !== 1)
      view.move(across, down, pane);
    else pane.viewer.adjust(across / pane.canvas.width, -down / pane.canvas.height, pane);
    this.down.set(event.pointerId, now);
    pane.viewer.refresh();
  }

  pinch(moving, before, now) {
    const other = [...this.down].find(([pointer]) => pointer !== moving)[1];
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    const { view } = this.pane.viewer;
    view.zoomAt(middle, apart(now) / Math.max(apart(before), 1), this.pane);
    view.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2, this.pane);
  }

  release(event) {
    const known = this.down.has(event.pointerId), alone = this.down.size === 1;
    this.forget(event);
    if (!known || !alone || this.moved || event.button !== 0 || event.shiftKey) return;
    const { pane } = this, at = pane.viewer.view.under(pane.point(event), pane);
    if (pane.own && at.every((share) => share >= 0 && share < 1)) pane.viewer.ask(at);
  }

  forget(event) {
    this.down.delete(event.pointerId);
  }

  wheel(event) {
    const { pane } = this;
    if (!pane.film) return;
    event.preventDefault();
    const notches = event.deltaY / (event.deltaMode ? 3 : 100);
    pane.viewer.view.zoomAt(pane.point(event), 1.2 ** -notches, pane);
    pane.viewer.refresh();
  }
}

class Viewer {
  constructor(root) {
    this.root = root;
    this.panes = [];
    this.fixed = false; // Original was pressed, or its key tapped
    this.held = 0; // since when its key is down
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
    for (const name of ["opacity", "threshold"]) {
      this.find(`[name=${name}]`).value = look[name];
      this.find(`[name=${name}]`).setAttribute("aria-valuetext", `${look[name]} per cent`);
    }
    for (const name of STYLES) press(name, look.style === name);
    this.find(".strip").classList.toggle("idle", !this.panes.some((pane) => pane.layer));
    const pane = this.main, parts = [];
    if (pane.film && !view.whole)
      parts.push(`${(view.zoom / view.exactly(pane)).toFixed(2)} : 1`);
    for (const { width, level, plain } of new Set(this.panes.map((one) => one.greys)))
      if (!plain) parts.push(`window ${width.toFixed(2)}, level ${level.toFixed(2)}`);
    this.find("output").textContent = parts.join(" · ");
  }

  buttons() {
    for (const name of ["original", "invert", "link", "fit", "exact", "reset", "help"])
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

  help() {
    const lines = this.find(".help");
    lines.hidden = !lines.hidden;
    this.find("[name=help]").setAttribute("aria-expanded", !lines.hidden);
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
    if (key in NAMES) this[NAMES[key]]();
    else if (key === "o" || (key === " " && pane)) this.hold(event);
    else if (key === "escape" && this.region) this.tell(ASKED, []);
    else if (key === "escape" && !this.find(".help").hidden) this.help();
    else if (!this.steer(key, event.shiftKey, pane)) return;
    event.preventDefault();
  }

  // Move, zoom, or ask by keys; what needs one pane only does so when it has the focus.
  steer(key, shift, pane) {
    const { canvas, film } = pane ?? this.main;
    const middle = [canvas.width / 2, canvas.height / 2], [across, down] = STEPS[key] ?? [];
    if (!film) return false;
    if (key in ZOOMS) this.view.zoomAt(middle, ZOOMS[key], pane ?? this.main);
    else if (!pane) return false;
    else if (key === "enter" && pane.own) this.ask(this.view.under(middle, pane));
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
