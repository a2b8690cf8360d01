// How a film is looked at: how large, which part, through which window. Linked panes share one.
//
// Sizes are in pixels of the canvas, places on the film in shares of its width and height.

const MOST_ZOOM = 40, NARROWEST = 0.02;

class View {
  constructor() {
    this.fit();
    this.invert = false;
    this.level = 0.5; // the grey in the middle of the window
    this.width = 1;
  }

  fit() {
    this.zoom = 1; // times the size at which the whole film fits
    this.x = this.y = 0.5; // what lies in the middle of the pane
  }

  get whole() {
    return this.zoom === 1 && this.x === 0.5 && this.y === 0.5;
  }

  // The greys that become black and white.
  get window() {
    const ends = [this.level - this.width / 2, this.level + this.width / 2];
    return this.invert ? ends.reverse() : ends;
  }

  // Where the film lies on a canvas: pixels of the canvas for one of the film, and its corner.
  place(canvas, film) {
    const scale = this.fitting(canvas, film) * this.zoom;
    const left = canvas.width / 2 - this.x * film.width * scale;
    const top = canvas.height / 2 - this.y * film.height * scale;
    return { scale, left, top };
  }

  fitting(canvas, film) {
    return Math.min(canvas.width / film.width, canvas.height / film.height);
  }

  // The place on the film below a point of the canvas.
  under(point, canvas, film) {
    const { scale, left, top } = this.place(canvas, film);
    return [(point[0] - left) / (film.width * scale), (point[1] - top) / (film.height * scale)];
  }

  // Zoom, keeping what lies below a point where it is.
  zoomAt(point, times, canvas, film) {
    const [x, y] = this.under(point, canvas, film);
    this.zoomTo(this.zoom * times, canvas, film);
    const scale = this.fitting(canvas, film) * this.zoom;
    this.x = x + (canvas.width / 2 - point[0]) / (film.width * scale);
    this.y = y + (canvas.height / 2 - point[1]) / (film.height * scale);
    this.settle();
  }

  zoomTo(zoom, canvas, film) {
    const least = Math.min(1, this.exactly(canvas, film));
    this.zoom = Math.min(Math.max(zoom, least), MOST_ZOOM);
    if (Math.abs(this.zoom - 1) < 1e-9) this.zoom = 1; // there and back by the wheel
  }

  // The zoom at which a pixel of the film as it was taken fills one of the screen.
  exactly(canvas, film) {
    return film.fullWidth / film.width / this.fitting(canvas, film);
  }

  move(across, down, canvas, film) {
    const { scale } = this.place(canvas, film);
    this.x -= across / (film.width * scale);
    this.y -= down / (film.height * scale);
    this.settle();
  }

  // A film that fits lies in the middle; of a larger one, some is always seen.
  settle() {
    if (this.zoom <= 1) this.x = this.y = 0.5;
    this.x = Math.min(Math.max(this.x, 0), 1);
    this.y = Math.min(Math.max(this.y, 0), 1);
  }

  // Widen the window, and make the film brighter; both in shares of the full range.
  adjust(wider, brighter) {
    this.width = Math.min(Math.max(this.width + wider, NARROWEST), 2);
    this.level = Math.min(Math.max(this.level - brighter, 0), 1);
  }
}
