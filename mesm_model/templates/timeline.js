"use strict";
// The bytes of the video are in the page. A click on an utterance goes there; the video marks the utterance it is in.
const video = document.querySelector("#video");
const head = document.querySelector("#head");
const now = document.querySelector("#now");
const scroll = document.querySelector(".scroll");
const columns = [...document.querySelectorAll(".utterance")];
const cards = [...document.querySelectorAll(".card")];
const seconds = parseFloat(getComputedStyle(document.querySelector(".lanes")).getPropertyValue("--seconds"));
let current = -1;

const bytes = Uint8Array.from(atob(document.querySelector("#video-data").textContent), (letter) => letter.charCodeAt(0));
video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));

function at(time) {
  let found = -1;
  columns.forEach((column, n) => {
    if (Number(column.dataset.start) <= time && time < Number(column.dataset.end)) found = n;
  });
  return found;
}

function follow() {
  const share = Math.min(1, video.currentTime / seconds);
  head.hidden = false;
  head.style.setProperty("--at", share);
  const x = share * scroll.scrollWidth;
  if (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x - scroll.clientWidth / 5;
  show(at(video.currentTime));
}

function show(n) {
  if (n === current) return;
  for (const [list, mark] of [[columns, (one) => one.removeAttribute("aria-current")], [cards, (one) => one.classList.remove("current")]]) {
    if (current >= 0) mark(list[current]);
  }
  current = n;
  if (n < 0) return;
  columns[n].setAttribute("aria-current", "true");
  cards[n].classList.add("current");
  const time = document.createElement("p");
  time.className = "soft";
  time.textContent = cards[n].getAttribute("aria-label");
  const text = document.createElement("p");
  text.className = "text";
  text.textContent = columns[n].title ? `“${columns[n].title}”` : "";
  now.replaceChildren(time, text, ...[".top", ".bars"].map((part) => cards[n].querySelector(part).cloneNode(true)));
}

function seek(start) {
  video.currentTime = Number(start) + 0.01;
}

columns.forEach((column) => column.addEventListener("click", () => seek(column.dataset.start)));
document.querySelectorAll(".seek").forEach((button) => button.addEventListener("click", () => {
  seek(button.dataset.start);
  video.play().catch(() => {}); // a browser may want a click on the video itself
}));
for (const event of ["timeupdate", "seeking", "seeked"]) video.addEventListener(event, follow);

const fade = document.querySelector("#fade");
if (fade) {
  fade.closest(".switch").hidden = false;
  fade.addEventListener("change", () => document.querySelector("#cards").classList.toggle("plain", !fade.checked));
}

if (columns.length) show(0); // nothing has been played yet
