// Pages of the admin that refresh themselves: every 5 s, or as `data-every` says, their parts are fetched again.
import { noteRefresh, openDialog, typing } from "./page.js";

const root = document.querySelector("[data-live-page]");
const EVERY = Number(root.dataset.every ?? 5000);
const dot = root.querySelector("[data-live-dot]");
const word = root.querySelector("[data-live-word]");
const shown = new Map();
let busy = false;

function show(state, text) {
  dot.dataset.liveDot = state;
  if (word.textContent !== text) word.textContent = text;
}

/** Why the page must stay as it is just now; empty when it need not. */
function paused() {
  if (document.querySelector("dialog[open]")) return "Paused: a dialog is open";
  const selection = getSelection();
  if (selection.toString() && root.contains(selection.anchorNode)) return "Paused: text is selected";
  return "";
}

async function refresh() {
  if (busy || document.hidden) return;
  const why = paused();
  if (why) return show("paused", why);
  busy = true;
  try {
    const address = new URL(location.href);
    address.hash = "";
    address.searchParams.set("fragment", "1");
    const answer = await fetch(address, { redirect: "error", headers: { Accept: "text/html" }, signal: AbortSignal.timeout(20_000) });
    if (answer.status === 403) return show("lost", "You may not see this any more");
    if (!answer.ok) return show("lost", `Not refreshed: the server answered ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const since = paused();
    if (since) return show("paused", since);
    for (const part of fresh.querySelectorAll("[data-part]")) put(part);
    noteRefresh();
    show("live", "Live");
  } catch {
    show("lost", "Not refreshed: the server cannot be reached");
  } finally {
    busy = false;
  }
}

/** Put a part in place, and leave to people what is theirs: focus, ticks, how far a table is scrolled. */
function put(fresh) {
  const part = root.querySelector(`[data-part="${fresh.dataset.part}"]`);
  if (!part || shown.get(part) === fresh.innerHTML) return;
  shown.set(part, fresh.innerHTML);
  const controls = "a, button, input, [tabindex]";
  const focused = part.contains(document.activeElement) ? [...part.querySelectorAll(controls)].indexOf(document.activeElement) : -1;
  const same = focused < 0 ? null : key(document.activeElement);
  const ticked = new Set([...part.querySelectorAll("input[data-id]:checked")].map((box) => box.dataset.id));
  const scrolled = new Map([...part.querySelectorAll("[data-keep]")].map((box) => [box.dataset.keep, [box.scrollLeft, box.scrollTop]]));
  part.replaceChildren(...fresh.childNodes);
  for (const box of part.querySelectorAll("input[data-id]")) box.checked = ticked.has(box.dataset.id);
  for (const box of part.querySelectorAll("[data-keep]")) [box.scrollLeft, box.scrollTop] = scrolled.get(box.dataset.keep) ?? [0, 0];
  label(part);
  count();
  if (focused < 0) return;
  const all = [...part.querySelectorAll(controls)];
  (all.find((control) => same && key(control) === same) ?? all[focused])?.focus({ preventScroll: true });
}

/** On a narrow screen each cell stands below the other, and carries the heading of its column. */
function label(within) {
  for (const table of within.querySelectorAll(".lp-table")) {
    const headings = [...table.tHead.rows[0].cells].map((cell) => (cell.querySelector(".lp-sr, input") ? "" : cell.textContent.trim()));
    for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, at) => { cell.dataset.label = headings[at] ?? ""; });
  }
}

/** What makes a control the same one after rows came and went. */
function key(control) {
  const { href, dataset } = control;
  return href || JSON.stringify({ ...dataset }) + control.getAttribute("aria-label") + control.textContent;
}

function boxes() {
  return [...root.querySelectorAll("input[data-id]")];
}

/** The buttons say how many they are for. */
function count() {
  const chosen = boxes().filter((box) => box.checked).length;
  const all = root.querySelector("[data-all]");
  if (all) {
    all.checked = chosen > 0 && chosen === boxes().length;
    all.indeterminate = chosen > 0 && !all.checked;
  }
  for (const button of root.querySelectorAll("[data-selected]")) {
    button.disabled = chosen === 0;
    const label = (button.dataset.label ??= button.textContent.trim());
    button.lastChild.textContent = chosen ? `${label} (${chosen})` : label;
  }
}

root.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) for (const box of boxes()) box.checked = event.target.checked;
  if (event.target.matches("[data-all], input[data-id]")) count();
});

// Before page.js: a dialog is opened with nothing of the last one in it.
addEventListener("click", (event) => {
  const opener = event.target.closest?.("[data-dialog]");
  const dialog = opener && document.getElementById(`dialog-${opener.dataset.dialog}`);
  for (const field of dialog?.querySelectorAll("input[type=hidden]:not([name=csrfmiddlewaretoken])") ?? []) field.value = "";
  for (const field of dialog?.querySelectorAll("select") ?? []) field.value = opener.dataset[field.name] ?? field.value;
  for (const text of dialog?.querySelectorAll("output[data-says]") ?? []) text.textContent = opener.dataset[text.dataset.says];
  const selected = event.target.closest?.("[data-selected]");
  if (!selected || selected.disabled) return;
  const ids = boxes().filter((box) => box.checked).map((box) => box.dataset.id);
  openDialog(selected.dataset.selected, { ids: ids.join(","), host: "", what: ids.length === 1 ? "1 worker" : `${ids.length} workers` });
}, { capture: true });

addEventListener("keydown", (event) => {
  if (event.key === "r" && !typing(event) && !document.querySelector("dialog[open]")) refresh();
});

document.addEventListener("close", refresh, { capture: true });
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, EVERY);
label(root);
count();
