// How films are looked at: how large, which part, through which window.
//
// Sizes are in pixels of the canvas, places on a film in shares of its width and height. All
// panes share one view, which is that of the film looked at; a pane with a film of its own
// shows the same anatomy, through its link. Each film has its own window.

const MOST_ZOOM = 40, NARROWEST = 0.02;

// The greys of one film that become black and white.
class Greys {
  constructor() {
    this.level = 0.5; // the grey in the middle of the window
    this.width = 1;
  }

  get plain() {
    return this.width === 1 && this.level === 0.5;
  }

  // The ends of the window: what becomes black, what becomes white.
  through(invert) {
    const ends = [this.level - this.width / 2, this.level + this.width / 2];
    return invert ? ends.reverse() : ends;
  }

  // Widen the window, and make the film brighter; both in shares of the full range.
  adjust(wider, brighter) {
    this.width = Math.min(Math.max(this.width + wider, NARROWEST), 2);
    this.level = Math.min(Math.max(this.level - brighter, 0), 1);
  }
}

// How a pane's own film lies to the film that is looked at. `align` maps places on that to places
// on its own; without it, another film is simply fitted.
class Link {
  constructor(looked, film, align) {
    this.film = film;
    this.joined = looked === film || !!align;
    const [[a, b, c], [d, e, f]] = align ?? [[1, 0, 0], [0, 1, 0]];
    const turned = a * e - b * d;
    this.own = ([x, y]) => [a * x + b * y + c, d * x + e * y + f];
    this.looked = ([x, y]) =>
      [(e * (x - c) - b * (y - f)) / turned, (a * (y - f) - d * (x - c)) / turned];
    // Pixels of its own for one of the film looked at.
    this.ratio = Math.sqrt((Math.abs(turned) * film.width * film.height) /
      (looked.width * looked.height));
  }

  // Pixels of a canvas for one of the film looked at, at which the whole of its own shows beside
  // the whole of that.
  fitting(canvas) {
    if (!this.joined) return Infinity;
    const [x, y] = this.own([0.5, 0.5]), { width, height } = this.film;
    const across = canvas.width / (2 * Math.max(x, 1 - x) * width);
    const down = canvas.height / (2 * Math.max(y, 1 - y) * height);
    return Math.min(across, down) * this.ratio;
  }
}

class View {
  constructor() {
    this.fit();
    this.invert = false;
  }

  fit() {
    this.zoom = 1; // times the size at which the whole film fits
    this.x = this.y = 0.5; // what lies in the middle of the pane
  }

  get whole() {
    return this.zoom === 1 && this.x === 0.5 && this.y === 0.5;
  }

  // Where a pane's film lies on its canvas: pixels of the canvas for one of the film, its corner.
  place(pane) {
    const { canvas, film, link } = pane, [x, y] = link.own([this.x, this.y]);
    const scale = this.zoom * (link.joined
      ? this.fitting(pane) / link.ratio
      : Math.min(canvas.width / film.width, canvas.height / film.height));
    const left = canvas.width / 2 - x * film.width * scale;
    const top = canvas.height / 2 - y * film.height * scale;
    return { scale, left, top };
  }

  // Pixels of a canvas for one of the film looked at, at which all that is linked shows whole.
  fitting({ canvas, viewer }) {
    const there = viewer.panes.filter((pane) => pane.film);
    return Math.min(...there.map((pane) => pane.link.fitting(canvas)));
  }

  // The place on a pane's film below a point of its canvas.
  under(point, pane) {
    const { scale, left, top } = this.place(pane), { width, height } = pane.film;
    return [(point[0] - left) / (width * scale), (point[1] - top) / (height * scale)];
  }

  // Bring a place on a pane's film below a point of its canvas.
  bring([x, y], point, pane) {
    const { canvas, film, link } = pane, { scale } = this.place(pane);
    [this.x, this.y] = link.looked([
      x + (canvas.width / 2 - point[0]) / (film.width * scale),
      y + (canvas.height / 2 - point[1]) / (film.height * scale),
    ]);
    this.settle();
  }

  // Zoom, keeping what lies below a point where it is.
  zoomAt(point, times, pane) {
    const place = this.under(point, pane);
    this.zoomTo(this.zoom * times, pane);
    this.bring(place, point, pane);
  }

  zoomTo(zoom, pane) {
    const least = Math.min(1, this.exactly(pane));
    this.zoom = Math.min(Math.max(zoom, least), MOST_ZOOM);
    if (Math.abs(this.zoom - 1) < 1e-9) this.zoom = 1; // there and back by the wheel
  }

  // The zoom at which a pixel of a pane's film as it was taken fills one of the screen.
  exactly(pane) {
    return (pane.film.fullWidth / pane.film.width) * (this.zoom / this.place(pane).scale);
  }

  move(across, down, pane) {
    const middle = [pane.canvas.width / 2, pane.canvas.height / 2];
    this.bring(this.under(middle, pane), [middle[0] + across, middle[1] + down], pane);
  }

  // A film that fits lies in the middle; of a larger one, some is always seen.
  settle() {
    if (this.zoom <= 1) this.x = this.y = 0.5;
    this.x = Math.min(Math.max(this.x, 0), 1);
    this.y = Math.min(Math.max(this.y, 0), 1);
  }
}
