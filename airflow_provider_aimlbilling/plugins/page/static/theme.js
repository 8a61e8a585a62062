// Follows the colour mode that is chosen in Airflow. Not a module: it runs before the first paint.
//
// Airflow's UI sets the class "light" or "dark" on its <html> and keeps the choice in localStorage under "theme".
// Inside Airflow's frame the class decides. Opened on its own, the page reads the stored choice, and without one
// follows the system.
(() => {
  "use strict";

  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function airflow() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null; // framed by another origin
    }
  }

  function stored() {
    try {
      return window.localStorage.getItem("theme");
    } catch {
      return null; // storage is blocked
    }
  }

  function chosen() {
    const root = airflow();
    for (const mode of ["dark", "light"]) {
      if (root?.classList.contains(mode)) return mode;
    }
    const choice = stored();
    if (choice === "dark" || choice === "light") return choice;
    return system.matches ? "dark" : "light";
  }

  function apply() {
    const mode = chosen();
    if (document.documentElement.dataset.theme === mode) return;
    document.documentElement.dataset.theme = mode;
    window.dispatchEvent(new Event("themechange"));
  }

  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const root = airflow();
  if (root) new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
})();
