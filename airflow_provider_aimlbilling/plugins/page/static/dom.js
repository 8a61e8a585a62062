// Changes to the document that leave alone what has not changed, so that focus, scroll and selection stay.
// Text from outside is only ever set as text.

import { age, moment } from "./format.js";

export const byId = (id) => document.getElementById(id);

/** Set the text of an element if it differs. */
export function setText(element, text) {
  const wanted = text ?? "";
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Show a text, or hide the element when there is none. */
export function setTextOrHide(element, text) {
  element.hidden = !text;
  setText(element, text);
}

/** Return the child with this role in its parent, and create it when it is missing. */
export function part(parent, tag, name) {
  let child = [...parent.children].find((each) => each.dataset.part === name);
  if (!child) {
    child = document.createElement(tag);
    child.dataset.part = name;
    parent.append(child);
  }
  return child;
}

/** Show a text as a part of its parent, or hide that part when there is none. */
export function setPart(parent, tag, name, text) {
  const child = part(parent, tag, name);
  setTextOrHide(child, text);
  return child;
}

/** Show how long ago a moment was. keepAgesCurrent() keeps it up to date. */
export function setAge(parent, name, iso, before = "") {
  setPart(parent, "span", `${name}-before`, iso ? before : "");
  const time = part(parent, "time", name);
  time.hidden = !iso;
  if (!iso) return;
  time.dateTime = iso;
  time.title = moment(iso);
  time.dataset.age = "";
  setText(time, age(iso));
}

/** Show a moment, and how long ago it was. */
export function setMoment(parent, iso, otherwise) {
  const time = part(parent, "time", "moment");
  if (iso) time.dateTime = iso;
  else time.removeAttribute("datetime");
  setText(time, iso ? moment(iso) : otherwise);
  setAge(part(parent, "small", "age"), "age", iso);
}

/** Bring all ages in the document up to date. */
export function updateAges() {
  for (const time of document.querySelectorAll("time[data-age]")) setText(time, age(time.dateTime));
}

/**
 * Make the children of an element those of a list, and keep the elements of the items that stay.
 *
 * @param {Element} parent holds nothing else
 * @param {Array} items what to show, in order
 * @param {(item) => string} keyOf names an item; each once
 * @param {(item) => Element} create makes the element of a new item
 * @param {(element, item) => void} update shows an item in its element
 * @param {Element} [refuge] gets the focus when the element that had it goes
 */
export function syncList(parent, items, keyOf, create, update, refuge) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const element = old.get(key) ?? create(item);
    old.delete(key);
    element.dataset.key = key;
    update(element, item);
    return element;
  });
  const stay = new Set(wanted);
  for (const gone of [...parent.children].filter((child) => !stay.has(child))) {
    if (gone.contains(document.activeElement)) refuge?.focus({ preventScroll: true });
    gone.remove();
  }
  let next = parent.firstElementChild;
  for (const element of wanted) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
}
