// What Python packs into one run of bytes (canvas.py, pack), taken apart again; and what every
// viewer of this page shares: the films that were sent, how each is looked at, how maps are drawn.

const KINDS = { u1: Uint8Array, f4: Float32Array };

function unpack(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  const rest = bytes.subarray(4 + size);
  // Copied, since a view on numbers of four bytes must begin at a multiple of four.
  const array = (name) => {
    const { kind, start, length } = header.arrays[name];
    return new KINDS[kind](rest.slice(start, start + length).buffer);
  };
  return { header, array };
}

const SHARED = (globalThis.cxrViewer ??= {
  films: new Map(), // by name: { width, height, bytes, sheets, holder, want }; see film.js
  views: new Map(), // by film: how it is looked at
  greys: new Map(), // by film: its window
  rulers: new Map(), // by film: what was measured on it
  look: null, // opacity, threshold, style and colours, whatever the film
});
const ARRIVED = "cxr-film", WANTED = "wanted"; // the latter is heard by canvas.py
