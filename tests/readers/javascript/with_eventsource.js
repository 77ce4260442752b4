// Follows a stream with an EventSource, be it the browser's own or the npm package of that name.

const TYPES = ["connected", "workflow_progress", "reset", "error", "disconnected"];

/** Tells `heard` type, id and data of every event; returns when the EventSource has given up coming back. */
export function follow(EventSource, url, heard) {
  return new Promise((resolve) => {
    const source = new EventSource(url);
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        if (event.data !== undefined) heard(type, event.lastEventId, event.data);
        else if (source.readyState === EventSource.CLOSED) resolve();
      });
    }
  });
}
