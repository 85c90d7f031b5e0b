// The connection: Server-Sent Events, one snapshot each. When it is lost, it is tried again after a time that doubles, and
// goes on where it was. A tab that nobody sees has none: browsers allow a server six at a time.

const FIRST = 500;
const LONGEST = 15000;

/** Tell whether the run of a snapshot has ended. */
export const hasEnded = (event) => ["finished", "stopped", "failed"].includes(event.stats.state);

/** Follow the run; `onEvent` gets each snapshot, `onLink` "live", "wait" or "gone" and the seconds to the next try. */
export function follow(onEvent, onLink) {
  let source = null;
  let last = "";
  let tries = 0;
  let timer = null;

  function open() {
    clearTimeout(timer);
    close();
    source = new EventSource(last ? `events?since=${encodeURIComponent(last)}` : "events");
    source.onmessage = (event) => {
      tries = 0;
      last = event.lastEventId;
      onLink("live");
      onEvent(JSON.parse(event.data));
    };
    source.onerror = () => {
      close();
      const wait = Math.min(FIRST * 2 ** tries, LONGEST) * (0.75 + Math.random() / 2);
      tries += 1;
      onLink("gone", Math.ceil(wait / 1000));
      timer = setTimeout(open, wait);
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      close();
    } else if (source === null) {
      tries = 0;
      open();
    }
  });
  addEventListener("pagehide", close);
  open();
}
