// The list of executions, kept fresh.
import { Socket } from "./socket.js";
import { Refresher, replace } from "./fragments.js";
import { typing } from "./page.js";

const list = document.getElementById("list");
const dot = document.querySelector("[data-live]");

const refresher = new Refresher({
  address: () => {
    const address = new URL(location.href);
    address.searchParams.set("fragment", "1");
    return address;
  },
  apply: (fresh) => {
    const before = statuses();
    if (!replace(list, fresh.body)) return;
    for (const row of list.querySelectorAll("tr[data-id]")) row.classList.toggle("fresh", before.get(row.dataset.id) !== row.dataset.now);
  },
});

function statuses() {
  return new Map([...list.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row.dataset.now]));
}

function show(state, word) {
  dot.dataset.live = state;
  dot.querySelector("[data-live-word]").textContent = word;
}

new Socket({
  address: () => "/ws/executions/",
  onMessage: (news) => {
    if (news.changed.length) refresher.soon();
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

addEventListener("keydown", (event) => {
  if (typing(event) || !["j", "k"].includes(event.key)) return;
  const links = [...list.querySelectorAll(".row-link")];
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at + (event.key === "j" ? 1 : -1)))]?.focus();
});
