// The upload card: choosing, dropping, and what became of it.

import { byId, element, setProgress, setText, show } from "./dom.js";
import { bytes, percent } from "./format.js";

const PHASES = {
  storing: "Sent; the server stores it…",
  done: "Uploaded",
  canceled: "Canceled; nothing was analysed",
};

export function prepareUpload(onFile) {
  const drop = byId("drop");
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length > 0) onFile(target.files[0]);
    // The same file again is a new upload.
    target.value = "";
  });
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", ({ dataTransfer }) => {
    drop.classList.remove("over");
    if (dataTransfer.files.length > 0) onFile(dataTransfer.files[0]);
  });
  // A file dropped beside the zone would replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
}

export function showUpload({ upload }) {
  const { phase } = upload;
  const runs = phase === "sending" || phase === "storing";
  show(byId("upload"), runs || phase === "done" || phase === "canceled");
  show(byId("upload-progress"), runs);
  show(byId("upload-cancel"), runs);
  show(byId("upload-error"), phase === "refused" || phase === "broken");
  if (phase === "idle") return;
  setText(byId("upload-name"), upload.name);
  const share = upload.total > 0 ? (100 * upload.loaded) / upload.total : 0;
  const sent = `${percent(share)} of ${bytes(upload.total)}`;
  setText(byId("upload-phase"), PHASES[phase] ?? sent);
  setProgress(byId("upload-progress"), phase === "storing" ? null : share, phase === "storing" ? "storing" : sent);
  showRefusal(phase, upload.problem);
}

function showRefusal(phase, problem) {
  if (phase !== "refused" && phase !== "broken") return;
  const { title, detail, places } = problem ?? {
    title: "The upload did not reach the server",
    detail: "The connection broke before an answer came. Is the service running? Then try again.",
    places: [],
  };
  setText(byId("upload-error-title"), title);
  setText(byId("upload-error-detail"), detail);
  byId("upload-error-places").replaceChildren(...places.map((place) => element("li", "", place)));
}
