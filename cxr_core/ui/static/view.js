// How films are looked at: how large, which part, through which window.
//
// Sizes are in pixels of the canvas and of the film as it was taken, places on a film in shares of
// its width and height, whichever of its sheets is drawn. All
// panes share one view, which is that of the film looked at; a pane with a film of its own
// shows the same anatomy, through its link. Each film has its own window.

const MOST_ZOOM = 40, NARROWEST = 0.02;
const QUARTERS = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // cosine and sine of each turn

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

  open(low, high) {
    this.width = Math.max(high - low, 1e-4);
    this.level = (low + high) / 2;
  }

  // Widen the window, and make the film brighter; both in shares of the full range.
  adjust(wider, brighter) {
    this.width = Math.min(Math.max(this.width + wider, NARROWEST), 2);
    this.level = Math.min(Math.max(this.level - brighter, 0), 1);
  }
}

// Windows that are worked out on the film itself: from which to which share of its pixels, in
// order of their grey. Counted is the middle of the film, without what is black or white there:
// collimation, air outside of the body and markers.
// The full range is that of all pixels.
const SHARES = { "Full range": null, Lungs: [0.01, 0.75], "Mediastinum, bone": [0.3, 0.995] };
const MIDDLE = 0.1; // left out at each border
const BLACK = 0.02, WHITE = 0.98;

// The greys of a film below which two shares of its pixels lie; its darkest and brightest for null.
function greysAt(film, shares) {
  film.counts ??= counted(film);
  const { counts, total, range } = film.counts;
  if (!shares || !total) return range;
  return shares.map((share) => {
    let below = 0, k = 0;
    while (k < counts.length - 1 && (below += counts[k]) < share * total) k++;
    return k / (counts.length - 1);
  });
}

function counted({ sheets, bytes }) {
  const [{ width, height, greys }] = sheets, most = bytes === 2 ? 65535 : 255;
  const counts = new Float64Array(most + 1);
  let total = 0, low = most, high = 0;
  for (let y = 0, k = 0; y < height; y++)
    for (let x = 0; x < width; x++, k++) {
      const grey = greys[k];
      if (grey < low) low = grey;
      if (grey > high) high = grey;
      const aside = Math.min(x, width - 1 - x) < MIDDLE * width ||
        Math.min(y, height - 1 - y) < MIDDLE * height;
      if (aside || grey < BLACK * most || grey > WHITE * most) continue;
      counts[grey]++;
      total++;
    }
  return { counts, total, range: [low / most, high / most] };
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
  // the whole of that; `room` is the canvas's width and height as the film lies.
  fitting(room) {
    if (!this.joined) return Infinity;
    const [x, y] = this.own([0.5, 0.5]), { width, height } = this.film;
    const across = room[0] / (2 * Math.max(x, 1 - x) * width);
    const down = room[1] / (2 * Math.max(y, 1 - y) * height);
    return Math.min(across, down) * this.ratio;
  }
}

// Where a film lies on a canvas: pixels of the canvas for one of the film, quarters that it is
// turned clockwise, and where its first corner came to lie.
class Place {
  constructor(film, scale, turn, middle, [x, y]) {
    Object.assign(this, { film, scale, turn });
    [this.cos, this.sin] = QUARTERS[turn];
    const { cos, sin } = this, across = x * film.width * scale, down = y * film.height * scale;
    this.origin = [middle[0] - (cos * across - sin * down), middle[1] - (sin * across + cos * down)];
  }

  // Begun at a whole pixel, so that a film at 1:1 is not smeared over two.
  whole() {
    this.origin = this.origin.map(Math.round);
    return this;
  }

  // The point of the canvas at which a place on the film lies.
  point([x, y]) {
    const { film, scale, cos, sin, origin } = this;
    const across = x * film.width * scale, down = y * film.height * scale;
    return [origin[0] + cos * across - sin * down, origin[1] + sin * across + cos * down];
  }

  // The place on the film below a point of the canvas.
  under([x, y]) {
    const { film, scale, cos, sin, origin } = this;
    const across = x - origin[0], down = y - origin[1];
    return [(cos * across + sin * down) / (film.width * scale),
      (cos * down - sin * across) / (film.height * scale)];
  }

  // The smallest box on the canvas around a box on the film: left, top, right, bottom.
  around([left, top, right, bottom]) {
    const [one, two] = [this.point([left, top]), this.point([right, bottom])];
    return [Math.min(one[0], two[0]), Math.min(one[1], two[1]),
      Math.max(one[0], two[0]), Math.max(one[1], two[1])];
  }
}

class View {
  constructor() {
    this.fit();
    this.invert = false;
    this.turn = 0; // quarters, clockwise
  }

  fit() {
    this.zoom = 1; // times the size at which the whole film fits
    this.x = this.y = 0.5; // what lies in the middle of the pane
  }

  get whole() {
    return this.zoom === 1 && this.x === 0.5 && this.y === 0.5;
  }

  // Where a pane's film lies on its canvas.
  place({ canvas, film, link, viewer }) {
    const room = [canvas.width, canvas.height], middle = [room[0] / 2, room[1] / 2];
    if (this.turn % 2) room.reverse();
    const scale = this.zoom * (link.joined
      ? Math.min(...viewer.there.map((pane) => pane.link.fitting(room))) / link.ratio
      : Math.min(room[0] / film.width, room[1] / film.height));
    return new Place(film, scale, this.turn, middle, link.own([this.x, this.y]));
  }

  // Bring a place on a pane's film below a point of its canvas.
  bring(place, point, pane) {
    const { canvas } = pane, lies = this.place(pane), now = lies.point(place);
    const middle = [canvas.width / 2 + now[0] - point[0], canvas.height / 2 + now[1] - point[1]];
    [this.x, this.y] = pane.link.looked(lies.under(middle));
    this.settle();
  }

  // Zoom, keeping what lies below a point where it is.
  zoomAt(point, times, pane) {
    const place = this.place(pane).under(point);
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
    return this.zoom / this.place(pane).scale;
  }

  move(across, down, pane) {
    const middle = [pane.canvas.width / 2, pane.canvas.height / 2];
    this.bring(this.place(pane).under(middle), [middle[0] + across, middle[1] + down], pane);
  }

  // A film that fits lies in the middle; of a larger one, some is always seen.
  settle() {
    if (this.zoom <= 1) this.x = this.y = 0.5;
    this.x = Math.min(Math.max(this.x, 0), 1);
    this.y = Math.min(Math.max(this.y, 0), 1);
  }
}
