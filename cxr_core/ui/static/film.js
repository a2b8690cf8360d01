// Holds one film for the viewers of the page, so that a new map need not bring the film again.
// Draws nothing. Only what is on screen is held: the film before it is let go.
//
// A film comes as a sheet that is large enough for the screen; a sheet with its own pixels follows
// it, or is sent in its stead when a viewer wants it. Both stay.

function add(held, [width, height], pixels) {
  if (held.sheets.some((sheet) => sheet.width === width)) return;
  const sent = pixels(), greys = held.bytes === 2 ? new Uint16Array(sent.buffer) : sent;
  held.sheets.push({ width, height, pixels: sent, greys });
  held.sheets.sort((one, two) => one.width - two.width);
  document.dispatchEvent(new CustomEvent(ARRIVED));
}

export default function hold({ data, parentElement, setTriggerValue }) {
  const { films } = SHARED, { header, array } = unpack(data);
  const { film: name, sheet, follows, ...facts } = header, pixels = () => array("pixels");
  if (follows) {
    if (films.has(name)) add(films.get(name), sheet, pixels);
    return undefined;
  }
  const letGo = (gone) => {
    // Not what another place of the page has taken over since.
    if (films.get(gone)?.holder === parentElement) films.delete(gone);
  };
  if (parentElement.film !== name) letGo(parentElement.film);
  parentElement.film = name;
  const held = films.get(name) ?? { film: name, ...facts, sheets: [] };
  films.set(name, held);
  held.holder = parentElement;
  held.want = (side) => {
    if (!held.wanted) setTriggerValue(WANTED, side);
    held.wanted = true;
  };
  add(held, sheet, pixels);
  return () => letGo(parentElement.film);
}
