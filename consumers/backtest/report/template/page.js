"use strict";
// Draws the charts of this page in the colours of its style, and sorts its tables.
(function () {
  const failed = [];
  window.addEventListener("error", (event) => {
    failed.push(event.message);
    document.documentElement.dataset.failed = failed.join("; ");
  });

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function dressed(layout) {
    const narrow = window.innerWidth < 600;
    const made = Object.assign({}, layout, {
      font: { color: color("--text"), size: narrow ? 10 : 12 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: color("--text") },
      hoverlabel: { bgcolor: color("--card"), font: { color: color("--text") } },
    });
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis/.test(name)) {
        made[name] = Object.assign({}, layout[name], {
          gridcolor: color("--grid"), zerolinecolor: color("--line"), linecolor: color("--line"),
        });
      }
    }
    if (narrow) {
      made.margin = Object.assign({}, layout.margin, { l: 44, r: 8 });
    }
    return made;
  }

  const charts = [];

  function draw(chart) {
    // Data is copied: plotly writes into what it is given.
    const spec = JSON.parse(chart.text);
    return Plotly.react(chart.place, spec.data, dressed(spec.layout), {
      responsive: true, displaylogo: false,
      displayModeBar: window.innerWidth < 600 ? false : "hover",
      modeBarButtonsToRemove: ["lasso2d", "select2d"],
    });
  }

  for (const place of document.querySelectorAll("[data-chart]")) {
    const text = document.getElementById(place.dataset.chart).textContent;
    charts.push({ place: place, text: text });
  }
  const drawn = Promise.all(charts.map(draw)).then(() => {
    document.documentElement.dataset.drawn = String(charts.length);
  });
  drawn.catch((error) => {
    document.documentElement.dataset.failed = String(error);
  });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => charts.forEach(draw));

  function valueOf(row, column) {
    const cell = row.cells[column];
    const told = cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
    const number = told === "" ? NaN : Number(told);
    return Number.isNaN(number) ? told : number;
  }

  function compared(one, other) {
    if (typeof one === "number" && typeof other === "number") {
      return one - other;
    }
    if (typeof one === typeof other) {
      return one < other ? -1 : one > other ? 1 : 0;
    }
    return typeof one === "number" ? -1 : 1; // what is no number stands behind numbers
  }

  function sort(table, column) {
    const head = table.tHead.rows[0].cells[column];
    const falling = head.getAttribute("aria-sort") !== "descending";
    for (const cell of table.tHead.rows[0].cells) {
      cell.removeAttribute("aria-sort");
    }
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = Array.from(table.tBodies[0].rows).map((row) => [valueOf(row, column), row]);
    rows.sort((one, other) => compared(one[0], other[0]) * (falling ? -1 : 1));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      cell.replaceChildren(button);
      button.addEventListener("click", () => sort(table, column));
    });
  }
})();
