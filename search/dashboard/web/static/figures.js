// Draws figures: <div class="figure" id=... data-figure=URL data-height=PIXELS role="img" aria-label=...>
//
// The URL gives {data: [traces], layout: {...}} of plotly. A string such as "var(--blue)" anywhere in it is replaced by
// the color of that name, so figures follow the light and the dark scheme. Figures are drawn again when the run changes.
"use strict";

const scheme = matchMedia("(prefers-color-scheme: dark)");
const specs = new WeakMap();

function themed(value, colors) {
  if (typeof value === "string") {
    const name = /^var\((--[\w-]+)\)$/.exec(value);
    return name ? colors.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map((each) => themed(each, colors));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, themed(each, colors)]));
  return value;
}

function styled(layout, height) {
  const axis = { gridcolor: "var(--line)", linecolor: "var(--strong-line)", tickcolor: "var(--strong-line)", zeroline: false, automargin: true, fixedrange: false };
  const axes = Object.fromEntries(Object.entries(layout).filter(([key]) => /^[xy]axis\d*$/.test(key)).map(([key, each]) => [key, { ...axis, ...each, title: { ...each.title, font: { size: 12, color: "var(--quiet)" } } }]));
  return {
    xaxis: axis, yaxis: axis, height, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 12, t: 8, b: 44 }, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "var(--ink)" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: "var(--quiet)" } },
    hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--strong-line)", font: { color: "var(--ink)" } },
    ...layout, ...axes,
  };
}

function paint(element) {
  const spec = specs.get(element);
  if (!spec) return;
  const colors = getComputedStyle(document.documentElement);
  const height = Number(element.dataset.height) || 360;
  const narrow = element.clientWidth < 520;
  const layout = themed(styled(spec.layout ?? {}, height), colors);
  if (narrow) layout.legend = { ...layout.legend, font: { ...layout.legend.font, size: 11 } };
  Plotly.react(element, themed(spec.data, colors), layout, { displaylogo: false, responsive: true, displayModeBar: false });
}

async function draw(element) {
  element.style.minHeight = `${element.dataset.height || 360}px`;
  try {
    const answer = await fetch(element.dataset.figure);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    specs.set(element, await answer.json());
    paint(element);
    if (element.dataset.link && !element.dataset.drawn) {
      element.on("plotly_click", (event) => { location.href = element.dataset.link + event.points[0].customdata; });
    }
    element.dataset.drawn = "true";
  } catch (error) {
    if (!specs.has(element)) element.innerHTML = '<p class="failed">The figure could not be drawn.</p>';
    console.warn(error);
  }
}

function drawAll(root, again) {
  for (const element of root.querySelectorAll("[data-figure]")) if (again || !element.dataset.drawn) draw(element);
}

document.addEventListener("dashboard:changed", () => drawAll(document, true));
document.addEventListener("dashboard:replaced", (event) => drawAll(event.target, false));
scheme.addEventListener("change", () => document.querySelectorAll("[data-figure]").forEach(paint));
drawAll(document, true);
