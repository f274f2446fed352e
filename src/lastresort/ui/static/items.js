// One item after the other from the keyboard: on the page of one the next, in a list the links of its rows. A row opens its item.
"use strict";

const IN_ROWS = "#found table.items td:first-child > a";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const by = { j: 1, k: -1 }[event.key];
  if (!by) return;
  const link = document.getElementById(by > 0 ? "after" : "before");
  if (link) return link.click();
  const links = [...document.querySelectorAll(IN_ROWS)];
  links[Math.max(0, links.indexOf(document.activeElement) + by)]?.focus();
});

document.addEventListener("click", (event) => {
  if (event.target.closest("a, button, input, select, summary") || String(getSelection())) return; // whoever marks a text reads it
  event.target.closest("#found table.items tbody tr")?.querySelector("td:first-child > a").click();
});
