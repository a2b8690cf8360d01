// Draws one pane where the browser has no WebGL 2, or none that a graphics processor draws: the
// same picture, on a plain canvas.

const MARGIN = 2; // pixels of a sheet around what is seen, for smoothing

class SoftwarePainter {
  constructor(canvas) {
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.sheet = document.createElement("canvas"); // the film through its window
    this.through = "";
  }

  end() {}

  get limit() {
    return 16384;
  }

  // See Pane.paint for what it is given.
  paint(film, sheet, layer, where, look) {
    const { pen } = this, { canvas } = pen;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (!film) return;
    const box = where.around([0, 0, 1, 1]);
    const left = Math.max(0, Math.ceil(box[0])), top = Math.max(0, Math.ceil(box[1]));
    const right = Math.min(canvas.width, Math.floor(box[2]));
    const bottom = Math.min(canvas.height, Math.floor(box[3]));
    if (right - left < 1 || bottom - top < 1) return;
    this.lay(film, sheet, where, look.window);
    if (!layer) return;
    const area = { left, top, width: right - left, height: bottom - top };
    const values = this.evidence(film, layer, where, area);
    const shown = pen.getImageData(left, top, area.width, area.height);
    if (look.heat) this.colour(shown.data, values, layer, look);
    if (look.lined) this.line(shown.data, values, layer, look, area, steepest(film, layer, where));
    pen.putImageData(shown, left, top);
  }

  // Draw what is seen of a sheet, and no more of it.
  lay(film, sheet, where, window) {
    const { pen } = this, { canvas } = pen, { scale, cos, sin, origin } = where;
    const corners = [[0, 0], [canvas.width, canvas.height]].map((point) => where.under(point));
    const seen = (axis, cells) => {
      const ends = corners.map((corner) => corner[axis] * cells).sort((one, two) => one - two);
      const first = Math.max(0, Math.floor(ends[0]) - MARGIN);
      return [first, Math.min(cells, Math.ceil(ends[1]) + MARGIN) - first];
    };
    const [x, width] = seen(0, sheet.width), [y, height] = seen(1, sheet.height);
    this.develop(film, sheet, [x, y, width, height], window);
    const across = film.width / sheet.width, down = film.height / sheet.height;
    pen.save();
    pen.setTransform(scale * cos, scale * sin, -scale * sin, scale * cos, ...origin);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.sheet, x * across, y * down, width * across, height * down);
    pen.restore();
  }

  develop(film, sheet, area, [low, high]) {
    const through = `${film.film} ${sheet.width} ${area} ${low} ${high}`;
    if (this.through === through) return;
    this.through = through;
    const { bytes } = film, { pixels } = sheet, most = bytes === 2 ? 65535 : 255;
    const shades = new Uint32Array(most + 1), one = new Uint8ClampedArray(1);
    for (let k = 0; k <= most; k++) {
      one[0] = (255 * (k / most - low)) / (high - low);
      shades[k] = 0xff000000 | (one[0] * 0x010101); // alike in either order of bytes but for alpha
    }
    const [left, top, width, height] = area, image = new ImageData(width, height);
    const drawn = new Uint32Array(image.data.buffer);
    for (let row = 0, k = 0; row < height; row++) {
      let from = bytes * ((top + row) * sheet.width + left);
      for (let column = 0; column < width; column++, from += bytes)
        drawn[k++] = shades[bytes === 2 ? pixels[from] + 256 * pixels[from + 1] : pixels[from]];
    }
    Object.assign(this.sheet, { width, height });
    this.sheet.getContext("2d").putImageData(image, 0, 0);
  }

  // The map at every pixel of an area of the canvas.
  evidence(film, layer, where, area) {
    const { scale, turn } = where, key = [film.film, scale, turn, where.origin,
      area.left, area.top, area.width, area.height].join();
    // The same while only the window is opened.
    if (this.found?.layer !== layer || this.found.key !== key)
      this.found = { layer, key, values: this.sampled(film, layer, where, area) };
    return this.found.values;
  }

  sampled(film, layer, where, area) {
    const [left, top, across, down] = layer.square, { cos, sin, origin } = where;
    // Along each axis of the canvas: which cells, and how far from the first to the second.
    const steps = (turned, from, count, begun, length, start, share, cells) => {
      const first = new Int32Array(count), part = new Float32Array(count);
      for (let k = 0; k < count; k++) {
        const place = (turned * (from + k + 0.5 - begun)) / (length * where.scale);
        const at = Math.min(Math.max((start + place * share) * cells - 0.5, 0), cells - 1);
        first[k] = Math.min(Math.floor(at), Math.max(cells - 2, 0));
        part[k] = at - first[k];
      }
      return { first, part };
    };
    const lying = sin !== 0; // the film's columns run along the canvas's rows
    const alongX = [area.left, area.width, origin[0]], alongY = [area.top, area.height, origin[1]];
    const columns = steps(
      lying ? sin : cos, ...(lying ? alongY : alongX), film.width, left, across, layer.width);
    const rows = steps(
      lying ? -sin : cos, ...(lying ? alongX : alongY), film.height, top, down, layer.height);
    const found = new Float32Array(area.width * area.height), least = layer.signed ? -1 : 0;
    const { values, width, height } = layer, right = Math.min(1, width - 1);
    const below = height > 1 ? width : 0;
    for (let y = 0, k = 0; y < area.height; y++)
      for (let x = 0; x < area.width; x++) {
        const column = lying ? y : x, row = lying ? x : y;
        const cell = rows.first[row] * width + columns.first[column];
        const part = columns.part[column], deep = rows.part[row];
        const one = values[cell] * (1 - part) + values[cell + right] * part;
        const two = values[cell + below] * (1 - part) + values[cell + below + right] * part;
        found[k++] = Math.min(Math.max(one * (1 - deep) + two * deep, least), 1);
      }
    return found;
  }

  colour(shown, values, layer, look) {
    const { table, signed } = layer, { threshold, opacity } = look;
    for (let k = 0, to = 0; k < values.length; k++, to += 4) {
      if (Math.abs(values[k]) < threshold) continue;
      const row = 4 * Math.floor(signed ? values[k] * 127 + 128.5 : values[k] * 255 + 0.5);
      const share = (table[row + 3] / 255) * opacity;
      if (!share) continue;
      shown[to] += (table[row] - shown[to]) * share;
      shown[to + 1] += (table[row + 1] - shown[to + 1]) * share;
      shown[to + 2] += (table[row + 2] - shown[to + 2]) * share;
    }
  }

  line(shown, values, layer, look, { width, height }, steepest) {
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
        const away = layer.signed ? Math.abs(values[k]) - layer.level : values[k] - layer.level;
        if (Math.abs(away) >= (look.reach + 0.5) * steepest) continue;
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

// The most that a map changes from one pixel of the canvas to the next.
function steepest(film, layer, where) {
  const { values, width, height, square } = layer;
  layer.steps ??= [1, width].map((aside) => {
    let most = 0;
    for (let k = aside; k < width * height; k++)
      if (aside > 1 || k % width) most = Math.max(most, Math.abs(values[k] - values[k - aside]));
    return most;
  });
  return Math.hypot((layer.steps[0] * square[2] * width) / (film.width * where.scale),
    (layer.steps[1] * square[3] * height) / (film.height * where.scale));
}
