// Each button that names a key is pressed by it.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input, select, textarea")) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (wanted && !document.querySelector("#card.htmx-request, #card .htmx-request")) {
    event.preventDefault();
    wanted.click();
  }
});
