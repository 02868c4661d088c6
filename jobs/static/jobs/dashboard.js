// The dashboard's live parts. Everything works without it: links, forms and confirmation by the server's messages.
"use strict";

const EVERY = 2000; // milliseconds between two refreshes
const part = () => document.getElementById("jobs-part");
const rows = () => [...document.querySelectorAll(".jobs-list tbody tr")];

function isBusy() {
  const live = document.getElementById("jobs-live");
  return !live || !live.checked || document.hidden || document.querySelector("#jobs-part input:checked, #jobs-part details[open]")
    || (part() && part().contains(document.activeElement) && document.activeElement.matches("input, select, button"));
}

setInterval(() => { if (part() && !isBusy()) part().dispatchEvent(new CustomEvent("jobs:refresh")); }, EVERY);

document.addEventListener("change", (event) => {
  if (event.target.id === "jobs-select-all") {
    for (const box of document.querySelectorAll("input[name=job]")) box.checked = event.target.checked;
  }
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button) return;
  let question = button.dataset.confirm;
  if (button.dataset.bulk) {
    const all = event.target.querySelector("input[name=all]");
    const chosen = event.target.querySelectorAll("input[name=job]:checked").length;
    const number = all && all.checked ? all.dataset.count : chosen;
    if (!number) { event.preventDefault(); return; }
    question = `${button.dataset.bulk}: ${number} jobs?`;
  }
  if (question && !window.confirm(question)) event.preventDefault();
});

// `/` searches, the arrows move in a list, Enter opens.
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea")) return;
  if (event.key === "/") {
    const search = document.getElementById("jobs-search");
    if (search) { event.preventDefault(); search.focus(); }
    return;
  }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const all = rows();
  if (!all.length) return;
  event.preventDefault();
  const at = all.findIndex((row) => row.classList.contains("jobs-here"));
  const to = event.key === "ArrowDown" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
  for (const row of all) row.classList.toggle("jobs-here", row === all[to]);
  const link = all[to].querySelector("a");
  if (link) link.focus();
});
