// Names for what Material for MkDocs leaves without one, for readers that hear a page.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // What scrolls sideways can be reached and scrolled by keys.
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, math[display=block]")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
});
