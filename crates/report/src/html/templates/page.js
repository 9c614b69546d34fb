"use strict";
// Words beside the pointer: the value of the nearest point of a curve, or what a cell says.
const tip = document.getElementById("tip");

function showTip(words, x, y) {
  tip.textContent = words;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(x - box.width / 2, 8), document.documentElement.clientWidth - box.width - 8);
  const above = y - box.height - 14;
  tip.style.left = `${left}px`;
  tip.style.top = `${above < 4 ? y + 18 : above}px`;
}

function hideTip() {
  tip.hidden = true;
}

function pointAtCurves(plot) {
  const curves = [...plot.querySelectorAll("[data-points]")].map((curve) => ({
    label: curve.dataset.label,
    color: curve.style.getPropertyValue("--color"),
    points: JSON.parse(curve.dataset.points),
  }));
  const cursor = plot.querySelector(".cursor");
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  };
  const point = (event) => {
    const box = plot.getBoundingClientRect();
    const scale = plot.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let nearest = null;
    let least = 60;
    // Later curves lie in front: of equally near points theirs is meant.
    for (const curve of curves) {
      for (const [left, top, where, value] of curve.points) {
        const distance = Math.hypot(left - x, top - y);
        if (distance <= least) {
          least = distance;
          nearest = { left, top, where, value, curve };
        }
      }
    }
    if (!nearest) return leave();
    cursor.setAttribute("cx", nearest.left);
    cursor.setAttribute("cy", nearest.top);
    cursor.style.setProperty("--color", nearest.curve.color);
    cursor.setAttribute("visibility", "visible");
    const name = nearest.curve.label ? `${nearest.curve.label}, ` : "";
    showTip(`${name}${nearest.where}: ${nearest.value}`, box.left + nearest.left / scale, box.top + nearest.top / scale);
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", leave);
}

function pointAtWords(item) {
  const show = () => {
    const box = item.getBoundingClientRect();
    showTip(item.dataset.tip, box.left + box.width / 2, box.top);
  };
  item.addEventListener("pointerenter", show);
  item.addEventListener("pointerleave", hideTip);
}

// A click on a heading sorts by its column, a second one the other way round.
function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, down ? -1 : 1);
    });
  });
}

function sortRows(body, column, direction) {
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [first, second] = [key(a), key(b)];
    // What has no value comes last both ways.
    if (first === "" || second === "") return (first === "") - (second === "");
    const difference = Number(first) - Number(second);
    const order = Number.isNaN(difference) ? first.localeCompare(second, "en", { numeric: true }) : difference;
    return direction * order;
  };
  body.append(...[...body.rows].sort(compare));
}

document.querySelectorAll("svg.plot").forEach(pointAtCurves);
document.querySelectorAll("[data-tip]").forEach(pointAtWords);
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.addEventListener("scroll", hideTip, { passive: true });
