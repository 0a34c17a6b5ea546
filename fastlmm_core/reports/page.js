// Tables that sort and filter, and what the mouse is told over a map. Without a script every figure is there all the same.
"use strict";
for (const head of document.querySelectorAll("table.sortable th")) {
  const button = head.querySelector("button");
  if (button) button.addEventListener("click", () => sortBy(head));
}
function sortBy(head) {
  const table = head.closest("table"), body = table.tBodies[0];
  const place = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") === (head.classList.contains("n") ? "descending" : "ascending");
  const sign = head.classList.contains("n") ? (down ? 1 : -1) : (down ? -1 : 1);
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const key = (row) => row.children[place].dataset.v ?? row.children[place].textContent;
  const rows = [...body.rows].map((row) => [key(row), row]);
  const numeric = head.classList.contains("n");
  rows.sort(([a], [b]) => {
    if (!numeric) return sign * a.localeCompare(b, undefined, { numeric: true });
    const x = a === "" ? NaN : +a, y = b === "" ? NaN : +b;
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);  // what is missing stands last
    return sign * (x - y);
  });
  for (const [, row] of rows) body.appendChild(row);
}
for (const box of document.querySelectorAll("input[data-filter]")) {
  const body = document.getElementById(box.dataset.filter).tBodies[0];
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
const tip = document.createElement("div");
tip.id = "tip";
document.body.appendChild(tip);
for (const map of document.querySelectorAll("svg.map")) {
  const [left, top, side, height, R, C, turn] = JSON.parse(map.dataset.grid);
  const data = JSON.parse(document.getElementById(map.dataset.plots).textContent);
  const at = new Map(data.cell.map((cell, n) => [cell, n]));
  map.addEventListener("mousemove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    const i = Math.floor((point.y - top) / height), j = Math.floor((point.x - left) / side);
    const n = i >= 0 && i < R && j >= 0 && j < C ? at.get(i * C + j) : undefined;
    tip.style.display = n === undefined ? "none" : "block";
    if (n === undefined) return;
    const value = data.values[turn][n];
    tip.textContent = data.names[n] + "\n" + data.words[turn] + ": " + (value === null ? "no value" : value);
    tip.style.left = Math.min(event.pageX + 14, document.documentElement.clientWidth - 290) + "px";
    tip.style.top = event.pageY + 16 + "px";
  });
  map.addEventListener("mouseleave", () => { tip.style.display = "none"; });
}
