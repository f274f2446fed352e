// What htmx does not do: keep open what a reader has opened and ticked what is ticked, tell of a new
// stage, and say when the page is no longer connected.
"use strict";

const QUIET_MS = 15000; // the page hears every 5 s that a run is followed
const ASK_MS = 30000;

function keepOpen(holder) {
  const open = [...holder.querySelectorAll("details")].map((one) => one.open);
  return () => holder.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
}

function keepTicks(holder) {
  const ticked = new Set([...holder.querySelectorAll("input:checked")].map((one) => one.id));
  return () => holder.querySelectorAll("input[type=checkbox]").forEach((one) => { one.checked = ticked.has(one.id); });
}

document.addEventListener("htmx:beforeSwap", (event) => {
  const holder = event.detail.target;
  for (const [name, keep] of [["data-keeps-open", keepOpen], ["data-keeps-ticks", keepTicks]]) {
    if (event.detail.shouldSwap && holder.hasAttribute(name)) holder.addEventListener("htmx:afterSwap", keep(holder), { once: true });
  }
});

// What was refused before is over once something else is asked for.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.verb === "post") document.getElementById("refused")?.replaceChildren();
});

let heard = Date.now();
let isLive = document.querySelector("[data-live]") !== null;
const stale = () => document.getElementById("stale");

function hear() {
  heard = Date.now();
  stale().hidden = true;
}

document.addEventListener("htmx:sseMessage", (event) => {
  hear();
  if (event.detail.type === "over") isLive = false;
});
document.addEventListener("htmx:sseOpen", hear);
document.addEventListener("htmx:sseError", () => { if (isLive) stale().hidden = false; });
document.addEventListener("htmx:sendError", () => { stale().hidden = false; });
document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) hear(); });
setInterval(() => { if (isLive && Date.now() - heard > QUIET_MS) stale().hidden = false; }, 3000);

// A page on which nothing moves asks by itself, while somebody may look at it.
async function ask() {
  if (isLive || document.visibilityState !== "visible") return;
  try {
    if ((await fetch("/alive")).ok) hear();
    else stale().hidden = false;
  } catch { stale().hidden = false; }
}
setInterval(ask, ASK_MS);
document.addEventListener("visibilitychange", ask);

// A screen reader hears of a new stage, and not of every figure in it.
const says = () => document.querySelector("[data-says]")?.dataset.says ?? "";
let said = says();
document.addEventListener("htmx:afterSwap", () => {
  if (says() === said) return;
  said = says();
  document.getElementById("told").textContent = said;
});
