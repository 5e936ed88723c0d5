// The live part of a page: the server draws it, this puts it in place and keeps focus, scrolling and open menus.
"use strict";
document.documentElement.classList.add("scripted");

// Makes `old` like `fresh` with as few changes as that needs; children with data-key move, others change in place.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old === document.activeElement && old.nodeName === "SELECT") return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.dataset && child.dataset.key && keyed.get(child.dataset.key);
    if (known) {
      if (known !== place) old.insertBefore(known, place); else place = place.nextSibling;
      morph(known, child);
    } else if (place && !(place.dataset && place.dataset.key) && !(child.dataset && child.dataset.key)) {
      const next = place.nextSibling;
      morph(place, child);
      place = next;
    } else {
      old.insertBefore(document.importNode(child, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    if (isNaN(when)) continue;
    const text = when.toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
    if (time.textContent !== text) time.textContent = text;
    time.title = time.dateTime;
  }
}

function listen(live) {
  const stale = document.getElementById("stale");
  let lost = 0, heard = 0;
  const source = new EventSource(live.dataset.stream + (live.dataset.stream === "/stream/wall" ? location.search : ""));
  source.addEventListener("open", () => { clearTimeout(lost); lost = 0; stale.hidden = true; });
  source.addEventListener("error", () => { lost = lost || setTimeout(() => { stale.hidden = false; }, 4000); });
  source.addEventListener("ended", () => { source.close(); location.assign("/login"); });
  source.addEventListener("now", (event) => {
    const data = JSON.parse(event.data);
    const fresh = new DOMParser().parseFromString("<div>" + data.html + "</div>", "text/html").body.firstChild;
    for (const { name, value } of live.attributes) fresh.setAttribute(name, value);
    localTimes(fresh);
    morph(live, fresh);
    document.documentElement.dataset.heard = ++heard;
    document.dispatchEvent(new CustomEvent("edgekit:now", { detail: data }));
  });
  addEventListener("pagehide", () => source.close());
}

const live = document.getElementById("live");
if (live) listen(live);
localTimes(document);

const ask = document.getElementById("ask");
if (ask) {
  let wait = 0;
  const go = () => { for (const field of ask.elements) field.disabled = field.name && !field.value || field.name === "group" && field.value === "none"; ask.submit(); };
  ask.addEventListener("change", (event) => { if (event.target.nodeName === "SELECT") go(); });
  ask.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(wait); go(); });
  const search = ask.elements.q;
  search.addEventListener("search", go);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.nodeName)) { event.preventDefault(); search.focus(); search.select(); }
  });
}

// Forms whose answer is a part of the page; without this they load the page with the answer in it.
for (const form of document.querySelectorAll("form[data-part]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = document.getElementById(form.dataset.part), button = form.querySelector("button");
    const buttons = document.querySelectorAll("form[data-part] button");
    for (const each of buttons) each.disabled = true;
    place.setAttribute("aria-busy", "true");
    place.textContent = button.textContent.trim() + " …";
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { "x-part": "1" }, body: new URLSearchParams(new FormData(form)) });
      const text = await answer.text();
      if (!answer.ok) throw new Error(answer.status === 403 || answer.status === 401 ? "the page is too old; load it again" : "the dashboard said " + answer.status);
      place.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
      localTimes(place);
    } catch (error) {
      place.textContent = "No answer: " + error.message;
    }
    place.removeAttribute("aria-busy");
    for (const each of buttons) each.disabled = false;
    button.focus();
  });
}
