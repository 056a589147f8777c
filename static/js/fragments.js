// The parts of a page that the server renders: fetched again when something changed, soon but not often, and every 30 s.
import { noteRefresh } from "./page.js";

const SOON = 250;
const PAUSE = 1000;
const ALWAYS = 30_000;

export class Refresher {
  /** address(): what to fetch; apply(document): put it in place. */
  constructor({ address, apply, stop = () => false }) {
    Object.assign(this, { address, apply, stop, last: 0, busy: false, wanted: false });
    setInterval(() => document.hidden || this.stop() || this.soon(), ALWAYS);
    document.addEventListener("visibilitychange", () => document.hidden || this.soon());
  }

  soon() {
    this.wanted = true;
    if (this.timer || this.busy) return;
    const pause = Math.max(SOON, this.last + PAUSE - Date.now());
    this.timer = setTimeout(() => this.fetch(), pause);
  }

  async fetch() {
    this.timer = null;
    this.wanted = false;
    this.busy = true;
    this.last = Date.now();
    try {
      const answer = await fetch(this.address(), { redirect: "error", headers: { Accept: "text/html" } });
      if (answer.ok) {
        this.apply(new DOMParser().parseFromString(await answer.text(), "text/html"));
        noteRefresh();
      }
    } catch {
      // The connection's dot says that there is none; the next news, or half a minute, tries again.
    }
    this.busy = false;
    if (this.wanted) this.soon();
  }
}

const source = new WeakMap();

/** Put new content in place when it differs, and keep the focus on the control that had it. */
export function replace(element, fresh) {
  const html = fresh.innerHTML;
  if (source.get(element) === html) return false;
  source.set(element, html);
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const index = focused ? [...element.querySelectorAll("a, button")].indexOf(focused) : -1;
  element.replaceChildren(...fresh.childNodes);
  if (index >= 0) element.querySelectorAll("a, button")[index]?.focus({ preventScroll: true });
  return true;
}
