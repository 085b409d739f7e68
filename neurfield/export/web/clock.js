// When a field that moves is shown: a time of 0 to 1 that passes in `seconds` and begins anew, unless somebody stops it,
// or takes its slider; then it calls `changed`.
class Clock {
  constructor(seconds, changed) {
    document.querySelector("canvas").insertAdjacentHTML("afterend", `<div id="clock">
      <button type="button"></button><input type="range" min="0" max="1" step="0.005" aria-label="time"></div>`);
    [this.button, this.slider] = document.querySelectorAll("#clock > *");
    this.seconds = seconds;
    this.set(0, !matchMedia("(prefers-reduced-motion: reduce)").matches);
    const toggle = () => (this.set(this.time, !this.plays), changed());
    this.button.addEventListener("click", toggle);
    this.slider.addEventListener("input", () => (this.set(this.slider.valueAsNumber, false), changed()));
    this.slider.addEventListener("keydown", (event) => event.code.startsWith("Arrow") && event.stopPropagation());
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.code !== "Space" || event.target === this.button) return;  // which a space bar presses anyway
      event.preventDefault();
      if (!event.repeat) toggle();
    });
  }

  set(time, plays) {
    [this.time, this.plays] = [time, plays];
    this.slider.value = time;
    this.button.textContent = plays ? "pause" : "play";
  }

  pass(seconds) {  // whether it plays
    if (this.plays) this.set((this.time + seconds / this.seconds) % 1, true);
    return this.plays;
  }
}
