// Mouse, pen and fingers on one pane.

const STILL = 4; // pixels that a click may move

class Hands {
  constructor(pane) {
    this.pane = pane;
    this.down = new Map(); // by pointer: where it is
    this.moved = false;
    const on = (name, act) => pane.canvas.addEventListener(name, act.bind(this));
    on("pointerdown", this.press);
    on("pointermove", this.drag);
    on("pointerup", this.release);
    on("pointercancel", this.forget);
    on("wheel", this.wheel);
    on("contextmenu", (event) => event.preventDefault());
  }

  press(event) {
    if (!this.pane.film) return;
    if (!this.down.size) this.moved = false;
    this.down.set(event.pointerId, this.pane.point(event));
    this.start = this.pane.point(event);
    this.pane.canvas.setPointerCapture(event.pointerId);
    const { rulers, viewer } = this.pane, first = this.down.size === 1;
    rulers.forgo();
    viewer.reason = "";
    viewer.hand = this.pane; // whose line was drawn last
    this.pane.keyed = false;
    if (!viewer.measuring || !this.pane.film.millimetres || !first) return;
    if (event.button === 0 && !event.shiftKey)
      rulers.begin(viewer.view.place(this.pane).under(this.start));
  }

  drag(event) {
    const before = this.down.get(event.pointerId);
    if (!before) return;
    if (!this.pane.film) return this.forget(event); // another one is on its way
    const { pane } = this, { view } = pane.viewer, now = pane.point(event);
    const far = Math.hypot(now[0] - this.start[0], now[1] - this.start[1]);
    const dense = pane.canvas.width / pane.canvas.clientWidth;
    if (!this.moved && far < STILL * dense) return;
    this.moved = true;
    const [across, down] = [now[0] - before[0], now[1] - before[1]];
    if (pane.rulers.begun) pane.rulers.reach(view.place(pane).under(now));
    else if (this.down.size > 1) this.pinch(event.pointerId, before, now);
    else if (event.pointerType === "touch" || event.shiftKey || event.buttons !== 1)
      view.move(across, down, pane);
    else pane.viewer.adjust(across / pane.canvas.width, -down / pane.canvas.height, pane);
    this.down.set(event.pointerId, now);
    pane.viewer.refresh();
  }

  pinch(moving, before, now) {
    const other = [...this.down].find(([pointer]) => pointer !== moving)[1];
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    const { view } = this.pane.viewer;
    view.zoomAt(middle, apart(now) / Math.max(apart(before), 1), this.pane);
    view.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2, this.pane);
  }

  release(event) {
    const known = this.down.has(event.pointerId), alone = this.down.size === 1;
    if (!this.pane.film) return this.forget(event);
    const { pane } = this, measures = known && pane.rulers.begun;
    if (measures && this.moved) pane.rulers.finish();
    this.forget(event);
    if (measures || !known || !alone || this.moved || event.button !== 0 || event.shiftKey) return;
    const at = pane.viewer.view.place(pane).under(pane.point(event));
    if (pane.own && at.every((share) => share >= 0 && share < 1)) pane.viewer.ask(at);
  }

  forget(event) {
    this.down.delete(event.pointerId);
    if (!this.pane.keyed) this.pane.rulers.forgo();
    this.pane.viewer.refresh();
  }

  wheel(event) {
    const { pane } = this;
    if (!pane.film) return;
    event.preventDefault();
    const notches = event.deltaY / (event.deltaMode ? 3 : 100);
    pane.viewer.view.zoomAt(pane.point(event), 1.2 ** -notches, pane);
    pane.viewer.refresh();
  }
}
