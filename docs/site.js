// What Material for MkDocs leaves without a name, or out of the reach of keys.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");

  const drawer = document.querySelector("label.md-header__button[for=__drawer]");
  if (drawer) {
    drawer.tabIndex = 0;
    drawer.setAttribute("role", "button");
    drawer.setAttribute("aria-label", "All pages");
    drawer.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        drawer.click();
      }
    });
  }

  // What scrolls sideways can be scrolled by keys.
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, math[display=block]")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
});
