// What a connection spent by day and model: a chart, and a table with the same figures.

import { read } from "./api.js";
import { Block } from "./block.js";
import { drawChart } from "./chart.js";
import { byId, setPart, setText, setTextOrHide, syncList } from "./dom.js";
import { ZONE, longDay } from "./format.js";
import { showRows } from "./tables.js";

const COLUMNS = [
  { name: "Day", heading: true, fill: (cell, row) => setText(cell, longDay(row.day)) },
  { name: "Model", fill: (cell, row) => setText(cell, row.model) },
  { name: "Cost", amount: true, fill: (cell, row) => setText(cell, row.cost.text) },
];

export let days = 28;
let connection = null;

const block = new Block(
  byId("spending"),
  (signal) => {
    const path = `api/connections/${encodeURIComponent(connection)}/spending`;
    return read(`${path}?days=${days}&tz=${encodeURIComponent(ZONE)}`, signal);
  },
  showSpending,
);

/** Read the spending of the chosen connection. */
export const refreshSpending = () => (connection === null ? undefined : block.refresh());

/** Offer these connections to choose from. */
export function offerConnections(connections) {
  const ids = connections.map((each) => each.connection_id);
  byId("pick").hidden = ids.length < 2;
  const select = byId("connection");
  syncList(select, ids, String, () => document.createElement("option"), (option, id) => {
    option.value = id;
    setText(option, id);
  });
  byId("spending").hidden = ids.length === 0;
  if (ids.includes(connection)) return;
  connection = ids[0] ?? null;
  if (connection === null) return;
  select.value = connection;
  block.restart();
}

/** Tell when another connection or period is chosen. */
export function watchChoices(periodChanged) {
  byId("connection").addEventListener("change", (event) => {
    connection = event.target.value;
    block.restart();
  });
  byId("range").addEventListener("change", (event) => {
    days = Number(event.target.value);
    block.restart();
    periodChanged();
  });
  days = Number(document.querySelector("[name=days]:checked").value); // browsers restore it after a reload
}

function showSpending(report) {
  if (report.total === null && report.rows.length === 0 && report.error) return false;
  setText(byId("total"), report.total ? report.total.text : "not known");
  const span = `from ${longDay(report.first_day)} to ${longDay(report.last_day)} (${report.tz})`;
  setText(byId("total-of"), `${span}, ${report.connection_id}`);
  setTextOrHide(byId("missing"), report.missing_text);
  showRows(byId("spending-table"), COLUMNS, [...report.rows].reverse(), (row) => JSON.stringify([row.day, row.model]));
  byId("spending-details").hidden = report.rows.length === 0;
  byId("chart-box").hidden = report.rows.length === 0;
  setPart(byId("chart-problem"), "span", "words", "");
  drawChart(report).then(
    () => setTextOrHide(byId("chart-problem"), report.rows.length ? "" : "Nothing was spent in this period."),
    (error) => {
      console.error(error);
      byId("chart-box").hidden = true;
      setTextOrHide(byId("chart-problem"), "The chart could not be drawn. The table has its figures.");
    },
  );
  return true;
}
