// Films on their way to the server: dropped anywhere on a page that asks for them, or chosen.
//
// The browser's tab sends them, not what is drawn on it: a page that is drawn anew meanwhile, or
// left, loses none. Python (arrivals.py) takes what came whenever its page runs, and is told to run
// once all is sent. What cannot be sent is said, until the reader closes it.

const AT_ONCE = 4; // files sent together
const BETWEEN = 5000; // milliseconds that a page may take to ask for films in the place of another
const CAME = "came"; // heard by arrivals.py
const TOKEN = /(?:^|; )_streamlit_xsrf=([^;]*)/; // Streamlit's own, which it wants back
const UNREACHED = "the file or the server cannot be reached. Drop it again.";
const UNKNOWN = "the server does not know this page any more. Reload it, and drop it again.";

class Intake {
  constructor() {
    this.waiting = [];
    this.sending = this.sent = this.all = 0;
    this.lost = [];
    this.untold = false; // something came since Python was told
  }

  // Show it where a page asks for films now.
  mount(root, data, tell) {
    Object.assign(this, { root, tell, ...data });
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

  // Send files, each with the name it goes by.
  take(files) {
    if (!this.sending) this.sent = this.all = 0;
    for (const [name, file] of files) {
      if (file.size > this.most) {
        const [size, most] = [file.size, this.most].map((bytes) => Math.ceil(bytes / 2 ** 20));
        this.lost.push(`${name} was left out: it has ${size} MB, the limit is ${most} MB.`);
      } else {
        // Numbered, so that films are listed as they were dropped, whichever is the first to come.
        const number = String((SHARED.number += 1)).padStart(15, "0");
        this.waiting.push([name, file, `${this.place}-${number}`]);
        this.all += 1;
      }
    }
    this.next();
  }

  next() {
    while (this.sending < AT_ONCE && this.waiting.length) this.send(...this.waiting.shift());
    if (!this.sending && this.untold && this.tell) {
      this.untold = false;
      this.tell(CAME, SHARED.number);
    }
    this.draw();
  }

  async send(name, file, id) {
    this.sending += 1;
    let why = "";
    try {
      const body = new FormData();
      body.append("film", file, name);
      const token = document.cookie.match(TOKEN)?.[1] ?? "";
      const answer = await fetch(`${home()}${this.address}/${id}`,
        { method: "PUT", body, headers: { "X-Xsrftoken": token } });
      if (!answer.ok) why = UNKNOWN;
    } catch {
      why = UNREACHED;
    }
    if (why) this.lost.push(`${name} did not arrive: ${why}`);
    else this.untold = true;
    this.sending -= 1;
    this.sent += 1;
    this.next();
  }

  draw() {
    if (!this.root) return;
    const doing = this.root.querySelector(".doing");
    const text = this.sending ? `Sending ${this.sent + 1} of ${this.all}` : this.note;
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
// and never opened in the place of the app.
function listening(shared) {
  const carries = (event) =>
    !event.defaultPrevented && event.dataTransfer?.types.includes("Files");
  const over = (is) => shared.last?.root?.classList.toggle("over", is);
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || over(false));
  document.addEventListener("drop", async (event) => {
    over(false);
    if (!carries(event)) return;
    event.preventDefault();
    const intake = shared.last;
    if (!intake.asks) return;
    try {
      intake.take(await files(event.dataTransfer.items));
    } catch {
      intake.lost.push("Something of what was dropped cannot be opened. Drop it again.");
      intake.draw();
    }
  });
  return shared;
}

const SHARED = (globalThis.cxrIntake ??= listening({
  places: {},
  last: null,
  number: Date.now(), // counted on from there, so that a tab that is loaded again repeats none
}));

export default function ask({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".intake");
  const intake = (SHARED.places[data.place] ??= new Intake());
  SHARED.last = intake;
  intake.mount(root, data, setTriggerValue);
  return () => intake.unmount(root);
}
