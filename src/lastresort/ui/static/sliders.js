// A slider moves the number beside it, in quarters of a doubling, and the number moves the slider.
"use strict";

document.addEventListener("input", (event) => {
  const slider = event.target;
  if (slider.dataset && slider.dataset.moves) {
    const number = document.getElementById(slider.dataset.moves);
    number.value = String(Math.round(2 ** (slider.value / 4)));
  } else if (slider.id) {
    const other = document.querySelector(`[data-moves="${CSS.escape(slider.id)}"]`);
    if (other && Number(slider.value) > 0) other.value = String(Math.round(4 * Math.log2(Number(slider.value))));
  }
}, true);
