// The dashboard's live parts. Everything works without it: what it asks in a dialog, the server asks on a page.
"use strict";

const EVERY = 2000; // milliseconds between two refreshes
const part = () => document.getElementById("jobs-part");
const rows = () => [...document.querySelectorAll(".jobs-list tbody tr")].filter((row) => row.querySelector("a"));

// --- the live switch: as it was left, on every page -------------------------------------------

const live = document.getElementById("jobs-live");
document.getElementById("jobs-page")?.classList.add("jobs-scripted");
if (live) {
  live.checked = localStorage.getItem("jobs-live") !== "off";
  live.addEventListener("change", () => localStorage.setItem("jobs-live", live.checked ? "on" : "off"));
}

// --- refreshing, unless the reader is in the middle of something ------------------------------

function isChanged(field) {
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
}

function isBusy() {
  if (!live.checked || document.hidden || !getSelection().isCollapsed) return true;
  const focused = document.activeElement;
  return part().contains(focused) && focused.matches("input, select, button")
    // data-open: the server opened it, not the reader
    || part().querySelector("details[open]:not([data-open]), details[data-open]:not([open])") !== null
    || [...part().querySelectorAll("input, select")].some(isChanged);
}

setInterval(() => { if (part() && !isBusy()) part().dispatchEvent(new CustomEvent("jobs:refresh")); }, EVERY);

// What scrolls by itself stays where it was, and so does the focus.
const scrolled = () => [...part().querySelectorAll(".jobs-scroll, pre")];
const focusable = () => [...part().querySelectorAll("a, summary, [tabindex]")];
let before = null;

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status === 200 && new URL(xhr.responseURL).pathname !== location.pathname) location.reload(); // signed out
  else if (xhr.status === 200 && !isBusy()) {
    const at = focusable().indexOf(document.activeElement);
    const boxes = scrolled().map((box) => [box.scrollLeft, box.scrollTop]);
    before = { at, href: document.activeElement.href, boxes, window: [scrollX, scrollY] };
    return;
  }
  event.detail.shouldSwap = false;
});

document.addEventListener("htmx:afterSwap", () => {
  scrolled().forEach((box, at) => { [box.scrollLeft, box.scrollTop] = before.boxes[at] || [0, 0]; });
  const all = before.at < 0 ? [] : focusable();
  const same = all.find((link) => link.href && link.href === before.href);
  (same || all[Math.min(before.at, all.length - 1)])?.focus({ preventScroll: true });
  scrollTo(...before.window);
});

for (const name of ["htmx:sendError", "htmx:responseError", "htmx:afterSwap"]) {
  document.addEventListener(name, () => {
    document.getElementById("jobs-stale").hidden = name === "htmx:afterSwap";
  });
}

// --- selecting and confirming -----------------------------------------------------------------

document.addEventListener("change", (event) => {
  if (event.target.id === "jobs-select-all") {
    for (const box of document.querySelectorAll("input[name=job]")) box.checked = event.target.checked;
  }
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || button.name !== "ask") return;
  const all = event.target.elements.all;
  const chosen = event.target.querySelectorAll("input[name=job]:checked").length;
  const number = all && all.checked ? all.value : String(chosen);
  if (button.value.includes("{n}") && number === "0") return; // the server says that nothing is selected
  if (window.confirm(button.value.replace("{n}", number))) {
    button.name = ""; // the server need not ask again; but it must if the reader comes back to this page
    setTimeout(() => { button.name = "ask"; });
  } else event.preventDefault();
});

// --- keys: `/` searches, the arrows move in a list, Enter opens -------------------------------

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "/") {
    const search = document.getElementById("jobs-search");
    if (search) { event.preventDefault(); search.focus(); }
    return;
  }
  const all = rows();
  if (!all.length || (event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
  event.preventDefault();
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const to = event.key === "ArrowDown" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
  all[to].querySelector("a").focus();
});
