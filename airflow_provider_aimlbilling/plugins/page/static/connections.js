// One card for each connection: what the account holds now, and for how long it lasts.

import { read } from "./api.js";
import { Block } from "./block.js";
import { byId, part, setAge, setPart, setText, setTextOrHide, syncList } from "./dom.js";
import { grouped } from "./format.js";
import { linkElsewhere } from "./links.js";

const SIGNS = { fine: "✓", low: "▼", empty: "✕", unknown: "?" };

const PERIODS = { day: "per day", week: "per week", month: "per month", no_reset: "in total" };

export const cards = new Map(); // connection id → Block
let budgets = [];

const find = (card, name) => card.querySelector(`[data-${name}]`);

/** Show a card for each connection. Start to read those that are new, and tell when one has been read. */
export function showConnections({ connections }, balanceRead) {
  syncList(
    byId("cards"),
    connections,
    (connection) => connection.connection_id,
    (connection) => newCard(connection.connection_id, balanceRead),
    (card, connection) => setTextOrHide(find(card, "description"), connection.description),
    byId("connections-title"),
  );
  const ids = new Set(connections.map((connection) => connection.connection_id));
  for (const id of [...cards.keys()].filter((key) => !ids.has(key))) cards.delete(id);
}

/** Show what is left of the budgets that waiting gates keep to. */
export function showBudgets(found) {
  budgets = found;
  for (const block of cards.values()) if (block.figures) block.render();
}

function newCard(id, balanceRead) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  setText(find(card, "name"), id);
  find(card, "name").id = `connection-${cards.size}-${Date.now()}`;
  card.setAttribute("aria-labelledby", find(card, "name").id);
  const path = `api/connections/${encodeURIComponent(id)}/account`;
  const block = new Block(card, (signal) => read(path, signal), (account) => showAccount(card, account));
  cards.set(id, block);
  block.refresh().then(balanceRead);
  return card;
}

function showAccount(card, account) {
  const state = Object.hasOwn(SIGNS, account.state) ? account.state : "unknown";
  card.dataset.state = state;
  setText(find(card, "sign"), SIGNS[state]);
  setText(find(card, "state"), account.state_text);
  setText(find(card, "balance"), account.balance ? account.balance.text : "not known");
  setTextOrHide(find(card, "credits"), account.balance ? `${grouped(account.balance.credits)} credits,` : "");
  setAge(find(card, "read"), "age", account.read_at, "read ");
  syncList(
    find(card, "facts"),
    facts(account),
    (fact) => fact.name,
    () => document.createElement("div"),
    showFact,
  );
  linkElsewhere(find(card, "billing"), account.billing_url);
}

function facts(account) {
  const limit = account.key_limit;
  const own = budgets.filter((budget) => budget.connection_id === account.connection_id);
  return [
    { name: "Runway", value: runway(account.runway), note: account.runway?.summary ?? account.runway_text },
    {
      name: "Key limit",
      value: limit ? `${limit.remaining.text} left` : null,
      note: limit ? limitNote(limit) : account.key_limit_text,
    },
    ...own.map((budget) => ({
      name: `Budget ${budget.text}`,
      value: `${budget.left.text} left`,
      note: `${budget.spent.text} spent`,
    })),
    { name: "Low-balance threshold", value: account.low_mark?.text ?? "not known" },
    { name: "Auto top-up", value: account.auto_top_up ?? "not known" },
  ].filter((fact) => fact.value || fact.note);
}

function limitNote({ period, limit, spent }) {
  const when = Object.hasOwn(PERIODS, period) ? PERIODS[period] : "in an unknown period";
  return `of ${limit.text} ${when}; ${spent ? spent.text : "an unknown amount"} spent`;
}

function runway(found) {
  if (!found) return null;
  const { shortest_days: shortest, longest_days: longest } = found;
  if (longest === null || longest === undefined) return `${shortest} days or more`;
  return shortest === longest ? `${shortest} days` : `${shortest} to ${longest} days`;
}

function showFact(row, fact) {
  setText(part(row, "dt", "name"), fact.name);
  const value = part(row, "dd", "value");
  setPart(value, "span", "figure", fact.value);
  setPart(value, "small", "note", fact.note);
}
