// Films on their way to the server: dropped anywhere on a page that asks for them, or chosen.
//
// The browser's tab sends them, not what is drawn on it: a page that is drawn anew meanwhile, or
// left, loses none. Python (arrivals.py) takes what came whenever its page runs, and is told to run
// after every few files; as long as it has not taken much of what was sent, no more is sent. What
// cannot be sent is said, until the reader closes it.

const AT_ONCE = 4; // files sent together
const TELL = { files: 8, bytes: 2 ** 26 }; // so much came before Python is told, unless it is the last
const AHEAD = 2 ** 27; // bytes sent and not taken, beyond which nothing more is sent
const UNHEARD = 30000; // milliseconds after which Python is told once more
const WAITS = [500, 1500, 3000]; // milliseconds before a file is sent again
const LONG = 300000; // milliseconds that sending a file may take, and a second for every 50 kB
const BETWEEN = 5000; // milliseconds that a page may take to ask for films in the place of another
const CAME = "came"; // heard by arrivals.py
const TOKEN = /(?:^|; )_streamlit_xsrf=([^;]*)/; // Streamlit's own, which it wants back

// Why a file did not arrive, by the status of the answer; 0 where there was none.
const WHY = {
  0: "the file or the server cannot be reached. Drop it again.",
  401: "you are not let in. Sign in again, then drop it again.",
  403: "you are not let in. Sign in again, then drop it again.",
  408: "sending it took too long. Drop it again.",
  413: "it is larger than this server, or what stands before it, takes.",
};
const UNANSWERED = "the server does not answer for this page. Drop it again, or reload the page.";
// A server that is busy, starts, or is being reached again answers better a little later.
const passing = (status) => status === 0 || status === 400 || status >= 500;
const wait = (time) => new Promise((done) => setTimeout(done, time));
const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

class Intake {
  constructor() {
    this.waiting = [];
    this.sending = this.sent = this.all = 0;
    this.lost = [];
    this.down = false; // the last file had no answer, though it was sent again and again
    this.untold = []; // bytes of each file that came since Python was told
    this.told = []; // and of those that it was told of and has not taken
    this.ahead = 0; // bytes of both, and of what is being sent
  }

