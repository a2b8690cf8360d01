// Draws one pane where the browser has no WebGL 2, or none that a graphics processor draws: the
// same picture, on a plain canvas.
//
// The film is laid out in tiles, counted from its first corner. Each keeps the greys that lie under
// its pixels, and what the map leaves of them and adds: so a window that opens only puts the ones
// through the others, and a film that moves only works out the tiles that come into view.

const TILE = 64; // pixels of the canvas
const MOST_FINE = 2.5; // pixels of a sheet for one of the canvas, beyond which a half will do
const WHOLE = [0, 0, 1, 1];
const CLEAR = 0xff000000; // of a veil: adds nothing, leaves the film

class SoftwarePainter {
  constructor(canvas) {
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.tiles = new Map();
  }

  end() {}

  get limit() {
    return 16384;
  }

  // See Pane.paint for what it is given.
  paint(film, sheet, layer, where, look) {
    const { pen } = this, seen = new Map(), before = this.under;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
    this.under = same(before, [sheet, where?.scale, where?.turn]);
    this.over = same(this.over, [layer, layer?.table, ...Object.values({ ...look, window: 0 })]);
    this.through = same(this.through, look.window);
    for (const box of film ? boxes(pen.canvas, where) : []) {
      const name = box.join();
      const tile = (this.under === before && this.tiles.get(name)) || new Tile(box, sheet, where);
      if (tile.over !== this.over) tile.cover(layer, where, look);
      if (tile.over !== this.over || tile.through !== this.through) tile.draw(film, look.window);
      Object.assign(tile, { over: this.over, through: this.through });
      pen.putImageData(tile.image, where.origin[0] + box[0], where.origin[1] + box[1]);
      seen.set(name, tile);
    }
    this.tiles = seen;
  }
}

// What was held before, where it is what is now: then all that follows from it holds, too.
function same(before, now) {
  return before?.every((one, k) => one === now[k]) ? before : now;
}

// The tiles of a film that are seen: left, top, width and height, from the film's first corner.
function boxes({ width, height }, { film, scale, cos, sin, origin }) {
  const across = film.width * scale, down = film.height * scale;
  const spans = (end, room, origin) => {
    const first = Math.round(Math.min(end, 0)), last = Math.round(Math.max(end, 0)), found = [];
    const from = Math.floor(Math.max(first, -origin) / TILE) * TILE;
    for (let at = from; at < Math.min(last, room - origin); at += TILE)
      found.push([Math.max(at, first), Math.min(at + TILE, last)]);
    return found;
  };
  const columns = spans(cos * across - sin * down, width, origin[0]);
  return spans(sin * across + cos * down, height, origin[1]).flatMap(([top, bottom]) =>
    columns.map(([left, right]) => [left, top, right - left, bottom - top]));
}

class Tile {
  constructor(box, sheet, where) {
    this.box = box;
    const fine = fitting(sheet, where.film.width * where.scale);
    this.greys = sampled(fine.greys, fine, WHOLE, box, where, true);
    this.image = new ImageData(box[2], box[3]);
    // Colours, weighed by their shares; in the fourth place how much is left of the film.
    this.veil = new Uint8ClampedArray(this.image.data.length);
  }

  cover(layer, where, look) {
    const { box, veil } = this, [x, y, width, height] = box, inks = new Uint32Array(veil.buffer);
    inks.fill(CLEAR);
    if (!layer) return;
    const far = look.lined ? Math.ceil(look.reach + 0.5) : 0, wide = width + 2 * far;
    const around = [x - far, y - far, wide, height + 2 * far];
    const values = sampled(layer.values, layer, layer.square, around, where, false);
    const least = layer.signed ? -1 : 0;
    for (let k = 0; k < values.length; k++) values[k] = Math.min(Math.max(values[k], least), 1);
    if (look.heat) this.colour(values, far, wide, layer, look);
    if (look.lined) this.line(values, far, wide, layer, look, steepest(where.film, layer, where));
  }

  colour(values, far, wide, { table, signed }, { threshold, opacity }) {
    const { veil, box: [, , width, height] } = this, inks = new Uint32Array(veil.buffer);
    const mixed = new Uint8ClampedArray(table.length);
    for (let to = 0; to < table.length; to += 4) {
      const share = (table[to + 3] / 255) * opacity;
      for (let part = 0; part < 3; part++) mixed[to + part] = table[to + part] * share;
      mixed[to + 3] = 255 * (1 - share);
    }
    const rows = new Uint32Array(mixed.buffer);
    for (let y = 0, k = 0; y < height; y++)
      for (let x = 0, at = (y + far) * wide + far; x < width; x++, k++, at++)
        if (Math.abs(values[at]) >= threshold)
          inks[k] = rows[Math.floor(signed ? values[at] * 127 + 128.5 : values[at] * 255 + 0.5)];
  }

