// The blocks on tasks and runs: waiting gates, held tasks, and what runs cost.

import { byId, part, setMoment, setPart, setText, syncList } from "./dom.js";
import { plural } from "./format.js";
import { linkToAirflow } from "./links.js";
import { LongTable } from "./tables.js";

const STATES = { deferred: "deferred", up_for_reschedule: "rescheduled", running: "running" };
const OUTCOMES = { skipped: "↷", branched: "↳", failed: "✕" };

function setTask(cell, row) {
  const link = part(cell, "a", "link");
  const index = Number.isInteger(row.map_index) && row.map_index >= 0 ? ` [${row.map_index}]` : "";
  linkToAirflow(link, row.path);
  setText(link, `${row.task_id}${index}`);
  setPart(cell, "small", "dag", row.dag_id);
  setPart(cell, "small", "run", row.run_id);
}

const gates = new LongTable(
  "gates",
  "gate",
  [
    { name: "Task, DAG and run", heading: true, fill: setTask },
    {
      name: "Waiting since",
      fill: (cell, gate) => {
        setMoment(cell, gate.since, "not known");
        setPart(cell, "small", "state", STATES[gate.state] ?? gate.state);
      },
    },
    {
      name: "Needs",
      fill: (cell, gate) => {
        setPart(cell, "span", "asks", gate.asks);
        setPart(cell, "small", "limits", gate.limits.length ? `within ${gate.limits.join(", ")}` : "");
        setPart(cell, "small", "connection", gate.connection_id);
      },
    },
    {
      name: "Missing",
      amount: true,
      fill: (cell, gate) => {
        setPart(cell, "span", "missing", gate.missing ? gate.missing.text : "not known");
        setPart(cell, "small", "short-of", gate.short_of);
        setPart(cell, "small", "reason", gate.reason);
      },
    },
    { name: "Deadline", fill: (cell, gate) => setMoment(cell, gate.deadline, "not known") },
  ],
  (gate) => JSON.stringify([gate.dag_id, gate.run_id, gate.task_id, gate.map_index]),
);

const held = new LongTable(
  "held",
  "task",
  [
    { name: "Task, DAG and run", heading: true, fill: setTask },
    {
      name: "Outcome",
      fill: (cell, task) => {
        const outcome = part(cell, "span", "outcome");
        setPart(outcome, "span", "sign", OUTCOMES[task.outcome]).setAttribute("aria-hidden", "true");
        setPart(outcome, "span", "word", task.outcome);
      },
    },
    { name: "Held", amount: true, fill: (cell, task) => setText(cell, `${task.held} of ${task.of}`) },
    { name: "Reason", fill: (cell, task) => setText(cell, task.reason) },
    { name: "Last", fill: (cell, task) => setMoment(cell, task.last_at, "not known") },
  ],
  (task) => JSON.stringify([task.dag_id, task.run_id, task.task_id, task.outcome, task.path]),
);

const runs = new LongTable(
  "runs",
  "run",
  [
    {
      name: "DAG and run",
      heading: true,
      fill: (cell, run) => {
        const link = part(cell, "a", "link");
        linkToAirflow(link, run.path);
        setText(link, run.dag_id);
        setPart(cell, "small", "run", run.run_id);
        setPart(cell, "small", "task", run.task_id);
      },
    },
    {
      name: "Cost",
      amount: true,
      fill: (cell, run) => {
        const least = run.cost && run.is_lower_bound ? "at least " : "";
        setPart(cell, "span", "cost", run.cost ? `${least}${run.cost.text}` : "not known");
        setPart(cell, "small", "incomplete", run.may_be_incomplete ? "charges may be missing" : "");
      },
    },
    { name: "Estimate", amount: true, fill: (cell, run) => setText(cell, run.estimate?.text ?? "none") },
    {
      name: "Cost against estimate",
      amount: true,
      fill: (cell, run) => {
        setPart(cell, "span", "difference", run.difference ?? "–");
        setPart(cell, "small", "ratio", run.ratio ? `${run.ratio} times the estimate` : "");
      },
    },
    { name: "Requests", amount: true, fill: (cell, run) => setText(cell, run.requests?.toLocaleString() ?? "not known") },
    { name: "Reported", fill: (cell, run) => setMoment(cell, run.read_at, "not known") },
  ],
  (run) => JSON.stringify([run.dag_id, run.run_id, run.path]),
);

export const showGates = (answer) => gates.show(answer.gates, answer.left_out);
export const showHeld = (answer) => held.show(answer.tasks, answer.left_out);

export function showRuns(answer) {
  setText(byId("runs-title"), `Most expensive runs of the last ${answer.days} days`);
  return runs.show(answer.runs, answer.left_out);
}

/** Say in a sentence for each connection how many gates wait and what would release them. */
export function showSummary(connections, answer, problem) {
  const waiting = answer?.summaries ?? [];
  const lines = waiting.map((each) => ({ name: each.connection_id, text: each.text, waits: each.waiting > 0 }));
  if (answer) {
    const mentioned = new Set(waiting.map((each) => each.connection_id));
    const quiet = connections.filter((each) => !mentioned.has(each.connection_id));
    // A gate that is left out, or whose connection is not known, may wait on any of these.
    const none = answer.elsewhere || answer.left_out ? "No gate is known to wait" : "No gate is waiting";
    if (quiet.length > 3) lines.push({ key: "quiet", name: "", text: `${none} on ${plural(quiet.length, "connection")}.` });
    else lines.push(...quiet.map((each) => ({ name: each.connection_id, text: `${none}.` })));
    if (answer.elsewhere) {
      const wait = `${plural(answer.elsewhere, "gate")} ${answer.elsewhere === 1 ? "waits" : "wait"}`;
      const text = `${wait} on a connection that is not known, or that you may not see.`;
      lines.push({ key: "elsewhere", name: "", text: answer.left_out ? `At least ${text}` : text, waits: true });
    }
  }
  if (problem) lines.push({ key: "problem", name: "", text: `It is not known which gates are waiting now: ${problem}` });
  syncList(
    byId("summary"),
    lines,
    (line) => line.key ?? `connection ${line.name}`,
    () => document.createElement("li"),
    (item, line) => {
      item.classList.toggle("waits", Boolean(line.waits));
      setPart(item, "strong", "name", line.name && `${line.name}: `);
      setPart(item, "span", "text", line.text);
    },
  );
}
