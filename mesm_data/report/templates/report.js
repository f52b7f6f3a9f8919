"use strict";
// The ledger: show the rows of one kind whose id contains what was typed.
const kind = document.querySelector("#kind");
const find = document.querySelector("#find");
const count = document.querySelector("#shown");
const rows = [...document.querySelectorAll("#ledger tbody tr")];

function show() {
  const wanted = find.value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits = (!kind.value || row.dataset.kind === kind.value) && row.cells[0].textContent.toLowerCase().includes(wanted);
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length} shown`;
}

if (rows.length) {
  document.querySelector(".filter").hidden = false;
  kind.addEventListener("change", show);
  find.addEventListener("input", show);
  show();
}
