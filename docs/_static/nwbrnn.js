// On a narrow screen, rows of tables with long texts are stacked, and what can be scrolled fades at its right edge.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-article table")) {
    const heads = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    const cells = [...table.querySelectorAll("tbody td")];
    if (!cells.some((cell) => cell.textContent.length > 60)) continue;
    table.classList.add("stack");
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, i) => {
        if (i && heads.length > 2 && heads[i] && cell.textContent.trim()) cell.dataset.label = heads[i];
      });
    }
  }
  const wide = ".bd-article pre, .bd-article table, .pst-scrollable-table-container, .bd-article p:has(> img)";
  const scrolled = [...document.querySelectorAll(wide)];
  const mark = (one) =>
    one.classList.toggle("scrolls", one.scrollWidth - one.clientWidth - one.scrollLeft > 4);
  for (const one of scrolled) one.addEventListener("scroll", () => mark(one), { passive: true });
  const markAll = () => scrolled.forEach(mark);
  markAll();
  addEventListener("load", markAll);
  addEventListener("resize", markAll);
});
