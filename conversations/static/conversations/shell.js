"use strict";

// Ctrl+Enter (or Cmd+Enter) sends the form a marked text box stands in.
document.addEventListener("keydown", (event) => {
  const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (wanted && event.target.matches("[data-submit=ctrl-enter]")) {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
});

// A second click must not ask a second time. The page that comes back is a new one.
document.addEventListener("submit", (event) => {
  if (event.target.matches("form[data-once]")) {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  }
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// The server sends how many seconds have passed; between its answers the page counts on.
const shown = new WeakMap();
setInterval(() => {
  for (const clock of document.querySelectorAll("[data-seconds]")) {
    if (!shown.has(clock)) shown.set(clock, performance.now());
    const more = (performance.now() - shown.get(clock)) / 1000;
    clock.textContent = `${(Number(clock.dataset.seconds) + more).toFixed(0)} s`;
  }
}, 250);

// A page that cannot be brought up to date says so, and goes on trying.
document.addEventListener("htmx:afterRequest", (event) => {
  document.documentElement.classList.toggle("is-lost", !event.detail.successful);
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
