// Answers as they grow: text is added as text, and the whole answer is fetched once it is over.
"use strict";

function follow(answer) {
  if (answer.dataset.followed) return;
  answer.dataset.followed = "yes";
  const pane = answer.querySelector("pre");
  const source = new EventSource(answer.dataset.grows);
  let begun = false;
  source.addEventListener("open", () => { if (begun) pane.textContent = ""; begun = true; });
  source.addEventListener("more", (event) => { pane.append(JSON.parse(event.data)); });
  source.addEventListener("over", () => {
    source.close();
    const exchange = answer.closest(".exchange");
    answer.dataset.over = "yes";
    const waiting = [...exchange.querySelectorAll("[data-grows]")].some((one) => !one.dataset.over);
    if (!waiting) htmx.ajax("GET", answer.dataset.whole, { target: exchange, swap: "outerHTML" });
  });
}

function followAll() {
  document.querySelectorAll("[data-grows][data-whole]").forEach(follow);
}

document.addEventListener("DOMContentLoaded", followAll);
document.addEventListener("htmx:afterSettle", followAll);
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.elt;
  if (form.matches("form.say") && event.detail.successful) { form.querySelector("textarea").value = ""; form.querySelector("textarea").focus(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.id === "message") {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
});
