// The dashboard's live parts. The pages work without it: links, forms and confirmation pages need no script.
"use strict";

const USUAL = "2"; // seconds between two refreshes, unless the user has chosen others, or none
const REMEMBERED = "jobs-live"; // key in localStorage: what the user has chosen

const part = () => document.getElementById("jobs-part");
const stale = () => document.getElementById("jobs-stale");
const live = () => document.getElementById("jobs-live");
const rows = () => [...document.querySelectorAll(".jobs-list tbody tr[id]")];
document.getElementById("jobs-page")?.classList.add("jobs-scripted");
let here = ""; // the id of the row selected with the arrow keys

// --- refreshing ---------------------------------------------------------------------------------

function remembered() {
  try { return localStorage.getItem(REMEMBERED) || USUAL; } catch { return USUAL; }
}

function remember(wanted) {
  try { localStorage.setItem(REMEMBERED, wanted); } catch { /* then it holds until the next page */ }
}

function isChanged(field) {
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
}

// No refresh while the pointer is on a table, a row or text is selected, a field is changed or focused, or a button has
// been pressed.
function isBusy() {
  const selection = document.getSelection();
  const active = document.activeElement;
  return live().value === "off" || document.hidden || Boolean(part().querySelector(".jobs-table:hover")) || part().querySelector("button[disabled]")
    || [...part().querySelectorAll("input, select")].some(isChanged)
    || (selection && !selection.isCollapsed && part().contains(selection.anchorNode))
    || (part().contains(active) && active.matches("input, select, textarea, button"));
}

// The open details, scroll positions and focus, to restore them in the new part.
function state() {
  const active = document.activeElement;
  const row = active.closest && active.closest("tr[id]");
  return {
    opened: new Map([...part().querySelectorAll("details[id]")].map((each) => [each.id, each.open])),
    scrolled: [...part().querySelectorAll(".jobs-scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]),
    window: [window.scrollX, window.scrollY],
    row: part().contains(active) && row ? row.id : "",
    link: part().contains(active) && active.matches("a, summary") ? number(active) : -1,
  };
}

const focusable = () => [...part().querySelectorAll("a, summary, pre[tabindex]")];
const number = (element) => focusable().indexOf(element);

function restore(before) {
  for (const each of part().querySelectorAll("details[id]")) {
    if (before.opened.has(each.id)) each.open = before.opened.get(each.id);
  }
  const boxes = [...part().querySelectorAll(".jobs-scroll, pre")];
  boxes.forEach((each, at) => { if (before.scrolled[at]) [each.scrollLeft, each.scrollTop] = before.scrolled[at]; });
  for (const row of rows()) row.classList.toggle("jobs-here", row.id === here);
  const row = before.row && document.getElementById(before.row);
  const target = row ? row.querySelector("a") : focusable()[before.link];
  if (target) target.focus({ preventScroll: true });
  window.scrollTo(...before.window);
}

// Rows that come in are counted, and shown when the user asks for them: nothing moves under the eyes.
const arrivals = () => document.getElementById("jobs-new");
let isAskedFor = false; // whether the next answer may bring new rows

function newcomers(answer) {
  const known = new Set(rows().map((row) => row.id));
  if (!known.size) return 0;
  const fresh = new DOMParser().parseFromString(answer, "text/html");
  return [...fresh.querySelectorAll(".jobs-list tbody tr[id]")].filter((row) => !known.has(row.id)).length;
}

function announce(number) {
  arrivals().hidden = !number;
  const shown = arrivals().querySelector("span");
  if (shown.textContent !== String(number)) shown.textContent = number;
}

function showArrivals() {
  isAskedFor = true;
  part().dispatchEvent(new CustomEvent("jobs:refresh"));
}

let before = null;

document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target !== part()) return;
  const address = event.detail.xhr.responseURL;
  if (address && new URL(address).pathname !== window.location.pathname) { // logged out since the last refresh
    event.detail.shouldSwap = false;
    window.location.reload();
    return;
  }
  if (event.detail.xhr.status === 404) [event.detail.shouldSwap, event.detail.isError] = [true, false]; // the record no longer exists
  if (!event.detail.shouldSwap) return;
  stale().hidden = true;
  const number = isAskedFor ? 0 : newcomers(event.detail.xhr.responseText);
  if (number) announce(number);
  if (number || (isBusy() && !isAskedFor)) { // or busy since the request was sent
    event.detail.shouldSwap = false;
    return;
  }
  announce(0);
  isAskedFor = false;
  before = state();
});
document.addEventListener("htmx:afterSwap", () => { if (before) restore(before); before = null; });
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => { stale().hidden = false; });
}

let timer = 0;

function refresh() {
  const held = isBusy();
  document.getElementById("jobs-held").hidden = !held;
  if (!held) part().dispatchEvent(new CustomEvent("jobs:refresh"));
}

function schedule() {
  clearInterval(timer);
  document.getElementById("jobs-held").hidden = true;
  live().parentElement.classList.toggle("is-off", live().value === "off");
  if (live().value !== "off") timer = setInterval(refresh, Number(live().value) * 1000);
}

if (live() && !part()) live().parentElement.hidden = true; // a question or a form, which does not refresh
else if (live()) {
  live().value = remembered();
  if (!live().value) live().value = USUAL; // what an earlier release has remembered
  live().addEventListener("change", () => { remember(live().value); schedule(); });
  arrivals().addEventListener("click", showArrivals);
  schedule();
}

// The browser's own zone is offered, too.
const zones = document.getElementById("jobs-zones");
if (zones) {
  const own = document.createElement("option");
  own.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  zones.append(own);
}

const keys = document.getElementById("jobs-keys");
document.getElementById("jobs-help")?.addEventListener("click", () => keys.showModal());

// --- buttons that need no server -----------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest && event.target.closest("[data-copy]");
  for (const menu of document.querySelectorAll(".jobs-menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  if (!button) return;
  const source = document.getElementById(button.dataset.copy), text = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = button.dataset.copied;
  } catch { // no secure context, or not allowed: the text is selected, to be copied by hand
    document.getSelection().selectAllChildren(source);
  }
  setTimeout(() => { button.textContent = text; }, 2000);
});

// --- rows ---------------------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  if (event.target.id !== "jobs-select-all") return;
  for (const box of document.querySelectorAll("input[name=job], input[name=worker]")) box.checked = event.target.checked;
});

// `/` searches, the arrows move in a list, Enter opens, `n` shows new rows, `?` shows the keys.
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector(".jobs-menu[open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") {
    const search = document.getElementById("jobs-search");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
    return;
  }
  if (event.key === "?") { event.preventDefault(); keys.showModal(); return; }
  if (event.key === "n" && arrivals() && !arrivals().hidden) { showArrivals(); return; }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const all = rows();
  if (!all.length) return;
  event.preventDefault();
  const at = all.findIndex((row) => row.id === here);
  const to = event.key === "ArrowDown" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
  here = all[to].id;
  for (const row of all) row.classList.toggle("jobs-here", row.id === here);
  const link = all[to].querySelector("a");
  if (link) link.focus();
});
