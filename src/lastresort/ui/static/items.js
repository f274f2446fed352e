// One item after the other from the keyboard.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const link = document.getElementById({ j: "after", k: "before" }[event.key]);
  if (link) link.click();
});
