// Sorting: rows stay within their part of the table, measured rows below the published one.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const place = Number(head.dataset.place);
    const up = head.getAttribute("aria-sort") === "descending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    for (const body of table.tBodies) {
      const pairs = [];
      for (const row of body.rows) {
        if (row.classList.contains("below") && pairs.length) pairs.at(-1).push(row);
        else pairs.push([row]);
      }
      const value = (pair) => {
        const cell = pair[0].cells[place];
        return cell === undefined ? "" : (cell.dataset.value ?? cell.textContent);
      };
      pairs.sort((a, b) => {
        const [p, q] = [value(a), value(b)];
        if (p === "" || q === "") return (p === "") - (q === "");
        const numbers = !isNaN(p) && !isNaN(q);
        return (numbers ? p - q : p.localeCompare(q)) * (up ? 1 : -1);
      });
      body.append(...pairs.flat());
    }
  });
}

// Comparison: all windows look at the same place.
for (const viewer of document.querySelectorAll(".viewer")) {
  for (const frame of viewer.querySelectorAll(".window")) {
    frame.addEventListener("pointermove", (event) => {
      const box = frame.getBoundingClientRect();
      viewer.style.setProperty("--x", `${((event.clientX - box.left) / box.width) * 100}%`);
      viewer.style.setProperty("--y", `${((event.clientY - box.top) / box.height) * 100}%`);
    });
  }
  const zoom = viewer.querySelector("input");
  zoom.addEventListener("input", () => viewer.style.setProperty("--zoom", zoom.value));
}
