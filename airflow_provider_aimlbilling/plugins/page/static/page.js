// Puts the page together: what is read when, and where it is shown.

import { read } from "./api.js";
import { Block } from "./block.js";
import { cards, showBudgets, showConnections } from "./connections.js";
import { byId, setAge, updateAges } from "./dom.js";
import { days, offerConnections, refreshSpending, watchChoices } from "./spending.js";
import { showGates, showHeld, showRuns, showSummary } from "./tasks.js";

const BALANCES_SECONDS = 3;
const AGES_SECONDS = 5; // how often the ages on the page are brought up to date

let refreshSeconds = 60;
let refreshedAt = 0;

const connections = new Block(
  byId("connections"),
  (signal) => read("api/connections", signal),
  (answer) => {
    refreshSeconds = Math.max(10, Number(answer.refresh_seconds) || refreshSeconds);
    showConnections(answer, () => refreshGates(true));
    offerConnections(answer.connections);
    return answer.connections.length > 0;
  },
);
const gates = new Block(
  byId("gates"),
  (signal) => read("api/gates", signal),
  (answer) => {
    const some = showGates(answer);
    showBudgets(answer.budgets);
    return some;
  },
);
const held = new Block(byId("held"), (signal) => read("api/held", signal), showHeld);
const runs = new Block(byId("runs"), (signal) => read(`api/runs?days=${days}`, signal), showRuns);

function summarise() {
  if (connections.figures && (gates.figures || gates.problem)) {
    showSummary(connections.figures.connections, gates.figures, gates.problem);
  }
}

const refreshGates = (changed) => gates.refresh(changed).then(summarise);

/** Read everything again. Each block shows its figures as soon as it has them. */
function refresh() {
  refreshedAt = Date.now();
  setAge(byId("refreshed"), "age", new Date(refreshedAt).toISOString(), "Refreshed ");
  const known = [...cards.values()]; // those that are new start on their own
  connections.refresh().then(summarise);
  const balances = Promise.allSettled(known.map((card) => card.refresh()));
  refreshSpending();
  // The server compares gates with the balances that it has read last. Slow ones are not waited for.
  Promise.race([balances, new Promise((resolve) => setTimeout(resolve, BALANCES_SECONDS * 1000))]).then(() =>
    refreshGates(false),
  );
  held.refresh();
  runs.refresh();
}

/** Refresh when it is time, unless nobody can see the page. */
function tick() {
  if (document.hidden) return;
  updateAges();
  if (Date.now() - refreshedAt >= refreshSeconds * 1000) refresh();
}

watchChoices(() => runs.restart());
byId("refresh").addEventListener("click", refresh);
document.addEventListener("visibilitychange", tick);
setInterval(tick, AGES_SECONDS * 1000);
refresh();