  // Show it where a page asks for films now.
  mount(root, data, tell) {
    const anew = !this.root || this.address !== data.address;
    Object.assign(this, { root, tell, ...data });
    if (data.heard === this.number) this.ahead -= sum(this.told.splice(0));
    else if (anew) this.forget(this.number);
    const find = (selector) => root.querySelector(selector);
    root.classList.toggle("large", data.large);
    find(".label").textContent = data.label;
    find(".hint").textContent = data.hint;
    find("button[name=folder]").hidden = !data.folder;
    for (const name of ["films", "folder"]) {
      const input = find(`input[name=${name}]`);
      find(`button[name=${name}]`).onclick = () => input.click();
      input.onchange = () => {
        this.take([...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
        input.value = ""; // else the same film chosen again would go unnoticed
      };
    }
    find("button[name=close]").onclick = () => {
      this.lost = [];
      this.draw();
    };
    this.next();
  }

  unmount(root) {
    if (this.root === root) Object.assign(this, { root: null, tell: null, left: Date.now() });
  }

  get asks() {
    return this.root || Date.now() - this.left < BETWEEN;
  }

  get busy() {
    return this.sending > 0 || this.waiting.length > 0;
  }

  // Send files that came together, each with the name it goes by.
  take(files) {
    if (!this.busy) this.sent = this.all = 0;
    const drop = SHARED.number + 1;
    for (const [name, file] of files) {
      if (file.size > this.most) {
        const [size, most] = [file.size, this.most].map((bytes) => Math.ceil(bytes / 2 ** 20));
        this.lost.push(`${name} was left out: it has ${size} MB, the limit is ${most} MB.`);
      } else {
        // Numbered, so that films are listed as they were dropped, whichever is the first to come.
        const number = String((SHARED.number += 1)).padStart(15, "0");
        this.waiting.push([name, file, `${this.place}-${number}-of-${drop}`]);
        this.all += 1;
      }
    }
    this.next();
  }

  next() {
    while (this.sending < AT_ONCE && this.waiting.length && this.ahead < AHEAD) {
      this.send(...this.waiting.shift());
    }
    const enough = this.untold.length >= TELL.files || sum(this.untold) >= TELL.bytes;
    if (this.tell && this.untold.length && !this.told.length && (enough || !this.sending)) {
      this.told = this.untold.splice(0);
      const number = (this.number = SHARED.number += 1);
      setTimeout(() => this.forget(number), UNHEARD);
      this.tell(CAME, number);
    }
    this.draw();
  }

  // Tell Python once more if it did not hear: it may have left the page, or been away.
  forget(number) {
    if (number !== this.number || !this.told.length) return;
    this.untold.unshift(...this.told.splice(0));
    this.next();
  }

  async send(name, file, id) {
    this.sending += 1;
    this.ahead += file.size;
    let status = await this.put(name, file, id);
    for (const time of this.down ? [] : WAITS) {
      if (!passing(status)) break;
      await wait(time);
      status = await this.put(name, file, id);
    }
    this.down = passing(status);
    if (status === 204) {
      this.untold.push(file.size);
    } else {
      this.ahead -= file.size;
      this.lost.push(`${name} did not arrive: ${WHY[status] ?? UNANSWERED}`);
    }
    this.sending -= 1;
    this.sent += 1;
    this.next();
  }

  // Send one file; return the status of the answer, 0 where there was none. 204 says that it came.
  async put(name, file, id) {
    try {
      const body = new FormData();
      body.append("film", file, name);
      const token = document.cookie.match(TOKEN)?.[1] ?? "";
      const answer = await fetch(`${home()}${this.address}/${id}`, {
        method: "PUT", body, headers: { "X-Xsrftoken": token },
        signal: AbortSignal.timeout(LONG + file.size / 50),
      });
      return answer.status;
    } catch (error) {
      return error.name === "TimeoutError" ? 408 : 0;
    }
  }

  draw() {
    if (!this.root) return;
    const doing = this.root.querySelector(".doing");
    const text = this.busy ? `Sending ${this.sent + 1} of ${this.all}` : this.note;
    if (doing.textContent !== text) doing.textContent = text; // else it would be read out again
    this.root.querySelector(".lost").hidden = !this.lost.length;
    this.root.querySelector(".lost ul").replaceChildren(...this.lost.map((sentence) =>
      Object.assign(document.createElement("li"), { textContent: sentence })));
  }
}

// Where the app lies: its own scripts know, whatever page is shown and whatever is before it.
function home() {
  const script = document.querySelector("script[src*='static/js/']");
  return new URL("../..", script?.src ?? new URL("/static/js/", location)).href.replace(/\/$/, "");
}

// Go through what was dropped, folders and all; what is hidden there is no film.
async function files(items) {
  const held = [...items].filter((item) => item.kind === "file"); // the list is empty after a wait
  const found = held.map((item) => {
    const entry = item.webkitGetAsEntry?.(), file = item.getAsFile();
    return entry?.isDirectory ? within(entry) : [[file.name, file]];
  });
  return (await Promise.all(found)).flat();
}

async function within(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) return [[name, await new Promise((...told) => entry.file(...told))]];
  const reader = entry.createReader(), found = [];
  for (;;) { // a hundred at a time, as browsers hand them out
    const some = await new Promise((...told) => reader.readEntries(...told));
    if (!some.length) break;
    found.push(...some.filter((one) => !one.name.startsWith(".")));
  }
  return (await Promise.all(found.map(within))).flat();
}

// Hear of drops for as long as the tab lives: what is dropped while pages change is taken, too,
// and never opened in the place of the app. A picture dragged within the page is no film.
function listening(shared) {
  let ours = false;
  const carries = (event) =>
    !event.defaultPrevented && event.dataTransfer?.types.includes("Files");
  const wanted = () => !ours && shared.last.asks;
  const over = (is) => shared.last.root?.classList.toggle("over", is);
  document.addEventListener("dragstart", () => (ours = true));
  for (const end of ["dragend", "pointermove"]) { // what was dragged may be gone before its end
    document.addEventListener(end, () => (ours = false));
  }
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    if (wanted()) over(true);
    else event.dataTransfer.dropEffect = "none";
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || over(false));
  document.addEventListener("drop", async (event) => {
    over(false);
    if (!carries(event)) return;
    event.preventDefault();
    if (!wanted()) return;
    try {
      shared.held.push(await files(event.dataTransfer.items));
      if (shared.last.root) hand(shared.last);
      else setTimeout(() => hand(shared.last), BETWEEN); // unless a page asks before
    } catch {
      shared.last.lost.push("Something of what was dropped cannot be opened. Drop it again.");
      shared.last.draw();
    }
  });
  return shared;
}

// Give a place what was dropped, also while pages changed.
function hand(intake) {
  for (const dropped of SHARED.held.splice(0)) intake.take(dropped);
}

const SHARED = (globalThis.cxrIntake ??= listening({
  places: {},
  last: null, // the place that asks, or did
  held: [], // what was dropped and no place has yet
  number: Date.now(), // counted on from there, so that a tab that is loaded again repeats none
}));

export default function ask({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".intake");
  const intake = (SHARED.places[data.place] ??= new Intake());
  SHARED.last = intake;
  intake.mount(root, data, setTriggerValue);
  hand(intake);
  return () => intake.unmount(root);
}
