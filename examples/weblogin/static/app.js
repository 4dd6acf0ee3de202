// Refreshes the list in place. Without this script the same form loads the page
// anew, which shows the same.

const said = document.querySelector("#said");

document.querySelector("form[data-refresh]")?.addEventListener("submit", (event) => {
  event.preventDefault();
  refresh(event.currentTarget);
});

async function refresh(form) {
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  said.textContent = "Refreshing …";
  try {
    const url = new URL(form.action);
    url.search = new URLSearchParams(new FormData(form));
    const response = await fetch(url, { signal: AbortSignal.timeout(30_000) });
    if (response.redirected) {
      // The session has ended: this is where the server says so.
      location.assign(response.url);
      return;
    }
    show(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    said.textContent = "The server cannot be reached. Please try again.";
  } finally {
    delete form.dataset.busy;
  }
}

function show(page) {
  const now = document.querySelector("#part");
  const next = page.querySelector("#part");
  if (!next || next.dataset.user !== now.dataset.user) {
    // Another page, or another user: what is around the list is not true either.
    location.reload();
    return;
  }
  now.replaceWith(next);
  said.textContent = next.querySelector(".failed") ? "That did not work." : "Refreshed.";
}

// Asks once in a while whether the session is still there: it can be ended in another
// tab, or by the provider. Without this script the next page says so.
async function look() {
  const part = document.querySelector("#part");
  if (!part || document.hidden) return;
  try {
    const ask = () => fetch("/session", { signal: AbortSignal.timeout(10_000) });
    let response = await ask();
    if (response.status === 401) {
      // A login in another tab may be about to put a new session in this one's place.
      await new Promise((done) => setTimeout(done, 1_000));
      response = await ask();
    }
    if (response.status === 401) {
      location.assign("/ended?" + new URLSearchParams({ return_to: location.pathname + location.search }));
    } else if (response.ok && (await response.text()) !== part.dataset.user) {
      location.reload();
    }
  } catch {
    // The server cannot be reached: the next time will tell.
  }
}
setInterval(look, 5_000);
document.addEventListener("visibilitychange", look);

// A page that comes out of the browser's memory may be of before a logout.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
