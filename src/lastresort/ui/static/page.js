// What htmx does not do: keep open what a reader has opened, ticked what is ticked and the focus where it is, make what is wide
// scroll by keyboard, follow a run, tell of a new stage, and say when the page is no longer connected.
"use strict";

const QUIET_MS = 15000; // the page hears every 5 s that a run is followed
const LIVELY_MS = 4000; // between two looks at a list while a run of it is at work; a training says its own
const ASK_MS = 15000;

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
  const refused = document.getElementById("refused");
  const { elt, requestConfig } = event.detail;
  if (requestConfig.verb === "post" && refused && !refused.contains(elt) && !elt.closest("#editor")) refused.replaceChildren();
});

// A button that is disabled while its request is on the way loses the focus, and gets it back with the answer.
const pressed = new WeakMap();
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt } = event.detail;
  if (elt.contains(document.activeElement)) pressed.set(elt, document.activeElement);
  else pressed.delete(elt);
});
document.addEventListener("htmx:afterRequest", (event) => {
  const one = pressed.get(event.detail.elt);
  if (one?.isConnected && document.activeElement === document.body) one.focus({ preventScroll: true });
});

// htmx gives the focus back by id alone: here to what is of the same kind and says the same, else to the part itself, or to what
// it names for that.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, shouldSwap, requestConfig } = event.detail;
  const active = document.activeElement, old = active === document.body ? pressed.get(requestConfig.elt) : active;
  if (!shouldSwap || !target.id || !old || !target.contains(old)) return;
  const says = (one) => one.getAttribute("aria-label") ?? one.textContent;
  const alike = (holder) => (old.id ? [] : [...holder.querySelectorAll(old.localName)].filter((one) => says(one) === says(old)));
  const at = alike(target).indexOf(old);
  document.addEventListener("htmx:afterSwap", () => {
    const holder = document.getElementById(target.id);
    if (!holder || ![document.body, holder].includes(document.activeElement)) return;
    const next = alike(holder)[at] ?? (holder.dataset.focus && holder.querySelector(holder.dataset.focus));
    if (!next) holder.tabIndex = -1; // never another button, which a second key press would press
    (next ?? holder).focus({ preventScroll: true });
  }, { once: true });
});

// What is wider than its window is scrolled by keyboard too, also where it holds no link.
function reachWide() {
  for (const one of document.querySelectorAll(".scroll")) {
    const wide = one.scrollWidth > one.clientWidth;
    if (wide === one.hasAttribute("tabindex")) continue;
    if (!wide) ["tabindex", "role", "aria-label"].forEach((name) => one.removeAttribute(name));
    else {
      const heading = one.closest("section")?.querySelector("h2") ?? document.querySelector("h1");
      one.tabIndex = 0;
      one.setAttribute("role", "group");
      one.setAttribute("aria-label", heading?.textContent ?? document.title);
    }
  }
}
reachWide();
addEventListener("resize", reachWide);
document.addEventListener("htmx:afterSwap", reachWide);
document.addEventListener("toggle", reachWide, true);

let heard = Date.now();
const stale = () => document.getElementById("stale");
const followed = () => document.querySelector("[data-mark]"); // a run, the list of them, or a training

function hear() {
  heard = Date.now();
  stale().hidden = true;
}

document.addEventListener("htmx:sendError", () => { stale().hidden = false; });
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful, xhr } = event.detail;
  if (successful) hear();
  const refused = xhr.status < 200 || xhr.status >= 400;
  if (refused && elt.matches("[data-mark], [data-mark] [hx-trigger]")) elt.closest("[data-mark]").dataset.mark = ""; // drawn the next time
});

// Nobody sees what a hidden window would ask for again and again.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.matches("[hx-trigger^=every]")) event.preventDefault();
});

// A run at work is followed while somebody may look: a browser opens six connections to one host, in all its windows together.
let stream = null;

