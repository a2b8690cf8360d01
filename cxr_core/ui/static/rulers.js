// Lengths on films, between two places each, in millimetres where the film says how far apart its
// pixels are. Kept by film, so that they stay while the film is looked at in another way.

class Rulers {
  constructor() {
    this.lines = []; // [from, to], places in shares of the film
    this.begun = null; // where a line begins that is being drawn
    this.end = null;
  }

  static of(name) {
    const { rulers } = SHARED;
    if (!rulers.has(name)) rulers.set(name, new Rulers());
    return rulers.get(name);
  }

  begin(place) {
    this.begun = this.end = place;
  }

  reach(place) {
    if (this.begun) this.end = place;
  }

  finish() {
    if (this.begun) this.lines.push([this.begun, this.end]);
    this.begun = null;
  }

  forgo() {
    this.begun = null;
  }

  get all() {
    return this.begun ? [...this.lines, [this.begun, this.end]] : this.lines;
  }

  static length([from, to], { millimetres: [across, down] }) {
    return Math.hypot((to[0] - from[0]) * across, (to[1] - from[1]) * down);
  }

  static inWords(line, film) {
    return `${Rulers.length(line, film).toFixed(1)} mm`;
  }

  // Draw every line into an <svg>; `point` tells where a place lies on it, in its pixels.
  draw(svg, film, point) {
    const parts = film.millimetres ? this.all.flatMap((line) => {
      const [[x1, y1], [x2, y2]] = line.map(point), wide = Math.hypot(x2 - x1, y2 - y1) || 1;
      // A short stroke across each end.
      const [aside, up] = [(-5 * (y2 - y1)) / wide, (5 * (x2 - x1)) / wide];
      const d = `M${x1} ${y1}L${x2} ${y2}` + [[x1, y1], [x2, y2]].map(([x, y]) =>
        `M${x - aside} ${y - up}L${x + aside} ${y + up}`).join("");
      return [
        svgPart(svg, "path", { d, class: "halo" }), svgPart(svg, "path", { d }),
        svgPart(svg, "text", { x: Math.max(x1, x2) + 8, y: (x1 > x2 ? y1 : y2) + 4 },
          Rulers.inWords(line, film)),
      ];
    }) : [];
    svg.replaceChildren(...parts);
  }
}

function svgPart(svg, tag, attributes, text = "") {
  const part = document.createElementNS(svg.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
  part.textContent = text;
  return part;
}
