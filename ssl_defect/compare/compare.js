"use strict";
// Comfort only; the page is whole without it: tables can be sorted, print opens what is folded.
const number = (cell) => (cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort));

function sort(table, column, rising) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, cell: row.cells[column] }));
  const numeric = rows.some(({ cell }) => cell.dataset.sort !== undefined);
  rows.sort((a, b) => {
    if (!numeric) return (rising ? 1 : -1) * a.cell.textContent.localeCompare(b.cell.textContent, "en", { numeric: true }) || a.place - b.place;
    const [x, y] = [number(a.cell), number(b.cell)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.place - b.place; // unknown is last
    return (rising ? x - y : y - x) || a.place - b.place;
  });
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
      const before = head.getAttribute("aria-sort");
      const numeric = cells.some((cell) => cell.dataset.sort !== undefined);
      const rising = before ? before === "descending" : !numeric; // figures first fall: what is high comes first
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(table, column, rising);
    });
  });
}

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) {
    fold.open = true;
    addEventListener("afterprint", () => { fold.open = false; }, { once: true });
  }
});
