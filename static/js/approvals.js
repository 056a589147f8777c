// What waits for approvals, kept fresh, and decided on with the keyboard.
import { count } from "./badge.js";
import { Refresher, replace } from "./fragments.js";
import { openDialog, typing } from "./page.js";
import { Socket } from "./socket.js";

const list = document.getElementById("waiting");
const dot = document.querySelector("[data-live]");

const refresher = new Refresher({
  address: () => "?fragment=1",
  apply: (fresh) => {
    // Nothing moves under somebody's hands: what is open stays open, and where one was one stays.
    if (document.querySelector("dialog[open]")) return;
    const at = current()?.dataset.ask;
    const open = new Map(cards().map((card) => [card.dataset.ask, card.querySelector("details").open]));
    if (!replace(list, fresh.body)) return;
    for (const card of cards()) if (open.has(card.dataset.ask)) card.querySelector("details").open = open.get(card.dataset.ask);
    if (at) cards().find((card) => card.dataset.ask === at)?.focus({ preventScroll: true });
  },
});

function cards() {
  return [...list.querySelectorAll("[data-ask]")];
}

function current() {
  return document.activeElement?.closest?.("[data-ask]");
}

function show(state, word) {
  dot.dataset.live = state;
  dot.querySelector("[data-live-word]").textContent = word;
}

new Socket({
  address: () => "/ws/executions/",
  onMessage: (news) => {
    if (!news.changed.length) return;
    refresher.soon();
    count();
  },
  onState: (state, code) => {
    if (state === "open") {
      show("live", "Live");
      refresher.soon();
    } else if (state === "lost") {
      if (code === 4401) location.reload();
      show("reconnecting", "Reconnecting");
    }
  },
});

/** Ask once more before a decision, with what it is about. */
function decide(button) {
  if (!button || button.disabled) return;
  const dialog = document.getElementById(`dialog-${button.dataset.decide}`);
  const form = dialog.querySelector("form");
  form.action = button.dataset.action;
  form.elements.step.value = button.dataset.step;
  form.elements.wave.value = button.dataset.wave; // what was shown: by now another wave may wait
  form.elements.comment.value = "";
  dialog.querySelector("[data-what]").textContent = button.dataset.named;
  openDialog(button.dataset.decide);
}

list.addEventListener("click", (event) => decide(event.target.closest("[data-decide]")));

function step(by) {
  const all = cards();
  const at = all.indexOf(current());
  const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  a: () => decide((current() ?? cards()[0])?.querySelector("[data-decide=approve]")),
  r: () => decide((current() ?? cards()[0])?.querySelector("[data-decide=refuse]")),
  Enter: () => {
    const details = current()?.querySelector("details");
    if (details) details.open = !details.open;
  },
  "?": () => openDialog("keys"),
};

addEventListener("keydown", (event) => {
  if (typing(event) || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && !event.target.matches("[data-ask]")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
