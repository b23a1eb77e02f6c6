"use strict";
// Sorting and filtering of the tables that ask for it. Without script they are plain tables.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];

  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? cell.dataset.sort : cell.textContent.trim();
  };
  const missing = (text) => text === "" || text === "\u2013";
  const numeric = /^[+-]?\d/;
  const compare = (a, b) =>
    numeric.test(a) && numeric.test(b)
      ? parseFloat(a) - parseFloat(b)
      : a.localeCompare(b, "en");

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    const label = [...head.childNodes].find((node) => node.nodeType === Node.TEXT_NODE);
    button.textContent = label.textContent.trim();
    label.replaceWith(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const sorted = rows
        .map((row) => [key(row, column), row])
        .sort(([a], [b]) =>
          missing(a) || missing(b) ? missing(a) - missing(b) : sign * compare(a, b));
      body.append(...sorted.map(([, row]) => row));
    });
  });

  const form = table.closest(".scroll").previousElementSibling;
  const search = form.querySelector("input");
  const selects = [...form.querySelectorAll("select")];
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        selects.every((select) => {
          const values = row.getAttribute(`data-filter-${select.dataset.filter}`).split(" ");
          return select.value === "" || values.includes(select.value);
        })
      );
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
