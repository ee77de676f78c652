const box = document.getElementById("refresh");
const note = document.getElementById("refreshed");
const kept = "tutelage-scroll";
const every = 1000 * Number(box.dataset.every);
const tell = (text) => { note.textContent = text; };

function replace(page) {
  const seen = new DOMParser().parseFromString(page, "text/html");
  const open = [...document.querySelectorAll("details")].map((one) => one.open);
  const sideways = [...document.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  for (const name of ["header", "main"]) {
    const now = document.querySelector(name);
    const then = seen.querySelector(name);
    if (now.innerHTML !== then.innerHTML) now.innerHTML = then.innerHTML;
  }
  [...document.querySelectorAll("details")].forEach((one, i) => { one.open = open[i] ?? one.open; });
  [...document.querySelectorAll(".scroll")].forEach((one, i) => { one.scrollLeft = sideways[i] ?? 0; });
  if (!seen.getElementById("refresh")) { box.checked = false; box.disabled = true; }
}

async function look() {
  if (box.checked && !document.hidden) {
    if (location.protocol === "file:") {
      sessionStorage.setItem(kept, String(scrollY));
      location.reload();
      return;
    }
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (answer.ok) { replace(await answer.text()); tell(""); }
    } catch {
      tell("The watch has ended; this is the last that it showed.");
    }
  }
  setTimeout(look, every);
}

const scrolled = sessionStorage.getItem(kept);
if (scrolled !== null) { sessionStorage.removeItem(kept); scrollTo(0, Number(scrolled)); }
setTimeout(look, every);
