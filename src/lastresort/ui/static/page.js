// What htmx does not do: keep open what a reader has opened, and say when the page is no longer connected.
"use strict";

const QUIET_MS = 15000; // the page hears every 5 s that a run is followed

function keepOpen(holder) {
  const open = [...holder.querySelectorAll("details")].map((one) => one.open);
  return () => holder.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
}

document.addEventListener("htmx:beforeSwap", (event) => {
  const holder = event.detail.target;
  if (holder.matches("[data-keeps-open]")) {
    const again = keepOpen(holder);
    holder.addEventListener("htmx:afterSwap", again, { once: true });
  }
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
