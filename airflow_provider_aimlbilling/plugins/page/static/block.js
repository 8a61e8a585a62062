// One part of the page. It loads on its own, keeps its last figures, and says what went wrong.

import { ReadError } from "./api.js";
import { setAge, setPart } from "./dom.js";

export class Block {
  /**
   * @param {Element} element holds [data-status], [data-problem] and perhaps [data-figures] and [data-none]
   * @param {(signal: AbortSignal) => Promise<object>} load reads the figures
   * @param {(figures: object) => boolean | void} show shows them; false if there is nothing to show
   */
  constructor(element, load, show) {
    this.load = load;
    this.show = show;
    this.figures = null;
    this.loadedAt = null;
    this.problem = null;
    [this.status, this.problemText, this.panel, this.none] = ["status", "problem", "figures", "none"].map((name) =>
      element.querySelector(`[data-${name}]`),
    );
    this.element = element;
  }

  /**
   * Read the figures, unless a request is under way already.
   *
   * @param {boolean} [changed] read them again after that request, because they have changed meanwhile
   */
  async refresh(changed = false) {
    if (this.request) {
      this.again ||= changed;
      return;
    }
    this.again = false;
    const request = new AbortController();
    this.request = request;
    this.element.setAttribute("aria-busy", "true");
    if (this.figures === null && this.problem === null) setPart(this.status, "span", "reading", "Reading…");
    try {
      const figures = await this.load(request.signal);
      if (request.signal.aborted) return;
      [this.figures, this.problem, this.loadedAt] = [figures, null, new Date().toISOString()];
    } catch (error) {
      if (request.signal.aborted) return;
      if (!(error instanceof ReadError)) console.error(error);
      this.problem = error instanceof ReadError ? error.message : "The page failed to read this.";
    } finally {
      if (this.request === request) {
        this.request = null;
        this.element.removeAttribute("aria-busy");
      }
    }
    this.render();
    if (this.again) await this.refresh();
  }

  /** Forget the figures, because others are wanted now, and read those. */
  restart() {
    this.request?.abort();
    [this.request, this.figures, this.problem] = [null, null, null];
    this.render();
    return this.refresh();
  }

  /** Show the figures that are there, and the problem of the last reading. */
  render() {
    setPart(this.status, "span", "reading", "");
    let something = false;
    try {
      something = this.figures !== null && this.show(this.figures) !== false;
    } catch (error) {
      console.error(error);
      this.problem = "The page failed to show this.";
    }
    if (this.panel) this.panel.hidden = !something;
    if (this.none) this.none.hidden = this.figures === null || something;
    this.tell();
  }

  /** Say what went wrong here or at the billing API, and how old the figures are that are still shown. */
  tell() {
    const problem = this.problem ?? this.figures?.error;
    const from = problem && this.figures !== null ? (this.figures.read_at ?? (this.problem && this.loadedAt)) : null;
    this.problemText.hidden = !problem;
    setPart(this.problemText, "span", "words", problem);
    setAge(this.problemText, "from", from, " The figures are from ");
  }
}
