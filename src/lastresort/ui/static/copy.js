// A button copies what it names, says that it did, and leaves the text selected where the browser does not let it.
"use strict";

const SAID_MS = 2500;

function select(from) {
  if (from.select) return from.select(); // a field
  const range = document.createRange();
  range.selectNodeContents(from);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

async function copy(from) {
  try {
    await navigator.clipboard.writeText(from.value ?? from.textContent); // not there on http from another machine
    return true;
  } catch {
    select(from);
    return document.execCommand("copy");
  }
}

const timers = new Map(); // by what says it, when that ends

function say(one, text, after) {
  one.textContent = text;
  clearTimeout(timers.get(one));
  timers.set(one, setTimeout(() => {
    if (one.textContent === text) one.textContent = after; // else something else was said there meanwhile
    timers.delete(one);
  }, SAID_MS));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const from = button.dataset.of ? document.getElementById(button.dataset.of) : button.parentElement.querySelector("code");
  const { done, failed, name } = button.firstElementChild.dataset;
  const text = (await copy(from)) ? done : failed;
  say(button.firstElementChild, text, name);
  say(document.getElementById("told"), text, ""); // empty then, so that the next one is heard too
});
