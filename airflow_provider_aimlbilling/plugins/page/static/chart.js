// The bar chart, drawn by Chart.js. The table beside it has the exact figures; here a number is only a height.

import { byId, part, setText, syncList } from "./dom.js";
import { day, daysBetween, longDay } from "./format.js";

const MOST_SERIES = 7; // the others are drawn as one
const OTHERS = "other models";

let chart = null;
let drawn = null;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function library() {
  if (!globalThis.Chart) await import("./chart.umd.min.js");
  return globalThis.Chart;
}

/** Draw a report, or change the chart that is there. */
export async function drawChart(report) {
  const Chart = await library();
  drawn = report;
  const { labels, series } = seriesOf(report);
  showLegend(series);
  byId("chart").setAttribute("aria-label", inWords(report, labels, series));
  const data = { labels: labels.map(day), datasets: series.map(dataset) };
  if (!chart) {
    chart = new Chart(byId("chart"), { type: "bar", data, options: options(labels) });
    return;
  }
  chart.data = data;
  chart.options = options(labels);
  chart.update("none");
}

window.addEventListener("themechange", () => drawn && drawChart(drawn));

/** Return the days, and for each model its costs by day. The most expensive models come first. */
function seriesOf(report) {
  const labels = daysBetween(report.first_day, report.last_day);
  const named = report.models.length > MOST_SERIES ? report.models.slice(0, MOST_SERIES - 1) : report.models;
  const series = named.map((model) => ({ name: model, costs: labels.map(() => 0) }));
  if (named.length < report.models.length) series.push({ name: OTHERS, costs: labels.map(() => 0) });
  const place = new Map(labels.map((label, at) => [label, at]));
  for (const row of report.rows) {
    const at = named.indexOf(row.model);
    const costs = series.at(at)?.costs; // at(-1), the last, for all others
    if (costs && place.has(row.day)) costs[place.get(row.day)] += Number(row.cost.usd);
  }
  return { labels, series };
}

function dataset({ name, costs }, at) {
  return { label: name, data: costs, backgroundColor: style(`--series-${at}`), maxBarThickness: 36 };
}

function options(labels) {
  const ink = style("--ink-soft");
  const font = { family: style("--font"), size: 12 };
  const ticks = { color: ink, font };
  return {
    animation: false,
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false },
    scales: {
      x: { stacked: true, ticks: { ...ticks, maxRotation: 0, autoSkipPadding: 12 }, grid: { display: false } },
      y: {
        stacked: true,
        beginAtZero: true,
        ticks: { ...ticks, maxTicksLimit: 6, callback: (value) => `${Number(value.toPrecision(6))} USD` },
        grid: { color: style("--line-soft") },
        border: { display: false },
      },
    },
    plugins: {
      legend: { display: false }, // one in HTML is read aloud, and wraps
      tooltip: {
        filter: (item) => item.raw > 0,
        callbacks: {
          title: (items) => (items.length ? longDay(labels[items[0].dataIndex]) : ""),
          label: (item) => `${item.dataset.label}: ${exact(labels[item.dataIndex], item)}`,
        },
      },
    },
  };
}

/** Return a cost as the server wrote it; the sum of the other models has no such text. */
function exact(date, item) {
  const row = drawn.rows.find((each) => each.day === date && each.model === item.dataset.label);
  return row ? row.cost.text : `${Number(item.raw.toPrecision(6))} USD`;
}

function showLegend(series) {
  syncList(
    byId("legend"),
    series.map(({ name }, at) => ({ name, at })),
    ({ at }) => String(at),
    () => document.createElement("li"),
    (item, { name, at }) => {
      part(item, "span", "swatch").className = `swatch series-${at}`;
      setText(part(item, "span", "name"), name);
    },
  );
}

function inWords(report, labels, series) {
  if (!report.rows.length) return "Bar chart of spending by day and model. Nothing was spent.";
  const sums = labels.map((_, at) => series.reduce((sum, { costs }) => sum + costs[at], 0));
  const most = sums.indexOf(Math.max(...sums));
  return [
    `Bar chart of spending by day and model, ${longDay(report.first_day)} to ${longDay(report.last_day)}.`,
    report.total ? `Total ${report.total.text}.` : "",
    `The most was spent on ${longDay(labels[most])}, and on the model ${report.models[0]}.`,
    "The table below has all figures.",
  ].join(" ");
}
