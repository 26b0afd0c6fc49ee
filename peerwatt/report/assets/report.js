// Draws the figures of the page from the JSON beside it. No request leaves the page.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  function themed(value, style) {
    if (typeof value === "string") {
      const found = /^var\((--[a-z-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object") {
      const copy = {};
      for (const key of Object.keys(value)) copy[key] = key === "bdata" ? value[key] : themed(value[key], style);
      return copy;
    }
    return value;
  }

  function completed(spec, width) {
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--ink").trim();
    const quiet = style.getPropertyValue("--quiet").trim();
    const grid = style.getPropertyValue("--grid").trim();
    const card = style.getPropertyValue("--card").trim();
    const narrow = width < 560;
    const data = themed(spec.data, style);
    const own = themed(spec.layout, style);
    const font = { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: quiet };
    const layout = Object.assign({
      font: font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      margin: { l: 8, r: 8, t: 12, b: 8, pad: 2 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { color: ink } },
      hoverlabel: { bgcolor: card, bordercolor: quiet, font: { color: ink, family: font.family, size: 12.5 }, align: "left" },
      hovermode: "closest", dragmode: narrow ? false : "zoom"
    }, own);
    if (narrow) {
      layout.dragmode = false;
      const named = data.filter((trace) => trace.name && trace.showlegend !== false).length;
      const shown = layout.showlegend !== false && (layout.showlegend || named > 1);
      if (shown && named > 3) layout.height += 17 * (named - 3);
      if (layout.yaxis && layout.yaxis.scaleanchor) layout.height = 440;
    }
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      const axis = Object.assign({
        automargin: true, gridcolor: grid, linecolor: grid, zeroline: false, zerolinecolor: quiet, zerolinewidth: 1,
        ticks: "", tickfont: { color: quiet }, exponentformat: "none", separatethousands: true,
        showgrid: layout[key].type !== "category"
      }, layout[key]);
      axis.title = Object.assign({ font: { color: ink, size: font.size }, standoff: 10 }, axis.title);
      if (narrow && key.charAt(0) === "x" && axis.type !== "category") axis.nticks = 5;
      layout[key] = axis;
    }
    for (const trace of data) {
      const bar = trace.colorbar || (trace.marker && trace.marker.colorbar);
      if (!bar) continue;
      Object.assign(bar, { outlinewidth: 0, tickfont: { color: quiet, size: font.size - 1 } });
      bar.title = Object.assign({ font: { color: ink, size: font.size - 1 } }, bar.title);
      if (narrow) bar.thickness = 8;
    }
    return { data: data, layout: layout };
  }

  const config = {
    displaylogo: false, responsive: true, scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" }
  };

  function draw(place) {
    const figure = figures[place.dataset.figure];
    const panel = figure[Number(place.dataset.panel)];
    const whole = completed(panel.spec, place.clientWidth);
    drawn.set(place, true);
    return Plotly.react(place, whole.data, whole.layout, config);
  }

  function redraw() { for (const place of drawn.keys()) draw(place); }

  for (const button of document.querySelectorAll(".tablist button")) {
    button.addEventListener("click", function () {
      const box = button.closest("figure");
      for (const other of box.querySelectorAll(".tablist button")) other.setAttribute("aria-pressed", String(other === button));
      const place = box.querySelector(".plot");
      place.dataset.panel = button.dataset.panel;
      const panel = figures[place.dataset.figure][Number(button.dataset.panel)];
      if (panel.sentence) {
        box.querySelector(".says").textContent = panel.sentence;
        place.setAttribute("aria-label", panel.sentence);
      }
      draw(place);
    });
  }

  // one figure per turn of the event loop: the page stays responsive while a year of them is drawn
  const waiting = Array.from(document.querySelectorAll(".plot"));
  function next() {
    const place = waiting.shift();
    if (!place) { root.dataset.ready = "true"; return; }
    Promise.resolve(draw(place)).then(function () { setTimeout(next, 0); });
  }
  next();

  dark.addEventListener("change", redraw);
  let wide = window.innerWidth >= 560;
  window.addEventListener("resize", function () {
    const now = window.innerWidth >= 560;
    if (now !== wide) { wide = now; redraw(); }
  });
  window.addEventListener("beforeprint", function () { root.dataset.print = "true"; redraw(); });
  window.addEventListener("afterprint", function () { delete root.dataset.print; redraw(); });

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", function () {
      const head = button.closest("th");
      const table = head.closest("table");
      const body = table.tBodies[0];
      const column = Array.prototype.indexOf.call(head.parentNode.children, head);
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = function (row) {
        const cell = row.children[column];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const rows = Array.from(body.rows);
      rows.sort(function (a, b) {
        const x = value(a), y = value(b);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -order : order;
      });
      for (const row of rows) body.appendChild(row);
    });
  }
})();
