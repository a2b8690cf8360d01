// One pane: a film, the map over it, and what is drawn over both; with its caption.

class Pane {
  constructor(viewer) {
    this.viewer = viewer;
    this.figure = document.createElement("figure");
    this.figure.innerHTML =
      '<div class="glass"><canvas tabindex="0" role="img"></canvas>' +
      '<div class="region" hidden></div><svg class="rulers" aria-hidden="true"></svg>' +
      '<p class="measured" role="status" hidden></p></div><figcaption></figcaption>';
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

  get rulers() {
    return Rulers.of(this.told.film);
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
    this.layer = told.layer && { ...told.layer, values: array(told.layer.values) };
    const caption = this.figure.querySelector("figcaption");
    caption.replaceChildren();
    const add = (tag, text) => {
      const part = caption.appendChild(document.createElement(tag));
      part.textContent = text;
      return part;
    };
    if (!alone) add("strong", told.name);
    if (!this.layer) return;
    const [low, high] = told.layer.ends;
    add("span", low);
    const bar = add("button", "");
    Object.assign(bar, { type: "button", className: "bar", disabled: told.layer.signed });
    bar.onclick = () => this.viewer.colours();
    add("span", high);
  }

  // Show which colours the map is drawn in.
  bar() {
    const bar = this.figure.querySelector(".bar"), { table, signed } = this.layer ?? {}, stops = [];
    if (!bar || bar.table === table) return;
    bar.table = table;
    for (let row = signed ? 1 : 0; row < 256; row += 15)
      stops.push(`rgba(${table.slice(4 * row, 4 * row + 3)}, ${table[4 * row + 3] / 255})`);
    bar.style.background = `linear-gradient(90deg, ${stops})`;
    const name = `Colours: ${this.viewer.palette(signed).toLowerCase()}`;
    bar.setAttribute("aria-label", name);
    bar.title = signed ? name : `${name}; press for others (key C)`;
  }

  // Match the canvas to its place on the screen, pixel for pixel.
  fit() {
    const box = this.canvas.parentElement.getBoundingClientRect(), dense = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * dense));
    const height = Math.max(1, Math.round(box.height * dense));
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
  }

  // Paint film and map. A painter is given the film, which of its sheets to draw, the layer or
  // null, where the film lies on the canvas, and how both are drawn: shares but for reach, in
  // pixels.
  paint() {
    this.fit();
    const { viewer, canvas, film } = this, { look, view } = viewer;
    const where = film && view.place(this).whole(), sheet = film && this.sheet(where.scale);
    if (this.layer) this.layer.table = viewer.tables[viewer.palette(this.layer.signed)];
    this.painter.paint(film, sheet, viewer.bare ? null : this.layer, where, {
      window: this.greys.through(view.invert),
      opacity: look.opacity / 100,
      threshold: look.threshold / 100,
      heat: look.style !== "contour",
      lined: look.style === "contour" || (look.style === "both" && !!this.layer?.lined),
      reach: 2 * (devicePixelRatio || 1),
    });
    canvas.classList.toggle("moved", view.zoom > 1 || viewer.measuring);
    this.bar();
    this.measured(where);
    const frame = this.figure.querySelector(".region"), box = viewer.region;
    frame.hidden = !box || !film || !this.own;
    if (frame.hidden) return;
    const dense = canvas.width / canvas.clientWidth;
    const [left, top, right, bottom] = where.around(box).map((edge) => edge / dense);
    Object.assign(frame.style, {
      left: `${left}px`, width: `${right - left}px`, top: `${top}px`, height: `${bottom - top}px`,
    });
  }

  // The sheet that shows a film best at a scale: the smallest that is fine enough. Where there
  // is none, a finer one is asked for, once.
  sheet(scale) {
    const { film } = this, needed = film.width * scale * 0.999;
    const { limit } = this.painter;
    const drawable = film.sheets.filter(({ width, height }) => Math.max(width, height) <= limit);
    const fine = drawable.find(({ width }) => width >= Math.min(needed, film.width));
    if (!fine) film.want(limit);
    this.coarse = !fine;
    return fine ?? drawable.at(-1);
  }

  // Draw what was measured on the film.
  measured(where) {
    const { film, canvas, viewer } = this, note = this.figure.querySelector(".measured");
    const middle = [canvas.width / 2, canvas.height / 2];
    const lengths = film?.millimetres && (viewer.measuring || this.rulers.all.length);
    note.hidden = !lengths && !viewer.reason;
    note.textContent = lengths ? `Lengths ${film.measured}.` : viewer.reason;
    const svg = this.figure.querySelector(".rulers");
    svg.replaceChildren();
    if (!lengths) return;
    // Without a mouse, a line ends in the middle.
    if (this.keyed) this.rulers.reach(where.under(middle));
    const dense = canvas.width / canvas.clientWidth;
    this.rulers.draw(svg, film, (place) => where.point(place).map((edge) => edge / dense));
    if (!viewer.measuring || !this.keyed) return;
    const [x, y] = middle.map((edge) => edge / dense);
    svg.append(svgPart(svg, "path", { d: `M${x - 9} ${y}h18M${x} ${y - 9}v18`, class: "cross" }));
  }

  // Begin a line in the middle of the pane, or end it there.
  mark() {
    const { canvas } = this, place = this.viewer.view.place(this);
    this.viewer.hand = this;
    const middle = place.under([canvas.width / 2, canvas.height / 2]);
    this.keyed = true;
    if (this.rulers.begun) {
      this.rulers.reach(middle);
      this.rulers.finish();
    } else this.rulers.begin(middle);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const dense = this.canvas.width / box.width;
    return [(event.clientX - box.left) * dense, (event.clientY - box.top) * dense];
  }
}
