// Answers as they grow: text is added as text, and the whole answer is fetched once it is over.
"use strict";

const MOST = 2; // streams at a time: a browser opens six connections to one host, in all its windows together
const sources = new Map(); // by the answer that grows

function grow(answer) {
  const pane = answer.querySelector("pre");
  const source = new EventSource(answer.dataset.grows);
  sources.set(answer, source);
  source.addEventListener("open", () => { pane.textContent = ""; }); // each stream begins at the answer's beginning
  source.addEventListener("more", (event) => { pane.append(JSON.parse(event.data)); });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) over(answer); // the conversation is another one now, or the page's server is
  });
  source.addEventListener("over", () => over(answer));
}

function over(answer) {
  end(answer);
  const exchange = answer.closest(".exchange");
  answer.dataset.over = "yes";
  const waiting = [...exchange.querySelectorAll("[data-grows]")].some((one) => !one.dataset.over);
  if (!waiting) show(exchange, answer.dataset.whole);
  growAll();
}

// The exchange as it is kept. What is refused does not take its place.
async function show(exchange, address) {
  try {
    const reply = await fetch(address, { headers: { "HX-Request": "true" } });
    const refused = document.getElementById("refused"), place = reply.ok ? exchange : refused;
    if (reply.ok) refused.replaceChildren(); // that an answer is still coming is over
    htmx.swap(place, await reply.text(), { swapStyle: reply.ok ? "outerHTML" : "innerHTML" });
  } catch { document.getElementById("stale").hidden = false; }
}

function end(answer) {
  sources.get(answer).close();
  sources.delete(answer);
}

function growAll() {
  for (const answer of sources.keys()) if (document.hidden || !answer.isConnected) end(answer);
  if (document.hidden) return;
  const waiting = [...document.querySelectorAll("[data-grows][data-whole]")].filter((one) => !one.dataset.over && !sources.has(one));
  waiting.slice(0, Math.max(0, MOST - sources.size)).forEach(grow);
}

// The input of an item that somebody came from, once the model is open.
function begin() {
  const given = document.getElementById("to-say"), message = document.getElementById("message");
  if (!given || !message || message.value) return;
  message.value = given.value;
  given.remove();
}

for (const event of ["DOMContentLoaded", "htmx:afterSettle"]) {
  document.addEventListener(event, growAll);
  document.addEventListener(event, begin);
}
document.addEventListener("visibilitychange", growAll);
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt: form, xhr } = event.detail;
  if (!form.matches("form.say")) return;
  const message = form.querySelector("textarea");
  if (xhr.status === 200) message.value = ""; // what was refused stays, to be sent later
  message.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.id === "message") {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
});
