// Links out of the page.
//
// Airflow shows the page in a frame whose sandbox allows neither to navigate the window around it nor to open new
// windows. The frame has the origin of Airflow though, so the page asks the document around it: its router to follow a
// link to a task instance, and a link in it to open everything else. Opened on its own, the page uses plain links.

const ROOT = new URL("..", document.baseURI); // Airflow's root, also below a base path

function airflow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null; // framed by another origin
  }
}

/** Let a link in the document around the frame be clicked. */
function clickAround(outer, link, target) {
  const copy = outer.document.createElement("a");
  copy.href = link.href;
  copy.target = target;
  copy.rel = "noopener noreferrer";
  copy.hidden = true;
  outer.document.body.append(copy);
  copy.click();
  copy.remove();
}

/** Let Airflow's router show an address, as if the reader had gone there within Airflow. */
function route(outer, href) {
  const { history } = outer;
  const index = Number.isInteger(history.state?.idx) ? history.state.idx + 1 : 0;
  const state = { usr: null, key: Math.random().toString(36).slice(2, 10), idx: index };
  history.pushState(state, "", href);
  outer.dispatchEvent(new PopStateEvent("popstate", { state }));
}

function follow(event) {
  const link = event.currentTarget;
  const outer = airflow();
  const middle = event.type === "auxclick" && event.button === 1;
  if (!outer || (event.type === "auxclick" && !middle)) return;
  event.preventDefault();
  const elsewhere = middle || event.ctrlKey || event.metaKey || event.shiftKey || link.origin !== location.origin;
  if (elsewhere) {
    clickAround(outer, link, "_blank");
    return;
  }
  try {
    route(outer, link.href);
  } catch {
    clickAround(outer, link, "_self");
  }
}

function set(link, href) {
  if (link.href !== href) link.href = href;
  if (link.dataset.followed) return;
  link.dataset.followed = "";
  link.addEventListener("click", follow);
  link.addEventListener("auxclick", follow);
}

/** Point a link to a page of Airflow. The path is relative to Airflow's root, and already encoded. */
export function linkToAirflow(link, path) {
  set(link, ROOT.href + path.replace(/^\/+/, ""));
}

/** Point a link to a page elsewhere. Anything but https is left out. */
export function linkElsewhere(link, address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  link.hidden = url?.protocol !== "https:";
  if (link.hidden) return;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  set(link, url.href);
}