  line(values, far, wide, layer, look, steepest) {
    const [, , width, height] = this.box, { level, signed } = layer, reach = look.reach + 0.5;
    const strength = Math.min(1, 2 * look.opacity), near = (share) => Math.min(Math.max(share, 0), 1);
    const sides = signed ? [1, -1] : [1], steps = [-far, 0, far];
    // As in the shader: beside a step that stops short of the level there is no line.
    const crosses = (at, where) => steps.some((down) => steps.some((across) =>
      values[at + across + down * wide] >= where !== values[at] >= where));
    for (let y = 0, k = 0; y < height; y++)
      for (let x = 0, at = (y + far) * wide + far; x < width; x++, k++, at++) {
        const value = values[at];
        if (Math.abs((signed ? Math.abs(value) : value) - level) >= reach * steepest) continue;
        const across = values[at + 1] - values[at - 1], down = values[at + wide] - values[at - wide];
        const steep = Math.max(Math.sqrt(across * across + down * down) / 2, 1e-12);
        sides.forEach((sign, side) => {
          const away = Math.abs(value - sign * level) / steep;
          if (away >= reach || !crosses(at, sign * level)) return;
          this.blend(k, [0, 0, 0], near(reach - away) * 0.55 * strength);
          this.blend(k, layer.lines[side], near(look.reach / 2 + 0.5 - away) * strength);
        });
      }
  }

  blend(k, [red, green, blue], share) {
    [255 * red, 255 * green, 255 * blue, 0].forEach((ink, part) => {
      this.veil[4 * k + part] += (ink - this.veil[4 * k + part]) * share;
    });
  }

  // The film through its window, and through the veil.
  draw({ bytes }, [low, high]) {
    const { greys, veil, image: { data } } = this, most = bytes === 2 ? 65535 : 255;
    const gain = 1 / (most * (high - low)), black = low / (high - low);
    for (let k = 0, to = 0; k < greys.length; k++, to += 4) {
      const left = Math.min(Math.max(greys[k] * gain - black, 0), 1) * veil[to + 3];
      data[to] = veil[to] + left;
      data[to + 1] = veil[to + 1] + left;
      data[to + 2] = veil[to + 2] + left;
      data[to + 3] = 255;
    }
  }
}

// A sheet with at most so many times as many pixels as are shown along each side: halved, and kept
// so beside it, while it has more.
function fitting(sheet, shown) {
  if (sheet.width <= MOST_FINE * shown) return sheet;
  sheet.half ??= halved(sheet);
  return fitting(sheet.half, shown);
}

function halved({ width: wide, height: tall, greys }) {
  const width = wide >> 1, height = tall >> 1, half = new Float32Array(width * height);
  for (let y = 0, to = 0; y < height; y++)
    for (let x = 0, at = 2 * y * wide; x < width; x++, at += 2)
      half[to++] = (greys[at] + greys[at + 1] + greys[at + wide] + greys[at + wide + 1]) / 4;
  return { width, height, greys: half };
}

// What lies under each pixel of a box of the canvas, counted from the film's first corner: of a
// sheet or a map with so many cells, over a square of which the film lies. Bilinear, with
// half-pixel centres; `averaged` as in the shader where cells are smaller than pixels.
function sampled(values, cells, square, box, { film, scale, cos, sin }, averaged) {
  const lying = sin !== 0; // the film's columns run along the canvas's rows
  const [x, y, width, height] = box, [left, top, across, down] = square;
  const wide = lying ? [y, height] : [x, width], tall = lying ? [x, width] : [y, height];
  const columns = along(wide, cells.width, left,
    ((lying ? sin : cos) * across) / (film.width * scale), averaged);
  const rows = along(tall, cells.height, top,
    ((lying ? -sin : cos) * down) / (film.height * scale), averaged);
  return summed(values, cells.width, columns, rows, lying);
}

// Along one axis: the first cell under each pixel, and what that and those after it are worth.
function along([from, count], cells, begun, share, averaged) {
  const step = share * cells, taps = averaged ? Math.max(1, Math.ceil(Math.abs(step) - 0.01)) : 1;
  const reach = Math.min(Math.ceil((Math.abs(step) * (taps - 1)) / taps) + 2, cells);
  const first = new Int32Array(count), worth = new Float32Array(count * reach);
  for (let k = 0; k < count; k++) {
    const at = (tap) => Math.min(Math.max(
      begun * cells + (from + k + (tap + 0.5) / taps) * step - 0.5, 0), cells - 1);
    first[k] = Math.min(Math.floor(Math.min(at(0), at(taps - 1))), cells - reach);
    for (let tap = 0; tap < taps; tap++) {
      const whole = Math.floor(at(tap)), part = at(tap) - whole, to = k * reach + whole - first[k];
      worth[to] += (1 - part) / taps;
      if (part) worth[to + 1] += part / taps;
    }
  }
  return { first, worth, reach, count };
}

// Summed along the rows that are needed, then down the columns.
function summed(values, wide, columns, rows, lying) {
  const { first, worth, reach, count } = columns, { first: tops, worth: shares } = rows;
  const top = Math.min(tops[0], tops[rows.count - 1]);
  const bottom = Math.max(tops[0], tops[rows.count - 1]) + rows.reach;
  const strip = new Float32Array((bottom - top) * count);
  for (let row = top, to = 0; row < bottom; row++)
    for (let k = 0, part = 0; k < count; k++) {
      let from = row * wide + first[k], sum = 0;
      for (const end = from + reach; from < end; from++, part++) sum += values[from] * worth[part];
      strip[to++] = sum;
    }
  const found = new Float32Array(count * rows.count);
  const [right, below] = lying ? [rows.count, 1] : [1, count];
  for (let j = 0, part = 0; j < rows.count; j++)
    for (let row = tops[j] - top, end = row + rows.reach; row < end; row++, part++) {
      const share = shares[part];
      for (let k = 0, from = row * count, to = j * below; k < count; k++, to += right)
        found[to] += strip[from++] * share;
    }
  return found;
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
