// The log: only the lines that can be seen are in the document, so that 100,000 of them are as quick as a hundred.
import { pieces, plain } from "./ansi.js";
import { Lines } from "./lines.js";

const HEIGHT = 20;
const SPARE = 12; // lines above and below what is visible

export class Log {
  constructor({ looks, icons, live }) {
    this.box = document.getElementById("log");
    this.spacer = this.box.querySelector(".log-spacer");
    this.rows = this.box.querySelector(".log-rows");
    this.note = this.box.querySelector(".log-empty");
    this.count = document.getElementById("log-count");
    this.matchText = document.getElementById("log-matches");
    this.followButton = document.getElementById("log-follow");
    Object.assign(this, { looks, icons, lines: new Lines(), view: null, needle: "", matches: [], match: -1, here: -1 });
    Object.assign(this, { filter: { step: "", id: 0, stream: "", only: false }, drawn: [-1, -1], following: false });
    this.wanted = Number(/^#L(\d+)$/.exec(location.hash)?.[1] ?? 0) - 1; // the line that the address names
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw(true)).observe(this.box);
    this.rows.addEventListener("click", (event) => this.clicked(event));
    this.box.lines = this.lines.all; // all of them, for the browser's console: the document holds only what is visible
    this.follow(live && this.wanted < 0);
  }

  // --- what is shown

  get length() {
    return this.view ? this.view.length : this.lines.all.length;
  }

  index(row) {
    return this.view ? this.view[row] : row;
  }

  /** The row of a line, or of the first shown line after it. */
  row(index) {
    if (!this.view) return index;
    let low = 0;
    let high = this.view.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.view[middle] < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  take(items) {
    const { first, grown } = this.lines.take(items);
    this.extend(first, grown);
    if (this.wanted >= 0 && this.wanted < this.lines.all.length) {
      const line = this.wanted;
      this.wanted = -1;
      this.goTo(line);
    }
    this.box.toggleAttribute("data-one-source", this.lines.sources.size < 2);
  }

  extend(first, grown = new Set()) {
    const all = this.lines.all;
    for (const index of grown) if (this.needle && !this.matches.includes(index) && this.found(all[index])) this.rebuild = true;
    if (this.rebuild) {
      this.rebuild = false;
      this.refilter();
      return;
    }
    for (let n = first; n < all.length; n += 1) {
      const matches = this.needle && this.passes(all[n]) && this.found(all[n]);
      if (matches) this.matches.push(n);
      if (this.view && this.passes(all[n]) && (!this.filter.only || !this.needle || matches)) this.view.push(n);
    }
    this.resized();
  }

  refilter() {
    const { step, id, stream, only } = this.filter;
    const all = this.lines.all;
    const narrowed = step || id || stream || (only && this.needle);
    this.view = narrowed ? [] : null;
    this.matches = [];
    for (let n = 0; n < all.length; n += 1) {
      if (!this.passes(all[n])) continue;
      const matches = this.needle && this.found(all[n]);
      if (matches) this.matches.push(n);
      if (this.view && (matches || !only || !this.needle)) this.view.push(n);
    }
    this.match = Math.min(this.match, this.matches.length - 1);
    this.resized();
  }

  passes(line) {
    const { step, id, stream } = this.filter;
    if (id && line.source.id !== id) return false;
    if (step && line.source.step !== step) return false;
    if (stream === "output") return !line.event;
    return !stream || line.stream === stream;
  }

  found(line) {
    return plain(line.text).toLowerCase().includes(this.needle);
  }

  resized() {
    this.spacer.style.height = `${this.length * HEIGHT}px`;
    const total = this.lines.all.length;
    this.count.textContent = this.view ? `${this.length.toLocaleString("en")} of ${total.toLocaleString("en")} lines` : `${total.toLocaleString("en")} line${total === 1 ? "" : "s"}`;
    this.tellMatches();
    if (this.following) this.box.scrollTop = this.box.scrollHeight;
    this.draw(true);
  }

  // --- drawing

  draw(force = false) {
    if (!force && this.frame) return;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const top = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
      const end = Math.min(this.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
      if (!force && this.drawn[0] === top && this.drawn[1] === end) return;
      this.drawn = [top, end];
      const fresh = [];
      for (let row = top; row < end; row += 1) fresh.push(this.line(this.index(row)));
      this.rows.style.transform = `translateY(${top * HEIGHT}px)`;
      this.rows.replaceChildren(...fresh);
    });
  }

