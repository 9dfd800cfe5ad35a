"use strict";
// Comfort only; the page is whole without it: the section in view is marked, print opens what is folded, the command can be copied.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const mark = (link) => { // and brings it into view where the list of sections is wider than the screen
  link.setAttribute("aria-current", "true");
  const list = link.closest("ul");
  list.scrollLeft = link.offsetLeft + link.offsetWidth / 2 - list.clientWidth / 2;
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    mark(links.get(entry.target.id));
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const id of links.keys()) seen.observe(document.getElementById(id));

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) {
    fold.open = true;
    addEventListener("afterprint", () => { fold.open = false; }, { once: true });
  }
});

const command = document.querySelector(".command");
if (command && navigator.clipboard) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = command.querySelector("code").textContent;
    button.textContent = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Refused by the browser; select the text");
  });
  command.append(button);
}
