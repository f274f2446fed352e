// Form and text change in turn: no answer replaces what has been typed since it was asked for.
"use strict";

const isText = (one) => one.id === "text";

// The mark of the text that the next change is made to.
document.addEventListener("kept", (event) => { document.getElementById("seen").value = event.detail.mark; });

document.addEventListener("input", (event) => { if (event.target.closest("#beside")) event.target.dataset.changing = "typed"; });
document.addEventListener("change", (event) => { if (event.target.dataset.changing) event.target.dataset.changing = "sent"; });
document.addEventListener("focusout", (event) => { if (event.target.dataset.changing === "typed") delete event.target.dataset.changing; });
document.addEventListener("htmx:afterRequest", ({ detail: { elt } }) => {
  if (elt.dataset.changing === "again") elt.dataset.changing = "sent";
  else if (!isText(elt)) delete elt.dataset.changing;
});

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (event.detail.target.id === "beside" && event.detail.target.querySelector("[data-changing]")) event.detail.shouldSwap = false;
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (target.id === "beside" && [...target.querySelectorAll("[data-changing]")].some((one) => one !== requestConfig.elt || one.dataset.changing === "typed")) event.detail.shouldSwap = false;
  if (isText(target) && target.value !== requestConfig.parameters.text) {
    event.detail.shouldSwap = false;
    htmx.trigger(requestConfig.elt, requestConfig.elt.localName === "form" ? "submit" : "change"); // the same again, with the text as it is now
    requestConfig.elt.dataset.changing = "again"; // until then nothing replaces it, as htmx sends nothing for what has gone
  }
});

// The text keeps the height that it was dragged to.
let height = "";
document.addEventListener("htmx:beforeSwap", ({ detail }) => { if (isText(detail.target)) height = detail.target.style.height; });
document.addEventListener("htmx:afterSwap", () => { if (height) document.getElementById("text").style.height = height; });

// A field that is at fault says so where it stands; a start that is refused for it goes there.
function markFields() {
  for (const said of document.querySelectorAll(".field-fault")) {
    for (const one of document.querySelectorAll(`[aria-describedby="${said.id}"]`)) {
      if (said.textContent) one.setAttribute("aria-invalid", "true");
      else one.removeAttribute("aria-invalid");
    }
  }
}
for (const swapped of ["htmx:afterSwap", "htmx:oobAfterSwap"]) document.addEventListener(swapped, markFields);
document.addEventListener("htmx:afterRequest", (event) => {
  const { requestConfig, xhr } = event.detail;
  if (xhr.status === 422 && requestConfig.path.endsWith("/start")) document.querySelector("#beside [aria-invalid]")?.focus();
});

// What was said of an earlier text next to Start is said no more of this one.
document.addEventListener("input", (event) => {
  if (event.target.closest("#editor")) for (const id of ["refused", "data-fault"]) document.getElementById(id)?.replaceChildren();
});

// A named part that a reader opened stays so when it is made again, also where something else is shown meanwhile.
const openParts = new Set();
document.addEventListener("toggle", (event) => { if (event.target.id) openParts[event.target.open ? "add" : "delete"](event.target.id); }, true);
document.addEventListener("htmx:afterSwap", () => { for (const id of openParts) document.getElementById(id)?.setAttribute("open", ""); });