  line(index) {
    const line = this.lines.all[index];
    const element = make("div", line.event ? "line event" : line.stream === "stderr" ? "line err" : "line");
    if (index === this.here) element.classList.add("here");
    if (this.matches[this.match] === index) element.classList.add("now");
    const number = make("a", "no", String(index + 1));
    number.href = `#L${index + 1}`;
    element.append(number, make("span", "at", line.at.slice(11, 23)));
    element.append(this.source(line), make("span", "st", line.event ? "" : line.stream === "stderr" ? "err" : "out"));
    const text = make("span", "tx");
    if (line.event) {
      element.dataset.status = line.status;
      text.append(icon(this.icons, this.looks[line.status]?.icon || "dot"), this.marked(plain(line.text)));
      if (line.why) text.append(make("span", "why", plain(line.why)));
    } else {
      for (const [part, names, colour, ground] of pieces(line.text)) {
        const piece = names || colour || ground ? make("span", names) : document.createDocumentFragment();
        if (colour) piece.style.color = colour;
        if (ground) piece.style.backgroundColor = ground;
        piece.append(this.marked(part));
        text.append(piece);
      }
    }
    element.append(text);
    return element;
  }

  /** Whose line it is: the host where there are several, else the step. */
  source(line) {
    const { source } = line;
    const element = make("span", "src", line.event ? "" : this.lines.hosts.size > 1 ? source.target : source.step);
    if (!line.event) element.title = source.label;
    return element;
  }

  marked(text) {
    if (!this.needle) return document.createTextNode(text);
    const parts = document.createDocumentFragment();
    const lower = text.toLowerCase();
    let at = 0;
    for (let next = lower.indexOf(this.needle); next >= 0; next = lower.indexOf(this.needle, at)) {
      parts.append(text.slice(at, next), make("mark", "", text.slice(next, next + this.needle.length)));
      at = next + this.needle.length;
    }
    parts.append(text.slice(at));
    return parts;
  }

  // --- moving

  goTo(index) {
    this.follow(false);
    this.here = index;
    this.box.scrollTop = Math.max(0, this.row(index) * HEIGHT - this.box.clientHeight / 3);
    this.draw(true);
  }

  follow(on) {
    this.following = on;
    this.followButton.setAttribute("aria-pressed", String(on));
    if (on) this.box.scrollTop = this.box.scrollHeight;
  }

  scrolled() {
    const atEnd = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 2 * HEIGHT;
    if (this.following && !atEnd && this.box.scrollTop < (this.lastTop ?? 0)) this.follow(false);
    this.lastTop = this.box.scrollTop;
    this.draw();
  }

  clicked(event) {
    const number = event.target.closest(".no");
    if (!number) return;
    event.preventDefault();
    this.here = Number(number.textContent) - 1;
    history.replaceState(null, "", number.getAttribute("href"));
    this.draw(true);
  }

  /** The next failure after where we are, or the one before. */
  failure(step) {
    const shown = this.lines.failures.filter((index) => this.passes(this.lines.all[index]));
    if (!shown.length) return false;
    const at = this.here;
    const next = step > 0 ? shown.find((index) => index > at) ?? shown[0] : shown.findLast((index) => index < at) ?? shown.at(-1);
    this.goTo(next);
    return true;
  }

  // --- searching and narrowing

  search(text) {
    this.needle = text.trim().toLowerCase();
    this.match = -1;
    this.refilter();
    if (this.needle && this.matches.length) this.nextMatch(1, true);
  }

  nextMatch(step, fromView = false) {
    if (!this.matches.length) return;
    if (fromView) {
      const top = this.index(Math.floor(this.box.scrollTop / HEIGHT)) ?? 0;
      const next = this.matches.findIndex((index) => index >= top);
      this.match = next < 0 ? 0 : next;
    } else this.match = (this.match + step + this.matches.length) % this.matches.length;
    this.goTo(this.matches[this.match]);
    this.tellMatches();
  }

  tellMatches() {
    const total = this.matches.length.toLocaleString("en");
    this.matchText.textContent = !this.needle ? "" : this.matches.length ? `${this.match + 1} of ${total}` : "no match";
  }

  narrow(changes) {
    Object.assign(this.filter, changes);
    this.refilter();
    if (!this.following) this.box.scrollTop = 0;
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text || this.length > 0;
  }
}

export function make(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function icon(file, name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${file}#${name}`);
  svg.append(use);
  return svg;
}
