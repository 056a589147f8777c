// On every page: how many executions wait for the decision of whoever is signed in.

const EVERY = 10_000;
const badge = document.querySelector("[data-badge]");

export async function count() {
  if (!badge || document.hidden) return;
  try {
    const answer = await fetch(badge.dataset.badge, { redirect: "error" });
    if (!answer.ok) return;
    const waiting = Number(await answer.text());
    badge.hidden = !waiting;
    badge.textContent = waiting > 99 ? "99+" : waiting;
    badge.title = waiting === 1 ? "One waits for your decision" : `${waiting} wait for your decision`;
  } catch {
    // The page's own connection says that there is none; the number is asked for again soon.
  }
}

setInterval(count, EVERY);
document.addEventListener("visibilitychange", count);
count();
