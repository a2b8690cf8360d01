// Holds one film for the viewers of the page, so that a new map need not bring the film again.
// Draws nothing. Only what is on screen is held: the film before it is let go.

export default function hold({ data, parentElement }) {
  const { films } = SHARED, { header, array } = unpack(data);
  const letGo = (name) => {
    // Not what another place of the page has taken over since.
    if (films.get(name)?.holder === parentElement) films.delete(name);
  };
  if (parentElement.film !== header.film) letGo(parentElement.film);
  parentElement.film = header.film;
  const held = films.get(header.film);
  films.set(header.film, held ?? { ...header, pixels: array("pixels") });
  films.get(header.film).holder = parentElement;
  if (!held) document.dispatchEvent(new CustomEvent(ARRIVED));
  return () => letGo(parentElement.film);
}
