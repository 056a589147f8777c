// The page of one execution: its feed drives the log, and says when the rest of the page has to be fetched again.
import { Feed } from "./feed.js";
import { Refresher, replace } from "./fragments.js";
import { Hosts } from "./hosts.js";
import { Log } from "./log.js";
import { openDialog, typing } from "./page.js";

const page = document.getElementById("execution");
const { id, lastSeq } = page.dataset;
const looks = JSON.parse(document.getElementById("looks").textContent);
const icons = document.body.dataset.icons;
const $ = (selector) => document.querySelector(selector);

const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", polling: "Polling", ended: "Ended" };

// --- tabs

const tabs = [...document.querySelectorAll("[role=tab]")];
let tab = "log";

function choose(name, remember = true) {
  tab = name;
  for (const button of tabs) {
    const chosen = button.id === `tab-${name}`;
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    document.getElementById(button.getAttribute("aria-controls")).hidden = !chosen;
  }
  hosts.show(name === "hosts");
  if (name === "waterfall" || name === "audit") refresher.soon();
  if (remember) history.replaceState(null, "", name === "log" ? location.pathname : `#${name}`);
}

for (const button of tabs) {
  button.addEventListener("click", () => choose(button.id.slice(4)));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(button) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
}

// --- the parts

const log = new Log({ looks, icons, live: !("final" in page.dataset) });
const hosts = new Hosts({ id, looks, icons, onCell: (target, label) => only({ id: target }, label) });

const refresher = new Refresher({
  address: () => {
    const names = ["header", "strip", "rail", "cancel", "retry"];
    if (tab === "waterfall" || tab === "audit") names.push(tab);
    return `/executions/${id}/fragments/?names=${names}`;
  },
  apply: (fresh) => {
    for (const part of fresh.querySelectorAll("[data-fragment]")) {
      const place = page.querySelector(`[data-fragment="${part.dataset.fragment}"]`);
      if (place) replace(place, part);
    }
    markStep();
  },
  stop: () => feed.ended,
});

const feed = new Feed({
  id,
  onItems: (items) => {
    log.take(items);
    if (items.some((item) => item.kind !== "output" && item.seq > Number(lastSeq)) || (feed.ended && items.length)) {
      refresher.soon();
      hosts.changed();
    }
    tellState();
  },
  onState: (state) => {
    const dot = $("[data-live]");
    dot.dataset.live = state;
    dot.querySelector("[data-live-word]").textContent = WORDS[state];
    tellState();
  },
});

/** "Complete" only when the server has said that there is nothing after what is shown. */
function tellState() {
  const element = $("#log-state");
  const upTo = feed.cursor.toLocaleString("en");
  let state = "loading";
  let text = `Loading, ${upTo} so far`;
  if (feed.removed) [state, text] = ["complete", feed.removed];
  else if (feed.ended) [state, text] = ["complete", `Complete: everything up to #${upTo} is shown`];
  else if (feed.state === "reconnecting") [state, text] = ["behind", `Shown up to #${upTo}; there may be more`];
  else if (feed.caughtUp) [state, text] = ["live", `Live, shown up to #${upTo}`];
  element.dataset.state = state;
  element.textContent = text;
  log.say(feed.removed || (feed.ended ? "Nothing was printed." : feed.caughtUp ? "Nothing has been printed yet." : ""));
}

// --- narrowing the log to a step or a host

let chosenStep = "";

function only({ step = "", id: target = 0 }, label) {
  chosenStep = step;
  const chip = $("#log-filter");
  chip.hidden = !step && !target;
  chip.querySelector("span").textContent = label;
  choose("log");
  log.narrow({ step, id: target });
  markStep();
}

function markStep() {
  for (const button of page.querySelectorAll("button.step")) button.setAttribute("aria-pressed", String(button.dataset.step === chosenStep));
}

page.addEventListener("click", (event) => {
  const step = event.target.closest("button.step")?.dataset.step;
  if (step !== undefined) only(step === chosenStep ? {} : { step }, step);
  if (event.target.closest("#log-filter button")) only({}, "");
});

// --- the toolbar

const search = $("#log-search");
let typed;
search.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    log.search(search.value);
    $("#log-only-box").hidden = !search.value.trim();
  }, 120);
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    log.nextMatch(event.shiftKey ? -1 : 1);
  }
});
$("#log-only").addEventListener("change", (event) => log.narrow({ only: event.target.checked }));
$("#log-stream").addEventListener("change", (event) => log.narrow({ stream: event.target.value }));
$("#log-times").addEventListener("change", (event) => log.box.toggleAttribute("data-times", event.target.checked));
$("#log-follow").addEventListener("click", () => log.follow(!log.following));

// --- keys

const KEYS = {
  f: () => (choose("log"), log.failure(1)),
  F: () => (choose("log"), log.failure(-1)),
  j: () => (choose("log"), log.follow(!log.following)),
  x: () => {
    const button = $("[data-dialog=cancel]");
    if (button && !button.disabled) openDialog("cancel");
  },
  "?": () => openDialog("keys"),
  "/": () => {
    const field = tab === "hosts" ? $("#hosts-search") : search;
    if (tab !== "hosts") choose("log");
    field.focus();
    field.select();
  },
};
["log", "hosts", "waterfall", "plan", "audit"].forEach((name, n) => (KEYS[n + 1] = () => choose(name)));

addEventListener("keydown", (event) => {
  if (typing(event) || document.querySelector("dialog[open]")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// --- the address: #hosts, #waterfall, ... or a line, #L123

function followAddress() {
  const line = /^#L(\d+)$/.exec(location.hash);
  if (line) {
    choose("log", false);
    if (Number(line[1]) <= log.lines.all.length) log.goTo(Number(line[1]) - 1);
    else log.wanted = Number(line[1]) - 1;
  } else if (document.getElementById(`tab-${location.hash.slice(1)}`)) choose(location.hash.slice(1), false);
}
addEventListener("hashchange", followAddress);
followAddress();
