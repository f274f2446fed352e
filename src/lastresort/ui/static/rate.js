// Each button that names a key is pressed by it. A key that comes while a mark is on its way would mark what nobody has seen yet.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input, select, textarea")) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!wanted) return;
  event.preventDefault();
  const early = document.querySelector("#card.htmx-request, #card .htmx-request") !== null;
  const said = document.getElementById("early");
  said.textContent = early ? said.dataset.text : "";
  if (!early) wanted.click();
});

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("drawing")?.addEventListener("change", (event) => event.currentTarget.requestSubmit());
  const asked = document.querySelector(".asked-of > details");
  if (asked && matchMedia("(max-width: 40rem)").matches) asked.open = false; // it would fill a phone
});
