// On every page: times that go on counting, dialogs, the key that leads to the search.

const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

/** A length of time in seconds as the server writes it: "40 ms", "1.2 s", "12 s", "3 min 20 s". */
export function span(seconds) {
  if (seconds < 1) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.floor(seconds);
  for (const [size, unit, smaller, smallUnit] of UNITS) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
    }
  }
  return `${whole} s`;
}

function tick() {
  const now = Date.now();
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = span(Math.max(1, (now - Date.parse(element.dataset.since)) / 1000));
  }
  for (const element of document.querySelectorAll("[data-ago]")) {
    const seconds = Math.max(0, Math.floor((now - Date.parse(element.dateTime)) / 1000));
    element.textContent = `${seconds < 60 ? `${seconds} s` : span(seconds)} ago`;
  }
  for (const element of document.querySelectorAll("[data-until]")) {
    const seconds = (Date.parse(element.dateTime) - now) / 1000;
    element.textContent = seconds > 0 ? span(Math.max(1, Math.round(seconds))) : "none";
    element.toggleAttribute("data-soon", seconds < 60);
  }
  for (const element of document.querySelectorAll("[data-grows]")) {
    const part = (now - Date.parse(element.dataset.from)) / 1000 / Number(element.dataset.grows);
    element.setAttribute("width", Math.round(1000 * Math.max(0, Math.min(1, part))));
    if (part > 1) element.dataset.late = "";
  }
}
setInterval(tick, 1000);

/** Whether keys are being typed into something. */
export function typing(event) {
  return event.target.closest?.("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey;
}

export function openDialog(name, data = {}) {
  const dialog = document.getElementById(`dialog-${name}`);
  if (!dialog || dialog.open) return;
  for (const [key, value] of Object.entries(data)) {
    const field = dialog.querySelector(`input[name="${key}"]`);
    if (field) field.value = value;
    for (const text of dialog.querySelectorAll(`[data-${key}-text]`)) text.hidden = text.dataset[`${key}Text`] !== value;
    const label = dialog.querySelector(`[data-${key}-name]`);
    if (label) label.textContent = `${value}?`;
  }
  dialog.showModal();
}

addEventListener("click", (event) => {
  const opener = event.target.closest?.("[data-dialog]");
  if (opener && !opener.disabled) {
    const { dialog, ...data } = opener.dataset;
    openDialog(dialog, data);
  }
  if (event.target.closest?.("[data-close]") || event.target.nodeName === "DIALOG") event.target.closest("dialog")?.close();
});

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches?.("input[type=search]")) event.target.blur();
  if (event.key !== "/" || typing(event) || document.querySelector("dialog[open]")) return;
  const field = document.querySelector("[data-key='/']");
  if (field) {
    event.preventDefault();
    field.focus();
    field.select();
  }
});

/** Say when what is shown was last fetched. */
export function noteRefresh() {
  for (const element of document.querySelectorAll("[data-refreshed]")) {
    element.textContent = new Date().toISOString().slice(11, 19) + " UTC";
  }
}
noteRefresh();
