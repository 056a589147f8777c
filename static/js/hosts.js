// Hosts x steps: only the rows that can be seen are in the document.
import { icon, make } from "./log.js";
import { span } from "./page.js";

const HEIGHT = 30;
const SPARE = 8;
const RANK = { failed: 0, timed_out: 0, unknown: 0, running: 1, cancelled: 2, pending: 3, skipped: 4, succeeded: 5 };
const BAD = new Set(["failed", "timed_out", "unknown"]);

export class Hosts {
  /** onCell(target id, label): a cell was chosen. */
  constructor({ id, looks, icons, onCell }) {
    Object.assign(this, { id, looks, icons, onCell, steps: [], hosts: [], shown: [], busy: false, stale: true, hidden: true });
    this.box = document.getElementById("matrix");
    this.head = make("div", "matrix-head");
    this.body = make("div", "matrix-body");
    this.rows = make("div", "matrix-rows");
    this.body.append(this.rows);
    this.box.append(this.head, this.body);
    this.find = document.getElementById("hosts-search");
    this.which = document.getElementById("hosts-show");
    this.count = document.getElementById("hosts-count");
    this.find.addEventListener("input", () => this.arrange());
    this.which.addEventListener("change", () => this.arrange());
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.rows.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.onCell(Number(cell.dataset.target), cell.dataset.label);
    });
  }

  show(visible) {
    this.hidden = !visible;
    if (visible && this.stale) this.refresh();
  }

  /** Something moved: fetch again, at most once a second, and only while somebody looks. */
  changed() {
    this.stale = true;
    if (!this.hidden && !this.timer) this.timer = setTimeout(() => this.refresh(), 1000);
  }

  async refresh() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.busy) return;
    this.busy = true;
    this.stale = false;
    try {
      const answer = await fetch(`/executions/${this.id}/hosts/`, { redirect: "error" });
      if (answer.ok) {
        const table = await answer.json();
        this.steps = table.steps.map(([id, key, kind, ...more]) => [id, kind === "rollback" ? `undo ${key}` : key, kind, ...more]);
        this.offerWaves();
        this.hosts = table.hosts.map(([name, cells]) => ({ name, cells, rank: Math.min(...cells.map((cell) => (cell ? RANK[cell[1]] : 9))) }));
        this.headings();
        this.arrange();
      }
    } catch {
      this.stale = true;
    }
    this.busy = false;
    if (this.stale) this.changed();
  }

  headings() {
    this.box.style.setProperty("--columns", this.steps.length);
    this.head.replaceChildren(make("span", "", "Host"), ...this.steps.map(([, key, kind]) => {
      const heading = make("span", kind === "rollback" ? "undoing" : "", key);
      heading.title = key;
      return heading;
    }));
  }

  /** A choice for each wave of each step that has some. */
  offerWaves() {
    if (this.which.querySelector("optgroup")) return;
    this.steps.forEach(([, key, , waves], column) => {
      if (waves < 2) return;
      const group = make("optgroup");
      group.label = `waves of ${key}`;
      for (let wave = 1; wave <= waves; wave += 1) group.append(new Option(`wave ${wave} of ${waves}`, `wave ${column} ${wave}`));
      this.which.append(group);
    });
  }

  arrange() {
    const words = this.find.value.trim().toLowerCase();
    const which = this.which.value;
    this.shown = this.hosts.filter(
      (host) =>
        host.name.toLowerCase().includes(words) &&
        (which !== "problems" || host.cells.some((cell) => cell && BAD.has(cell[1]))) &&
        (which !== "away" || host.cells.some((cell) => cell && cell[6])) &&
        (!which.startsWith("wave ") || host.cells[Number(which.split(" ")[1])]?.[5] === Number(which.split(" ")[2])) &&
        (which !== "running" || host.cells.some((cell) => cell && cell[1] === "running")),
    );
    const names = new Intl.Collator("en", { numeric: true });
    // Steps that need no host have a row without a name: it comes last, and is not counted.
    this.shown.sort((a, b) => !a.name - !b.name || (which === "name" ? 0 : a.rank - b.rank) || names.compare(a.name, b.name));
    const named = (hosts) => hosts.filter((host) => host.name).length.toLocaleString("en");
    const bad = this.hosts.filter((host) => host.rank === 0).length;
    this.count.textContent = `${named(this.shown)} of ${named(this.hosts)} hosts${bad ? `, ${bad.toLocaleString("en")} with a failure` : ""}`;
    this.body.style.height = `${this.shown.length * HEIGHT}px`;
    this.draw();
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const top = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
      const end = Math.min(this.shown.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
      const fresh = [];
      for (let n = top; n < end; n += 1) fresh.push(this.row(this.shown[n]));
      this.rows.style.transform = `translateY(${top * HEIGHT}px)`;
      this.rows.replaceChildren(...fresh);
    });
  }

  row({ name, cells }) {
    const row = make("div", "matrix-row");
    const host = make("span", "host", name || "no host");
    host.title = name;
    row.append(host);
    cells.forEach((cell, column) => {
      if (!cell) {
        row.append(make("span"));
        return;
      }
      const [target, status, code, attempt, seconds, wave, away] = cell;
      const look = away ? { ...this.looks[status], word: "Unreachable" } : this.looks[status];
      const element = make("button", "cell");
      const facts = [away ? look.word : code !== null && code !== 0 ? `exit ${code}` : seconds !== null ? span(seconds) : "", attempt > 1 ? `×${attempt}` : ""].filter(Boolean);
      Object.assign(element.dataset, { status, target, label: [name, this.steps[column][1]].filter(Boolean).join(" · ") });
      element.type = "button";
      element.title = `${name} · ${this.steps[column][1]}: ${look.word}${code !== null ? `, exit code ${code}` : ""}${attempt > 1 ? `, attempt ${attempt}` : ""}${wave ? `, wave ${wave} of ${this.steps[column][3]}` : ""}`;
      element.append(icon(this.icons, look.icon), make("span", "", `${facts.join(" ") || look.word}${wave ? ` · w${wave}` : ""}`));
      row.append(element);
    });
    return row;
  }
}
