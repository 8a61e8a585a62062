// Tables whose rows change in place. On a narrow screen the style sheet stacks their cells; the roles, which browsers
// would drop with the layout of a table, are therefore explicit.

import { byId, part, setText, syncList } from "./dom.js";
import { plural } from "./format.js";

const FIRST_ROWS = 20; // longer tables show all rows when asked to

/**
 * Show rows in a table.
 *
 * @param {HTMLTableElement} table holds a caption
 * @param {{name: string, heading?: boolean, amount?: boolean, fill: (cell, row) => void}[]} columns from left to right
 * @param {object[]} rows what to show
 * @param {(row) => string} keyOf names a row; each once
 * @param {Element} [refuge] gets the focus when the row that had it goes
 */
export function showRows(table, columns, rows, keyOf, refuge) {
  if (!table.tHead) showHead(table, columns);
  const newRow = () => {
    const line = document.createElement("tr");
    line.setAttribute("role", "row");
    for (const column of columns) line.append(newCell(column));
    return line;
  };
  const fill = (line, row) => columns.forEach((column, at) => column.fill(line.children[at], row));
  syncList(table.tBodies[0], rows, keyOf, newRow, fill, refuge);
}

function showHead(table, columns) {
  table.setAttribute("role", "table");
  const head = table.createTHead();
  head.setAttribute("role", "rowgroup");
  const line = head.insertRow();
  line.setAttribute("role", "row");
  for (const column of columns) {
    const cell = part(line, "th", column.name);
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    cell.classList.toggle("amount", Boolean(column.amount));
    setText(cell, column.name);
  }
  table.createTBody().setAttribute("role", "rowgroup");
}

function newCell(column) {
  const cell = document.createElement(column.heading ? "th" : "td");
  cell.setAttribute("role", column.heading ? "rowheader" : "cell");
  if (column.heading) cell.scope = "row";
  cell.classList.toggle("amount", Boolean(column.amount));
  cell.dataset.label = column.name;
  return cell;
}

/** A table of a block that shows its first rows, all of them when asked to, and how many the server left out. */
export class LongTable {
  /**
   * @param {string} name of the block; its elements have ids that begin with it
   * @param {string} word what a row is, such as "gate"
   * @param {object[]} columns see showRows
   * @param {(row) => string} keyOf see showRows
   */
  constructor(name, word, columns, keyOf) {
    [this.name, this.word, this.columns, this.keyOf] = [name, word, columns, keyOf];
    [this.rows, this.leftOut, this.all] = [[], 0, false];
    byId(`${name}-all`).addEventListener("click", () => {
      this.all = !this.all;
      this.show(this.rows, this.leftOut);
    });
  }

  /** Show rows; false if there are none. */
  show(rows, leftOut) {
    [this.rows, this.leftOut] = [rows, leftOut];
    const shown = this.all ? rows : rows.slice(0, FIRST_ROWS);
    showRows(byId(`${this.name}-table`), this.columns, shown, this.keyOf, byId(`${this.name}-title`));
    const button = byId(`${this.name}-all`);
    button.hidden = rows.length <= FIRST_ROWS;
    setText(button, this.all ? `Show the first ${FIRST_ROWS}` : `Show all ${plural(rows.length, this.word)}`);
    setText(byId(`${this.name}-left-out`), leftOut ? `${plural(leftOut, `more ${this.word}`)} ${leftOut === 1 ? "is" : "are"} not shown.` : "");
    return rows.length > 0;
  }
}
