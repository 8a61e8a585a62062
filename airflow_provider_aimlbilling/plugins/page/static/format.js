// Dates, ages and numbers for people. Money comes from the server as text and is shown as it is.

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const MOMENT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const MOMENT_OF_YEAR = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
// A day of the report is a date without a time; UTC keeps it from moving to its neighbour.
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const LONG_DAY = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC",
});
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Return a moment in the viewer's time zone, such as "26 Nov, 14:03". */
export function moment(iso) {
  const date = new Date(iso);
  const recent = Math.abs(Date.now() - date) < 180 * 86400 * 1000;
  return (recent ? MOMENT : MOMENT_OF_YEAR).format(date);
}

/** Return how long ago a moment was, or how far ahead it is, such as "3 minutes ago". */
export function age(iso) {
  const seconds = Math.round((Date.now() - new Date(iso)) / 1000);
  if (Number.isNaN(seconds)) return "at an unknown time";
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  const count = Math.floor(Math.abs(seconds) / length);
  if (Math.abs(seconds) < 5) return "just now";
  const text = `${count} ${unit}${count === 1 ? "" : "s"}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** Return a date such as "2026-11-01" as "1 Nov". */
export const day = (date) => DAY.format(new Date(`${date}T00:00:00Z`));

/** Return a date such as "2026-11-01" as "Sun, 1 Nov 2026". */
export const longDay = (date) => LONG_DAY.format(new Date(`${date}T00:00:00Z`));

/** Return all dates from the first to the last, both included. */
export function daysBetween(first, last) {
  const days = [];
  const end = Date.parse(`${last}T00:00:00Z`);
  for (let at = Date.parse(`${first}T00:00:00Z`); at <= end && days.length < 400; at += 86400 * 1000) {
    days.push(new Date(at).toISOString().slice(0, 10));
  }
  return days;
}

/** Group the digits of an exact whole number that is given as text. */
export const grouped = (digits) => (/^-?\d+$/.test(digits) ? BigInt(digits).toLocaleString() : digits);

/** Return "1 gate" or "4 gates". */
export const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;
