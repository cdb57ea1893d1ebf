// Keeps a page up to date. A page works without this script; only figures and live updates need it.
//
//   <body data-state=URL>             state of a run, which is polled: {last: number of the last event, read: number of the last event
//                                     that the pages show, running: bool}
//   <section id=... data-live>        section that is replaced whenever the state changes
//   <a data-swap>, <form data-swap>   replace these sections and change the address, without a new page
//   <a data-swap="all">               replace all of `main`
"use strict";

const POLL_MS = 2000;
const live = document.getElementById("live");
let known = null;
let polling = false;

async function fetchPage(url) {
  const answer = await fetch(url, { headers: { "X-Requested-With": "dashboard" } });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function announce(element) {
  element.dispatchEvent(new CustomEvent("dashboard:replaced", { bubbles: true }));
}

/** Replace an element by its newer version, and keep focus, scroll positions and opened details. */
function replace(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.name ? `[name="${CSS.escape(focused.name)}"]` : focused.getAttribute("href") && `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
  for (const details of old.querySelectorAll("details[id][open]")) {
    fresh.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
  }
  // Keep a figure that is already drawn: it fetches its data itself.
  for (const figure of old.querySelectorAll("[data-figure][id]")) {
    const newer = fresh.querySelector(`#${CSS.escape(figure.id)}`);
    if (newer && newer.dataset.figure === figure.dataset.figure) newer.replaceWith(figure);
  }
  const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  old.replaceWith(fresh);
  [...fresh.querySelectorAll(".scroll")].forEach((each, number) => { each.scrollLeft = scrolled[number] ?? 0; });
  if (place) (fresh.matches(place) ? fresh : fresh.querySelector(place))?.focus({ preventScroll: true });
  announce(fresh);
}

async function refresh() {
  const fresh = await fetchPage(location.href);
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const newer = fresh.getElementById(part.id);
    // Do not replace a section in which the user is typing.
    if (newer && !(part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"))) replace(part, newer);
  }
  document.dispatchEvent(new CustomEvent("dashboard:changed"));
}

function show(running, sentence) {
  if (!live) return;
  live.classList.toggle("running", running);
  if (live.textContent !== sentence) live.textContent = sentence;
}

async function poll() {
  if (polling || document.hidden) return;
  polling = true;
  try {
    const state = await (await fetch(document.body.dataset.state)).json();
    show(state.running, state.running ? "searching" : "not running");
    if (known !== null && (state.last !== known.last || state.read !== known.read || state.running !== known.running)) await refresh();
    known = state;
  } catch {
    show(false, "dashboard not reachable");
  }
  polling = false;
}

let asked = 0;

/** Show another view of this page; of several requested views, only the last one. */
async function swap(url, { push = true, all = false } = {}) {
  const number = ++asked;
  if (push) history.pushState(null, "", url);
  const fresh = await fetchPage(url);
  if (number !== asked) return;
  document.title = fresh.title;
  const parts = all ? [document.getElementById("main")] : document.querySelectorAll("[data-live][id]");
  for (const part of parts) {
    const newer = fresh.getElementById(part.id);
    if (newer) replace(part, newer);
    else return location.reload();
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  swap(link.href, { all: link.dataset.swap === "all" });
});

/** Return the address of this page with the values of a form; tables start at their first page again. */
function formUrl(form) {
  const query = new URLSearchParams(location.search);
  query.delete("page");
  for (const field of form.elements) {
    if (!field.name || field.type === "hidden") continue;
    const value = field.type === "checkbox" && !field.checked ? "" : field.value.trim();
    if (value) query.set(field.name, value);
    else query.delete(field.name);
  }
  const text = query.toString();
  return location.pathname + (text ? `?${text}` : "");
}

let typing = 0;
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-swap]")) return;
  event.preventDefault();
  clearTimeout(typing);
  swap(formUrl(event.target));
});

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-swap]");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => form.checkValidity() && swap(formUrl(form)), event.target.matches("select, [type=checkbox]") ? 0 : 300);
});

window.addEventListener("popstate", () => swap(location.href, { push: false, all: true }));

/** Scroll drawings that are wider than the page to their middle, where the main path is. */
function center(root) {
  for (const drawing of root.querySelectorAll(".drawing")) {
    if (!drawing.scrollLeft) drawing.scrollLeft = (drawing.scrollWidth - drawing.clientWidth) / 2;
  }
}

document.addEventListener("dashboard:replaced", (event) => center(event.target));
center(document);

if (document.body.dataset.state) {
  poll();
  setInterval(poll, POLL_MS);
  document.addEventListener("visibilitychange", poll);
}
