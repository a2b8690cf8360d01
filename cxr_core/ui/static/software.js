// Draws one pane where the browser has no WebGL 2: the same picture, on a plain canvas, slower.

class SoftwarePainter {
  constructor(canvas) {
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.sheet = document.createElement("canvas"); // the film through its window
    this.through = "";
  }

  end() {}

  // See Pane.paint for what it is given.
  paint(film, layer, where, look) {
    const { pen } = this, { canvas } = pen;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (!film) return;
    this.develop(film, look.window);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.sheet, where.left, where.top, film.width * where.scale,
      film.height * where.scale);
    if (!layer) return;
    const left = Math.max(0, where.left), top = Math.max(0, where.top);
    const right = Math.min(canvas.width, Math.floor(where.left + film.width * where.scale));
    const bottom = Math.min(canvas.height, Math.floor(where.top + film.height * where.scale));
    if (right - left < 1 || bottom - top < 1) return;
    const area = { left, top, width: right - left, height: bottom - top };
    const values = this.evidence(film, layer, where, area);
    const shown = pen.getImageData(left, top, area.width, area.height);
    if (look.heat) this.colour(shown.data, values, layer, look);
    if (look.lined) this.line(shown.data, values, layer, look, area);
    pen.putImageData(shown, left, top);
  }

  develop(film, [low, high]) {
    const through = `${film.film} ${low} ${high}`;
    if (this.through === through) return;
    this.through = through;
    const { width, height, bytes, pixels } = film, most = bytes === 2 ? 65535 : 255;
    const greys = new Uint8ClampedArray(most + 1);
    for (let k = 0; k <= most; k++) greys[k] = (255 * (k / most - low)) / (high - low);
    const image = new ImageData(width, height);
    for (let k = 0; k < width * height; k++) {
      const grey = greys[bytes === 2 ? pixels[2 * k] + 256 * pixels[2 * k + 1] : pixels[k]];
      image.data.set([grey, grey, grey, 255], 4 * k);
    }
    Object.assign(this.sheet, { width, height });
    this.sheet.getContext("2d").putImageData(image, 0, 0);
  }

  // The map at every pixel of an area of the canvas.
  evidence(film, layer, where, area) {
    const [left, top, across, down] = layer.square;
    const steps = (from, count, origin, length, start, share, cells) =>
      Array.from({ length: count }, (_, k) => {
        const place = (from + k + 0.5 - origin) / (length * where.scale);
        const at = Math.min(Math.max((start + place * share) * cells - 0.5, 0), cells - 1);
        const first = Math.min(Math.floor(at), Math.max(cells - 2, 0));
        return [first, Math.min(first + 1, cells - 1), at - first];
      });
    const columns = steps(
      area.left, area.width, where.left, film.width, left, across, layer.width);
    const rows = steps(area.top, area.height, where.top, film.height, top, down, layer.height);
    const found = new Float32Array(area.width * area.height), least = layer.signed ? -1 : 0;
    let k = 0;
    for (const [upper, lower, y] of rows) {
      const above = upper * layer.width, below = lower * layer.width;
      for (const [first, second, x] of columns) {
        const one = layer.values[above + first] * (1 - x) + layer.values[above + second] * x;
        const two = layer.values[below + first] * (1 - x) + layer.values[below + second] * x;
        found[k++] = Math.min(Math.max(one * (1 - y) + two * y, least), 1);
      }
    }
    return found;
  }

  colour(shown, values, layer, look) {
    for (let k = 0; k < values.length; k++) {
      if (Math.abs(values[k]) < look.threshold) continue;
      const row = Math.floor(layer.signed ? values[k] * 127 + 128.5 : values[k] * 255 + 0.5);
      this.blend(shown, k, layer.table.subarray(4 * row, 4 * row + 3),
        (layer.table[4 * row + 3] / 255) * look.opacity);
    }
  }

  line(shown, values, layer, look, { width, height }) {
    const strength = Math.min(1, 2 * look.opacity), near = (share) => Math.min(Math.max(share, 0), 1);
    const sides = layer.signed ? [1, -1] : [1], far = Math.ceil(look.reach + 0.5);
    // As in the shader: beside a step that stops short of the level there is no line.
    const crosses = (x, y, k, where) => {
      for (const down of [-far, 0, far])
        for (const across of [-far, 0, far]) {
          const inside = x + across >= 0 && x + across < width && y + down >= 0 && y + down < height;
          if (inside && values[k + across + down * width] >= where !== values[k] >= where) return true;
        }
      return false;
    };
    for (let y = 0, k = 0; y < height; y++)
      for (let x = 0; x < width; x++, k++) {
        const across = values[x + 1 < width ? k + 1 : k] - values[x ? k - 1 : k];
        const down = values[y + 1 < height ? k + width : k] - values[y ? k - width : k];
        const steep = Math.max(Math.hypot(across, down) / 2, 1e-12);
        sides.forEach((sign, side) => {
          const away = Math.abs(values[k] - sign * layer.level) / steep;
          if (away >= look.reach + 0.5 || !crosses(x, y, k, sign * layer.level)) return;
          this.blend(shown, k, [0, 0, 0], near(look.reach + 0.5 - away) * 0.55 * strength);
          this.blend(shown, k, layer.lines[side].map((part) => 255 * part),
            near(look.reach / 2 + 0.5 - away) * strength);
        });
      }
  }

  blend(shown, k, colour, share) {
    for (let part = 0; part < 3; part++)
      shown[4 * k + part] += (colour[part] - shown[4 * k + part]) * share;
  }
}