function follow() {
  const part = followed();
  if (stream || document.hidden || !part?.dataset.live || !part.dataset.mark.startsWith("running")) return;
  stream = new EventSource(part.dataset.live);
  stream.addEventListener("open", hear);
  stream.addEventListener("error", () => {
    stale().hidden = false;
    if (stream?.readyState === EventSource.CLOSED) leave();
  });
  for (const kind of ["now", "found", "here", "over"]) {
    stream.addEventListener(kind, (event) => {
      hear();
      if (kind === "over") {
        leave();
        part.dataset.mark = JSON.parse(event.data);
      }
      redraw(part, kind);
    });
  }
}

function leave() {
  stream?.close();
  stream = null;
}

function redraw(part, kind) {
  for (const one of [part, ...part.querySelectorAll("[hx-trigger]")]) htmx.trigger(one, kind);
}

setInterval(() => { if (stream && Date.now() - heard > QUIET_MS) stale().hidden = false; }, 3000);

// What is not followed asks by itself, while somebody may look at it, whether it is as it was.
let asked = Date.now();

async function ask() {
  asked = Date.now();
  const part = followed();
  try {
    const answer = await fetch(part?.dataset.asks ?? "/alive");
    if (answer.status === 404 && part) return location.reload(); // it was removed, as its page then says
    if (!answer.ok) throw new Error(answer.status);
    hear();
    const mark = await answer.text();
    if (!part || stream) return;
    const changed = mark !== part.dataset.mark;
    part.dataset.mark = mark;
    if (part.dataset.live && mark.startsWith("running")) follow();
    else if (changed) redraw(part, "over");
  } catch { stale().hidden = false; }
}

function askInTime() {
  const lively = followed()?.dataset.mark.startsWith("running");
  const every = document.querySelector("[data-every-ms]")?.dataset.everyMs ?? LIVELY_MS;
  if (!document.hidden && !stream && Date.now() - asked >= (lively ? every : ASK_MS)) ask();
}

setInterval(askInTime, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) leave();
  else ask();
});
follow();

// The clocks of a run at work go on from where the server said they were, in the words of the report; not while the page is stale.
function duration(seconds) {
  const whole = Math.round(seconds), minutes = Math.round(seconds / 60), unit = (n, name) => `${n}\u00a0${name}`;
  if (seconds < 10) return unit(seconds.toFixed(1), "s");
  if (whole < 60) return unit(whole, "s");
  const [large, small, names] = whole < 3600 ? [Math.floor(whole / 60), whole % 60, ["min", "s"]] : [Math.floor(minutes / 60), minutes % 60, ["h", "min"]];
  return unit(large, names[0]) + (small ? ` ${unit(small, names[1])}` : "");
}

function tick() {
  if (document.hidden || !stale().hidden) return;
  for (const one of document.querySelectorAll("[data-took-s]")) {
    one.dataset.since ??= performance.now() / 1000 - one.dataset.tookS;
    one.textContent = duration(performance.now() / 1000 - one.dataset.since);
  }
  for (const one of document.querySelectorAll("[data-left-s]")) {
    one.dataset.until ??= performance.now() / 1000 + Number(one.dataset.leftS);
    const left = one.dataset.until - performance.now() / 1000;
    one.textContent = left >= 1 ? `about ${duration(left)} left` : left > 0 ? one.dataset.soon : one.dataset.late;
  }
  const clock = document.querySelector("#now [data-took-s]");
  if (clock) document.querySelectorAll("#report [data-took]").forEach((one) => { one.textContent = clock.textContent; });
}

tick();
setInterval(tick, 1000);
document.addEventListener("htmx:afterSwap", tick); // what is drawn again says what the record knew last

// A screen reader hears of a new stage, and not of every figure in it.
const says = () => document.querySelector("[data-says]")?.dataset.says ?? "";
let said = says();
document.addEventListener("htmx:afterSwap", () => {
  if (says() === said) return;
  said = says();
  document.getElementById("told").textContent = said;
});
