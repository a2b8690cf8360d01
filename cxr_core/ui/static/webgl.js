// Draws one pane with WebGL 2: the film through its window, over it the map, over that its lines.
//
// The map is sampled as preprocess.restore does (bilinear, half-pixel centres, over the model's
// square) and coloured as overlays.overlay does (256 levels, looked up in the same table). Lines
// are where the map crosses a level: how far its value is from it, over how fast it changes.

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4(4.0 * corner - 1.0, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D film, map, table;
uniform vec2 canvas, origin, turn, size, bytes, window;  // bytes: what each byte is worth
uniform float scale;        // pixels of the canvas for one of the film
uniform float fine;         // pixels of the film for one of the sheet that shows it
uniform vec4 square;        // where the film lies in the map: left, top, width, height, in cells
uniform bool mapped, heat, lined, sided;
uniform float opacity, threshold, level, reach;
uniform vec3 above, below;  // colours of the lines: for, against
out vec4 colour;

const int MOST_TAPS = 4;

float grey(vec2 place) {
  int taps = clamp(int(ceil(1.0 / (scale * fine) - 0.01)), 1, MOST_TAPS);
  float total = 0.0;
  for (int row = 0; row < MOST_TAPS; row++) {
    if (row >= taps) break;
    for (int column = 0; column < MOST_TAPS; column++) {
      if (column >= taps) break;
      vec2 shift = (vec2(column, row) + 0.5) / float(taps) - 0.5;
      total += dot(texture(film, (place + shift / scale) / size).rg, bytes);
    }
  }
  return total / float(taps * taps);
}

float cell(ivec2 place, ivec2 last) {
  return texelFetch(map, clamp(place, ivec2(0), last), 0).r;
}

float evidence(vec2 place) {
  vec2 at = square.xy + place / size * square.zw - 0.5;
  ivec2 first = ivec2(floor(at)), last = textureSize(map, 0) - 1;
  vec2 part = at - vec2(first);
  return mix(
    mix(cell(first, last), cell(first + ivec2(1, 0), last), part.x),
    mix(cell(first + ivec2(0, 1), last), cell(first + ivec2(1, 1), last), part.x), part.y);
}

// Whether the map has a level on both sides near a place: beside a step that stops short of it,
// its value divided by its change would look near, too.
bool crosses(vec2 place, float where) {
  bool inside = evidence(place) >= where, across = false;
  for (int k = 0; k < 8; k++) {
    float turn = float(k) * 0.785398;
    vec2 aside = vec2(cos(turn), sin(turn)) * (reach + 0.5) / scale;
    across = across || (evidence(place + aside) >= where) != inside;
  }
  return across;
}

vec3 lined_over(
    vec3 under, vec2 place, float value, float steep, float where, vec3 line, float strength) {
  float away = abs(value - where) / steep;
  if (away > reach + 0.5 || !crosses(place, where)) return under;
  under = mix(under, vec3(0.0), clamp(reach + 0.5 - away, 0.0, 1.0) * 0.55 * strength);
  return mix(under, line, clamp(reach / 2.0 + 0.5 - away, 0.0, 1.0) * strength);
}

void main() {
  vec2 aside = (vec2(gl_FragCoord.x, canvas.y - gl_FragCoord.y) - origin) / scale;
  vec2 place = vec2(turn.x * aside.x + turn.y * aside.y, turn.x * aside.y - turn.y * aside.x);
  float value = mapped ? clamp(evidence(place), sided ? -1.0 : 0.0, 1.0) : 0.0;
  float steep = max(length(vec2(dFdx(value), dFdy(value))), 1e-12);
  if (any(lessThan(place, vec2(0.0))) || any(greaterThan(place, size))) {
    colour = vec4(0.0, 0.0, 0.0, 1.0);
    return;
  }
  vec3 shown = vec3(clamp((grey(place) - window.x) / (window.y - window.x), 0.0, 1.0));
  if (mapped && heat && abs(value) >= threshold) {
    float row = sided ? value * 127.0 + 128.5 : value * 255.0 + 0.5;
    vec4 entry = texelFetch(table, ivec2(int(row), 0), 0);
    shown = mix(shown, entry.rgb, entry.a * opacity);
  }
  if (mapped && lined) {
    float strength = min(1.0, 2.0 * opacity);
    shown = lined_over(shown, place, value, steep, level, above, strength);
    if (sided) shown = lined_over(shown, place, value, steep, -level, below, strength);
  }
  colour = vec4(shown, 1.0);
}`;

// Who draws where there is no graphics processor: there, a plain canvas costs a fraction of it.
const IN_SOFTWARE = /swiftshader|llvmpipe|softpipe|basic render/i;

class WebGLPainter {
  // Whether WebGL itself is drawn in software.
  static get slow() {
    return (WebGLPainter.found ??= IN_SOFTWARE.test(WebGLPainter.renderer()));
  }

  static renderer() {
    const gl = document.createElement("canvas").getContext("webgl2");
    if (!gl) return "";
    const told = gl.getExtension("WEBGL_debug_renderer_info");
    const name = gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    return name;
  }

  // `gl` is the canvas's own context; null elsewhere, where SoftwarePainter draws.
  static on(canvas) {
    if (WebGLPainter.slow) return null;
    const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    return gl && new WebGLPainter(gl);
  }

  constructor(gl) {
    this.gl = gl;
    this.begin();
  }

  // Also after the browser took the context away and gave it back.
  begin() {
    const gl = this.gl;
    this.program = gl.createProgram();
    for (const [kind, code] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, code);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    gl.useProgram(this.program);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.places = {};
    ["film", "map", "table"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      if (unit) this.texture(gl.NEAREST);
      gl.uniform1i(this.place(name), unit);
    });
    this.sheets = new Map(); // of the film that is drawn: the texture of each
    this.film = this.layer = this.table = null;
  }

  // The longest side of a sheet that can be drawn.
  get limit() {
    return this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
  }

  // Make a texture and bind it.
  texture(filter) {
    const gl = this.gl, made = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, made);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T])
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    for (const way of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, way, filter);
    return made;
  }

  // Browsers give out few contexts; one that is no longer seen is given back.
  end() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  place(name) {
    return (this.places[name] ??= this.gl.getUniformLocation(this.program, name));
  }

  // Take up a sheet of a film; those of the film before it are let go.
  take(film, sheet) {
    const gl = this.gl, wide = film.bytes === 2;
    gl.activeTexture(gl.TEXTURE0);
    if (this.film !== film) {
      this.sheets.forEach((texture) => gl.deleteTexture(texture));
      this.sheets.clear();
      this.film = film;
    }
    if (this.sheets.has(sheet)) {
      gl.bindTexture(gl.TEXTURE_2D, this.sheets.get(sheet));
      return;
    }
    this.sheets.set(sheet, this.texture(gl.LINEAR));
    // Two bytes are filtered apart and weighed afterwards: as exact as a texture of 16 bits,
    // which WebGL cannot filter.
    gl.texImage2D(gl.TEXTURE_2D, 0, wide ? gl.RG8 : gl.R8, sheet.width, sheet.height, 0,
      wide ? gl.RG : gl.RED, gl.UNSIGNED_BYTE, sheet.pixels);
  }

  lay(layer) {
    if (!layer) return;
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE1);
    if (this.layer !== layer)
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, layer.width, layer.height, 0, gl.RED, gl.FLOAT,
        layer.values);
    gl.activeTexture(gl.TEXTURE2);
    if (this.table !== layer.table)
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, layer.table);
    Object.assign(this, { layer, table: layer.table });
  }

  // See Pane.paint for what it is given.
  paint(film, sheet, layer, where, look) {
    const gl = this.gl, { width, height } = gl.canvas;
    if (gl.isContextLost()) return;
    gl.viewport(0, 0, width, height);
    if (!film) {
      gl.clearColor(0, 0, 0, 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
      return;
    }
    this.take(film, sheet);
    this.lay(layer);
    const [left, top, across, down] = layer?.square ?? [0, 0, 1, 1];
    const [cells, rows] = layer ? [layer.width, layer.height] : [1, 1];
    gl.uniform2f(this.place("canvas"), width, height);
    gl.uniform2f(this.place("origin"), ...where.origin);
    gl.uniform2f(this.place("turn"), where.cos, where.sin);
    gl.uniform2f(this.place("size"), film.width, film.height);
    gl.uniform2f(this.place("bytes"), ...(film.bytes === 2 ? [255 / 65535, 65280 / 65535] : [1, 0]));
    gl.uniform2f(this.place("window"), ...look.window);
    gl.uniform1f(this.place("scale"), where.scale);
    gl.uniform1f(this.place("fine"), film.width / sheet.width);
    gl.uniform4f(this.place("square"), left * cells, top * rows, across * cells, down * rows);
    const flags = { mapped: !!layer, heat: look.heat, lined: look.lined, sided: !!layer?.signed };
    for (const [name, flag] of Object.entries(flags)) gl.uniform1i(this.place(name), flag);
    const shares = { opacity: look.opacity, threshold: look.threshold, level: layer?.level ?? 0.5 };
    for (const [name, share] of Object.entries(shares)) gl.uniform1f(this.place(name), share);
    gl.uniform1f(this.place("reach"), look.reach);
    gl.uniform3f(this.place("above"), ...(layer?.lines[0] ?? [0, 0, 0]));
    gl.uniform3f(this.place("below"), ...(layer?.lines[1] ?? [0, 0, 0]));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
